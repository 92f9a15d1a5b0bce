//! The work queue: which mirror is reconciled when, and which one is next.
//!
//! Namespaces take turns. The mirrors of a namespace are served in the order in which they became due, those with a
//! changed target first. A mirror is in the queue once and is reconciled once at a time; adding it during its reconcile
//! asks for one more reconcile.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use kube::runtime::reflector::ObjectRef;
use tokio::sync::Notify;
use tracing_mutex::parkinglot::Mutex;

use crate::api::ParameterMirror;
use crate::fair_queue::FairQueue;
use parameter_mirror_clock::Clock;

/// How many mirrors are reconciled at once. A reconcile never waits for SSM, so more would only pile up requests at the
/// API server, which then misses the deadlines of all of them (1,000 new mirrors took 40 s instead of 6).
pub const RECONCILES: usize = 40;
/// How many of them may be of one namespace: if its Secrets take long to write, because of a webhook or a quota, other
/// namespaces still have slots.
const RECONCILES_OF_A_NAMESPACE: usize = 32;

/// Deadline of one reconcile; every call in it has a shorter deadline of its own.
pub const RECONCILE: Duration = Duration::from_mins(2);
/// How long beyond [`RECONCILE`] a lack of progress counts as a stall.
const GRACE: Duration = Duration::from_mins(1);

/// When a mirror is reconciled next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Requeue {
    /// After this time, or when something changes.
    After(Duration),
    /// Only when something changes.
    OnChange,
}

/// Why the operator makes no progress. An operator that hangs looks alive from outside: it serves its endpoints, and
/// nothing happens (kubernetes-external-secrets did so for hours). A slow API server or a long queue is not a stall: reconciles end.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Stall {
    /// A reconcile neither ends nor reaches its deadline.
    #[error("the reconcile of {mirror} has been in step {step} for {} s", .since.as_secs())]
    Reconcile {
        /// `namespace/name`.
        mirror: String,
        /// The step that it is in.
        step: &'static str,
        /// How long it has been running.
        since: Duration,
    },
    /// Mirrors are due, and none is reconciled.
    #[error("no reconcile has ended for {} s, although {due} mirrors are due", .since.as_secs())]
    Queue {
        /// How many mirrors are overdue.
        due: usize,
        /// How long ago a reconcile last ended.
        since: Duration,
    },
}

/// Why a mirror is due.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Urgency {
    /// Its Secret was changed or deleted: a reader may miss it.
    TargetChanged,
    /// Everything else.
    #[default]
    Routine,
}

/// The work queue of all watched namespaces.
pub struct Queue {
    state: Mutex<State>,
    added: Notify,
    clock: Clock,
}

type MirrorKey = ObjectRef<ParameterMirror>;

#[derive(Default)]
struct State {
    entries: HashMap<Arc<MirrorKey>, QueueEntry>,
    waiting: FairQueue<Urgency, (Arc<MirrorKey>, Position)>,
    /// The mirrors that are due later, by due time.
    resting: BTreeMap<(Duration, Position), Arc<MirrorKey>>,
    tickets: Position,
    /// The number of running reconciles of each namespace.
    running: HashMap<String, usize>,
    /// When a reconcile last ended.
    ended_at: Duration,
}

/// Identifies one placement of a mirror in the queue. A mirror that moves leaves its old placement behind.
type Position = u64;

#[derive(Clone, Copy)]
enum QueueEntry {
    Waiting { since: Duration, urgency: Urgency, ticket: Position },
    Running { since: Duration, step: &'static str, again: Option<Urgency> },
    Resting { due: Duration, ticket: Position },
}

impl Queue {
    /// Creates an empty queue. The current time counts as the last end of a reconcile.
    #[must_use]
    pub fn new(clock: Clock) -> Self {
        let state = State { ended_at: clock.uptime(), ..State::default() };
        Self { state: Mutex::new(state), added: Notify::new(), clock }
    }

    /// Makes the mirror due now.
    pub fn add(&self, mirror: &MirrorKey, urgency: Urgency) {
        let now = self.clock.uptime();
        self.state.lock().add(mirror, urgency, now);
        self.added.notify_one();
    }

    /// Takes the next mirror that is due, if there is one. Its reconcile begins.
    pub fn next(&self) -> Option<Arc<MirrorKey>> {
        let now = self.clock.uptime();
        self.state.lock().next(now)
    }

    /// Waits until [`next`](Self::next) may return a mirror. Only one task may wait.
    pub async fn changed(&self) {
        let now = self.clock.uptime();
        let rest = self.state.lock().rest(now);
        tokio::select! {
            () = self.added.notified() => {}
            () = tokio::time::sleep(rest.unwrap_or_default()), if rest.is_some() => {}
        }
    }

