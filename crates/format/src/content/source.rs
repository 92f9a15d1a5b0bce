//! The source of a copy, in the exact text that the MAC covers.

use serde::Deserialize;

use crate::encoding::json_string;

/// The source that a copy was read from: its name, region, identity and selections.
///
/// Its text is stored and signed literally: encode once, then pass the text on.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct StoredSource {
    /// The name of the `ParameterSource` that granted the read.
    #[serde(default)]
    pub name: String,
    /// The AWS region.
    #[serde(default)]
    pub region: String,
    /// The assumed role, `""` if none.
    #[serde(default, rename = "roleArn")]
    pub role_arn: String,
    /// The external ID used to assume the role, `""` if none.
    #[serde(default, rename = "externalId")]
    pub external_id: String,
    /// The account, `""` while it is unknown (the operator learns it from ARNs).
    #[serde(default)]
    pub account: String,
    /// The selections.
    #[serde(default)]
    pub selections: Vec<StoredSelection>,
}

/// One selection with all defaults filled in.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize)]
#[serde(untagged)]
pub enum StoredSelection {
    /// Everything below a path.
    Path {
        /// The path, beginning with `/`.
        path: String,
        /// Whether deeper levels are included.
        #[serde(default = "recursive_by_default")]
        recursive: bool,
        /// Relative paths left out, each with everything below it.
        #[serde(default)]
        exclude: Vec<String>,
    },
    /// One parameter.
    Name {
        /// The name as selected.
        name: String,
    },
}

fn recursive_by_default() -> bool {
    true
}

/// A text that is not a stored source. The error does not contain the text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a stored source")]
pub struct SourceError;

impl StoredSource {
    /// Encodes the exact text: members in the layout's order, selections and excludes sorted, no spaces.
    #[must_use]
    pub fn encode(&self) -> String {
        let mut selections: Vec<String> = self.selections.iter().map(StoredSelection::encode).collect();
        selections.sort_unstable();
        format!(
            r#"{{"name":{},"region":{},"roleArn":{},"externalId":{},"account":{},"selections":[{}]}}"#,
            json_string(&self.name),
            json_string(&self.region),
            json_string(&self.role_arn),
            json_string(&self.external_id),
            json_string(&self.account),
            selections.join(",")
        )
    }

    /// Decodes a stored source; absent members get their defaults, unknown ones are ignored.
    pub fn decode(json: &str) -> Result<Self, SourceError> {
        serde_json::from_str(json).map_err(|_| SourceError)
    }

    /// Whether both read the same parameters as the same identity: region, role and external ID are equal,
    /// and the accounts where both are known. The name does not count, because two sources may refer to the
    /// same place.
    #[must_use]
    pub fn is_same_place(&self, other: &Self) -> bool {
        self.region == other.region
            && self.role_arn == other.role_arn
            && self.external_id == other.external_id
            && (self.account.is_empty() || other.account.is_empty() || self.account == other.account)
    }
}

impl StoredSelection {
    /// Encodes one selection as JSON. Selections are sorted and compared by this text.
    #[must_use]
    pub fn encode(&self) -> String {
        match self {
            Self::Path { path, recursive, exclude } => {
                let mut exclude: Vec<&str> = exclude.iter().map(String::as_str).collect();
                exclude.sort_unstable();
                let exclude: Vec<String> = exclude.into_iter().map(json_string).collect();
                format!(
                    r#"{{"path":{},"recursive":{recursive},"exclude":[{}]}}"#,
                    json_string(path),
                    exclude.join(",")
                )
            }
            Self::Name { name } => format!(r#"{{"name":{}}}"#, json_string(name)),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_text_does_not_depend_on_the_order_in_the_spec() {
        let source = StoredSource {
            name: "default".to_owned(),
            region: "eu-west-1".to_owned(),
            role_arn: String::new(),
            external_id: "x".to_owned(),
            account: String::new(),
            selections: vec![
                StoredSelection::Path {
                    path: "/ä".to_owned(),
                    recursive: false,
                    exclude: vec!["b".to_owned(), "a".to_owned()],
                },
                StoredSelection::Name { name: "/n:3".to_owned() },
            ],
        };
        assert_eq!(
            source.encode(),
            r#"{"name":"default","region":"eu-west-1","roleArn":"","externalId":"x","account":"","selections":[{"name":"/n:3"},{"path":"/ä","recursive":false,"exclude":["a","b"]}]}"#
        );
    }

    #[test]
    fn a_selection_without_its_defaults_is_read() {
        let source =
            StoredSource::decode(r#"{"region":"r","selections":[{"path":"/p","later":1}]}"#).unwrap();
        let path = StoredSelection::Path { path: "/p".to_owned(), recursive: true, exclude: vec![] };
        assert_eq!(source.selections, [path]);
        assert!(StoredSource::decode(r#"{"selections":[{}]}"#).is_err());
    }

    #[test]
    fn an_unknown_account_is_no_difference_and_a_name_is_none() {
        let known = StoredSource {
            name: "default".to_owned(),
            region: "r".to_owned(),
            role_arn: String::new(),
            external_id: String::new(),
            account: "111122223333".to_owned(),
            selections: vec![],
        };
        let unknown = StoredSource { account: String::new(), ..known.clone() };
        let other = StoredSource { account: "444455556666".to_owned(), ..known.clone() };
        let renamed = StoredSource { name: "other".to_owned(), ..known.clone() };
        let by_another_id = StoredSource { external_id: "x".to_owned(), ..known.clone() };
        assert!(known.is_same_place(&unknown) && known.is_same_place(&renamed));
        assert!(!known.is_same_place(&by_another_id));
        assert!(!known.is_same_place(&other));
    }

    proptest! {
        #[test]
        fn encoding_again_changes_nothing(
            words in proptest::collection::vec(("\\PC{0,8}", any::<bool>(), proptest::collection::vec("\\PC{0,4}", 0..3)), 0..5),
        ) {
            let selections = words
                .into_iter()
                .map(|(word, recursive, exclude)| if exclude.is_empty() && recursive {
                    StoredSelection::Name { name: word }
                } else {
                    StoredSelection::Path { path: word, recursive, exclude }
                })
                .collect();
            let (name, region, role_arn) = ("n".into(), "r".into(), "a".into());
            let source = StoredSource { name, region, role_arn, external_id: "e".into(), account: String::new(), selections };
            let text = source.encode();
            prop_assert_eq!(StoredSource::decode(&text).unwrap().encode(), text);
        }

        #[test]
        fn no_input_panics(text in "\\PC{0,200}") {
            let _ = StoredSource::decode(&text);
        }
    }
}
