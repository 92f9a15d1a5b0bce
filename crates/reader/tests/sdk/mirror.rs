//! The mirror `shop/checkout` in Redis, with the parameters of tests/sdk/expected.json.

use std::collections::BTreeMap;

use parameter_mirror_format::content::entry::{Entries, Entry, ParameterType};
use parameter_mirror_format::hash::EncryptionMode;
use parameter_mirror_format::value::Value;
use parameter_mirror_test_support::MirrorHash;
use serde::Deserialize;

use crate::programs::root;

/// The name of the mirror for the reader.
pub const MIRROR: &str = "shop/checkout";
/// The key of its hash.
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

    /// Keeps only the parameters of some types.
    pub fn only(mut self, is_wanted: impl Fn(ParameterType) -> bool) -> Self {
        self.parameters.retain(|_, parameter| is_wanted(parameter.kind.parse().unwrap()));
        self
    }

    fn entries(&self) -> Entries {
        let entry = |(name, parameter): (&String, &Parameter)| {
            let kind = parameter.kind.parse().unwrap();
            let value = Value::from(parameter.value.as_str());
            // 2026-01-01 with a fraction of a second.
            let date = 1_767_225_600_123;
            (
                name.clone(),
                Entry { key: None, is_key_given: false, kind, version: parameter.version, date, value },
            )
        };
        self.parameters.iter().map(entry).collect()
    }
}

/// Returns the hash before it is written.
pub fn laid_out(expected: &Expected, mode: EncryptionMode) -> MirrorHash {
    MirrorHash::of(MIRROR, &expected.ask.path, expected.entries(), mode)
}
