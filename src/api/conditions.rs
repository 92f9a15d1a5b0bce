//! The condition types of mirrors and sources, and the one function that sets a transition time.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

/// Condition of a mirror: the spec is valid and granted, and every target holds a complete set. Condition of a source: its
/// identity is not denied, whether or not SSM answers.
pub const READY: &str = "Ready";
/// Condition of a mirror: something is wrong that may resolve by itself.
pub const DEGRADED: &str = "Degraded";
/// Condition of a mirror: only a person can resolve the issue.
pub const STALLED: &str = "Stalled";
/// Condition of a source: mirrors can be read through it now.
pub const AVAILABLE: &str = "Available";
/// Condition of a mirror, present while its spec says so: nothing is read, written or restored.
pub const SUSPENDED: &str = "Suspended";

/// Finds a condition by its type.
#[must_use]
pub fn find<'c>(conditions: &'c [Condition], type_: &str) -> Option<&'c Condition> {
    conditions.iter().find(|condition| condition.type_ == type_)
}

/// Builds a condition with this state. Its transition time moves only when its status changes.
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
