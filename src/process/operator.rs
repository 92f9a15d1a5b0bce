//! The running operator: what it waits for, what it watches, and the work queue. Its dependencies are injected, so that
//! tests simulate hours and days in memory.

use std::sync::Arc;
use std::time::Duration;

use anyhow::bail;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{Api, ListParams};
use kube::core::{DeserializeGuard, PartialObjectMeta};
use kube::{Client, ResourceExt};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::api::{ParameterMirror, ParameterSource};
use crate::controller::context::{Context, Settings};
use crate::controller::dispatch;
use crate::controller::drill::Drills;
use crate::controller::fencing;
use crate::controller::signing_keys;
use crate::controller::state::keys::KeySecret;
use crate::controller::state::mirror_state::StateMap;
use crate::controller::state::missing_sources::MissingSources;
use crate::controller::state::read_groups::ReadGroups;
use crate::controller::state::source_health::SourceHealth;
use crate::controller::state::status_dedup::StatusDedup;
use crate::controller::state::unpublished::Unpublished;
use crate::controller::state::values::Values;
use crate::kubernetes::client::{ApiError, with_timeout};
use crate::kubernetes::election::{Candidate, Election};
use crate::kubernetes::events::Events;
use crate::kubernetes::leadership::Term;
use crate::kubernetes::queue::{Queue, Urgency};
use crate::kubernetes::watches::Watches;
use crate::metrics::measured::{self, Measured};
use crate::metrics::registry::Metrics;
use crate::process::admin::Health;
use crate::process::eviction_check;
use crate::ssm::api::Connect;
use crate::ssm::{ParameterReader, SsmReader};
use crate::targets::redis::RedisBackend;
use crate::targets::secret::SecretStore;
use parameter_mirror_clock::Clock;

const RETRY: Duration = Duration::from_secs(2);

/// Everything outside the process that an operator works with.
pub struct Dependencies {
    /// The API server.
    pub client: Client,
    /// Redis.
    pub redis: RedisBackend,
    /// SSM.
    pub connect: Box<dyn Connect>,
    /// Wall clock and process clock.
    pub clock: Clock,
}

/// The configuration of an operator.
#[derive(Clone, Debug)]
pub struct OperatorConfig {
    /// The operator's namespace, where the keys are.
    pub namespace: String,
    /// Name of the key Secret.
    pub key_secret: String,
    /// Namespaces whose mirrors it reconciles; all if empty.
    pub watch_namespaces: Vec<String>,
    /// Name of this cluster in owners; the UID of kube-system if not given.
    pub cluster_name: Option<String>,
    /// Prefix of every Redis key.
    pub redis_prefix: String,
    /// SSM requests per second for each account and region.
    pub requests_per_second: u32,
    /// Maximum bytes of values in memory, for values that targets hold too.
    pub memory_values: usize,
    /// Whether to watch Secrets; otherwise each check requests them.
    pub secret_watch: bool,
    /// Name of the Lease in its namespace, for leader election and for the annotation that records that the keys exist.
    pub lease: String,
    /// The identity in the leader election; `None` if there is no other operator.
    pub candidate: Option<Candidate>,
}

/// Reconciles until `stop`, whenever this operator leads; a reconcile that has begun is finished.
pub async fn operate(
    dependencies: Dependencies,
    config: OperatorConfig,
    health: Health,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let Dependencies { client, redis, connect, clock } = dependencies;
    let scopes = scopes(&config.watch_namespaces);
    let prepared = async {
        wait_for_crds(&client, &scopes).await;
        cluster_name(&client, config.cluster_name.clone()).await
    };
    let cluster = tokio::select! {
        cluster = prepared => cluster,
        () = stop.cancelled() => return Ok(()),
    };
    let mut election =
        config.candidate.clone().map(|candidate| Election::new(client.clone(), candidate, clock.clone()));
    let metrics = Arc::<Metrics>::default();
    let connect = Box::new(Measured::new(connect, metrics.latencies.clone(), clock.clone()));
    let ssm = Arc::new(SsmReader::new(config.requests_per_second, connect, clock.clone()));
    let redis = measured::redis(redis, &metrics.latencies, &clock);
    let leadership = Leadership { client, redis, clock, ssm, config, cluster, scopes, metrics };
    health.set_ready(Arc::clone(&leadership.metrics));
    loop {
        let term = match &mut election {
            None => Term::unlimited(),
            Some(election) => tokio::select! {
                term = election.acquire() => term,
                () = stop.cancelled() => {
                    // It may have acquired the lease at the very moment of the stop.
                    election.release().await;
                    return Ok(());
                }
            },
        };
        tracing::info!(cluster = leadership.cluster, "leading");
        let ended = tokio::select! {
            ended = lead(&leadership, &term, &health, &stop) => Some(ended),
            () = keep(election.as_mut(), &term) => None,
        };
        health.set_standby();
        match ended {
            None => {
                tracing::warn!("no longer leading; nothing is written, the targets keep serving");
            }
            Some(ended) => {
                term.revoke();
                if let Some(election) = &mut election {
                    election.release().await;
                }
                tracing::info!("stopped; the targets keep serving");
                return ended;
            }
        }
    }
}

/// What stays the same from one term to the next.
struct Leadership {
    client: Client,
    redis: RedisBackend,
    clock: Clock,
    ssm: Arc<SsmReader>,
    config: OperatorConfig,
    cluster: String,
    scopes: Vec<Option<String>>,
    metrics: Arc<Metrics>,
}