    /// Records that a reconcile enters a step.
    pub fn enter_step(&self, mirror: &MirrorKey, step: &'static str) {
        self.state.lock().enter_step(mirror, step);
    }

    /// Records that a reconcile has ended, and requeues its mirror.
    pub fn finished(&self, mirror: &MirrorKey, next: Requeue) {
        let now = self.clock.uptime();
        self.state.lock().finished(mirror, next, now);
    }

    /// Returns how many mirrors are due and wait for their reconcile.
    #[must_use]
    pub fn depth(&self) -> usize {
        self.state.lock().entries.values().filter(|entry| matches!(entry, QueueEntry::Waiting { .. })).count()
    }

    /// Returns why the operator makes no progress, if it makes none.
    #[must_use]
    pub fn stall(&self) -> Option<Stall> {
        let now = self.clock.uptime();
        self.state.lock().stall(now)
    }

    /// Lists the running reconciles, one a line, the oldest first.
    #[must_use]
    pub fn running(&self) -> String {
        let now = self.clock.uptime();
        let mut running = self.state.lock().under_way();
        running.sort();
        running.iter().fold(String::new(), |mut text, (since, mirror, step)| {
            let _ = writeln!(text, "  {mirror}: {step}, for {} s", now.saturating_sub(*since).as_secs());
            text
        })
    }
}

impl State {
    fn add(&mut self, mirror: &MirrorKey, urgency: Urgency, now: Duration) {
        match self.entries.get_mut(mirror) {
            Some(QueueEntry::Running { again, .. }) => {
                *again = Some(again.map_or(urgency, |asked| asked.min(urgency)));
            }
            Some(&mut QueueEntry::Waiting { since, urgency: asked, .. }) => {
                if urgency < asked {
                    self.wait(bare(mirror), urgency, since);
                }
            }
            Some(&mut QueueEntry::Resting { due, ticket }) => {
                let rested = self.resting.remove(&(due, ticket));
                self.wait(rested.unwrap_or_else(|| bare(mirror)), urgency, now);
            }
            None => self.wait(bare(mirror), urgency, now),
        }
    }

    fn wait(&mut self, mirror: Arc<MirrorKey>, urgency: Urgency, since: Duration) {
        self.tickets += 1;
        let namespace = mirror.namespace.as_deref().unwrap_or_default().into();
        self.waiting.push(&namespace, urgency, 0, (Arc::clone(&mirror), self.tickets));
        self.entries.insert(mirror, QueueEntry::Waiting { since, urgency, ticket: self.tickets });
    }

    fn next(&mut self, now: Duration) -> Option<Arc<MirrorKey>> {
        while let Some(first) = self.resting.first_entry()
            && first.key().0 <= now
        {
            let due = first.key().0;
            let mirror = first.remove();
            self.wait(mirror, Urgency::Routine, due);
        }
        let entries = &self.entries;
        let is_current = |(mirror, ticket): &(Arc<MirrorKey>, Position)| matches!(entries.get(mirror), Some(QueueEntry::Waiting { ticket: current, .. }) if current == ticket);
        let running = &self.running;
        let has_slot =
            |namespace: &str| running.get(namespace).is_none_or(|count| *count < RECONCILES_OF_A_NAMESPACE);
        let (namespace, (mirror, _)) = self.waiting.pop_of(has_slot, is_current)?;
        *self.running.entry(namespace.as_ref().to_owned()).or_default() += 1;
        self.entries
            .insert(Arc::clone(&mirror), QueueEntry::Running { since: now, step: "plan", again: None });
        Some(mirror)
    }

    /// Returns how long until the next mirror is due.
    fn rest(&self, now: Duration) -> Option<Duration> {
        self.resting.first_key_value().map(|((due, _), _)| due.saturating_sub(now))
    }

    fn enter_step(&mut self, mirror: &MirrorKey, entered: &'static str) {
        if let Some(QueueEntry::Running { step, .. }) = self.entries.get_mut(mirror) {
            *step = entered;
        }
    }

    fn finished(&mut self, mirror: &MirrorKey, next: Requeue, now: Duration) {
        self.ended_at = self.ended_at.max(now);
        let Some((mirror, QueueEntry::Running { again, .. })) = self.entries.remove_entry(mirror) else {
            return;
        };
        let namespace = mirror.namespace.as_deref().unwrap_or_default();
        if let Some(running) = self.running.get_mut(namespace) {
            *running -= 1;
            if *running == 0 {
                self.running.remove(namespace);
            }
        }
        match (again, next) {
            (Some(urgency), _) => self.wait(mirror, urgency, now),
            (None, Requeue::After(Duration::ZERO)) => self.wait(mirror, Urgency::Routine, now),
            (None, Requeue::After(pause)) => {
                self.tickets += 1;
                let (due, ticket) = (now.saturating_add(pause), self.tickets);
                self.resting.insert((due, ticket), Arc::clone(&mirror));
                self.entries.insert(mirror, QueueEntry::Resting { due, ticket });
            }
            (None, Requeue::OnChange) => {}
        }
    }

