//! The rate limiter of one account and region, or of one source, shared by all reads.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tracing_mutex::parkinglot::Mutex;

use crate::mirror::snapshot::{QueueKey, ReadError};

use super::breaker::{BreakerGeneration, BreakerState};
use super::state::{Entry, State, Step};

/// A lock around the state. `with` is the only way in, so a guard lives neither in a larger expression nor across an
/// `await`. The closures call one method of [`State`] each, which calls nothing else. It is a trait because loom checks
/// the interleavings with a lock of its own.
pub trait Lock: Send + Sync + 'static {
    /// Wraps a state.
    fn new(state: State) -> Self;

    /// Runs one method of the state.
    fn with<R>(&self, method: impl FnOnce(&mut State) -> R) -> R;
}

impl Lock for Mutex<State> {
    fn new(state: State) -> Self {
        Self::new(state)
    }

    fn with<R>(&self, method: impl FnOnce(&mut State) -> R) -> R {
        method(&mut self.lock())
    }
}

/// A token bucket with a breaker, and a fair queue of the requests that wait.
pub struct RateLimiter<L: Lock = Mutex<State>> {
    state: L,
    created_at: Instant,
}

impl RateLimiter {
    /// A limiter of `rate` requests per second whose bucket is full and whose breaker is closed.
    #[must_use]
    pub fn new(rate: u32) -> Arc<Self> {
        Arc::new(Self { state: Lock::new(State::new(rate)), created_at: Instant::now() })
    }

    /// Waits for a token: the permission to send one request. A caller that stops waiting costs nothing.
    pub async fn acquire(self: &Arc<Self>, turn: &QueueKey) {
        let now = self.now();
        match self.state.with(|state| state.enter(turn, now)) {
            Entry::Granted => {}
            Entry::Queued { granted, starts_dispatcher } => {
                if starts_dispatcher {
                    tokio::spawn(Arc::clone(self).dispatch());
                }
                // The dispatcher ends only when nobody waits, so the token always comes.
                let _ = granted.await;
            }
        }
    }

    /// Grants tokens as they accrue, until nobody waits.
    async fn dispatch(self: Arc<Self>) {
        while let Some(pause) = self.grant_all(self.now()) {
            tokio::time::sleep(pause).await;
        }
    }

    /// Returns the generation of the breaker in which a request is sent now, or why none may be sent.
    pub fn admit(&self) -> Result<BreakerGeneration, ReadError> {
        self.state.with(|state| state.admit())
    }

    /// Records the outcome of a request that was sent in `sent_in`.
    pub fn record(&self, sent_in: BreakerGeneration, outcome: Result<(), &ReadError>) {
        let now = self.now();
        self.state.with(|state| state.record(sent_in, outcome, now));
    }

    /// Records the outcome of a probe. Returns `true` if the breaker lets requests through again.
    pub fn record_probe(&self, outcome: Result<(), &ReadError>) -> bool {
        let now = self.now();
        self.state.with(|state| state.record_probe(outcome, now))
    }

    /// Claims the probe; only one caller gets `true` each time the breaker opens.
    pub fn claim_probe(&self) -> bool {
        self.state.with(State::claim_probe)
    }

    /// Returns the requests per second while the breaker allows all of them.
    #[must_use]
    pub fn rate(&self) -> f64 {
        self.state.with(|state| state.rate())
    }

    /// Returns the state of the breaker, the rate, and how many requests wait.
    #[must_use]
    pub fn snapshot(&self) -> (BreakerState, f64, usize) {
        let now = self.now();
        self.state.with(|state| (state.breaker(now), state.rate(), state.waiting()))
    }

    fn now(&self) -> Duration {
        self.created_at.elapsed()
    }
}

