//! One round: a number of mirrors from a cold start, then a steady cycle.

use std::time::{Duration, Instant};

use parameter_mirror_test_support::installation::{self, HOME};
use parameter_mirror_test_support::ssm::Calls;
use parameter_mirror_test_support::usage::cpu_seconds;
use parameter_mirror_test_support::{Cluster, Operator, Proxy, Redis, Scratch, Ssm, fleet};
use serde_json::json;

use crate::api_server;
use crate::scenario::count;

/// The time limit, in addition to the time that the request limit requires.
const PATIENCE: Duration = Duration::from_mins(5);
/// The pause between two checks of a steady operator.
const SELDOM: Duration = Duration::from_millis(500);
/// The number of parameters of each mirror.
pub const PARAMETERS: usize = 10;

/// The size of a round.
#[derive(Clone, Copy, Debug)]
pub struct Run {
    pub mirrors: usize,
    pub interval: Duration,
    /// The limit of requests per second to SSM.
    pub budget: u32,
}

impl Run {
    /// Returns the time in which the request limit allows one request for each mirror.
    fn at_budget(&self) -> Duration {
        Duration::from_secs_f64(
            count(u64::try_from(self.mirrors).unwrap_or(u64::MAX)) / f64::from(self.budget),
        )
    }
}

/// The parts of one round.
pub struct Round<'c> {
    pub cluster: &'c Cluster,
    run: Run,
    pub namespace: String,
    pub ssm: Ssm,
    /// The operator's path to SSM.
    pub path: Proxy,
    redis: Redis,
    scratch: Scratch,
    operator: Option<Operator>,
}

/// The cost of the first sync of everything.
pub struct First {
    pub seconds: f64,
    pub ssm_calls: f64,
}

/// The cost of one steady cycle.
pub struct Steady {
    pub megabytes: f64,
    pub cpu_seconds_per_1000_reads: f64,
    pub api_reads: f64,
    pub ssm_connections: f64,
    pub decrypts: f64,
}

impl<'c> Round<'c> {
    /// Starts everything but the operator.
    pub async fn begin(cluster: &'c Cluster, run: Run, number: usize) -> Self {
        let namespace = cluster.namespace("bench").await;
        let (ssm, client) = (Ssm::start(), cluster.client().await);
        for mirror in 0..run.mirrors {
            for n in 1..PARAMETERS {
                ssm.put(&format!("/bench/m{mirror}/n{n}"), "value");
            }
            ssm.put_secure(&format!("/bench/m{mirror}/secret"), "value");
        }
        let source = fleet::source("default", std::slice::from_ref(&namespace), &["/bench"]);
        cluster.kubectl_apply(&source.to_string()).await;
        let interval = format!("{}ms", run.interval.as_millis());
        let object = |mirror: usize| {
            let path = format!("/bench/m{mirror}");
            let spec =
                json!({"interval": interval, "parameters": [{"path": path}], "secret": {}, "redis": {}});
            fleet::mirror(&namespace, &format!("m{mirror}"), &spec)
        };
        fleet::create_mirrors(&client, &(0..run.mirrors).map(object).collect::<Vec<_>>()).await;
        // Each round has its own keys, as at a first start.
        cluster
            .kubectl(&["delete", "secret", "parameter-mirror-keys", "-n", HOME, "--ignore-not-found"])
            .await;
        // The operator need not wait for the lease of the previous round.
        cluster.kubectl(&["delete", "lease", "parameter-mirror", "-n", HOME, "--ignore-not-found"]).await;
        let scratch = Scratch::new(&format!("bench-{number}")).expect("a temporary folder");
        let path = Proxy::start(ssm.address()).await;
        Self { cluster, run, namespace, ssm, path, redis: Redis::start().await, scratch, operator: None }
    }

