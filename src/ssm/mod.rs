//! Reading SSM: the only edge that may fail for hours without anybody noticing at the targets.
//!
//! | module | what |
//! |---|---|
//! | [`api`] | the seam: one page of a listing, one batch of names |
//! | [`client`] | the seam over the AWS SDK, one client per source |
//! | [`errors`] | errors of the SDK as reasons, without bodies |
//! | [`budget`] | requests per second for each account and region |
//! | [`read`] | one read of one mirror: all pages and all values, or nothing |

pub mod api;
pub mod budget;
pub mod client;
pub mod errors;
pub mod read;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;

use crate::mirror::plan::SourcePlan;
use crate::mirror::reading::{ReadFailure, ReadRequest, Reading};

use self::budget::{Budget, BudgetKey, Budgets, Gate};
use self::client::SsmApi;
use self::read::read;

/// Reads the parameters of a mirror from where its source says.
#[async_trait]
pub trait ParameterReader: Send + Sync {
    /// One read: the whole set, or why not.
    async fn read(&self, source: &SourcePlan, request: &ReadRequest) -> Result<Reading, ReadFailure>;
}

/// Reads parameters of all sources, each with its own client, inside the budget of its account and region.
pub struct SsmReader {
    budgets: Budgets,
    clients: tokio::sync::Mutex<HashMap<ClientKey, Arc<SsmApi>>>,
    accounts: Mutex<HashMap<ClientKey, String>>,
    caps: Mutex<HashMap<(ClientKey, u32), Arc<Budget>>>,
}

/// Sources that differ in one of these need a client of their own.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct ClientKey {
    region: String,
    role_arn: Option<String>,
    external_id: Option<String>,
}

impl SsmReader {
    /// A reader with this many requests per second for each account and region.
    #[must_use]
    pub fn new(requests_per_second: u32) -> Self {
        Self {
            budgets: Budgets::new(requests_per_second),
            clients: tokio::sync::Mutex::default(),
            accounts: Mutex::default(),
            caps: Mutex::default(),
        }
    }

    async fn client(&self, key: &ClientKey) -> Arc<SsmApi> {
        let mut clients = self.clients.lock().await;
        if let Some(client) = clients.get(key) {
            return Arc::clone(client);
        }
        let client =
            Arc::new(SsmApi::connect(&key.region, key.role_arn.as_deref(), key.external_id.as_deref()).await);
        clients.insert(key.clone(), Arc::clone(&client));
        client
    }

    /// `requestsPerSecond` of a source, shared by everything that reads through it.
    fn cap(&self, source: &SourcePlan, key: &ClientKey) -> Option<Arc<Budget>> {
        let rate = source.requests_per_second?;
        let mut caps = self.caps.lock().unwrap_or_else(PoisonError::into_inner);
        Some(Arc::clone(caps.entry((key.clone(), rate)).or_insert_with(|| Budget::new(rate))))
    }

    /// The account is in `roleArn`, else in the ARNs read so far; until then it is `self`.
    fn budget_key(&self, source: &SourcePlan, key: &ClientKey) -> BudgetKey {
        let learnt = || self.accounts.lock().unwrap_or_else(PoisonError::into_inner).get(key).cloned();
        let account =
            source.account().map(str::to_owned).or_else(learnt).unwrap_or_else(|| "self".to_owned());
        BudgetKey { account, region: source.region.clone() }
    }
}

#[async_trait]
impl ParameterReader for SsmReader {
    async fn read(&self, source: &SourcePlan, request: &ReadRequest) -> Result<Reading, ReadFailure> {
        let key = ClientKey {
            region: source.region.clone(),
            role_arn: source.role_arn.clone(),
            external_id: source.external_id.clone(),
        };
        let client = self.client(&key).await;
        let budget = self.budgets.of(&self.budget_key(source, &key));
        let gate = Gate::new(budget, self.cap(source, &key), request.priority);
        let reading = read(client.as_ref(), &gate, request).await?;
        if let Some(account) = &reading.account {
            self.accounts.lock().unwrap_or_else(PoisonError::into_inner).insert(key, account.clone());
        }
        Ok(reading)
    }
}