    fn stall(&self, now: Duration) -> Option<Stall> {
        if let Some((since, mirror, step)) = self.under_way().into_iter().min() {
            let since = now.saturating_sub(since);
            if since > RECONCILE + GRACE {
                return Some(Stall::Reconcile { mirror, step, since });
            }
        }
        let since = now.saturating_sub(self.ended_at);
        if since <= RECONCILE + GRACE {
            return None;
        }
        let is_overdue = |entry: &&QueueEntry| match **entry {
            QueueEntry::Waiting { since, .. } => now.saturating_sub(since) > RECONCILE + GRACE,
            QueueEntry::Resting { due, .. } => now.saturating_sub(due) > RECONCILE + GRACE,
            QueueEntry::Running { .. } => false,
        };
        let due = self.entries.values().filter(is_overdue).count();
        (due > 0).then_some(Stall::Queue { due, since })
    }

    /// Returns start, mirror and step of each running reconcile.
    fn under_way(&self) -> Vec<(Duration, String, &'static str)> {
        let running = self.entries.iter().filter_map(|(mirror, entry)| match *entry {
            QueueEntry::Running { since, step, .. } => {
                let namespace = mirror.namespace.as_deref().unwrap_or_default();
                Some((since, format!("{namespace}/{}", mirror.name), step))
            }
            QueueEntry::Waiting { .. } | QueueEntry::Resting { .. } => None,
        });
        running.collect()
    }
}

/// Keeps the name alone: a reference made from an object also holds its UID and version.
fn bare(mirror: &MirrorKey) -> Arc<MirrorKey> {
    let mut bare = ObjectRef::new(&mirror.name);
    bare.namespace.clone_from(&mirror.namespace);
    Arc::new(bare)
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    fn mirror(namespace: &str, name: &str) -> MirrorKey {
        ObjectRef::new(name).within(namespace)
    }

    fn next(state: &mut State, now: u64) -> Option<String> {
        state
            .next(secs(now))
            .map(|mirror| format!("{}/{}", mirror.namespace.as_deref().unwrap(), mirror.name))
    }

    #[test]
    fn the_first_that_is_due_is_the_first_that_is_reconciled() {
        let mut state = State::default();
        let names: Vec<_> = (0..100).map(|number| format!("app-{number}")).collect();
        for name in &names {
            state.add(&mirror("shop", name), Urgency::Routine, secs(0));
        }
        for name in &names {
            state.add(&mirror("shop", name), Urgency::Routine, secs(1));
            assert_eq!(next(&mut state, 1), Some(format!("shop/{name}")));
            state.finished(&mirror("shop", name), Requeue::After(secs(0)), secs(1));
        }
        assert_eq!(next(&mut state, 1), Some("shop/app-0".to_owned()), "and then it is its turn again");
    }

    #[test]
    fn a_namespace_never_has_all_slots() {
        let mut state = State::default();
        for number in 0..100 {
            state.add(&mirror("many", &format!("app-{number}")), Urgency::TargetChanged, secs(0));
        }
        let running = std::iter::from_fn(|| next(&mut state, 0)).count();
        assert_eq!(running, RECONCILES_OF_A_NAMESPACE);
        state.add(&mirror("one", "app"), Urgency::Routine, secs(0));
        assert_eq!(next(&mut state, 0), Some("one/app".to_owned()));
        assert_eq!(next(&mut state, 0), None);
        state.finished(&mirror("many", "app-3"), Requeue::OnChange, secs(1));
        assert_eq!(next(&mut state, 1), Some("many/app-32".to_owned()));
    }

    #[test]
    fn a_namespace_with_many_mirrors_delays_nobody() {
        let mut state = State::default();
        for number in 0..1_000 {
            state.add(&mirror("many", &format!("app-{number}")), Urgency::Routine, secs(0));
        }
        state.add(&mirror("one", "app"), Urgency::Routine, secs(0));
        let before = std::iter::from_fn(|| next(&mut state, 0)).take_while(|next| next != "one/app").count();
        assert_eq!(before, 1);
    }

    /// A deleted Secret goes before five hundred routine reconciles. A namespace that deletes one Secret after the
    /// other goes before other namespaces for twenty turns only.
    #[test]
    fn a_changed_target_goes_first_and_a_storm_of_them_does_not() {
        let mut state = State::default();
        for number in 0..500 {
            state.add(&mirror("shop", &format!("app-{number}")), Urgency::Routine, secs(0));
        }
        state.add(&mirror("shop", "app-400"), Urgency::TargetChanged, secs(0));
        assert_eq!(next(&mut state, 0), Some("shop/app-400".to_owned()));
        assert_eq!(next(&mut state, 0), Some("shop/app-0".to_owned()));
        for number in 0..500 {
            state.add(&mirror("storm", &format!("app-{number}")), Urgency::TargetChanged, secs(0));
        }
        let before =
            std::iter::from_fn(|| next(&mut state, 0)).take_while(|next| next != "shop/app-1").count();
        assert!(before < 25, "{before} of the storm went first");
        let mut rest = 0;
        while let Some(mirror) = state.next(secs(0)) {
            state.finished(&mirror, Requeue::OnChange, secs(0));
            rest += 1;
        }
        assert_eq!(2 + before + 1 + rest, 1_000, "each of them once");
    }

    #[test]
    fn one_is_reconciled_once_at_a_time_and_once_more_if_it_was_added_meanwhile() {
        let (mut state, app) = (State::default(), mirror("shop", "app"));
        state.add(&app, Urgency::Routine, secs(0));
        assert!(next(&mut state, 0).is_some());
        state.add(&app, Urgency::Routine, secs(1));
        state.add(&app, Urgency::TargetChanged, secs(1));
        assert_eq!(next(&mut state, 1), None);
        state.finished(&app, Requeue::After(secs(30)), secs(2));
        assert!(next(&mut state, 2).is_some());
        state.finished(&app, Requeue::After(secs(30)), secs(3));
        assert_eq!((next(&mut state, 32), state.rest(secs(32))), (None, Some(secs(1))));
        assert!(next(&mut state, 33).is_some());
        state.finished(&app, Requeue::OnChange, secs(34));
        assert_eq!((next(&mut state, 100_000), state.rest(secs(34))), (None, None));
        assert!(state.entries.is_empty(), "one that only a change brings back is not held");
    }

    #[test]
    fn one_that_rests_is_due_at_once_when_it_is_added() {
        let (mut state, app) = (State::default(), mirror("shop", "app"));
        state.add(&app, Urgency::Routine, secs(0));
        assert!(next(&mut state, 0).is_some());
        state.finished(&app, Requeue::After(secs(30)), secs(0));
        state.add(&app, Urgency::Routine, secs(1));
        assert!(next(&mut state, 1).is_some());
        state.finished(&app, Requeue::OnChange, secs(1));
        assert_eq!(next(&mut state, 30), None, "it does not come twice");
    }

    #[test]
    fn a_reconcile_that_does_not_end_is_a_stall_and_its_step_is_named() {
        let (mut state, app) = (State::default(), mirror("shop", "app"));
        state.add(&app, Urgency::Routine, secs(10));
        state.next(secs(10)).unwrap();
        state.enter_step(&app, "publish");
        assert_eq!(state.under_way(), [(secs(10), "shop/app".to_owned(), "publish")]);
        assert_eq!(state.stall(secs(190)), None);
        let stall = state.stall(secs(191)).unwrap();
        assert_eq!(stall.to_string(), "the reconcile of shop/app has been in step publish for 181 s");
        state.finished(&app, Requeue::OnChange, secs(191));
        assert_eq!(state.stall(secs(100_000)), None, "nothing is due");
    }

    #[test]
    fn a_queue_that_gives_out_nothing_that_is_due_is_a_stall() {
        let (mut state, app) = (State::default(), mirror("shop", "app"));
        state.add(&app, Urgency::Routine, secs(0));
        state.next(secs(0)).unwrap();
        state.finished(&app, Requeue::After(secs(30)), secs(1));
        assert_eq!(state.stall(secs(1 + 30 + 180)), None);
        let stall = state.stall(secs(1 + 30 + 181)).unwrap();
        assert_eq!(stall.to_string(), "no reconcile has ended for 211 s, although 1 mirrors are due");
    }

    /// With an API server that takes three seconds to answer, a thousand mirrors wait for minutes, but reconciles keep ending.
    #[test]
    fn a_long_queue_is_no_stall_as_long_as_reconciles_end() {
        let mut state = State::default();
        for number in 0..100 {
            state.add(&mirror("shop", &format!("app-{number}")), Urgency::Routine, secs(0));
        }
        for second in (0..3_600).step_by(100) {
            let slow = state.next(secs(second)).unwrap();
            assert_eq!(state.stall(secs(second + 99)), None);
            state.finished(&slow, Requeue::After(secs(30)), secs(second + 99));
        }
    }
}
