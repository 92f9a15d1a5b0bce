//! Reconciles the mirrors that are due, a bounded number at a time.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use kube::core::DeserializeGuard;
use kube::runtime::reflector::ObjectRef;
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use crate::api::ParameterMirror;
use crate::controller::context::Context;
use crate::controller::invalid_object;
use crate::controller::reconcile::reconcile;
use crate::kubernetes::queue::{RECONCILE, RECONCILES, Requeue};

/// How long a mirror backs off after its reconcile panicked or exceeded its deadline.
const PANIC_BACKOFF: Duration = Duration::from_secs(30);

/// Reconciles until `stop` is cancelled, then waits for the reconciles under way.
pub async fn work(stop: CancellationToken, ctx: Arc<Context>) {
    let mut running = FuturesUnordered::new();
    while !stop.is_cancelled() {
        while running.len() < RECONCILES
            && let Some(mirror) = ctx.queue.next()
        {
            running.push(reconcile_one(mirror, Arc::clone(&ctx)));
        }
        let has_slot = running.len() < RECONCILES;
        tokio::select! {
            () = stop.cancelled() => {}
            Some(()) = running.next() => {}
            () = ctx.queue.changed(), if has_slot => {}
        }
    }
    while running.next().await.is_some() {}
}

/// Reconciles one mirror. Catches a panic and enforces the deadline, so that one mirror neither ends the process nor blocks others.
async fn reconcile_one(key: Arc<ObjectRef<ParameterMirror>>, ctx: Arc<Context>) {
    let Some(mirror) = ctx.watches.mirror(&key) else {
        ctx.forget(&key);
        return ctx.queue.finished(&key, Requeue::OnChange);
    };
    // At the highest level, so that the lines inside carry the span's fields whatever the filter says.
    let span = tracing::error_span!(
        "reconcile",
        namespace = key.namespace,
        mirror = key.name,
        source = tracing::field::Empty,
        cycle = tracing::field::Empty
    );
    let began = ctx.clock.uptime();
    let reconciled = AssertUnwindSafe(dispatch(&mirror, &ctx)).catch_unwind().instrument(span.clone());
    let next = match tokio::time::timeout(RECONCILE, reconciled).await {
        Ok(Ok(next)) => next,
        broken => {
            let how = if broken.is_ok() { "panicked" } else { "did not end in time" };
            let _entered = span.enter();
            tracing::error!(
                "the reconcile {how}; this is a fault of the operator. What is served stays as it is, and the mirror is reconciled again in {} s",
                PANIC_BACKOFF.as_secs()
            );
            ctx.metrics.reconcile_panicked();
            // The reconcile may have stopped halfway. The next one observes the targets to find out what was written.
            ctx.states.forget(&key);
            Requeue::After(PANIC_BACKOFF)
        }
    };
    ctx.metrics.latencies.reconciled(ctx.clock.uptime().saturating_sub(began));
    ctx.queue.finished(&key, next);
}

async fn dispatch(mirror: &DeserializeGuard<ParameterMirror>, ctx: &Arc<Context>) -> Requeue {
    match &mirror.0 {
        Ok(mirror) => reconcile(mirror, ctx).await,
        Err(invalid) => invalid_object::report(invalid, ctx).await,
    }
}