async fn keep(election: Option<&mut Election>, term: &Term) {
    match election {
        Some(election) => election.renew_until_lost(term).await,
        None => term.lost().await,
    }
}

/// Runs one term: all state is learnt from scratch, and forgotten when this is dropped.
async fn lead(
    leadership: &Leadership,
    term: &Term,
    health: &Health,
    stop: &CancellationToken,
) -> anyhow::Result<()> {
    let client = fencing::client(leadership.client.clone(), term);
    let secret = KeySecret {
        namespace: leadership.config.namespace.clone(),
        name: leadership.config.key_secret.clone(),
        lease: leadership.config.lease.clone(),
    };
    let (key_watch, follow_keys) = tokio::select! {
        kept = signing_keys::keep(client.clone(), secret.clone()) => kept,
        () = stop.cancelled() => return Ok(()),
    };
    let queue = Arc::new(Queue::new(leadership.clock.clone()));
    let context = Arc::new(Context {
        settings: Settings {
            cluster: leadership.cluster.clone(),
            redis_prefix: leadership.config.redis_prefix.clone(),
            keys: secret,
        },
        clock: leadership.clock.clone(),
        secrets: SecretStore::new(client.clone()),
        redis: fencing::redis(&leadership.redis, term),
        recoveries: leadership.ssm.recoveries(),
        ssm: Arc::clone(&leadership.ssm) as Arc<dyn ParameterReader>,
        key_watch,
        watches: Watches::start(&client, &leadership.scopes, &queue, leadership.config.secret_watch),
        queue,
        states: StateMap::default(),
        values: Values::within(leadership.config.memory_values),
        read_groups: ReadGroups::default(),
        drills: Drills::default(),
        missing_sources: MissingSources::default(),
        source_status_dedup: StatusDedup::default(),
        source_health: SourceHealth::default(),
        unpublished: Unpublished::default(),
        metrics: Arc::clone(&leadership.metrics),
        events: Events::new(client.clone(), leadership.clock.clone()),
        client,
    });
    let wake = AbortOnDropHandle::new(tokio::spawn(trigger_on_recovery(Arc::clone(&context))));
    let mut tasks = vec![follow_keys, wake];
    if let RedisBackend::Configured(redis) = &context.redis {
        let watch = eviction_check::watch(Arc::clone(redis), Arc::clone(&context.metrics));
        tasks.push(AbortOnDropHandle::new(tokio::spawn(watch)));
    }
    let _term = TermGuard { context: Arc::clone(&context), _tasks: tasks };
    tokio::select! {
        ready = context.watches.ready() => if !ready { bail!("a watch ended before it began") },
        () = stop.cancelled() => return Ok(()),
    }
    tracing::info!(cluster = leadership.cluster, "watching; mirrors are worked on");
    health.set_leading(Arc::clone(&context));
    dispatch::work(stop.clone(), context).await;
    Ok(())
}

/// Ends everything that a term has begun, including reads under way.
struct TermGuard {
    context: Arc<Context>,
    _tasks: Vec<AbortOnDropHandle<()>>,
}

impl Drop for TermGuard {
    fn drop(&mut self) {
        self.context.states.forget_all();
    }
}

/// Requeues every mirror when SSM answers again: those whose reads failed are due at once.
async fn trigger_on_recovery(context: Arc<Context>) {
    let mut recoveries = context.recoveries.clone();
    while recoveries.changed().await.is_ok() {
        for mirror in context.watches.every_mirror() {
            context.queue.add(&mirror, Urgency::Routine);
        }
    }
}

fn scopes(namespaces: &[String]) -> Vec<Option<String>> {
    let named: Vec<_> = namespaces.iter().filter(|name| !name.is_empty()).cloned().map(Some).collect();
    if named.is_empty() { vec![None] } else { named }
}

/// Waits for the CRDs instead of crash-looping: they may be applied after the operator.
async fn wait_for_crds(client: &Client, scopes: &[Option<String>]) {
    let one = ListParams::default().limit(1);
    let mut reported = false;
    loop {
        let mirrors: Api<DeserializeGuard<ParameterMirror>> = match scopes.first() {
            Some(Some(namespace)) => Api::namespaced(client.clone(), namespace),
            _ => Api::all(client.clone()),
        };
        let sources: Api<DeserializeGuard<ParameterSource>> = Api::all(client.clone());
        let served = match (with_timeout(mirrors.list(&one)).await, with_timeout(sources.list(&one)).await) {
            (Ok(_), Ok(_)) => return,
            (Err(problem), _) | (_, Err(problem)) => problem,
        };
        if !std::mem::replace(&mut reported, true) {
            let hint = match served {
                ApiError::NotFound => "apply crds/",
                ApiError::Refused { .. } => "check the service account's permissions",
                _ => "is it up, and is the network open?",
            };
            tracing::warn!(error = %served, "ParameterMirror and ParameterSource cannot be listed yet; {hint}. Waiting.");
        }
        tokio::time::sleep(RETRY).await;
    }
}

/// Returns the given name, otherwise the UID of kube-system, which stays the same as long as the cluster does.
async fn cluster_name(client: &Client, given: Option<String>) -> String {
    if let Some(name) = given {
        return name;
    }
    let namespaces: Api<PartialObjectMeta<Namespace>> = Api::all(client.clone());
    loop {
        match with_timeout(namespaces.get_metadata("kube-system")).await.map(|namespace| namespace.uid()) {
            Ok(Some(uid)) => return uid,
            Ok(None) | Err(_) => tokio::time::sleep(RETRY).await,
        }
    }
}
