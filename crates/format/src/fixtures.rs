//! Keys, contents and strategies shared by the tests of several modules.

use proptest::prelude::*;

use crate::content::Content;
use crate::content::entry::{Entries, Entry, ParameterType};
use crate::crypto::keys::KeyRing;
use crate::value::Value;

/// A ring with one key, `mine`.
pub fn ring() -> KeyRing {
    KeyRing::from_data([("active", b"mine".as_slice()), ("mine", &[7; 32])]).unwrap()
}

/// Another ring with one key, `theirs`.
pub fn other_ring() -> KeyRing {
    KeyRing::from_data([("active", b"theirs".as_slice()), ("theirs", &[8; 32])]).unwrap()
}

/// Two parameters, one of them secret.
pub fn content() -> Content {
    let entry = |key: &str, kind, text: &str| Entry {
        key: Some(key.to_owned()),
        is_key_given: false,
        kind,
        version: 3,
        date: 1_795_341_879_120,
        value: Value::from(text),
    };
    Content {
        owner: "c/shop/checkout".to_owned(),
        source: r#"{"region":"r","roleArn":"","account":"","selections":[]}"#.to_owned(),
        read_at: 5,
        entries: Entries::from([
            ("/p/host".to_owned(), entry("HOST", ParameterType::String, "db.internal")),
            ("/p/password".to_owned(), entry("PASSWORD", ParameterType::SecureString, "hunter2")),
        ]),
    }
}

/// Any set in which every parameter has its own key.
pub fn entries() -> impl Strategy<Value = Entries> {
    let kind = prop_oneof![
        Just(ParameterType::String),
        Just(ParameterType::StringList),
        Just(ParameterType::SecureString)
    ];
    let line = (kind, any::<bool>(), any::<i64>(), any::<i64>(), "\\PC{0,12}|(?s:.{0,12})");
    proptest::collection::btree_map("/\\PC{0,6}", line, 0..6).prop_map(|lines| {
        let with_key = |(position, (name, (kind, is_key_given, version, date, text)))| {
            let key = Some(format!("KEY_{position}"));
            (name, Entry { key, is_key_given, kind, version, date, value: Value::new(text) })
        };
        lines.into_iter().enumerate().map(with_key).collect()
    })
}
