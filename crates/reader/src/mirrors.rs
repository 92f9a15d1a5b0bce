//! Reads mirrors from Redis.

use std::time::Duration;

use futures::future::try_join_all;
use jiff::Timestamp;
use parameter_mirror_format::connection::Servers;
use parameter_mirror_format::fields::Fields;
use parameter_mirror_format::hash::{GENERATION, ReaderCopy, ReaderError, Status, decode_for_reader};
use parameter_mirror_format::mirror_name::MirrorName;
use parameter_mirror_format::subkey::SubKey;
use parameter_mirror_format::verdict::BrokenCause;
use redis::aio::MultiplexedConnection;

use crate::failure::Failure;

/// A mirror as it was read.
#[derive(Debug, Clone)]
pub struct Mirror {
    /// Which one.
    pub name: MirrorName,
    /// What Redis holds.
    pub copy: ReaderCopy,
}

impl Mirror {
    /// How old it is: since the last good read of SSM began. Clocks may differ, but nothing is of the future.
    #[must_use]
    pub fn age(&self, now: Timestamp) -> Duration {
        let read = self.copy.checked_at.unwrap_or(self.copy.read_at).max(self.copy.read_at);
        Duration::from_millis(now.as_millisecond().saturating_sub(read).try_into().unwrap_or(0))
    }

    /// Whether the operator's last read of SSM failed.
    #[must_use]
    pub fn is_degraded(&self) -> bool {
        self.copy.status == Some(Status::Degraded)
    }
}

/// The mirrors that were asked for, and where they lie.
#[derive(Debug)]
pub struct Mirrors {
    /// Their Redis.
    pub servers: Servers,
    /// First part of every key.
    pub prefix: String,
    /// Which ones, in the order of the command line.
    pub names: Vec<MirrorName>,
    /// What opens their encrypted values.
    pub sub_keys: Vec<SubKey>,
    /// Longest time for one reading of all.
    pub budget: Duration,
}

impl Mirrors {
    /// Reads all of them, or none. Each is one command, so it is of one moment.
    pub async fn read(&self) -> Result<Vec<Mirror>, Failure> {
        try_join_all(self.names.iter().map(|name| self.read_one(name))).await
    }

    /// Reads one of them.
    pub async fn read_one(&self, name: &MirrorName) -> Result<Mirror, Failure> {
        let key = name.redis_key(&self.prefix);
        let fields = self.servers.fields(&key, self.budget).await?;
        let copy = self.decode(&fields, &key);
        let copy = copy.map_err(|error| Failure::Mirror { mirror: name.clone(), error })?;
        if copy.entries.is_empty() {
            return Err(Failure::Empty(name.clone()));
        }
        Ok(Mirror { name: name.clone(), copy })
    }

    /// What a mirror holds now, unless its generation is that of `known`, the mirror as it was read before.
    pub async fn news(&self, name: &MirrorName, known: Option<&Mirror>) -> Result<Option<Mirror>, Failure> {
        if let Some(known) = known {
            let generation = self.generation(name).await?;
            if generation.is_some() && generation == known.copy.generation {
                return Ok(None);
            }
        }
        self.read_one(name).await.map(Some)
    }

    /// It moves with each content write; `None` if the hash is not there.
    async fn generation(&self, name: &MirrorName) -> Result<Option<i64>, Failure> {
        let key = name.redis_key(&self.prefix);
        let read = |mut connection: MultiplexedConnection| {
            let command = redis::Cmd::hget(&key, GENERATION);
            async move { command.query_async::<Option<String>>(&mut connection).await }
        };
        let generation = self.servers.read(&key, self.budget, read).await?;
        Ok(generation.and_then(|text| text.parse().ok()))
    }

    /// The sub-keys of several mirrors have the same key ids, so the one that opens it is found by trying.
    fn decode(&self, fields: &Fields, key: &str) -> Result<ReaderCopy, ReaderError> {
        let first = decode_for_reader(fields, key, &self.sub_keys);
        match first {
            Err(ReaderError::Broken(BrokenCause::ValueUnreadable { .. })) => {
                let mut others = self.sub_keys.iter().map(std::slice::from_ref);
                others.find_map(|sub_key| decode_for_reader(fields, key, sub_key).ok()).map_or(first, Ok)
            }
            other => other,
        }
    }
}
