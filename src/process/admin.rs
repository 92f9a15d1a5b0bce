//! `/livez`, `/readyz` and `/metrics`. An outage of SSM or Redis fails none of them: a restart would not help.

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

/// The state that the endpoints report on.
#[derive(Clone, Default)]
pub struct Health(Arc<Mutex<HealthState>>);

#[derive(Clone, Default)]
struct HealthState {
    metrics: Option<Arc<Metrics>>,
    /// The context of the current term, if there is one.
    context: Option<Arc<Context>>,
}

impl Health {
    /// Reports ready: the operator has everything that it needs to lead.
    pub fn set_ready(&self, metrics: Arc<Metrics>) {
        self.0.lock().metrics = Some(metrics);
    }

    /// Reports leading: the watches hold the initial lists, and mirrors are reconciled.
    pub fn set_leading(&self, context: Arc<Context>) {
        let before = self.0.lock().context.replace(context);
        drop(before);
    }

    /// Reports standby: another operator reconciles the mirrors, or none does.
    pub fn set_standby(&self) {
        let context = self.0.lock().context.take();
        // Outside the lock: this may drop everything that the term has learnt.
        drop(context);
        if let Some(metrics) = self.known().metrics {
            metrics.forget_all();
        }
    }

    fn known(&self) -> HealthState {
        self.0.lock().clone()
    }
}

/// Serves the kubelet. Probes have a listener of their own: a client that may scrape metrics must not be able to block them.
pub fn probes(health: Health) -> Router {
    Router::new().route("/livez", get(livez)).route("/readyz", get(readyz)).with_state(health)
}

/// Serves Prometheus.
pub fn scrapes(health: Health) -> Router {
    Router::new().route("/metrics", get(metrics)).with_state(health)
}

impl Health {
    /// Returns why the operator makes no progress, if it makes none.
    #[must_use]
    pub fn stall(&self) -> Option<Stall> {
        let context = self.known().context?;
        context.queue.stall()
    }

    /// Returns what the operator waits for, for the message with which the watchdog ends the process.
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
        (StatusCode::SERVICE_UNAVAILABLE, "waiting for the API server, the CRDs or the key Secret\n")
    }
}

async fn metrics(State(health): State<Health>, headers: HeaderMap) -> impl IntoResponse {
    let format = Format::asked(headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok()));
    let HealthState { metrics, context } = health.known();
    let values = context.map(|context| GaugeValues {
        mirrors: context.watches.mirrors(),
        states: context.watches.states(),
        sources: context.watches.source_states(),
        queue_depth: context.queue.depth(),
        accounts: context.ssm.accounts(),
        values_bytes: context.values.held(),
        credentials: context.ssm.credentials(&context.watches.identities()),
        now: context.clock.now(),
    });
    let text = metrics.map_or_else(|| "# EOF\n".to_owned(), |metrics| metrics.text(values.as_ref()));
    ([(header::CONTENT_TYPE, format.content_type())], format.write(text))
}
