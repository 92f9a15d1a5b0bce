//! The seam between reading and SSM. An in-memory SSM can stand behind it as well as the SDK.

use std::collections::HashSet;
use std::sync::Arc;

use async_trait::async_trait;
use parameter_mirror_format::content::entry::ParameterType;
use parameter_mirror_format::value::Value;
use tokio::sync::watch;

use crate::mirror::plan::SourceIdentity;
use crate::mirror::selection::Selection;
use crate::mirror::snapshot::ReadError;

use super::credentials::Health;

/// The most parameters a page holds and a batch may name (API reference, both operations).
pub const PAGE: usize = 10;

/// One page of `GetParametersByPath`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListPage<'a> {
    /// The path.
    pub path: &'a str,
    /// Whether levels below the first count.
    pub recursive: bool,
    /// Whether `SecureString` values come in plain text; each costs a KMS call.
    pub decrypt: bool,
    /// Where the last page ended.
    pub token: Option<&'a str>,
}

/// One parameter in an answer, checked to be complete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its name as SSM writes it.
    pub name: String,
    /// The selector it was asked for with, with the colon as SSM echoes it.
    pub selector: Option<String>,
    /// Its type.
    pub kind: ParameterType,
    /// Its version, at least 1.
    pub version: i64,
    /// Last-modified, Unix milliseconds.
    pub date: i64,
    /// The account in its ARN, if it has one.
    pub account: Option<String>,
    /// The plain value; `None` for a `SecureString` that was not decrypted, so that ciphertext can never be
    /// taken for a value.
    pub value: Option<Value>,
    /// What stands in place of the value of a `SecureString` that was not decrypted.
    pub ciphertext: Option<Value>,
}

/// A page of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// What it holds; may be nothing although the listing goes on.
    pub parameters: Vec<Listed>,
    /// Where the next page begins; only its absence ends a listing.
    pub next: Option<String>,
}

/// The answer to a batch of names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// What there is.
    pub parameters: Vec<Listed>,
    /// Names as asked for that do not exist, or not in the version or with the label asked for.
    pub invalid: Vec<String>,
}

/// The two operations that a mirror needs. There is no third one to fall back on when they are denied.
#[async_trait]
pub trait ParameterApi: Send + Sync {
    /// One page below a path.
    async fn list(&self, page: ListPage<'_>) -> Result<Page, ReadError>;
    /// At most [`PAGE`] parameters by name.
    async fn get(&self, names: &[String], decrypt: bool) -> Result<Batch, ReadError>;
    /// One request for something that a mirror selects, without retries, to see whether anybody answers. Whatever it says
    /// is thrown away.
    async fn probe(&self, selection: &Selection) -> Result<(), ReadError>;
    /// Waits until requests can be signed, or says why they cannot.
    async fn ready(&self) -> Result<(), ReadError> {
        Ok(())
    }
}

/// Makes the client of an identity.
#[async_trait]
pub trait Connect: Send + Sync {
    /// A client. Nothing is sent to SSM before its first call.
    async fn connect(&self, identity: &SourceIdentity) -> Arc<dyn ParameterApi>;

    /// Grows when there are credentials again after reads had to do without. Whoever else knows of a reason to read makes it grow too.
    fn recoveries(&self) -> watch::Sender<u64> {
        watch::Sender::new(0)
    }

    /// How the credentials are that these identities read with.
    fn credentials(&self, _of: &HashSet<SourceIdentity>) -> Vec<Health> {
        Vec::new()
    }
}
