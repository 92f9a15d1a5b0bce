//! How many requests go to SSM, which one is next, and when none are sent.
//!
//! | module | what |
//! |---|---|
//! | [`rate_limiter`] | the limiter of one account and region, or of one source: waits for tokens and grants them |
//! | `state` | the state behind one lock: breaker, bucket and queue, pure |
//! | [`breaker`] | when to stop sending requests, and how to begin again, pure |
//! | `slots` | how many requests are under way at once |
//! | `token_bucket` | requests per second, pure |
//! | [`fair_queue`](crate::fair_queue) | whose request is next: namespaces take turns, pure |
//!
//! AWS gives an account 40 reads/s, shared with everything else in it (consoles, ECS, CI). The limiter decides when to read, never
//! what is served.

pub mod breaker;
pub mod rate_limiter;
mod slots;
mod state;
mod token_bucket;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tracing_mutex::parkinglot::Mutex;

use crate::mirror::snapshot::{QueueKey, ReadError};

use self::breaker::{BreakerGeneration, BreakerState};
use self::rate_limiter::RateLimiter;
pub use self::slots::{Slot, Slots};

/// Minimum slots of one client: operations that may be under way at once. A service that stays silent holds each for up
/// to 20 s: without a limit an outage begins with hundreds of requests.
const SLOTS: usize = 10;

/// How many reads may hold the values of a large set at once, up to 16 MB each.
const LARGE_READS: usize = 2;

/// What shares a rate limit at AWS.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct AccountKey {
    /// AWS account, [`UNKNOWN`](Self::UNKNOWN) until it is known.
    pub account: String,
    /// AWS region.
    pub region: String,
}

impl AccountKey {
    /// The account of an identity until an ARN shows it.
    pub const UNKNOWN: &str = "self";

    /// Returns the account, if it is known.
    #[must_use]
    pub fn known(&self) -> Option<&str> {
        Some(self.account.as_str()).filter(|account| *account != Self::UNKNOWN)
    }
}

/// A snapshot of the limiter of one account and region.
#[derive(Clone, Debug, PartialEq)]
pub struct AccountState {
    /// Which account and region.
    pub key: AccountKey,
    /// State of its breaker.
    pub breaker: BreakerState,
    /// Requests per second that may be sent.
    pub rate: f64,
    /// Requests that wait for a token.
    pub waiting: usize,
}

impl AccountState {
    /// Takes a snapshot of this limiter.
    #[must_use]
    pub fn of(key: &AccountKey, limiter: &RateLimiter) -> Self {
        let (breaker, rate, waiting) = limiter.snapshot();
        Self { key: key.clone(), breaker, rate, waiting }
    }
}

/// The limiters of all accounts and regions.
pub struct AccountLimiters {
    rate: u32,
    by_key: Mutex<HashMap<AccountKey, Arc<RateLimiter>>>,
    large_reads: Arc<Slots>,
}

impl AccountLimiters {
    /// Limiters of `rate` requests per second each.
    #[must_use]
    pub fn new(rate: u32) -> Self {
        Self { rate: rate.max(1), by_key: Mutex::default(), large_reads: Slots::new(LARGE_READS) }
    }

    /// Returns the limiter of one account and region.
    pub fn limiter(&self, key: &AccountKey) -> Arc<RateLimiter> {
        let mut by_key = self.by_key.lock();
        Arc::clone(by_key.entry(key.clone()).or_insert_with(|| RateLimiter::new(self.rate)))
    }

    /// Continues the limiter of the operator's own account under its name, so that what waits there and what comes next
    /// share one limit.
    pub fn learn(&self, key: &AccountKey) {
        let unknown = AccountKey { account: AccountKey::UNKNOWN.to_owned(), region: key.region.clone() };
        let mut by_key = self.by_key.lock();
        if let Some(limiter) = by_key.remove(&unknown) {
            by_key.entry(key.clone()).or_insert(limiter);
        }
    }

    /// Takes a snapshot of each limiter.
    #[must_use]
    pub fn states(&self) -> Vec<AccountState> {
        let limiters = self.by_key.lock().clone();
        limiters.iter().map(|(key, limiter)| AccountState::of(key, limiter)).collect()
    }

    /// Creates the slots for the operations of one client.
    #[must_use]
    pub fn slots(&self) -> Arc<Slots> {
        Slots::new(SLOTS.max(usize::try_from(self.rate).unwrap_or(SLOTS)))
    }

    /// Returns the slots for reads of large sets, which all clients share.
    #[must_use]
    pub fn large_reads(&self) -> Arc<Slots> {
        Arc::clone(&self.large_reads)
    }
}

/// The limits that one read has to pass before each of its operations.
pub struct Limiter {
    account: Arc<RateLimiter>,
    cap: Option<Arc<RateLimiter>>,
    slots: Arc<Slots>,
    turn: QueueKey,
    waited: Mutex<Duration>,
    large_reads: Arc<Slots>,
}

/// The permission for one operation, held while it lasts.
pub struct Permit<'l> {
    limiter: &'l Limiter,
    sent_in: BreakerGeneration,
    _slot: Slot,
}

impl Permit<'_> {
    /// Records the outcome of the operation.
    pub fn record(self, outcome: Result<(), &ReadError>) {
        self.limiter.account.record(self.sent_in, outcome);
    }
}

impl Limiter {
    /// Creates the limiter of one read in `account`, with the lower limit of its source if there is one.
    #[must_use]
    pub fn new(
        account: Arc<RateLimiter>,
        cap: Option<Arc<RateLimiter>>,
        slots: Arc<Slots>,
        turn: QueueKey,
    ) -> Self {
        Self { account, cap, slots, turn, waited: Mutex::default(), large_reads: Slots::new(LARGE_READS) }
    }

    /// The same, sharing the slots for reads of large sets.
    #[must_use]
    pub fn with_large_reads(self, large_reads: Arc<Slots>) -> Self {
        Self { large_reads, ..self }
    }

    /// Waits until this read may hold a large set. Only the requests of this read wait with it.
    pub async fn admit_large(&self) -> Slot {
        let began = Instant::now();
        let slot = self.large_reads.acquire(&self.turn).await;
        self.has_waited(began.elapsed());
        slot
    }

    /// Waits for the permission to send one request, or returns why none may be sent.
    pub async fn acquire(&self) -> Result<Permit<'_>, ReadError> {
        self.account.admit()?;
        let began = Instant::now();
        if let Some(cap) = &self.cap {
            cap.acquire(&self.turn).await;
        }
        self.account.acquire(&self.turn).await;
        let slot = self.slots.acquire(&self.turn).await;
        self.has_waited(began.elapsed());
        // The breaker may have opened during the wait.
        let sent_in = self.account.admit()?;
        Ok(Permit { limiter: self, sent_in, _slot: slot })
    }

    /// Records that this read has waited for a request that another read sent.
    pub fn has_waited(&self, time: Duration) {
        *self.waited.lock() += time;
    }

    /// Returns how long this read has waited so far; this does not count towards the read's deadline.
    #[must_use]
    pub fn waited(&self) -> Duration {
        *self.waited.lock()
    }

    /// Returns the requests per second that this read may expect.
    #[must_use]
    pub fn rate(&self) -> f64 {
        let rate = self.account.rate();
        self.cap.as_ref().map_or(rate, |cap| cap.rate().min(rate))
    }
}

#[cfg(test)]
mod tests;
