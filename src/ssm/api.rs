//! The interface between reads and SSM. The client of SSM implements it, and so does an in-memory SSM.

use std::collections::HashSet;
use std::sync::Arc;

use async_trait::async_trait;
use parameter_mirror_ssm::credentials::CredentialsHealth;
use parameter_mirror_ssm::{Batch, ListPage, Page};
use tokio::sync::watch;

use crate::mirror::plan::SourceIdentity;
use crate::mirror::selection::Selection;
use crate::mirror::snapshot::ReadError;

/// The two operations that a mirror needs. There is no third one to fall back on when they are denied.
#[async_trait]
pub trait ParameterApi: Send + Sync {
    /// Requests one page below a path.
    async fn list(&self, page: ListPage<'_>) -> Result<Page, ReadError>;
    /// Requests at most [`PAGE`](parameter_mirror_ssm::PAGE) parameters by name.
    async fn get(&self, names: &[String], decrypt: bool) -> Result<Batch, ReadError>;
    /// Sends one request for something that a mirror selects, without retries, to see whether anybody answers. The
    /// answer is discarded.
    async fn probe(&self, selection: &Selection) -> Result<(), ReadError>;
    /// Waits until requests can be signed, or returns why they cannot.
    async fn ready(&self) -> Result<(), ReadError> {
        Ok(())
    }
}

/// Creates the client of an identity.
#[async_trait]
pub trait Connect: Send + Sync {
    /// Creates a client. It sends nothing to SSM before its first call.
    async fn connect(&self, identity: &SourceIdentity) -> Arc<dyn ParameterApi>;

    /// Counts how often credentials became available again after reads had to do without. Others that know a reason to
    /// read increment it too.
    fn recoveries(&self) -> watch::Sender<u64> {
        watch::Sender::new(0)
    }

    /// Returns the health of the credentials that these identities read with.
    fn credentials(&self, _of: &HashSet<SourceIdentity>) -> Vec<CredentialsHealth> {
        Vec::new()
    }
}
