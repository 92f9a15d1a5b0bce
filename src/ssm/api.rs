//! The interface between reads and SSM. The SDK implements it, and so does an in-memory SSM.

use std::collections::HashSet;
use std::sync::Arc;

use async_trait::async_trait;
use parameter_mirror_format::content::entry::ParameterType;
use parameter_mirror_format::value::Value;
use tokio::sync::watch;

use crate::mirror::plan::SourceIdentity;
use crate::mirror::selection::Selection;
use crate::mirror::snapshot::ReadError;

use super::credentials::CredentialsHealth;

/// Maximum parameters of a page, and maximum names of a batch (API reference, both operations).
pub const PAGE: usize = 10;

/// The request for one page of `GetParametersByPath`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListPage<'a> {
    /// The path.
    pub path: &'a str,
    /// Whether levels below the first are listed.
    pub recursive: bool,
    /// Whether `SecureString` values are decrypted; each costs a KMS call.
    pub decrypt: bool,
    /// The token of the previous page.
    pub token: Option<&'a str>,
}

/// One parameter in an answer, checked to be complete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its name as SSM writes it.
    pub name: String,
    /// The selector of the request, with the colon as SSM echoes it.
    pub selector: Option<String>,
    /// Its type.
    pub kind: ParameterType,
    /// Its version, at least 1.
    pub version: i64,
    /// Last-modified, Unix milliseconds.
    pub date: i64,
    /// The account in its ARN, if it has one.
    pub account: Option<String>,
    /// The plaintext value; `None` for a `SecureString` that was not decrypted, so that ciphertext can never be taken for a value.
    pub value: Option<Value>,
    /// The ciphertext of a `SecureString` that was not decrypted.
    pub ciphertext: Option<Value>,
}

/// A page of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// Its parameters; there may be none although the listing goes on.
    pub parameters: Vec<Listed>,
    /// The token of the next page; only its absence ends a listing.
    pub next: Option<String>,
}

/// The answer to a batch of names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// The parameters that exist.
    pub parameters: Vec<Listed>,
    /// Requested names that do not exist, or not in the requested version or with the requested label.
    pub invalid: Vec<String>,
}

/// The two operations that a mirror needs. There is no third one to fall back on when they are denied.
#[async_trait]
pub trait ParameterApi: Send + Sync {
    /// Requests one page below a path.
    async fn list(&self, page: ListPage<'_>) -> Result<Page, ReadError>;
    /// Requests at most [`PAGE`] parameters by name.
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
