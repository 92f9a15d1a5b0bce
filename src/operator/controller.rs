//! The work queues: which mirror is looked at when, and what happens around one pass.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use kube::runtime::controller::{self, Action};
use kube::runtime::reflector::ObjectRef;
use kube::runtime::{Controller, watcher};
use kube::{Api, Client};
use tokio_util::sync::CancellationToken;

use crate::api::ParameterMirror;

use super::context::Context;
use super::reconcile::reconcile;
use super::undecodable;
use super::watches::{Guarded, Wakes};

/// One work queue: the mirrors of one namespace, or of all.
#[must_use]
pub fn queue(client: &Client, scope: Option<&str>) -> Controller<Guarded<ParameterMirror>> {
    let api = match scope {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    };
    Controller::new(api, watcher::Config::default())
}

/// Works until `stop`; a pass that has begun is finished.
pub async fn work(
    queue: Controller<Guarded<ParameterMirror>>,
    wake: Wakes,
    stop: CancellationToken,
    ctx: Arc<Context>,
) {
    queue
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
