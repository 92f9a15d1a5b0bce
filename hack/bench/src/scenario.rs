//! The cost of a fleet of mirrors with a realistic request limit: cold start, steady state, outage, recovery,
//! restart.

use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, DeleteParams, ListParams};
use parameter_mirror_test_support::proxy::Path;
use parameter_mirror_test_support::ssm::{Calls, Fault, When};
use parameter_mirror_test_support::{Cluster, Operator, usage};
use serde_json::json;
use tokio::time::sleep;

use crate::api_server::{self, Requests};
use crate::round::{PARAMETERS, Round, Run};
use crate::table::Table;

/// The longest pause of an open breaker before its next probe, with jitter.
const PROBE: f64 = 36.0;
/// After a silence, a probe that was sent into it has to fail first.
const SILENT_PROBE: f64 = PROBE + 5.0;
/// The duration of the slow start after an answered probe, and the number of requests sent in that time.
const RAMP: (f64, f64) = (15.0, 35.0);
/// The longest measured silence, besides the outage.
pub const SILENCE: Duration = Duration::from_mins(1);
/// What did not happen.
pub const NEVER: f64 = f64::INFINITY;
/// The pause between two checks of the operator.
pub const LOOK: Duration = Duration::from_secs(1);
/// How far a measurement may exceed its limit before it is abandoned.
const PATIENCE: Duration = Duration::from_mins(15);

/// The size and the duration.
#[derive(Clone, Debug)]
pub struct Scenario {
    pub name: String,
    pub mirrors: usize,
    pub interval: Duration,
    pub budget: u32,
    /// How long SSM answers with HTTP 500.
    pub outage: Duration,
}

/// Runs all measurements.
pub async fn measure(cluster: &Cluster, scenario: &Scenario) {
    let Scenario { name, mirrors, interval, budget, outage } = scenario;
    let part = format!(
        "{name}: {mirrors} mirrors x {PARAMETERS}, interval {} s, budget {budget}, outage {} s",
        interval.as_secs(),
        outage.as_secs()
    );
    let load = usage::load();
    let mut table = Table::new(&part);
    let run = Run { mirrors: *mirrors, interval: *interval, budget: *budget };
    let mut round = Round::begin(cluster, run, 0).await;
    cold(&mut round, scenario, &mut table).await;
    steady(&round, scenario, &mut table).await;
    fail(&round, scenario, &mut table).await;
    silence(&round, scenario, &mut table).await;
    restart(&mut round, scenario, &mut table).await;
    round.end().await;
    table.end(&json!({"processor": usage::processor(), "load_before": load, "load_after": usage::load()}));
}

async fn cold(round: &mut Round<'_>, scenario: &Scenario, table: &mut Table) {
    let first = round.first_sync().await;
    let limit = (scenario.count() - scenario.rate()) / scenario.rate();
    table.limited("cold_seconds", "seconds from nothing to all served", first.seconds, limit.max(0.0));
    table.figure("cold_ssm_calls", "SSM calls for that", first.ssm_calls);
}

/// Measures two quiet intervals, after the one with statuses and events of the first sync.
async fn steady(round: &Round<'_>, scenario: &Scenario, table: &mut Table) {
    let operator = round.operator();
    sleep(scenario.interval).await;
    let (cpu, good) = (cpu(operator), good_reads(operator).await);
    let (calls, api) = (round.ssm.calls(), api_server::requests(round.cluster).await);
    sleep(2 * scenario.interval).await;
    let quiet = Quiet {
        reads: good_reads(operator).await - good,
        cpu_seconds: self::cpu(operator) - cpu,
        calls: round.ssm.calls().since(&calls),
        api: api_server::requests(round.cluster).await.since(&api),
        megabytes: megabytes(operator),
    };
    quiet.print(table);
}

/// The cost of two quiet intervals.
pub struct Quiet {
    pub reads: f64,
    pub cpu_seconds: f64,
    pub calls: Calls,
    pub api: Requests,
    pub megabytes: f64,
}

