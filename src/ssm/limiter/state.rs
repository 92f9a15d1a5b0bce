//! The state behind one lock: breaker, token bucket and queue of one limiter. Pure: every method takes the time,
//! returns a value, and calls nothing else, so no lock is held while anything else runs.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use crate::fair_queue::FairQueue;
use crate::mirror::snapshot::{Priority, QueueKey, ReadError};

use super::breaker::{Breaker, BreakerGeneration, BreakerState};
use super::token_bucket::TokenBucket;

/// The state of one limiter.
#[derive(Debug)]
pub struct State {
    /// Requests per second while the breaker allows all of them.
    rate: f64,
    breaker: Breaker,
    bucket: TokenBucket,
    queue: FairQueue<Priority, oneshot::Sender<()>>,
    /// Whether a dispatcher runs: there is one as long as any request waits.
    is_dispatched: bool,
    wants_probe: bool,
}

/// What a request gets when it enters.
#[derive(Debug)]
pub enum Entry {
    /// A token.
    Granted,
    /// A place in the queue.
    Queued {
        /// Resolves when the request has a token.
        granted: oneshot::Receiver<()>,
        /// Whether the caller has to start the dispatcher.
        starts_dispatcher: bool,
    },
}

/// What the dispatcher does next.
#[derive(Debug)]
pub enum Step {
    /// Grant a token to this request.
    Grant(Grant),
    /// Wait until there is a token.
    Wait(Duration),
    /// End: nobody waits.
    End,
}

/// A token for one queued request, until it is delivered.
#[derive(Debug)]
pub struct Grant {
    namespace: Arc<str>,
    request: oneshot::Sender<()>,
}

impl Grant {
    /// Wakes the request. If it has given up, returns its namespace, whose turn and token [`State::give_back`] takes back.
    pub fn deliver(self) -> Option<Arc<str>> {
        self.request.send(()).err().map(|()| self.namespace)
    }
}

impl State {
    /// A full bucket of `rate` requests per second and a closed breaker.
    pub fn new(rate: u32) -> Self {
        let rate = f64::from(rate.max(1));
        Self {
            rate,
            breaker: Breaker::default(),
            bucket: TokenBucket::full(rate),
            queue: FairQueue::default(),
            is_dispatched: false,
            wants_probe: false,
        }
    }

    /// Requests a token. It is granted at once only if no request waits, so a later one does not go first.
    pub fn enter(&mut self, turn: &QueueKey, now: Duration) -> Entry {
        self.bucket.refill(self.rate_at(now), now);
        if self.queue.is_empty() && self.bucket.take() {
            return Entry::Granted;
        }
        let (request, granted) = oneshot::channel();
        self.queue.push(&turn.namespace, turn.priority, turn.last_read, request);
        let starts_dispatcher = !std::mem::replace(&mut self.is_dispatched, true);
        Entry::Queued { granted, starts_dispatcher }
    }

    /// Returns the next step of the dispatcher. After [`Step::End`] the next request that waits starts another one.
    pub fn dispatch(&mut self, now: Duration) -> Step {
        let rate = self.rate_at(now);
        self.bucket.refill(rate, now);
        if self.queue.is_empty() {
            self.is_dispatched = false;
            return Step::End;
        }
        if !self.bucket.take() {
            return Step::Wait(self.bucket.until_next(rate));
        }
        if let Some((namespace, request)) = self.queue.pop(|request| !request.is_closed()) {
            Step::Grant(Grant { namespace, request })
        } else {
            self.bucket.give_back();
            self.is_dispatched = false;
            Step::End
        }
    }

    /// Takes back a grant whose request had given up: neither the bucket nor the namespace pays for it.
    pub fn give_back(&mut self, namespace: &str) {
        self.bucket.give_back();
        self.queue.give_back(namespace);
    }

    /// Returns the generation of the breaker in which a request is sent now, or why none may be sent.
    pub fn admit(&self) -> Result<BreakerGeneration, ReadError> {
        self.breaker.refusal().map_or_else(|| Ok(self.breaker.generation()), Err)
    }

    /// Records the outcome of a request that was sent in `sent_in`.
    pub fn record(&mut self, sent_in: BreakerGeneration, outcome: Result<(), &ReadError>, now: Duration) {
        self.wants_probe |= self.breaker.record(sent_in, outcome, now);
    }

    /// Records the outcome of a probe. Returns `true` if the breaker lets requests through again.
    pub fn record_probe(&mut self, outcome: Result<(), &ReadError>, now: Duration) -> bool {
        self.breaker.record_probe(outcome, now)
    }

    /// Claims the probe; only one caller gets `true` each time the breaker opens.
    pub fn claim_probe(&mut self) -> bool {
        std::mem::take(&mut self.wants_probe)
    }

    /// Returns the requests per second while the breaker allows all of them.
    pub const fn rate(&self) -> f64 {
        self.rate
    }

    /// Returns how many requests wait.
    pub fn waiting(&self) -> usize {
        self.queue.count(|request| !request.is_closed())
    }

    /// Returns the state of the breaker.
    pub fn breaker(&self, now: Duration) -> BreakerState {
        self.breaker.state(now)
    }

    /// Returns the rate that applies. Requests that wait already profit when the breaker allows more.
    fn rate_at(&self, now: Duration) -> f64 {
        self.breaker.allowed_rate(now).map_or(self.rate, |allowed| f64::from(allowed).min(self.rate))
    }
}
