//! Counters for Prometheus; docs/reference/metrics.md lists them. Labels are bounded: no parameter is ever one, and mirrors only
//! where an alert has to name one.

use std::collections::HashMap;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use jiff::Timestamp;
use kube::runtime::reflector::ObjectRef;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};
use tracing_mutex::parkinglot::Mutex;

use crate::api::ParameterMirror;
use crate::metrics::gauges::{self, GaugeValues, Served};
use crate::metrics::latency::Latencies;
use crate::metrics::process::Process;
use crate::metrics::register::{register, register_with_unit};
use crate::mirror::snapshot::{ReadError, Snapshot};
use crate::mirror::target::TargetKind;
use crate::targets::KINDS;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReadLabels {
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TargetLabels {
    target: &'static str,
}

/// The counters of the operator.
pub struct Metrics {
    registry: Registry,
    /// How long requests and reconciles take.
    pub latencies: Latencies,
    reads: Family<ReadLabels, Counter>,
    decrypts: Counter,
    writes: Family<TargetLabels, Counter>,
    heals: Family<TargetLabels, Counter>,
    status_writes: Counter,
    redis_eviction_possible: Gauge,
    last_read: Gauge<u64, AtomicU64>,
    reconcile_panics: Counter,
    served: Mutex<HashMap<ObjectRef<ParameterMirror>, Served>>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// Creates all counters at zero.
    #[must_use]
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("parameter_mirror");
        let all = &mut registry;
        let build = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        all.register("build", "The program that answers; always 1", build);
        let metrics = Self {
            latencies: Latencies::new(all),
            reconcile_panics: register(
                "reconcile_panics",
                "Reconciles that panicked or did not end: faults of the operator",
                all,
            ),
            reads: register(
                "ssm_reads",
                "Reads of a mirror's parameters by result: success, or the reason of the failure",
                all,
            ),
            decrypts: register(
                "ssm_decrypts",
                "SecureString values asked for with decryption, one KMS call each",
                all,
            ),
            writes: register("target_writes", "Writes of values to a target", all),
            heals: register("target_heals", "Targets restored from the last known good set", all),
            status_writes: register("status_writes", "Writes of the status of mirrors", all),
            redis_eviction_possible: register(
                "redis_eviction_possible",
                "1 while Redis is known to evict any key when its memory is full, mirrors too",
                all,
            ),
            last_read: register_with_unit(
                Unit::Seconds,
                "last_good_read_timestamp",
                "Unix time of the last good read of any mirror",
                all,
            ),
            served: Mutex::default(),
            registry,
        };
        // Prometheus sees no increase in a counter that first appears at 1.
        metrics.reads.get_or_create(&ReadLabels { result: "success" }).inc_by(0);
        for target in KINDS.map(|kind| kind.kind().label()) {
            metrics.writes.get_or_create(&TargetLabels { target }).inc_by(0);
            metrics.heals.get_or_create(&TargetLabels { target }).inc_by(0);
        }
        metrics
    }

    /// Counts a read that has ended.
    pub fn read(&self, outcome: &Result<Snapshot, ReadError>) {
        let result = match outcome {
            Ok(_) => "success",
            Err(failure) => failure.reason.as_str(),
        };
        self.reads.get_or_create(&ReadLabels { result }).inc();
        if let Ok(reading) = outcome {
            self.decrypts.inc_by(reading.cost.decrypts.into());
            self.last_read.set(u64::try_from(reading.started_at / 1_000).unwrap_or_default());
        }
    }

    /// Counts a reconcile that panicked or took too long.
    pub fn reconcile_panicked(&self) {
        self.reconcile_panics.inc();
    }

    /// Records when what a mirror serves was last current, and how much later it becomes stale.
    pub fn serves(&self, mirror: ObjectRef<ParameterMirror>, current_at: Timestamp, stale_after: Duration) {
        let served = Served { current_at, stale_after };
        self.served.lock().insert(mirror, served);
    }

    /// Forgets a deleted mirror.
    pub fn forget(&self, mirror: &ObjectRef<ParameterMirror>) {
        self.served.lock().remove(mirror);
    }

    /// Counts a write of values to a target.
    pub fn written(&self, kind: TargetKind) {
        self.writes.get_or_create(&TargetLabels { target: kind.label() }).inc();
    }

    /// Counts a target that was restored.
    pub fn healed(&self, kind: TargetKind) {
        self.heals.get_or_create(&TargetLabels { target: kind.label() }).inc();
    }

    /// Counts a write of the status of a mirror.
    pub fn reported(&self) {
        self.status_writes.inc();
    }

    /// Records whether Redis may evict what is served.
    pub fn redis_evicts(&self, evicts: bool) {
        self.redis_eviction_possible.set(evicts.into());
    }

    /// Forgets all mirrors.
    pub fn forget_all(&self) {
        self.served.lock().clear();
    }

    /// Returns all metrics as OpenMetrics text; `values` is `None` unless this operator leads.
    #[must_use]
    pub fn text(&self, values: Option<&GaugeValues>) -> String {
        let served = values.map(|_| self.served.lock().clone()).unwrap_or_default();
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = encode_registry(&mut text, &self.registry);
        let _ = encode_registry(&mut text, &gauges::registry(values, &served));
        let mut process = Registry::default();
        process.register_collector(Box::new(Process));
        let _ = encode_registry(&mut text, &process);
        let _ = encode_eof(&mut text);
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kubernetes::watches::MirrorConditions;

    fn values(reason: Option<&str>) -> GaugeValues {
        let state = MirrorConditions {
            namespace: "shop".to_owned(),
            mirror: "checkout".to_owned(),
            is_ready: true,
            degraded: reason.map(str::to_owned),
            is_suspended: false,
        };
        GaugeValues {
            mirrors: 1,
            states: vec![state],
            accounts: Vec::new(),
            values_bytes: 0,
            queue_depth: 0,
            sources: Vec::new(),
            credentials: Vec::new(),
            now: Timestamp::from_second(1_000).unwrap_or_default(),
        }
    }

    #[test]
    fn counters_that_alerts_look_at_begin_at_zero() {
        let text = Metrics::new().text(None);
        for series in [
            r#"ssm_reads_total{result="success"} 0"#,
            r#"target_heals_total{target="redis"} 0"#,
            "reconcile_panics_total 0",
        ] {
            assert!(text.contains(&format!("\nparameter_mirror_{series}\n")), "{series} is not in\n{text}");
        }
    }

    #[test]
    fn a_heal_counts_for_the_target_that_was_healed() {
        let metrics = Metrics::new();
        metrics.healed(TargetKind::Redis);
        metrics.healed(TargetKind::Redis);
        metrics.healed(TargetKind::Secret);
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
            format!("parameter_mirror_last_sync_timestamp_seconds{{{mirror}}} 940"),
            format!("parameter_mirror_mirror_ready{{{mirror}}} 1"),
        ];
        let degraded = format!(r#"parameter_mirror_mirror_degraded{{{mirror},reason="Timeout"}} 1"#);
        let with_reason = [&well[..], &[degraded]].concat();
        assert_eq!(of_it(&metrics.text(Some(&values(Some("Timeout"))))), with_reason);
        assert_eq!(of_it(&metrics.text(Some(&values(None)))), well);
        assert_eq!(of_it(&metrics.text(None)), Vec::<String>::new());
    }
}
