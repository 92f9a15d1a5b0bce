use proptest::prelude::*;

use super::*;
use crate::fixtures::{content, entries, other_ring, ring};

const OURS: &str = "c/shop/checkout";

fn data_of(parts: &Parts) -> BTreeMap<&str, &[u8]> {
    parts.data.iter().map(|(key, value)| (key.as_str(), value.expose().as_bytes())).collect()
}

fn decoded(parts: &Parts) -> Found {
    decode(Some(&parts.annotations), data_of(parts), OURS, &ring())
}

fn sample() -> Parts {
    encode(&ring().sign(content())).unwrap()
}

fn cause(found: Found) -> BrokenCause {
    match found {
        Found::Ours(Verdict::Broken(cause)) => cause,
        other => panic!("not broken: {other:?}"),
    }
}

#[test]
fn a_secret_of_somebody_else_is_not_ours() {
    let data = BTreeMap::from([("x", b"y".as_slice())]);
    assert_eq!(decode(None, data.clone(), OURS, &ring()), Found::NotOurs { owner: None });
    let theirs = BTreeMap::from([(OWNER.to_owned(), "other/shop/checkout".to_owned())]);
    let found = decode(Some(&theirs), data, OURS, &ring());
    assert_eq!(found, Found::NotOurs { owner: Some("other/shop/checkout".to_owned()) });
}

#[test]
fn an_edit_of_any_annotation_or_value_is_seen() {
    for name in ANNOTATIONS.into_iter().filter(|name| ![OWNER, FORMAT].contains(name)) {
        let mut lost = sample();
        lost.annotations.remove(name);
        assert_eq!(cause(decoded(&lost)), BrokenCause::Lacks(name));
        let mut edited = sample();
        let text = edited.annotations.get_mut(name).unwrap();
        // The third-last character: it belongs to the payload of both the MAC and base64.
        let at = text.len().saturating_sub(3);
        let other = if &text[at..=at] == "4" { "5" } else { "4" };
        text.replace_range(at..=at, other);
        assert!(matches!(decoded(&edited), Found::Ours(Verdict::Broken(_))), "{name}");
    }
    let mut edited = sample();
    edited.data.insert("HOST".to_owned(), Value::from("evil"));
    assert_eq!(cause(decoded(&edited)), BrokenCause::Mac);
}

#[test]
fn values_lost_added_or_unreadable_are_named() {
    let mut lost = sample();
    lost.data.remove("HOST");
    let missing = BrokenCause::ValuesMissing { count: 1, first: "/p/host".to_owned() };
    assert_eq!(cause(decoded(&lost)), missing);
    let mut added = sample();
    added.data.insert("EXTRA".to_owned(), Value::from("x"));
    let unexpected = BrokenCause::ValuesUnexpected { count: 1, first: "EXTRA".to_owned() };
    assert_eq!(cause(decoded(&added)), unexpected);
    let parts = sample();
    let mut data = data_of(&parts);
    data.insert("HOST", b"\xff");
    let found = decode(Some(&parts.annotations), data, OURS, &ring());
    assert!(matches!(cause(found), BrokenCause::ValueUnreadable { .. }));
}

#[test]
fn a_newer_layout_and_a_foreign_key_are_not_broken() {
    let mut newer = sample();
    newer.annotations.insert(FORMAT.to_owned(), "2".to_owned());
    newer.annotations.remove(MAC);
    assert_eq!(decoded(&newer), Found::Ours(Verdict::NewerLayout("2".to_owned())));
    let mut foreign = encode(&other_ring().sign(content())).unwrap();
    foreign.data.clear();
    foreign.annotations.remove(MANIFEST);
    assert_eq!(decoded(&foreign), Found::Ours(Verdict::ForeignKey("theirs".parse().unwrap())));
}

#[test]
fn formats_below_ours_and_not_numbers_are_broken() {
    for format in ["0", "", "1.5", "v2", "-1"] {
        let mut parts = sample();
        parts.annotations.insert(FORMAT.to_owned(), format.to_owned());
        assert_eq!(cause(decoded(&parts)), BrokenCause::Unreadable(FORMAT), "{format}");
    }
    let mut parts = sample();
    parts.annotations.insert(FORMAT.to_owned(), "9".repeat(40));
    assert!(matches!(decoded(&parts), Found::Ours(Verdict::NewerLayout(_))));
}

#[test]
fn a_parameter_without_a_key_of_its_own_is_named() {
    let mut none = content();
    none.entries.get_mut("/p/host").unwrap().key = None;
    assert_eq!(encode(&ring().sign(none)), Err(EncodeError::NoKey(vec!["/p/host".to_owned()])));
    let mut shared = content();
    shared.entries.get_mut("/p/password").unwrap().key = Some("HOST".to_owned());
    assert_eq!(encode(&ring().sign(shared)), Err(EncodeError::NoKey(vec!["/p/password".to_owned()])));
}

