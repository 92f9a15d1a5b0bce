use proptest::prelude::*;

use super::*;
use crate::content::Content;
use crate::crypto::envelope::OpenError;
use crate::fixtures::{content, entries, other_ring, ring};
use crate::hash::fields::Fields;
use crate::verdict::{BrokenCause, Found, Verdict};

mod reader;

const KEY: &str = "pm:{shop/checkout}";
const OURS: &str = "c/shop/checkout";
const VITALS: Vitals = Vitals { checked_at: 1, status: Status::Degraded, status_at: 2 };
const MODES: [EncryptionMode; 3] = [EncryptionMode::None, EncryptionMode::SecureStrings, EncryptionMode::All];

/// A hash as the script leaves it.
fn stored(mode: EncryptionMode) -> Fields {
    let mut fields = encode(&ring().sign(content()), mode, &ring(), KEY, VITALS).unwrap();
    fields.insert(OWNER, OURS);
    fields.insert(FENCE, "41");
    fields.insert(GENERATION, "40");
    fields
}

fn found(fields: &Fields) -> Found {
    decode(fields, KEY, OURS, &ring()).found
}

fn cause(fields: &Fields) -> BrokenCause {
    match found(fields) {
        Found::Ours(Verdict::Broken(cause)) => cause,
        other => panic!("not broken: {other:?}"),
    }
}

#[test]
fn keys_of_one_mirror_share_the_braces() {
    assert_eq!(redis_key("pm:", "shop", "checkout"), KEY);
    assert_eq!(stage_key(KEY, "a1"), "pm:{shop/checkout}:stage:a1");
}

#[test]
fn the_unsigned_fields_are_read_beside_the_verdict() {
    let mut fields = stored(EncryptionMode::All);
    fields.insert(ADOPT_BY, OURS);
    let read = decode(&fields, KEY, OURS, &ring());
    assert_eq!(read.fence, Fence::new(b"41".to_vec()));
    assert_eq!(read.generation, Some(40));
    assert_eq!(read.encryption, Some(Encryption::All("mine".parse().unwrap())));
    assert_eq!(read.checked_at, Some(1));
    assert_eq!(read.status, Some(Status::Degraded));
    assert!(read.consents);
    assert!(matches!(read.found, Found::Ours(Verdict::Verified(_))));
}

/// A heartbeat changes only fields outside the digest. Any other change, including an added or removed field,
/// makes the operator verify the hash again, as if it had never seen it.
#[test]
fn only_what_is_byte_for_byte_as_it_was_keeps_its_verdict() {
    let fields = stored(EncryptionMode::SecureStrings);
    let known = decode(&fields, KEY, OURS, &ring());
    let again = |fields: &Fields| decode_again(fields, KEY, OURS, &ring(), Some(&known));
    let is_kept = |found: &Found| match (found, &known.found) {
        (Found::Ours(Verdict::Verified(one)), Found::Ours(Verdict::Verified(other))) => {
            std::sync::Arc::ptr_eq(&one.content, &other.content)
        }
        _ => false,
    };
    let mut beaten = fields.clone();
    let mac = checked_mac(&ring(), &ring().sign(content()), KEY, 9).unwrap();
    for (name, text) in
        [(FENCE, "42"), (STATUS, "Synced"), (STATUS_AT, "9"), (CHECKED_AT, "9"), (CHECKED_MAC, &mac)]
    {
        beaten.insert(name, text);
    }
    let read = again(&beaten);
    assert!(is_kept(&read.found));
    assert_eq!((read.fence, read.checked_at), (Fence::new(b"42".to_vec()), Some(9)));

    let names: Vec<String> =
        fields.iter().map(|(name, _)| String::from_utf8(name.to_vec()).unwrap()).collect();
    for name in names.iter().filter(|name| {
        ![FENCE, STATUS, STATUS_AT, CHECKED_AT, CHECKED_MAC, GENERATION].contains(&name.as_str())
    }) {
        let (mut edited, mut lost) = (fields.clone(), fields.clone());
        let mut bytes = fields.get(name).unwrap().to_vec();
        bytes.push(b'x');
        edited.insert(name.as_str(), bytes);
        lost.remove(name);
        for changed in [edited, lost] {
            let read = again(&changed);
            assert_eq!(read, decode(&changed, KEY, OURS, &ring()), "{name}");
            assert!(!is_kept(&read.found), "{name}");
        }
    }
    let mut more = fields;
    more.insert("/added", "x");
    assert_eq!(again(&more), decode(&more, KEY, OURS, &ring()));
    assert!(!is_kept(&again(&more).found));
}

#[test]
fn nothing_is_missing_and_others_are_not_ours() {
    assert_eq!(found(&Fields::default()), Found::Missing);
    let mut theirs = stored(EncryptionMode::None);
    theirs.insert(OWNER, "other/shop/checkout");
    assert_eq!(found(&theirs), Found::NotOurs { owner: Some("other/shop/checkout".to_owned()) });
    theirs.remove(OWNER);
    assert_eq!(found(&theirs), Found::NotOurs { owner: None });
}

