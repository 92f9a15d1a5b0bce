//! The environment of the operator: pods of a real node where one can run, else a process beside a real API
//! server.

use std::fs;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::time::Duration;

use parameter_mirror_test_support::cluster::Options;
use parameter_mirror_test_support::installation::IMAGE;
use parameter_mirror_test_support::operator::Settings;
use parameter_mirror_test_support::{Cluster, Console, Moto, Node, Operator, Redis, Scratch, eventually};

/// The namespace of the operator, and the name of its release and service account.
pub const SYSTEM: &str = "parameter-mirror";

/// The time limit: a killed pod is replaced, and its Lease expires.
const PATIENCE: Duration = Duration::from_mins(1);

/// The available kind of Kubernetes, with the operator in it.
pub enum Kubernetes {
    /// A control plane. It cannot run pods, so the operator is a process with the permissions of its chart.
    ApiServer { cluster: Box<Cluster>, operator: Option<Box<Operator>> },
    /// A node, with the operator installed by its chart.
    Node(Node),
}

impl Deref for Kubernetes {
    type Target = Console;

    fn deref(&self) -> &Console {
        match self {
            Self::ApiServer { cluster, .. } => cluster,
            Self::Node(node) => node,
        }
    }
}

impl Kubernetes {
    /// Returns the node of this process, or starts a control plane.
    pub async fn find_or_start() -> Self {
        if let Some(node) = Node::of_environment().await {
            return Self::Node(node);
        }
        let cluster = Box::new(Cluster::start(Options { controller_manager: true }).await);
        Self::ApiServer { cluster, operator: None }
    }

    /// Returns the node, if there is one.
    pub fn node(&self) -> Option<&Node> {
        match self {
            Self::Node(node) => Some(node),
            Self::ApiServer { .. } => None,
        }
    }

    /// Installs the chart. Returns when the operator is ready, with a description of it.
    pub async fn install(&mut self, scratch: &Scratch, ssm: &Moto, redis: &Redis) -> &'static str {
        let chart = in_repository("charts/parameter-mirror");
        let install = ["install", SYSTEM, &chart, "--namespace", SYSTEM, "--create-namespace"];
        match self {
            Self::ApiServer { cluster, operator } => {
                cluster.helm(&[&install[..], &["--set", IMAGE]].concat()).await;
                let settings = Settings {
                    program: program(),
                    kubeconfig: cluster.service_account_kubeconfig(SYSTEM, SYSTEM, scratch.path()).await,
                    namespace: SYSTEM.to_owned(),
                    watch: Vec::new(),
                    ssm: ssm.endpoint(),
                    redis: Some(redis.url()),
                    arguments: Vec::new(),
                    environment: Vec::new(),
                };
                *operator = Some(Box::new(Operator::start(settings).await));
                "the operator is ready, with exactly the rights of its chart"
            }
            Self::Node(node) => {
                let values = scratch.path().join("values.json");
                fs::write(&values, Node::values(ssm).to_string()).expect("a file is written");
                node.kubectl(&["create", "namespace", SYSTEM]).await;
                let url = format!("--from-literal=url={}", Node::redis_url(redis));
                node.kubectl(&["create", "secret", "generic", "redis", "-n", SYSTEM, &url]).await;
                let values =
                    ["--values", values.to_str().expect("a path in UTF-8"), "--wait", "--timeout", "2m"];
                node.helm(&[&install[..], &values].concat()).await;
                "two operator pods are Ready"
            }
        }
    }

    /// Kills the whole operator, and returns when it is ready again.
    pub async fn kill_operator(&mut self) {
        match self {
            Self::ApiServer { operator, .. } => {
                operator.as_mut().expect("the operator runs").crash_and_restart().await;
            }
            Self::Node(node) => {
                let old = node.operators(SYSTEM).await;
                let kill = ["delete", "pod", "-n", SYSTEM, "--grace-period=0", "--force"];
                let names: Vec<&str> = old.iter().map(String::as_str).collect();
                node.kubectl(&[&kill[..], &names].concat()).await;
                eventually("two other operator pods are Ready", PATIENCE, async || {
                    let now = node.operators(SYSTEM).await;
                    let others = now.iter().filter(|pod| !old.contains(pod)).count();
                    if others == 2 { Ok(()) } else { Err(now.join(" ")) }
                })
                .await;
            }
        }
    }

    /// Returns the first command to type in another terminal, because the node has its own network.
    pub fn how_to_enter(&self) -> String {
        match std::env::var("PARAMETER_MIRROR_NODE_PID") {
            Ok(pid) if self.node().is_some() => format!("  nsenter --target {pid} --net bash\n"),
            _ => String::new(),
        }
    }

    /// Returns folders and files with logs.
    pub fn logs(&self) -> (Vec<PathBuf>, Option<String>) {
        match self {
            Self::ApiServer { cluster, operator } => {
                (vec![cluster.dir().to_owned()], operator.as_ref().map(|operator| operator.log()))
            }
            Self::Node(_) => (Node::logs().into_iter().collect(), None),
        }
    }
}

/// Returns a path of the repository.
pub fn in_repository(path: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    root.join(path).to_string_lossy().into_owned()
}

/// Returns the program that the Makefile has just built.
pub fn program() -> PathBuf {
    let this = std::env::current_exe().expect("the path of this program");
    this.with_file_name("parameter-mirror")
}
