//! One round: so many mirrors from nothing, then a steady cycle.

use std::path::Path;
use std::time::{Duration, Instant};

use parameter_mirror_test_support::operator::Settings;
use parameter_mirror_test_support::ssm::Calls;
use parameter_mirror_test_support::{Cluster, Operator, Redis, Scratch, Ssm};
use serde_json::{Value, json};

use crate::meter::cpu_seconds;

const PATIENCE: Duration = Duration::from_mins(3);
/// Between two looks at a steady operator.
const SELDOM: Duration = Duration::from_millis(500);
const HOME: &str = "parameter-mirror";
/// Resources that a steady operator must not read.
const READ: [&str; 3] = ["secrets", "parametermirrors", "parametersources"];

/// The parts of one round.
pub struct Round<'c> {
    cluster: &'c Cluster,
    mirrors: usize,
    namespace: String,
    ssm: Ssm,
    redis: Redis,
    scratch: Scratch,
    operator: Option<Operator>,
}

/// What it took to serve everything for the first time.
pub struct First {
    pub seconds: f64,
    pub ssm_calls: f64,
}

/// What one steady cycle took.
pub struct Steady {
    pub megabytes: f64,
    pub cpu_seconds_per_1000_reads: f64,
    pub api_reads: f64,
    pub ssm_connections: f64,
    pub decrypts: f64,
}

/// What all rounds share: the definitions, and the chart's service account.
pub async fn prepare(cluster: &Cluster) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let path = |name: &str| root.join(name).to_string_lossy().into_owned();
    cluster.kubectl(&["apply", "-f", &path("crds")]).await;
    cluster.kubectl(&["wait", "--for=condition=Established", "crd", "--all", "--timeout=30s"]).await;
    let chart = path("charts/parameter-mirror");
    cluster.helm(&["install", HOME, &chart, "--namespace", HOME, "--create-namespace"]).await;
}

impl<'c> Round<'c> {
    /// Everything is there but the operator.
    pub async fn begin(cluster: &'c Cluster, mirrors: usize, number: usize) -> Self {
        let namespace = cluster.namespace("bench").await;
        let ssm = Ssm::start();
        for mirror in 0..mirrors {
            for n in 0..9 {
                ssm.put(&format!("/bench/m{mirror}/n{n}"), "value");
            }
            ssm.put_secure(&format!("/bench/m{mirror}/secret"), "value");
        }
        let source = json!({
            "apiVersion": "parameter-mirror.dev/v1alpha1", "kind": "ParameterSource", "metadata": {"name": "default"},
            "spec": {"region": "us-east-1", "grants": [{"namespaces": {"names": [namespace]}, "paths": ["/bench"]}]},
        });
        cluster.kubectl_apply(&source.to_string()).await;
        let items: Vec<_> = (0..mirrors).map(|mirror| manifest(&namespace, mirror)).collect();
        let list = json!({"apiVersion": "v1", "kind": "List", "items": items});
        cluster.kubectl_apply(&list.to_string()).await;
        // Each round has keys of its own, as a first start has.
        cluster
            .kubectl(&["delete", "secret", "parameter-mirror-keys", "-n", HOME, "--ignore-not-found"])
            .await;
        // Nobody waits for the lease of an operator of the round before.
        cluster.kubectl(&["delete", "lease", "parameter-mirror", "-n", HOME, "--ignore-not-found"]).await;
        let scratch = Scratch::new(&format!("bench-{number}")).expect("a temporary folder");
        Self { cluster, mirrors, namespace, ssm, redis: Redis::start().await, scratch, operator: None }
    }

