//! `/livez`, `/readyz` and `/metrics`. An outage of SSM or Redis fails none of them: restarting helps nobody then.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::net::TcpListener;

use super::context::Context;
use super::exposition::Format;
use super::metrics::{Figures, Metrics};

/// What the endpoints speak of.
#[derive(Clone, Default)]
pub struct Health(Arc<Mutex<Known>>);

#[derive(Default)]
struct Known {
    metrics: Option<Arc<Metrics>>,
    /// Of the term, while there is one.
    context: Option<Arc<Context>>,
}

impl Health {
    /// Everything is there that leading needs.
    pub fn can_take_over(&self, metrics: Arc<Metrics>) {
        self.lock().metrics = Some(metrics);
    }

    /// The watches hold what was there and mirrors are being worked on.
    pub fn leads(&self, context: Arc<Context>) {
        self.lock().context = Some(context);
    }

    /// Somebody else works on the mirrors, or nobody.
    pub fn stands_by(&self) {
        let mut known = self.lock();
        known.context = None;
        if let Some(metrics) = &known.metrics {
            metrics.forget_all();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
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
        let context = self.lock().context.clone()?;
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
    if health.lock().metrics.is_some() {
        (StatusCode::OK, "ok\n")
    } else {
        (
            StatusCode::SERVICE_UNAVAILABLE,
            "waiting for the API server, the custom resource definitions or the key Secret\n",
        )
    }
}

async fn metrics(State(health): State<Health>, headers: HeaderMap) -> impl IntoResponse {
    let format = Format::asked(headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok()));
    let (metrics, context) = {
        let known = health.lock();
        (known.metrics.clone(), known.context.clone())
    };
    let figures = context.map(|context| Figures {
        mirrors: context.watches.mirrors(),
        states: context.watches.states(),
        places: context.ssm.places(),
        values_bytes: context.values.held(),
        credentials: context.ssm.credentials(&context.watches.identities()),
        now: context.clock.now(),
    });
    let text = metrics.map_or_else(|| "# EOF\n".to_owned(), |metrics| metrics.text(figures.as_ref()));
    ([(header::CONTENT_TYPE, format.content_type())], format.write(text))
}
