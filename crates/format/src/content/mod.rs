//! The content of a mirror's copy, and the MAC over it.

pub mod coverage;
pub mod entry;
pub mod environment;
pub mod revision;
pub mod source;
pub mod steering;

use std::sync::Arc;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::hmac;

use crate::content::entry::Entries;
use crate::content::revision::revision;
use crate::crypto::envelope::{SCHEME, split};
use crate::crypto::keys::{KeyId, KeyRing};
use crate::encoding::{base64url, from_base64url, lp};

/// The length of a MAC, in bytes.
const TAG_LENGTH: usize = 32;

/// Everything in a copy that the MAC covers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Content {
    /// `<cluster>/<namespace>/<mirror>`.
    pub owner: String,
    /// The source it was read from: the exact text of
    /// [`StoredSource::encode`](source::StoredSource::encode).
    pub source: String,
    /// The read time in Unix milliseconds. It orders copies.
    pub read_at: i64,
    /// The parameters.
    pub entries: Entries,
}

/// A [`Content`] with a valid MAC: made by [`KeyRing::sign`], or found in a target and verified.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Signed {
    /// The signed content. All holders of the same copy share it: the operator holds each set as the last
    /// known good and as observed in each target.
    pub content: Arc<Content>,
    /// The MAC as stored, `pm1:<keyId>:<base64url>`.
    pub mac: String,
    /// The key of the MAC.
    pub key_id: KeyId,
}

impl Signed {
    /// Returns the total size of all values in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.content.entries.values().map(|entry| entry.value.len()).sum()
    }
}

/// Why a MAC is not valid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MacError {
    /// The key is not in the ring.
    #[error("it is signed with the key {0}, which is not in the key Secret")]
    ForeignKey(KeyId),
    /// The key is in the ring, but the MAC is over other content.
    #[error("the MAC does not fit the content")]
    Mismatch,
    /// The text does not have the form of a MAC.
    #[error("it is not a MAC")]
    Malformed,
}

impl Content {
    /// Returns the revision of the entries.
    #[must_use]
    pub fn revision(&self) -> String {
        revision(&self.entries)
    }

    /// Whether two copies have the same owner, source and parameters, regardless of read time and signing
    /// key. Neither of two copies with equal content counts as older or newer.
    #[must_use]
    pub fn same_as(&self, other: &Self) -> bool {
        std::ptr::eq(self, other)
            || (self.owner == other.owner && self.source == other.source && self.entries == other.entries)
    }

    #[expect(clippy::disallowed_methods, reason = "the MAC covers the values")]
    fn tag(&self, key_id: &KeyId, key: &hmac::Key) -> hmac::Tag {
        let mut mac = hmac::Context::with_key(key);
        let mut sink = |part: &[u8]| mac.update(part);
        lp(
            &mut sink,
            &[
                SCHEME.as_bytes(),
                key_id.as_str().as_bytes(),
                self.owner.as_bytes(),
                self.source.as_bytes(),
                self.read_at.to_string().as_bytes(),
                self.revision().as_bytes(),
                self.entries.len().to_string().as_bytes(),
            ],
        );
        for (name, entry) in &self.entries {
            let key = entry.key.as_deref().unwrap_or_default();
            // A key never contains a colon.
            let given = if entry.is_key_given && !key.is_empty() { "given:" } else { "" };
            lp(
                &mut sink,
                &[
                    name.as_bytes(),
                    entry.kind.as_str().as_bytes(),
                    entry.version.to_string().as_bytes(),
                    entry.date.to_string().as_bytes(),
                    format!("{given}{key}").as_bytes(),
                    entry.value.expose().as_bytes(),
                ],
            );
        }
        mac.sign()
    }
}

impl KeyRing {
    /// Signs with the active key.
    #[must_use]
    pub fn sign(&self, content: impl Into<Arc<Content>>) -> Signed {
        let content = content.into();
        let key_id = self.active().clone();
        let tag = content.tag(&key_id, self.active_mac_key());
        let mac = format!("{SCHEME}:{key_id}:{}", base64url(tag.as_ref()));
        Signed { content, mac, key_id }
    }

