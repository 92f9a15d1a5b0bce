//! One AWS account in one region: its budget and its breaker, whoever's role reads there.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;

use crate::mirror::reading::{ReadFailure, Turn};

use super::breaker::{Breaker, Phase};
use super::budget::Budget;

/// Fewest operations of one client that may be under way at once. A service that keeps silent holds each for up to
/// 20 s: without a limit an outage begins with hundreds of requests.
const SLOTS: usize = 10;

/// What a place is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PlaceKey {
    /// AWS account, `self` until it is known.
    pub account: String,
    /// AWS region.
    pub region: String,
}

/// How a place is at a moment.
#[derive(Clone, Debug, PartialEq)]
pub struct PlaceState {
    /// Which place.
    pub key: PlaceKey,
    /// What its breaker does.
    pub breaker: Phase,
    /// Requests per second that it may be asked.
    pub rate: f64,
    /// Requests that wait for their turn.
    pub waiting: usize,
}

/// All places of the process.
pub struct Places {
    rate: u32,
    by_key: Mutex<HashMap<PlaceKey, Arc<Place>>>,
}

/// One account in one region.
pub struct Place {
    budget: Arc<Budget>,
    breaker: Arc<Mutex<Breaker>>,
    wants_probe: AtomicBool,
    epoch: Instant,
}

impl Places {
    /// Places with a budget of `rate` requests per second each.
    #[must_use]
    pub fn new(rate: u32) -> Self {
        Self { rate: rate.max(1), by_key: Mutex::default() }
    }

    /// One place.
    pub fn of(&self, key: &PlaceKey) -> Arc<Place> {
        Arc::clone(self.lock().entry(key.clone()).or_insert_with(|| Place::new(self.rate)))
    }

    /// How all of them are.
    #[must_use]
    pub fn states(&self) -> Vec<PlaceState> {
        self.lock().iter().map(|(key, place)| place.state(key)).collect()
    }

