//! The operator at work: what it waits for, what it watches, and the work queues. The edges are given, so that hours and
//! days can be driven over edges in memory.

use std::sync::Arc;
use std::time::Duration;

use anyhow::bail;
use futures::future::join_all;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{Api, ListParams};
use kube::core::PartialObjectMeta;
use kube::{Client, ResourceExt};
use tokio_util::sync::CancellationToken;

use crate::api::{ParameterMirror, ParameterSource};
use crate::clock::Clock;
use crate::ssm::api::Connect;
use crate::ssm::{ParameterReader, SsmReader};
use crate::targets::secret::{KubeProblem, SecretStore, within};

use super::admin::Health;
use super::context::{Context, RedisEdge, Settings};
use super::controller;
use super::drill::Drills;
use super::events::Events;
use super::keys::{self, KeySecret};
use super::memory::Memories;
use super::metrics::Metrics;
use super::progress::Progress;
use super::said::Said;
use super::watches::{Guarded, Wakers, Watches};

const RETRY: Duration = Duration::from_secs(2);

/// Everything outside the process that an operator works with.
pub struct Edges {
    /// The API server.
    pub client: Client,
    /// Redis.
    pub redis: RedisEdge,
    /// SSM.
    pub connect: Box<dyn Connect>,
    /// Both clocks.
    pub clock: Clock,
}

/// What an operator was told.
#[derive(Clone, Debug)]
pub struct Orders {
    /// Its own namespace, where the keys are.
    pub namespace: String,
    /// Name of the key Secret.
    pub key_secret: String,
    /// Namespaces whose mirrors it works on; all if empty.
    pub watch_namespaces: Vec<String>,
    /// Name of this cluster in owners; the UID of kube-system if not given.
    pub cluster_name: Option<String>,
    /// First part of every Redis key.
    pub redis_prefix: String,
    /// SSM requests per second for each account and region.
    pub requests_per_second: u32,
}

/// Works until `stop`; a pass that has begun is finished.
pub async fn operate(
    edges: Edges,
    orders: Orders,
    health: Health,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let Edges { client, redis, connect, clock } = edges;
    let scopes = scopes(&orders.watch_namespaces);
    let prepared = async {
        wait_for_crds(&client, &scopes).await;
        let cluster = cluster_name(&client, orders.cluster_name.clone()).await;
        let secret = KeySecret {
            namespace: orders.namespace.clone(),
            name: orders.key_secret.clone(),
            scopes: scopes.clone(),
        };
        (cluster, keys::keep(client.clone(), secret).await)
    };
    let (cluster, key_watch) = tokio::select! {
        prepared = prepared => prepared,
        () = stop.cancelled() => return Ok(()),
    };
    let queues: Vec<_> = scopes.iter().map(|scope| controller::queue(&client, scope.as_deref())).collect();
    let (wakers, ends) = Wakers::new(&scopes);
    let stores = queues.iter().map(kube::runtime::Controller::store).collect();
    let ssm = Arc::new(SsmReader::new(orders.requests_per_second, connect, clock.clone()));
    let context = Arc::new(Context {
        settings: Settings { cluster, redis_prefix: orders.redis_prefix.clone() },
        clock,
        secrets: SecretStore::new(client.clone()),
        redis,
        recoveries: ssm.recoveries(),
        ssm,
        key_watch,
        watches: Watches::start(&client, &scopes, stores, &wakers),
        wakers,
        memories: Memories::default(),
        drills: Drills::default(),
        said_of_sources: Said::default(),
        progress: Progress::default(),
        metrics: Metrics::new(),
        events: Events::new(client.clone()),
        client,
    });
    tokio::select! {
        ready = context.watches.ready() => if !ready { bail!("a watch ended before it began") },
        () = stop.cancelled() => return Ok(()),
    }
    tracing::info!(target: "parameter_mirror", cluster = context.settings.cluster, "watching; mirrors are worked on");
    health.ready(Arc::clone(&context));
    tokio::spawn(wake_on_recovery(Arc::clone(&context)));
    let work = queues
        .into_iter()
        .zip(ends)
        .map(|(queue, wake)| controller::work(queue, wake, stop.clone(), Arc::clone(&context)));
    join_all(work).await;
    if !stop.is_cancelled() {
        bail!("the work queues ended without being told to");
    }
    tracing::info!(target: "parameter_mirror", "stopped; the targets keep serving");
    Ok(())
}

/// When SSM answers again, every mirror is looked at: those whose reads failed are due at once.
async fn wake_on_recovery(context: Arc<Context>) {
    let mut recoveries = context.recoveries.clone();
    while recoveries.changed().await.is_ok() {
        for mirror in context.watches.every_mirror() {
            context.wakers.wake(mirror);
        }
    }
}

fn scopes(namespaces: &[String]) -> Vec<Option<String>> {
    let named: Vec<_> = namespaces.iter().filter(|name| !name.is_empty()).cloned().map(Some).collect();
    if named.is_empty() { vec![None] } else { named }
}

/// Waits for the definitions instead of crash-looping: they may be applied after us.
async fn wait_for_crds(client: &Client, scopes: &[Option<String>]) {
    let one = ListParams::default().limit(1);
    let mut told = false;
    loop {
        let mirrors: Api<Guarded<ParameterMirror>> = match scopes.first() {
            Some(Some(namespace)) => Api::namespaced(client.clone(), namespace),
            _ => Api::all(client.clone()),
        };
        let sources: Api<Guarded<ParameterSource>> = Api::all(client.clone());
        let served = match (within(mirrors.list(&one)).await, within(sources.list(&one)).await) {
            (Ok(_), Ok(_)) => return,
            (Err(problem), _) | (_, Err(problem)) => problem,
        };
        if !std::mem::replace(&mut told, true) {
            let hint = match served {
                KubeProblem::NotFound => "apply crds/",
                KubeProblem::Refused { .. } => "check the service account's rights",
                _ => "is it up, and is the network open?",
            };
            tracing::warn!(target: "parameter_mirror", problem = %served, "ParameterMirror and ParameterSource cannot be listed yet; {hint}. Waiting.");
        }
        tokio::time::sleep(RETRY).await;
    }
}

/// The UID of kube-system stays the same as long as the cluster does.
async fn cluster_name(client: &Client, given: Option<String>) -> String {
    if let Some(name) = given {
        return name;
    }
    let namespaces: Api<PartialObjectMeta<Namespace>> = Api::all(client.clone());
    loop {
        match within(namespaces.get_metadata("kube-system")).await.map(|namespace| namespace.uid()) {
            Ok(Some(uid)) => return uid,
            Ok(None) | Err(_) => tokio::time::sleep(RETRY).await,
        }
    }
}
