//! A redis-server of the test's own, from PATH.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client};

/// How long a server may take to answer on a machine under load.
const PATIENCE: Duration = Duration::from_secs(20);

/// Runs until it is dropped, keeps nothing on disk.
pub struct Redis {
    process: Child,
    url: String,
}

impl Redis {
    /// Starts a server on a free port and waits for its first answer.
    pub async fn start() -> Self {
        let give_up = Instant::now() + PATIENCE;
        loop {
            let mut server = Self::spawn();
            // Another test may have taken the port in between: then this one ends, and the next gets another.
            while server.process.try_wait().expect("a child").is_none() {
                if server.answers().await {
                    return server;
                }
                assert!(Instant::now() < give_up, "redis-server does not answer");
                tokio::task::yield_now().await;
            }
            assert!(Instant::now() < give_up, "redis-server ends at once");
        }
    }

    fn spawn() -> Self {
        let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        let port = free.expect("a free port").port().to_string();
        let process = Command::new("redis-server")
            .args(["--bind", "127.0.0.1", "--port", &port, "--save", "", "--appendonly", "no"])
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server is on PATH");
        Self { process, url: format!("redis://127.0.0.1:{port}") }
    }

    /// Whether the server on our port is the one we started.
    async fn answers(&self) -> bool {
        let Ok(client) = Client::open(self.url()) else { return false };
        let Ok(mut connection) = client.get_multiplexed_async_connection().await else { return false };
        let info = redis::cmd("INFO").arg("server").query_async::<String>(&mut connection).await;
        let ours = format!("process_id:{}\r", self.process.id());
        info.is_ok_and(|info| info.lines().any(|line| line == ours.trim_end()))
    }

    /// Where it listens.
    pub fn url(&self) -> String {
        self.url.clone()
    }

    /// A connection beside the one under test.
    pub async fn connection(&self) -> MultiplexedConnection {
        let patient = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(PATIENCE))
            .set_response_timeout(Some(PATIENCE));
        let client = Client::open(self.url()).expect("a URL");
        client.get_multiplexed_async_connection_with_config(&patient).await.expect("a connection")
    }

    /// Stops the process as it stands: the kernel goes on accepting connections for it.
    pub fn freeze(&self) {
        self.signal("-STOP");
    }

    /// Lets a frozen process go on.
    pub fn thaw(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        let sent = Command::new("kill").args([signal, &self.process.id().to_string()]).status();
        assert!(sent.expect("kill is on PATH").success());
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        // Also ends a frozen process. Nothing can be done about a failure here.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
