//! The client of SSM behind the interface of reads.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use async_trait::async_trait;
use aws_config::Region;
use parameter_mirror_ssm::credentials::{Assumed, CredentialsCache, CredentialsHealth, OperatorIdentity};
use parameter_mirror_ssm::{
    Batch, Deadline, Endpoint, ListPage, Page, Probed, SsmClient, SsmError, SsmErrorKind,
};
use tokio::sync::watch;
use tracing_mutex::parkinglot::Mutex;

use crate::mirror::plan::SourceIdentity;
use crate::mirror::selection::Selection;
use crate::mirror::snapshot::{ReadError, ReadErrorKind};

use super::api::{Connect, ParameterApi};

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
        let region = Region::new(identity.region.clone());
        Arc::new(SsmClient::connect(region, Endpoint::Configured, Deadline::OfTheClient, principal).await)
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

#[async_trait]
impl ParameterApi for SsmClient {
    async fn list(&self, page: ListPage<'_>) -> Result<Page, ReadError> {
        Ok(Self::list(self, page).await?)
    }

    async fn get(&self, names: &[String], decrypt: bool) -> Result<Batch, ReadError> {
        Ok(Self::get(self, names, decrypt).await?)
    }

    async fn probe(&self, selection: &Selection) -> Result<(), ReadError> {
        let probed = match selection {
            Selection::Path(path) => Probed::Path(&path.path),
            Selection::Name(name) => Probed::Name(&name.requested),
        };
        Ok(Self::probe(self, probed).await?)
    }

    async fn ready(&self) -> Result<(), ReadError> {
        Ok(Self::ready(self).await?)
    }
}

impl From<SsmError> for ReadError {
    fn from(SsmError { kind, detail }: SsmError) -> Self {
        let reason = match kind {
            SsmErrorKind::Unavailable => ReadErrorKind::SourceUnavailable,
            SsmErrorKind::Throttled => ReadErrorKind::Throttled,
            SsmErrorKind::Timeout => ReadErrorKind::Timeout,
            SsmErrorKind::CredentialsUnavailable => ReadErrorKind::CredentialsUnavailable,
            SsmErrorKind::AccessDenied => ReadErrorKind::AccessDenied,
            SsmErrorKind::KmsUnavailable => ReadErrorKind::KmsUnavailable,
            SsmErrorKind::InvalidResponse => ReadErrorKind::InvalidResponse,
        };
        let hint = match kind {
            SsmErrorKind::AccessDenied => {
                "; the operator's IAM policy does not allow it for these parameters"
            }
            _ => "",
        };
        Self::new(reason, format!("{detail}{hint}"))
    }
}
