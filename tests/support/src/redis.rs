//! A real Redis server.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ::redis::aio::MultiplexedConnection;
use ::redis::{AsyncCommands, AsyncConnectionConfig, ClientTlsConfig, TlsCertificates};

use crate::port::{self, Port};
use crate::process::{Process, clean_environment};
use crate::proxy::Proxy;
use crate::scratch::Scratch;
use crate::{authority, command, eventually, programs};

const STARTED: Duration = Duration::from_secs(20);
/// The time limit of a test's connection and of each answer. The half second of redis-rs is too short for a
/// busy machine.
const PATIENCE: Duration = Duration::from_secs(5);

/// The number of hashes per request.
const AT_ONCE: usize = 100;

/// A Redis server on its own port. It saves nothing to disk by itself: [`restart`](Redis::restart) starts it
/// empty.
#[derive(Debug)]
pub struct Redis {
    port: Port,
    password: Option<String>,
    /// The authority of its certificate, if it accepts only TLS.
    ca: Option<PathBuf>,
    /// The cluster bus port, if it is a cluster node.
    bus: Option<Port>,
    process: Process,
    /// The connections that were made through this object.
    own_connections: AtomicU64,
}

/// The kind of server; by default one without a password.
#[derive(Default)]
struct Kind {
    password: Option<String>,
    tls: bool,
    cluster: bool,
}

impl Redis {
    /// Starts a server without a password.
    pub async fn start() -> Self {
        Self::launch(Kind::default()).await
    }

    /// Starts a server that requires `password` for the default user.
    pub async fn with_password(password: &str) -> Self {
        Self::launch(Kind { password: Some(password.to_owned()), ..Kind::default() }).await
    }

    /// Starts a server that accepts only TLS, with a certificate of its own authority.
    pub async fn with_tls() -> Self {
        Self::launch(Kind { tls: true, ..Kind::default() }).await
    }

    /// Starts a node for a cluster. It knows no other node and serves no slot yet.
    pub(crate) async fn cluster_node() -> Self {
        Self::launch(Kind { cluster: true, ..Kind::default() }).await
    }

    /// Introduces another node to a cluster node.
    pub(crate) async fn meet(&self, other: &Self) {
        let bus = other.bus.as_ref().expect("a node of a cluster").number();
        let port = other.port.number();
        self.cli(&["cluster", "meet", "127.0.0.1", &port.to_string(), &bus.to_string()]).await;
    }

    async fn launch(Kind { password, tls, cluster }: Kind) -> Self {
        let scratch = Arc::new(Scratch::new("redis").expect("a temporary folder"));
        let port = Port::take();
        let login = password.as_ref().map(|password| format!("requirepass {password}\n")).unwrap_or_default();
        let ca = if tls { Some(make_certificates(scratch.path()).await) } else { None };
        let door = match ca {
            Some(_) => format!(
                "port 0\ntls-port {}\ntls-cert-file redis.crt\ntls-key-file redis.key\ntls-ca-cert-file ca.crt\n\
                 tls-auth-clients no",
                port.number()
            ),
            None => format!("port {}", port.number()),
        };
        let bus = cluster.then(Port::take);
        let membership = bus.as_ref().map_or(String::new(), |bus| {
            // A node that is down affects only its own slots.
            format!(
                "cluster-enabled yes\ncluster-port {}\ncluster-node-timeout 2000\ncluster-require-full-coverage no\n",
                bus.number()
            )
        });
        let host = port::address();
        // The password controls access, also if the address is not the loopback.
        let settings =
            format!("bind {host}\nprotected-mode no\n{door}\nsave \"\"\nappendonly no\n{login}{membership}");
        fs::write(scratch.path().join("redis.conf"), settings).expect("redis.conf is written");
        let own_connections = AtomicU64::default();
        let redis = Self { process: serve(&scratch), port, password, ca, bus, own_connections };
        redis.answers().await;
        redis
    }

    /// Returns the certificate of its authority (PEM), if it uses TLS.
    #[must_use]
    pub fn ca(&self) -> Option<&Path> {
        self.ca.as_deref()
    }

    /// Issues a certificate of its authority for this host (`IP:...` or `DNS:...`); returns certificate and
    /// key (PEM).
    pub async fn certificate(&self, name: &str, host: &str) -> [PathBuf; 2] {
        authority::certify(self.process.dir(), name, host).await
    }

    /// Replaces its certificate.
    pub async fn present(&self, [certificate, key]: &[PathBuf; 2]) {
        let [certificate, key] = [certificate, key].map(|path| path.to_str().expect("a path in UTF-8"));
        self.cli(&["config", "set", "tls-cert-file", certificate, "tls-key-file", key]).await;
    }

    /// Returns `redis://[:password@]127.0.0.1:port` (or the address of [`port`]), or `rediss://` if it uses
    /// TLS.
    #[must_use]
    pub fn url(&self) -> String {
        let scheme = if self.ca.is_some() { "rediss" } else { "redis" };
        let login = self.password.as_ref().map(|password| format!(":{password}@")).unwrap_or_default();
        format!("{scheme}://{login}{}", self.address())
    }

