//! Reads and writes of Secrets. Every call has a deadline, every write a precondition.

use std::future::Future;
use std::time::Duration;

use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, DeleteParams, PostParams, Preconditions};
use kube::{Client, ResourceExt};

use super::render::FIELD_MANAGER;

/// How long one call to the API server may take.
pub const DEADLINE: Duration = Duration::from_secs(10);

/// Why a call to the API server failed, without its text: a refusal can quote the object it refuses.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KubeProblem {
    /// The object is not there.
    #[error("it does not exist")]
    NotFound,
    /// It has changed since it was observed, or exists already.
    #[error("it changed meanwhile")]
    Conflict,
    /// No answer in time.
    #[error("the API server did not answer within {} s", DEADLINE.as_secs())]
    Timeout,
    /// The API server cannot be reached.
    #[error("the API server cannot be reached")]
    Unreachable,
    /// It answered with an error: HTTP code and machine-readable reason.
    #[error("the API server answered {code} {reason}")]
    Refused {
        /// HTTP status.
        code: u16,
        /// `Forbidden`, `Invalid`, ...
        reason: String,
    },
}

impl KubeProblem {
    /// The class of an error of the client.
    #[must_use]
    pub fn of(error: &kube::Error) -> Self {
        match error {
            kube::Error::Api(status) if status.code == 404 => Self::NotFound,
            kube::Error::Api(status) if status.code == 409 => Self::Conflict,
            kube::Error::Api(status) => Self::Refused { code: status.code, reason: status.reason.clone() },
            _ => Self::Unreachable,
        }
    }
}

/// Runs one call to the API server under the deadline.
pub async fn within<T>(call: impl Future<Output = kube::Result<T>>) -> Result<T, KubeProblem> {
    match tokio::time::timeout(DEADLINE, call).await {
        Ok(answer) => answer.map_err(|error| KubeProblem::of(&error)),
        Err(_) => Err(KubeProblem::Timeout),
    }
}

/// The Secrets of the cluster, as far as mirrors write them.
#[derive(Clone)]
pub struct SecretStore {
    client: Client,
}

impl SecretStore {
    /// A store on this client.
    #[must_use]
    pub const fn new(client: Client) -> Self {
        Self { client }
    }

    /// The Secret as it is now, `None` if there is none.
    pub async fn get(&self, namespace: &str, name: &str) -> Result<Option<Secret>, KubeProblem> {
        within(self.api(namespace).get_opt(name)).await
    }

    /// Its version as it is now, without its values; `None` if there is none.
    pub async fn version(&self, namespace: &str, name: &str) -> Result<Option<String>, KubeProblem> {
        let found = within(self.api(namespace).get_metadata_opt(name)).await?;
        Ok(found.and_then(|found| found.resource_version()))
    }

    /// Creates it if it has no `resourceVersion`, else replaces exactly that version.
    pub async fn write(&self, namespace: &str, secret: &Secret) -> Result<Secret, KubeProblem> {
        let api = self.api(namespace);
        let params = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
        match &secret.metadata.resource_version {
            None => within(api.create(&params, secret)).await,
            Some(_) => within(api.replace(&secret.name_any(), &params, secret)).await,
        }
    }

    /// Deletes exactly the version that was observed.
    pub async fn delete(
        &self,
        namespace: &str,
        name: &str,
        resource_version: &str,
    ) -> Result<(), KubeProblem> {
        let params = DeleteParams::default()
            .preconditions(Preconditions { resource_version: Some(resource_version.to_owned()), uid: None });
        match within(self.api(namespace).delete(name, &params)).await {
            Ok(_) | Err(KubeProblem::NotFound) => Ok(()),
            Err(problem) => Err(problem),
        }
    }

    fn api(&self, namespace: &str) -> Api<Secret> {
        Api::namespaced(self.client.clone(), namespace)
    }
}
