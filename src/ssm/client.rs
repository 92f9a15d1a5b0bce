//! The seam over the AWS SDK.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use aws_config::sts::AssumeRoleProvider;
use aws_config::{BehaviorVersion, Region};
use aws_sdk_ssm::Client;
use aws_sdk_ssm::config::retry::RetryConfig;
use aws_sdk_ssm::config::retry::RetryPartition;
use aws_sdk_ssm::config::timeout::TimeoutConfig;
use aws_sdk_ssm::types::Parameter;
use parameter_mirror_format::entry::ParameterType;
use parameter_mirror_format::value::Value;

use crate::mirror::reading::{ReadFailure, SourceReason};
use crate::mirror::selection::Selection;

use super::api::{Batch, Connect, Identity, ListPage, Listed, PAGE, Page, ParameterApi};
use super::errors::classify;

/// formats.md, "Two rhythms". The SDK has no read timeout of its own: a server that accepts and keeps silent would
/// hang a call for ever (measured).
const CONNECT: Duration = Duration::from_secs(3);
const ATTEMPT: Duration = Duration::from_secs(5);
const OPERATION: Duration = Duration::from_secs(20);
const ATTEMPTS: u32 = 3;

/// Connects through the AWS SDK, with what the environment says about endpoints and credentials.
#[derive(Clone, Copy, Debug, Default)]
pub struct Aws;

#[async_trait]
impl Connect for Aws {
    async fn connect(&self, identity: &Identity) -> Arc<dyn ParameterApi> {
        Arc::new(SsmApi::connect(identity).await)
    }
}

/// SSM through the AWS SDK, for one source.
pub struct SsmApi {
    client: Client,
}

impl SsmApi {
    /// A client for this region and identity.
    async fn connect(identity: &Identity) -> Self {
        let Identity { region, role_arn, external_id } = identity;
        let region = Region::new(region.clone());
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(CONNECT)
            .read_timeout(ATTEMPT)
            .operation_attempt_timeout(ATTEMPT)
            .operation_timeout(OPERATION)
            .build();
        let base = aws_config::defaults(BehaviorVersion::v2026_01_12())
            .region(region.clone())
            .timeout_config(timeouts.clone())
            .load()
            .await;
        // Retries of all clients of a region share one bucket by default: one failing role would starve the others.
        let partition = format!("ssm {region} {}", role_arn.as_deref().unwrap_or("self"));
        let mut config = aws_sdk_ssm::config::Builder::from(&base)
            .retry_config(RetryConfig::standard().with_max_attempts(ATTEMPTS))
            .retry_partition(RetryPartition::custom(partition).build())
            .timeout_config(timeouts);
        if let Some(role_arn) = role_arn {
            let mut role = AssumeRoleProvider::builder(role_arn)
                .session_name("parameter-mirror")
                .region(region)
                .configure(&base);
            if let Some(external_id) = external_id {
                role = role.external_id(external_id);
            }
            config = config.credentials_provider(role.build().await);
        }
        Self { client: Client::from_conf(config.build()) }
    }
}

#[async_trait]
impl ParameterApi for SsmApi {
    async fn list(&self, page: ListPage<'_>) -> Result<Page, ReadFailure> {
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
            .map_err(|error| classify("GetParametersByPath", &error))?;
        // HTTP 200 with no such field decodes as "nothing there" (measured); it is no answer at all.
        let parameters =
            answer.parameters.ok_or_else(|| malformed("GetParametersByPath", "no field Parameters"))?;
        Ok(Page {
            parameters: listed("GetParametersByPath", parameters, page.decrypt)?,
            next: answer.next_token.filter(|token| !token.is_empty()),
        })
    }

    async fn get(&self, names: &[String], decrypt: bool) -> Result<Batch, ReadFailure> {
        let answer = self
            .client
            .get_parameters()
            .set_names(Some(names.to_vec()))
            .with_decryption(decrypt)
            .send()
            .await
            .map_err(|error| classify("GetParameters", &error))?;
        if answer.parameters.is_none() && answer.invalid_parameters.is_none() {
            return Err(malformed("GetParameters", "no field Parameters"));
        }
        Ok(Batch {
            parameters: listed("GetParameters", answer.parameters.unwrap_or_default(), decrypt)?,
            invalid: answer.invalid_parameters.unwrap_or_default(),
        })
    }

    async fn probe(&self, selection: &Selection) -> Result<(), ReadFailure> {
        let once = aws_sdk_ssm::config::Config::builder().retry_config(RetryConfig::disabled());
        match selection {
            Selection::Path(path) => {
                let request = self.client.get_parameters_by_path().path(&path.path).max_results(1);
                let sent = request.customize().config_override(once).send().await;
                sent.map(|_| ()).map_err(|error| classify("GetParametersByPath", &error))
            }
            Selection::Name(name) => {
                let request = self.client.get_parameters().names(&name.requested);
                let sent = request.customize().config_override(once).send().await;
                sent.map(|_| ()).map_err(|error| classify("GetParameters", &error))
            }
        }
    }
}

fn malformed(operation: &str, what: &str) -> ReadFailure {
    ReadFailure::new(SourceReason::InvalidResponse, format!("{operation}: HTTP 200 with {what}"))
}

fn listed(operation: &str, parameters: Vec<Parameter>, decrypted: bool) -> Result<Vec<Listed>, ReadFailure> {
    parameters
        .into_iter()
        .map(|parameter| {
            complete(parameter, decrypted)
                .map_err(|missing| malformed(operation, &format!("a parameter without {missing}")))
        })
        .collect()
}

/// Every member that a published parameter needs, or the name of the missing one.
fn complete(parameter: Parameter, decrypted: bool) -> Result<Listed, &'static str> {
    let kind: ParameterType =
        parameter.r#type.as_ref().and_then(|kind| kind.as_str().parse().ok()).ok_or("a known Type")?;
    let date = parameter.last_modified_date.ok_or("LastModifiedDate")?;
    let value = parameter.value.ok_or("Value")?;
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
        value: (decrypted || kind != ParameterType::SecureString).then(|| Value::new(value)),
    })
}

/// The date is a JSON double: `1795341879.12` decodes to .119999885 s (measured), so it is rounded to milliseconds.
fn to_millis(seconds: i64, nanos: u32) -> i64 {
    seconds.saturating_mul(1_000).saturating_add(i64::from((nanos + 500_000) / 1_000_000))
}

#[cfg(test)]
mod tests {
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
        assert_eq!(complete(secret.clone(), false).unwrap().value, None);
        assert!(complete(secret, true).unwrap().value.is_some());
    }

    #[test]
    fn a_parameter_that_lacks_something_is_malformed() {
        let bare = Parameter::builder().name("/x").r#type(aws_sdk_ssm::types::ParameterType::String);
        let dated = bare.last_modified_date(aws_sdk_ssm::primitives::DateTime::from_secs(1));
        assert_eq!(complete(dated.clone().version(1).build(), true), Err("Value"));
        assert_eq!(complete(dated.value("v").build(), true), Err("Version"));
    }
}
