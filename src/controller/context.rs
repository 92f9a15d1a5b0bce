//! What a reconcile can reach: the clients of SSM, Redis and the API server, and the state that all mirrors share.

use std::sync::Arc;

use kube::Client;
use kube::runtime::reflector::ObjectRef;
use tokio::sync::watch;

use crate::api::ParameterMirror;
use crate::controller::drill::Drills;
use crate::controller::state::keys::{KeySecret, KeyState};
use crate::controller::state::mirror_state::StateMap;
use crate::controller::state::missing_sources::MissingSources;
use crate::controller::state::read_groups::ReadGroups;
use crate::controller::state::source_health::SourceHealth;
use crate::controller::state::status_dedup::StatusDedup;
use crate::controller::state::unpublished::Unpublished;
use crate::controller::state::values::Values;
use crate::kubernetes::events::Events;
use crate::kubernetes::queue::Queue;
use crate::kubernetes::watches::Watches;
use crate::metrics::registry::Metrics;
use crate::ssm::ParameterReader;
use crate::targets::redis::RedisBackend;
use crate::targets::secret::SecretStore;
use crate::targets::target::Services;
use parameter_mirror_clock::Clock;

/// The settings of the process that a reconcile needs.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Name of this cluster, the first part of every owner: `--cluster-name`, or else the UID of `kube-system`.
    pub cluster: String,
    /// First part of every Redis key.
    pub redis_prefix: String,
    /// The Secret that holds the operator's keys.
    pub keys: KeySecret,
}

/// What a reconcile can reach. Each term of leadership has its own.
pub struct Context {
    /// The settings of the process.
    pub settings: Settings,
    /// Wall time, and the time since the process started.
    pub clock: Clock,
    /// Client of the API server. It writes only while this operator leads.
    pub client: Client,
    /// The first target: reads and writes Secrets.
    pub secrets: SecretStore,
    /// The second target: reads and writes hashes in Redis.
    pub redis: RedisBackend,
    /// Reads parameters from SSM.
    pub ssm: Arc<dyn ParameterReader>,
    /// Grows each time SSM answers again after an open breaker, or AWS credentials can be fetched again after reads had none.
    pub recoveries: watch::Receiver<u64>,
    /// The operator's keys as the watch of the key Secret shows them.
    pub key_watch: watch::Receiver<KeyState>,
    /// The stores of the watches: mirrors, sources, namespaces and Secrets.
    pub watches: Watches,
    /// The work queue: which mirror is reconciled when.
    pub queue: Arc<Queue>,
    /// The state of each mirror between two reconciles.
    pub states: StateMap,
    /// The parameter values held in memory, and their bound.
    pub values: Values,
    /// The mirrors that read the same selections, so that they read together.
    pub read_groups: ReadGroups,
    /// Rehearsed outages.
    pub drills: Drills,
    /// Sources that the API server does not have.
    pub missing_sources: MissingSources,
    /// Decides whether the status of a source is written again.
    pub source_status_dedup: StatusDedup,
    /// The availability of each source, from the latest reads of its mirrors.
    pub source_health: SourceHealth,
    /// Counts new mirrors whose first values have been read and are not published yet.
    pub unpublished: Unpublished,
    /// Counters for Prometheus.
    pub metrics: Arc<Metrics>,
    /// Records Kubernetes events.
    pub events: Events,
}

impl Context {
    /// Forgets everything about a mirror that no longer exists.
    pub fn forget(&self, mirror: &ObjectRef<ParameterMirror>) {
        self.states.forget(mirror);
        self.read_groups.forget(mirror);
        self.source_health.forget(mirror);
        self.values.forget(mirror);
        self.metrics.forget(mirror);
    }

    /// What targets need, with these keys.
    #[must_use]
    pub fn services<'a>(&'a self, keys: &'a KeyState) -> Services<'a> {
        Services {
            secrets: &self.secrets,
            redis: &self.redis,
            watches: &self.watches,
            clock: &self.clock,
            keys: keys.ring.as_deref(),
        }
    }

    /// The operator's keys as they are now.
    #[must_use]
    pub fn keys(&self) -> KeyState {
        self.key_watch.borrow().clone()
    }
}
