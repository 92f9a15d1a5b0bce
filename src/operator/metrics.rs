//! Figures for Prometheus; docs/metrics.md lists them. Labels are bounded: no parameter is ever one, and mirrors only where an
//! alert has to name one.

use std::collections::HashMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

use jiff::Timestamp;
use kube::runtime::reflector::ObjectRef;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Metric, Registry, Unit};

use crate::api::ParameterMirror;
use crate::mirror::reading::{ReadFailure, Reading};
use crate::ssm::breaker::Phase;
use crate::ssm::credentials::Health;
use crate::ssm::place::{PlaceKey, PlaceState};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReadLabels {
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TargetLabels {
    target: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct MirrorLabels {
    namespace: String,
    mirror: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DegradedLabels {
    namespace: String,
    mirror: String,
    reason: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PlaceLabels {
    account: String,
    region: String,
}

/// What is looked at when somebody asks, rather than counted.
#[derive(Clone, Debug)]
pub struct Figures {
    /// Mirrors that are watched.
    pub mirrors: usize,
    /// What the conditions of those say that can be read.
    pub states: Vec<MirrorState>,
    /// Accounts and regions.
    pub places: Vec<PlaceState>,
    /// Bytes of values in memory.
    pub values_bytes: usize,
    /// The operator's own AWS identity, and the roles of sources.
    pub credentials: Vec<Health>,
    /// Wall time.
    pub now: Timestamp,
}

/// What the conditions of a mirror say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MirrorState {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub mirror: String,
    /// Whether Ready is True.
    pub is_ready: bool,
    /// The reason of Degraded while that is True.
    pub degraded: Option<String>,
}

/// What a mirror serves.
struct Served {
    /// When it was last known to be current.
    current_at: Timestamp,
    /// The age from which on it counts as stale.
    stale_after: Duration,
}

/// The counters of the operator.
pub struct Metrics {
    registry: Registry,
    reads: Family<ReadLabels, Counter>,
    ssm_calls: Counter,
    decrypts: Counter,
    writes: Family<TargetLabels, Counter>,
    heals: Family<TargetLabels, Counter>,
    status_writes: Counter,
    values_bytes: Gauge,
    redis_evicts: Gauge,
    leader: Gauge,
    mirrors: Gauge,
    degraded: Gauge,
    open_breakers: Family<PlaceLabels, Gauge>,
    waiting: Family<PlaceLabels, Gauge>,
    last_read: Gauge<u64, AtomicU64>,
    failing_principals: Gauge,
    credentials_end: Gauge<u64, AtomicU64>,
    broken_passes: Counter,
    staleness: Family<MirrorLabels, Gauge>,
    staleness_limit: Family<MirrorLabels, Gauge>,
    ready: Family<MirrorLabels, Gauge>,
    degraded_because: Family<DegradedLabels, Gauge>,
    served: Mutex<HashMap<ObjectRef<ParameterMirror>, Served>>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

/// A metric that is in the registry too.
fn kept<M: Metric + Clone + Default>(name: &str, help: &str, registry: &mut Registry) -> M {
    let metric = M::default();
    registry.register(name, help, metric.clone());
    metric
}

/// The same for one with a unit, which ends its name.
fn kept_in<M: Metric + Clone + Default>(unit: Unit, name: &str, help: &str, registry: &mut Registry) -> M {
    let metric = M::default();
    registry.register_with_unit(name, help, unit, metric.clone());
    metric
}

impl Metrics {
    /// All counters at zero.
    #[must_use]
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("parameter_mirror");
        let all = &mut registry;
        let build = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        all.register("build", "The program that answers; always 1", build);
        let metrics = Self {
            broken_passes: kept(
                "passes_broken",
                "Looks at a mirror that panicked or did not end: faults of the operator",
                all,
            ),
            staleness: kept_in(
                Unit::Seconds,
                "staleness",
                "Age of what a mirror serves: since its last good read",
                all,
            ),
            staleness_limit: kept_in(
                Unit::Seconds,
                "staleness_limit",
                "Age from which on what a mirror serves is stale: spec.maxStaleness, else three intervals and at least an hour",
                all,
            ),
            ready: kept("mirror_ready", "1 while the condition Ready of a mirror is True, else 0", all),
            degraded_because: kept(
                "mirror_degraded",
                "1 while the condition Degraded of a mirror is True, with its reason; else there is no such series",
                all,
            ),
            reads: kept(
                "ssm_reads",
                "Reads of a mirror's parameters by result: good, or the reason of the failure",
                all,
            ),
            ssm_calls: kept("ssm_calls", "Operations sent to SSM by reads that ended well", all),
            decrypts: kept(
                "ssm_decrypts",
                "SecureString values asked for with decryption, one KMS call each",
                all,
            ),
            writes: kept("target_writes", "Writes of values to a target", all),
            heals: kept("target_heals", "Targets restored from the last known good set", all),
            status_writes: kept("status_writes", "Writes of the status of mirrors", all),
            values_bytes: kept_in(
                Unit::Bytes,
                "memory_values",
                "Values that are held in memory, each counted once",
                all,
            ),
            redis_evicts: kept(
                "redis_evicts",
                "1 while Redis is known to evict any key when its memory is full, mirrors too",
                all,
            ),
            leader: kept("leader", "1 while this operator leads, 0 while it stands by", all),
            mirrors: kept("mirrors", "Mirrors that are watched", all),
            degraded: kept("mirrors_degraded", "Mirrors whose condition Degraded is True", all),
            open_breakers: kept(
                "ssm_breaker_open",
                "1 while an account and region did not answer and only a probe is sent",
                all,
            ),
            waiting: kept(
                "ssm_requests_waiting",
                "Requests that wait for their turn in the budget of an account and region",
                all,
            ),
            last_read: kept_in(
                Unit::Seconds,
                "last_good_read_timestamp",
                "Unix time of the last good read of any mirror",
                all,
            ),
            failing_principals: kept(
                "aws_identities_failing",
                "AWS identities, the operator's own and roles, whose last fetch of credentials failed",
                all,
            ),
            credentials_end: kept_in(
                Unit::Seconds,
                "aws_credentials_expire_timestamp",
                "Unix time when the first of the AWS credentials held ends; 0 if none of them has an end",
                all,
            ),
            served: Mutex::default(),
            registry,
        };
        // A counter that first appears at 1 has not increased, as Prometheus sees it.
        metrics.reads.get_or_create(&ReadLabels { result: "good" }).inc_by(0);
        for target in ["secret", "redis"] {
            metrics.writes.get_or_create(&TargetLabels { target }).inc_by(0);
            metrics.heals.get_or_create(&TargetLabels { target }).inc_by(0);
        }
        metrics
    }

    /// A read has ended.
    pub fn read(&self, outcome: &Result<Reading, ReadFailure>) {
        let result = match outcome {
            Ok(_) => "good",
            Err(failure) => failure.reason.as_str(),
        };
        self.reads.get_or_create(&ReadLabels { result }).inc();
        if let Ok(reading) = outcome {
            self.ssm_calls.inc_by(reading.cost.calls.saturating_sub(reading.cost.shared).into());
            self.decrypts.inc_by(reading.cost.decrypts.into());
            self.last_read.set(u64::try_from(reading.started_at / 1_000).unwrap_or_default());
        }
    }

    /// A pass panicked or took too long.
    pub fn pass_broke(&self) {
        self.broken_passes.inc();
    }

    /// What a mirror serves was current at this time, and is stale so much later.
    pub fn serves(&self, mirror: ObjectRef<ParameterMirror>, current_at: Timestamp, stale_after: Duration) {
        let served = Served { current_at, stale_after };
        self.served.lock().unwrap_or_else(PoisonError::into_inner).insert(mirror, served);
    }

    /// A mirror is gone.
    pub fn forget(&self, mirror: &ObjectRef<ParameterMirror>) {
        self.served.lock().unwrap_or_else(PoisonError::into_inner).remove(mirror);
    }

    /// A Secret was written.
    pub fn secret_written(&self) {
        self.writes.get_or_create(&TargetLabels { target: "secret" }).inc();
    }

    /// Values were written to Redis.
    pub fn redis_written(&self) {
        self.writes.get_or_create(&TargetLabels { target: "redis" }).inc();
    }

    /// A target was restored: `Secret` or `Redis`.
    pub fn healed(&self, part: &str) {
        let target = if part == "Secret" { "secret" } else { "redis" };
        self.heals.get_or_create(&TargetLabels { target }).inc();
    }

    /// The status of a mirror was written.
    pub fn reported(&self) {
        self.status_writes.inc();
    }

    /// Whether Redis may evict what is served.
    pub fn redis_evicts(&self, evicts: bool) {
        self.redis_evicts.set(evicts.into());
    }

    /// Nothing is known of any mirror any more.
    pub fn forget_all(&self) {
        self.served.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// All of it in the text format of OpenMetrics; no figures while somebody else leads.
    #[must_use]
    pub fn text(&self, figures: Option<&Figures>) -> String {
        // Held to the end: what two scrapers ask for at once would be cleared under each other's hands.
        let served = self.served.lock().unwrap_or_else(PoisonError::into_inner);
        self.leader.set(figures.is_some().into());
        let count = |figure: fn(&Figures) -> usize| {
            figures.map_or(0, |all| i64::try_from(figure(all)).unwrap_or(i64::MAX))
        };
        self.mirrors.set(count(|figures| figures.mirrors));
        self.degraded
            .set(count(|figures| figures.states.iter().filter(|state| state.degraded.is_some()).count()));
        self.values_bytes.set(count(|figures| figures.values_bytes));
        self.staleness.clear();
        self.staleness_limit.clear();
        self.ready.clear();
        self.degraded_because.clear();
        self.open_breakers.clear();
        self.waiting.clear();
        if let Some(figures) = figures {
            self.set(figures, &served);
        }
        self.set_credentials(figures.map_or(&[], |figures| &figures.credentials));
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = encode(&mut text, &self.registry);
        text
    }

    fn set_credentials(&self, principals: &[Health]) {
        let failing = principals.iter().filter(|principal| principal.is_failing).count();
        self.failing_principals.set(i64::try_from(failing).unwrap_or(i64::MAX));
        let first = principals.iter().filter_map(|principal| principal.expires).min();
        let end = first.and_then(|end| end.duration_since(UNIX_EPOCH).ok());
        self.credentials_end.set(end.map_or(0, |end| end.as_secs()));
    }

    fn set(&self, figures: &Figures, served: &HashMap<ObjectRef<ParameterMirror>, Served>) {
        for PlaceState { key: PlaceKey { account, region }, breaker, waiting, .. } in &figures.places {
            let labels = PlaceLabels { account: account.clone(), region: region.clone() };
            self.open_breakers.get_or_create(&labels).set((*breaker == Phase::Open).into());
            self.waiting.get_or_create(&labels).set(i64::try_from(*waiting).unwrap_or(i64::MAX));
        }
        for MirrorState { namespace, mirror, is_ready, degraded } in figures.states.iter().cloned() {
            let labels = MirrorLabels { namespace: namespace.clone(), mirror: mirror.clone() };
            self.ready.get_or_create(&labels).set(is_ready.into());
            if let Some(reason) = degraded {
                let labels = DegradedLabels { namespace, mirror, reason };
                self.degraded_because.get_or_create(&labels).set(1);
            }
        }
        for (mirror, served) in served {
            let namespace = mirror.namespace.clone().unwrap_or_default();
            let labels = MirrorLabels { namespace, mirror: mirror.name.clone() };
            let limit = i64::try_from(served.stale_after.as_secs()).unwrap_or(i64::MAX);
            self.staleness
                .get_or_create(&labels)
                .set(figures.now.duration_since(served.current_at).as_secs().max(0));
            self.staleness_limit.get_or_create(&labels).set(limit);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(reason: Option<&str>) -> Figures {
        let state = MirrorState {
            namespace: "shop".to_owned(),
            mirror: "checkout".to_owned(),
            is_ready: true,
            degraded: reason.map(str::to_owned),
        };
        Figures {
            mirrors: 1,
            states: vec![state],
            places: Vec::new(),
            values_bytes: 0,
            credentials: Vec::new(),
            now: Timestamp::from_second(1_000).unwrap_or_default(),
        }
    }

    #[test]
    fn counters_that_alerts_look_at_begin_at_zero() {
        let text = Metrics::new().text(None);
        for series in [
            r#"ssm_reads_total{result="good"} 0"#,
            r#"target_heals_total{target="redis"} 0"#,
            "passes_broken_total 0",
        ] {
            assert!(text.contains(&format!("\nparameter_mirror_{series}\n")), "{series} is not in\n{text}");
        }
    }

    #[test]
    fn a_heal_counts_for_the_target_that_was_healed() {
        let metrics = Metrics::new();
        metrics.healed("Redis");
        metrics.healed("Redis");
        metrics.healed("Secret");
        let text = metrics.text(None);
        for series in [r#"{target="redis"} 2"#, r#"{target="secret"} 1"#] {
            assert!(text.contains(&format!("parameter_mirror_target_heals_total{series}\n")), "{text}");
        }
    }

    #[test]
    fn the_reason_of_a_mirror_goes_when_it_recovers_and_everything_of_it_with_the_leadership() {
        let metrics = Metrics::new();
        let mirror = ObjectRef::new("checkout").within("shop");
        metrics.serves(mirror, Timestamp::from_second(940).unwrap_or_default(), Duration::from_hours(1));
        let of_it = |text: &str| -> Vec<String> {
            let lines = text.lines().filter(|line| line.contains(r#"mirror="checkout""#));
            lines.map(str::to_owned).collect()
        };
        let mirror = r#"namespace="shop",mirror="checkout""#;
        let well = [
            format!("parameter_mirror_staleness_seconds{{{mirror}}} 60"),
            format!("parameter_mirror_staleness_limit_seconds{{{mirror}}} 3600"),
            format!("parameter_mirror_mirror_ready{{{mirror}}} 1"),
        ];
        let degraded = format!(r#"parameter_mirror_mirror_degraded{{{mirror},reason="Timeout"}} 1"#);
        assert_eq!(of_it(&metrics.text(Some(&figures(Some("Timeout"))))), [&well[..], &[degraded]].concat());
        assert_eq!(of_it(&metrics.text(Some(&figures(None)))), well);
        assert_eq!(of_it(&metrics.text(None)), Vec::<String>::new());
    }
}
