//! Reading SSM: the only edge that may fail for hours without anybody noticing at the targets.
//!
//! | module | what |
//! |---|---|
//! | [`api`] | the seam: one page of a listing, one batch of names |
//! | [`client`] | the seam over the AWS SDK, one client per source |
//! | [`credentials`] | principals whose credentials survive an outage of STS |
//! | [`errors`] | errors of the SDK as reasons, without bodies |
//! | [`place`] | an account in a region: its budget and its breaker |
//! | [`budget`] | requests per second |
//! | `queue` | whose request is next: namespaces take turns |
//! | [`coalesce`] | requests that wait at the same moment and ask the same are sent once |
//! | [`breaker`] | when to stop asking, and how to begin again |
//! | [`read`] | one read of one mirror: all pages and all values, or nothing |

pub mod api;
pub mod breaker;
pub mod budget;
pub mod client;
pub mod coalesce;
pub mod credentials;
pub mod errors;
pub mod place;
mod queue;
pub mod read;

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{Semaphore, watch};

use crate::clock::Clock;
use crate::mirror::plan::SourcePlan;
use crate::mirror::reading::{ReadFailure, ReadRequest, Reading};
use crate::mirror::selection::Selection;

use self::api::{Connect, Identity, ParameterApi};
use self::breaker::PROBE_EVERY;
use self::budget::Budget;
use self::coalesce::Waiting;
use self::credentials::Health;
use self::place::{Gate, Place, PlaceKey, PlaceState, Places};
use self::read::read;

/// Reads the parameters of a mirror from where its source says.
#[async_trait]
pub trait ParameterReader: Send + Sync {
    /// One read: the whole set, or why not.
    async fn read(&self, source: &SourcePlan, request: &ReadRequest) -> Result<Reading, ReadFailure>;

    /// Grows each time an account and region answers again: whatever failed is due then.
    fn recoveries(&self) -> watch::Receiver<u64>;

    /// How all accounts and regions are that were read from.
    fn places(&self) -> Vec<PlaceState>;

    /// How the account and region of a source are.
    fn place_of(&self, source: &SourcePlan) -> PlaceState;

    /// How the credentials are that these identities read with.
    fn credentials(&self, of: &HashSet<Identity>) -> Vec<Health>;
}

/// Reads parameters of all sources, each with its own client, inside the budget of its account and region.
pub struct SsmReader {
    connect: Box<dyn Connect>,
    clock: Clock,
    places: Places,
    recoveries: watch::Sender<u64>,
    clients: tokio::sync::Mutex<HashMap<Identity, Connected>>,
    accounts: Mutex<HashMap<Identity, String>>,
    caps: Mutex<HashMap<(Identity, u32), Arc<Budget>>>,
}

/// A client, how many of its operations may be under way, and which wait.
#[derive(Clone)]
struct Connected {
    api: Arc<dyn ParameterApi>,
    slots: Arc<Semaphore>,
    waiting: Arc<Waiting>,
}

impl SsmReader {
    /// A reader with this many requests per second for each account and region.
    #[must_use]
    pub fn new(requests_per_second: u32, connect: Box<dyn Connect>, clock: Clock) -> Self {
        Self {
            recoveries: connect.recoveries(),
            connect,
            clock,
            places: Places::new(requests_per_second),
            clients: tokio::sync::Mutex::default(),
            accounts: Mutex::default(),
            caps: Mutex::default(),
        }
    }

    async fn client(&self, key: &Identity) -> Connected {
        let mut clients = self.clients.lock().await;
        if let Some(client) = clients.get(key) {
            return client.clone();
        }
        let api = self.connect.connect(key).await;
        let client = Connected { api, slots: self.places.slots(), waiting: Arc::default() };
        clients.insert(key.clone(), client.clone());
        client
    }

    /// `requestsPerSecond` of a source, shared by everything that reads through it.
    fn cap(&self, source: &SourcePlan, key: &Identity) -> Option<Arc<Budget>> {
        let rate = source.requests_per_second?;
        let mut caps = self.caps.lock().unwrap_or_else(PoisonError::into_inner);
        Some(Arc::clone(caps.entry((key.clone(), rate)).or_insert_with(|| Budget::new(rate))))
    }

    /// The account is in `roleArn`, else in the ARNs read so far; until then it is `self`.
    fn place_key(&self, source: &SourcePlan, key: &Identity) -> PlaceKey {
        let learnt = || self.accounts.lock().unwrap_or_else(PoisonError::into_inner).get(key).cloned();
        let account =
            source.account().map(str::to_owned).or_else(learnt).unwrap_or_else(|| "self".to_owned());
        PlaceKey { account, region: source.region.clone() }
    }
}

fn identity(source: &SourcePlan) -> Identity {
    Identity {
        region: source.region.clone(),
        role_arn: source.role_arn.clone(),
        external_id: source.external_id.clone(),
    }
}

#[async_trait]
impl ParameterReader for SsmReader {
    async fn read(&self, source: &SourcePlan, request: &ReadRequest) -> Result<Reading, ReadFailure> {
        let key = identity(source);
        let Connected { api, slots, waiting } = self.client(&key).await;
        // Before the gate: what cannot be sent takes nothing from the budget.
        api.ready().await?;
        let place_key = self.place_key(source, &key);
        let place = self.places.of(&place_key);
        let gate = Gate::new(Arc::clone(&place), self.cap(source, &key), slots, request.turn.clone());
        let outcome = read(api.as_ref(), (&gate, &waiting), request, &self.clock).await;
        if place.take_probing()
            && let Some(selection) = request.selections.first()
        {
            tokio::spawn(probe(place_key, place, api, selection.clone(), self.recoveries.clone()));
        }
        let reading = outcome?;
        if let Some(account) = &reading.account {
            self.accounts.lock().unwrap_or_else(PoisonError::into_inner).insert(key, account.clone());
        }
        Ok(reading)
    }

    fn recoveries(&self) -> watch::Receiver<u64> {
        self.recoveries.subscribe()
    }

    fn places(&self) -> Vec<PlaceState> {
        self.places.states()
    }

    fn place_of(&self, source: &SourcePlan) -> PlaceState {
        let key = self.place_key(source, &identity(source));
        self.places.of(&key).state(&key)
    }

    fn credentials(&self, of: &HashSet<Identity>) -> Vec<Health> {
        self.connect.credentials(of)
    }
}

/// Knocks with one request each 30 s until somebody answers.
async fn probe(
    key: PlaceKey,
    place: Arc<Place>,
    client: Arc<dyn ParameterApi>,
    selection: Selection,
    recoveries: watch::Sender<u64>,
) {
    let PlaceKey { account, region } = &key;
    tracing::warn!(target: "parameter_mirror", account, region, "SSM does not answer; only a probe is sent, every {} s", PROBE_EVERY.as_secs());
    loop {
        tokio::time::sleep(jittered(PROBE_EVERY)).await;
        let outcome = client.probe(&selection).await;
        if place.probed(outcome.as_ref().map(|&()| ())) {
            tracing::info!(target: "parameter_mirror", account, region, "SSM answers again; what is overdue is read");
            recoveries.send_modify(|recoveries| *recoveries += 1);
            return;
        }
    }
}

/// Give or take a fifth, so that operators that lost SSM together do not come back together.
fn jittered(pause: Duration) -> Duration {
    let random = RandomState::new().build_hasher().finish() % 401;
    pause * (800 + u32::try_from(random).unwrap_or_default()) / 1_000
}
