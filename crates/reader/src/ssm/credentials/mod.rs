//! Where credentials come from, in the order of the SDKs, and how long they are used.
//!
//! 1. `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY` and `AWS_SESSION_TOKEN`: also those of a Lambda function.
//! 2. A web identity, such as a service account's (IRSA): `AWS_WEB_IDENTITY_TOKEN_FILE` and `AWS_ROLE_ARN`.
//! 3. The endpoint of a container: ECS tasks, and EKS Pod Identity.
//! 4. The instance's metadata service, in its second version (`IMDSv2`) only.
//!
//! The first one that is configured decides: its failure is not covered up by the credentials of somebody else.
//! Profiles, SSO and `credential_process` are out of scope: nothing that starts tasks in AWS needs them.

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

/// Credentials are fetched anew when they have so long left.
const EARLY: Duration = Duration::from_mins(5);
/// After a fetch, whatever it brought, those held are used so long before the next one, as long as they are valid:
/// calls must not all wait for a source that fails, or ask it again for what AWS refuses anyway.
const PAUSE: Duration = Duration::from_secs(30);

/// The credentials of this process: fetched when needed, kept until shortly before their end.
pub(super) struct Chain {
    environment: Environment,
    region: String,
    http: Http,
    held: Mutex<Held>,
    /// One fetch at a time, for all callers.
    fetching: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Held {
    credentials: Option<Credentials>,
    /// AWS has refused them.
    is_refused: bool,
    /// No fetch before, while these are valid.
    not_before: Option<Instant>,
}

/// What is to be done with what is held.
enum Standing {
    Use(Credentials),
    /// They are valid, and a fetch is due.
    Renew(Credentials),
    Fetch,
}

impl Held {
    /// AWS does not accept these: if they are still the ones held, others are fetched for the next call.
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

    /// Valid credentials, within the budget; or in a clause for people why there are none. The clause holds no body,
    /// no token and no key.
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

    /// AWS does not accept these: others are fetched for the next call.
    pub(super) fn refused(&self, credentials: &Credentials) {
        self.held.lock().refuse(credentials);
    }

    /// Newer ones if they come soon, else those held, to their end. A source that keeps silent must not cost the call
    /// that can do without it.
    async fn renew(&self, held: Credentials, budget: &Budget) -> Credentials {
        let Ok(_alone) = self.fetching.try_lock() else { return held };
        // Set first: a call that is given up in the middle counts as failed too.
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

/// What was looked for before the last of the sources.
const NOTHING_ELSE: &str = "the environment names no keys, no web identity and no container credentials, and profiles and SSO are not read here";

#[cfg(test)]
mod cache_tests;
#[cfg(test)]
mod sources_tests;
