//! Whether work goes on. An operator that hangs looks alive from outside: it serves its endpoints, and nothing happens
//! (kubernetes-external-secrets did so for hours).
//!
//! A slow API server or a long queue is not a stop: reconciles take long then, and mirrors wait, but reconciles end.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::time::Duration;

use kube::runtime::controller::Action;
use kube::runtime::reflector::ObjectRef;
use tracing_mutex::parkinglot::Mutex;

use crate::api::ParameterMirror;

/// The longest that one reconcile may take; every call in it has a shorter deadline of its own.
pub const PASS: Duration = Duration::from_mins(2);
/// How much longer than [`PASS`] nothing may end.
const GRACE: Duration = Duration::from_mins(1);

/// When a mirror is reconciled next.
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

/// Why nothing goes on any more.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Stall {
    /// A reconcile neither ends nor runs into its deadline.
    #[error("the reconcile of {mirror} has been in step {step} for {} s", .since.as_secs())]
    Reconcile {
        /// `namespace/name`.
        mirror: String,
        /// The step that it has not left.
        step: &'static str,
        /// How long it has been running.
        since: Duration,
    },
    /// Mirrors are due, and none is reconciled.
    #[error("no reconcile has ended for {} s, although {due} mirrors are due", .since.as_secs())]
    Queue {
        /// How many mirrors are due.
        due: usize,
        /// How long ago a reconcile last ended.
        since: Duration,
    },
}

/// What is reconciled now, and what is due when; times since the process started.
#[derive(Default)]
pub struct Progress(Mutex<State>);

#[derive(Default)]
struct State {
    running: HashMap<ObjectRef<ParameterMirror>, Running>,
    due: HashMap<ObjectRef<ParameterMirror>, Duration>,
    /// When a reconcile last ended.
    ended_at: Duration,
}

#[derive(Clone, Copy)]
struct Running {
    since: Duration,
    step: &'static str,
}

impl Progress {
    /// Nothing is due yet. `now` counts as the last end of a reconcile.
    #[must_use]
    pub fn new(now: Duration) -> Self {
        Self(Mutex::new(State { ended_at: now, ..State::default() }))
    }

    /// A reconcile begins.
    pub fn begins(&self, mirror: &ObjectRef<ParameterMirror>, now: Duration) {
        self.0.lock().begins(mirror, now);
    }

    /// A reconcile enters a step.
    pub fn enters(&self, mirror: &ObjectRef<ParameterMirror>, step: &'static str) {
        self.0.lock().enters(mirror, step);
    }

    /// A reconcile has ended.
    pub fn ended(&self, mirror: &ObjectRef<ParameterMirror>, next: Next, now: Duration) {
        self.0.lock().ended(mirror, next, now);
    }

    /// The mirror is gone.
    pub fn forget(&self, mirror: &ObjectRef<ParameterMirror>) {
        self.0.lock().forget(mirror);
    }

    /// Why nothing goes on any more, if so.
    #[must_use]
    pub fn stall(&self, now: Duration) -> Option<Stall> {
        self.0.lock().stall(now)
    }

    /// The reconciles that run, one a line, the oldest first.
    #[must_use]
    pub fn running(&self, now: Duration) -> String {
        let mut running = self.0.lock().running();
        running.sort_by_key(|(_, running)| running.since);
        running.iter().fold(String::new(), |mut text, (mirror, Running { since, step })| {
            let _ = writeln!(text, "  {mirror}: {step}, for {} s", now.saturating_sub(*since).as_secs());
            text
        })
    }
}

impl State {
    fn begins(&mut self, mirror: &ObjectRef<ParameterMirror>, now: Duration) {
        self.due.remove(mirror);
        self.running.insert(mirror.clone(), Running { since: now, step: "plan" });
    }

    fn enters(&mut self, mirror: &ObjectRef<ParameterMirror>, step: &'static str) {
        if let Some(running) = self.running.get_mut(mirror) {
            running.step = step;
        }
    }

    fn ended(&mut self, mirror: &ObjectRef<ParameterMirror>, next: Next, now: Duration) {
        self.ended_at = self.ended_at.max(now);
        self.running.remove(mirror);
        match next {
            Next::After(pause) => self.due.insert(mirror.clone(), now.saturating_add(pause)),
            Next::OnChange => self.due.remove(mirror),
        };
    }

    fn forget(&mut self, mirror: &ObjectRef<ParameterMirror>) {
        self.running.remove(mirror);
        self.due.remove(mirror);
    }

    fn stall(&self, now: Duration) -> Option<Stall> {
        let longest = self.running.iter().min_by_key(|(_, running)| running.since);
        if let Some((mirror, running)) = longest {
            let since = now.saturating_sub(running.since);
            if since > PASS + GRACE {
                return Some(Stall::Reconcile { mirror: named(mirror), step: running.step, since });
            }
        }
        let due = self.due.values().filter(|due| now.saturating_sub(**due) > PASS + GRACE).count();
        let since = now.saturating_sub(self.ended_at);
        (due > 0 && since > PASS + GRACE).then_some(Stall::Queue { due, since })
    }

    fn running(&self) -> Vec<(String, Running)> {
        self.running.iter().map(|(mirror, running)| (named(mirror), *running)).collect()
    }
}

fn named(mirror: &ObjectRef<ParameterMirror>) -> String {
    format!("{}/{}", mirror.namespace.as_deref().unwrap_or_default(), mirror.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    fn mirror(name: &str) -> ObjectRef<ParameterMirror> {
        ObjectRef::new(name).within("shop")
    }

    #[test]
    fn a_reconcile_that_does_not_end_is_a_stall_and_its_step_is_named() {
        let progress = Progress::default();
        progress.begins(&mirror("app"), secs(10));
        progress.enters(&mirror("app"), "publish");
        assert_eq!(progress.running(secs(40)), "  shop/app: publish, for 30 s\n");
        assert_eq!(progress.stall(secs(190)), None);
        let stall = progress.stall(secs(191)).unwrap();
        assert_eq!(stall.to_string(), "the reconcile of shop/app has been in step publish for 181 s");
        progress.ended(&mirror("app"), Next::OnChange, secs(191));
        assert_eq!(progress.stall(secs(100_000)), None, "nothing is due");
    }

    #[test]
    fn a_queue_that_gives_out_nothing_that_is_due_is_a_stall() {
        let progress = Progress::default();
        progress.begins(&mirror("app"), secs(0));
        progress.ended(&mirror("app"), Next::After(secs(30)), secs(1));
        assert_eq!(progress.stall(secs(1 + 30 + 180)), None);
        let stall = progress.stall(secs(1 + 30 + 181)).unwrap();
        assert_eq!(stall.to_string(), "no reconcile has ended for 211 s, although 1 mirrors are due");
        progress.forget(&mirror("app"));
        assert_eq!(progress.stall(secs(100_000)), None);
    }

    /// With an API server that takes three seconds for an answer, a thousand mirrors wait for minutes; one after the other ends.
    #[test]
    fn a_long_queue_is_no_stall_as_long_as_reconciles_end() {
        let progress = Progress::default();
        progress.ended(&mirror("waits"), Next::After(secs(0)), secs(0));
        for second in (0..3_600).step_by(100) {
            progress.begins(&mirror("slow"), secs(second));
            assert_eq!(progress.stall(secs(second + 99)), None);
            progress.ended(&mirror("slow"), Next::After(secs(30)), secs(second + 99));
        }
    }
}
