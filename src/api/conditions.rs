//! The conditions of mirrors and sources: their types, and the one place where a transition time is decided.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

/// Of a mirror: it has a set, whole and as young as its spec wants it.
pub const READY: &str = "Ready";
/// Of a mirror: something is wrong that may pass.
pub const DEGRADED: &str = "Degraded";
/// Of a mirror: nothing gets better until somebody changes the spec.
pub const STALLED: &str = "Stalled";
/// Of a source: it can be read.
pub const AVAILABLE: &str = "Available";

/// A condition by its type.
#[must_use]
pub fn find<'c>(conditions: &'c [Condition], type_: &str) -> Option<&'c Condition> {
    conditions.iter().find(|condition| condition.type_ == type_)
}

/// A condition with this state. Its transition time moves only when its status changes.
#[must_use]
pub fn set(
    previous: &[Condition],
    type_: &str,
    state: (&str, &str, String),
    generation: Option<i64>,
    now: Timestamp,
) -> Condition {
    let (status, reason, message) = state;
    let unchanged = find(previous, type_).filter(|before| before.status == status);
    Condition {
        type_: type_.to_owned(),
        status: status.to_owned(),
        reason: reason.to_owned(),
        message,
        observed_generation: generation,
        last_transition_time: unchanged.map_or(Time(now), |before| before.last_transition_time.clone()),
    }
}