#[test]
fn a_manifest_that_inflates_without_end_is_refused() {
    let mut packer = ZlibEncoder::new(Vec::new(), Compression::best());
    packer.write_all(&vec![b' '; MAX_MANIFEST_BYTES + 1]).unwrap();
    let bomb = STANDARD.encode(packer.finish().unwrap());
    assert!(bomb.len() < 16 * 1024);
    let mut parts = sample();
    parts.annotations.insert(MANIFEST.to_owned(), bomb);
    assert_eq!(cause(decoded(&parts)), BrokenCause::Unreadable(MANIFEST));
}

/// Beside two thousand values, the decoder would inflate up to four megabytes; here it stops at what a few
/// values need.
#[test]
fn a_manifest_beside_few_values_inflates_little() {
    let packed = |bytes: usize| {
        let mut packer = ZlibEncoder::new(Vec::new(), Compression::best());
        let manifest = Manifest::of(&content().entries).encode();
        packer.write_all(manifest.as_bytes()).unwrap();
        packer.write_all(&vec![b' '; bytes]).unwrap();
        STANDARD.encode(packer.finish().unwrap())
    };
    let judged = |bytes| {
        let mut parts = sample();
        parts.annotations.insert(MANIFEST.to_owned(), packed(bytes));
        decoded(&parts)
    };
    assert!(matches!(judged(64 * 1024), Found::Ours(Verdict::Verified(_))), "space after it is no change");
    assert_eq!(cause(judged(2 * 1024 * 1024)), BrokenCause::Unreadable(MANIFEST));
}

/// A text that cannot be a MAC is compared with nothing, and the manifest is not inflated for it.
#[test]
fn what_is_no_mac_ends_the_work_before_it_begins() {
    for tag in ["", "AAAA", "not base64", &"A".repeat(44)] {
        let mut parts = sample();
        let key_id = ring().active().clone();
        parts.annotations.insert(MAC.to_owned(), format!("pm1:{key_id}:{tag}"));
        parts.annotations.remove(MANIFEST);
        assert_eq!(cause(decoded(&parts)), BrokenCause::Unreadable(MAC), "{tag:?}");
    }
}

#[test]
fn sizes_count_names_too() {
    let parts = sample();
    assert_eq!(parts.data_bytes(), "HOSTdb.internalPASSWORDhunter2".len());
    let annotations = BTreeMap::from([("ab".to_owned(), "cde".to_owned())]);
    assert_eq!(annotation_bytes(&annotations), 5);
}

proptest! {
    #[test]
    fn round_trip(entries in entries(), read_at in any::<i64>()) {
        let signed = ring().sign(Content { read_at, entries, ..content() });
        let parts = encode(&signed).unwrap();
        prop_assert_eq!(decoded(&parts), Found::Ours(Verdict::Verified(signed)));
    }

    #[test]
    fn a_tampered_secret_is_never_verified(
        entries in entries(),
        which in any::<prop::sample::Index>(),
        text in "\\PC{0,8}",
        removed in any::<bool>(),
    ) {
        let mut parts = encode(&ring().sign(Content { entries, ..content() })).unwrap();
        let keys: Vec<String> = parts.data.keys().cloned().collect();
        prop_assume!(!keys.is_empty());
        let key = keys[which.index(keys.len())].clone();
        prop_assume!(removed || parts.data[&key].expose() != text);
        if removed {
            parts.data.remove(&key);
        } else {
            parts.data.insert(key, Value::new(text));
        }
        prop_assert!(!matches!(decoded(&parts), Found::Ours(Verdict::Verified(_))));
    }

    #[test]
    fn no_input_panics(
        texts in proptest::collection::vec("[0-9]{0,20}|pm1:mine:[A-Za-z0-9_-]{0,44}|eJ[A-Za-z0-9+/]{0,40}|\\PC{0,20}", 7),
        data in proptest::collection::btree_map("[A-Z]{1,4}", proptest::collection::vec(any::<u8>(), 0..8), 0..4),
    ) {
        let mut annotations: BTreeMap<String, String> =
            ANNOTATIONS.iter().map(|name| (*name).to_owned()).zip(texts).collect();
        annotations.insert(OWNER.to_owned(), OURS.to_owned());
        annotations.insert(FORMAT.to_owned(), "1".to_owned());
        let data = data.iter().map(|(key, bytes)| (key.as_str(), bytes.as_slice()));
        let verified = matches!(decode(Some(&annotations), data, OURS, &ring()), Found::Ours(Verdict::Verified(_)));
        prop_assert!(!verified);
    }
}