    /// Slots for the operations of one client.
    #[must_use]
    pub fn slots(&self) -> Arc<Semaphore> {
        Arc::new(Semaphore::new(
            SLOTS.max(usize::try_from(self.rate).unwrap_or(SLOTS)).min(Semaphore::MAX_PERMITS),
        ))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<PlaceKey, Arc<Place>>> {
        self.by_key.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// A place with a budget of `rate` requests per second.
    #[must_use]
    pub fn new(rate: u32) -> Arc<Self> {
        let (breaker, epoch) = (Arc::<Mutex<Breaker>>::default(), Instant::now());
        let ramping = Arc::clone(&breaker);
        let ramp = move || ramping.lock().unwrap_or_else(PoisonError::into_inner).ramp(epoch.elapsed());
        Arc::new(Self {
            budget: Budget::limited(rate, ramp),
            breaker,
            wants_probe: AtomicBool::default(),
            epoch,
        })
    }

    /// A probe has ended. `true` if the place answers again.
    pub fn probed(&self, outcome: Result<(), &ReadFailure>) -> bool {
        let now = self.epoch.elapsed();
        self.breaker().probed(outcome, now)
    }

    /// Whether the breaker has opened and nobody has taken the probing yet. Who asks takes it.
    pub fn take_probing(&self) -> bool {
        self.wants_probe.swap(false, Ordering::Relaxed)
    }

    /// How it is now.
    #[must_use]
    pub fn state(&self, key: &PlaceKey) -> PlaceState {
        // A guard in a temporary of the struct expression lives to its end, and the budget takes the two locks in the other order.
        let breaker = self.breaker().phase(self.epoch.elapsed());
        PlaceState { key: key.clone(), breaker, rate: self.budget.rate(), waiting: self.budget.waiting() }
    }

    fn record(&self, outcome: Result<(), &ReadFailure>) {
        let now = self.epoch.elapsed();
        if self.breaker().record(outcome, now) {
            self.wants_probe.store(true, Ordering::Relaxed);
        }
    }

    fn refuse(&self) -> Result<(), ReadFailure> {
        self.breaker().refusal().map_or(Ok(()), Err)
    }

    fn breaker(&self) -> MutexGuard<'_, Breaker> {
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What one read passes before each of its operations.
pub struct Gate {
    place: Arc<Place>,
    cap: Option<Arc<Budget>>,
    slots: Arc<Semaphore>,
    turn: Turn,
    waited: Mutex<Duration>,
}

/// The permission for one operation, held while it lasts.
pub struct Pass<'g>(#[allow(dead_code, reason = "held, not looked at")] Option<SemaphorePermit<'g>>);

impl Gate {
    /// A gate to `place`, with the lower cap of the source if it has one.
    #[must_use]
    pub fn new(place: Arc<Place>, cap: Option<Arc<Budget>>, slots: Arc<Semaphore>, turn: Turn) -> Self {
        Self { place, cap, slots, turn, waited: Mutex::default() }
    }

    /// Waits for the permission to send one request, or says why none is sent.
    pub async fn pass(&self) -> Result<Pass<'_>, ReadFailure> {
        self.place.refuse()?;
        let began = Instant::now();
        if let Some(cap) = &self.cap {
            cap.take(&self.turn).await;
        }
        self.place.budget.take(&self.turn).await;
        // Last, because who waits here waits in the order of arrival. The semaphore is never closed.
        let slot = self.slots.acquire().await.ok();
        self.has_waited(began.elapsed());
        // It may have opened while we waited.
        self.place.refuse()?;
        Ok(Pass(slot))
    }

    /// This read has waited for a request that somebody else sent.
    pub fn has_waited(&self, time: Duration) {
        *self.waited.lock().unwrap_or_else(PoisonError::into_inner) += time;
    }

    /// An operation has ended.
    pub fn record(&self, outcome: Result<(), &ReadFailure>) {
        self.place.record(outcome);
    }

    /// How long this read has waited so far; it does not count towards the read's deadline.
    #[must_use]
    pub fn waited(&self) -> Duration {
        *self.waited.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Requests per second that this read may hope for.
    #[must_use]
    pub fn rate(&self) -> f64 {
        let rate = self.place.budget.rate();
        self.cap.as_ref().map_or(rate, |cap| cap.rate().min(rate))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mirror::reading::{Priority, SourceReason};

    fn turn() -> Turn {
        Turn { namespace: "shop".into(), priority: Priority::Refresh, last_good: 0 }
    }

    fn gate(place: &Arc<Place>, cap: Option<Arc<Budget>>, slots: usize) -> Gate {
        Gate::new(Arc::clone(place), cap, Arc::new(Semaphore::new(slots)), turn())
    }

    #[tokio::test(start_paused = true)]
    async fn a_source_can_be_held_below_its_account() {
        let gate = gate(&Place::new(100), Some(Budget::new(2)), 10);
        let began = Instant::now();
        for _ in 0..6 {
            gate.pass().await.unwrap();
        }
        let took = began.elapsed().as_secs_f64();
        assert!((1.9..2.2).contains(&took), "{took}");
        assert!(gate.waited() >= Duration::from_millis(1_900));
    }

    #[tokio::test(start_paused = true)]
    async fn what_waits_when_the_breaker_opens_is_told_at_once() {
        let place = Place::new(100);
        let gate = gate(&place, None, 1);
        let held = gate.pass().await.unwrap();
        let failure = ReadFailure::new(SourceReason::Timeout, "");
        let waiting = async { gate.pass().await.err().map(|failure| failure.reason) };
        let opening = async {
            for _ in 0..5 {
                gate.record(Err(&failure));
            }
            drop(held);
        };
        let (told, ()) = tokio::join!(waiting, opening);
        assert_eq!(told, Some(SourceReason::Timeout));
        assert!(place.take_probing() && !place.take_probing(), "exactly one has to probe");
        assert!(gate.pass().await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_probe_was_answered_requests_begin_slowly() {
        let place = Place::new(100);
        let gate = gate(&place, None, 100);
        let failure = ReadFailure::new(SourceReason::Timeout, "");
        for _ in 0..5 {
            gate.record(Err(&failure));
        }
        assert!(place.probed(Ok(())));
        let began = Instant::now();
        let mut sent = [0; 20];
        while began.elapsed() < Duration::from_secs(14) {
            drop(gate.pass().await.unwrap());
            gate.record(Ok(()));
            if let Some(second) = sent.get_mut(usize::try_from(began.elapsed().as_secs()).unwrap()) {
                *second += 1;
            }
        }
        assert!(sent[2..5].iter().all(|&sent| sent <= 2), "{sent:?}");
        assert!(sent[11..14].iter().all(|&sent| (3..=5).contains(&sent)), "{sent:?}");
    }

    /// Everybody is overdue when SSM answers again, and waits at once: when the ramp has ended they go at the full rate.
    #[tokio::test(start_paused = true)]
    async fn who_waits_since_the_first_second_goes_faster_too() {
        let place = Place::new(10);
        let failure = ReadFailure::new(SourceReason::Timeout, "");
        for _ in 0..5 {
            gate(&place, None, 10).record(Err(&failure));
        }
        assert!(place.probed(Ok(())));
        let began = Instant::now();
        let waiting = (0..200).map(|_| {
            let gate = gate(&place, None, 10);
            async move { drop(gate.pass().await.unwrap()) }
        });
        futures::future::join_all(waiting).await;
        // Seven seconds' worth of 1, 2 and 4 per second in the first fifteen, then ten per second.
        let took = began.elapsed().as_secs();
        assert!((28..34).contains(&took), "{took} s");
    }
}
