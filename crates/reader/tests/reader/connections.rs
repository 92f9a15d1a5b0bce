//! `serve` beside a malicious client on the same loopback.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::Command;
use std::time::{Duration, Instant};

use axum::http::{Method, StatusCode};
use parameter_mirror_test_support::Ssm;
use serde_json::{Value as Json, json};

use crate::serve::{Served, send, serve};
use crate::world::{World, endpoint, program};

/// The limit of the server's file descriptors, lower than the number of connections below.
const DESCRIPTORS: u32 = 220;
const CONNECTIONS: usize = 250;
/// Enough time for a server that closes idle connections to get through all of them.
const PATIENCE: Duration = Duration::from_secs(40);

async fn with_few_descriptors(world: &World) -> Served {
    let mut command = Command::new("sh");
    let script = format!("ulimit -n {DESCRIPTORS}; exec \"$0\" serve --listen 127.0.0.1:0");
    command.args(["-c", &script, program()]).envs(world.settings());
    let process = world.start_program(&command, "listening on ").await;
    Served { endpoint: endpoint(&process).await, process }
}

fn request(body: &str) -> String {
    format!(
        "POST / HTTP/1.1\r\nHost: localhost\r\nX-Amz-Target: AmazonSSM.GetParameter\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// Sends this over many connections, keeps them open, and requests a parameter as an SDK would.
async fn beside(served: &Served, sends: &str) {
    let address = served.endpoint.trim_start_matches("http://").to_owned();
    let open = || {
        let mut stream = TcpStream::connect(&address).unwrap();
        stream.write_all(sends.as_bytes()).unwrap();
        stream
    };
    let held: Vec<TcpStream> = (0..CONNECTIONS).map(|_| open()).collect();
    let began = Instant::now();
    let answered = tokio::task::spawn_blocking(move || {
        let mut stream = TcpStream::connect(&address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(request(r#"{"Name": "/app/db/host"}"#).as_bytes()).unwrap();
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).map(|()| String::from_utf8_lossy(&answer).into_owned())
    });
    let answered = answered.await.unwrap();
    assert_eq!(answered.ok().as_deref(), Some("HTTP/1.1 200"), "after {:?}: {sends:?}", began.elapsed());
    drop(held);
}

#[tokio::test]
async fn connections_that_say_nothing_do_not_use_it_up() {
    let world = World::usual().await;
    beside(&with_few_descriptors(&world).await, "").await;
}

#[tokio::test]
async fn half_of_a_head_does_not_use_it_up() {
    let world = World::usual().await;
    beside(&with_few_descriptors(&world).await, "POST / HTTP/1.1\r\nHost: localhost\r\nX-").await;
}

#[tokio::test]
async fn half_of_a_body_does_not_use_it_up() {
    let world = World::usual().await;
    let whole = request(r#"{"Name": "/app/db/host"}"#);
    beside(&with_few_descriptors(&world).await, &whole[..whole.len() - 1]).await;
}

#[tokio::test]
async fn connections_that_were_answered_and_stay_do_not_use_it_up() {
    let world = World::usual().await;
    beside(&with_few_descriptors(&world).await, &request(r#"{"Name": "/app/db/host"}"#)).await;
}

#[tokio::test]
async fn a_body_beyond_what_ssm_takes_is_refused() {
    let world = World::usual().await;
    let served = serve(&world, &[]).await;
    let target = [("x-amz-target", "AmazonSSM.GetParameter")];
    let body = |bytes: usize| json!({"Name": "/app/db/host", "Padding": "x".repeat(bytes)}).to_string();
    let (status, _) = send(Method::POST, &served.endpoint, &target, &body(70_000)).await;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
    let (status, _) = send(Method::POST, &served.endpoint, &target, &body(30_000)).await;
    assert_eq!(status, StatusCode::OK);
}

/// With `--forward`, everyone on the loopback uses the reader's credentials, so only three operations are
/// forwarded.
#[tokio::test]
async fn only_the_three_reads_are_sent_on_and_only_with_our_headers() {
    let world = World::usual().await;
    let ssm = Ssm::start();
    ssm.put("/other/x", "from ssm");
    let settings = [
        ("PARAMETER_MIRROR_FORWARD", "true"),
        ("AWS_REGION", "us-east-1"),
        ("AWS_ENDPOINT_URL_SSM", &*ssm.endpoint()),
        ("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE"),
        ("AWS_SECRET_ACCESS_KEY", "secret"),
    ];
    let served = serve(&world, &settings).await;
    let ask = async |headers: &[(&str, &str)], body: Json| {
        send(Method::POST, &served.endpoint, headers, &body.to_string()).await
    };
    let put = json!({"Name": "/other/x", "Value": "evil", "Type": "String", "Overwrite": true});
    for target in [
        "AmazonSSM.PutParameter",
        "AmazonSSM.DeleteParameter",
        "AmazonSSM.SendCommand",
        "AmazonSSM.GetParameterHistory",
        "AmazonEC2ContainerServiceV20141113.RunTask",
        "secretsmanager.GetSecretValue",
        "amazonssm.putparameter",
        "",
    ] {
        let (status, body) = ask(&[("X-Amz-Target", target)], put.clone()).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{target}: {body}");
    }
    // With two headers, the reader must not guess which one counts.
    for targets in [
        ["AmazonSSM.GetParameter", "AmazonSSM.PutParameter"],
        ["AmazonSSM.PutParameter", "AmazonSSM.GetParameter"],
    ] {
        let headers = [("X-Amz-Target", targets[0]), ("x-AMZ-target", targets[1])];
        assert_eq!(ask(&headers, put.clone()).await.0, StatusCode::BAD_REQUEST, "{targets:?}");
    }
    assert_eq!(ssm.calls().total(), 0, "nothing of this was sent on");

    // The caller's own headers are not forwarded: the reader builds and signs the whole forwarded request.
    let headers = [
        ("X-AMZ-TARGET", "AmazonSSM.GetParameter"),
        ("Authorization", "AWS4-HMAC-SHA256 Credential=AKIASOMEBODYELSE00000/x"),
        ("X-Amz-Security-Token", "of-the-caller"),
        ("x-amz-security-token", "of-the-caller-too"),
        ("X-Amz-Date", "19700101T000000Z"),
        ("X-Amz-Content-Sha256", "nonsense"),
        ("X-HTTP-Method-Override", "DELETE"),
        ("Content-Type", "application/x-www-form-urlencoded"),
    ];
    let (status, body) = ask(&headers, json!({"Name": "/other/x", "Action": "PutParameter"})).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    assert!(body.contains("from ssm"), "{body}");
    assert_eq!(ssm.calls().total(), 1);
    for name in ["X-Forwarded-For", "x_forwarded_for", "Forwarded", "X-Forwarded-Host", "Via"] {
        let headers = [("X-Amz-Target", "AmazonSSM.GetParameter"), (name, "10.0.0.1")];
        let (status, _) = ask(&headers, json!({"Name": "/other/x"})).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{name}");
    }
    assert_eq!(ssm.calls().total(), 1);
}
