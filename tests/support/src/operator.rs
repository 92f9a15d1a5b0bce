//! The operator as the process that a pod would run.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::endpoints::Endpoints;
use crate::process::{Process, without_capabilities};
use crate::scratch::Scratch;
use crate::wait::eventually;

static NEXT: AtomicU32 = AtomicU32::new(0);

/// The time limit for the operator to become ready.
const READY: Duration = Duration::from_mins(1);
/// The time limit for the operator to end after SIGTERM.
const DRAINED: Duration = Duration::from_secs(20);

/// How to run the operator.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The program.
    pub program: PathBuf,
    /// The kubeconfig of its service account.
    pub kubeconfig: PathBuf,
    /// The namespace it runs in.
    pub namespace: String,
    /// The namespaces it watches; empty for all.
    pub watch: Vec<String>,
    /// The endpoint of SSM.
    pub ssm: String,
    /// The URL of Redis, which it gets as a file.
    pub redis: Option<String>,
    /// Further arguments of `run`.
    pub arguments: Vec<String>,
    /// Further environment.
    pub environment: Vec<(String, String)>,
}

/// A running operator.
#[derive(Debug)]
pub struct Operator {
    settings: Settings,
    /// Constant across restarts, like the name of a pod when its container restarts.
    identity: String,
    process: Process,
    /// The addresses of the metrics and of the probes.
    addresses: (String, String),
}

/// Fails the test if the operator panicked. The operator catches a panic of one reconcile, so nothing else
/// shows that two locks were taken in two orders.
impl Drop for Operator {
    fn drop(&mut self) {
        let log = self.process.log();
        assert!(
            std::thread::panicking() || !log.contains("panic;"),
            "the operator panicked; its log:\n{log}"
        );
    }
}

impl Operator {
    /// Starts an operator and waits until it is ready.
    pub async fn start(settings: Settings) -> Self {
        let mut operator = Self::launch(settings);
        operator.wait_ready().await;
        operator
    }

    /// Starts an operator without waiting.
    #[must_use]
    pub fn launch(settings: Settings) -> Self {
        let scratch = Arc::new(Scratch::new("operator").expect("a temporary folder"));
        let identity = format!("pod-{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let process = spawn(&scratch, &settings, &identity);
        Self { settings, identity, process, addresses: Default::default() }
    }

    /// Waits until it serves its endpoints. The API server may not be reachable yet.
    pub async fn wait_listening(&mut self) {
        self.addresses = eventually("the operator says where it listens", READY, async || {
            if let Some(status) = self.process.exited() {
                return Err(format!("it ended with {status}; its log:\n{}", self.process.log()));
            }
            let log = self.process.log();
            let (metrics, probes) = (address(&log, "/metrics"), address(&log, "/readyz"));
            metrics.zip(probes).ok_or(log)
        })
        .await;
    }

    /// Waits until `/readyz` answers ok.
    pub async fn wait_ready(&mut self) {
        self.wait_listening().await;
        eventually("the operator is ready", READY, async || match self.get("/readyz").await {
            Some((200, _)) => Ok(()),
            other => Err(format!("{other:?}; its log:\n{}", self.process.log())),
        })
        .await;
    }

    /// Kills it with SIGKILL, and starts a new process with the same settings.
    pub async fn crash_and_restart(&mut self) {
        self.process.kill();
        self.restart().await;
    }

    /// Starts a new process with the same settings, after the old one has ended.
    pub async fn restart(&mut self) {
        // A new folder, so that the new log does not start with the old one.
        let scratch = Arc::new(Scratch::new("operator").expect("a temporary folder"));
        self.process = spawn(&scratch, &self.settings, &self.identity);
        self.wait_ready().await;
    }

    /// Kills it with SIGKILL.
    pub fn kill(&self) {
        self.process.kill();
    }

    /// Terminates it with SIGTERM, as Kubernetes does; returns how it ended.
    pub async fn terminate(&self) -> ExitStatus {
        self.process.terminate(DRAINED).await
    }

    /// Returns its name in the Lease.
    #[must_use]
    pub fn identity(&self) -> &str {
        &self.identity
    }

    /// Returns the address of its metrics, `127.0.0.1:port`.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.addresses.0
    }

    /// Returns the address of its probes, `127.0.0.1:port`.
    #[must_use]
    pub fn probe_address(&self) -> &str {
        &self.addresses.1
    }

    /// Returns its settings.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Returns the process.
    #[must_use]
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// Returns its whole log.
    #[must_use]
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// Returns a client of its endpoints. A restart changes the address.
    #[must_use]
    pub fn endpoints(&self) -> Endpoints {
        Endpoints::new(self.address(), self.probe_address())
    }

    /// Returns status code and body of one of its endpoints; `None` if it does not answer.
    pub async fn get(&self, path: &str) -> Option<(u16, String)> {
        self.endpoints().get(path).await
    }

    /// Returns the value of a metric without labels, or with exactly these (`{target="redis"}`); 0 if it has
    /// none.
    pub async fn metric(&self, name: &str) -> u64 {
        let (_, text) = self.get("/metrics").await.expect("the operator answers");
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.map_or(0, |value| value.trim().parse().expect("a whole number"))
    }
}

fn spawn(scratch: &Arc<Scratch>, settings: &Settings, identity: &str) -> Process {
    let mut command = Command::new(&settings.program);
    command.args(["run", "--listen", "127.0.0.1:0", "--probe-listen", "127.0.0.1:0"]);
    command.args(["--namespace", &settings.namespace]);
    if !settings.watch.is_empty() {
        command.args(["--watch-namespaces", &settings.watch.join(",")]);
    }
    if let Some(url) = &settings.redis {
        let file = write(scratch.path(), "redis-url", url);
        command.arg("--redis-url-file").arg(file);
    }
    command.args(&settings.arguments);
    command.env("KUBECONFIG", &settings.kubeconfig).env("PARAMETER_MIRROR_IDENTITY", identity);
    command.env("AWS_ENDPOINT_URL_SSM", &settings.ssm).env("AWS_ENDPOINT_URL_STS", &settings.ssm);
    command.env("AWS_ACCESS_KEY_ID", "AKIDTEST").env("AWS_SECRET_ACCESS_KEY", "test");
    command.env("AWS_EC2_METADATA_DISABLED", "true");
    command.envs(settings.environment.iter().cloned());
    // The chart grants no capabilities.
    Process::start(scratch, "operator", &without_capabilities(&command)).expect("the operator starts")
}

fn write(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, text).expect("a file is written");
    path
}

/// Returns the address from the log line of an endpoint.
fn address(log: &str, path: &str) -> Option<String> {
    let line = log.lines().find(|line| line.contains("serving") && line.contains(path))?;
    let rest = line.split_once("127.0.0.1:")?.1;
    let port: String = rest.chars().take_while(char::is_ascii_digit).collect();
    (!port.is_empty()).then(|| format!("127.0.0.1:{port}"))
}
