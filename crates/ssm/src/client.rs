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
use aws_smithy_types::body::SdkBody;

use crate::answer::{Batch, ListPage, PAGE, Page, listed};
use crate::credentials::{CredentialsCache, CredentialsGeneration};
use crate::error::{self, SsmError, malformed, unusable};
use crate::http;
use crate::intercept::{KeepAnswer, KeepHost, LimitAnswer};

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
/// For a caller in a hurry: a connection leaves room for one lost packet (TCP retransmits after one second), and the one
/// retry comes soon, but not at the same moment as those of many tasks that start together.
const HURRIED_CONNECT: Duration = Duration::from_secs(2);
const HURRIED_BACKOFF: Duration = Duration::from_millis(200);
/// How long its idle connections are reused: an older one may have died unnoticed while a Lambda was frozen.
const HURRIED_IDLE: Duration = Duration::from_secs(10);

/// Who ends a call that gets no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deadline {
    /// The client, after 20 s and three attempts.
    OfTheClient,
    /// The caller, by dropping the call. It is attempted twice.
    OfTheCaller,
}

/// Where SSM is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// Where environment or profile say; otherwise in the Region.
    Configured,
    /// At this URL, whatever is configured.
    Url(String),
    /// In the Region, whatever is configured.
    OfTheRegion,
}

/// An answer as SSM sent it. It may hold values, so it has no `Debug`.
pub struct RawAnswer {
    /// The HTTP status.
    pub status: u16,
    /// The body.
    pub body: Vec<u8>,
}

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
    host: KeepHost,
}

impl SsmClient {
    /// Creates a client. It sends nothing to SSM before its first call.
    pub async fn connect(
        region: Region,
        endpoint: Endpoint,
        deadline: Deadline,
        principal: Arc<CredentialsCache>,
    ) -> Self {
        let timeouts = match deadline {
            Deadline::OfTheClient => TimeoutConfig::builder()
                .connect_timeout(CONNECT)
                .read_timeout(ATTEMPT)
                .operation_attempt_timeout(ATTEMPT)
                .operation_timeout(OPERATION),
            Deadline::OfTheCaller => TimeoutConfig::builder().connect_timeout(HURRIED_CONNECT),
        };
        let timeouts = timeouts.build();
        let retry = match deadline {
            Deadline::OfTheClient => RetryConfig::standard().with_max_attempts(ATTEMPTS),
            Deadline::OfTheCaller => RetryConfig::standard()
                .with_max_attempts(2)
                .with_initial_backoff(HURRIED_BACKOFF)
                .with_max_backoff(HURRIED_BACKOFF),
        };
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
        let idle = match deadline {
            Deadline::OfTheClient => None,
            Deadline::OfTheCaller => Some(HURRIED_IDLE),
        };
        let host = KeepHost::default();
        let mut config = aws_sdk_ssm::config::Builder::from(&base)
            .http_client(http::client(idle).await)
            .retry_config(retry)
            .retry_partition(RetryPartition::custom(partition).token_bucket(retries).build())
            .timeout_config(timeouts)
            .interceptor(LimitAnswer)
            .interceptor(host.clone());
        match endpoint {
            Endpoint::Configured => {}
            Endpoint::Url(url) => {
                config.set_endpoint_url(Some(url));
            }
            Endpoint::OfTheRegion => {
                config.set_endpoint_url(None);
            }
        }
        Self { client: Client::from_conf(config.build()), principal, host }
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
        let failure = error::classify(operation, &self.host.get(), error);
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
        match probed {
            Probed::Path(path) => {
                let request = self.client.get_parameters_by_path().path(path).max_results(1);
                let sent = request.customize().config_override(once()).send().await;
                sent.map(|_| ()).map_err(|error| self.failed("GetParametersByPath", used, &error))
            }
            Probed::Name(name) => {
                let request = self.client.get_parameters().names(name);
                let sent = request.customize().config_override(once()).send().await;
                sent.map(|_| ()).map_err(|error| self.failed("GetParameters", used, &error))
            }
        }
    }

    /// Sends a request on as its caller made it, without retries: the caller retries. Returns the answer as it is, also
    /// when it is an error. `target` names the operation, as the header `x-amz-target` does, and `body` is its JSON.
    pub async fn forward(&self, target: &'static str, body: String) -> Result<RawAnswer, SsmError> {
        let operation = target.rsplit('.').next().unwrap_or(target);
        let used = self.credentials().await?;
        let answer = KeepAnswer::default();
        // All operations of SSM differ in this header and in the body alone. The SDK signs what the request says by then.
        let sent = self
            .client
            .get_parameter()
            .name(operation)
            .customize()
            .config_override(once())
            .interceptor(answer.clone())
            .mutate_request(move |request| {
                request.headers_mut().insert("x-amz-target", target);
                request.headers_mut().insert("content-length", body.len().to_string());
                *request.body_mut() = SdkBody::from(body.as_str());
            })
            .send()
            .await;
        let failure = sent.err().map(|error| self.failed(operation, used, &error));
        match (answer.take(), failure) {
            (Some(answer), _) => Ok(answer),
            (None, Some(failure)) => Err(failure),
            (None, None) => Err(unusable(operation, "an answer without a body")),
        }
    }

    /// Waits until requests can be signed, or returns why they cannot.
    pub async fn ready(&self) -> Result<(), SsmError> {
        self.credentials().await.map(|_| ())
    }
}

/// The configuration of a call without retries.
fn once() -> aws_sdk_ssm::config::Builder {
    aws_sdk_ssm::config::Config::builder().retry_config(RetryConfig::disabled())
}
