//! The work queues: which mirror is looked at when, and what happens around one pass.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::{FutureExt, StreamExt};
use kube::runtime::controller::{self, Action, Config};
use kube::runtime::reflector::ObjectRef;
use kube::runtime::{Controller, WatchStreamExt, reflector, watcher};
use kube::{Api, Client, ResourceExt};
use tokio_util::sync::CancellationToken;

use crate::api::ParameterMirror;

use super::context::Context;
use super::progress::{Next, PASS};
use super::reconcile::reconcile;
use super::undecodable;
use super::watches::{self, Guarded, Wakes};

/// How many mirrors are worked on at once. A pass never waits for SSM, so more would only pile requests up at the API
/// server, which then misses the deadlines of all of them (1,000 new mirrors took 40 s instead of 6).
const PASSES: u16 = 32;

/// What annotations that mean something to the operator begin with.
const OURS: &str = "parameter-mirror.dev/";

/// How long a mirror rests whose pass broke.
const AFTER_BREAK: Duration = Duration::from_secs(30);

/// One work queue: the mirrors of one namespace, or of all.
#[must_use]
pub fn queue(client: &Client, scope: Option<&str>) -> Controller<Guarded<ParameterMirror>> {
    let api = match scope {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    };
    // As `Controller::new` does it, but without who wrote which field: that is half of what a mirror weighs. And without annotations
    // that are not for us: a tenant may hang 256 KiB of them on each of thousands of mirrors.
    let (reader, writer) = reflector::store();
    let mirrors = watcher(api, watches::config()).modify(|mirror: &mut Guarded<ParameterMirror>| {
        mirror.managed_fields_mut().clear();
        mirror.annotations_mut().retain(|name, _| name.starts_with(OURS));
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
                ctx.forget(&mirror);
            }
            std::future::ready(())
        })
        .await;
}

/// One pass, which can neither take the process down nor hold others up for ever.
async fn pass(
    mirror: Arc<Guarded<ParameterMirror>>,
    ctx: Arc<Context>,
) -> Result<Action, std::convert::Infallible> {
    let mut key = ObjectRef::new(&mirror.name_any());
    key.namespace = mirror.namespace();
    ctx.progress.begins(&key, ctx.clock.uptime());
    let look = AssertUnwindSafe(look(&mirror, &ctx)).catch_unwind();
    let next = match tokio::time::timeout(PASS, look).await {
        Ok(Ok(next)) => next,
        broken => {
            let how = if broken.is_ok() { "panicked" } else { "did not end in time" };
            let mirror = format!("{}/{}", key.namespace.as_deref().unwrap_or_default(), key.name);
            tracing::error!(target: "parameter_mirror", mirror, "a pass {how}; this is a fault of the operator. What is served stays as it is, and the mirror is looked at anew");
            ctx.metrics.pass_broke();
            // Whatever it left half done is learnt again from the targets.
            ctx.memories.forget(&key);
            Next::After(AFTER_BREAK)
        }
    };
    ctx.progress.ended(&key, next, ctx.clock.uptime());
    Ok(next.into())
}

async fn look(mirror: &Guarded<ParameterMirror>, ctx: &Arc<Context>) -> Next {
    match &mirror.0 {
        Ok(mirror) => reconcile(mirror, ctx).await,
        Err(invalid) => undecodable::report(invalid, ctx).await,
    }
}
