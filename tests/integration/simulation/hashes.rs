//! Redis in memory: the hashes of mirrors under the rules of the script.
//! `redis_store::the_model_behaves_as_redis` shows that it follows the same rules as the script in a real
//! Redis.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use parameter_mirror::targets::redis::{
    Check, Eviction, Guard, HashStore, Heartbeat, ObservedHash, ScriptOutcome,
};
use parameter_mirror_format::FORMAT as HIGHEST;
use parameter_mirror_format::hash::fields::Fields;
use parameter_mirror_format::hash::{
    ADOPT_BY, CHECKED_AT, CHECKED_MAC, FENCE, FORMAT, Fence, GENERATION, MAC, OWNER, STATUS, STATUS_AT,
    Status,
};
use parameter_mirror_redis::ConnectionError;

use super::line::{Edge, Fault, Line};

/// One hash, its fields as bytes.
pub type Hash = BTreeMap<Vec<u8>, Vec<u8>>;
type OnWrite = Box<dyn Fn(&str, &Hash) + Send>;

/// The data of one Redis.
#[derive(Clone, Default)]
pub struct Store(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    hashes: BTreeMap<String, Hash>,
    on_write: Option<OnWrite>,
}

impl Store {
    /// Sets a hook that is called with each hash whose content is written.
    pub fn on_write(&self, on_write: impl Fn(&str, &Hash) + Send + 'static) {
        self.lock().on_write = Some(Box::new(on_write));
    }

    pub fn hash(&self, key: &str) -> Option<Hash> {
        self.lock().hashes.get(key).cloned()
    }

    pub fn put(&self, key: &str, hash: Hash) {
        self.lock().hashes.insert(key.to_owned(), hash);
    }

    pub fn delete(&self, key: &str) {
        self.lock().hashes.remove(key);
    }

    pub fn flush(&self) {
        self.lock().hashes.clear();
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The script, line by line.
impl Inner {
    fn field(&self, key: &str, field: &str) -> Vec<u8> {
        let hash = self.hashes.get(key);
        hash.and_then(|hash| hash.get(field.as_bytes())).cloned().unwrap_or_default()
    }

    fn refusal(&self, guard: Guard<'_>, consent: bool, swaps: bool) -> Option<ScriptOutcome> {
        if self.hashes.contains_key(guard.key) {
            let owner = self.field(guard.key, OWNER);
            let consents = swaps && consent && self.field(guard.key, ADOPT_BY) == guard.owner.as_bytes();
            if owner != guard.owner.as_bytes() && !consents {
                let by = String::from_utf8(owner).unwrap();
                return Some(ScriptOutcome::Owned { by: (!by.is_empty()).then_some(by) });
            }
            let format = String::from_utf8(self.field(guard.key, FORMAT)).unwrap();
            if format.parse::<u32>().is_ok_and(|format| format > HIGHEST) {
                return Some(ScriptOutcome::NewerLayout);
            }
        } else if !swaps {
            return Some(ScriptOutcome::Gone);
        }
        (self.field(guard.key, FENCE) != guard.fence.as_bytes()).then_some(ScriptOutcome::Stale)
    }

    fn next_fence(&self, guard: Guard<'_>) -> String {
        let fence = String::from_utf8(self.field(guard.key, FENCE)).unwrap();
        let usable =
            fence.len() <= 15 && !fence.is_empty() && fence.bytes().all(|byte| byte.is_ascii_digit());
        let next = if usable { fence.parse::<i64>().unwrap() + 1 } else { guard.least };
        next.max(guard.least).to_string()
    }

    fn swap(&mut self, guard: Guard<'_>, fields: &Fields, consent: bool) -> ScriptOutcome {
        if let Some(refusal) = self.refusal(guard, consent, true) {
            return refusal;
        }
        let fence = self.next_fence(guard);
        let mut staged: Hash = fields.iter().map(|(name, bytes)| (name.to_vec(), bytes.to_vec())).collect();
        let mut set = |field: &str, text: &[u8]| staged.insert(field.as_bytes().to_vec(), text.to_vec());
        set(OWNER, guard.owner.as_bytes());
        set(FENCE, fence.as_bytes());
        set(GENERATION, fence.as_bytes());
        let ours = self.field(guard.key, OWNER) == guard.owner.as_bytes();
        let since = self.field(guard.key, STATUS_AT);
        if ours && !since.is_empty() && staged.get(STATUS.as_bytes()) == Some(&self.field(guard.key, STATUS))
        {
            staged.insert(STATUS_AT.as_bytes().to_vec(), since);
        }
        if let Some(on_write) = &self.on_write {
            on_write(guard.key, &staged);
        }
        self.hashes.insert(guard.key.to_owned(), staged);
        let generation = fence.parse().ok();
        ScriptOutcome::Done { fence: Fence::new(fence.into_bytes()), generation }
    }

    fn heartbeat(
        &mut self,
        guard: Guard<'_>,
        heartbeat: Heartbeat,
        checked_mac: Option<&str>,
    ) -> ScriptOutcome {
        if let Some(refusal) = self.refusal(guard, false, false) {
            return refusal;
        }
        if guard.mac.is_some_and(|mac| self.field(guard.key, MAC) != mac.as_bytes()) {
            return ScriptOutcome::Stale;
        }
        let fence = self.next_fence(guard);
        let generation = String::from_utf8(self.field(guard.key, GENERATION)).unwrap().parse().ok();
        let (status, checked_at) = match heartbeat {
            Heartbeat::Good { checked_at } => (Status::Synced.as_str(), Some(checked_at.to_string())),
            Heartbeat::Failed => (Status::Degraded.as_str(), None),
        };
        let flips = self.field(guard.key, STATUS) != status.as_bytes();
        let hash = self.hashes.entry(guard.key.to_owned()).or_default();
        let mut set = |field: &str, text: &str| hash.insert(field.into(), text.into());
        set(FENCE, &fence);
        set(STATUS, status);
        if flips {
            set(STATUS_AT, &guard.now.to_string());
        }
        if let Some(checked_at) = checked_at {
            set(CHECKED_AT, &checked_at);
            set(CHECKED_MAC, checked_mac.unwrap_or_default());
        }
        ScriptOutcome::Done { fence: Fence::new(fence.into_bytes()), generation }
    }

    fn remove(&mut self, guard: Guard<'_>) -> ScriptOutcome {
        if let Some(refusal) = self.refusal(guard, false, false) {
            return refusal;
        }
        self.hashes.remove(guard.key);
        ScriptOutcome::Done { fence: Fence::ABSENT, generation: None }
    }
}

/// A [`Store`] as one incarnation of the operator reaches it.
pub struct Reached {
    pub store: Store,
    pub line: Line,
}

impl Reached {
    async fn call<T>(
        &self,
        verb: &str,
        key: &str,
        within: Duration,
        act: impl FnOnce(&mut Inner) -> T,
    ) -> Result<T, ConnectionError> {
        let call = self.line.call(Edge::Redis, format!("{verb} {key}"), || act(&mut self.store.lock()));
        match tokio::time::timeout(within, call).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(Fault::Redis(error))) => Err(error),
            Ok(Err(Fault::Stuck)) => std::future::pending().await,
            Ok(Err(_)) => Err(ConnectionError::Unavailable("connection reset".to_owned())),
            Err(_) => Err(ConnectionError::Timeout),
        }
    }
}