    /// Verifies that `mac` is the MAC of `content` under the key it names. Takes the same time for every
    /// wrong MAC.
    pub fn verify(&self, content: &Content, mac: &str) -> Result<(), MacError> {
        let (key_id, tag) = split(mac).ok_or(MacError::Malformed)?;
        let key = self.mac_key(&key_id).ok_or_else(|| MacError::ForeignKey(key_id.clone()))?;
        let tag = from_base64url(tag).ok_or(MacError::Malformed)?;
        verify_slices_are_equal(content.tag(&key_id, key).as_ref(), &tag).map_err(|_| MacError::Mismatch)
    }

    /// Returns the key that a MAC names, if it is in the ring and the MAC is well-formed.
    pub(crate) fn key_of(&self, mac: &str) -> Result<KeyId, MacError> {
        let (key_id, tag) = split(mac).ok_or(MacError::Malformed)?;
        if !self.contains(&key_id) {
            return Err(MacError::ForeignKey(key_id));
        }
        let is_tag = from_base64url(tag).is_some_and(|tag| tag.len() == TAG_LENGTH);
        if is_tag { Ok(key_id) } else { Err(MacError::Malformed) }
    }

    /// Returns content found in a target together with its MAC, if the MAC is valid.
    pub(crate) fn verified(&self, content: Content, mac: String, key_id: KeyId) -> Result<Signed, MacError> {
        self.verify(&content, &mac)?;
        Ok(Signed { content: content.into(), mac, key_id })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::content::entry::ParameterType;
    use crate::fixtures::{content, other_ring, ring};
    use crate::value::Value;

    #[test]
    fn each_signed_part_counts() {
        type Change = fn(&mut Content);
        let ring = ring();
        let signed = ring.sign(content());
        assert_eq!(ring.verify(&signed.content, &signed.mac), Ok(()));
        let changes: [(&str, Change); 10] = [
            ("owner", |c| c.owner.push('x')),
            ("source", |c| c.source.push(' ')),
            ("read_at", |c| c.read_at += 1),
            ("an entry less", |c| c.entries.retain(|name, _| name != "/p/host")),
            ("value", |c| c.entries.values_mut().for_each(|e| e.value = Value::from("other"))),
            ("key", |c| c.entries.values_mut().for_each(|e| e.key = None)),
            ("given key", |c| c.entries.values_mut().for_each(|e| e.is_key_given = true)),
            ("version", |c| c.entries.values_mut().for_each(|e| e.version += 1)),
            ("date", |c| c.entries.values_mut().for_each(|e| e.date += 1)),
            ("type", |c| c.entries.values_mut().for_each(|e| e.kind = ParameterType::StringList)),
        ];
        for (what, change) in changes {
            let mut edited = Content::clone(&signed.content);
            change(&mut edited);
            assert_eq!(ring.verify(&edited, &signed.mac), Err(MacError::Mismatch), "{what}");
        }
    }

    #[test]
    fn a_key_that_is_not_ours_is_named() {
        let signed = other_ring().sign(content());
        let expected = MacError::ForeignKey(other_ring().active().clone());
        assert_eq!(ring().verify(&signed.content, &signed.mac), Err(expected));
    }

    #[test]
    fn the_read_time_is_not_a_difference_in_content() {
        let later = Content { read_at: 99, ..content() };
        assert!(later.same_as(&content()));
        let mut other = content();
        other.source.push(' ');
        assert!(!other.same_as(&content()));
    }

    proptest! {
        #[test]
        fn no_mac_panics(mac in "(pm1:)?(mine:)?[A-Za-z0-9_-]{0,60}\\PC{0,3}") {
            prop_assert!(ring().verify(&content(), &mac).is_err());
        }
    }
}