    /// Starts the operator and waits until both targets of all mirrors are written. The time is that from the
    /// start of the process.
    pub async fn first_sync(&mut self) -> First {
        let this = std::env::current_exe().expect("the path of this program");
        let settings = Settings {
            program: this.with_file_name("parameter-mirror"),
            kubeconfig: self.cluster.service_account_kubeconfig(HOME, HOME, self.scratch.path()).await,
            namespace: HOME.to_owned(),
            watch: vec![self.namespace.clone()],
            ssm: self.ssm.endpoint(),
            redis: Some(self.redis.url()),
            arguments: vec!["--ssm-requests-per-second=100000".to_owned()],
            environment: Vec::new(),
        };
        let began = Instant::now();
        let mut operator = Operator::launch(settings);
        operator.wait_listening().await;
        let all = self.all();
        reached(&operator, Duration::from_millis(50), async || {
            let written =
                |target: &str| format!("parameter_mirror_target_writes_total{{target=\"{target}\"}}");
            operator.metric(&written("secret")).await >= all
                && operator.metric(&written("redis")).await >= all
        })
        .await;
        let seconds = began.elapsed().as_secs_f64();
        self.operator = Some(operator);
        First { seconds, ssm_calls: figure(self.ssm.calls().total()) }
    }

    /// Waits for one cycle of every mirror, and says what it cost.
    pub async fn steady(&self) -> Steady {
        let operator = self.operator.as_ref().expect("the operator runs");
        let reads = async || operator.metric(r#"parameter_mirror_ssm_reads_total{result="good"}"#).await;
        // Statuses and events of the first sync reach into the next cycle: the one after it is measured.
        reached(operator, SELDOM, async || reads().await >= 2 * self.all()).await;
        let pid = operator.process().pid();
        let (before, cpu, calls, api) =
            (reads().await, cpu_seconds(pid), self.ssm.calls(), api_reads(self.cluster).await);
        let goal = before + self.all();
        reached(operator, SELDOM, async || reads().await >= goal).await;
        let calls: Calls = self.ssm.calls().since(&calls);
        let done = figure(reads().await - before);
        Steady {
            megabytes: figure(operator.process().resident_bytes()) / 1e6,
            cpu_seconds_per_1000_reads: (cpu_seconds(pid) - cpu) / done * 1_000.0,
            api_reads: figure(api_reads(self.cluster).await - api),
            ssm_connections: figure(calls.connections),
            decrypts: figure(calls.decrypts),
        }
    }

    /// Ends the operator and removes what the round made, so that the next begins from nothing.
    pub async fn end(self) {
        if let Some(operator) = &self.operator {
            operator.terminate().await;
        }
        self.cluster
            .kubectl(&["delete", "pmirror,secrets", "--all", "-n", &self.namespace, "--wait=false"])
            .await;
    }

    fn all(&self) -> u64 {
        u64::try_from(self.mirrors).unwrap_or(u64::MAX)
    }
}

fn manifest(namespace: &str, mirror: usize) -> Value {
    json!({
        "apiVersion": "parameter-mirror.dev/v1alpha1", "kind": "ParameterMirror",
        "metadata": {"name": format!("m{mirror}"), "namespace": namespace},
        "spec": {"interval": "30s", "parameters": [{"path": format!("/bench/m{mirror}")}], "secret": {}, "redis": {}},
    })
}

/// Looks in even steps: looking is work for the operator too.
async fn reached(operator: &Operator, step: Duration, mut look: impl AsyncFnMut() -> bool) {
    let mut steps = tokio::time::interval(step);
    let end = Instant::now() + PATIENCE;
    loop {
        steps.tick().await;
        if look().await {
            return;
        }
        assert!(
            Instant::now() < end,
            "not reached within {PATIENCE:?}; the operator's log:\n{}",
            operator.log()
        );
    }
}

/// How often anybody has read what the operator could read.
async fn api_reads(cluster: &Cluster) -> u64 {
    let metrics = cluster.kubectl(&["get", "--raw", "/metrics"]).await;
    let counted = metrics.lines().filter(|line| {
        line.starts_with("apiserver_request_total{")
            && READ.iter().any(|resource| line.contains(&format!("resource=\"{resource}\"")))
            && ["GET", "LIST"].iter().any(|verb| line.contains(&format!("verb=\"{verb}\"")))
    });
    counted.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
}

#[allow(clippy::cast_precision_loss, reason = "counts here are far below 2^52")]
fn figure(count: u64) -> f64 {
    count as f64
}
