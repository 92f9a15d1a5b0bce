//! SSM in memory: the store of our own SSM, without HTTP.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use parameter_mirror::mirror::plan::SourceIdentity;
use parameter_mirror::mirror::selection::Selection;
use parameter_mirror::mirror::snapshot::{ReadError, ReadErrorKind};
use parameter_mirror::ssm::api::{Connect, ParameterApi};
use parameter_mirror_format::content::entry::ParameterType;
use parameter_mirror_format::value::Value;
use parameter_mirror_ssm::{Batch, ListPage, Listed, PAGE, Page};
use parameter_mirror_test_support::ssm::store::{Parameter, Shelf, Version, Write};
use parameter_mirror_test_support::ssm::{ACCOUNT, Kind};

use super::line::{Edge, Fault, Line};

/// The SDK's time limit for an operation.
const OPERATION: Duration = Duration::from_secs(20);

/// The parameters of one account in one region.
#[derive(Clone, Default)]
pub struct Store(Arc<Mutex<Shelf>>);

impl Store {
    /// Writes a `String`.
    pub fn put(&self, name: &str, value: &str, now_ms: i64) {
        self.write(name, value, Kind::String, now_ms);
    }

    /// Writes a parameter of this type.
    pub fn write(&self, name: &str, value: &str, kind: Kind, now_ms: i64) {
        let now_ms = u64::try_from(now_ms).unwrap();
        let write = Write {
            name,
            value,
            kind: Some(kind),
            overwrite: true,
            advanced: false,
            data_type: None,
            now_ms,
        };
        self.lock().put(&write).unwrap();
    }

    pub fn delete(&self, name: &str) {
        assert!(self.lock().delete(name), "{name} is there");
    }

    pub fn lock(&self) -> MutexGuard<'_, Shelf> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The store as one incarnation of the operator reaches it.
pub struct Reached {
    pub store: Store,
    pub line: Line,
}

#[async_trait]
impl Connect for Reached {
    async fn connect(&self, _: &SourceIdentity) -> Arc<dyn ParameterApi> {
        Arc::new(Self { store: self.store.clone(), line: self.line.clone() })
    }
}

impl Reached {
    async fn call<T>(&self, point: String, act: impl FnOnce(&Shelf) -> T) -> Result<T, ReadError> {
        let call = self.line.call(Edge::Ssm, point, || act(&self.store.lock()));
        let reason = match tokio::time::timeout(OPERATION, call).await {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(Fault::Source(reason))) => reason,
            Ok(Err(_)) => ReadErrorKind::SourceUnavailable,
            Err(_) => ReadErrorKind::Timeout,
        };
        Err(ReadError::new(reason, "as scripted"))
    }
}

#[async_trait]
impl ParameterApi for Reached {
    async fn list(&self, page: ListPage<'_>) -> Result<Page, ReadError> {
        let ListPage { path, recursive, decrypt, token } = page;
        let point = format!("list {path} after {}", token.unwrap_or("nothing"));
        self.call(point, |shelf| {
            let mut found: Vec<Listed> = shelf
                .below(path, recursive, token)
                .take(PAGE + 1)
                .map(|parameter| listed(parameter, parameter.latest(), None, decrypt))
                .collect();
            let more = found.len() > PAGE;
            found.truncate(PAGE);
            Page { next: found.last().filter(|_| more).map(|last| last.name.clone()), parameters: found }
        })
        .await
    }

    async fn get(&self, names: &[String], decrypt: bool) -> Result<Batch, ReadError> {
        self.call(format!("get {}", names.join(" ")), |shelf| {
            let mut batch = Batch { parameters: Vec::new(), invalid: Vec::new() };
            for asked in names {
                let (name, selector) =
                    asked.split_once(':').map_or((asked.as_str(), None), |(name, rest)| (name, Some(rest)));
                let found = shelf.get(name).and_then(|parameter| {
                    let version = match selector {
                        None => Some(parameter.latest()),
                        Some(selector) => parameter.select(selector),
                    };
                    version.map(|version| listed(parameter, version, selector, decrypt))
                });
                match found {
                    Some(found) => batch.parameters.push(found),
                    None => batch.invalid.push(asked.clone()),
                }
            }
            batch
        })
        .await
    }

    async fn probe(&self, selection: &Selection) -> Result<(), ReadError> {
        self.call(format!("probe {selection}"), |_| ()).await
    }
}

fn listed(parameter: &Parameter, version: &Version, selector: Option<&str>, decrypt: bool) -> Listed {
    let kind = match parameter.kind {
        Kind::String => ParameterType::String,
        Kind::StringList => ParameterType::StringList,
        Kind::SecureString => ParameterType::SecureString,
    };
    Listed {
        name: parameter.name.clone(),
        selector: selector.map(|selector| format!(":{selector}")),
        kind,
        version: i64::try_from(version.number).unwrap(),
        date: i64::try_from(version.modified_ms).unwrap(),
        account: Some(ACCOUNT.to_owned()),
        ciphertext: None,
        value: (decrypt || kind != ParameterType::SecureString).then(|| Value::new(version.value.clone())),
    }
}
