//! What must hold at all times. The first violation ends the run.

use std::sync::Arc;
use std::time::{Duration, Instant};

use k8s_openapi::api::coordination::v1::Lease;
use kube::api::Api;
use parameter_mirror_test_support::{Endpoints, Operator, Scrape, installation, usage};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinSet;
use tokio::time::{interval, sleep, timeout};
use tracing_mutex::parkinglot::{Mutex, MutexGuard};

use crate::report;

/// The time limit of `/livez`. The kubelet waits for 1 s and restarts after six failures; here no answer may
/// take longer than a busy machine explains.
const LIVEZ: Duration = Duration::from_secs(5);
/// The time limit of `/metrics`: Prometheus's own deadline.
const METRICS: Duration = Duration::from_secs(10);
/// The number of clients that scrape `/metrics`.
const SCRAPERS: usize = 8;
/// The pause between two scrapes of one client.
const SCRAPE_PAUSE: Duration = Duration::from_millis(50);
/// A period in which at least one read must end, successful or failed: a call to SSM ends within 20 s, and
/// mirrors are read at least that often.
const PROGRESS: Duration = Duration::from_secs(45);
/// The longest time between two renewals of the lease. It is renewed every 4 s and lost after 15.
const RENEWED: Duration = Duration::from_secs(12);
/// The interval of progress lines.
const REPORT: Duration = Duration::from_secs(5);
/// Texts that the operator must not log.
const FORBIDDEN: [&str; 5] = ["panic", "fault of the operator", "operator bug", "lock order", "deadlock"];

/// The observed state of the operator, and what the test does to it.
#[derive(Clone, Debug)]
pub struct Observed {
    pub began: Instant,
    pub budget: u32,
    pub ssm_fault: String,
    pub redis_fault: String,
    /// The current step of the run, for people.
    pub step: String,
    pub reads_good: f64,
    pub reads_failed: f64,
    pub secret_writes: f64,
    pub redis_writes: f64,
    pub waiting: f64,
    /// The number of mirrors that were wrong at the last check of all.
    pub wrong: usize,
    pub is_breaker_open: bool,
    pub resident: u64,
    pub cpu_seconds: f64,
    pub last_read: Instant,
    pub livez: Duration,
    pub livez_max: Duration,
    pub metrics_max: Duration,
    pub scrapes: u64,
}

/// The observed state, shared by all tasks.
#[derive(Clone)]
pub struct Shared(Arc<Mutex<Observed>>);

impl Shared {
    fn new(budget: u32) -> Self {
        let now = Instant::now();
        Self(Arc::new(Mutex::new(Observed {
            began: now,
            budget,
            ssm_fault: "None".to_owned(),
            redis_fault: "None".to_owned(),
            step: "start".to_owned(),
            reads_good: 0.0,
            reads_failed: 0.0,
            secret_writes: 0.0,
            redis_writes: 0.0,
            waiting: 0.0,
            wrong: 0,
            is_breaker_open: false,
            resident: 0,
            cpu_seconds: 0.0,
            last_read: now,
            livez: Duration::ZERO,
            livez_max: Duration::ZERO,
            metrics_max: Duration::ZERO,
            scrapes: 0,
        })))
    }

    pub fn lock(&self) -> MutexGuard<'_, Observed> {
        self.0.lock()
    }

    pub fn snapshot(&self) -> Observed {
        self.lock().clone()
    }
}

/// Watches one operator.
pub struct Monitor {
    pub shared: Shared,
    operator: Arc<Operator>,
    violations: UnboundedReceiver<String>,
    _tasks: JoinSet<()>,
}

impl Monitor {
    /// Starts to watch an operator that is ready.
    pub fn start(operator: &Arc<Operator>, client: kube::Client, budget: u32) -> Self {
        let (shared, (sender, violations)) = (Shared::new(budget), unbounded_channel());
        let mut tasks = JoinSet::new();
        for _ in 0..SCRAPERS {
            tasks.spawn(scrape(operator.endpoints(), shared.clone(), sender.clone()));
        }
        tasks.spawn(poll_livez(operator.endpoints(), shared.clone(), sender.clone()));
        tasks.spawn(watch_lease(client, operator.identity().to_owned(), sender.clone()));
        tasks.spawn(watch_process(Arc::clone(operator), shared.clone(), sender));
        tasks.spawn(print_progress(shared.clone()));
        Self { shared, operator: Arc::clone(operator), violations, _tasks: tasks }
    }

    /// Runs some work, unless something is violated first.
    ///
    /// # Panics
    /// At the first violation, with all information that helps to find its cause.
    pub async fn during<T>(&mut self, step: &str, work: impl Future<Output = T>) -> T {
        step.clone_into(&mut self.shared.lock().step);
        tokio::select! {
            done = work => done,
            violation = self.violations.recv() => {
                let violation = violation.unwrap_or_else(|| "the monitor has ended".to_owned());
                panic!("{}", report::failure(&violation, &self.shared.snapshot(), &self.operator))
            }
        }
    }
}

