//! The operator's keys: the content of the Secret `parameter-mirror-keys`.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use aws_lc_rs::{hkdf, hmac};
use zeroize::Zeroizing;

use crate::crypto::subkey::SubKey;

/// The length of every key, in bytes.
pub const KEY_LENGTH: usize = 32;

/// The data key of the key Secret that names the entry to sign and encrypt with.
const ACTIVE: &str = "active";

/// The name of one entry of the key Secret: 1 to 32 of `a-z`, `0-9` and `-`, and not `active`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyId(String);

/// A text that is not a key id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a key id is 1 to 32 of a-z, 0-9 and -, and not \"active\"")]
pub struct KeyIdError;

impl KeyId {
    /// The text of the id.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for KeyId {
    type Err = KeyIdError;

    fn from_str(text: &str) -> Result<Self, KeyIdError> {
        let legal = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if (1..=32).contains(&text.len()) && text.bytes().all(legal) && text != ACTIVE {
            Ok(Self(text.to_owned()))
        } else {
            Err(KeyIdError)
        }
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why the key Secret is invalid. Messages name key ids, never key bytes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// No data key `active`.
    #[error("the key Secret has no data key \"active\"")]
    NoActive,
    /// `active` is not a key id.
    #[error("the data key \"active\" of the key Secret does not hold a key id and nothing else")]
    ActiveNotAKeyId,
    /// `active` names an entry that does not exist.
    #[error("\"active\" of the key Secret names {0}, which is not in it")]
    ActiveMissing(KeyId),
    /// A data key that is not a key id.
    #[error("the data key {0:?} of the key Secret is not a key id: {KeyIdError}")]
    NotAKeyId(String),
    /// An entry that is not 32 bytes.
    #[error("the key {key_id} is {length} bytes, not {KEY_LENGTH}")]
    WrongLength {
        /// The id of the entry.
        key_id: KeyId,
        /// Its length in bytes.
        length: usize,
    },
    /// The crypto library failed, which only happens on a broken system.
    #[error("the crypto library failed")]
    Crypto,
}

/// All keys, and the active one. Clones share the keys.
#[derive(Clone)]
pub struct KeyRing {
    active: KeyId,
    active_mac: hmac::Key,
    keys: Arc<BTreeMap<KeyId, Key>>,
}

struct Key {
    bytes: Zeroizing<Vec<u8>>,
    expander: hkdf::Prk,
    mac: hmac::Key,
}

impl KeyRing {
    /// Parses the data of the key Secret.
    pub fn from_data<'a>(data: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> Result<Self, KeyError> {
        let mut active = None;
        let mut keys = BTreeMap::new();
        for (name, bytes) in data {
            if name == ACTIVE {
                let text = std::str::from_utf8(bytes).map_err(|_| KeyError::ActiveNotAKeyId)?;
                active = Some(text.parse::<KeyId>().map_err(|_| KeyError::ActiveNotAKeyId)?);
            } else {
                let key_id: KeyId = name.parse().map_err(|_| KeyError::NotAKeyId(name.to_owned()))?;
                let key = Key::new(&key_id, Zeroizing::new(bytes.to_vec()))?;
                keys.insert(key_id, key);
            }
        }
        let active = active.ok_or(KeyError::NoActive)?;
        Self::new(active, keys)
    }

    /// Creates a ring with one new random key, for the very first start and for a manual keygen.
    pub fn generate(key_id: KeyId) -> Result<Self, KeyError> {
        let mut bytes = Zeroizing::new(vec![0; KEY_LENGTH]);
        aws_lc_rs::rand::fill(&mut bytes).map_err(|_| KeyError::Crypto)?;
        let key = Key::new(&key_id, bytes)?;
        Self::new(key_id.clone(), BTreeMap::from([(key_id, key)]))
    }

    fn new(active: KeyId, keys: BTreeMap<KeyId, Key>) -> Result<Self, KeyError> {
        let Some(key) = keys.get(&active) else { return Err(KeyError::ActiveMissing(active)) };
        Ok(Self { active_mac: key.mac.clone(), active, keys: Arc::new(keys) })
    }

    /// Returns the data of the key Secret: the raw keys, for that Secret and nothing else.
    #[must_use]
    pub fn to_data(&self) -> BTreeMap<String, Vec<u8>> {
        let mut data: BTreeMap<String, Vec<u8>> =
            self.keys.iter().map(|(key_id, key)| (key_id.0.clone(), key.bytes.to_vec())).collect();
        data.insert(ACTIVE.to_owned(), self.active.0.clone().into_bytes());
        data
    }

