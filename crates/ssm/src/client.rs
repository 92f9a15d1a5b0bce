//! One identity's client.

use std::sync::Arc;
use std::time::Duration;

use aws_config::identity::IdentityCache;
use aws_config::{BehaviorVersion, Region};
use aws_credential_types::provider::ProvideCredentials;
use aws_sdk_ssm::Client;
use aws_sdk_ssm::config::http::HttpResponse;
use aws_sdk_ssm::config::retry::{RetryConfig, RetryPartition, TokenBucket};
use aws_sdk_ssm::config::timeout::TimeoutConfig;
use aws_sdk_ssm::error::{ProvideErrorMetadata, SdkError};

use crate::answer::{Batch, ListPage, PAGE, Page, listed};
use crate::credentials::{CredentialsCache, CredentialsGeneration};
use crate::error::{self, SsmError, malformed};

/// docs/design/formats.md, "Two rhythms". The SDK has no read timeout of its own: a server that accepts and stays
/// silent would block a call for ever (measured).
const CONNECT: Duration = Duration::from_secs(3);
const ATTEMPT: Duration = Duration::from_secs(5);
const OPERATION: Duration = Duration::from_secs(20);
const ATTEMPTS: u32 = 3;
/// The retries of one identity: a burst of ten, and one more for each ten answers. The SDK allows fifty, which doubles
/// the load of a service that is half down.
const RETRIES: usize = 10;
const RETRY_COST: u32 = 10;

/// What a probe asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Probed<'a> {
    /// Something below this path.
    Path(&'a str),
    /// This name, which may have a selector.
    Name(&'a str),
}

/// SSM through the AWS SDK, for one identity. Every call has a deadline.
pub struct SsmClient {
    client: Client,
    principal: Arc<CredentialsCache>,
}

impl SsmClient {
    /// Creates a client. It sends nothing to SSM before its first call.
    pub async fn connect(region: Region, principal: Arc<CredentialsCache>) -> Self {
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(CONNECT)
            .read_timeout(ATTEMPT)
            .operation_attempt_timeout(ATTEMPT)
            .operation_timeout(OPERATION)
            .build();
        // By default the retries of all clients of a region share one bucket: one failing role would starve the others.
        let partition = format!("ssm {region} {}", principal.whose());
        let base = aws_config::defaults(BehaviorVersion::v2026_01_12())
            .region(region)
            .timeout_config(timeouts.clone())
            .credentials_provider(Arc::clone(&principal) as Arc<dyn ProvideCredentials>)
            // `CredentialsCache` replaces the SDK's cache, which uses refused credentials until they expire.
            .identity_cache(IdentityCache::no_cache())
            .load()
            .await;
        let retries = TokenBucket::builder()
            .capacity(RETRIES * RETRY_COST as usize)
            .retry_cost(RETRY_COST)
            .throttling_retry_cost(RETRY_COST)
            .timeout_retry_cost(RETRY_COST)
            .success_reward(1.0)
            .build();
        let config = aws_sdk_ssm::config::Builder::from(&base)
            .retry_config(RetryConfig::standard().with_max_attempts(ATTEMPTS))
            .retry_partition(RetryPartition::custom(partition).token_bucket(retries).build())
            .timeout_config(timeouts);
        Self { client: Client::from_conf(config.build()), principal }
    }

    /// Waits for credentials, outside the deadlines of the call that needs them.
    async fn credentials(&self) -> Result<CredentialsGeneration, SsmError> {
        self.principal.ready().await.map_err(|none| SsmError::from(&none))
    }

    /// Classifies a failed call, and reports refused credentials to their cache.
    fn failed<E>(
        &self,
        operation: &str,
        used: CredentialsGeneration,
        error: &SdkError<E, HttpResponse>,
    ) -> SsmError
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        let failure = error::classify(operation, error);
        if error::code(error).is_none_or(|code| !error::refuses_credentials(&code)) {
            return failure;
        }
        self.principal.rejected(used);
        let detail = format!("{} with the credentials of {}", failure.detail, self.principal.whose());
        SsmError { detail, ..failure }
    }

    /// Requests one page below a path.
    pub async fn list(&self, page: ListPage<'_>) -> Result<Page, SsmError> {
        let used = self.credentials().await?;
        let answer = self
            .client
            .get_parameters_by_path()
            .path(page.path)
            .recursive(page.recursive)
            .with_decryption(page.decrypt)
            .max_results(i32::try_from(PAGE).unwrap_or(10))
            .set_next_token(page.token.map(str::to_owned))
            .send()
            .await
            .map_err(|error| self.failed("GetParametersByPath", used, &error))?;
        // HTTP 200 without this field decodes as "nothing there" (measured); it is not an answer at all.
        let parameters =
            answer.parameters.ok_or_else(|| malformed("GetParametersByPath", "no field Parameters"))?;
        Ok(Page {
            parameters: listed("GetParametersByPath", parameters, page.decrypt)?,
            next: answer.next_token.filter(|token| !token.is_empty()),
        })
    }

    /// Requests at most [`PAGE`] parameters by name.
    pub async fn get(&self, names: &[String], decrypt: bool) -> Result<Batch, SsmError> {
        let used = self.credentials().await?;
        let answer = self
            .client
            .get_parameters()
            .set_names(Some(names.to_vec()))
            .with_decryption(decrypt)
            .send()
            .await
            .map_err(|error| self.failed("GetParameters", used, &error))?;
        if answer.parameters.is_none() && answer.invalid_parameters.is_none() {
            return Err(malformed("GetParameters", "no field Parameters"));
        }
        Ok(Batch {
            parameters: listed("GetParameters", answer.parameters.unwrap_or_default(), decrypt)?,
            invalid: answer.invalid_parameters.unwrap_or_default(),
        })
    }

    /// Sends one request without retries, to see whether anybody answers. The answer is discarded.
    pub async fn probe(&self, probed: Probed<'_>) -> Result<(), SsmError> {
        let used = self.credentials().await?;
        let once = aws_sdk_ssm::config::Config::builder().retry_config(RetryConfig::disabled());
        match probed {
            Probed::Path(path) => {
                let request = self.client.get_parameters_by_path().path(path).max_results(1);
                let sent = request.customize().config_override(once).send().await;
                sent.map(|_| ()).map_err(|error| self.failed("GetParametersByPath", used, &error))
            }
            Probed::Name(name) => {
                let request = self.client.get_parameters().names(name);
                let sent = request.customize().config_override(once).send().await;
                sent.map(|_| ()).map_err(|error| self.failed("GetParameters", used, &error))
            }
        }
    }

    /// Waits until requests can be signed, or returns why they cannot.
    pub async fn ready(&self) -> Result<(), SsmError> {
        self.credentials().await.map(|_| ())
    }
}