impl Quiet {
    pub fn print(&self, table: &mut Table) {
        let Self { reads, cpu_seconds, calls, api, megabytes } = self;
        table.figure("steady_reads", "good reads in two quiet cycles", *reads);
        let used = cpu_seconds / reads * 1_000.0;
        table.figure("steady_cpu_seconds_per_1000_reads", "CPU seconds per 1,000 of them", used);
        table.figure("steady_api_reads", "API server: reads in two quiet cycles", count(api.reads));
        table.figure("steady_api_writes", "API server: writes in them", count(api.writes));
        table.figure("steady_ssm_calls", "SSM: calls in them", count(calls.total()));
        table.figure("steady_ssm_connections", "SSM: new connections in them", count(calls.connections));
        table.figure("steady_decrypts", "SSM: decrypts in them", count(calls.decrypts));
        table.figure("steady_megabytes", "MB resident", *megabytes);
    }
}

/// SSM answers with HTTP 500; every Secret is deleted in the middle of the outage.
async fn fail(round: &Round<'_>, scenario: &Scenario, table: &mut Table) {
    let operator = round.operator();
    let (calls, began) = (round.ssm.calls(), Instant::now());
    let fault = round.ssm.fail(When::any(), Fault::internal());
    sleep(scenario.outage / 2).await;
    let secrets = Api::namespaced(round.cluster.client().await, &round.namespace);
    restore_secrets(&secrets, scenario.mirrors, began + scenario.outage, table).await;
    sleep((began + scenario.outage).saturating_duration_since(Instant::now())).await;
    let asked = round.ssm.calls().since(&calls).total();
    table.figure("outage_ssm_calls", "SSM: calls in the outage", count(asked));
    table.figure("outage_oldest_seconds", "age of the oldest value served, seconds", oldest(operator).await);
    table.figure("outage_megabytes", "MB resident", megabytes(operator));
    let returned = Instant::now();
    round.ssm.clear(fault);
    recover(round, scenario, returned, ("outage", PROBE), table).await;
}

/// SSM accepts every request and answers none. Afterwards it answers on new connections only, as after a
/// failover.
///
/// It begins with the next reads: those of all mirrors are close together after a recovery, so for up to an interval
/// none is due, and neither the silence nor its end would be noticed.
async fn silence(round: &Round<'_>, scenario: &Scenario, table: &mut Table) {
    let before = good_reads(round.operator()).await;
    reached(round, "reads are due", async || good_reads(round.operator()).await > before).await;
    round.path.set(Path::Silent).await;
    sleep(SILENCE.min(scenario.outage)).await;
    let returned = Instant::now();
    round.path.set(Path::Passes).await;
    recover(round, scenario, returned, ("silence", SILENT_PROBE), table).await;
}

/// Measures the time until the first read and until all reads succeed after SSM has returned; `probe` is the limit of the
/// first.
async fn recover(
    round: &Round<'_>,
    scenario: &Scenario,
    returned: Instant,
    (what, probe): (&str, f64),
    table: &mut Table,
) {
    let operator = round.operator();
    let before = good_reads(operator).await;
    reached(round, "a read is good again", async || good_reads(operator).await > before).await;
    let first = returned.elapsed().as_secs_f64();
    let text = format!("seconds from SSM's return to the first good read, after the {what}");
    table.limited(&format!("{what}_first_read_seconds"), &text, first, probe);
    reached(round, "every mirror is read again", async || {
        oldest(operator).await < returned.elapsed().as_secs_f64()
    })
    .await;
    let (ramp, in_ramp) = RAMP;
    let limit = probe + ramp + (scenario.count() - in_ramp).max(0.0) / scenario.rate();
    let text = format!("seconds from SSM's return until every mirror is read again, after the {what}");
    table.limited(&format!("{what}_recovery_seconds"), &text, returned.elapsed().as_secs_f64(), limit);
}

