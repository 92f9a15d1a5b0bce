//! Reads SSM: the only dependency that may fail for hours without any effect on the targets.
//!
//! | module | what |
//! |---|---|
//! | [`api`] | the interface to SSM: one page of a listing, one batch of names |
//! | [`client`] | `crates/ssm` behind that interface, one client per identity |
//! | [`limiter`] | how many requests are sent, which one is next, and when none are |
//! | [`probes`] | what an open breaker probes |
//! | [`coalesce`] | equal requests that wait at the same moment are sent once |
//! | [`mod@read`] | one read of one mirror: all pages and all values, or nothing |

pub mod api;
pub mod client;
pub(crate) mod coalesce;
pub(crate) mod limiter;
pub(crate) mod probes;
pub(crate) mod read;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::{OnceCell, watch};
use tracing_mutex::parkinglot::Mutex;

use crate::mirror::plan::{SourceIdentity, SourcePlan};
use crate::mirror::snapshot::{ReadError, ReadRequest, Snapshot};
use parameter_mirror_clock::{Clock, jittered};

use self::api::{Connect, ParameterApi};
use self::coalesce::PendingRequests;
use self::limiter::breaker::PROBE_EVERY;
use self::limiter::rate_limiter::RateLimiter;
use self::limiter::{AccountKey, AccountLimiters, AccountState, Limiter, Slots};
use self::probes::{Probe, Probes};
use self::read::read;
use parameter_mirror_ssm::credentials::CredentialsHealth;

/// Reads the parameters of a mirror through its source.
#[async_trait]
pub trait ParameterReader: Send + Sync {
    /// Reads once, and returns the whole set, or why it could not be read.
    async fn read(&self, source: &SourcePlan, request: &ReadRequest) -> Result<Snapshot, ReadError>;

    /// Counts how often an account and region answered again: whatever failed is due then.
    fn recoveries(&self) -> watch::Receiver<u64>;

    /// Takes a snapshot of each account and region that was read from.
    fn accounts(&self) -> Vec<AccountState>;

    /// Takes a snapshot of the account and region of a source.
    fn account_of(&self, source: &SourcePlan) -> AccountState;

    /// Returns the health of the credentials that these identities read with.
    fn credentials(&self, of: &HashSet<SourceIdentity>) -> Vec<CredentialsHealth>;
}

/// Reads the parameters of all sources, with one client per identity, within the rate limit of its account and region.
pub struct SsmReader {
    connect: Box<dyn Connect>,
    clock: Clock,
    limiters: AccountLimiters,
    recoveries: watch::Sender<u64>,
    /// One cell per identity, so that one that takes long to connect delays no other.
    clients: Mutex<HashMap<SourceIdentity, Arc<OnceCell<Connected>>>>,
    /// The account of each identity, once an ARN has shown it.
    accounts: Mutex<HashMap<SourceIdentity, String>>,
    caps: Mutex<HashMap<(SourceIdentity, u32), Arc<RateLimiter>>>,
    /// What is probed while a breaker is open.
    probes: Mutex<HashMap<AccountKey, Arc<Probes>>>,
}

/// A client, the slots for its operations, and the requests that wait for it.
#[derive(Clone)]
struct Connected {
    api: Arc<dyn ParameterApi>,
    slots: Arc<Slots>,
    waiting: Arc<PendingRequests>,
}

impl SsmReader {
    /// A reader with this many requests per second for each account and region.
    #[must_use]
    pub fn new(requests_per_second: u32, connect: Box<dyn Connect>, clock: Clock) -> Self {
        Self {
            recoveries: connect.recoveries(),
            connect,
            clock,
            limiters: AccountLimiters::new(requests_per_second),
            clients: Mutex::default(),
            accounts: Mutex::default(),
            caps: Mutex::default(),
            probes: Mutex::default(),
        }
    }

