//! Reads mirrors from Redis.

use std::time::Duration;

use futures::future::try_join_all;
use jiff::Timestamp;
use parameter_mirror_format::crypto::subkey::SubKey;
use parameter_mirror_format::hash::mirror_name::MirrorName;
use parameter_mirror_format::hash::{
    CHECKED_AT, EncryptionMode, GENERATION, ReaderCopy, Status, decode_for_reader,
};
use parameter_mirror_redis::RedisClient;
use redis::aio::MultiplexedConnection;

use crate::failure::Failure;

/// How far synchronised clocks may differ: AWS refuses requests with a larger difference.
const CLOCKS_DIFFER_MS: i64 = 5 * 60 * 1000;

/// A mirror as it was read.
#[derive(Debug, Clone)]
pub struct Mirror {
    /// The name.
    pub name: MirrorName,
    /// The copy in Redis.
    pub copy: ReaderCopy,
}

impl Mirror {
    /// Returns the time since the last good read of SSM began. Clocks differ a little, so the age is at least
    /// zero. A check time in the future is ignored, because it would keep a hash fresh for ever.
    #[must_use]
    pub fn age(&self, now: Timestamp) -> Duration {
        let checked_at = self.copy.checked_at.filter(|at| !is_of_the_future(*at, now));
        let read = checked_at.unwrap_or(self.copy.read_at).max(self.copy.read_at);
        Duration::from_millis(now.as_millisecond().saturating_sub(read).try_into().unwrap_or(0))
    }

    /// Whether one of its times is further in the future than clocks may differ.
    #[must_use]
    pub fn is_of_the_future(&self, now: Timestamp) -> bool {
        [Some(self.copy.read_at), self.copy.checked_at]
            .into_iter()
            .flatten()
            .any(|at| is_of_the_future(at, now))
    }

    /// Whether it is older than `known` and both are authentic. The operator's sets only get newer, so this
    /// is a restored backup, a lagging replica, or the work of someone with write access to Redis.
    #[must_use]
    fn is_put_back(&self, known: &Self) -> bool {
        self.copy.is_authentic && known.copy.is_authentic && self.copy.read_at < known.copy.read_at
    }

    /// Whether the operator's last read of SSM failed.
    #[must_use]
    pub fn is_degraded(&self) -> bool {
        self.copy.status == Some(Status::Degraded)
    }
}

fn is_of_the_future(at: i64, now: Timestamp) -> bool {
    at.saturating_sub(now.as_millisecond()) > CLOCKS_DIFFER_MS
}

/// The requested mirrors, and how to read them.
#[derive(Debug)]
pub struct Mirrors {
    /// The Redis that holds them.
    pub servers: RedisClient,
    /// First part of every key.
    pub prefix: String,
    /// The names, in the order of the command line.
    pub names: Vec<MirrorName>,
    /// The keys that decrypt their values.
    pub sub_keys: Vec<SubKey>,
    /// The required encryption; `None` requires it for `SecureString`s if there are sub-keys, else for
    /// nothing.
    pub least: Option<EncryptionMode>,
    /// The time limit for reading all of them.
    pub budget: Duration,
}

impl Mirrors {
    /// Reads all of them, or none. Each mirror is read with one command, so its set is consistent.
    pub async fn read(&self) -> Result<Vec<Mirror>, Failure> {
        try_join_all(self.names.iter().map(|name| self.read_one(name))).await
    }

    /// Reads one of them.
    pub async fn read_one(&self, name: &MirrorName) -> Result<Mirror, Failure> {
        let key = name.redis_key(&self.prefix);
        let fields = self.servers.fields(&key, self.budget).await?;
        let copy = decode_for_reader(&fields, &key, &self.sub_keys, self.least);
        let copy = copy.map_err(|error| Failure::Mirror { mirror: name.clone(), error })?;
        if copy.entries.is_empty() {
            return Err(Failure::Empty(name.clone()));
        }
        Ok(Mirror { name: name.clone(), copy })
    }

    /// Reads a mirror, unless its generation is still that of `known`, the mirror as it was read before.
    pub async fn news(&self, name: &MirrorName, known: Option<&Mirror>) -> Result<Option<Mirror>, Failure> {
        if let Some(known) = known {
            let generation = self.generation(name).await?;
            if generation.is_some() && generation == known.copy.generation {
                return Ok(None);
            }
        }
        let news = self.read_one(name).await?;
        match known {
            Some(known) if news.is_put_back(known) => Err(Failure::PutBack {
                mirror: name.clone(),
                found: news.copy.read_at,
                held: known.copy.read_at,
            }),
            _ => Ok(Some(news)),
        }
    }

    /// Updates when the set of a mirror was last confirmed. A set that has been replaced meanwhile stays as it is.
    pub async fn confirm(&self, held: &mut Mirror) -> Result<(), Failure> {
        // Nothing but a whole hash can be verified, so this is read first.
        if self.number(&held.name, CHECKED_AT).await? == held.copy.checked_at {
            return Ok(());
        }
        let read = self.read_one(&held.name).await?;
        if read.copy.generation == held.copy.generation {
            (held.copy.checked_at, held.copy.status) = (read.copy.checked_at, read.copy.status);
        }
        Ok(())
    }

    /// Returns the generation, which changes with each content write; `None` if the hash does not exist.
    async fn generation(&self, name: &MirrorName) -> Result<Option<i64>, Failure> {
        self.number(name, GENERATION).await
    }

    async fn number(&self, name: &MirrorName, field: &'static str) -> Result<Option<i64>, Failure> {
        let key = name.redis_key(&self.prefix);
        let read = |mut connection: MultiplexedConnection| {
            let command = redis::Cmd::hget(&key, field);
            async move { command.query_async::<Option<String>>(&mut connection).await }
        };
        let number = self.servers.read(&key, self.budget, read).await?;
        Ok(number.and_then(|text| text.parse().ok()))
    }
}
