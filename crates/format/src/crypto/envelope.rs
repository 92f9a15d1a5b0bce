//! One encrypted value in Redis: `pm1:<keyId>:<base64url(nonce, ciphertext, tag)>`.
#![expect(clippy::disallowed_methods, reason = "encrypts")]

use aws_lc_rs::aead::{Aad, NONCE_LEN, Nonce};
use zeroize::Zeroizing;

use crate::crypto::keys::KeyId;
use crate::crypto::subkey::SubKey;
use crate::encoding::{base64url, from_base64url, lp_bytes};
use crate::value::Value;

/// The prefix of every text with a key id: envelopes, MACs and the encryption mode.
pub(crate) const SCHEME: &str = "pm1";

/// Splits `pm1:<keyId>:<rest>`; `None` if the text has another form.
pub(crate) fn split(text: &str) -> Option<(KeyId, &str)> {
    let (scheme, rest) = text.split_once(':')?;
    let (key_id, rest) = rest.split_once(':')?;
    (scheme == SCHEME).then_some(())?;
    Some((key_id.parse().ok()?, rest))
}

/// The system returned no random bytes, or the cipher failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the crypto library failed to encrypt")]
pub struct SealError;

/// Why an envelope cannot be opened. The error contains nothing of its content.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// Not of the form `pm1:<keyId>:<base64url>`.
    #[error("it is not an encrypted value")]
    NotAnEnvelope,
    /// Encrypted with another key than the given one.
    #[error("it is encrypted with the key {0}")]
    OtherKey(KeyId),
    /// Decryption failed: the key is wrong, or the text was damaged or moved here from another field or hash.
    #[error("it does not decrypt with the key {0}: the key is another one, or the text was damaged or moved")]
    Refused(KeyId),
    /// The plaintext is not UTF-8.
    #[error("it decrypts to something that is not text")]
    NotText,
}

/// Encrypts a value for one field of one hash; it decrypts only there.
pub fn seal(sub_key: &SubKey, redis_key: &str, field: &str, value: &Value) -> Result<String, SealError> {
    seal_with(sub_key, redis_key, field, value, random_nonce()?)
}

/// Returns a new random nonce.
pub(crate) fn random_nonce() -> Result<[u8; NONCE_LEN], SealError> {
    let mut nonce = [0; NONCE_LEN];
    aws_lc_rs::rand::fill(&mut nonce).map_err(|_| SealError)?;
    Ok(nonce)
}

/// [`seal`] with the given nonce. A nonce must never be used twice with one key.
pub(crate) fn seal_with(
    sub_key: &SubKey,
    redis_key: &str,
    field: &str,
    value: &Value,
    nonce: [u8; NONCE_LEN],
) -> Result<String, SealError> {
    // Holds the plaintext until it is encrypted in place.
    let mut sealed = Zeroizing::new(Vec::with_capacity(NONCE_LEN + value.len() + 16));
    sealed.extend_from_slice(&nonce);
    sealed.extend_from_slice(value.expose().as_bytes());
    let tag = sub_key
        .cipher()
        .seal_in_place_separate_tag(
            Nonce::assume_unique_for_key(nonce),
            aad(sub_key.key_id(), redis_key, field),
            sealed.get_mut(NONCE_LEN..).ok_or(SealError)?,
        )
        .map_err(|_| SealError)?;
    sealed.extend_from_slice(tag.as_ref());
    Ok(format!("{SCHEME}:{}:{}", sub_key.key_id(), base64url(&sealed)))
}

