//! Whether work goes on. An operator that hangs looks alive from outside: it serves its endpoints, and nothing happens
//! (kubernetes-external-secrets did so for hours). So each mirror has a time by which something must have happened to it.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use kube::runtime::controller::Action;
use kube::runtime::reflector::ObjectRef;

use crate::api::ParameterMirror;

/// The longest that one pass may take; every call in it has a shorter deadline of its own.
pub const PASS: Duration = Duration::from_mins(2);
/// How long after its time something may still happen.
const GRACE: Duration = Duration::from_mins(1);

/// When a mirror is looked at next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// After this time, or when something changes.
    After(Duration),
    /// When something changes.
    OnChange,
}

impl From<Next> for Action {
    fn from(next: Next) -> Self {
        match next {
            Next::After(pause) => Self::requeue(pause),
            Next::OnChange => Self::await_change(),
        }
    }
}

/// By when something must have happened to each mirror; times since the process started.
#[derive(Default)]
pub struct Progress(Mutex<HashMap<ObjectRef<ParameterMirror>, Duration>>);

impl Progress {
    /// A pass begins: it ends in time.
    pub fn begins(&self, mirror: &ObjectRef<ParameterMirror>, now: Duration) {
        self.expect(mirror, now + PASS);
    }

    /// A pass has ended.
    pub fn ended(&self, mirror: &ObjectRef<ParameterMirror>, next: Next, now: Duration) {
        match next {
            Next::After(pause) => self.expect(mirror, now + pause),
            Next::OnChange => self.forget(mirror),
        }
    }

    /// Nothing is expected of a mirror any more.
    pub fn forget(&self, mirror: &ObjectRef<ParameterMirror>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(mirror);
    }

    /// How long the first of the mirrors has been overdue, if that is too long.
    #[must_use]
    pub fn stuck_for(&self, now: Duration) -> Option<Duration> {
        let expected = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let overdue = expected.values().map(|by| now.saturating_sub(*by)).max()?;
        (overdue > GRACE).then_some(overdue)
    }

    fn expect(&self, mirror: &ObjectRef<ParameterMirror>, by: Duration) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(mirror.clone(), by);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    #[test]
    fn a_pass_that_does_not_end_and_one_that_does_not_begin_are_noticed_within_three_minutes() {
        let (progress, mirror) = (Progress::default(), ObjectRef::new("app"));
        progress.begins(&mirror, secs(0));
        assert_eq!(progress.stuck_for(secs(180)), None);
        assert_eq!(progress.stuck_for(secs(181)), Some(secs(61)));
        progress.ended(&mirror, Next::After(secs(30)), secs(181));
        assert_eq!(progress.stuck_for(secs(181 + 90)), None);
        assert!(progress.stuck_for(secs(181 + 91)).is_some());
    }

    #[test]
    fn who_waits_for_a_change_is_not_stuck() {
        let (progress, mirror) = (Progress::default(), ObjectRef::new("app"));
        progress.begins(&mirror, secs(0));
        progress.ended(&mirror, Next::OnChange, secs(1));
        assert_eq!(progress.stuck_for(secs(100_000)), None);
        progress.begins(&mirror, secs(0));
        progress.forget(&mirror);
        assert_eq!(progress.stuck_for(secs(100_000)), None);
    }
}
