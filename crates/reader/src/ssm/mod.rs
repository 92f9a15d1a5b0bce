//! SSM itself, for when the mirror cannot be used or does not cover what is asked for.
//!
//! The SDK is loaded with the first request: a start that only reads its mirror must not pay for it. A call ends at its
//! caller's deadline, whatever the server does.

mod error;
mod read;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parameter_mirror_clock::Clock;
use parameter_mirror_format::content::entry::ParameterType;
use parameter_mirror_format::value::Value;
use parameter_mirror_ssm::credentials::{CredentialsCache, Own};
use parameter_mirror_ssm::{Deadline, Endpoint, RawAnswer, Region, SsmClient, SsmError};
use tokio::sync::{OnceCell, watch};
use tokio::time::{Instant, timeout_at};

pub use self::error::SsmReadError;

/// The longest deadline, whatever the caller says: a larger one could overflow an [`Instant`].
const LONGEST: Duration = Duration::from_hours(24);

/// The parameters of one account in one Region. Clones share connections and credentials.
#[derive(Clone)]
pub struct Ssm(Arc<Shared>);

struct Shared {
    region: Region,
    endpoint: Endpoint,
    client: OnceCell<SsmClient>,
}

/// The operations that are forwarded for callers. No other operation can be signed for them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// One name.
    GetParameter,
    /// Up to ten names.
    GetParameters,
    /// One page of the parameters below a path.
    GetParametersByPath,
}

impl Operation {
    /// Parses the header `x-amz-target`, which must match exactly.
    #[must_use]
    pub fn of(target: &str) -> Option<Self> {
        [Self::GetParameter, Self::GetParameters, Self::GetParametersByPath]
            .into_iter()
            .find(|operation| operation.target() == target)
    }

    /// Returns the header `x-amz-target`.
    #[must_use]
    pub fn target(self) -> &'static str {
        match self {
            Self::GetParameter => "AmazonSSM.GetParameter",
            Self::GetParameters => "AmazonSSM.GetParameters",
            Self::GetParametersByPath => "AmazonSSM.GetParametersByPath",
        }
    }
}

/// A parameter, without its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parameter {
    /// The type in SSM.
    pub kind: ParameterType,
    /// The version in SSM.
    pub version: i64,
    /// When SSM last modified the parameter, Unix milliseconds.
    pub date: i64,
    /// The decrypted value.
    pub value: Value,
}

impl Ssm {
    /// The SSM of a Region, with the credentials of this process: environment, profile, SSO, web identity, ECS task or
    /// Pod Identity, instance role, in the order of the SDKs. Sends nothing yet.
    #[must_use]
    pub fn new(region: Region, endpoint: Endpoint) -> Self {
        Self(Arc::new(Shared { region, endpoint, client: OnceCell::new() }))
    }

    /// Reads all selections, completely or not at all: everything below the paths, on every level, and the
    /// names, which may have selectors. All values are decrypted.
    ///
    /// The keys are *names as selected* (docs/design/formats.md): they begin with `/` and keep their
    /// selector. A name without selector replaces the same entry of a path. An absent name is an error, and
    /// so is a path with nothing below it.
    pub async fn read(
        &self,
        paths: &[String],
        names: &[String],
        within: Duration,
    ) -> Result<BTreeMap<String, Parameter>, SsmReadError> {
        let ends = Instant::now() + within.min(LONGEST);
        let client = self.0.ready(ends).await?;
        let read = timeout_at(ends, read::read(client, paths, names)).await;
        read.unwrap_or(Err(SsmReadError::Timeout))
    }

    /// Forwards a request that no mirror covers, with the reader's own signature and headers. Returns the answer as it
    /// is, including errors.
    pub async fn forward(
        &self,
        operation: Operation,
        body: String,
        within: Duration,
    ) -> Result<RawAnswer, SsmReadError> {
        let ends = Instant::now() + within.min(LONGEST);
        let client = self.0.ready(ends).await?;
        let forwarded = timeout_at(ends, client.forward(operation.target(), body)).await;
        Ok(forwarded.map_err(|_| SsmReadError::Timeout)??)
    }
}

impl Shared {
    /// Returns the client as soon as its requests can be signed.
    async fn ready(&self, ends: Instant) -> Result<&SsmClient, SsmReadError> {
        let ready = async {
            let client = self.client.get_or_init(|| self.connect()).await;
            client.ready().await?;
            Ok::<_, SsmError>(client)
        };
        Ok(timeout_at(ends, ready).await.map_err(|_| SsmReadError::NoCredentialsInTime)??)
    }

    async fn connect(&self) -> SsmClient {
        let (region, endpoint) = (self.region.clone(), self.endpoint.clone());
        let own = Own::new(region.clone());
        let whose = "this process".to_owned();
        let principal = CredentialsCache::start(Clock::start(), whose, own, watch::Sender::new(0));
        SsmClient::connect(region, endpoint, Deadline::OfTheCaller, principal).await
    }
}

impl std::fmt::Debug for Ssm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ssm").field("region", &self.0.region).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
