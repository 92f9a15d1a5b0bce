//! Reads and writes the hashes of mirrors over a connection.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use futures::future::{join_all, try_join_all};
use parameter_mirror_format::FORMAT;
use parameter_mirror_format::hash::fields::Fields;
use parameter_mirror_format::hash::{FENCE, Fence, MAC, OWNER, Status, stage_key};
use parameter_mirror_redis::{ConnectionError, RedisClient};
use redis::Script;
use redis::aio::MultiplexedConnection;
use tokio::time::Instant;

use super::hashes::{Check, Guard, HashStore, Heartbeat, ObservedHash, ScriptOutcome};
use parameter_mirror_redis::eviction::Eviction;

/// Bytes that are staged at once: larger chunks would delay other clients of the server.
const CHUNK_BYTES: usize = 256 * 1024;
/// The staging key of a mirror: one for all attempts, so that attempts that a slow Redis has not processed cannot pile up.
const STAGING: &str = "write";
/// How long an abandoned staging key lives, in seconds. A swap has half of that for staging.
const STAGE_SECONDS: u64 = 60;

/// What the staging script answers to an attempt that another one has superseded.
const LOST: &str = "LOST";

static WRITE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("script.lua")));
static STAGE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("stage.lua")));

/// The hashes of all mirrors in one Redis, which may be a cluster: every command and script uses keys of one mirror,
/// and these share a slot.
#[derive(Debug)]
pub struct RedisStore {
    servers: RedisClient,
    /// Names attempts to write. The random seed makes them unlike those of any other process, the counter unlike each other.
    attempts: (RandomState, AtomicU64),
}

impl RedisStore {
    /// Creates a store over the connections to a Redis.
    #[must_use]
    pub fn new(servers: RedisClient) -> Self {
        Self { servers, attempts: (RandomState::new(), AtomicU64::new(0)) }
    }

    async fn stage_and_swap(
        &self,
        guard: Guard<'_>,
        fields: &Fields,
        consent: bool,
        stage: &str,
        deadline: Instant,
    ) -> Result<ScriptOutcome, ConnectionError> {
        let attempt = self.attempts.0.hash_one(self.attempts.1.fetch_add(1, Ordering::Relaxed));
        let attempt = format!("{attempt:016x}");
        for (number, chunk) in chunks(fields).into_iter().enumerate() {
            let mut call = STAGE.prepare_invoke();
            call.key(stage).arg(STAGE_SECONDS).arg(&attempt).arg(u8::from(number == 0));
            for (name, bytes) in chunk {
                call.arg(name).arg(bytes);
            }
            let call = &call;
            let write = |mut connection| async move { call.invoke_async::<String>(&mut connection).await };
            if self.servers.write(stage, remaining(deadline), write).await? == LOST {
                // Another attempt is staging now.
                return Ok(ScriptOutcome::Torn);
            }
        }
        let consent = if consent { "1" } else { "0" };
        // The name of the attempt is one of the fields.
        let arguments = [(fields.len() + 1).to_string(), consent.to_owned(), attempt];
        self.run("swap", guard, Some(stage), &arguments, remaining(deadline)).await
    }

    async fn run(
        &self,
        mode: &str,
        guard: Guard<'_>,
        stage: Option<&str>,
        arguments: &[String],
        within: Duration,
    ) -> Result<ScriptOutcome, ConnectionError> {
        let mut call = WRITE.prepare_invoke();
        call.key(guard.key);
        if let Some(stage) = stage {
            call.key(stage);
        }
        call.arg(mode).arg(guard.owner).arg(guard.fence.as_bytes()).arg(guard.now).arg(FORMAT);
        call.arg(guard.least).arg(arguments);
        let call = &call;
        let write = |mut connection| async move { call.invoke_async::<Vec<Vec<u8>>>(&mut connection).await };
        let answer = self.servers.write(guard.key, within, write).await?;
        ScriptOutcome::from_answer(answer)
            .ok_or_else(|| ConnectionError::Other("the script gave an unknown answer".to_owned()))
    }

    async fn unlink(&self, key: &str, within: Duration) -> Result<(), ConnectionError> {
        let write = |mut connection: MultiplexedConnection| async move {
            redis::cmd("UNLINK").arg(key).exec_async(&mut connection).await
        };
        self.servers.write(key, within, write).await
    }

    async fn check_one(&self, key: &str, within: Duration) -> Result<Check, ConnectionError> {
        let read = |mut connection: MultiplexedConnection| async move {
            redis::cmd("HMGET").arg(key).arg(&[OWNER, FENCE, MAC]).query_async(&mut connection).await
        };
        match self.servers.read::<OwnerFenceMac, _, _>(key, within, read).await {
            Ok(found) => Ok(Check::from(found)),
            Err(ConnectionError::WrongType) => Ok(Check::WrongType),
            Err(error) => Err(error),
        }
    }
}

#[async_trait]
impl HashStore for RedisStore {
    async fn check(&self, keys: &[&str], within: Duration) -> Result<Vec<Check>, ConnectionError> {
        // Concurrent requests go out together.
        try_join_all(keys.iter().map(|key| self.check_one(key, within))).await
    }

