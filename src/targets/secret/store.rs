//! Reads and writes Secrets. Every call has a deadline, every write a precondition.

use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, DeleteParams, PostParams, Preconditions};
use kube::{Client, ResourceExt};

use crate::kubernetes::client::{ApiError, FIELD_MANAGER, with_timeout};

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
    pub async fn write(&self, namespace: &str, secret: &Secret) -> Result<Secret, ApiError> {
        let api = self.api(namespace);
        let params = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
        match &secret.metadata.resource_version {
            None => with_timeout(api.create(&params, secret)).await,
            Some(_) => with_timeout(api.replace(&secret.name_any(), &params, secret)).await,
        }
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