    /// Returns the id of the key that signs and encrypts everything new.
    #[must_use]
    pub fn active(&self) -> &KeyId {
        &self.active
    }

    /// Returns all key ids, sorted.
    pub fn key_ids(&self) -> impl Iterator<Item = &KeyId> {
        self.keys.keys()
    }

    /// Whether the ring has a key with this id.
    #[must_use]
    pub fn contains(&self, key_id: &KeyId) -> bool {
        self.keys.contains_key(key_id)
    }

    /// Returns the encryption key of the mirror stored under `redis_key`; `None` if the ring has no key with
    /// this id.
    #[must_use]
    pub fn sub_key(&self, key_id: &KeyId, redis_key: &str) -> Option<SubKey> {
        let key = self.keys.get(key_id)?;
        let info = [b"parameter-mirror/1/enc/", redis_key.as_bytes()];
        SubKey::new(key_id.clone(), expand(&key.expander, &info).ok()?)
    }

    /// Returns the MAC key; `None` if the ring has no key with this id.
    pub(crate) fn mac_key(&self, key_id: &KeyId) -> Option<&hmac::Key> {
        self.keys.get(key_id).map(|key| &key.mac)
    }

    /// Returns the MAC key to sign with.
    pub(crate) fn active_mac_key(&self) -> &hmac::Key {
        &self.active_mac
    }
}

impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyRing")
            .field("active", &self.active)
            .field("keys", &self.keys.keys().collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}

impl Key {
    fn new(key_id: &KeyId, bytes: Zeroizing<Vec<u8>>) -> Result<Self, KeyError> {
        if bytes.len() != KEY_LENGTH {
            return Err(KeyError::WrongLength { key_id: key_id.clone(), length: bytes.len() });
        }
        let expander = hkdf::Salt::new(hkdf::HKDF_SHA256, &[]).extract(&bytes);
        let mac = hmac::Key::new(hmac::HMAC_SHA256, &expand(&expander, &[b"parameter-mirror/1/mac"])?);
        Ok(Self { bytes, expander, mac })
    }
}

fn expand(expander: &hkdf::Prk, info: &[&[u8]]) -> Result<Zeroizing<Vec<u8>>, KeyError> {
    let mut bytes = Zeroizing::new(vec![0; KEY_LENGTH]);
    expander
        .expand(info, hkdf::HKDF_SHA256)
        .and_then(|derived| derived.fill(&mut bytes))
        .map_err(|_| KeyError::Crypto)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ring(data: &[(&str, &[u8])]) -> Result<KeyRing, KeyError> {
        KeyRing::from_data(data.iter().copied())
    }

    #[test]
    fn what_is_wrong_with_the_key_secret_is_said_without_its_bytes() {
        let key = [0x41; KEY_LENGTH];
        let id: KeyId = "k".parse().unwrap();
        assert_eq!(ring(&[("k", &key)]).unwrap_err(), KeyError::NoActive);
        assert_eq!(ring(&[("active", b"k\n"), ("k", &key)]).unwrap_err(), KeyError::ActiveNotAKeyId);
        assert_eq!(ring(&[("active", b"k")]).unwrap_err(), KeyError::ActiveMissing(id.clone()));
        assert_eq!(
            ring(&[("active", b"k"), ("K.old", &key)]).unwrap_err(),
            KeyError::NotAKeyId("K.old".to_owned())
        );
        let short = ring(&[("active", b"k"), ("k", b"AAAA")]).unwrap_err();
        assert_eq!(short, KeyError::WrongLength { key_id: id, length: 4 });
        assert!(!short.to_string().contains("AAAA"));
        let good = ring(&[("active", b"k"), ("k", &key)]).unwrap();
        assert!(!format!("{good:?}").contains("65"), "{good:?}");
    }

    #[test]
    fn a_generated_ring_survives_the_secret() {
        let made = KeyRing::generate("first".parse().unwrap()).unwrap();
        let data = made.to_data();
        let read =
            KeyRing::from_data(data.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice()))).unwrap();
        assert_eq!(read.to_data(), data);
        let other = KeyRing::generate("first".parse().unwrap()).unwrap();
        assert_ne!(other.to_data(), data);
    }

    proptest! {
        #[test]
        fn a_key_id_is_what_the_layout_says(text in "[a-z0-9A_-]{0,34}") {
            let legal = (1..=32).contains(&text.len())
                && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
                && text != "active";
            prop_assert_eq!(text.parse::<KeyId>().is_ok(), legal);
        }
    }
}
