//! Caches of AWS credentials that survive an outage of STS.
//!
//! The SDK discards credentials 10 to 15 s before they expire, fetches others only then, on the path of a call, and
//! asks a dead STS again with each call (measured). A [`CredentialsCache`] refreshes from half of their life on, beside
//! all calls, and returns what it has until it really expires. The SDK's own cache is switched off for it
//! (docs/adr/0010-credentials.md).

mod base;
mod lifetime;
mod sources;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, future};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;
use tracing_mutex::parkinglot::Mutex;

use parameter_mirror_clock::{Clock, jittered};

pub use base::OperatorIdentity;
pub use sources::{Assumed, Own, region_of_environment};

/// Where the credentials of a cache come from.
#[async_trait]
pub trait Fetch: Send + Sync + 'static {
    /// Fetches credentials, within its own deadline, or returns a clause for people on why there are none. The clause
    /// holds no body, no token and no key.
    async fn fetch(&self) -> Result<Credentials, String>;
}

/// Why there are no credentials.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no valid AWS credentials for {whose}: {what}")]
pub struct Unavailable {
    /// Whose credentials, for people.
    pub whose: String,
    /// What happened.
    pub what: String,
}

/// Distinguishes credentials from those fetched before and after them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CredentialsGeneration(u64);

/// The health of a credentials cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CredentialsHealth {
    /// Whether the last fetch failed.
    pub is_failing: bool,
    /// When the held credentials expire; `None` if there are none, or they have no expiry.
    pub expires: Option<SystemTime>,
}

/// The credentials of one AWS identity: the operator itself, or a role it assumes. One task fetches for all callers.
pub struct CredentialsCache {
    shared: Arc<Shared>,
    state: watch::Receiver<State>,
    _keeper: AbortOnDropHandle<()>,
}

/// What callers share with the refresh task.
struct Shared {
    whose: String,
    clock: Clock,
    /// A caller waits for a fetch.
    wanted: Notify,
    last_used: Mutex<Instant>,
    /// The latest generation that AWS has refused.
    rejected: AtomicU64,
}

/// What the refresh task publishes to callers.
struct State {
    held: Option<Credentials>,
    generation: CredentialsGeneration,
    failure: Option<Failure>,
    /// When the next fetch is due without demand.
    next: Instant,
    /// No demand triggers a fetch before this.
    not_before: Instant,
}

struct Failure {
    what: String,
    in_a_row: u32,
}

/// The task that fetches.
struct RefreshTask<F> {
    shared: Arc<Shared>,
    source: F,
    state: watch::Sender<State>,
    recoveries: watch::Sender<u64>,
}

impl CredentialsCache {
    /// Starts a cache that fetches at once and refreshes itself until it is dropped. `whose` is for people, and
    /// `recoveries` grows when credentials become available again after callers had to do without.
    #[must_use]
    pub fn start(
        clock: Clock,
        whose: String,
        source: impl Fetch,
        recoveries: watch::Sender<u64>,
    ) -> Arc<Self> {
        let now = Instant::now();
        let shared = Arc::new(Shared {
            whose,
            clock,
            wanted: Notify::new(),
            last_used: Mutex::new(now),
            rejected: AtomicU64::new(0),
        });
        let (sender, state) = watch::channel(State {
            held: None,
            generation: CredentialsGeneration::default(),
            failure: None,
            next: now,
            not_before: now,
        });
        let keeper = RefreshTask { shared: Arc::clone(&shared), source, state: sender, recoveries };
        let keeper = AbortOnDropHandle::new(tokio::spawn(keeper.keep()));
        Arc::new(Self { shared, state, _keeper: keeper })
    }

    /// Returns as soon as there are valid credentials: at once if some are held, otherwise after the fetch that all
    /// callers share. While a failure is remembered, nothing is fetched and the failure is returned.
    pub async fn ready(&self) -> Result<CredentialsGeneration, Unavailable> {
        self.credentials().await.map(|(generation, _)| generation)
    }

    /// The same, with the credentials themselves, for callers that sign by themselves.
    pub async fn credentials(&self) -> Result<(CredentialsGeneration, Credentials), Unavailable> {
        self.shared.used();
        let mut changes = self.state.clone();
        loop {
            {
                let state = changes.borrow_and_update();
                if let Some(held) = state.valid(&self.shared) {
                    return Ok((state.generation, held.clone()));
                }
                if let Some(failure) = &state.failure
                    && Instant::now() < state.not_before
                {
                    return Err(self.shared.unavailable(&failure.what));
                }
            }
            self.shared.wanted.notify_one();
            if changes.changed().await.is_err() {
                return Err(self.shared.unavailable("nobody fetches them any more"));
            }
        }
    }

    /// Returns whose credentials these are, for people.
    #[must_use]
    pub fn whose(&self) -> &str {
        &self.shared.whose
    }

    /// Reports that AWS has refused the credentials of this generation. They may have been revoked, so others are
    /// fetched as soon as a demand may trigger a fetch. Until then these stay in use.
    pub fn rejected(&self, generation: CredentialsGeneration) {
        self.shared.rejected.fetch_max(generation.0, Ordering::Relaxed);
        self.shared.wanted.notify_one();
    }

