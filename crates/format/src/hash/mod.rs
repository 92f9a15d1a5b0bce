//! The layout of a copy in Redis: one hash per mirror, one field per parameter under its name as selected,
//! and metadata in fields that begin with `@`, which no SSM name does.

mod decode;
mod encode;
pub mod fields;
pub mod mirror_name;
mod reader_mac;

use std::fmt;
use std::str::FromStr;

pub use decode::{HashFound, Print, ReaderCopy, ReaderError, decode, decode_again, decode_for_reader};
#[cfg(test)]
pub(crate) use encode::encode_with;
pub use encode::{EncodeError, Vitals, encode};
pub use reader_mac::checked_mac;

use crate::content::entry::ParameterType;
use crate::crypto::envelope::SCHEME;
use crate::crypto::keys::KeyId;

/// Field: the number of the layout.
pub const FORMAT: &str = "@format";
/// Field: `<cluster>/<namespace>/<mirror>`.
pub const OWNER: &str = "@owner";
/// Field: what was read, see [`StoredSource`](crate::content::source::StoredSource).
pub const SOURCE: &str = "@source";
/// Field: the revision of the entries.
pub const REVISION: &str = "@revision";
/// Field: the read time, Unix milliseconds.
pub const READ_AT: &str = "@readAt";
/// Field: how many parameters there are.
pub const COUNT: &str = "@count";
/// Field: the manifest, plain JSON.
pub const PARAMS: &str = "@params";
/// Field: the MAC.
pub const MAC: &str = "@mac";
/// Field: the MAC over the whole set that readers verify with their sub-key.
pub const READER_MAC: &str = "@readerMac";
/// Field: which values are encrypted and with which key, see [`Encryption`].
pub const ENC: &str = "@enc";
/// Field: bumped by each successful write, unsigned.
pub const FENCE: &str = "@fence";
/// Field: the fence of the last content write, unsigned; readers poll it.
pub const GENERATION: &str = "@generation";
/// Field: when the last good read began, Unix milliseconds. It changes while the set stays the same, so it
/// has its own MAC.
pub const CHECKED_AT: &str = "@checkedAt";
/// Field: the MAC over [`CHECKED_AT`] and the set it refers to, under the key of [`READER_MAC`].
pub const CHECKED_MAC: &str = "@checkedMac";
/// Field: [`Status`], unsigned.
pub const STATUS: &str = "@status";
/// Field: when the status last flipped, Unix milliseconds, unsigned.
pub const STATUS_AT: &str = "@statusAt";
/// Field: the owner that may take the hash over. Anyone with write access to Redis can set it; setting it is
/// consent.
pub const ADOPT_BY: &str = "@adoptBy";

/// Returns the key of a mirror's hash. The braces put it in the same cluster slot as its staging keys.
#[must_use]
pub fn redis_key(prefix: &str, namespace: &str, mirror: &str) -> String {
    format!("{prefix}{{{namespace}/{mirror}}}")
}

/// Returns a key under which a write stages its fields before it renames them into place.
#[must_use]
pub fn stage_key(redis_key: &str, name: &str) -> String {
    format!("{redis_key}:stage:{name}")
}

/// Which values a mirror encrypts in Redis. The variants are ordered by strength.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, clap::ValueEnum)]
#[value(rename_all = "PascalCase")]
pub enum EncryptionMode {
    /// None
    None,
    /// Those that SSM keeps encrypted
    SecureStrings,
    /// All
    All,
}

impl fmt::Display for EncryptionMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "None",
            Self::SecureStrings => "SecureStrings",
            Self::All => "All",
        })
    }
}

impl EncryptionMode {
    /// Whether values of this type are encrypted.
    #[must_use]
    pub fn covers(self, kind: ParameterType) -> bool {
        match self {
            Self::None => false,
            Self::SecureStrings => kind == ParameterType::SecureString,
            Self::All => true,
        }
    }
}

