//! How long requests and reconciles take, as histograms. Each counts what failed too.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use crate::metrics::register::register;
use crate::mirror::snapshot::ReadError;
use crate::mirror::target::TargetKind;

/// SSM answers in 20 to 200 ms, and an operation may take 20 s.
const REQUESTS: [f64; 10] = [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 20.0];
/// Redis answers in a millisecond, and a command may take 5 s.
const COMMANDS: [f64; 10] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0];
/// From a reconcile that only looks at targets to one that waits for the API server and Redis.
const RECONCILES: [f64; 9] = [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0];
/// From the shortest interval to the longest.
const DELAYS: [f64; 10] = [5.0, 15.0, 30.0, 60.0, 300.0, 600.0, 1_800.0, 3_600.0, 21_600.0, 86_400.0];

type Histograms<L> = Family<L, Histogram, fn() -> Histogram>;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    operation: &'static str,
    code: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CommandLabels {
    command: &'static str,
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DelayLabels {
    target: &'static str,
}

/// The histograms of the operator.
#[derive(Clone)]
pub struct Latencies {
    requests: Histograms<RequestLabels>,
    commands: Histograms<CommandLabels>,
    /// Without a series until the first command.
    redis_up: Family<Vec<(String, String)>, Gauge>,
    reconciles: Histogram,
    delays: Histograms<DelayLabels>,
}

impl Latencies {
    /// Creates the histograms and registers them.
    pub(super) fn new(registry: &mut Registry) -> Self {
        let this = Self {
            requests: Family::new_with_constructor(|| Histogram::new(REQUESTS)),
            commands: Family::new_with_constructor(|| Histogram::new(COMMANDS)),
            redis_up: register("redis_up", "1 if Redis answered the last command, else 0", registry),
            reconciles: Histogram::new(RECONCILES),
            delays: Family::new_with_constructor(|| Histogram::new(DELAYS)),
        };
        let help =
            "Requests to SSM, failed ones too, by operation and code: OK, or the reason of the failure";
        registry.register_with_unit("ssm_request_duration", help, Unit::Seconds, this.requests.clone());
        let help = "Commands to Redis, failed ones too, by command and result";
        registry.register_with_unit("redis_command_duration", help, Unit::Seconds, this.commands.clone());
        let help = "Reconciles of one mirror";
        registry.register_with_unit("reconcile_duration", help, Unit::Seconds, this.reconciles.clone());
        let help = "From a change in SSM to the target that holds it";
        registry.register_with_unit("publish_delay", help, Unit::Seconds, this.delays.clone());
        this
    }

    /// Records one request to SSM.
    pub fn request<T>(&self, operation: &'static str, took: Duration, outcome: &Result<T, ReadError>) {
        let code = outcome.as_ref().map_or_else(|error| error.reason.as_str(), |_| "OK");
        self.requests.get_or_create(&RequestLabels { operation, code }).observe(took.as_secs_f64());
    }

    /// Records one command to Redis, and whether Redis answered it.
    pub fn command(&self, command: &'static str, took: Duration, has_failed: bool, is_up: bool) {
        let result = if has_failed { "error" } else { "ok" };
        self.commands.get_or_create(&CommandLabels { command, result }).observe(took.as_secs_f64());
        self.redis_up.get_or_create(&Vec::new()).set(is_up.into());
    }

    /// Records one reconcile.
    pub fn reconciled(&self, took: Duration) {
        self.reconciles.observe(took.as_secs_f64());
    }

    /// Records how long a change took from SSM to a target.
    pub fn published(&self, kind: TargetKind, delay: Duration) {
        self.delays.get_or_create(&DelayLabels { target: kind.label() }).observe(delay.as_secs_f64());
    }
}
