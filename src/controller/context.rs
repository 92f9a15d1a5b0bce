//! Everything a pass of reconcile can reach: the edges, and what is shared between mirrors.

use std::sync::Arc;

use kube::Client;
use kube::runtime::reflector::ObjectRef;
use tokio::sync::watch;

use crate::api::ParameterMirror;
use crate::clock::Clock;
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
use crate::targets::redis::HashStore;
use crate::targets::secret::SecretStore;

/// The Redis of the operator.
pub enum RedisBackend {
    /// There is one; whether it answers is another matter.
    Configured(Arc<dyn HashStore>),
    /// There is none, or its configuration is unusable; says why and what to do.
    NotConfigured(String),
}

/// What the process was told.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Name of this cluster in owners.
    pub cluster: String,
    /// First part of every Redis key.
    pub redis_prefix: String,
    /// Where the operator's keys are.
    pub keys: KeySecret,
}

/// Everything a pass can reach.
pub struct Context {
    /// What the process was told.
    pub settings: Settings,
    /// Both clocks.
    pub clock: Clock,
    /// The API server.
    pub client: Client,
    /// Target 1.
    pub secrets: SecretStore,
    /// Target 2.
    pub redis: RedisBackend,
    /// SSM.
    pub ssm: Arc<dyn ParameterReader>,
    /// How often SSM has come back after a breaker had opened.
    pub recoveries: watch::Receiver<u64>,
    /// The operator's keys.
    pub key_watch: watch::Receiver<KeyState>,
    /// What is watched.
    pub watches: Watches,
    /// Which mirror is reconciled when.
    pub queue: Arc<Queue>,
    /// What is remembered of each mirror.
    pub states: StateMap,
    /// The values that memory holds.
    pub values: Values,
    /// Which mirrors read the same.
    pub read_groups: ReadGroups,
    /// Rehearsed outages.
    pub drills: Drills,
    /// Sources that the API server was found not to have.
    pub missing_sources: MissingSources,
    /// What the status of each source says.
    pub source_status_dedup: StatusDedup,
    /// What the reads of their mirrors say about sources.
    pub source_health: SourceHealth,
    /// New mirrors whose first values are about to be published.
    pub unpublished: Unpublished,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// Events of the API server.
    pub events: Events,
}

impl Context {
    /// Forgets everything about a mirror that is gone.
    pub fn forget(&self, mirror: &ObjectRef<ParameterMirror>) {
        self.states.forget(mirror);
        self.read_groups.forget(mirror);
        self.source_health.forget(mirror);
        self.values.forget(mirror);
        self.metrics.forget(mirror);
    }

    /// The operator's keys as they are now.
    #[must_use]
    pub fn keys(&self) -> KeyState {
        self.key_watch.borrow().clone()
    }
}
