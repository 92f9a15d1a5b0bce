//! Requests per second, shared fairly.
//!
//! AWS gives an account 40 reads/s, shared with everything else in it (consoles, ECS, CI). The budget decides
//! when to read, never what is served.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::mirror::reading::Turn;

use super::queue::Queue;

/// A token bucket that holds one second's worth, with a [`Queue`] of those that wait.
pub struct Budget {
    rate: f64,
    /// What may be sent at the moment, if that is less: who waits already profits when it becomes more.
    limit: Box<dyn Fn() -> Option<u32> + Send + Sync>,
    state: Mutex<State>,
}

struct State {
    tokens: f64,
    refilled: Instant,
    queue: Queue,
    is_served: bool,
}

impl Budget {
    /// A full budget of `rate` requests per second.
    #[must_use]
    pub fn new(rate: u32) -> Arc<Self> {
        Self::limited(rate, || None)
    }

    /// A full budget of `rate` requests per second, or of what `limit` says when it says less.
    #[must_use]
    pub fn limited(rate: u32, limit: impl Fn() -> Option<u32> + Send + Sync + 'static) -> Arc<Self> {
        let rate = f64::from(rate.max(1));
        Arc::new(Self {
            rate,
            limit: Box::new(limit),
            state: Mutex::new(State {
                tokens: rate,
                refilled: Instant::now(),
                queue: Queue::default(),
                is_served: false,
            }),
        })
    }

    /// Requests per second.
    #[must_use]
    pub const fn rate(&self) -> f64 {
        self.rate
    }

    /// How many requests wait for their turn; some of them may have given up.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.lock().queue.len()
    }

    /// Waits for the permission to send one request. Who stops waiting costs nothing.
    pub async fn take(self: &Arc<Self>, turn: &Turn) {
        let called = {
            let mut state = self.lock();
            self.refill(&mut state);
            if state.queue.is_empty() && state.tokens >= 1.0 {
                state.tokens -= 1.0;
                return;
            }
            let (call, called) = oneshot::channel();
            state.queue.push(turn, call);
            if !std::mem::replace(&mut state.is_served, true) {
                tokio::spawn(Arc::clone(self).serve());
            }
            called
        };
        // The queue is served until it is empty, so the turn always comes.
        let _ = called.await;
    }

    /// Hands out tokens as they come, until nobody waits.
    async fn serve(self: Arc<Self>) {
        loop {
            let pause = {
                let mut state = self.lock();
                self.refill(&mut state);
                while state.tokens >= 1.0 && state.queue.call_next() {
                    state.tokens -= 1.0;
                }
                if state.queue.is_empty() {
                    state.is_served = false;
                    return;
                }
                Duration::from_secs_f64(((1.0 - state.tokens) / self.rate_now()).max(0.001))
            };
            tokio::time::sleep(pause).await;
        }
    }

    fn refill(&self, state: &mut State) {
        let now = Instant::now();
        let rate = self.rate_now();
        let gained = now.duration_since(state.refilled).as_secs_f64() * rate;
        state.tokens = (state.tokens + gained).min(rate);
        state.refilled = now;
    }

    fn rate_now(&self) -> f64 {
        (self.limit)().map_or(self.rate, |limit| f64::from(limit.max(1)).min(self.rate))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mirror::reading::Priority;

    fn turn(priority: Priority) -> Turn {
        Turn { namespace: "shop".into(), priority, last_good: 0 }
    }

    #[tokio::test(start_paused = true)]
    async fn after_the_first_second_requests_go_at_the_rate() {
        let budget = Budget::new(10);
        let began = Instant::now();
        for _ in 0..60 {
            budget.take(&turn(Priority::Refresh)).await;
        }
        let took = began.elapsed().as_secs_f64();
        assert!((4.9..5.2).contains(&took), "{took}");
    }

    #[tokio::test(start_paused = true)]
    async fn first_syncs_go_before_refreshes_and_requests_before_both() {
        let budget = Budget::new(1);
        budget.take(&turn(Priority::Refresh)).await;
        let (done, mut order) = tokio::sync::mpsc::unbounded_channel();
        for (name, priority) in [
            ("refresh", Priority::Refresh),
            ("first", Priority::FirstSync),
            ("asked", Priority::Requested),
            ("refresh 2", Priority::Refresh),
        ] {
            let (budget, done) = (Arc::clone(&budget), done.clone());
            tokio::spawn(async move {
                budget.take(&turn(priority)).await;
                done.send(name).unwrap();
            });
            tokio::task::yield_now().await;
        }
        let mut seen = Vec::new();
        for _ in 0..4 {
            seen.push(order.recv().await.unwrap());
        }
        assert_eq!(seen, ["asked", "first", "refresh", "refresh 2"]);
    }

    /// Of equal priority, whoever serves the oldest values goes first: after an outage that is who waited longest.
    #[tokio::test(start_paused = true)]
    async fn the_oldest_values_are_renewed_first() {
        let budget = Budget::new(1);
        budget.take(&turn(Priority::Refresh)).await;
        let done = Arc::new(Mutex::new(Vec::new()));
        let waiting = [30, 10, 20].map(|last_good| {
            let (budget, done) = (Arc::clone(&budget), Arc::clone(&done));
            tokio::spawn(async move {
                budget.take(&Turn { last_good, ..turn(Priority::Refresh) }).await;
                done.lock().unwrap().push(last_good);
            })
        });
        for waiting in waiting {
            waiting.await.unwrap();
        }
        assert_eq!(*done.lock().unwrap(), [10, 20, 30]);
    }

    #[tokio::test(start_paused = true)]
    async fn who_stops_waiting_costs_nothing() {
        let budget = Budget::new(1);
        budget.take(&turn(Priority::Refresh)).await;
        let gave_up =
            tokio::time::timeout(Duration::from_millis(10), budget.take(&turn(Priority::FirstSync))).await;
        assert!(gave_up.is_err());
        let began = Instant::now();
        budget.take(&turn(Priority::Refresh)).await;
        assert!(began.elapsed() <= Duration::from_millis(1_010), "{:?}", began.elapsed());
    }
}
