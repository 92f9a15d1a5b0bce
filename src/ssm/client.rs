//! The AWS SDK behind the interface to SSM.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use aws_config::identity::IdentityCache;
use aws_config::{BehaviorVersion, Region};
use aws_credential_types::provider::ProvideCredentials;
use aws_sdk_ssm::Client;
use aws_sdk_ssm::config::http::HttpResponse;
use aws_sdk_ssm::config::retry::{RetryConfig, RetryPartition, TokenBucket};
use aws_sdk_ssm::config::timeout::TimeoutConfig;
use aws_sdk_ssm::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_ssm::types::Parameter;
use parameter_mirror_format::content::entry::ParameterType;
use parameter_mirror_format::value::Value;
use tokio::sync::watch;
use tracing_mutex::parkinglot::Mutex;

use crate::mirror::plan::SourceIdentity;
use crate::mirror::selection::Selection;
use crate::mirror::snapshot::{ReadError, ReadErrorKind};

use super::api::{Batch, Connect, ListPage, Listed, PAGE, Page, ParameterApi};
use super::credentials::{
    Assumed, CredentialsCache, CredentialsGeneration, CredentialsHealth, OperatorIdentity,
};
use super::errors;

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

/// Connects through the AWS SDK, with endpoints and credentials from the environment.
pub struct Aws {
    /// The operator's own identity: one for all clients, and the base of every role.
    base: OperatorIdentity,
    roles: Mutex<HashMap<SourceIdentity, Arc<CredentialsCache>>>,
}

impl Aws {
    /// Starts without any client.
    #[must_use]
    pub fn new(base: OperatorIdentity) -> Self {
        Self { base, roles: Mutex::default() }
    }

    /// Returns the credentials of the role, or of the operator itself.
    async fn principal(&self, identity: &SourceIdentity) -> Arc<CredentialsCache> {
        let SourceIdentity { region, role_arn, external_id } = identity;
        let region = Region::new(region.clone());
        let own = self.base.principal(&region);
        let Some(role_arn) = role_arn else { return own };
        let role = Assumed::new(own, region, role_arn, external_id.as_deref()).await;
        let whose = format!("role {role_arn}");
        let principal =
            CredentialsCache::start(self.base.clock().clone(), whose, role, self.base.recoveries());
        let before = self.roles.lock().insert(identity.clone(), Arc::clone(&principal));
        drop(before);
        principal
    }
}

#[async_trait]
impl Connect for Aws {
    async fn connect(&self, identity: &SourceIdentity) -> Arc<dyn ParameterApi> {
        let principal = self.principal(identity).await;
        Arc::new(SsmApi::connect(Region::new(identity.region.clone()), principal).await)
    }

    fn recoveries(&self) -> watch::Sender<u64> {
        self.base.recoveries()
    }

    fn credentials(&self, of: &HashSet<SourceIdentity>) -> Vec<CredentialsHealth> {
        let roles = self.roles.lock().clone();
        let used = roles.iter().filter(|(identity, _)| of.contains(identity)).map(|(_, role)| role);
        self.base.started().into_iter().chain(used).filter_map(|principal| principal.health()).collect()
    }
}

/// SSM through the AWS SDK, for one identity.
pub struct SsmApi {
    client: Client,
    principal: Arc<CredentialsCache>,
}

impl SsmApi {
    async fn connect(region: Region, principal: Arc<CredentialsCache>) -> Self {
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
    async fn credentials(&self) -> Result<CredentialsGeneration, ReadError> {
        self.principal.ready().await.map_err(|none| ReadError::from(&none))
    }

    /// Classifies a failed call, and reports refused credentials to their cache.
    fn failed<E>(
        &self,
        operation: &str,
        used: CredentialsGeneration,
        error: &SdkError<E, HttpResponse>,
    ) -> ReadError
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        let failure = errors::classify(operation, error);
        if errors::code(error).is_none_or(|code| !errors::refuses_credentials(&code)) {
            return failure;
        }
        self.principal.rejected(used);
        let detail = format!("{} with the credentials of {}", failure.detail, self.principal.whose());
        ReadError { detail, ..failure }
    }
}

