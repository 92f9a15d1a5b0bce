//! One request limit: the operator starts, works through rounds of faults and calm, and ends.

use std::sync::Arc;
use std::time::Instant;

use crate::faults::Severity;
use crate::monitor::{self, Monitor};
use crate::report::megabytes;
use crate::settings::Settings;
use crate::settle::settled;
use crate::stage::Stage;
use crate::{churn, faults};

/// How much more memory the operator may use at the end than after its first rounds: the allocator's slack,
/// but no leak.
const GROWTH: f64 = 1.1;
const GROWTH_MB: f64 = 8.0;
/// The number of rounds needed to compare memory: two to warm up, two to compare.
const COMPARABLE: usize = 4;
/// The most memory of an operator, in KB per mirror plus MB: nearly twice its usage under faults.
const KILOBYTES: f64 = 100.0;
const MEGABYTES: f64 = 60.0;

pub async fn run(stage: &mut Stage, settings: &Settings, number: usize, budget: u32) {
    let began = Instant::now();
    let mut random = fastrand::Rng::with_seed(settings.seed.wrapping_add(budget.into()));
    let operator = Arc::new(stage.operator(budget).await);
    let mut monitor = Monitor::start(&operator, stage.client.clone(), budget);
    let (deadline, shared) = (stage.deadline(budget), monitor.shared.clone());
    let took = monitor
        .during(
            "start",
            settled(&stage.client, &stage.redis, &stage.model, &shared, Instant::now(), deadline),
        )
        .await
        .as_secs_f64();
    println!(
        "budget {budget}: all mirrors are right {took:.0} s after the start (deadline {:.0} s)",
        deadline.as_secs_f64()
    );
    let mut resident = Vec::new();
    for round in 1.. {
        // The short run has one round per request limit, and only one of them waits for the breaker's probe.
        let severity = if (number + round).is_multiple_of(2) { Severity::Whole } else { Severity::Partial };
        storm(stage, settings, severity, &mut monitor, &mut random).await;
        calm(stage, &mut monitor, &mut random, budget, round).await;
        resident.push(megabytes(shared.snapshot().resident));
        if began.elapsed() >= settings.share {
            break;
        }
    }
    check_memory(&resident, stage.model.len());
    // Checked first, because an endpoint without an answer describes a hanging process better than a
    // termination that times out.
    monitor.during("end", async { operator.get("/livez").await }).await;
    drop(monitor);
    let status = operator.terminate().await;
    assert!(status.success(), "the operator ended with {status}");
    let log = operator.log();
    assert_eq!(monitor::forbidden(&log), None, "the operator must not log this");
}

/// Runs faults and changes at the same time.
async fn storm(
    stage: &mut Stage,
    settings: &Settings,
    severity: Severity,
    monitor: &mut Monitor,
    random: &mut fastrand::Rng,
) {
    let until = Instant::now() + settings.storm();
    let shared = monitor.shared.clone();
    let Stage { client, ssm, redis, proxy, model, .. } = stage;
    let all = async {
        tokio::join!(
            faults::disturb_ssm(ssm, severity, &shared, random.fork(), until),
            faults::disturb_redis(redis, proxy, &shared, random.fork(), until),
            churn::churn(client, ssm, model, random.fork(), until),
        )
    };
    monitor.during("faults", all).await;
}

/// Runs without faults: all changes arrive in all targets, and every deleted mirror is gone and can be
/// created again.
async fn calm(
    stage: &mut Stage,
    monitor: &mut Monitor,
    random: &mut fastrand::Rng,
    budget: u32,
    round: usize,
) {
    let lifted = Instant::now();
    let changed = churn::change_some(&stage.ssm, &mut stage.model, random);
    let before = monitor.shared.snapshot();
    let deadline = stage.deadline(budget);
    let shared = monitor.shared.clone();
    let Stage { client, redis, model, .. } = stage;
    let all = async {
        churn::restore(client, model).await;
        settled(client, redis, model, &shared, lifted, deadline).await
    };
    let took = monitor.during("calm", all).await;
    let after = monitor.shared.snapshot();
    for (what, count) in [
        ("good reads", after.reads_good - before.reads_good),
        ("writes of Secrets", after.secret_writes - before.secret_writes),
        ("writes of hashes", after.redis_writes - before.redis_writes),
    ] {
        assert!(count > 0.0, "{changed} parameters changed without faults, and there were no {what}");
    }
    println!(
        "budget {budget}: round {round}: all mirrors are right {:.0} s after the last fault (deadline {:.0} s), {:.0} MB resident",
        took.as_secs_f64(),
        deadline.as_secs_f64(),
        megabytes(after.resident),
    );
}

/// Compares the memory after equal rounds: the same mirrors, all correct, no faults.
fn check_memory(resident: &[f64], mirrors: usize) {
    let limit = KILOBYTES / 1e3 * f64::from(u32::try_from(mirrors).unwrap()) + MEGABYTES;
    let most = resident.iter().copied().fold(0.0, f64::max);
    assert!(most <= limit, "{most:.0} MB are resident, more than {limit:.0}: {resident:.0?}");
    if resident.len() >= COMPARABLE {
        let (first, last) = (resident[0].max(resident[1]), resident[resident.len() - 2..].iter().copied());
        let (last, limit) = (last.fold(f64::MAX, f64::min), first * GROWTH + GROWTH_MB);
        assert!(last <= limit, "resident memory grew from {first:.0} to {last:.0} MB: {resident:.0?}");
    }
}