/// Decrypts a value found in one field of one hash.
pub fn open(sub_key: &SubKey, redis_key: &str, field: &str, envelope: &str) -> Result<Value, OpenError> {
    let (key_id, sealed) = split(envelope).ok_or(OpenError::NotAnEnvelope)?;
    if key_id != *sub_key.key_id() {
        return Err(OpenError::OtherKey(key_id));
    }
    let mut sealed = from_base64url(sealed).ok_or(OpenError::NotAnEnvelope)?;
    let (nonce, rest) = sealed.split_at_mut_checked(NONCE_LEN).ok_or(OpenError::NotAnEnvelope)?;
    let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| OpenError::NotAnEnvelope)?;
    let plain = sub_key
        .cipher()
        .open_in_place(nonce, aad(&key_id, redis_key, field), rest)
        .map_err(|_| OpenError::Refused(key_id.clone()))?;
    std::str::from_utf8(plain).map(Value::from).map_err(|_| OpenError::NotText)
}

/// Binds a ciphertext to its key, hash and field, so that it does not decrypt elsewhere.
fn aad(key_id: &KeyId, redis_key: &str, field: &str) -> Aad<Vec<u8>> {
    Aad::from(lp_bytes(&[
        SCHEME.as_bytes(),
        key_id.as_str().as_bytes(),
        redis_key.as_bytes(),
        field.as_bytes(),
    ]))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::fixtures::{other_ring, ring};

    fn sub_key(redis_key: &str) -> SubKey {
        ring().sub_key(ring().active(), redis_key).unwrap()
    }

    #[test]
    fn a_moved_or_damaged_ciphertext_does_not_open() {
        let key = sub_key("pm:{a/b}");
        let sealed = seal(&key, "pm:{a/b}", "/x", &Value::from("v")).unwrap();
        assert_eq!(open(&key, "pm:{a/b}", "/x", &sealed), Ok(Value::from("v")));
        let refused = OpenError::Refused(key.key_id().clone());
        assert_eq!(open(&key, "pm:{a/b}", "/y", &sealed), Err(refused.clone()));
        assert_eq!(open(&key, "pm:{a/c}", "/x", &sealed), Err(refused));
        let mut damaged = sealed.clone();
        damaged.insert(damaged.len() - 20, 'A');
        assert!(open(&key, "pm:{a/b}", "/x", &damaged).is_err());
    }

    #[test]
    fn two_ciphertexts_of_one_value_differ() {
        let key = sub_key("k");
        let value = Value::from("v");
        assert_ne!(seal(&key, "k", "/x", &value), seal(&key, "k", "/x", &value));
    }

    #[test]
    fn another_key_is_named() {
        let theirs = other_ring();
        let sealed =
            seal(&theirs.sub_key(theirs.active(), "k").unwrap(), "k", "/x", &Value::from("v")).unwrap();
        assert_eq!(
            open(&sub_key("k"), "k", "/x", &sealed),
            Err(OpenError::OtherKey(theirs.active().clone()))
        );
    }

    proptest! {
        #[test]
        fn round_trip(text in "\\PC{0,60}", field in "/\\PC{0,20}") {
            let key = sub_key("k");
            let value = Value::new(text);
            prop_assert_eq!(open(&key, "k", &field, &seal(&key, "k", &field, &value).unwrap()), Ok(value));
        }

        #[test]
        fn a_change_of_any_bit_is_noticed(text in "\\PC{0,20}", at in any::<prop::sample::Index>(), bit in 0..8_u32) {
            let key = sub_key("k");
            let sealed = seal(&key, "k", "/x", &Value::new(text)).unwrap();
            let (head, rest) = sealed.rsplit_once(':').unwrap();
            let mut bytes = from_base64url(rest).unwrap().to_vec();
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            let changed = format!("{head}:{}", base64url(&bytes));
            prop_assert_eq!(open(&key, "k", "/x", &changed), Err(OpenError::Refused(key.key_id().clone())));
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            let text = format!("pm1:{}:{}", ring().active(), base64url(&bytes));
            prop_assert!(open(&sub_key("k"), "k", "/x", &text).is_err());
        }

        #[test]
        fn no_input_panics(text in "(pm1:)?(mine:)?[A-Za-z0-9_-]{0,60}\\PC{0,3}") {
            prop_assert!(open(&sub_key("k"), "k", "/x", &text).is_err());
        }
    }
}