/// Polls the health of the operator.
async fn poll_livez(endpoints: Endpoints, shared: Shared, violations: UnboundedSender<String>) {
    loop {
        let began = Instant::now();
        match timeout(LIVEZ, endpoints.get("/livez")).await {
            Ok(Some((200, _))) => {}
            Ok(Some((code, body))) => {
                let _ = violations.send(format!("/livez answered {code}: {body}"));
            }
            Ok(None) => {
                let _ = violations.send("/livez refused the connection".to_owned());
            }
            Err(_) => {
                let _ = violations.send(format!("/livez has not answered within {LIVEZ:?}"));
            }
        }
        {
            let mut observed = shared.lock();
            observed.livez = began.elapsed();
            observed.livez_max = observed.livez_max.max(began.elapsed());
        }
        sleep(Duration::from_millis(200)).await;
    }
}

async fn scrape(endpoints: Endpoints, shared: Shared, violations: UnboundedSender<String>) {
    loop {
        let began = Instant::now();
        match timeout(METRICS, endpoints.scrape()).await {
            Ok(Some(scrape)) => {
                let observed = observe(&scrape, &mut shared.lock(), began.elapsed());
                if let Err(violation) = observed {
                    let _ = violations.send(violation);
                }
            }
            Ok(None) => {
                let _ = violations.send("/metrics did not answer with 200".to_owned());
            }
            Err(_) => {
                let _ = violations.send(format!("/metrics has not answered within {METRICS:?}"));
            }
        }
        sleep(SCRAPE_PAUSE).await;
    }
}

/// Records the content of a scrape. Scrapes of several clients arrive in any order, so counters only grow.
fn observe(scrape: &Scrape, observed: &mut Observed, took: Duration) -> Result<(), String> {
    let good = scrape.value("parameter_mirror_ssm_reads_total{result=\"success\"}").unwrap_or(0.0);
    let failed = scrape.sum("parameter_mirror_ssm_reads_total") - good;
    if good > observed.reads_good || failed > observed.reads_failed {
        observed.last_read = Instant::now();
    }
    let writes = |target: &str| {
        scrape.value(&format!("parameter_mirror_target_writes_total{{target=\"{target}\"}}")).unwrap_or(0.0)
    };
    observed.reads_good = observed.reads_good.max(good);
    observed.reads_failed = observed.reads_failed.max(failed);
    observed.secret_writes = observed.secret_writes.max(writes("secret"));
    observed.redis_writes = observed.redis_writes.max(writes("redis"));
    observed.waiting = scrape.sum("parameter_mirror_ssm_requests_waiting");
    observed.is_breaker_open = scrape.sum("parameter_mirror_ssm_breaker_open") > 0.0;
    observed.metrics_max = observed.metrics_max.max(took);
    observed.scrapes += 1;
    match scrape.value("parameter_mirror_reconcile_panics_total") {
        Some(0.0) => Ok(()),
        other => Err(format!("parameter_mirror_reconcile_panics_total is {other:?}, not 0")),
    }
}

async fn watch_lease(client: kube::Client, identity: String, violations: UnboundedSender<String>) {
    let leases: Api<Lease> = Api::namespaced(client, installation::HOME);
    let (mut seen, mut renewed) = (None, Instant::now());
    loop {
        if let Ok(Some(lease)) = leases.get_opt("parameter-mirror").await {
            let spec = lease.spec.unwrap_or_default();
            if spec.holder_identity.as_ref() == Some(&identity) && spec.renew_time != seen {
                (seen, renewed) = (spec.renew_time, Instant::now());
            }
        }
        if renewed.elapsed() > RENEWED {
            let _ = violations.send(format!("{identity} has not renewed its lease for {RENEWED:?}"));
        }
        sleep(Duration::from_secs(1)).await;
    }
}

/// Watches the process, its log and its progress.
async fn watch_process(operator: Arc<Operator>, shared: Shared, violations: UnboundedSender<String>) {
    let mut seconds = interval(Duration::from_secs(1));
    for tick in 0_u64.. {
        seconds.tick().await;
        if let Some(status) = operator.process().exited() {
            let _ = violations.send(format!("the operator ended with {status}"));
            return;
        }
        let idle = {
            let mut observed = shared.lock();
            observed.resident = operator.process().resident_bytes();
            observed.cpu_seconds = usage::cpu_seconds(operator.process().pid());
            observed.last_read.elapsed()
        };
        if idle > PROGRESS {
            let _ = violations.send(format!("no read has ended for {PROGRESS:?}"));
        }
        if tick % 10 == 9
            && let Some(line) = forbidden(&operator.log())
        {
            let _ = violations.send(format!("the operator logged: {line}"));
        }
    }
}

/// Returns the first line of a log that an operator must not write.
pub fn forbidden(log: &str) -> Option<&str> {
    log.lines().find(|line| FORBIDDEN.iter().any(|text| line.contains(text)))
}

async fn print_progress(shared: Shared) {
    let mut steps = interval(REPORT);
    steps.tick().await;
    let mut before = shared.snapshot();
    loop {
        steps.tick().await;
        let now = shared.snapshot();
        println!("{}", report::progress(&before, &now));
        before = now;
    }
}
