//! The two MACs that readers verify with the sub-key of their mirror (docs/reference/redis-format.md, "Verifying").
//!
//! Readers cannot verify the operator's own MAC: its key signs for all mirrors, so no reader may hold it.
//! Without MACs of their own, readers would have to trust the hash on what is encrypted, which type a
//! parameter has and how old the set is, and anyone with write access to Redis could change that.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::hmac;

use crate::content::Signed;
use crate::crypto::envelope::{SCHEME, split};
use crate::crypto::keys::{KeyId, KeyRing};
use crate::crypto::subkey::SubKey;
use crate::encoding::{base64url, decimal, from_base64url, lp};
use crate::hash::fields::Fields;

use super::{
    CHECKED_AT, CHECKED_MAC, COUNT, ENC, FORMAT, MAC, PARAMS, READ_AT, READER_MAC, REVISION, SOURCE,
};

/// The metadata that the MAC over the set covers, in this order. The values follow, as they are stored.
const COVERED: [&str; 8] = [FORMAT, ENC, SOURCE, REVISION, READ_AT, COUNT, PARAMS, MAC];

/// Computes `@readerMac` of these fields.
pub(super) fn of_set(sub_key: &SubKey, redis_key: &str, fields: &Fields) -> String {
    text(sub_key, set_tag(sub_key, redis_key, fields))
}

/// Computes `@checkedMac` for a set, identified by its own MAC, that a read confirmed at this time.
pub(super) fn of_check(sub_key: &SubKey, redis_key: &str, mac: &str, checked_at: i64) -> String {
    text(sub_key, check_tag(sub_key, redis_key, mac.as_bytes(), &checked_at.to_string()))
}

/// Computes `@checkedMac` for a heartbeat; `None` if the key of the set is no longer in the ring.
#[must_use]
pub fn checked_mac(keys: &KeyRing, signed: &Signed, redis_key: &str, checked_at: i64) -> Option<String> {
    let sub_key = keys.sub_key(&signed.key_id, redis_key)?;
    Some(of_check(&sub_key, redis_key, &signed.mac, checked_at))
}

/// Returns the key that `@readerMac` names.
pub(super) fn key_id(fields: &Fields) -> Option<KeyId> {
    fields.text(READER_MAC).and_then(split).map(|(key_id, _)| key_id)
}

/// Whether the set is exactly what the operator wrote.
pub(super) fn is_set_authentic(sub_key: &SubKey, redis_key: &str, fields: &Fields) -> bool {
    fits(sub_key, fields.text(READER_MAC), || set_tag(sub_key, redis_key, fields))
}

/// Returns when the set was last confirmed, if the operator signed that time for this set.
pub(super) fn checked_at(sub_key: &SubKey, redis_key: &str, fields: &Fields) -> Option<i64> {
    let (mac, checked_at) = (fields.get(MAC)?, fields.text(CHECKED_AT)?);
    let tag = || check_tag(sub_key, redis_key, mac, checked_at);
    fits(sub_key, fields.text(CHECKED_MAC), tag).then(|| decimal(checked_at)).flatten()
}

fn set_tag(sub_key: &SubKey, redis_key: &str, fields: &Fields) -> hmac::Tag {
    let mut mac = begun(sub_key, "set", redis_key);
    let mut sink = |part: &[u8]| mac.update(part);
    for name in COVERED {
        lp(&mut sink, &[fields.get(name).unwrap_or_default()]);
    }
    for (name, stored) in fields.iter().filter(|(name, _)| name.starts_with(b"/")) {
        lp(&mut sink, &[name, stored]);
    }
    mac.sign()
}

fn check_tag(sub_key: &SubKey, redis_key: &str, set_mac: &[u8], checked_at: &str) -> hmac::Tag {
    let mut mac = begun(sub_key, "checked", redis_key);
    lp(&mut |part| mac.update(part), &[set_mac, checked_at.as_bytes()]);
    mac.sign()
}

fn begun(sub_key: &SubKey, purpose: &str, redis_key: &str) -> hmac::Context {
    let mut mac = hmac::Context::with_key(sub_key.mac_key());
    let key_id = sub_key.key_id().as_str().as_bytes();
    lp(&mut |part| mac.update(part), &[SCHEME.as_bytes(), key_id, purpose.as_bytes(), redis_key.as_bytes()]);
    mac
}

fn text(sub_key: &SubKey, tag: hmac::Tag) -> String {
    format!("{SCHEME}:{}:{}", sub_key.key_id(), base64url(tag.as_ref()))
}

/// Compares a MAC. Takes the same time for every wrong MAC of this key.
fn fits(sub_key: &SubKey, found: Option<&str>, tag: impl FnOnce() -> hmac::Tag) -> bool {
    let Some((key_id, found)) = found.and_then(split) else { return false };
    let Some(found) = from_base64url(found) else { return false };
    key_id == *sub_key.key_id() && verify_slices_are_equal(tag().as_ref(), &found).is_ok()
}
