//! Progress lines, and the description of a failure.

use parameter_mirror_test_support::{Operator, usage};

use crate::monitor::Observed;

/// Describes in one line what happened between two moments.
pub fn progress(before: &Observed, now: &Observed) -> String {
    let gained =
        |count: fn(&Observed) -> f64| format!("{:.0} (+{:.0})", count(now), count(now) - count(before));
    format!(
        "{:>5.0} s  budget {:<4}  {:<8}  SSM {:<18} Redis {:<9}  reads good {} failed {}  writes Secret {} Redis {}  waiting {:.0}{}  wrong {}  \
         RSS {:.0} MB  CPU {:.1} s  scrapes +{}  livez {} ms (max {})  metrics max {} ms",
        now.began.elapsed().as_secs_f64(),
        now.budget,
        now.step,
        now.ssm_fault,
        now.redis_fault,
        gained(|seen| seen.reads_good),
        gained(|seen| seen.reads_failed),
        gained(|seen| seen.secret_writes),
        gained(|seen| seen.redis_writes),
        now.waiting,
        if now.is_breaker_open { "  breaker open" } else { "" },
        now.wrong,
        megabytes(now.resident),
        now.cpu_seconds - before.cpu_seconds,
        now.scrapes - before.scrapes,
        now.livez.as_millis(),
        now.livez_max.as_millis(),
        now.metrics_max.as_millis(),
    )
}

/// Describes what was violated, how far the run got, and what the operator is doing.
pub fn failure(violation: &str, seen: &Observed, operator: &Operator) -> String {
    let last = operator.process().last_lines();
    format!(
        "{violation}\n\nafter {:.1} s with budget {} ({}; SSM {}, Redis {}): {:.0} good and {:.0} failed reads, the last of which ended \
         {:.1} s ago; {:.0} writes of Secrets and {:.0} of hashes; {} scrapes; {:.0} requests waited; {:.0} MB resident; load {}\n\n\
         threads of the operator:\n{}\n\nthe end of its log:\n{last}",
        seen.began.elapsed().as_secs_f64(),
        seen.budget,
        seen.step,
        seen.ssm_fault,
        seen.redis_fault,
        seen.reads_good,
        seen.reads_failed,
        seen.last_read.elapsed().as_secs_f64(),
        seen.secret_writes,
        seen.redis_writes,
        seen.scrapes,
        seen.waiting,
        megabytes(seen.resident),
        usage::load(),
        usage::threads(operator.process().pid()),
    )
}

#[allow(clippy::cast_precision_loss, reason = "sizes of a process are far below 2^52")]
pub fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}
