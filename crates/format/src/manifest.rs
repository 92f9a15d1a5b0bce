//! What is said about each parameter beside its value.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Deserialize;

use crate::encoding::json_string;
use crate::entry::{Entries, Entry, ParameterType};
use crate::value::Value;

/// One line of a [`Manifest`]: an [`Entry`] without its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManifestEntry {
    /// The key in the Secret; `None` if it is illegal or collides.
    pub key: Option<String>,
    /// The type in SSM.
    pub kind: ParameterType,
    /// The version in SSM.
    pub version: i64,
    /// When SSM last modified it, Unix milliseconds.
    pub date: i64,
}

/// All parameters of a mirror by name as selected, without values. Compared decoded, never as text.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Manifest(pub BTreeMap<String, ManifestEntry>);

/// A text that is not a manifest. The text is not part of the error.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a manifest: {0}")]
pub struct ManifestError(&'static str);

/// Members as they stand in the JSON; unknown ones are ignored.
#[derive(Deserialize)]
struct Line {
    key: Option<String>,
    #[serde(rename = "type")]
    kind: String,
    version: i64,
    date: i64,
}

impl Manifest {
    /// The manifest of a set of entries.
    #[must_use]
    pub fn of(entries: &Entries) -> Self {
        Self(entries.iter().map(|(name, entry)| (name.clone(), ManifestEntry::from(entry))).collect())
    }

    /// The JSON text. Written by hand because order and the absence of spaces are the layout.
    #[must_use]
    pub fn encode(&self) -> String {
        let mut json = String::from("{");
        for (position, (name, line)) in self.0.iter().enumerate() {
            let comma = if position == 0 { "" } else { "," };
            let key = line.key.as_deref().map_or_else(|| "null".to_owned(), json_string);
            // Writing to a String cannot fail.
            let _ = write!(
                json,
                r#"{comma}{}:{{"key":{key},"type":"{}","version":{},"date":{}}}"#,
                json_string(name),
                line.kind,
                line.version,
                line.date
            );
        }
        json.push('}');
        json
    }

    /// Reads a manifest, ignoring members it does not know.
    pub fn decode(json: &[u8]) -> Result<Self, ManifestError> {
        let lines: BTreeMap<String, Line> = serde_json::from_slice(json)
            .map_err(|_| ManifestError("it is not the JSON object that is expected"))?;
        let mut manifest = BTreeMap::new();
        for (name, line) in lines {
            let kind = line.kind.parse().map_err(|_| ManifestError("it has an unknown parameter type"))?;
            // The MAC does not tell an absent key from an empty one, so neither may anybody else.
            let key = line.key.filter(|key| !key.is_empty());
            manifest.insert(name, ManifestEntry { key, kind, version: line.version, date: line.date });
        }
        Ok(Self(manifest))
    }
}

impl ManifestEntry {
    /// The entry this line describes, with its value.
    #[must_use]
    pub fn with(&self, value: Value) -> Entry {
        Entry { key: self.key.clone(), kind: self.kind, version: self.version, date: self.date, value }
    }
}

impl From<&Entry> for ManifestEntry {
    fn from(entry: &Entry) -> Self {
        Self { key: entry.key.clone(), kind: entry.kind, version: entry.version, date: entry.date }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::samples;

    #[test]
    fn unknown_members_are_ignored_and_a_missing_key_is_none() {
        let json = br#"{"/a":{"date":2,"version":1,"type":"String","tier":"Advanced"}}"#;
        let line = ManifestEntry { key: None, kind: ParameterType::String, version: 1, date: 2 };
        assert_eq!(Manifest::decode(json), Ok(Manifest(BTreeMap::from([("/a".to_owned(), line)]))));
    }

    #[test]
    fn an_empty_key_is_no_key() {
        let json = br#"{"/a":{"key":"","type":"String","version":1,"date":2}}"#;
        assert_eq!(Manifest::decode(json).unwrap().0["/a"].key, None);
    }

    #[test]
    fn an_unknown_type_is_an_error() {
        let json = br#"{"/a":{"key":null,"type":"Blob","version":1,"date":2}}"#;
        assert!(Manifest::decode(json).is_err());
    }

    proptest! {
        #[test]
        fn round_trip(entries in samples::entries()) {
            let manifest = Manifest::of(&entries);
            prop_assert_eq!(Manifest::decode(manifest.encode().as_bytes()), Ok(manifest));
        }

        #[test]
        fn no_input_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Manifest::decode(&bytes);
        }
    }
}