    /// Returns the current health; `None` if the credentials are not refreshed because nobody has used them for long.
    #[must_use]
    pub fn health(&self) -> Option<CredentialsHealth> {
        let is_in_use = self.shared.is_in_use();
        let state = self.state.borrow();
        is_in_use.then(|| CredentialsHealth {
            is_failing: state.failure.is_some(),
            expires: state.held.as_ref().and_then(Credentials::expiry),
        })
    }
}

impl State {
    fn valid(&self, shared: &Shared) -> Option<&Credentials> {
        let now = shared.wall();
        self.held.as_ref().filter(|held| !lifetime::left(held.expiry(), now).is_zero())
    }

    /// Returns the credentials, or why there are none.
    fn valid_or_why(&self, shared: &Shared) -> Result<Credentials, Unavailable> {
        self.valid(shared).cloned().ok_or_else(|| {
            let what =
                self.failure.as_ref().map_or("they ended during the call", |failure| failure.what.as_str());
            shared.unavailable(what)
        })
    }

    /// Returns when the next fetch is due; `None` if nobody needs one.
    fn due(&self, shared: &Shared, is_in_use: bool) -> Option<Instant> {
        let is_rejected = shared.rejected.load(Ordering::Relaxed) >= self.generation.0;
        let is_demanded = is_rejected || self.valid(shared).is_none();
        is_in_use.then_some(if is_demanded { self.not_before } else { self.next })
    }
}

impl Shared {
    /// Returns the time by which AWS dates the expiry of credentials.
    fn wall(&self) -> SystemTime {
        self.clock.now().into()
    }

    fn used(&self) {
        let now = Instant::now();
        *self.last_used.lock() = now;
    }

    fn is_in_use(&self) -> bool {
        let last_used = *self.last_used.lock();
        lifetime::is_in_use(last_used.elapsed())
    }

    fn unavailable(&self, what: &str) -> Unavailable {
        Unavailable { whose: self.whose.clone(), what: what.to_owned() }
    }
}

impl<F: Fetch> RefreshTask<F> {
    /// Fetches whenever a fetch is due, for as long as the cache lives.
    async fn keep(self) {
        loop {
            self.until_due().await;
            let outcome = self.source.fetch().await;
            self.settle(outcome);
        }
    }

    async fn until_due(&self) {
        loop {
            let is_in_use = self.shared.is_in_use();
            let due = self.state.borrow().due(&self.shared, is_in_use);
            match due {
                Some(due) if due <= Instant::now() => return,
                Some(due) => tokio::select! {
                    () = tokio::time::sleep_until(due) => {}
                    () = self.shared.wanted.notified() => {}
                },
                None => self.shared.wanted.notified().await,
            }
        }
    }

    /// Applies the outcome of a fetch.
    fn settle(&self, outcome: Result<Credentials, String>) {
        let wall = self.shared.wall();
        let outcome = outcome.and_then(|credentials| {
            if lifetime::left(credentials.expiry(), wall).is_zero() {
                return Err(
                    "those that it returned have expired already; is this machine's clock right?".to_owned()
                );
            }
            Ok(credentials)
        });
        self.state.send_modify(|state| match outcome {
            Ok(credentials) => self.hold(state, credentials, wall),
            Err(what) => self.fail(state, what, wall),
        });
    }

    fn hold(&self, state: &mut State, credentials: Credentials, wall: SystemTime) {
        let were_wanting = state.valid(&self.shared).is_none();
        if state.failure.take().is_some() {
            tracing::info!(identity = self.shared.whose, "AWS credentials can be fetched again");
            if were_wanting {
                self.recoveries.send_modify(|recoveries| *recoveries += 1);
            }
        }
        let now = Instant::now();
        state.generation.0 += 1;
        state.next = now + jittered(lifetime::refresh_after(lifetime::left(credentials.expiry(), wall)));
        state.not_before = now + jittered(lifetime::demand_pause(0));
        state.held = Some(credentials);
    }

    fn fail(&self, state: &mut State, what: String, wall: SystemTime) {
        let in_a_row = state.failure.as_ref().map_or(0, |failure| failure.in_a_row).saturating_add(1);
        let held = state.held.as_ref();
        let left = held.map_or(Duration::ZERO, |held| lifetime::left(held.expiry(), wall));
        if in_a_row == 1 {
            tracing::warn!(
                identity = self.shared.whose,
                error = what,
                seconds_left = left.as_secs(),
                "AWS credentials cannot be fetched; those held are used until they end"
            );
        }
        let now = Instant::now();
        state.next = now + jittered(lifetime::retry_after(in_a_row, left));
        state.not_before = now + jittered(lifetime::demand_pause(in_a_row));
        state.failure = Some(Failure { what, in_a_row });
    }
}

/// The SDK signs with these. It never waits: [`CredentialsCache::ready`] has waited before the call, outside its deadlines.
impl ProvideCredentials for CredentialsCache {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        let held = self.state.borrow().valid_or_why(&self.shared);
        future::ProvideCredentials::ready(held.map_err(CredentialsError::provider_error))
    }
}

impl std::fmt::Debug for CredentialsCache {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("CredentialsCache").field("whose", &self.shared.whose).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
