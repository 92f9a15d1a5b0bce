//! The key of one mirror: the only key that a reader of an encrypted hash needs.

use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM, LessSafeKey, UnboundKey};
use aws_lc_rs::hmac;
use zeroize::Zeroizing;

use crate::crypto::keys::{KEY_LENGTH, KeyId};
use crate::encoding::{base64url, from_base64url};
use crate::value::Value;

/// The label with which the MAC key is derived from the sub-key. The sub-key itself is used by the cipher
/// only.
const MAC_INFO: &[u8] = b"parameter-mirror/1/reader-mac";

/// An encryption key derived for one Redis key from one entry of the key Secret.
pub struct SubKey {
    key_id: KeyId,
    bytes: Zeroizing<Vec<u8>>,
    cipher: LessSafeKey,
    mac: hmac::Key,
}

/// A text that is not a sub-key. The error does not contain the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a sub-key: expected <key id>:<32 bytes as base64url without padding>")]
pub struct SubKeyError;

impl SubKey {
    /// Creates a sub-key; `None` unless there are 32 `bytes`.
    pub(crate) fn new(key_id: KeyId, bytes: Zeroizing<Vec<u8>>) -> Option<Self> {
        if bytes.len() != KEY_LENGTH {
            return None;
        }
        let cipher = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &bytes).ok()?);
        let derived = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &bytes), MAC_INFO);
        let mac = hmac::Key::new(hmac::HMAC_SHA256, derived.as_ref());
        Some(Self { key_id, bytes, cipher, mac })
    }

    /// Returns the entry of the key Secret it was derived from.
    #[must_use]
    pub fn key_id(&self) -> &KeyId {
        &self.key_id
    }

    /// Returns the text to give to a reader, `<keyId>:<base64url>`. It decrypts every value of its mirror.
    #[must_use]
    pub fn encode(&self) -> Value {
        let key = Zeroizing::new(base64url(&self.bytes));
        Value::new(format!("{}:{}", self.key_id, *key))
    }

    /// Parses the text of [`SubKey::encode`].
    pub fn parse(text: &str) -> Result<Self, SubKeyError> {
        let (key_id, key) = text.split_once(':').ok_or(SubKeyError)?;
        let key_id = key_id.parse().map_err(|_| SubKeyError)?;
        let bytes = from_base64url(key).ok_or(SubKeyError)?;
        Self::new(key_id, bytes).ok_or(SubKeyError)
    }

    pub(crate) fn cipher(&self) -> &LessSafeKey {
        &self.cipher
    }

    /// Returns the key of the MACs that readers verify.
    pub(crate) fn mac_key(&self) -> &hmac::Key {
        &self.mac
    }
}

impl fmt::Debug for SubKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SubKey").field("key_id", &self.key_id).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn other_texts_are_refused() {
        for text in ["", "k", "k:", "k:AAAA", "K:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"] {
            assert!(SubKey::parse(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_input_panics(text in "\\PC{0,80}") {
            let _ = SubKey::parse(&text);
        }
    }
}
