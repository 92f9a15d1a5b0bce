//! The mirror `shop/checkout` in Redis, with the parameters of tests/sdk/expected.json.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use parameter_mirror_format::content::Content;
use parameter_mirror_format::entry::{Entries, Entry};
use parameter_mirror_format::fields::Fields;
use parameter_mirror_format::hash::{self, EncryptionMode, Status, Vitals};
use parameter_mirror_format::keys::KeyRing;
use parameter_mirror_format::source::{StoredSelection, StoredSource};
use parameter_mirror_format::value::Value;
use parameter_mirror_test_support::Redis;
use redis::AsyncCommands;
use serde::Deserialize;

use crate::programs::root;

/// The mirror as its reader is asked for it.
pub const MIRROR: &str = "shop/checkout";
/// Its hash.
pub const KEY: &str = "pm:{shop/checkout}";

#[derive(Deserialize)]
pub struct Expected {
    pub ask: Ask,
    pub parameters: BTreeMap<String, Parameter>,
}

#[derive(Deserialize)]
pub struct Ask {
    pub path: String,
}

#[derive(Deserialize)]
pub struct Parameter {
    #[serde(rename = "type")]
    pub kind: String,
    pub value: String,
    pub version: i64,
}

impl Expected {
    pub fn read() -> Self {
        let json = std::fs::read(root().join("tests/sdk/expected.json")).unwrap();
        serde_json::from_slice(&json).unwrap()
    }

    pub fn values(&self) -> BTreeMap<String, String> {
        self.parameters.iter().map(|(name, parameter)| (name.clone(), parameter.value.clone())).collect()
    }

    fn entries(&self) -> Entries {
        let entry = |(name, parameter): (&String, &Parameter)| {
            let kind = parameter.kind.parse().unwrap();
            let value = Value::from(parameter.value.as_str());
            // 2026-01-01, and a fraction of a second.
            let date = 1_767_225_600_123;
            (name.clone(), Entry { key: None, kind, version: parameter.version, date, value })
        };
        self.parameters.iter().map(entry).collect()
    }
}

/// A hash before it is written, and the text of its sub-key.
pub struct Hash {
    pub fields: Fields,
    pub sub_key: String,
}

impl Hash {
    /// As the operator writes it.
    pub fn new(expected: &Expected, mode: EncryptionMode) -> Self {
        let ring = KeyRing::generate("k-one".parse().unwrap()).unwrap();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
        let now = i64::try_from(now).unwrap();
        let source = StoredSource {
            region: "us-east-1".to_owned(),
            role_arn: String::new(),
            account: "111122223333".to_owned(),
            selections: vec![StoredSelection::Path {
                path: expected.ask.path.clone(),
                recursive: true,
                exclude: vec![],
            }],
        };
        let owner = format!("test/{MIRROR}");
        let entries = expected.entries();
        let signed =
            ring.sign(Content { owner: owner.clone(), source: source.encode(), read_at: now, entries });
        let vitals = Vitals { checked_at: now, status: Status::Synced, status_at: now };
        let mut fields = hash::encode(&signed, mode, &ring, KEY, vitals).unwrap();
        // The script adds these.
        fields.insert(hash::OWNER, owner);
        fields.insert(hash::FENCE, "1");
        fields.insert(hash::GENERATION, "1");
        let sub_key = ring.sub_key(ring.active(), KEY).unwrap().encode().expose().to_owned();
        Self { fields, sub_key }
    }

    /// Puts it in the place of what is there.
    pub async fn write(&self, redis: &Redis) {
        let mut connection = redis.connection().await.unwrap();
        let fields: Vec<(&[u8], &[u8])> = self.fields.iter().collect();
        connection.del::<_, ()>(KEY).await.unwrap();
        if !fields.is_empty() {
            connection.hset_multiple::<_, _, _, ()>(KEY, &fields).await.unwrap();
        }
    }
}