/// Which values of a hash are encrypted, and with which key: the text of `@enc`. Readers rely on it and on
/// the type in the manifest, never on the form of a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Encryption {
    /// No values.
    None,
    /// The `SecureString` values, with this key.
    SecureStrings(KeyId),
    /// All values, with this key.
    All(KeyId),
}

/// A text that is not a valid `@enc`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected none, SecureStrings:pm1:<key id> or All:pm1:<key id>")]
pub struct EncryptionError;

impl Encryption {
    /// Combines a mode and a key.
    #[must_use]
    pub fn new(mode: EncryptionMode, key_id: &KeyId) -> Self {
        match mode {
            EncryptionMode::None => Self::None,
            EncryptionMode::SecureStrings => Self::SecureStrings(key_id.clone()),
            EncryptionMode::All => Self::All(key_id.clone()),
        }
    }

    /// Returns which values are encrypted.
    #[must_use]
    pub fn mode(&self) -> EncryptionMode {
        match self {
            Self::None => EncryptionMode::None,
            Self::SecureStrings(_) => EncryptionMode::SecureStrings,
            Self::All(_) => EncryptionMode::All,
        }
    }

    /// Returns the key, if there is one.
    #[must_use]
    pub fn key_id(&self) -> Option<&KeyId> {
        match self {
            Self::None => None,
            Self::SecureStrings(key_id) | Self::All(key_id) => Some(key_id),
        }
    }

    /// Returns the key that encrypts values of this type; `None` if they are plain.
    #[must_use]
    pub fn key_for(&self, kind: ParameterType) -> Option<&KeyId> {
        self.key_id().filter(|_| self.mode().covers(kind))
    }
}

impl fmt::Display for Encryption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("none"),
            Self::SecureStrings(key_id) => write!(f, "SecureStrings:{SCHEME}:{key_id}"),
            Self::All(key_id) => write!(f, "All:{SCHEME}:{key_id}"),
        }
    }
}

impl FromStr for Encryption {
    type Err = EncryptionError;

    fn from_str(text: &str) -> Result<Self, EncryptionError> {
        let mut parts = text.splitn(3, ':');
        match (parts.next(), parts.next(), parts.next()) {
            (Some("none"), None, None) => Ok(Self::None),
            (Some(mode), Some(SCHEME), Some(key_id)) => {
                let key_id = key_id.parse().map_err(|_| EncryptionError)?;
                match mode {
                    "SecureStrings" => Ok(Self::SecureStrings(key_id)),
                    "All" => Ok(Self::All(key_id)),
                    _ => Err(EncryptionError),
                }
            }
            _ => Err(EncryptionError),
        }
    }
}

/// Whether the last read of a mirror succeeded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Status {
    /// It succeeded.
    Synced,
    /// It failed; the last known good set is served.
    Degraded,
}

impl Status {
    /// Returns the text of `@status`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Synced => "Synced",
            Self::Degraded => "Degraded",
        }
    }

    /// Parses the text of `@status`; `None` for any other text.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Synced, Self::Degraded].into_iter().find(|status| status.as_str() == text)
    }
}

/// The unsigned `@fence` as observed, to compare with its content at the time of the write.
///
/// It is compared as bytes, so an absent or invalid fence compares exactly, too.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Fence(Vec<u8>);

impl Fence {
    /// The fence of a hash without one, and of a missing hash.
    pub const ABSENT: Self = Self(Vec::new());

    /// Creates a fence from the bytes of `@fence`.
    #[must_use]
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// Returns its number, if a write can increment it: up to 15 digits are exact in a Redis script.
    #[must_use]
    pub fn number(&self) -> Option<i64> {
        let text = std::str::from_utf8(&self.0).ok().filter(|text| text.len() <= 15)?;
        text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
    }

    /// Returns the bytes of `@fence`, empty if it is absent.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Fence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fence({})", self.0.escape_ascii())
    }
}

#[cfg(test)]
mod tests;
