//! A real Kubernetes control plane: etcd and kube-apiserver, and optionally the controllers.
//!
//! There is no node, so nothing runs as a pod: the operator runs as a process with the kubeconfig of its
//! chart's `ServiceAccount`. Without the controllers there is no garbage collection, and a deleted namespace
//! stays `Terminating`.

use std::fs;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde_json::json;
use tokio::sync::OnceCell;

use crate::command;
use crate::console::{Console, succeeded};
use crate::port::Port;
use crate::process::{Process, clean_environment};
use crate::scratch::Scratch;
use crate::{eventually, programs};

/// The time limit of a start. It takes four seconds alone, but tests of several crates may start at the same
/// time.
const STARTED: Duration = Duration::from_mins(2);

/// The token of the administrator. The cluster lives for seconds and listens on the loopback interface.
const ADMIN_TOKEN: &str = "admin-of-a-test-cluster";

/// Options of a dedicated cluster.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Whether to run kube-controller-manager: garbage collection, namespace deletion, default service
    /// accounts.
    pub controller_manager: bool,
}

/// A control plane on its own ports.
#[derive(Debug)]
pub struct Cluster {
    server: String,
    console: Console,
    namespaces: AtomicU32,
    // Fields drop in this order: clients before servers.
    controller_manager: Option<Process>,
    api_server: Process,
    etcd: Process,
    scratch: Arc<Scratch>,
    _ports: [Port; 3],
}

impl Deref for Cluster {
    type Target = Console;

    fn deref(&self) -> &Console {
        &self.console
    }
}

impl Cluster {
    /// Returns the cluster that all tests of this process share, without controllers. Each test uses its own
    /// [`namespace`](Self::namespace), and unique names for cluster-scoped objects. It ends with the process.
    pub async fn shared() -> &'static Self {
        static SHARED: OnceCell<Cluster> = OnceCell::const_new();
        SHARED.get_or_init(|| Self::start(Options::default())).await
    }

    /// Starts a dedicated cluster, for tests that disturb it or need the controllers.
    pub async fn start(options: Options) -> Self {
        let scratch = Arc::new(Scratch::new("cluster").expect("a temporary folder"));
        let ports = [Port::take(), Port::take(), Port::take()];
        let [client, peer, secure] = [ports[0].number(), ports[1].number(), ports[2].number()];
        let dir = scratch.path();
        make_key(dir).await;
        fs::write(dir.join("tokens.csv"), format!("{ADMIN_TOKEN},admin,admin,system:masters\n"))
            .expect("tokens.csv");
        let server = format!("https://127.0.0.1:{secure}");
        let kubeconfig = dir.join("admin.kubeconfig");
        write_kubeconfig(&kubeconfig, &server, dir, "admin", ADMIN_TOKEN);

        let etcd = start_etcd(&scratch, client, peer);
        let api_server = start_api_server(&scratch, client, secure);
        let mut cluster = Self {
            server,
            console: Console::new(&kubeconfig, dir),
            namespaces: AtomicU32::new(0),
            controller_manager: None,
            api_server,
            etcd,
            scratch,
            _ports: ports,
        };
        cluster.answers().await;
        if options.controller_manager {
            cluster.start_controllers().await;
        }
        cluster
    }

    /// Returns the temporary folder with its logs.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.scratch.path()
    }

    /// Returns `https://127.0.0.1:port`.
    #[must_use]
    pub fn server(&self) -> &str {
        &self.server
    }

    /// Creates a namespace with a unique name that starts with `prefix`; returns the name.
    pub async fn namespace(&self, prefix: &str) -> String {
        let name = format!("{prefix}-{}", self.namespaces.fetch_add(1, Ordering::Relaxed));
        self.kubectl(&["create", "namespace", &name]).await;
        name
    }

    /// Writes a kubeconfig for an existing `ServiceAccount` into `dir` and returns its path. The token is
    /// valid for 24 hours.
    pub async fn service_account_kubeconfig(&self, namespace: &str, name: &str, dir: &Path) -> PathBuf {
        let token =
            self.kubectl(&["create", "token", name, "--namespace", namespace, "--duration", "24h"]).await;
        let path = dir.join(format!("{namespace}-{name}.kubeconfig"));
        write_kubeconfig(&path, &self.server, self.dir(), name, token.trim());
        path
    }

    /// Freezes the API server: it stops answering while its connections stay open.
    pub fn freeze(&self) {
        self.api_server.freeze();
    }

    /// Resumes a frozen API server.
    pub fn thaw(&self) {
        self.api_server.thaw();
    }

    /// Returns the process of the API server, for its id and its log.
    #[must_use]
    pub fn api_server(&self) -> &Process {
        &self.api_server
    }

    /// Waits until the API server is ready and the namespace `kube-system` exists. It is created a moment
    /// after readiness, and its id is the operator's cluster id.
    async fn answers(&self) {
        eventually("the API server is ready", STARTED, async || {
            for process in [&self.etcd, &self.api_server] {
                assert!(process.exited().is_none(), "a part of the cluster ended:\n{}", process.log());
            }
            let client = self.try_client().await.map_err(|error| error.to_string())?;
            for path in ["/readyz", "/api/v1/namespaces/kube-system", "/api/v1/namespaces/default"] {
                client.request_text(get(path)).await.map_err(|error| format!("{path}: {error}"))?;
            }
            Ok::<_, String>(())
        })
        .await;
    }

    async fn start_controllers(&mut self) {
        let mut command = Command::new(programs::path("kube-controller-manager"));
        command.arg("--kubeconfig").arg(self.kubeconfig());
        command.args([
            "--service-account-private-key-file=service-account.key",
            "--root-ca-file=certificates/apiserver.crt",
            "--leader-elect=false",
            "--secure-port=0",
        ]);
        let process = Process::start(&self.scratch, "kube-controller-manager", &command).expect("it starts");
        let client = self.try_client().await.expect("a client of the test cluster");
        // The controllers have no endpoint here, so this checks for the ServiceAccount that they create in
        // every namespace.
        eventually("the controllers work", STARTED, async || {
            assert!(process.exited().is_none(), "kube-controller-manager ended:\n{}", process.log());
            client.request_text(get("/api/v1/namespaces/default/serviceaccounts/default")).await
        })
        .await;
        self.controller_manager = Some(process);
    }
}

