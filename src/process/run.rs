//! `parameter-mirror run`: creates the dependencies of the operator, runs it, and shuts it down in order.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use parameter_mirror_redis::{RedisArgs, RedisClient};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::cli::{RedisIamArgs, RunArgs};
use crate::kubernetes::client::{self, Cluster};
use crate::kubernetes::election::{Candidate, generated_identity};
use crate::process::admin::{self, Health};
use crate::process::listener;
use crate::process::operator::{Dependencies, OperatorConfig, operate};
use crate::process::redis_auth;
use crate::process::watchdog::{self, Pulse, Watchdog};
use crate::ssm::client::Aws;
use crate::targets::redis::RedisBackend;
use crate::targets::redis::RedisStore;
use parameter_mirror_clock::Clock;
use parameter_mirror_ssm::check_ca_bundle;
use parameter_mirror_ssm::credentials::OperatorIdentity;

/// How long reconciles under way may take after SIGTERM; Kubernetes kills the process after 30 s by default.
pub const DRAIN: Duration = Duration::from_secs(15);

const MIB: usize = 1 << 20;

/// Runs until SIGTERM or SIGINT.
pub async fn run(args: RunArgs) -> anyhow::Result<()> {
    let stop = shutdown_token()?;
    let metrics = listen(args.listen)?;
    let probes = listen(args.probe_listen)?;
    let health = Health::default();
    // The work runs in this task, and everything else in tasks of the runtime. The watchdog must notice a stop of either.
    let (work_pulse, runtime_pulse) = (Pulse::new("the operator"), Pulse::new("the async runtime"));
    let pulses = vec![work_pulse.clone(), runtime_pulse.clone()];
    let report = {
        let health = health.clone();
        move || health.report()
    };
    let _watchdog = Watchdog::start(watchdog::BOUND, pulses, report, watchdog::abort)?;
    tokio::spawn(runtime_pulse.beat(|| true));
    let is_well = {
        let health = health.clone();
        move || health.stall().is_none()
    };
    tracing::info!(address = %metrics.local_addr()?, "serving /metrics");
    tracing::info!(address = %probes.local_addr()?, "serving /livez and /readyz");
    tokio::spawn(listener::serve(metrics, admin::scrapes(health.clone())));
    tokio::spawn(listener::serve(probes, admin::probes(health.clone())));
    tokio::select! {
        outcome = work(args, health, stop.clone()) => outcome,
        () = work_pulse.beat(is_well) => Ok(()),
        () = async { stop.cancelled().await; tokio::time::sleep(DRAIN).await } => {
            tracing::warn!("reconciles in progress did not end in time; no write is partial");
            Ok(())
        }
    }
}

fn listen(address: SocketAddr) -> anyhow::Result<TcpListener> {
    listener::bind(address).with_context(|| format!("cannot listen on {address}"))
}

async fn work(args: RunArgs, health: Health, stop: CancellationToken) -> anyhow::Result<()> {
    check_ca_bundle()?;
    let clock = Clock::start();
    let base = OperatorIdentity::new(clock.clone());
    let dependencies = Dependencies {
        // First, so that an unsafe configuration is reported without any API server.
        redis: redis_edge(&args.redis, &args.redis_iam, &base).await?,
        client: client::connect(&Cluster::default()).await?,
        connect: Box::new(Aws::new(base)),
        clock,
    };
    let candidate = args.leader_elect.then(|| Candidate {
        namespace: args.keys.namespace.clone(),
        lease: args.lease.clone(),
        identity: args.identity.unwrap_or_else(generated_identity),
    });
    let config = OperatorConfig {
        candidate,
        lease: args.lease,
        namespace: args.keys.namespace,
        key_secret: args.keys.key_secret,
        watch_namespaces: args.watch_namespaces,
        cluster_name: args.cluster_name,
        redis_prefix: args.redis.redis_prefix,
        requests_per_second: args.ssm_requests_per_second,
        secret_watch: args.secret_watch,
        memory_values: args.memory_values.saturating_mul(MIB),
    };
    operate(dependencies, config, health, stop).await
}

/// Returns a token that SIGTERM or SIGINT cancels, to drain. A second signal ends the process at once.
fn shutdown_token() -> anyhow::Result<CancellationToken> {
    let stop = CancellationToken::new();
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let stopped = stop.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("stopping; the reconciles in progress are finished first");
        stopped.cancel();
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        std::process::exit(1);
    });
    Ok(stop)
}

/// A Redis that cannot be used is a condition of the mirrors that want it. Only a configuration that would be unsafe to
/// run with ends the process.
async fn redis_edge(
    args: &RedisArgs,
    iam: &RedisIamArgs,
    base: &OperatorIdentity,
) -> anyhow::Result<RedisBackend> {
    let Some(settings) = args.settings() else {
        return Ok(RedisBackend::NotConfigured(
            "this operator has no Redis. Give it --redis-url-file (chart: redis.urlSecret), or remove spec.redis.".to_owned(),
        ));
    };
    match redis_auth::settled(settings, iam, base).await {
        Ok(settings) => Ok(RedisBackend::Configured(Arc::new(RedisStore::new(RedisClient::new(settings))))),
        Err(error) => {
            tracing::warn!(%error, "Redis is not usable as configured; mirrors that want it say RedisNotConfigured");
            Ok(RedisBackend::NotConfigured(format!(
                "{error}. Correct the operator's Redis configuration and restart it."
            )))
        }
    }
}
