//! The cost of the reader: the start of a program, an answer of `serve`, and a thousand starts at once.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::join_all;
use http_body_util::{BodyExt as _, Full};
use hyper::Request;
use hyper::body::Bytes;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use parameter_mirror_format::content::entry::{Entry, ParameterType};
use parameter_mirror_format::hash::EncryptionMode;
use parameter_mirror_test_support::usage::cpu_seconds;
use parameter_mirror_test_support::{MirrorHash, Process, Redis, Scratch, eventually};
use tokio::net::TcpStream;

use crate::table::{line, median};

const MIRROR: &str = "shop/checkout";
/// The number of timed starts, alternately with and without the reader.
const STARTS: usize = 100;
/// The number of concurrent connections, and of requests per connection.
const CONNECTIONS: usize = 8;
const REQUESTS: usize = 5_000;
/// The number of readers that start within one second.
const CROWD: usize = 1_000;
const STARTED: Duration = Duration::from_secs(20);

/// Runs all measurements.
pub async fn measure(rounds: usize) {
    let (plain, tls) =
        (Mirrored::on(Redis::start().await).await, Mirrored::on(Redis::with_tls().await).await);
    let (mut exec, mut exec_tls, mut latency, mut rate, mut crowd) = (vec![], vec![], vec![], vec![], vec![]);
    for _ in 0..rounds {
        exec.push(plain.exec_adds());
        exec_tls.push(tls.exec_adds());
        let (milliseconds, per_second) = plain.serve().await;
        latency.push(milliseconds);
        rate.push(per_second);
        crowd.push(plain.crowd().await);
    }
    line("exec adds to a start, 10 parameters (ms)", &exec, "10");
    line("the same over TLS (ms)", &exec_tls, "25");
    line("serve: GetParameter from memory, median (ms)", &latency, "0.2");
    line("serve: requests per second of its CPU", &rate, "10000");
    line(&format!("{CROWD} readers that start within a second: the last is up (s)"), &crowd, "");
}

/// A Redis with ten parameters, four of them encrypted.
struct Mirrored {
    redis: Redis,
    sub_key: String,
}

impl Mirrored {
    async fn on(redis: Redis) -> Self {
        let entry = |number: u32| {
            let kind = if number < 4 { ParameterType::SecureString } else { ParameterType::String };
            let value = "a value of usual length".into();
            (
                format!("/app/n{number}"),
                Entry {
                    key: Some(format!("N{number}")),
                    is_key_given: false,
                    kind,
                    version: 1,
                    date: 0,
                    value,
                },
            )
        };
        let hash =
            MirrorHash::of(MIRROR, "/app", (0..10).map(entry).collect(), EncryptionMode::SecureStrings);
        hash.write(&redis).await;
        Self { redis, sub_key: hash.sub_key }
    }

    /// Returns a reader with the settings of a task.
    fn reader(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(program());
        command.args(arguments).env_clear().env("PARAMETER_MIRROR_MIRRORS", MIRROR);
        command
            .env("PARAMETER_MIRROR_REDIS_URL", self.redis.url())
            .env("PARAMETER_MIRROR_SUB_KEYS", &self.sub_key);
        if let Some(ca) = self.redis.ca() {
            command.env("PARAMETER_MIRROR_REDIS_CA_FILE", ca);
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command
    }

    /// Returns the milliseconds that `exec` adds to the start of a program: the median with it minus the
    /// median without.
    fn exec_adds(&self) -> f64 {
        let time = |mut command: Command| {
            let began = Instant::now();
            let status = command.status().expect("it starts");
            assert!(status.success(), "{command:?}: {status}");
            began.elapsed().as_secs_f64() * 1_000.0
        };
        let (with, without): (Vec<_>, Vec<_>) = (0..STARTS)
            .map(|_| (time(self.reader(&["exec", "--", "/bin/true"])), time(Command::new("/bin/true"))))
            .unzip();
        median(&with) - median(&without)
    }

    /// Returns the median milliseconds of sequential requests, and the number of concurrent requests per
    /// second of CPU time.
    async fn serve(&self) -> (f64, f64) {
        let scratch = Arc::new(Scratch::new("bench").expect("a temporary folder"));
        let command = self.reader(&["serve", "--listen", "127.0.0.1:0"]);
        let process = Process::start(&scratch, "serve", &command).expect("it starts");
        let address = eventually("serve listens and has read", STARTED, async || {
            let log = process.log();
            let address =
                log.split_once("http://").and_then(|(_, rest)| rest.lines().next().map(str::to_owned));
            address.filter(|_| log.contains("10 parameters")).ok_or(log)
        })
        .await;
        let mut connection = connect(&address).await;
        let mut times = Vec::new();
        for _ in 0..REQUESTS {
            let began = Instant::now();
            ask(&mut connection, &address).await;
            times.push(began.elapsed().as_secs_f64() * 1_000.0);
        }
        let before = cpu_seconds(process.pid());
        join_all((0..CONNECTIONS).map(async |_| {
            let mut connection = connect(&address).await;
            for _ in 0..REQUESTS {
                ask(&mut connection, &address).await;
            }
        }))
        .await;
        #[allow(clippy::cast_precision_loss, reason = "a few thousand requests")]
        let requests = (CONNECTIONS * REQUESTS) as f64;
        (median(&times), requests / (cpu_seconds(process.pid()) - before))
    }

    /// Starts readers evenly over a second, each of which must get the whole set. Returns the seconds until
    /// the last one has it.
    async fn crowd(&self) -> f64 {
        let began = Instant::now();
        let starts = (0..CROWD).map(async |number| {
            let share = f64::from(u32::try_from(number).expect("a small number")) / 1_000.0;
            tokio::time::sleep_until((began + Duration::from_secs_f64(share)).into()).await;
            let mut command = self.reader(&[
                "exec",
                "--",
                "/bin/sh",
                "-c",
                "test \"$N0$N9\" = 'a value of usual lengtha value of usual length'",
            ]);
            command.env("PARAMETER_MIRROR_BUDGET", "30s");
            tokio::process::Command::from(command).status().await.expect("it starts").success()
        });
        let whole = join_all(starts).await.into_iter().filter(|whole| *whole).count();
        assert_eq!(whole, CROWD, "so many have got a whole set");
        began.elapsed().as_secs_f64()
    }
}

fn program() -> PathBuf {
    crate::built("dist", "parameter-mirror-reader")
}

async fn connect(address: &str) -> SendRequest<Full<Bytes>> {
    let stream = TcpStream::connect(address).await.expect("it listens");
    stream.set_nodelay(true).expect("a TCP connection");
    let (sender, connection) = handshake(TokioIo::new(stream)).await.expect("it speaks HTTP");
    tokio::spawn(connection);
    sender
}

async fn ask(connection: &mut SendRequest<Full<Bytes>>, address: &str) {
    let request = Request::post("/").header("host", address).header("x-amz-target", "AmazonSSM.GetParameter");
    let body = Full::new(Bytes::from_static(br#"{"Name":"/app/n1","WithDecryption":true}"#));
    connection.ready().await.expect("the connection is still there");
    let answer = connection.send_request(request.body(body).expect("a request")).await.expect("an answer");
    assert!(answer.status().is_success(), "{}", answer.status());
    answer.into_body().collect().await.expect("a body");
}
