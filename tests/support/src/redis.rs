//! A real Redis server.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use ::redis::AsyncCommands;
use ::redis::aio::MultiplexedConnection;

use crate::port::Port;
use crate::process::{Process, clean_environment};
use crate::scratch::Scratch;
use crate::{command, eventually, programs};

const STARTED: Duration = Duration::from_secs(20);

/// A Redis server on a port of its own. It keeps nothing on disk: [`restart`](Redis::restart) brings it back empty.
#[derive(Debug)]
pub struct Redis {
    port: Port,
    password: Option<String>,
    process: Process,
}

impl Redis {
    /// Starts one that asks for no password.
    pub async fn start() -> Self {
        Self::launch(None).await
    }

    /// Starts one that lets nobody in without `password`, for the default user.
    pub async fn with_password(password: &str) -> Self {
        Self::launch(Some(password.to_owned())).await
    }

    async fn launch(password: Option<String>) -> Self {
        let scratch = Arc::new(Scratch::new("redis").expect("a temporary folder"));
        let port = Port::take();
        let login = password.as_ref().map(|password| format!("requirepass {password}\n")).unwrap_or_default();
        let settings = format!("bind 127.0.0.1\nport {}\nsave \"\"\nappendonly no\n{login}", port.number());
        fs::write(scratch.path().join("redis.conf"), settings).expect("redis.conf is written");
        let redis = Self { process: serve(&scratch), port, password };
        redis.answers().await;
        redis
    }

    /// `redis://[:password@]127.0.0.1:port`.
    #[must_use]
    pub fn url(&self) -> String {
        let login = self.password.as_ref().map(|password| format!(":{password}@")).unwrap_or_default();
        format!("redis://{login}127.0.0.1:{}", self.port.number())
    }

    /// What `redis-cli` prints for these arguments, without the last line break.
    ///
    /// # Panics
    /// When the command fails, an error reply included.
    pub async fn cli(&self, args: &[&str]) -> String {
        let mut command = Command::new(programs::path("redis-cli"));
        clean_environment(&mut command, self.process.dir());
        command.args(["-e", "-h", "127.0.0.1", "-p", &self.port.number().to_string()]).args(args);
        if let Some(password) = &self.password {
            command.env("REDISCLI_AUTH", password);
        }
        let output = command::run(command, None).await;
        let text = output.stdout.trim_end_matches('\n');
        assert!(output.status.success(), "redis-cli {args:?}: {text}{}", output.stderr);
        text.to_owned()
    }

    /// Every field of a hash with its bytes; empty when there is no such key.
    ///
    /// # Panics
    /// When Redis does not answer or the key holds something else.
    pub async fn hash(&self, key: &str) -> BTreeMap<String, Vec<u8>> {
        let mut connection = self.connection().await.expect("Redis answers");
        connection.hgetall(key).await.expect("the key holds a hash or nothing")
    }

    /// A connection of its own, with the password given.
    ///
    /// # Errors
    /// When Redis does not answer, for instance because it is frozen.
    pub async fn connection(&self) -> ::redis::RedisResult<MultiplexedConnection> {
        ::redis::Client::open(self.url())?.get_multiplexed_async_connection().await
    }

    /// Deletes every key.
    pub async fn flush_all(&self) {
        self.cli(&["flushall"]).await;
    }

    /// Stops it from answering while its connections stay open: the outage that looks like a slow network.
    pub fn freeze(&self) {
        self.process.freeze();
    }

    /// Lets it go on.
    pub fn thaw(&self) {
        self.process.thaw();
    }

    /// Kills it: the outage that refuses connections. Its data is lost.
    pub fn kill(&self) {
        self.process.kill();
    }

    /// Kills it if it still runs and starts it again, empty, on the same port.
    pub async fn restart(&mut self) {
        self.process.kill();
        self.process = serve(self.process.scratch());
        self.answers().await;
    }

    /// The process, for its id and its log.
    #[must_use]
    pub fn process(&self) -> &Process {
        &self.process
    }

    async fn answers(&self) {
        eventually("Redis answers", STARTED, async || {
            assert!(self.process.exited().is_none(), "redis-server ended:\n{}", self.process.log());
            self.connection().await?.ping::<()>().await
        })
        .await;
    }
}

fn serve(scratch: &Arc<Scratch>) -> Process {
    let mut command = Command::new(programs::path("redis-server"));
    command.arg("redis.conf");
    Process::start(scratch, "redis", &command).expect("redis-server starts")
}
