//! What a reader accepts, and what someone without a key but with write access to Redis can do.

use proptest::prelude::*;

use super::super::reader_mac::checked_mac;
use super::super::*;
use super::{KEY, MODES, OURS, VITALS, stored};
use crate::content::Content;
use crate::content::entry::ParameterType;
use crate::crypto::subkey::SubKey;
use crate::fixtures::{content, entries, other_ring, ring};
use crate::hash::fields::Fields;
use crate::verdict::{BrokenCause, Found, Verdict};

/// A consistent hash, written by someone with write access to Redis and no key.
fn forged(mode: EncryptionMode, change: impl FnOnce(&mut Content)) -> Fields {
    let mut content = content();
    change(&mut content);
    let mut fields = encode(&other_ring().sign(content), mode, &other_ring(), KEY, VITALS).unwrap();
    fields.insert(OWNER, OURS);
    // The key ids are not secret.
    for name in [MAC, ENC, READER_MAC, CHECKED_MAC] {
        fields.insert(name, fields.text(name).unwrap().replace("theirs", "mine"));
    }
    fields
}

fn sub_keys() -> [SubKey; 1] {
    [ring().sub_key(ring().active(), KEY).unwrap()]
}

#[test]
fn a_reader_with_a_sub_key_refuses_a_hash_that_says_nothing_is_encrypted() {
    let refused = ReaderError::NotEncrypted {
        field: "/p/password".to_owned(),
        kind: ParameterType::SecureString,
        found: EncryptionMode::None,
        least: EncryptionMode::SecureStrings,
    };
    // Also if the operator wrote it: an attacker may restore an old hash.
    for plain in [stored(EncryptionMode::None), forged(EncryptionMode::None, |_| {})] {
        assert_eq!(decode_for_reader(&plain, KEY, &sub_keys(), None).unwrap_err(), refused);
    }
    // Accepted while a mirror is being switched, and only if the operator wrote it.
    let none = Some(EncryptionMode::None);
    assert!(decode_for_reader(&stored(EncryptionMode::None), KEY, &sub_keys(), none).is_ok());
    let forged = forged(EncryptionMode::None, |_| {});
    assert_eq!(
        decode_for_reader(&forged, KEY, &sub_keys(), none),
        Err(ReaderError::Broken(BrokenCause::ReaderMac))
    );
}

#[test]
fn a_reader_with_a_sub_key_refuses_a_secret_that_became_a_string() {
    for mode in [EncryptionMode::None, EncryptionMode::SecureStrings] {
        let fields = forged(mode, |content| {
            let password = content.entries.get_mut("/p/password").unwrap();
            password.kind = ParameterType::String;
            password.value = "evil".into();
        });
        // Control: apart from the MAC, the hash is valid.
        assert_eq!(
            decode_for_reader(&fields, KEY, &[], None).unwrap().entries["/p/password"].value.expose(),
            "evil"
        );
        let error = decode_for_reader(&fields, KEY, &sub_keys(), None).unwrap_err();
        assert_eq!(error, ReaderError::Broken(BrokenCause::ReaderMac), "{mode:?}");
    }
}

#[test]
fn all_can_be_demanded() {
    let all = Some(EncryptionMode::All);
    let refused = |mode| decode_for_reader(&stored(mode), KEY, &sub_keys(), all).unwrap_err().to_string();
    assert_eq!(
        refused(EncryptionMode::SecureStrings),
        "/p/host is a String that is not encrypted (@enc is SecureStrings), and All has to be"
    );
    assert!(refused(EncryptionMode::None).contains("@enc is None"));
    assert!(decode_for_reader(&stored(EncryptionMode::All), KEY, &sub_keys(), all).is_ok());
    // Requiring encryption needs the sub-key, too.
    let keyless = decode_for_reader(&stored(EncryptionMode::All), KEY, &[], all);
    assert!(matches!(keyless, Err(ReaderError::KeyMissing { .. })), "{keyless:?}");
}

#[test]
fn a_reader_with_other_sub_keys_only_reads_nothing() {
    let of_another = [ring().sub_key(ring().active(), "pm:{shop/search}").unwrap()];
    let mut strings = content();
    strings.entries.retain(|_, entry| entry.kind == ParameterType::String);
    let plain = encode(&ring().sign(strings), EncryptionMode::None, &ring(), KEY, VITALS).unwrap();
    assert!(decode_for_reader(&plain, KEY, &[], None).is_ok());
    let error = decode_for_reader(&plain, KEY, &of_another, None).unwrap_err();
    assert_eq!(error, ReaderError::Broken(BrokenCause::ReaderMac));
    let of_another_id = [other_ring().sub_key(other_ring().active(), KEY).unwrap()];
    let error = decode_for_reader(&plain, KEY, &of_another_id, None).unwrap_err();
    assert_eq!(error.to_string(), "@readerMac needs the key mine, which this reader was not given");
    // The sub-keys of several mirrors have the same id; the one that verifies is used.
    let [ours] = sub_keys();
    let [other] = of_another;
    let both = [ours, other];
    assert!(decode_for_reader(&plain, KEY, &both, None).unwrap().is_authentic);
    let [ours, other] = both;
    assert!(decode_for_reader(&plain, KEY, &[other, ours], None).unwrap().is_authentic);
}