    /// Starts the operator and waits until both targets of all mirrors are written. The time counts from the
    /// start of the process.
    pub async fn first_sync(&mut self) -> First {
        let program = crate::built("dist", "parameter-mirror");
        let mut settings = installation::settings(self.cluster, self.scratch.path(), program).await;
        settings.watch = vec![self.namespace.clone()];
        settings.ssm = format!("http://{}", self.path.address());
        settings.redis = Some(self.redis.url());
        settings.arguments = vec![format!("--ssm-requests-per-second={}", self.run.budget)];
        let began = Instant::now();
        let mut operator = Operator::launch(settings);
        operator.wait_listening().await;
        let all = self.all();
        // Checking thousands of mirrors is work that delays them.
        let step = Duration::from_millis(50).max(self.run.at_budget() / 100);
        reached(&operator, step, PATIENCE + self.run.at_budget(), async || {
            let scrape = operator.endpoints().scrape().await.unwrap_or_default();
            let written = |target: &str| {
                let series = format!("parameter_mirror_target_writes_total{{target=\"{target}\"}}");
                scrape.value(&series).unwrap_or(0.0) >= count(all)
            };
            written("secret") && written("redis")
        })
        .await;
        let seconds = began.elapsed().as_secs_f64();
        self.operator = Some(operator);
        First { seconds, ssm_calls: count(self.ssm.calls().total()) }
    }

    /// Waits for one cycle of every mirror, and returns its cost.
    pub async fn steady(&self) -> Steady {
        let operator = self.operator();
        let reads = async || operator.metric(r#"parameter_mirror_ssm_reads_total{result="success"}"#).await;
        // Statuses and events of the first sync extend into the next cycle, so the cycle after it is
        // measured.
        reached(operator, SELDOM, PATIENCE, async || reads().await >= 2 * self.all()).await;
        let pid = operator.process().pid();
        let (before, cpu, calls, api) =
            (reads().await, cpu_seconds(pid), self.ssm.calls(), api_server::requests(self.cluster).await);
        let goal = before + self.all();
        reached(operator, SELDOM, PATIENCE, async || reads().await >= goal).await;
        let calls: Calls = self.ssm.calls().since(&calls);
        let done = count(reads().await - before);
        Steady {
            megabytes: count(operator.process().resident_bytes()) / 1e6,
            cpu_seconds_per_1000_reads: (cpu_seconds(pid) - cpu) / done * 1_000.0,
            api_reads: count(api_server::requests(self.cluster).await.since(&api).reads),
            ssm_connections: count(calls.connections),
            decrypts: count(calls.decrypts),
        }
    }

    /// Ends the operator and removes everything that the round created, so that the next one has a cold
    /// start.
    pub async fn end(self) {
        if let Some(operator) = &self.operator {
            operator.terminate().await;
        }
        self.cluster
            .kubectl(&["delete", "pmirror,secrets", "--all", "-n", &self.namespace, "--wait=false"])
            .await;
    }

    /// Ends the operator and starts another process. Returns the seconds from the end of the old one until
    /// the new one is ready.
    pub async fn restart(&mut self) -> f64 {
        let operator = self.operator.as_mut().expect("the operator runs");
        operator.terminate().await;
        let began = Instant::now();
        operator.restart().await;
        began.elapsed().as_secs_f64()
    }

    /// Returns the operator, once it has been started.
    pub fn operator(&self) -> &Operator {
        self.operator.as_ref().expect("the operator runs")
    }

    fn all(&self) -> u64 {
        u64::try_from(self.run.mirrors).unwrap_or(u64::MAX)
    }
}

/// Checks at regular intervals, because each check is also work for the operator.
async fn reached(
    operator: &Operator,
    step: Duration,
    patience: Duration,
    mut look: impl AsyncFnMut() -> bool,
) {
    let mut steps = tokio::time::interval(step);
    let end = Instant::now() + patience;
    loop {
        steps.tick().await;
        if look().await {
            return;
        }
        assert!(
            Instant::now() < end,
            "not reached within {patience:?}; the end of the operator's log:\n{}",
            operator.process().last_lines()
        );
    }
}