#[test]
fn each_signed_field_counts() {
    for mode in MODES {
        for name in [SOURCE, REVISION, READ_AT, COUNT, PARAMS, MAC, ENC] {
            let mut lost = stored(mode);
            lost.remove(name);
            assert_eq!(cause(&lost), BrokenCause::Lacks(name), "{mode:?}");
            let mut unreadable = stored(mode);
            unreadable.insert(name, b"\xff".as_slice());
            assert!(matches!(found(&unreadable), Found::Ours(Verdict::Broken(_))), "{name} {mode:?}");
        }
        let params = stored(mode).text(PARAMS).unwrap().replace("HOST", "GHOST");
        for (name, text) in [
            (SOURCE, "{}"),
            (REVISION, "000000000000"),
            (READ_AT, "6"),
            (READ_AT, "05"),
            (COUNT, "3"),
            (PARAMS, "{}"),
            (PARAMS, &params),
            ("/p/host", "evil"),
            ("/p/password", "evil"),
        ] {
            let mut edited = stored(mode);
            edited.insert(name, text);
            assert!(matches!(found(&edited), Found::Ours(Verdict::Broken(_))), "{name} {mode:?}");
        }
    }
}

#[test]
fn a_value_whose_encryption_was_talked_away_is_broken() {
    let mut fields = stored(EncryptionMode::All);
    fields.insert(ENC, "none");
    assert_eq!(cause(&fields), BrokenCause::Mac);
}

#[test]
fn a_ciphertext_moved_to_another_field_is_named() {
    let mut fields = stored(EncryptionMode::All);
    let moved = fields.get("/p/host").unwrap().to_vec();
    fields.insert("/p/password", moved);
    let why = OpenError::Refused(ring().active().clone());
    let expected = BrokenCause::ValueUnreadable { name: "/p/password".to_owned(), why };
    assert_eq!(cause(&fields), expected);
}

#[test]
fn fields_lost_or_added_are_named() {
    let mut lost = stored(EncryptionMode::SecureStrings);
    lost.remove("/p/host");
    let missing = BrokenCause::ValuesMissing { count: 1, first: "/p/host".to_owned() };
    assert_eq!(cause(&lost), missing);
    let mut added = stored(EncryptionMode::SecureStrings);
    added.insert("/p/new", "x");
    let unexpected = BrokenCause::ValuesUnexpected { count: 1, first: "/p/new".to_owned() };
    assert_eq!(cause(&added), unexpected);
}

#[test]
fn a_newer_layout_and_foreign_keys_are_not_broken() {
    let mut newer = stored(EncryptionMode::None);
    newer.insert(FORMAT, "10");
    newer.remove(MAC);
    assert_eq!(found(&newer), Found::Ours(Verdict::NewerLayout("10".to_owned())));
    let theirs = other_ring();
    let foreign_key = Found::Ours(Verdict::ForeignKey("theirs".parse().unwrap()));
    let mut signed = encode(&theirs.sign(content()), EncryptionMode::None, &theirs, KEY, VITALS).unwrap();
    signed.insert(OWNER, OURS);
    signed.remove(PARAMS);
    assert_eq!(found(&signed), foreign_key);
    let mut encrypted = stored(EncryptionMode::All);
    encrypted.insert(ENC, "All:pm1:theirs");
    assert_eq!(found(&encrypted), foreign_key);
}

#[test]
fn a_key_that_left_the_ring_is_named_before_anything_is_laid_out() {
    let signed = other_ring().sign(content());
    let refused = encode(&signed, EncryptionMode::None, &ring(), KEY, VITALS);
    assert_eq!(refused, Err(EncodeError::KeyMissing("theirs".parse().unwrap())));
}

#[test]
fn a_name_that_looks_like_metadata_is_refused() {
    let mut odd = content();
    let entry = odd.entries.pop_first().unwrap().1;
    odd.entries.insert("@owner".to_owned(), entry);
    let refused = encode(&ring().sign(odd), EncryptionMode::None, &ring(), KEY, VITALS);
    assert_eq!(refused, Err(EncodeError::Name("@owner".to_owned())));
}

#[test]
fn a_reader_needs_the_key_only_for_what_is_encrypted() {
    let fields = stored(EncryptionMode::SecureStrings);
    let missing =
        ReaderError::KeyMissing { field: "/p/password".to_owned(), key_id: "mine".parse().unwrap() };
    assert_eq!(decode_for_reader(&fields, KEY, &[], None), Err(missing));
    let plain = stored(EncryptionMode::None);
    assert_eq!(decode_for_reader(&plain, KEY, &[], None).unwrap().entries, content().entries);
    let sub_keys = [ring().sub_key(ring().active(), KEY).unwrap()];
    let copy = decode_for_reader(&fields, KEY, &sub_keys, None).unwrap();
    assert_eq!(copy.entries, content().entries);
    assert_eq!((copy.read_at, copy.checked_at, copy.generation), (5, Some(1), Some(40)));
    assert!(copy.is_authentic);
}

