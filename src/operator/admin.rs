//! `/livez`, `/readyz` and `/metrics`. An outage of SSM or Redis fails none of them: restarting helps nobody then.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::net::TcpListener;

use super::context::Context;

/// What the endpoints speak of.
#[derive(Clone, Default)]
pub struct Health {
    started: Arc<AtomicBool>,
    context: Arc<std::sync::OnceLock<Arc<Context>>>,
}

impl Health {
    /// The watches hold what was there and mirrors are being worked on.
    pub fn ready(&self, context: Arc<Context>) {
        // Set once: the context lives as long as the process.
        let _ = self.context.set(context);
        self.started.store(true, Ordering::Release);
    }
}

/// Serves until the process ends.
pub async fn serve(listener: TcpListener, health: Health) {
    let router = Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(health);
    if let Err(error) = axum::serve(listener, router).await {
        tracing::error!(target: "parameter_mirror", %error, "the admin endpoints ended");
    }
}

impl Health {
    /// How long nothing has happened to a mirror to which something should have.
    #[must_use]
    pub fn stuck_for(&self) -> Option<Duration> {
        let context = self.context.get()?;
        context.progress.stuck_for(context.clock.uptime())
    }
}

async fn livez(State(health): State<Health>) -> impl IntoResponse {
    match health.stuck_for() {
        None => (StatusCode::OK, "ok\n".to_owned()),
        Some(stuck) => {
            let text = format!(
                "no progress: a mirror has not been looked at for {} s after its time\n",
                stuck.as_secs()
            );
            (StatusCode::SERVICE_UNAVAILABLE, text)
        }
    }
}

async fn readyz(State(health): State<Health>) -> impl IntoResponse {
    if health.started.load(Ordering::Acquire) {
        (StatusCode::OK, "ok\n")
    } else {
        (
            StatusCode::SERVICE_UNAVAILABLE,
            "waiting for the API server, the custom resource definitions or the key Secret\n",
        )
    }
}

async fn metrics(State(health): State<Health>) -> impl IntoResponse {
    let text = health.context.get().map_or_else(
        || "# EOF\n".to_owned(),
        |context| {
            let Context { watches, ssm, metrics, clock, .. } = &**context;
            metrics.text(watches.mirrors(), watches.degraded(), &ssm.places(), clock.now())
        },
    );
    ([(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], text)
}
