//! The series of each mirror. They are encoded at the scrape, without a registered metric for each: with thousands of
//! mirrors a scrape would otherwise cost more than the reads between two of them.

use std::fmt;

use kube::runtime::reflector::ObjectRef;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Unit;

use crate::api::ParameterMirror;
use crate::kubernetes::watches::MirrorConditions;

/// The series of all mirrors in one scrape.
#[derive(Debug)]
pub struct MirrorSeries {
    /// The conditions of the mirrors.
    pub states: Vec<MirrorConditions>,
    /// The age of what each mirror serves.
    pub served: Vec<Age>,
}

/// The age of what a mirror serves, in seconds.
#[derive(Debug)]
pub struct Age {
    /// The mirror.
    pub mirror: ObjectRef<ParameterMirror>,
    /// Unix time of the last good read.
    pub timestamp: i64,
    /// The age.
    pub seconds: i64,
    /// The age at which it becomes stale.
    pub limit: i64,
}

impl Collector for MirrorSeries {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let ages = |value: fn(&Age) -> i64| self.served.iter().map(move |age| (age.labels(), value(age)));
        let encoder = &mut encoder;
        gauge(
            encoder,
            ("staleness", Some(Unit::Seconds)),
            "Age of what a mirror serves: since its last good read",
            ages(|age| age.seconds),
        )?;
        gauge(
            encoder,
            ("staleness_limit", Some(Unit::Seconds)),
            "Age from which on what a mirror serves is stale: spec.maxStaleness, else three intervals and at least an hour",
            ages(|age| age.limit),
        )?;
        gauge(
            encoder,
            ("last_sync_timestamp", Some(Unit::Seconds)),
            "Unix time of the last good read of a mirror",
            ages(|age| age.timestamp),
        )?;
        gauge(
            encoder,
            ("mirror_ready", None),
            "1 while the condition Ready of a mirror is True, else 0",
            self.states.iter().map(|state| (labels(&state.namespace, &state.mirror), state.is_ready.into())),
        )?;
        let suspended = self.states.iter().filter(|state| state.is_suspended);
        gauge(
            encoder,
            ("mirror_suspended", None),
            "1 while spec.suspend of a mirror is true; else there is no such series",
            suspended.map(|state| (labels(&state.namespace, &state.mirror), 1)),
        )?;
        let degraded = self.states.iter().filter_map(|state| {
            let [namespace, mirror] = labels(&state.namespace, &state.mirror);
            Some(([namespace, mirror, ("reason", state.degraded.as_deref()?)], 1))
        });
        gauge(
            encoder,
            ("mirror_degraded", None),
            "1 while the condition Degraded of a mirror is True, with its reason; else there is no such series",
            degraded,
        )
    }
}

impl Age {
    fn labels(&self) -> [(&'static str, &str); 2] {
        labels(self.mirror.namespace.as_deref().unwrap_or_default(), &self.mirror.name)
    }
}

const fn labels<'m>(namespace: &'m str, mirror: &'m str) -> [(&'static str, &'m str); 2] {
    [("namespace", namespace), ("mirror", mirror)]
}

/// Encodes a gauge with these series, or nothing if there are none, like a registered gauge.
fn gauge<L: EncodeLabelSet>(
    encoder: &mut DescriptorEncoder<'_>,
    (name, unit): (&str, Option<Unit>),
    help: &str,
    series: impl Iterator<Item = (L, i64)>,
) -> fmt::Result {
    let mut series = series.peekable();
    if series.peek().is_none() {
        return Ok(());
    }
    let mut metric = encoder.encode_descriptor(name, help, unit.as_ref(), MetricType::Gauge)?;
    for (labels, value) in series {
        metric.encode_family(&labels)?.encode_gauge(&value)?;
    }
    Ok(())
}