impl<L: Lock> RateLimiter<L> {
    /// Grants all available tokens. Returns how long to wait for the next one; `None` if nobody waits.
    ///
    /// The lock is free while a request is woken: its waker may do anything.
    fn grant_all(&self, now: Duration) -> Option<Duration> {
        loop {
            match self.state.with(|state| state.dispatch(now)) {
                Step::Grant(grant) => {
                    if let Some(namespace) = grant.deliver() {
                        self.state.with(|state| state.give_back(&namespace));
                    }
                }
                Step::Wait(pause) => return Some(pause),
                Step::End => return None,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mirror::snapshot::{Priority, ReadErrorKind};

    fn turn(priority: Priority) -> QueueKey {
        QueueKey { namespace: "shop".into(), priority, last_read: 0 }
    }

    #[tokio::test(start_paused = true)]
    async fn requests_go_at_the_rate_after_the_first_second() {
        let limiter = RateLimiter::new(10);
        let began = Instant::now();
        for _ in 0..60 {
            limiter.acquire(&turn(Priority::Refresh)).await;
        }
        let took = began.elapsed().as_secs_f64();
        assert!((4.9..5.2).contains(&took), "{took}");
    }

    #[tokio::test(start_paused = true)]
    async fn requested_reads_go_first_then_first_syncs_then_refreshes() {
        let limiter = RateLimiter::new(1);
        limiter.acquire(&turn(Priority::Refresh)).await;
        let (done, mut order) = tokio::sync::mpsc::unbounded_channel();
        for (name, priority) in [
            ("refresh", Priority::Refresh),
            ("first", Priority::FirstSync),
            ("requested", Priority::Requested),
            ("refresh 2", Priority::Refresh),
        ] {
            let (limiter, done) = (Arc::clone(&limiter), done.clone());
            tokio::spawn(async move {
                limiter.acquire(&turn(priority)).await;
                done.send(name).unwrap();
            });
            tokio::task::yield_now().await;
        }
        let mut seen = Vec::new();
        for _ in 0..4 {
            seen.push(order.recv().await.unwrap());
        }
        assert_eq!(seen, ["requested", "first", "refresh", "refresh 2"]);
    }

    /// Among equal priorities the oldest values go first: after an outage that is the mirror that waited longest.
    #[tokio::test(start_paused = true)]
    async fn the_oldest_values_are_refreshed_first() {
        let limiter = RateLimiter::new(1);
        limiter.acquire(&turn(Priority::Refresh)).await;
        let (done, mut order) = tokio::sync::mpsc::unbounded_channel();
        for last_read in [300, 100, 200] {
            let (limiter, done) = (Arc::clone(&limiter), done.clone());
            tokio::spawn(async move {
                limiter.acquire(&QueueKey { last_read, ..turn(Priority::Refresh) }).await;
                done.send(last_read).unwrap();
            });
            tokio::task::yield_now().await;
        }
        let mut seen = Vec::new();
        for _ in 0..3 {
            seen.push(order.recv().await.unwrap());
        }
        assert_eq!(seen, [100, 200, 300]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_gives_up_costs_nothing() {
        let limiter = RateLimiter::new(1);
        limiter.acquire(&turn(Priority::Refresh)).await;
        let given_up = tokio::time::timeout(Duration::ZERO, limiter.acquire(&turn(Priority::Refresh))).await;
        assert!(given_up.is_err());
        let began = Instant::now();
        limiter.acquire(&turn(Priority::Refresh)).await;
        assert!(began.elapsed() <= Duration::from_millis(1_001), "{:?}", began.elapsed());
    }

    /// Every method at once from eight threads, with a limiter that is always short of tokens: the deadlock of an
    /// earlier version, which had two locks, showed here within milliseconds.
    #[tokio::test(flavor = "multi_thread", worker_threads = 8)]
    async fn many_threads_use_one_limiter_at_once() {
        const REQUESTS: usize = 4_000;
        let limiter = RateLimiter::new(20_000);
        let (stop, watch) = tokio::sync::watch::channel(false);
        let observers: Vec<_> = (0..4)
            .map(|_| {
                let (limiter, watch) = (Arc::clone(&limiter), watch.clone());
                tokio::spawn(async move {
                    while !*watch.borrow() {
                        let _ = limiter.snapshot();
                        tokio::task::yield_now().await;
                    }
                })
            })
            .collect();
        let requests = (0..REQUESTS).map(|number| {
            let limiter = Arc::clone(&limiter);
            tokio::spawn(async move {
                let priority = if number % 2 == 0 { Priority::Refresh } else { Priority::FirstSync };
                let turn = QueueKey { namespace: format!("n{}", number % 7).into(), ..turn(priority) };
                limiter.acquire(&turn).await;
                let Ok(sent_in) = limiter.admit() else { return };
                let failure = ReadError::new(ReadErrorKind::Timeout, "");
                limiter.record(sent_in, if number % 3 == 0 { Err(&failure) } else { Ok(()) });
                if limiter.claim_probe() {
                    limiter.record_probe(Ok(()));
                }
            })
        });
        let all = futures::future::join_all(requests.collect::<Vec<_>>());
        let ended = tokio::time::timeout(Duration::from_mins(1), all).await;
        stop.send_replace(true);
        assert!(ended.is_ok_and(|all| all.iter().all(Result::is_ok)), "the limiter stopped");
        for observer in observers {
            observer.await.unwrap();
        }
        assert_eq!(limiter.snapshot().2, 0, "nobody waits any more");
    }
}

/// Every interleaving of requests that enter, give up, and are granted by the dispatcher, as far as three threads can be interleaved.
#[cfg(test)]
mod interleavings {
    use loom::future::block_on;
    use loom::sync::Arc;
    use loom::thread;
    use tokio::sync::oneshot;

    use super::*;
    use crate::mirror::snapshot::Priority;

    impl Lock for loom::sync::Mutex<State> {
        fn new(state: State) -> Self {
            Self::new(state)
        }

        fn with<R>(&self, method: impl FnOnce(&mut State) -> R) -> R {
            method(&mut self.lock().unwrap())
        }
    }

    type Limiter = RateLimiter<loom::sync::Mutex<State>>;

    /// A limiter of one request per second whose only token is taken.
    fn busy() -> Arc<Limiter> {
        let limiter = Limiter { state: Lock::new(State::new(1)), created_at: Instant::now() };
        assert!(matches!(enter(&limiter, "a"), Entry::Granted));
        Arc::new(limiter)
    }

    fn enter(limiter: &Limiter, namespace: &str) -> Entry {
        let turn = QueueKey { namespace: namespace.into(), priority: Priority::Refresh, last_read: 0 };
        limiter.state.with(|state| state.enter(&turn, Duration::ZERO))
    }

    /// Does what [`RateLimiter::dispatch`] does, on a clock that jumps to the time it waits for.
    fn dispatch(limiter: &Limiter) {
        let mut now = Duration::ZERO;
        while let Some(pause) = limiter.grant_all(now) {
            now += pause;
        }
    }

    /// Enters the queue, and dispatches if it has to.
    fn queue(limiter: &Limiter, namespace: &str) -> Option<oneshot::Receiver<()>> {
        match enter(limiter, namespace) {
            Entry::Granted => None,
            Entry::Queued { granted, starts_dispatcher } => {
                if starts_dispatcher {
                    dispatch(limiter);
                }
                Some(granted)
            }
        }
    }

    #[test]
    fn every_request_that_waits_is_granted() {
        loom::model(|| {
            let limiter = busy();
            let other = Arc::clone(&limiter);
            let request = thread::spawn(move || {
                if let Some(granted) = queue(&other, "b") {
                    block_on(granted).unwrap();
                }
            });
            if let Some(granted) = queue(&limiter, "c") {
                block_on(granted).unwrap();
            }
            request.join().unwrap();
            assert_eq!(limiter.state.with(|state| state.waiting()), 0);
        });
    }

    #[test]
    fn a_request_that_gives_up_takes_nothing_from_the_others() {
        loom::model(|| {
            let limiter = busy();
            let (left, watched) = (Arc::clone(&limiter), Arc::clone(&limiter));
            let leaver = thread::spawn(move || drop(enter_and_leave(&left)));
            let observer = thread::spawn(move || watched.state.with(|state| state.waiting()));
            if let Some(granted) = queue(&limiter, "c") {
                block_on(granted).unwrap();
            }
            leaver.join().unwrap();
            observer.join().unwrap();
            // Even if the other request left last, the next one is served within a second of the last grant.
            dispatch(&limiter);
            assert_eq!(limiter.state.with(|state| state.waiting()), 0);
        });
    }

    fn enter_and_leave(limiter: &Limiter) -> Option<oneshot::Receiver<()>> {
        match enter(limiter, "b") {
            Entry::Queued { granted, starts_dispatcher: true } => {
                drop(granted);
                dispatch(limiter);
                None
            }
            Entry::Queued { granted, .. } => Some(granted),
            Entry::Granted => None,
        }
    }
}