/// Creates the key that signs and verifies `ServiceAccount` tokens.
async fn make_key(dir: &Path) {
    let mut command = Command::new("openssl");
    clean_environment(&mut command, dir);
    command.args(["genrsa", "-out"]).arg(dir.join("service-account.key")).arg("2048");
    succeeded("openssl", &["genrsa"], command::run(command, None).await);
}

fn start_etcd(scratch: &Arc<Scratch>, client: u16, peer: u16) -> Process {
    let [client, peer] = [client, peer].map(|port| format!("http://127.0.0.1:{port}"));
    let mut command = Command::new(programs::path("etcd"));
    command.args([
        "--data-dir=etcd",
        // A test cluster need not survive a crash, and syncing each write to disk would cost most of its
        // time.
        "--unsafe-no-fsync",
        &format!("--listen-client-urls={client}"),
        &format!("--advertise-client-urls={client}"),
        &format!("--listen-peer-urls={peer}"),
    ]);
    Process::start(scratch, "etcd", &command).expect("etcd starts")
}

/// Starts the API server. It creates its own serving certificate, for 127.0.0.1 among others.
fn start_api_server(scratch: &Arc<Scratch>, etcd: u16, port: u16) -> Process {
    let mut command = Command::new(programs::path("kube-apiserver"));
    command.args([
        &format!("--etcd-servers=http://127.0.0.1:{etcd}"),
        &format!("--secure-port={port}"),
        "--bind-address=127.0.0.1",
        "--advertise-address=127.0.0.1",
        "--cert-dir=certificates",
        "--service-cluster-ip-range=10.0.0.0/24",
        "--service-account-issuer=https://kubernetes.default.svc",
        "--service-account-key-file=service-account.key",
        "--service-account-signing-key-file=service-account.key",
        "--authorization-mode=Node,RBAC",
        "--token-auth-file=tokens.csv",
    ]);
    Process::start(scratch, "kube-apiserver", &command).expect("kube-apiserver starts")
}

/// Writes a kubeconfig as JSON, which is valid YAML and needs no manual quoting.
fn write_kubeconfig(path: &Path, server: &str, cluster: &Path, user: &str, token: &str) {
    let authority = cluster.join("certificates/apiserver.crt");
    let kubeconfig = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "test", "cluster": {"server": server, "certificate-authority": authority}}],
        "users": [{"name": user, "user": {"token": token}}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": user}}],
        "current-context": "test",
    });
    fs::write(path, format!("{kubeconfig:#}\n")).expect("a kubeconfig is written");
}

fn get(path: &str) -> hyper::Request<Vec<u8>> {
    hyper::Request::get(path).body(Vec::new()).expect("a request")
}
