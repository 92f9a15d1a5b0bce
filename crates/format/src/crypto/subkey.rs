//! The key of one mirror, all that a reader of an encrypted hash needs.

use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM, LessSafeKey, UnboundKey};
use aws_lc_rs::hmac;
use zeroize::Zeroizing;

use crate::crypto::keys::{KEY_LENGTH, KeyId};
use crate::encoding::{base64url, from_base64url};
use crate::value::Value;

/// What the MAC key of a sub-key is derived with: the sub-key itself is the key of the cipher and of nothing else.
const MAC_INFO: &[u8] = b"parameter-mirror/1/reader-mac";

/// An encryption key derived for one Redis key from one entry of the key Secret.
pub struct SubKey {
    key_id: KeyId,
    bytes: Zeroizing<Vec<u8>>,
    cipher: LessSafeKey,
    mac: hmac::Key,
}

/// A text that is not a sub-key. The text is not part of the error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a sub-key: expected <key id>:<32 bytes as base64url without padding>")]
pub struct SubKeyError;

impl SubKey {
    /// `None` unless `bytes` are 32.
    pub(crate) fn new(key_id: KeyId, bytes: Zeroizing<Vec<u8>>) -> Option<Self> {
        if bytes.len() != KEY_LENGTH {
            return None;
        }
        let cipher = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &bytes).ok()?);
        let derived = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &bytes), MAC_INFO);
        let mac = hmac::Key::new(hmac::HMAC_SHA256, derived.as_ref());
        Some(Self { key_id, bytes, cipher, mac })
    }

    /// The entry of the key Secret it was derived from.
    #[must_use]
    pub fn key_id(&self) -> &KeyId {
        &self.key_id
    }

    /// The text to hand to a reader, `<keyId>:<base64url>`. It opens every value of its mirror.
    #[must_use]
    pub fn encode(&self) -> Value {
        let key = Zeroizing::new(base64url(&self.bytes));
        Value::new(format!("{}:{}", self.key_id, *key))
    }

    /// Reads the text of [`SubKey::encode`].
    pub fn parse(text: &str) -> Result<Self, SubKeyError> {
        let (key_id, key) = text.split_once(':').ok_or(SubKeyError)?;
        let key_id = key_id.parse().map_err(|_| SubKeyError)?;
        let bytes = from_base64url(key).ok_or(SubKeyError)?;
        Self::new(key_id, bytes).ok_or(SubKeyError)
    }

    pub(crate) fn cipher(&self) -> &LessSafeKey {
        &self.cipher
    }

    /// The key of the MACs that readers verify.
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
