//! Gauges for Prometheus that are computed at each scrape; docs/reference/metrics.md lists them. Labels are bounded: no parameter
//! is ever one, and mirrors only where an alert has to name one.
//!
//! Each scrape has a registry of its own. Concurrent scrapes share nothing, so no lock is held while metrics are
//! encoded, and the series of a deleted mirror need no cleanup.

use std::collections::HashMap;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, UNIX_EPOCH};

use jiff::Timestamp;
use kube::runtime::reflector::ObjectRef;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use crate::api::ParameterMirror;
use crate::kubernetes::watches::{MirrorConditions, SourceConditions};
use crate::metrics::mirror_series::{Age, MirrorSeries};
use crate::metrics::register::{register, register_with_unit};
use crate::ssm::limiter::breaker::BreakerState;
use crate::ssm::limiter::{AccountKey, AccountState};
use parameter_mirror_ssm::credentials::CredentialsHealth;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AccountLabels {
    account: String,
    region: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SourceLabels {
    source: String,
}

/// The inputs of the gauges of one scrape.
#[derive(Clone, Debug)]
pub struct GaugeValues {
    /// Number of watched mirrors.
    pub mirrors: usize,
    /// Conditions of the mirrors that decode.
    pub states: Vec<MirrorConditions>,
    /// State of each source.
    pub sources: Vec<SourceConditions>,
    /// Mirrors that are due and wait for their reconcile.
    pub queue_depth: usize,
    /// State of each account and region.
    pub accounts: Vec<AccountState>,
    /// Bytes of values in memory.
    pub values_bytes: usize,
    /// Health of the credentials of the operator's own AWS identity, and of the roles of sources.
    pub credentials: Vec<CredentialsHealth>,
    /// Wall time.
    pub now: Timestamp,
}

/// The age of what a mirror serves.
#[derive(Clone, Copy, Debug)]
pub(super) struct Served {
    /// When it was last known to be current.
    pub current_at: Timestamp,
    /// The age at which it becomes stale.
    pub stale_after: Duration,
}

/// Returns all gauges of one scrape. While another operator leads, none has a series of a mirror or an account.
pub(super) fn registry(
    values: Option<&GaugeValues>,
    served: &HashMap<ObjectRef<ParameterMirror>, Served>,
) -> Registry {
    let mut registry = Registry::with_prefix("parameter_mirror");
    let all = &mut registry;
    operator(values, all);
    sources(values.map_or(&[], |values| &values.sources), all);
    accounts(values.map_or(&[], |values| &values.accounts), all);
    credentials(values.map_or(&[], |values| &values.credentials), all);
    if let Some(values) = values {
        all.register_collector(Box::new(mirror_series(values, served)));
    }
    registry
}

fn operator(values: Option<&GaugeValues>, all: &mut Registry) {
    let count = |count: fn(&GaugeValues) -> usize| values.map_or(0, |values| whole(count(values)));
    let leader: Gauge = register("leader", "1 while this operator leads, 0 while it stands by", all);
    leader.set(values.is_some().into());
    let mirrors: Gauge = register("mirrors", "Mirrors that are watched", all);
    mirrors.set(count(|values| values.mirrors));
    let degraded: Gauge = register("mirrors_degraded", "Mirrors whose condition Degraded is True", all);
    degraded.set(count(|values| values.states.iter().filter(|state| state.degraded.is_some()).count()));
    let help = "Mirrors that are due and wait for their reconcile";
    let depth: Gauge = register("reconcile_queue_depth", help, all);
    depth.set(count(|values| values.queue_depth));
    let help = "Values that are held in memory, each counted once";
    let values_bytes: Gauge = register_with_unit(Unit::Bytes, "memory_values", help, all);
    values_bytes.set(count(|values| values.values_bytes));
}

fn sources(sources: &[SourceConditions], all: &mut Registry) {
    let help = "1 while the condition Available of a source is True, else 0";
    let available: Family<SourceLabels, Gauge> = register("source_available", help, all);
    let help = "1 while an outage of a source is rehearsed; else there is no such series";
    let drill: Family<SourceLabels, Gauge> = register("source_drill", help, all);
    for state in sources {
        let labels = SourceLabels { source: state.source.clone() };
        available.get_or_create(&labels).set(state.is_available.into());
        if state.is_drill {
            drill.get_or_create(&labels).set(1);
        }
    }
}

fn accounts(accounts: &[AccountState], all: &mut Registry) {
    let help = "1 while an account and region did not answer and only a probe is sent";
    let open: Family<AccountLabels, Gauge> = register("ssm_breaker_open", help, all);
    let help = "Requests that wait for their turn in the budget of an account and region";
    let waiting: Family<AccountLabels, Gauge> = register("ssm_requests_waiting", help, all);
    for AccountState { key: AccountKey { account, region }, breaker, waiting: requests, .. } in accounts {
        let labels = AccountLabels { account: account.clone(), region: region.clone() };
        open.get_or_create(&labels).set((*breaker == BreakerState::Open).into());
        waiting.get_or_create(&labels).set(whole(*requests));
    }
}

fn credentials(identities: &[CredentialsHealth], all: &mut Registry) {
    let help = "AWS identities, the operator's own and roles, whose last fetch of credentials failed";
    let failing: Gauge = register("aws_identities_failing", help, all);
    failing.set(whole(identities.iter().filter(|identity| identity.is_failing).count()));
    let help = "Unix time when the first of the AWS credentials held ends; 0 if none of them has an end";
    let end: Gauge<u64, AtomicU64> =
        register_with_unit(Unit::Seconds, "aws_credentials_expire_timestamp", help, all);
    let first = identities.iter().filter_map(|identity| identity.expires).min();
    let first = first.and_then(|end| end.duration_since(UNIX_EPOCH).ok());
    end.set(first.map_or(0, |end| end.as_secs()));
}

/// Returns the series of each mirror.
fn mirror_series(values: &GaugeValues, served: &HashMap<ObjectRef<ParameterMirror>, Served>) -> MirrorSeries {
    let age = |(mirror, served): (&ObjectRef<ParameterMirror>, &Served)| Age {
        mirror: mirror.clone(),
        timestamp: served.current_at.as_second(),
        seconds: values.now.duration_since(served.current_at).as_secs().max(0),
        limit: i64::try_from(served.stale_after.as_secs()).unwrap_or(i64::MAX),
    };
    MirrorSeries { states: values.states.clone(), served: served.iter().map(age).collect() }
}

fn whole(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
