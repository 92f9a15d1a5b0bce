//! `parameter-mirror run`: from arguments to a working operator, and down again in order.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use futures::future::join_all;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{Api, ListParams};
use kube::core::PartialObjectMeta;
use kube::{Client, Config, ResourceExt};
use parameter_mirror_format::connection::{Link, RedisSettings, Setting};
use parameter_mirror_format::value::Value;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::api::{ParameterMirror, ParameterSource};
use crate::cli::{RedisArgs, RunArgs};
use crate::ssm::{ParameterReader, SsmReader};
use crate::targets::redis::HashStore;
use crate::targets::secret::{KubeProblem, SecretStore, within};

use super::admin::{self, Health};
use super::clock::Clock;
use super::context::{Context, RedisEdge, Settings};
use super::controller;
use super::events::Events;
use super::keys::{self, KeySecret};
use super::memory::Memories;
use super::metrics::Metrics;
use super::said::Said;
use super::watches::{Guarded, Wakers, Watches};

const RETRY: Duration = Duration::from_secs(2);
/// How long passes under way may take after SIGTERM; Kubernetes kills after 30 s by default.
const DRAIN: Duration = Duration::from_secs(15);

/// Runs until SIGTERM or SIGINT.
pub async fn run(args: RunArgs) -> anyhow::Result<()> {
    let stop = stop_on_signal()?;
    let listener =
        TcpListener::bind(args.listen).await.with_context(|| format!("cannot listen on {}", args.listen))?;
    tracing::info!(target: "parameter_mirror", address = %listener.local_addr()?, "serving /livez, /readyz and /metrics");
    let health = Health::default();
    tokio::spawn(admin::serve(listener, health.clone()));
    tokio::select! {
        outcome = operate(args, health, stop.clone()) => outcome,
        () = async { stop.cancelled().await; tokio::time::sleep(DRAIN).await } => {
            tracing::warn!(target: "parameter_mirror", "passes under way did not end in time; every write is whole all the same");
            Ok(())
        }
    }
}

async fn operate(args: RunArgs, health: Health, stop: CancellationToken) -> anyhow::Result<()> {
    let redis = redis_edge(&args.redis)?;
    let client = client().await?;
    let scopes = scopes(&args.watch_namespaces);
    let prepared = async {
        wait_for_crds(&client, &scopes).await;
        let cluster = cluster_name(&client, args.cluster_name.clone()).await;
        let secret = KeySecret {
            namespace: args.namespace.clone(),
            name: args.key_secret.clone(),
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
    let ssm = Arc::new(SsmReader::new(args.ssm_requests_per_second));
    let context = Arc::new(Context {
        settings: Settings { cluster, redis_prefix: args.redis.redis_prefix.clone() },
        clock: Clock::start(),
        secrets: SecretStore::new(client.clone()),
        redis,
        recoveries: ssm.recoveries(),
        ssm,
        key_watch,
        watches: Watches::start(&client, &scopes, stores, &wakers),
        wakers,
        memories: Memories::default(),
        said_of_sources: Said::default(),
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

/// SIGTERM and SIGINT drain; a second one is left to the system.
fn stop_on_signal() -> anyhow::Result<CancellationToken> {
    let stop = CancellationToken::new();
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let told = stop.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!(target: "parameter_mirror", "stopping: passes under way are finished");
        told.cancel();
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        std::process::exit(1);
    });
    Ok(stop)
}

/// The API server of the pod or the kubeconfig. The client's own retries can take minutes; ours go through the queue.
async fn client() -> anyhow::Result<Client> {
    let mut config =
        Config::infer().await.context("no API server: neither in a pod nor with a kubeconfig")?;
    config.default_retry = false;
    config.connect_timeout = Some(Duration::from_secs(5));
    // HTTPS_PROXY is for AWS; kube takes it for itself too, and knows no NO_PROXY.
    config.proxy_url = None;
    Client::try_from(config).context("the Kubernetes client cannot be built")
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

/// A Redis that cannot be used is a condition of the mirrors that want it. Only what would be unsafe to run
/// with ends the process.
fn redis_edge(args: &RedisArgs) -> anyhow::Result<RedisEdge> {
    let file = |path: &Path| Setting::File(path.to_owned());
    let url = match (&args.redis_url, &args.redis_url_file) {
        (Some(url), _) if has_password(url) => bail!(
            "a password in --redis-url would be visible in the process list.\n       Put the URL into a file and give \
             --redis-url-file, or set PARAMETER_MIRROR_REDIS_URL_FILE."
        ),
        (Some(url), _) => Setting::Value(Value::new(url.clone())),
        (None, Some(path)) => file(path),
        (None, None) => {
            return Ok(RedisEdge::NotConfigured(
                "this operator has no Redis. Give it --redis-url-file (chart: redis.urlSecret), or remove spec.redis.".to_owned(),
            ));
        }
    };
    let mut settings = RedisSettings::new(url);
    settings.username = args.redis_username.clone().map(|username| Setting::Value(Value::new(username)));
    settings.password = args.redis_password_file.as_deref().map(file);
    settings.ca = args.redis_ca_file.as_deref().map(file);
    settings.client_cert = args.redis_cert_file.as_deref().map(file);
    settings.client_key = args.redis_key_file.as_deref().map(file);
    if let Err(error) = settings.check() {
        tracing::warn!(target: "parameter_mirror", %error, "Redis is not usable as configured; mirrors that want it say RedisNotConfigured");
        return Ok(RedisEdge::NotConfigured(format!(
            "{error}. Correct the operator's Redis configuration and restart it."
        )));
    }
    Ok(RedisEdge::Configured(HashStore::new(Link::new(settings))))
}

fn has_password(url: &str) -> bool {
    url.split_once("://")
        .and_then(|(_, rest)| rest.split('/').next()?.rsplit_once('@'))
        .is_some_and(|(credentials, _)| credentials.contains(':'))
}
