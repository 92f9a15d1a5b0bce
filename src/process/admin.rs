//! `/livez`, `/readyz` and `/metrics`. An outage of SSM or Redis fails none of them: restarting helps nobody then.

use std::fmt::Write as _;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use tracing_mutex::parkinglot::Mutex;

use crate::controller::context::Context;
use crate::kubernetes::queue::Stall;
use crate::metrics::exposition::Format;
use crate::metrics::gauges::GaugeValues;
use crate::metrics::registry::Metrics;
use crate::process::watchdog::{self, Section};
use crate::ssm::limiter::{AccountKey, AccountState};

/// What the endpoints speak of.
#[derive(Clone, Default)]
pub struct Health(Arc<Mutex<HealthState>>);

#[derive(Clone, Default)]
struct HealthState {
    metrics: Option<Arc<Metrics>>,
    /// Of the term, while there is one.
    context: Option<Arc<Context>>,
}

impl Health {
    /// Everything is there that leading needs.
    pub fn set_ready(&self, metrics: Arc<Metrics>) {
        self.0.lock().metrics = Some(metrics);
    }

    /// The watches hold what was there and mirrors are being worked on.
    pub fn set_leading(&self, context: Arc<Context>) {
        let before = self.0.lock().context.replace(context);
        drop(before);
    }

    /// Somebody else works on the mirrors, or nobody.
    pub fn set_standby(&self) {
        let context = self.0.lock().context.take();
        // Outside the lock: this may be the last of everything that the term has known.
        drop(context);
        if let Some(metrics) = self.known().metrics {
            metrics.forget_all();
        }
    }

    fn known(&self) -> HealthState {
        self.0.lock().clone()
    }
}

/// What the kubelet asks. It has a listener of its own: who may scrape metrics must not be able to keep probes out.
pub fn probes(health: Health) -> Router {
    Router::new().route("/livez", get(livez)).route("/readyz", get(readyz)).with_state(health)
}

/// What Prometheus asks.
pub fn scrapes(health: Health) -> Router {
    Router::new().route("/metrics", get(metrics)).with_state(health)
}

impl Health {
    /// Why nothing goes on any more, if so.
    #[must_use]
    pub fn stall(&self) -> Option<Stall> {
        let context = self.known().context?;
        context.queue.stall()
    }

    /// What the operator waits for, for the message with which the process ends if it has stopped.
    #[must_use]
    pub fn report(&self) -> Vec<Section> {
        let mut sections: Vec<Section> = vec![("threads", Box::new(watchdog::threads))];
        let this = self.clone();
        sections.push((
            "reconciles",
            Box::new(move || {
                let running = this.known().context.map(|context| context.queue.running());
                running.unwrap_or_else(|| "  none; this operator does not lead\n".to_owned())
            }),
        ));
        let this = self.clone();
        sections.push((
            "SSM",
            Box::new(move || {
                let accounts = this.known().context.map(|context| context.ssm.accounts()).unwrap_or_default();
                accounts.iter().fold(String::new(), |mut text, AccountState { key, breaker, waiting, .. }| {
                    let AccountKey { account, region } = key;
                    let _ = writeln!(
                        text,
                        "  {account} {region}: breaker {}, {waiting} requests wait",
                        breaker.as_str()
                    );
                    text
                })
            }),
        ));
        sections
    }
}

async fn livez(State(health): State<Health>) -> impl IntoResponse {
    match health.stall() {
        None => (StatusCode::OK, "ok\n".to_owned()),
        Some(stall) => (StatusCode::SERVICE_UNAVAILABLE, format!("no progress: {stall}\n")),
    }
}

async fn readyz(State(health): State<Health>) -> impl IntoResponse {
    if health.known().metrics.is_some() {
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
    let HealthState { metrics, context } = health.known();
    let values = context.map(|context| GaugeValues {
        mirrors: context.watches.mirrors(),
        states: context.watches.states(),
        accounts: context.ssm.accounts(),
        values_bytes: context.values.held(),
        credentials: context.ssm.credentials(&context.watches.identities()),
        now: context.clock.now(),
    });
    let text = metrics.map_or_else(|| "# EOF\n".to_owned(), |metrics| metrics.text(values.as_ref()));
    ([(header::CONTENT_TYPE, format.content_type())], format.write(text))
}
