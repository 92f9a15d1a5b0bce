//! Where credentials come from: the default chain of the SDK, and roles assumed with them.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use aws_config::environment::EnvironmentVariableRegionProvider;
use aws_config::identity::IdentityCache;
use aws_config::meta::region::RegionProviderChain;
use aws_config::profile::ProfileFileRegionProvider;
use aws_config::sts::AssumeRoleProvider;
use aws_config::{BehaviorVersion, ConfigLoader, Region};
use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{self, ProvideCredentials};
use aws_sdk_ssm::config::http::HttpResponse;
use aws_sdk_ssm::config::retry::RetryConfig;
use aws_sdk_ssm::config::timeout::TimeoutConfig;
use aws_sdk_ssm::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_sts::operation::assume_role::AssumeRoleError;
use aws_sdk_sts::operation::assume_role_with_web_identity::AssumeRoleWithWebIdentityError;

use crate::error::{causes, refuses_credentials, shown_code};
use crate::{http, no_connection};

use super::{CredentialsCache, Fetch};

const CONNECT: Duration = Duration::from_secs(3);
const ATTEMPT: Duration = Duration::from_secs(5);
/// Deadline of a whole fetch. The SDK alone would wait 22 s for a silent STS (measured).
const FETCH: Duration = Duration::from_secs(10);
/// One retry bridges a single bad answer; after that the [`CredentialsCache`] backs off.
const ATTEMPTS: u32 = 2;

/// The operator's own identity: environment, profile, web identity (IRSA), Pod Identity or instance role, in the order
/// of the SDK's default chain.
pub struct Own {
    region: Region,
}

impl Own {
    /// The chain of this process. Its STS is that of `AWS_REGION` or of the profile; without these, that of `region`.
    #[must_use]
    pub fn new(region: Region) -> Self {
        Self { region }
    }
}

#[async_trait]
impl Fetch for Own {
    /// The chain is built for each fetch: it would read profile files only once, and mounted ones change.
    async fn fetch(&self) -> Result<Credentials, String> {
        let region = regions().or_else(self.region.clone());
        // Boxed: the SDK's whole chain takes 24 kB.
        let fetch = Box::pin(async {
            let chain = loader().await.region(region).load().await;
            let chain = chain.credentials_provider().ok_or_else(CredentialsError::not_loaded_no_source)?;
            chain.provide_credentials().await
        });
        within_deadline(fetch).await.map_err(|error| describe(&error))
    }
}

/// Returns where an AWS process finds its region: `AWS_REGION`, or its profile.
fn regions() -> RegionProviderChain {
    RegionProviderChain::first_try(EnvironmentVariableRegionProvider::new())
        .or_else(ProfileFileRegionProvider::new())
}

/// Returns the region that the environment gives this process.
pub async fn region_of_environment() -> Option<Region> {
    regions().region().await
}

/// A role that the operator assumes, at the STS of the region it reads in: a region must not depend on another one.
pub struct Assumed {
    own: Arc<CredentialsCache>,
    role: AssumeRoleProvider,
}

impl Assumed {
    /// The role, assumed with the operator's `own` identity.
    pub async fn new(
        own: Arc<CredentialsCache>,
        region: Region,
        role_arn: &str,
        external_id: Option<&str>,
    ) -> Self {
        let config = loader()
            .await
            .region(region)
            .credentials_provider(Arc::clone(&own) as Arc<dyn ProvideCredentials>)
            .identity_cache(IdentityCache::no_cache())
            .load()
            .await;
        let mut role =
            AssumeRoleProvider::builder(role_arn).session_name("parameter-mirror").configure(&config);
        if let Some(external_id) = external_id {
            role = role.external_id(external_id);
        }
        Self { own, role: role.build().await }
    }
}

#[async_trait]
impl Fetch for Assumed {
    async fn fetch(&self) -> Result<Credentials, String> {
        let own = self.own.ready().await.map_err(|none| format!("nor for {}: {}", none.whose, none.what))?;
        within_deadline(self.role.provide_credentials()).await.map_err(|error| {
            let code = by_sts(&error).and_then(|sts| sts.code);
            if code.is_some_and(|code| refuses_credentials(&code)) {
                self.own.rejected(own);
            }
            describe(&error)
        })
    }
}

async fn loader() -> ConfigLoader {
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(CONNECT)
        .read_timeout(ATTEMPT)
        .operation_attempt_timeout(ATTEMPT)
        .operation_timeout(FETCH)
        .build();
    aws_config::defaults(BehaviorVersion::v2026_01_12())
        .http_client(http::client(None).await)
        .timeout_config(timeouts)
        .retry_config(RetryConfig::standard().with_max_attempts(ATTEMPTS))
}

async fn within_deadline(fetch: impl Future<Output = provider::Result>) -> provider::Result {
    let fetched = tokio::time::timeout(FETCH, fetch).await;
    fetched.unwrap_or_else(|_| Err(CredentialsError::provider_timed_out(FETCH)))
}

/// Describes an error for people, with nothing but what is known to hold no body and no token.
fn describe(error: &CredentialsError) -> String {
    if let Some(sts) = by_sts(error) {
        return sts.text;
    }
    if causes(error).any(<dyn std::error::Error>::is::<io::Error>) {
        return format!("their file or endpoint cannot be read ({})", no_connection::why(error));
    }
    match error {
        CredentialsError::CredentialsNotLoaded(_) => {
            "there are none: no environment variables, profile, web identity, Pod Identity or instance role"
        }
        CredentialsError::ProviderTimedOut(_) => "their provider did not answer in time",
        CredentialsError::InvalidConfiguration(_) => "their configuration is contradictory or incomplete",
        _ => "their provider failed",
    }
    .to_owned()
}

/// The outcome of a failed call to STS.
struct Sts {
    /// The error code.
    code: Option<String>,
    text: String,
}

fn by_sts(error: &CredentialsError) -> Option<Sts> {
    causes(error).find_map(|cause| {
        let role = cause.downcast_ref::<SdkError<AssumeRoleError, HttpResponse>>().map(sts);
        let token =
            || cause.downcast_ref::<SdkError<AssumeRoleWithWebIdentityError, HttpResponse>>().map(sts);
        role.or_else(token)
    })
}

fn sts<E: ProvideErrorMetadata + std::error::Error + 'static>(error: &SdkError<E, HttpResponse>) -> Sts {
    let code = error.as_service_error().and_then(ProvideErrorMetadata::code).map(str::to_owned);
    let text = match (error, error.raw_response().map(|response| response.status().as_u16())) {
        (SdkError::TimeoutError(_), _) => "STS did not answer in time".to_owned(),
        (SdkError::DispatchFailure(failure), _) if failure.is_timeout() => {
            "STS did not answer in time".to_owned()
        }
        (SdkError::DispatchFailure(_), _) => {
            format!("STS cannot be reached: {}", no_connection::why(error))
        }
        (_, Some(status)) => {
            let hint = match code.as_deref() {
                Some("AccessDenied") => "; the trust policy of the role does not allow it",
                Some("ExpiredTokenException" | "InvalidIdentityToken") => {
                    "; it does not accept the token of the service account"
                }
                _ => "",
            };
            format!("STS answers HTTP {status} {}{hint}", shown_code(code.as_deref()))
        }
        (_, None) => "STS could not be asked".to_owned(),
    };
    Sts { code, text }
}
