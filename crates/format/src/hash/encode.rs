//! Encodes a copy as the fields of a hash.
#![expect(clippy::disallowed_methods, reason = "the hash, where the mode says in clear")]

use crate::content::Signed;
use crate::crypto::envelope::{SealError, random_nonce, seal_with};
use crate::crypto::keys::{KeyId, KeyRing};
use crate::hash::fields::Fields;
use crate::secret::manifest::Manifest;

use super::reader_mac;
use super::{
    CHECKED_AT, CHECKED_MAC, COUNT, ENC, Encryption, EncryptionMode, FORMAT, MAC, PARAMS, READ_AT,
    READER_MAC, REVISION, SOURCE, STATUS, STATUS_AT, Status,
};

/// The fields that are staged with the set and change while the set stays the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Vitals {
    /// When the last good read began, Unix milliseconds.
    pub checked_at: i64,
    /// Whether the last read was good.
    pub status: Status,
    /// Since when the status holds, Unix milliseconds. The script keeps the time of the live hash if the
    /// status there is the same.
    pub status_at: i64,
}

/// Why a copy cannot be encoded as a hash.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// The key that signed it is no longer in the key Secret.
    #[error("the key {0} is not in the key Secret")]
    KeyMissing(KeyId),
    /// A name that could be mistaken for metadata.
    #[error("the parameter name {0:?} does not begin with /")]
    Name(String),
    /// A value could not be encrypted.
    #[error(transparent)]
    Seal(#[from] SealError),
}

/// Encodes a copy: all fields that a write stages, which are all except `@owner`, `@fence` and `@generation`.
/// Encrypts with the key of the MAC, so that a hash has only one key id.
pub fn encode(
    signed: &Signed,
    mode: EncryptionMode,
    keys: &KeyRing,
    redis_key: &str,
    vitals: Vitals,
) -> Result<Fields, EncodeError> {
    encode_with(signed, mode, keys, redis_key, vitals, |_| random_nonce())
}

/// [`encode`] with the given nonce for each field.
pub(crate) fn encode_with(
    signed: &Signed,
    mode: EncryptionMode,
    keys: &KeyRing,
    redis_key: &str,
    vitals: Vitals,
    mut nonce: impl FnMut(&str) -> Result<[u8; 12], SealError>,
) -> Result<Fields, EncodeError> {
    let content = &signed.content;
    let encryption = Encryption::new(mode, &signed.key_id);
    let sub_key = keys
        .sub_key(&signed.key_id, redis_key)
        .ok_or_else(|| EncodeError::KeyMissing(signed.key_id.clone()))?;
    let mut fields = Fields::default();
    for (name, entry) in &content.entries {
        if !name.starts_with('/') {
            return Err(EncodeError::Name(name.clone()));
        }
        let stored = match encryption.key_for(entry.kind) {
            Some(_) => seal_with(&sub_key, redis_key, name, &entry.value, nonce(name)?)?,
            None => entry.value.expose().to_owned(),
        };
        fields.insert(name.as_str(), stored);
    }
    fields.insert(FORMAT, crate::FORMAT.to_string());
    fields.insert(SOURCE, content.source.as_str());
    fields.insert(REVISION, content.revision());
    fields.insert(READ_AT, content.read_at.to_string());
    fields.insert(COUNT, content.entries.len().to_string());
    fields.insert(PARAMS, Manifest::of(&content.entries).encode());
    fields.insert(MAC, signed.mac.as_str());
    fields.insert(ENC, encryption.to_string());
    fields.insert(CHECKED_AT, vitals.checked_at.to_string());
    fields.insert(STATUS, vitals.status.as_str());
    fields.insert(STATUS_AT, vitals.status_at.to_string());
    let set_mac = reader_mac::of_set(&sub_key, redis_key, &fields);
    fields.insert(READER_MAC, set_mac);
    fields.insert(CHECKED_MAC, reader_mac::of_check(&sub_key, redis_key, &signed.mac, vitals.checked_at));
    Ok(fields)
}
