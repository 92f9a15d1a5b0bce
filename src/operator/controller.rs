//! The work queues: which mirror is looked at when, and what happens around one pass.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use kube::runtime::controller::{self, Action, Config};
use kube::runtime::reflector::ObjectRef;
use kube::runtime::{Controller, WatchStreamExt, reflector, watcher};
use kube::{Api, Client, ResourceExt};
use tokio_util::sync::CancellationToken;

use crate::api::ParameterMirror;

use super::context::Context;
use super::reconcile::reconcile;
use super::undecodable;
use super::watches::{self, Guarded, Wakes};

/// How many mirrors are worked on at once. A pass never waits for SSM, so more would only pile requests up at the API
/// server, which then misses the deadlines of all of them (1,000 new mirrors took 40 s instead of 6).
const PASSES: u16 = 32;

/// One work queue: the mirrors of one namespace, or of all.
#[must_use]
pub fn queue(client: &Client, scope: Option<&str>) -> Controller<Guarded<ParameterMirror>> {
    let api = match scope {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    };
    // As `Controller::new` does it, but without who wrote which field: that is half of what a mirror weighs.
    let (reader, writer) = reflector::store();
    let mirrors = watcher(api, watches::config()).modify(|mirror: &mut Guarded<ParameterMirror>| {
        mirror.managed_fields_mut().clear();
    });
    let mirrors = reflector(writer, mirrors).default_backoff().applied_objects();
    Controller::for_stream(mirrors, reader)
}

/// Works until `stop`; a pass that has begun is finished.
pub async fn work(
    queue: Controller<Guarded<ParameterMirror>>,
    wake: Wakes,
    stop: CancellationToken,
    ctx: Arc<Context>,
) {
    queue
        .with_config(Config::default().concurrency(PASSES))
        .reconcile_on(wake)
        .graceful_shutdown_on(async move { stop.cancelled().await })
        .run(pass, |_, _, _| Action::requeue(Duration::from_secs(30)), Arc::clone(&ctx))
        .for_each(|outcome| {
            // Other errors of the queue (a watch that is retried) need no attention.
            if let Err(controller::Error::ObjectNotFound(gone)) = outcome {
                let mut mirror = ObjectRef::new(&gone.name);
                mirror.namespace = gone.namespace;
                ctx.memories.forget(&mirror);
            }
            std::future::ready(())
        })
        .await;
}

async fn pass(
    mirror: Arc<Guarded<ParameterMirror>>,
    ctx: Arc<Context>,
) -> Result<Action, std::convert::Infallible> {
    Ok(match &mirror.0 {
        Ok(mirror) => reconcile(mirror, &ctx).await,
        Err(invalid) => undecodable::report(invalid, &ctx).await,
    })
}