#[test]
fn a_reader_says_what_is_wrong_with_a_hash() {
    assert_eq!(decode_for_reader(&Fields::default(), KEY, &[], None), Err(ReaderError::Missing));
    let mut newer = stored(EncryptionMode::None);
    newer.insert(FORMAT, "2");
    assert_eq!(decode_for_reader(&newer, KEY, &[], None), Err(ReaderError::NewerLayout("2".to_owned())));
    let mut lost = stored(EncryptionMode::None);
    lost.remove("/p/host");
    let error = decode_for_reader(&lost, KEY, &[], None).unwrap_err();
    assert_eq!(error.to_string(), "1 values are missing, /p/host among them");
}

#[test]
fn what_is_encrypted_is_one_of_three_texts() {
    for text in ["none", "SecureStrings:pm1:k-1", "All:pm1:k-1"] {
        assert_eq!(text.parse::<Encryption>().unwrap().to_string(), text);
    }
    for text in ["", "None", "none:", "All", "All:pm1", "All:pm1:", "All:pm2:k", "Some:pm1:k", "All:pm1:k:x"]
    {
        assert!(text.parse::<Encryption>().is_err(), "{text}");
    }
}

#[test]
fn debug_shows_no_value() {
    let shown = format!("{:?}", stored(EncryptionMode::None));
    assert!(shown.contains("/p/password") && !shown.contains("hunter2"), "{shown}");
}

proptest! {
    #[test]
    fn round_trip(entries in entries(), mode in prop::sample::select(MODES.to_vec())) {
        let signed = ring().sign(Content { entries, ..content() });
        let mut fields = encode(&signed, mode, &ring(), KEY, VITALS).unwrap();
        fields.insert(OWNER, OURS);
        let sub_keys = [ring().sub_key(ring().active(), KEY).unwrap()];
        let copy = decode_for_reader(&fields, KEY, &sub_keys, Some(EncryptionMode::None)).unwrap();
        prop_assert_eq!(&copy.entries, &signed.content.entries);
        prop_assert_eq!(found(&fields), Found::Ours(Verdict::Verified(signed)));
    }

    /// Anyone with write access to Redis can make the operator report tampering, and nothing else.
    #[test]
    fn a_tampered_hash_is_never_verified(
        entries in entries(),
        mode in prop::sample::select(MODES.to_vec()),
        which in any::<prop::sample::Index>(),
        bytes in proptest::collection::vec(any::<u8>(), 0..12),
        removed in any::<bool>(),
    ) {
        let signed = ring().sign(Content { entries, ..content() });
        let mut fields = encode(&signed, mode, &ring(), KEY, VITALS).unwrap();
        fields.insert(OWNER, OURS);
        let mut raw: Vec<(Vec<u8>, Vec<u8>)> =
            fields.iter().map(|(name, bytes)| (name.to_vec(), bytes.to_vec())).collect();
        // These are unsigned and contain no values. Without the last two, the hash is not ours or not of this
        // layout.
        let unsigned =
            [FENCE, GENERATION, CHECKED_AT, CHECKED_MAC, READER_MAC, STATUS, STATUS_AT, OWNER, FORMAT]
                .map(str::as_bytes);
        raw.retain(|(name, _)| !unsigned.contains(&name.as_slice()));
        let (name, before) = raw[which.index(raw.len())].clone();
        prop_assume!(removed || before != bytes);
        let mut tampered: Fields = fields
            .iter()
            .filter(|(field, _)| *field != name.as_slice())
            .map(|(name, bytes)| (name.to_vec(), bytes.to_vec()))
            .collect();
        if !removed {
            tampered.insert(name, bytes);
        }
        prop_assert!(!matches!(found(&tampered), Found::Ours(Verdict::Verified(_))));
    }

    #[test]
    fn no_input_panics(
        texts in proptest::collection::vec(
            "[0-9]{0,20}|(All:|)pm1:mine:[A-Za-z0-9_-]{0,44}|none|\\{\\}|\\PC{0,12}",
            8,
        ),
        extra in proptest::collection::vec((proptest::collection::vec(any::<u8>(), 1..6), any::<Vec<u8>>()), 0..3),
    ) {
        let mut fields: Fields = extra.into_iter().collect();
        let names = [SOURCE, REVISION, READ_AT, COUNT, PARAMS, MAC, ENC, READER_MAC];
        names.into_iter().zip(texts).for_each(|(name, text)| fields.insert(name, text));
        fields.insert(FORMAT, "1");
        fields.insert(OWNER, OURS);
        prop_assert!(!matches!(found(&fields), Found::Ours(Verdict::Verified(_))));
        let _ = decode_for_reader(&fields, KEY, &[], None);
        let sub_keys = [ring().sub_key(ring().active(), KEY).unwrap()];
        prop_assert!(decode_for_reader(&fields, KEY, &sub_keys, None).is_err());
    }
}