#[async_trait]
impl HashStore for Reached {
    async fn check(&self, keys: &[&str], within: Duration) -> Result<Vec<Check>, ConnectionError> {
        let look = |inner: &mut Inner| {
            let text = |bytes: Vec<u8>| (!bytes.is_empty()).then(|| String::from_utf8(bytes).unwrap());
            let check = |key: &&str| Check::Hash {
                owner: text(inner.field(key, OWNER)),
                fence: Fence::new(inner.field(key, FENCE)),
                mac: text(inner.field(key, MAC)),
            };
            keys.iter().map(check).collect()
        };
        self.call("check", &keys.join(" "), within, look).await
    }

    async fn observe(&self, key: &str, within: Duration) -> Result<ObservedHash, ConnectionError> {
        let look = |inner: &mut Inner| {
            let hash = inner.hashes.get(key).cloned().unwrap_or_default();
            ObservedHash::Fields(hash.into_iter().collect())
        };
        self.call("observe", key, within, look).await
    }

    async fn swap(
        &self,
        guard: Guard<'_>,
        fields: &Fields,
        consent: bool,
        within: Duration,
    ) -> Result<ScriptOutcome, ConnectionError> {
        self.call("swap", guard.key, within, |inner| inner.swap(guard, fields, consent)).await
    }

    async fn heartbeat(
        &self,
        guard: Guard<'_>,
        heartbeat: Heartbeat,
        checked_mac: Option<&str>,
        within: Duration,
    ) -> Result<ScriptOutcome, ConnectionError> {
        self.call("beat", guard.key, within, |inner| inner.heartbeat(guard, heartbeat, checked_mac)).await
    }

    async fn remove(&self, guard: Guard<'_>, within: Duration) -> Result<ScriptOutcome, ConnectionError> {
        self.call("drop", guard.key, within, |inner| inner.remove(guard)).await
    }

    async fn eviction(&self, _: Duration) -> Result<Eviction, ConnectionError> {
        Ok(Eviction::SparesOurs)
    }
}
