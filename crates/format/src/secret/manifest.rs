//! The metadata of each parameter beside its value.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};

use serde::de::{DeserializeSeed, Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::content::entry::{Entries, Entry, ParameterType};
use crate::encoding::json_string;
use crate::value::Value;

/// One line of a [`Manifest`]: an [`Entry`] without its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManifestEntry {
    /// The key in the Secret; `None` if it is illegal or collides.
    pub key: Option<String>,
    /// Whether the mirror sets the key explicitly. Never true without a key.
    pub is_key_given: bool,
    /// The type in SSM.
    pub kind: ParameterType,
    /// The version in SSM.
    pub version: i64,
    /// When SSM last modified the parameter, Unix milliseconds.
    pub date: i64,
}

/// All parameters of a mirror by name as selected, without values. Compare decoded manifests, never their
/// text.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Manifest(pub BTreeMap<String, ManifestEntry>);

/// A text that is not a manifest. The error does not contain the text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a manifest: {0}")]
pub struct ManifestError(&'static str);

/// The JSON members of one line; unknown members are ignored.
#[derive(Deserialize)]
struct Line {
    key: Option<String>,
    #[serde(default, rename = "keyGiven")]
    is_key_given: bool,
    #[serde(rename = "type")]
    kind: String,
    version: i64,
    date: i64,
}

impl Manifest {
    /// Returns the manifest of a set of entries.
    #[must_use]
    pub fn of(entries: &Entries) -> Self {
        Self(entries.iter().map(|(name, entry)| (name.clone(), ManifestEntry::from(entry))).collect())
    }

    /// Encodes as JSON. Written by hand because the order and the absence of spaces are part of the layout.
    #[must_use]
    pub fn encode(&self) -> String {
        let mut json = String::from("{");
        for (position, (name, line)) in self.0.iter().enumerate() {
            let comma = if position == 0 { "" } else { "," };
            let key = line.key.as_deref().map_or_else(|| "null".to_owned(), json_string);
            let given = if line.is_key_given { r#","keyGiven":true"# } else { "" };
            // Writing to a String cannot fail.
            let _ = write!(
                json,
                r#"{comma}{}:{{"key":{key}{given},"type":"{}","version":{},"date":{}}}"#,
                json_string(name),
                line.kind,
                line.version,
                line.date
            );
        }
        json.push('}');
        json
    }

    /// Decodes a manifest of a copy with this many values; unknown members are ignored. The manifest is
    /// decoded before its MAC can be verified, because the MAC is over the decoded content. Its author may
    /// have written anything, so the number of lines is limited by the number of values.
    pub fn decode(json: &[u8], values: usize) -> Result<Self, ManifestError> {
        let mut json = serde_json::Deserializer::from_slice(json);
        let lines = Lines { most: most_lines(values) }
            .deserialize(&mut json)
            .and_then(|lines| json.end().map(|()| lines))
            .map_err(|_| ManifestError("it is not the JSON object that is expected"))?;
        let mut manifest = BTreeMap::new();
        for (name, line) in lines {
            let kind = line.kind.parse().map_err(|_| ManifestError("it has an unknown parameter type"))?;
            // The MAC does not distinguish an absent key from an empty one, so the decoder must not either.
            let key = line.key.filter(|key| !key.is_empty());
            let is_key_given = line.is_key_given && key.is_some();
            manifest.insert(
                name,
                ManifestEntry { key, is_key_given, kind, version: line.version, date: line.date },
            );
        }
        Ok(Self(manifest))
    }
}

/// Returns how many lines of a manifest are decoded for this many values. The limit is a little higher, so
/// that a few missing values can be named.
#[must_use]
pub const fn most_lines(values: usize) -> usize {
    values.saturating_add(64)
}

/// Decodes the lines of a manifest, up to the limit.
struct Lines {
    most: usize,
}

impl<'de> DeserializeSeed<'de> for Lines {
    type Value = BTreeMap<String, Line>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Lines {
    type Value = BTreeMap<String, Line>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "an object of at most {} members", self.most)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Self::Value, A::Error> {
        let mut lines = BTreeMap::new();
        let mut count = 0;
        while let Some(name) = members.next_key()? {
            count += 1;
            if count > self.most {
                return Err(A::Error::invalid_length(count, &self));
            }
            lines.insert(name, members.next_value()?);
        }
        Ok(lines)
    }
}

impl ManifestEntry {
    /// Joins this line with its value.
    #[must_use]
    pub fn with(&self, value: Value) -> Entry {
        let Self { key, is_key_given, kind, version, date } = self.clone();
        Entry { key, is_key_given, kind, version, date, value }
    }
}

impl From<&Entry> for ManifestEntry {
    fn from(entry: &Entry) -> Self {
        let Entry { key, is_key_given, kind, version, date, value: _ } = entry;
        let is_key_given = *is_key_given && key.is_some();
        Self { key: key.clone(), is_key_given, kind: *kind, version: *version, date: *date }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::fixtures;

    #[test]
    fn unknown_members_are_ignored_and_a_missing_key_is_none() {
        let json = br#"{"/a":{"date":2,"version":1,"type":"String","tier":"Advanced"}}"#;
        let line = ManifestEntry {
            key: None,
            is_key_given: false,
            kind: ParameterType::String,
            version: 1,
            date: 2,
        };
        assert_eq!(Manifest::decode(json, 1), Ok(Manifest(BTreeMap::from([("/a".to_owned(), line)]))));
    }

    #[test]
    fn an_empty_key_is_no_key() {
        let json = br#"{"/a":{"key":"","type":"String","version":1,"date":2}}"#;
        assert_eq!(Manifest::decode(json, 1).unwrap().0["/a"].key, None);
    }

    /// The decoder stops at the first line that is one too many.
    #[test]
    fn more_lines_than_there_can_be_are_not_read() {
        let line = |name: u32| format!(r#""/{name}":{{"key":null,"type":"String","version":1,"date":2}}"#);
        let lines = |count| (0..count).map(line).collect::<Vec<_>>().join(",");
        let read = |json: String, values| Manifest::decode(json.as_bytes(), values);
        assert!(
            read(format!("{{{}}}", lines(67)), 3).is_ok() && read(format!("{{{}}}", lines(67)), 2).is_err()
        );
        let same = vec![line(1); 67].join(",");
        assert!(read(format!("{{{same}}}"), 2).is_err(), "one name twice is two lines");
        let trailing = format!("{{{}}} {{", line(1));
        assert!(Manifest::decode(trailing.as_bytes(), 1).is_err());
        let bound = lines(66).len();
        let mut endless = std::io::Cursor::new(format!("{{{}}}", lines(1_000)));
        let mut json = serde_json::Deserializer::from_reader(&mut endless);
        assert!(Lines { most: most_lines(1) }.deserialize(&mut json).is_err());
        drop(json);
        let read = usize::try_from(endless.position()).unwrap();
        assert!(read <= bound + 100, "{read} bytes were read");
    }

    #[test]
    fn a_key_that_the_mirror_gives_is_marked_and_a_missing_key_is_not() {
        let text = r#"{"/a":{"key":"PATH","keyGiven":true,"type":"String","version":1,"date":2}}"#;
        let given = Manifest::decode(text.as_bytes(), 1).unwrap();
        assert!(given.0["/a"].is_key_given);
        assert_eq!(given.encode(), text);
        let none = br#"{"/a":{"key":null,"keyGiven":true,"type":"String","version":1,"date":2}}"#;
        assert!(!Manifest::decode(none, 1).unwrap().0["/a"].is_key_given);
    }

    #[test]
    fn an_unknown_type_is_an_error() {
        let json = br#"{"/a":{"key":null,"type":"Blob","version":1,"date":2}}"#;
        assert!(Manifest::decode(json, 1).is_err());
    }

    proptest! {
        #[test]
        fn round_trip(entries in fixtures::entries()) {
            let manifest = Manifest::of(&entries);
            prop_assert_eq!(Manifest::decode(manifest.encode().as_bytes(), manifest.0.len()), Ok(manifest));
        }

        #[test]
        fn no_input_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Manifest::decode(&bytes, 10);
        }
    }
}
