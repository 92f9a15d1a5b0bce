//! Converts between a hash in Redis and a signed set.

use std::time::Duration;

use parameter_mirror_format::content::Signed;
use parameter_mirror_format::crypto::keys::KeyRing;
use parameter_mirror_format::hash::{self, Encryption, EncryptionMode, Fence, HashFound, Status, Vitals};
use parameter_mirror_format::verdict::{Found, Verdict};
use parameter_mirror_redis::ConnectionError;

use crate::api::RedisEncryption;

use super::hashes::{Check, Guard, HashStore, Heartbeat, ObservedHash, ScriptOutcome};

/// Deadline of an observation: a Redis that does not answer must not delay SSM or the Secret
/// (docs/design/architecture.md, "Writing").
pub const OBSERVE: Duration = Duration::from_millis(500);
/// Deadline of a write, which is longer: a write can carry a megabyte.
pub const WRITE: Duration = Duration::from_secs(5);

impl From<RedisEncryption> for EncryptionMode {
    fn from(encryption: RedisEncryption) -> Self {
        match encryption {
            RedisEncryption::None => Self::None,
            RedisEncryption::SecureStrings => Self::SecureStrings,
            RedisEncryption::All => Self::All,
        }
    }
}

impl From<EncryptionMode> for RedisEncryption {
    fn from(mode: EncryptionMode) -> Self {
        match mode {
            EncryptionMode::None => Self::None,
            EncryptionMode::SecureStrings => Self::SecureStrings,
            EncryptionMode::All => Self::All,
        }
    }
}

/// What shows whether anybody changed a hash, without its values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trace {
    fence: Fence,
    /// `None` if no verified copy of ours was observed.
    mac: Option<String>,
}

impl Trace {
    /// Returns the trace of an observed hash.
    #[must_use]
    pub fn of(known: &HashFound) -> Self {
        Self { fence: known.fence.clone(), mac: copy_of(known).map(|signed| signed.mac.clone()) }
    }
}

/// Whether nobody has changed the hash since `known`.
pub async fn is_unchanged(store: &dyn HashStore, key: &str, known: &Trace) -> Result<bool, ConnectionError> {
    let checks = store.check(&[key], OBSERVE).await?;
    Ok(match checks.first() {
        Some(Check::Hash { fence, mac, .. }) => {
            *fence == known.fence && (known.mac.is_none() || *mac == known.mac)
        }
        Some(Check::WrongType) | None => false,
    })
}

/// Reads a hash back whole, decrypts it and checks its MAC, unless every byte of it is as in `known`, which was judged
/// with the same keys.
pub async fn observe(
    store: &dyn HashStore,
    key: &str,
    owner: &str,
    keys: &KeyRing,
    known: Option<&HashFound>,
) -> Result<HashFound, ConnectionError> {
    Ok(match store.observe(key, OBSERVE).await? {
        ObservedHash::Fields(fields) => hash::decode_again(&fields, key, owner, keys, known),
        ObservedHash::WrongType => HashFound {
            found: Found::NotOurs {
                owner: Some("somebody who keeps another type of value there".to_owned()),
            },
            fence: Fence::ABSENT,
            generation: None,
            encryption: None,
            checked_at: None,
            status: None,
            consents: false,
            is_hash: false,
            is_for_readers: false,
            print: None,
        },
    })
}

/// Whether readers can use the hash: values encrypted as wanted, with the key that signed the copy, and a valid MAC.
#[must_use]
pub fn is_laid_out_as(known: &HashFound, mode: EncryptionMode) -> bool {
    let is_encrypted = |signed: &Signed| known.encryption == Some(Encryption::new(mode, &signed.key_id));
    known.is_for_readers && copy_of(known).is_some_and(is_encrypted)
}

/// Replaces the hash with `signed`, if it still is as `known` observed it.
pub async fn write(
    store: &dyn HashStore,
    guard: Guard<'_>,
    signed: &Signed,
    mode: EncryptionMode,
    keys: &KeyRing,
    known: &HashFound,
    heartbeat: Option<Heartbeat>,
) -> Result<ScriptOutcome, ConnectionError> {
    let status = match heartbeat {
        Some(Heartbeat::Good { .. }) => Status::Synced,
        Some(Heartbeat::Failed) => Status::Degraded,
        None => known.status.unwrap_or(Status::Synced),
    };
    let checked_at = match heartbeat {
        Some(Heartbeat::Good { checked_at }) => checked_at,
        Some(Heartbeat::Failed) | None => known.checked_at.unwrap_or(signed.content.read_at),
    };
    let vitals = Vitals { checked_at, status, status_at: guard.now };
    let fields = hash::encode(signed, mode, keys, guard.key, vitals)
        .map_err(|error| ConnectionError::Other(error.to_string()))?;
    store.swap(guard, &fields, known.consents, WRITE).await
}

/// Writes a heartbeat: it shows readers the outcome of the read, for the set that `known` observed.
pub async fn heartbeat(
    store: &dyn HashStore,
    guard: Guard<'_>,
    heartbeat: Heartbeat,
    keys: &KeyRing,
    known: &HashFound,
) -> Result<ScriptOutcome, ConnectionError> {
    let checked_mac = match (heartbeat, copy_of(known)) {
        (Heartbeat::Good { checked_at }, Some(signed)) => {
            hash::checked_mac(keys, signed, guard.key, checked_at)
        }
        _ => None,
    };
    store.heartbeat(guard, heartbeat, checked_mac.as_deref(), WRITE).await
}

/// Returns what is known of the hash after a write of `signed`.
#[must_use]
pub fn after(
    known: &HashFound,
    signed: &Signed,
    mode: EncryptionMode,
    fence: Fence,
    generation: Option<i64>,
) -> HashFound {
    HashFound {
        found: Found::Ours(Verdict::Verified(signed.clone())),
        fence,
        generation,
        encryption: Some(Encryption::new(mode, &signed.key_id)),
        consents: false,
        is_hash: true,
        is_for_readers: true,
        checked_at: known.checked_at,
        status: known.status,
        // It has not been read back yet.
        print: None,
    }
}

fn copy_of(known: &HashFound) -> Option<&Signed> {
    match &known.found {
        Found::Ours(Verdict::Verified(signed)) => Some(signed),
        _ => None,
    }
}
