//! Reads and writes Secrets. Every call has a deadline, every write a precondition.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, DeleteParams, PostParams, Preconditions};
use kube::{Client, ResourceExt};
use parameter_mirror_format::humanize;

use crate::kubernetes::client::{ApiError, FIELD_MANAGER, with_timeout};

/// Why a Secret was not written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WriteError {
    /// The class.
    pub error: ApiError,
    /// What the API server, a webhook or a policy said about it, unless that quotes a value.
    pub said: Option<String>,
}

/// Longest text of the API server that is passed on, in bytes.
const LONGEST: usize = 600;
/// Values that are shorter are no secrets, and occur in any text.
const SHORTEST: usize = 4;

/// Returns the text of a refusal, unless it quotes a value of the Secret, plainly, as base64, or line by line.
fn words(text: &str, secret: &Secret) -> Option<String> {
    let quotes = |value: &[u8]| {
        let is_in_text = |part: &str| part.len() >= SHORTEST && text.contains(part);
        let plain = String::from_utf8_lossy(value);
        let escaped = serde_json::Value::from(&*plain).to_string();
        is_in_text(&BASE64_STANDARD.encode(value))
            || is_in_text(escaped.trim_matches('"'))
            || plain.split_whitespace().any(is_in_text)
    };
    let data = secret.data.iter().flat_map(BTreeMap::values);
    let is_quoted = text.is_empty() || data.into_iter().any(|ByteString(value)| quotes(value));
    (!is_quoted).then(|| humanize::cut(&humanize::printable(text), LONGEST))
}

/// The Secrets that mirrors write.
#[derive(Clone)]
pub struct SecretStore {
    client: Client,
}

impl SecretStore {
    /// Creates a store on this client.
    #[must_use]
    pub const fn new(client: Client) -> Self {
        Self { client }
    }

    /// Returns the current Secret; `None` if there is none.
    pub async fn get(&self, namespace: &str, name: &str) -> Result<Option<Secret>, ApiError> {
        with_timeout(self.api(namespace).get_opt(name)).await
    }

    /// Returns the current version, without the values; `None` if there is none.
    pub async fn version(&self, namespace: &str, name: &str) -> Result<Option<String>, ApiError> {
        let found = with_timeout(self.api(namespace).get_metadata_opt(name)).await?;
        Ok(found.and_then(|found| found.resource_version()))
    }

    /// Creates the Secret if it has no `resourceVersion`, otherwise replaces exactly that version.
    pub async fn write(&self, namespace: &str, secret: &Secret) -> Result<Secret, WriteError> {
        let api = self.api(namespace);
        let params = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
        let mut said = None;
        let call = async {
            let answer = match &secret.metadata.resource_version {
                None => api.create(&params, secret).await,
                Some(_) => api.replace(&secret.name_any(), &params, secret).await,
            };
            if let Err(kube::Error::Api(status)) = &answer {
                said = words(&status.message, secret);
            }
            answer
        };
        let answer = with_timeout(call).await;
        answer.map_err(|error| WriteError { error, said })
    }

    /// Deletes exactly the version that was observed.
    pub async fn delete(&self, namespace: &str, name: &str, resource_version: &str) -> Result<(), ApiError> {
        let params = DeleteParams::default()
            .preconditions(Preconditions { resource_version: Some(resource_version.to_owned()), uid: None });
        match with_timeout(self.api(namespace).delete(name, &params)).await {
            Ok(_) | Err(ApiError::NotFound) => Ok(()),
            Err(problem) => Err(problem),
        }
    }

    fn api(&self, namespace: &str) -> Api<Secret> {
        Api::namespaced(self.client.clone(), namespace)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(value: &str) -> Secret {
        let data = BTreeMap::from([("KEY".to_owned(), ByteString(value.as_bytes().to_vec()))]);
        Secret { data: Some(data), ..Secret::default() }
    }

    #[test]
    fn what_the_api_server_says_is_passed_on_unless_it_quotes_a_value() {
        let policy = "ValidatingAdmissionPolicy 'team' denied request: label team is required";
        assert_eq!(words(policy, &secret("hunter22")).as_deref(), Some(policy));
        assert_eq!(words("KEY must not be hunter22", &secret("hunter22")), None);
        assert_eq!(words("invalid: aHVudGVyMjI=", &secret("hunter22")), None);
        assert_eq!(words("line two is second-line", &secret("first-line\nsecond-line")), None);
        assert_eq!(words(r#"got "a \"quoted\" one""#, &secret(r#"a "quoted" one"#)), None);
        assert_eq!(words("no is no name", &secret("no")).as_deref(), Some("no is no name"));
    }
}