    /// Returns the address it listens on.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        (port::address(), self.port.number()).into()
    }

    /// Returns its URL through a proxy that leads to it.
    #[must_use]
    pub fn url_through(&self, proxy: &Proxy) -> String {
        self.url().replace(&self.address().to_string(), &proxy.address().to_string())
    }

    /// Runs `redis-cli` with these arguments, and returns its output without the last line break.
    ///
    /// # Panics
    /// When the command fails, an error reply included.
    pub async fn cli(&self, args: &[&str]) -> String {
        self.try_cli(args).await.unwrap_or_else(|refusal| panic!("redis-cli {args:?}: {refusal}"))
    }

    /// Like [`cli`](Self::cli), but returns the output of a command that failed.
    ///
    /// # Errors
    /// When the command fails, an error reply included.
    pub async fn try_cli(&self, args: &[&str]) -> Result<String, String> {
        self.own_connections.fetch_add(1, Ordering::Relaxed);
        let mut command = Command::new(programs::path("redis-cli"));
        clean_environment(&mut command, self.process.dir());
        command.args(["-e", "-h", &port::address().to_string(), "-p", &self.port.number().to_string()]);
        if let Some(ca) = &self.ca {
            command.arg("--tls").arg("--cacert").arg(ca).args(["--cert", "redis.crt", "--key", "redis.key"]);
            command.current_dir(self.process.dir());
        }
        if let Some(password) = &self.password {
            command.env("REDISCLI_AUTH", password);
        }
        command.args(args);
        let output = command::run(command, None).await;
        let text = output.stdout.trim_end_matches('\n');
        if output.status.success() { Ok(text.to_owned()) } else { Err(format!("{text}{}", output.stderr)) }
    }

    /// Returns every field of a hash with its bytes; empty if the key does not exist.
    ///
    /// # Panics
    /// When Redis does not answer or the key holds something else.
    pub async fn hash(&self, key: &str) -> BTreeMap<String, Vec<u8>> {
        let mut connection = self.connection().await.expect("Redis answers");
        connection.hgetall(key).await.expect("the key holds a hash or nothing")
    }

    /// Returns every field of many hashes, in the order of `keys`.
    ///
    /// # Errors
    /// When Redis does not answer or a key holds something else.
    pub async fn hashes(&self, keys: &[String]) -> ::redis::RedisResult<Vec<BTreeMap<String, Vec<u8>>>> {
        let mut connection = self.connection().await?;
        let mut hashes = Vec::with_capacity(keys.len());
        for some in keys.chunks(AT_ONCE) {
            let mut pipeline = ::redis::pipe();
            for key in some {
                pipeline.hgetall(key);
            }
            let answers: Vec<BTreeMap<String, Vec<u8>>> = pipeline.query_async(&mut connection).await?;
            hashes.extend(answers);
        }
        Ok(hashes)
    }

    /// Opens a new connection, with the server's password.
    ///
    /// # Errors
    /// When Redis does not answer, for instance because it is frozen.
    pub async fn connection(&self) -> ::redis::RedisResult<MultiplexedConnection> {
        self.own_connections.fetch_add(1, Ordering::Relaxed);
        let client = match &self.ca {
            Some(ca) => {
                let file = |name: &str| fs::read(self.process.dir().join(name));
                // A server that requires client certificates accepts its own.
                let ours =
                    ClientTlsConfig { client_cert: file("redis.crt")?, client_key: file("redis.key")? };
                let certificates = TlsCertificates { client_tls: Some(ours), root_cert: Some(fs::read(ca)?) };
                ::redis::Client::build_with_tls(self.url(), certificates)?
            }
            None => ::redis::Client::open(self.url())?,
        };
        let patient = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(PATIENCE))
            .set_response_timeout(Some(PATIENCE));
        client.get_multiplexed_async_connection_with_config(&patient).await
    }

    /// Deletes every key.
    pub async fn flush_all(&self) {
        self.cli(&["flushall"]).await;
    }

    /// Freezes it: it stops answering while its connections stay open, like a slow network.
    pub fn freeze(&self) {
        self.process.freeze();
    }

    /// Resumes a frozen server.
    pub fn thaw(&self) {
        self.process.thaw();
    }

    /// Kills it: connections are refused, and its data is lost.
    pub fn kill(&self) {
        self.process.kill();
    }

    /// Kills it if it still runs, and starts it again on the same port, empty.
    pub async fn restart(&mut self) {
        self.start_again();
        self.answers().await;
    }

    /// Kills it if it still runs, and starts it again from what it saved by command. Does not wait until it
    /// serves.
    pub fn start_again(&mut self) {
        self.process.kill();
        self.own_connections.store(0, Ordering::Relaxed);
        self.process = serve(self.process.scratch());
    }

    /// Returns how many connections it has accepted from others since its start.
    pub async fn connections(&self) -> u64 {
        let info = self.cli(&["info", "stats"]).await;
        let count = info.lines().find_map(|line| line.strip_prefix("total_connections_received:"));
        let count: u64 = count.expect("Redis counts connections").trim().parse().expect("a number");
        count.saturating_sub(self.own_connections.load(Ordering::Relaxed))
    }

    /// Returns the process, for its id and its log.
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

async fn make_certificates(folder: &Path) -> PathBuf {
    let ca = authority::found(folder).await;
    authority::certify(folder, "redis", "IP:127.0.0.1").await;
    ca
}

fn serve(scratch: &Arc<Scratch>) -> Process {
    let mut command = Command::new(programs::path("redis-server"));
    command.arg("redis.conf");
    Process::start(scratch, "redis", &command).expect("redis-server starts")
}