/// Restarts the operator with the same mirrors.
async fn restart(round: &mut Round<'_>, scenario: &Scenario, table: &mut Table) {
    let calls = round.ssm.calls();
    let api = api_server::requests(round.cluster).await;
    let seconds = round.restart().await;
    let began = Instant::now();
    table.figure(
        "restart_ready_seconds",
        "seconds from the end of one process until the next is ready",
        seconds,
    );
    let (round, all) = (&*round, scenario.count());
    let operator = round.operator();
    let leads = async || {
        let scrape = operator.endpoints().scrape().await.unwrap_or_default();
        scrape.sum("parameter_mirror_mirror_ready") >= all
            && scrape.series("parameter_mirror_staleness_seconds").count() >= scenario.mirrors
    };
    reached(round, "every mirror is known and ready", leads).await;
    let known = began.elapsed().as_secs_f64();
    table.figure("restart_known_seconds", "seconds from then until every mirror is observed", known);
    reached(round, "every mirror was read once", async || good_reads(operator).await >= all).await;
    let limit = scenario.interval.as_secs_f64().min(300.0);
    let read = began.elapsed().as_secs_f64();
    table.limited("restart_read_seconds", "seconds from then until every mirror was read once", read, limit);
    let asked = round.ssm.calls().since(&calls);
    table.limited("restart_ssm_calls", "SSM: calls for that", count(asked.total()), all);
    table.figure("restart_decrypts", "SSM: decrypts for that", count(asked.decrypts));
    let Requests { reads, writes } = api_server::requests(round.cluster).await.since(&api);
    table.figure("restart_api_reads", "API server: reads", count(reads));
    table.figure("restart_api_writes", "API server: writes", count(writes));
    table.figure("restart_megabytes", "MB resident", megabytes(operator));
}

/// Deletes every Secret, and measures how many are restored by `end` and when the last one is.
pub async fn restore_secrets(secrets: &Api<Secret>, all: usize, end: Instant, table: &mut Table) {
    let present = async || {
        let list = secrets.list_metadata(&ListParams::default()).await.expect("the API server lists Secrets");
        list.items
            .into_iter()
            .filter_map(|secret| secret.metadata.uid)
            .collect::<std::collections::HashSet<_>>()
    };
    let old = present().await;
    let began = Instant::now();
    secrets
        .delete_collection(&DeleteParams::default(), &ListParams::default())
        .await
        .expect("the API server deletes Secrets");
    loop {
        // A restored Secret has another UID; one that has not been deleted yet keeps its own.
        let restored = present().await.difference(&old).count();
        let last = if restored >= all { began.elapsed().as_secs_f64() } else { NEVER };
        if restored >= all || Instant::now() >= end {
            let restored = count(u64::try_from(restored).unwrap_or(u64::MAX));
            let text = "Secrets of all that were deleted in the outage, restored";
            table.figure("outage_secrets_restored", text, restored);
            table.figure("outage_restore_seconds", "seconds until the last of them was back", last);
            return;
        }
        sleep(LOOK).await;
    }
}

async fn reached(round: &Round<'_>, what: &str, mut is_reached: impl AsyncFnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !is_reached().await {
        assert!(
            Instant::now() < end,
            "{what}: not within {PATIENCE:?}; the end of the log:\n{}",
            round.operator().process().last_lines()
        );
        sleep(LOOK).await;
    }
}

/// Returns the age of the oldest value that is served.
async fn oldest(operator: &Operator) -> f64 {
    let scrape = operator.endpoints().scrape().await.expect("the operator answers");
    scrape.series("parameter_mirror_staleness_seconds").map(|(_, age)| age).fold(0.0, f64::max)
}

async fn good_reads(operator: &Operator) -> f64 {
    let scrape = operator.endpoints().scrape().await.expect("the operator answers");
    scrape.value("parameter_mirror_ssm_reads_total{result=\"success\"}").unwrap_or(0.0)
}

fn cpu(operator: &Operator) -> f64 {
    usage::cpu_seconds(operator.process().pid())
}

fn megabytes(operator: &Operator) -> f64 {
    count(operator.process().resident_bytes()) / 1e6
}

impl Scenario {
    fn count(&self) -> f64 {
        count(u64::try_from(self.mirrors).unwrap_or(u64::MAX))
    }

    fn rate(&self) -> f64 {
        f64::from(self.budget)
    }
}

#[allow(clippy::cast_precision_loss, reason = "counts here are far below 2^52")]
pub const fn count(count: u64) -> f64 {
    count as f64
}
