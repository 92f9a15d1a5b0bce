//! The sources of credentials, in the order of the SDKs, and how long credentials are used.
//!
//! 1. `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY` and `AWS_SESSION_TOKEN`, also in a Lambda function.
//! 2. A web identity, such as a service account's (IRSA): `AWS_WEB_IDENTITY_TOKEN_FILE` and `AWS_ROLE_ARN`.
//! 3. The endpoint of a container: ECS tasks, and EKS Pod Identity.
//! 4. The instance metadata service, only in its second version (`IMDSv2`).
//!
//! The first source that is configured is used. If it fails, no other source is tried, because that would be
//! another identity. Profiles, SSO and `credential_process` are out of scope: nothing that starts tasks in
//! AWS needs them.

mod ask;
mod container;
mod environment;
mod handed;
mod instance;
mod web_identity;

use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use tokio::time::{Instant, timeout_at};
use tracing_mutex::parkinglot::Mutex;

use self::container::Container;
pub use self::environment::Environment;
use self::instance::Instance;
use self::web_identity::WebIdentity;
use super::http::{Budget, Http};

/// Credentials are renewed when they expire within this time.
const EARLY: Duration = Duration::from_mins(5);
/// The pause between two fetches, successful or not, while the cached credentials are valid. Without it, all
/// calls would wait for a source that fails, or fetch again credentials that AWS refuses anyway.
const PAUSE: Duration = Duration::from_secs(30);

/// The credentials of this process: fetched on demand, and cached until shortly before they expire.
pub(super) struct Chain {
    environment: Environment,
    region: String,
    http: Http,
    held: Mutex<Held>,
    /// Held during a fetch, so that callers share one.
    fetching: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Held {
    credentials: Option<Credentials>,
    /// AWS has refused the credentials.
    is_refused: bool,
    /// The earliest time of the next fetch while the credentials are valid.
    not_before: Option<Instant>,
}

/// What to do with the cached credentials.
enum Standing {
    Use(Credentials),
    /// The credentials are valid, and a fetch is due.
    Renew(Credentials),
    Fetch,
}

impl Held {
    /// Marks these credentials as refused by AWS, if they are still the cached ones. The next call fetches
    /// others.
    fn refuse(&mut self, credentials: &Credentials) {
        self.is_refused |= self.credentials.as_ref() == Some(credentials);
    }

    fn standing(&self, wall: SystemTime, now: Instant) -> Standing {
        let Some(held) = &self.credentials else { return Standing::Fetch };
        let left = held.expiry().map(|end| end.duration_since(wall).unwrap_or_default());
        let is_due = self.is_refused || left.is_some_and(|left| left <= EARLY);
        let is_paused = self.not_before.is_some_and(|until| now < until);
        match left {
            Some(Duration::ZERO) => Standing::Fetch,
            _ if is_due && !is_paused => Standing::Renew(held.clone()),
            _ => Standing::Use(held.clone()),
        }
    }
}

impl Chain {
    pub(super) fn new(environment: Environment, region: String, http: Http) -> Self {
        Self { environment, region, http, held: Mutex::default(), fetching: tokio::sync::Mutex::default() }
    }

    /// Returns valid credentials within the budget, or a clause for people that says why there are none. The
    /// clause contains no body, token or key.
    pub(super) async fn provide(&self, budget: &mut Budget) -> Result<Credentials, String> {
        match self.standing() {
            Standing::Use(held) => Ok(held),
            Standing::Renew(held) => Ok(self.renew(held, budget).await),
            Standing::Fetch => {
                let waited = timeout_at(budget.ends(), self.fetching.lock()).await;
                let _alone = waited.map_err(|_| "they are being fetched, and no answer came in time")?;
                match self.standing() {
                    Standing::Use(held) | Standing::Renew(held) => Ok(held),
                    Standing::Fetch => self.fetch(budget).await,
                }
            }
        }
    }

    /// Records that AWS refused these credentials. The next call fetches others.
    pub(super) fn refused(&self, credentials: &Credentials) {
        self.held.lock().refuse(credentials);
    }

    /// Returns renewed credentials if they arrive soon, or the cached ones, which are still valid. A silent
    /// source must not hold up a call that can do without it.
    async fn renew(&self, held: Credentials, budget: &Budget) -> Credentials {
        let Ok(_alone) = self.fetching.try_lock() else { return held };
        // Set before the fetch, so that a cancelled call counts as a failed fetch, too.
        let not_before = pause();
        self.held.lock().not_before = not_before;
        self.fetch(&mut budget.aside()).await.unwrap_or(held)
    }

    async fn fetch(&self, budget: &mut Budget) -> Result<Credentials, String> {
        let credentials = self.ask_source(budget).await?;
        if credentials.expiry().is_some_and(|end| end <= SystemTime::now()) {
            return Err("those handed out have ended already; is this machine's clock right?".to_owned());
        }
        let held = Held { credentials: Some(credentials.clone()), is_refused: false, not_before: pause() };
        *self.held.lock() = held;
        Ok(credentials)
    }

    async fn ask_source(&self, budget: &mut Budget) -> Result<Credentials, String> {
        if let Some(credentials) = self.environment.keys() {
            return credentials;
        }
        if let Some(identity) = WebIdentity::configured(&self.environment, &self.region) {
            return identity?.fetch(&self.http, budget).await;
        }
        if let Some(container) = Container::configured(&self.environment) {
            return container?.fetch(&self.http, budget).await;
        }
        if let Some(instance) = Instance::configured(&self.environment) {
            return instance
                .fetch(&self.http, budget)
                .await
                .map_err(|what| format!("{what}; {NOTHING_ELSE}"));
        }
        Err(format!(
            "the instance metadata service is switched off (AWS_EC2_METADATA_DISABLED); {NOTHING_ELSE}"
        ))
    }

    fn standing(&self) -> Standing {
        let (wall, now) = (SystemTime::now(), Instant::now());
        self.held.lock().standing(wall, now)
    }
}

fn pause() -> Option<Instant> {
    Instant::now().checked_add(PAUSE)
}

/// The sources that were checked before the last one.
const NOTHING_ELSE: &str = "the environment names no keys, no web identity and no container credentials, and profiles and SSO are not read here";

#[cfg(test)]
mod cache_tests;
#[cfg(test)]
mod sources_tests;