#[async_trait]
impl ParameterApi for SsmApi {
    async fn list(&self, page: ListPage<'_>) -> Result<Page, ReadError> {
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

    async fn get(&self, names: &[String], decrypt: bool) -> Result<Batch, ReadError> {
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

    async fn probe(&self, selection: &Selection) -> Result<(), ReadError> {
        let used = self.credentials().await?;
        let once = aws_sdk_ssm::config::Config::builder().retry_config(RetryConfig::disabled());
        match selection {
            Selection::Path(path) => {
                let request = self.client.get_parameters_by_path().path(&path.path).max_results(1);
                let sent = request.customize().config_override(once).send().await;
                sent.map(|_| ()).map_err(|error| self.failed("GetParametersByPath", used, &error))
            }
            Selection::Name(name) => {
                let request = self.client.get_parameters().names(&name.requested);
                let sent = request.customize().config_override(once).send().await;
                sent.map(|_| ()).map_err(|error| self.failed("GetParameters", used, &error))
            }
        }
    }

    async fn ready(&self) -> Result<(), ReadError> {
        self.credentials().await.map(|_| ())
    }
}

fn malformed(operation: &str, what: &str) -> ReadError {
    ReadError::new(ReadErrorKind::InvalidResponse, format!("{operation}: HTTP 200 with {what}"))
}

fn listed(operation: &str, parameters: Vec<Parameter>, decrypted: bool) -> Result<Vec<Listed>, ReadError> {
    parameters
        .into_iter()
        .map(|parameter| {
            complete(parameter, decrypted)
                .map_err(|missing| malformed(operation, &format!("a parameter without {missing}")))
        })
        .collect()
}

/// Checks that a parameter has every member that publishing needs, or returns the name of the missing one.
fn complete(parameter: Parameter, decrypted: bool) -> Result<Listed, &'static str> {
    let kind: ParameterType =
        parameter.r#type.as_ref().and_then(|kind| kind.as_str().parse().ok()).ok_or("a known Type")?;
    let date = parameter.last_modified_date.ok_or("LastModifiedDate")?;
    let text = Value::new(parameter.value.ok_or("Value")?);
    let is_plain = decrypted || kind != ParameterType::SecureString;
    let (value, ciphertext) = if is_plain { (Some(text), None) } else { (None, Some(text)) };
    if parameter.version < 1 {
        return Err("Version");
    }
    Ok(Listed {
        name: parameter.name.filter(|name| !name.is_empty()).ok_or("Name")?,
        selector: parameter.selector.filter(|selector| !selector.is_empty()),
        kind,
        version: parameter.version,
        date: to_millis(date.secs(), date.subsec_nanos()),
        account: parameter
            .arn
            .as_deref()
            .and_then(|arn| arn.split(':').nth(4))
            .filter(|a| !a.is_empty())
            .map(str::to_owned),
        value,
        ciphertext,
    })
}

/// Rounds a date to milliseconds, because it is a JSON double: `1795341879.12` decodes to .119999885 s (measured).
fn to_millis(seconds: i64, nanos: u32) -> i64 {
    seconds.saturating_mul(1_000).saturating_add(i64::from((nanos + 500_000) / 1_000_000))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn dates_are_rounded_to_milliseconds() {
        assert_eq!(to_millis(1_795_341_879, 119_999_885), 1_795_341_879_120);
        assert_eq!(to_millis(1, 999_999_999), 2_000);
    }

    #[test]
    fn ciphertext_is_never_a_value() {
        let secret = Parameter::builder()
            .name("/x")
            .r#type(aws_sdk_ssm::types::ParameterType::SecureString)
            .value("AQICAHi")
            .version(1)
            .last_modified_date(aws_sdk_ssm::primitives::DateTime::from_secs(1))
            .build();
        let sealed = complete(secret.clone(), false).unwrap();
        assert_eq!((sealed.value, sealed.ciphertext), (None, Some(Value::from("AQICAHi"))));
        assert!(complete(secret, true).unwrap().value.is_some());
    }

    proptest! {
        /// Whatever is missing or odd: a parameter is complete or refused, never partial.
        #[test]
        fn no_answer_is_half_accepted(
            name in proptest::option::of("/?[a-z]{0,3}"),
            kind in proptest::option::of("String|SecureString|StringList|Other"),
            value in proptest::option::of("[a-z]{0,3}"),
            version in any::<i64>(),
            date in proptest::option::of(any::<i64>()),
            arn in proptest::option::of("(arn:)?[a-z:0-9]{0,12}"),
            decrypted in any::<bool>(),
        ) {
            let parameter = Parameter::builder()
                .set_name(name.clone())
                .set_type(kind.as_deref().map(Into::into))
                .set_value(value.clone())
                .version(version)
                .set_last_modified_date(date.map(aws_sdk_ssm::primitives::DateTime::from_secs))
                .set_arn(arn)
                .build();
            let known = kind.as_deref().is_some_and(|kind| kind != "Other");
            let whole = known && value.is_some() && version >= 1 && date.is_some() && name.is_some_and(|name| !name.is_empty());
            match complete(parameter, decrypted) {
                Ok(listed) => {
                    prop_assert!(whole);
                    prop_assert_eq!(listed.value.is_some(), decrypted || kind.as_deref() != Some("SecureString"));
                }
                Err(_) => prop_assert!(!whole),
            }
        }
    }

    #[test]
    fn a_parameter_that_lacks_something_is_malformed() {
        let bare = Parameter::builder().name("/x").r#type(aws_sdk_ssm::types::ParameterType::String);
        let dated = bare.last_modified_date(aws_sdk_ssm::primitives::DateTime::from_secs(1));
        assert_eq!(complete(dated.clone().version(1).build(), true), Err("Value"));
        assert_eq!(complete(dated.value("v").build(), true), Err("Version"));
    }
}
