//! The test vectors of the layout, made by an independent implementation. Every output must match byte for
//! byte.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::content::entry::Entries;
use crate::content::revision::shrink_id;
use crate::content::source::StoredSource;
use crate::content::{Content, Signed};
use crate::crypto::keys::KeyRing;
use crate::crypto::subkey::SubKey;
use crate::hash::fields::Fields;
use crate::hash::{self, EncryptionMode, Status, Vitals};
use crate::secret::manifest::Manifest;
use crate::value::Value;
use crate::verdict::{Found, Verdict};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Vector {
    key_id: String,
    key_hex: String,
    owner: String,
    redis_key: String,
    source: String,
    read_at: i64,
    encryption: String,
    manifest: serde_json::Value,
    values: BTreeMap<String, String>,
    revision: String,
    mac: String,
    sub_key: String,
    enc: String,
    checked_at: i64,
    reader_mac: String,
    checked_mac: String,
    fields: BTreeMap<String, Field>,
    shrink_id_of_all_names: String,
}

#[derive(Deserialize)]
struct Field {
    nonce: Option<String>,
    text: String,
}

impl Vector {
    fn all() -> Vec<Self> {
        serde_json::from_str(include_str!("../tests/format-vectors.json")).unwrap()
    }

    fn ring(&self) -> KeyRing {
        let key = hex(&self.key_hex);
        KeyRing::from_data([("active", self.key_id.as_bytes()), (self.key_id.as_str(), &key)]).unwrap()
    }

    fn manifest(&self) -> Manifest {
        Manifest::decode(self.manifest.to_string().as_bytes(), 100).unwrap()
    }

    fn signed(&self) -> Signed {
        let entries: Entries = self
            .manifest()
            .0
            .iter()
            .map(|(name, line)| (name.clone(), line.with(Value::from(self.values[name].as_str()))))
            .collect();
        let (owner, source) = (self.owner.clone(), self.source.clone());
        self.ring().sign(Content { owner, source, read_at: self.read_at, entries })
    }

    fn mode(&self) -> EncryptionMode {
        match self.encryption.as_str() {
            "None" => EncryptionMode::None,
            "SecureStrings" => EncryptionMode::SecureStrings,
            "All" => EncryptionMode::All,
            other => panic!("unknown mode {other}"),
        }
    }

    /// Encodes the hash with the vector's nonces.
    fn hash(&self) -> Fields {
        let vitals = Vitals { checked_at: self.checked_at, status: Status::Synced, status_at: 2 };
        let nonce = |name: &str| {
            let nonce = self.fields[name].nonce.as_deref().expect("a nonce for each encrypted field");
            Ok(hex(nonce).try_into().unwrap())
        };
        hash::encode_with(&self.signed(), self.mode(), &self.ring(), &self.redis_key, vitals, nonce).unwrap()
    }
}

fn hex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

#[test]
fn revision_mac_and_shrink_id() {
    for vector in Vector::all() {
        let signed = vector.signed();
        assert_eq!(signed.content.revision(), vector.revision);
        assert_eq!(signed.mac, vector.mac);
        assert_eq!(shrink_id(vector.values.keys().map(String::as_str)), vector.shrink_id_of_all_names);
        assert_eq!(shrink_id(vector.values.keys().rev().map(String::as_str)), vector.shrink_id_of_all_names);
    }
}

#[test]
fn sub_key() {
    for vector in Vector::all() {
        let ring = vector.ring();
        let text = ring.sub_key(ring.active(), &vector.redis_key).unwrap().encode();
        assert_eq!(text.expose(), vector.sub_key);
        assert_eq!(SubKey::parse(&vector.sub_key).unwrap().encode(), text);
    }
}

#[test]
fn source_text() {
    for vector in Vector::all() {
        assert_eq!(StoredSource::decode(&vector.source).unwrap().encode(), vector.source);
    }
}

#[test]
fn manifest_text() {
    let vectors = Vector::all();
    assert_eq!(
        vectors[2].manifest().encode(),
        r#"{"/prod/checkout/db/host":{"key":"DB_HOST","type":"String","version":3,"date":1795341879120}}"#
    );
    let names =
        r#"{"/prod/checkout/..data":{"key":null,"type":"String","version":1,"date":1795341000000},"/prod/"#;
    assert!(vectors[0].manifest().encode().starts_with(names));
}

#[test]
fn hash_fields() {
    for vector in Vector::all() {
        let hash = vector.hash();
        for (name, field) in &vector.fields {
            assert_eq!(hash.text(name), Some(field.text.as_str()), "{name}");
        }
        assert_eq!(hash.text(hash::ENC), Some(vector.enc.as_str()));
        assert_eq!(hash.text(hash::REVISION), Some(vector.revision.as_str()));
        assert_eq!(hash.text(hash::MAC), Some(vector.mac.as_str()));
        assert_eq!(hash.text(hash::READER_MAC), Some(vector.reader_mac.as_str()));
        assert_eq!(hash.text(hash::CHECKED_MAC), Some(vector.checked_mac.as_str()));
        assert_eq!(hash.text(hash::SOURCE), Some(vector.source.as_str()));
        assert_eq!(hash.text(hash::COUNT), Some(vector.fields.len().to_string().as_str()));
        assert_eq!(hash.len(), vector.fields.len() + 13);
    }
}

#[test]
fn a_vectors_hash_is_verified_and_read() {
    for vector in Vector::all() {
        let mut hash = vector.hash();
        hash.insert(hash::OWNER, vector.owner.as_str());
        let found = hash::decode(&hash, &vector.redis_key, &vector.owner, &vector.ring());
        assert_eq!(found.found, Found::Ours(Verdict::Verified(vector.signed())));
        let sub_key = SubKey::parse(&vector.sub_key).unwrap();
        let copy = hash::decode_for_reader(&hash, &vector.redis_key, &[sub_key], Some(EncryptionMode::None));
        let copy = copy.unwrap();
        assert_eq!(copy.checked_at, Some(vector.checked_at));
        assert_eq!(copy.entries, vector.signed().content.entries);
    }
}