/// The content is valid, so an operator that starts in an outage can restore the hash from itself.
#[test]
fn what_readers_would_refuse_is_verified_and_marked() {
    for mode in MODES {
        let fields = stored(mode);
        assert!(decode(&fields, KEY, OURS, &ring()).is_for_readers);
        let known = decode(&fields, KEY, OURS, &ring());
        let mut lost = fields.clone();
        lost.remove(READER_MAC);
        let mut edited = fields.clone();
        edited.insert(READER_MAC, "pm1:mine:AAAA");
        let mut reordered = fields.clone();
        reordered.insert(PARAMS, format!(" {}", fields.text(PARAMS).unwrap()));
        for changed in [lost, edited, reordered] {
            let read = decode_again(&changed, KEY, OURS, &ring(), Some(&known));
            assert!(matches!(read.found, Found::Ours(Verdict::Verified(_))));
            assert!(!read.is_for_readers);
        }
    }
}

#[test]
fn only_the_format_of_this_version_is_read() {
    for format in ["0", "01", "1 ", "-1", "", "1.0"] {
        let mut fields = stored(EncryptionMode::All);
        fields.insert(FORMAT, format);
        let error = decode_for_reader(&fields, KEY, &sub_keys(), None).unwrap_err();
        assert_eq!(error, ReaderError::Broken(BrokenCause::Unreadable(FORMAT)), "{format:?}");
    }
}

/// Neither readers nor the operator accept a time that someone else wrote; the operator would sign it with
/// the next write.
#[test]
fn the_age_is_what_the_operator_said_of_this_set() {
    let checked_at = |fields: &Fields| {
        let read = decode_for_reader(fields, KEY, &sub_keys(), None).unwrap().checked_at;
        assert_eq!(decode(fields, KEY, OURS, &ring()).checked_at, read);
        read
    };
    let fields = stored(EncryptionMode::SecureStrings);
    assert_eq!(checked_at(&fields), Some(1));
    for forged in ["9999999999999", "0", "", "01"] {
        let mut fields = fields.clone();
        fields.insert(CHECKED_AT, forged);
        assert_eq!(checked_at(&fields), None, "{forged:?}");
    }
    // The MAC of a later set, the MAC of another mirror, and none.
    let later = ring().sign(Content { read_at: 6, ..content() });
    let this = ring().sign(content());
    for mac in [
        checked_mac(&ring(), &later, KEY, 9).unwrap(),
        checked_mac(&ring(), &this, "pm:{shop/search}", 9).unwrap(),
        fields.text(READER_MAC).unwrap().to_owned(),
        String::new(),
    ] {
        let mut fields = fields.clone();
        fields.insert(CHECKED_AT, "9");
        fields.insert(CHECKED_MAC, mac);
        assert_eq!(checked_at(&fields), None);
    }
    let mut good = fields;
    good.insert(CHECKED_AT, "9");
    good.insert(CHECKED_MAC, checked_mac(&ring(), &this, KEY, 9).unwrap());
    assert_eq!(checked_at(&good), Some(9));
}

#[test]
fn what_is_not_covered_says_nothing_about_values() {
    let fields = stored(EncryptionMode::SecureStrings);
    let whole = decode_for_reader(&fields, KEY, &sub_keys(), None).unwrap();
    let mut changed = fields;
    for (name, text) in [
        (OWNER, "x"),
        (FENCE, "x"),
        (GENERATION, "7"),
        (STATUS, "Synced"),
        (STATUS_AT, "x"),
        (ADOPT_BY, "x"),
        ("@later", "x"),
    ] {
        changed.insert(name, text);
    }
    let copy = decode_for_reader(&changed, KEY, &sub_keys(), None).unwrap();
    assert_eq!((copy.generation, copy.status), (Some(7), Some(Status::Synced)));
    assert_eq!(copy, ReaderCopy { generation: Some(7), status: Some(Status::Synced), ..whole });
}

proptest! {
    /// Anyone with write access to Redis and no sub-key can make a reader with the sub-key stop, and nothing
    /// else.
    #[test]
    fn a_tampered_hash_is_never_read_with_a_sub_key(
        entries in entries(),
        mode in prop::sample::select(MODES.to_vec()),
        which in any::<prop::sample::Index>(),
        bytes in proptest::collection::vec(any::<u8>(), 0..12),
        removed in any::<bool>(),
    ) {
        let signed = ring().sign(Content { entries, ..content() });
        let fields = encode(&signed, mode, &ring(), KEY, VITALS).unwrap();
        // Fields that change while the set stays the same, or are unsigned: see
        // `what_is_not_covered_says_nothing_about_values`.
        let free = [CHECKED_AT, CHECKED_MAC, STATUS, STATUS_AT].map(str::as_bytes);
        let names: Vec<&[u8]> = fields.iter().map(|(name, _)| name).filter(|name| !free.contains(name)).collect();
        let name = std::str::from_utf8(names[which.index(names.len())]).unwrap().to_owned();
        prop_assume!(removed || fields.get(&name).unwrap() != bytes);
        let mut tampered = fields.clone();
        if removed { tampered.remove(&name) } else { tampered.insert(name.as_str(), bytes) }
        let sub_keys = [ring().sub_key(ring().active(), KEY).unwrap()];
        prop_assert!(decode_for_reader(&tampered, KEY, &sub_keys, Some(EncryptionMode::None)).is_err(), "{}", name);
    }
}