    async fn observe(&self, key: &str, within: Duration) -> Result<ObservedHash, ConnectionError> {
        match self.servers.fields(key, within).await {
            Ok(fields) => Ok(ObservedHash::Fields(fields)),
            Err(ConnectionError::WrongType) => Ok(ObservedHash::WrongType),
            Err(error) => Err(error),
        }
    }

    async fn swap(
        &self,
        guard: Guard<'_>,
        fields: &Fields,
        consent: bool,
        within: Duration,
    ) -> Result<ScriptOutcome, ConnectionError> {
        let deadline = Instant::now() + within.min(Duration::from_secs(STAGE_SECONDS / 2));
        let stage = stage_key(guard.key, STAGING);
        let swapped = self.stage_and_swap(guard, fields, consent, &stage, deadline).await;
        if let Err(error) = &swapped
            && *error != ConnectionError::Timeout
        {
            // Best effort: a server that is out of memory should not keep the staging key until it expires.
            let _ = self.unlink(&stage, remaining(deadline)).await;
        }
        swapped
    }

    async fn heartbeat(
        &self,
        guard: Guard<'_>,
        heartbeat: Heartbeat,
        checked_mac: Option<&str>,
        within: Duration,
    ) -> Result<ScriptOutcome, ConnectionError> {
        let (status, checked_at) = match heartbeat {
            Heartbeat::Good { checked_at } => (Status::Synced, checked_at.to_string()),
            Heartbeat::Failed => (Status::Degraded, String::new()),
        };
        let mac = guard.mac.unwrap_or_default().to_owned();
        let checked_mac = checked_mac.unwrap_or_default().to_owned();
        let arguments = [status.as_str().to_owned(), checked_at, mac, checked_mac];
        self.run("beat", guard, None, &arguments, within).await
    }

    async fn remove(&self, guard: Guard<'_>, within: Duration) -> Result<ScriptOutcome, ConnectionError> {
        self.run("drop", guard, None, &[], within).await
    }

    async fn eviction(&self, within: Duration) -> Result<Eviction, ConnectionError> {
        let ask = |mut connection: MultiplexedConnection| async move {
            redis::cmd("INFO").arg("memory").query_async::<String>(&mut connection).await
        };
        let connections = self.servers.connections();
        let answers = join_all(connections.iter().map(|link| link.read(within, ask))).await;
        let mut worst = Ok(Eviction::SparesOurs);
        for answer in answers {
            match answer.map(|info| Eviction::from_info(&info)) {
                Ok(Eviction::SparesOurs) => {}
                Ok(takes) => return Ok(takes),
                Err(error) => worst = Err(error),
            }
        }
        worst
    }
}

type OwnerFenceMac = (Option<Vec<u8>>, Option<Vec<u8>>, Option<Vec<u8>>);

impl From<OwnerFenceMac> for Check {
    fn from((owner, fence, mac): OwnerFenceMac) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Self::Hash {
            owner: owner.map(text),
            fence: Fence::new(fence.unwrap_or_default()),
            mac: mac.map(text),
        }
    }
}

impl ScriptOutcome {
    fn from_answer(answer: Vec<Vec<u8>>) -> Option<Self> {
        let mut parts = answer.into_iter();
        let code = parts.next()?;
        match code.as_slice() {
            b"DONE" => {
                let fence = Fence::new(parts.next()?);
                let generation = String::from_utf8(parts.next()?).ok().and_then(|text| text.parse().ok());
                Some(Self::Done { fence, generation })
            }
            b"STALE" => Some(Self::Stale),
            b"OWNED" => {
                let by = String::from_utf8_lossy(&parts.next()?).into_owned();
                Some(Self::Owned { by: (!by.is_empty()).then_some(by) })
            }
            b"NEWER" => Some(Self::NewerLayout),
            b"WRONGTYPE" => Some(Self::WrongType),
            b"GONE" => Some(Self::Gone),
            b"TORN" => Some(Self::Torn),
            _ => None,
        }
    }
}

fn remaining(deadline: Instant) -> Duration {
    deadline.saturating_duration_since(Instant::now())
}

/// Splits fields into chunks of about [`CHUNK_BYTES`]; a larger field is a chunk of its own.
fn chunks(fields: &Fields) -> Vec<Vec<(&[u8], &[u8])>> {
    let mut chunks = Vec::new();
    let mut chunk = Vec::new();
    let mut size = 0;
    for (name, bytes) in fields.iter() {
        let next = name.len() + bytes.len();
        if size + next > CHUNK_BYTES && !chunk.is_empty() {
            chunks.push(std::mem::take(&mut chunk));
            size = 0;
        }
        chunk.push((name, bytes));
        size += next;
    }
    chunks.push(chunk);
    chunks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_bounded_and_lose_nothing() {
        let mut fields = Fields::default();
        for number in 0..500 {
            fields.insert(format!("/p/{number:03}"), vec![b'x'; 4096]);
        }
        fields.insert("@params", vec![b'x'; 2 * CHUNK_BYTES]);
        let chunks = chunks(&fields);
        assert_eq!(chunks.iter().map(Vec::len).sum::<usize>(), fields.len());
        for chunk in chunks {
            let size: usize = chunk.iter().map(|(name, bytes)| name.len() + bytes.len()).sum();
            assert!(size <= CHUNK_BYTES || chunk.len() == 1);
        }
    }
}