    async fn client(&self, key: &SourceIdentity) -> Connected {
        let client = Arc::clone(self.clients.lock().entry(key.clone()).or_default());
        let connect = async {
            let api = self.connect.connect(key).await;
            Connected { api, slots: self.limiters.slots(), waiting: Arc::default() }
        };
        client.get_or_init(async || connect.await).await.clone()
    }

    /// Returns the limiter for `requestsPerSecond` of a source, which everything that reads through it shares.
    fn cap(&self, source: &SourcePlan, key: &SourceIdentity) -> Option<Arc<RateLimiter>> {
        let rate = source.requests_per_second?;
        let mut caps = self.caps.lock();
        Some(Arc::clone(caps.entry((key.clone(), rate)).or_insert_with(|| RateLimiter::new(rate))))
    }

    /// Returns account and region. The account is in `roleArn`, otherwise in the ARNs read so far.
    fn account_key(&self, source: &SourcePlan, key: &SourceIdentity) -> AccountKey {
        let learnt = || self.accounts.lock().get(key).cloned();
        let account = source
            .account()
            .map(str::to_owned)
            .or_else(learnt)
            .unwrap_or_else(|| AccountKey::UNKNOWN.to_owned());
        AccountKey { account, region: source.region.clone() }
    }
}

#[async_trait]
impl ParameterReader for SsmReader {
    async fn read(&self, source: &SourcePlan, request: &ReadRequest) -> Result<Snapshot, ReadError> {
        let key = source.identity();
        let Connected { api, slots, waiting } = self.client(&key).await;
        // Before the limiter: a request that cannot be signed takes no token.
        api.ready().await?;
        let account_key = self.account_key(source, &key);
        let account = self.limiters.limiter(&account_key);
        let limiter = Limiter::new(Arc::clone(&account), self.cap(source, &key), slots, request.turn.clone())
            .with_large_reads(self.limiters.large_reads());
        let outcome = read(api.as_ref(), (&limiter, &waiting), request, &self.clock).await;
        if account.admit().is_err() {
            let probes = Arc::clone(self.probes.lock().entry(account_key.clone()).or_default());
            probes.note(&request.turn.namespace, &api, &request.selections);
            if account.claim_probe() {
                tokio::spawn(probe(account_key, account, probes, self.recoveries.clone()));
            }
        }
        let reading = outcome?;
        if let Some(account) = reading.account.clone().filter(|_| source.account().is_none()) {
            self.limiters.learn(&AccountKey { account: account.clone(), region: source.region.clone() });
            self.accounts.lock().insert(key, account);
        }
        Ok(reading)
    }

    fn recoveries(&self) -> watch::Receiver<u64> {
        self.recoveries.subscribe()
    }

    fn accounts(&self) -> Vec<AccountState> {
        self.limiters.states()
    }

    fn account_of(&self, source: &SourcePlan) -> AccountState {
        let key = self.account_key(source, &source.identity());
        AccountState::of(&key, &self.limiters.limiter(&key))
    }

    fn credentials(&self, of: &HashSet<SourceIdentity>) -> Vec<CredentialsHealth> {
        self.connect.credentials(of)
    }
}

/// Sends one request every 30 s until SSM answers.
async fn probe(
    key: AccountKey,
    limiter: Arc<RateLimiter>,
    probes: Arc<Probes>,
    recoveries: watch::Sender<u64>,
) {
    let AccountKey { account, region } = &key;
    tracing::warn!(
        account,
        region,
        "SSM does not answer; only a probe is sent, every {} s",
        PROBE_EVERY.as_secs()
    );
    loop {
        tokio::time::sleep(jittered(PROBE_EVERY)).await;
        // The read that opened the breaker has noted something to probe.
        let Some(Probe { api, selection }) = probes.next() else { continue };
        let outcome = api.probe(&selection).await;
        if limiter.record_probe(outcome.as_ref().map(|&()| ())) {
            tracing::info!(account, region, "SSM answers again; what is overdue is read");
            probes.clear();
            recoveries.send_modify(|recoveries| *recoveries += 1);
            return;
        }
    }
}
