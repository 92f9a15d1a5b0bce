//! One mirrored parameter.
#![expect(clippy::disallowed_methods, reason = "knows ciphertext by its beginning")]

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use crate::value::Value;

/// The type of a parameter in SSM.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ParameterType {
    /// Plain text.
    String,
    /// Plain text with commas. It is mirrored as one text, never split.
    StringList,
    /// Text that SSM encrypts with KMS.
    SecureString,
}

/// A missing type, or one that this version does not know.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the parameter type is not one of String, StringList, SecureString")]
pub struct UnknownType;

impl ParameterType {
    /// The name SSM uses.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::String => "String",
            Self::StringList => "StringList",
            Self::SecureString => "SecureString",
        }
    }
}

impl fmt::Display for ParameterType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for ParameterType {
    type Err = UnknownType;

    fn from_str(text: &str) -> Result<Self, UnknownType> {
        match text {
            "String" => Ok(Self::String),
            "StringList" => Ok(Self::StringList),
            "SecureString" => Ok(Self::SecureString),
            _ => Err(UnknownType),
        }
    }
}

impl TryFrom<&str> for ParameterType {
    type Error = UnknownType;

    fn try_from(text: &str) -> Result<Self, UnknownType> {
        text.parse()
    }
}

/// Returns the default key of a parameter (`EnvVar`), derived from the part of its name below the selected
/// path.
#[must_use]
pub fn env_var(relative: &str) -> String {
    relative.to_ascii_uppercase().replace(['/', '-', '.'], "_")
}

/// The prefixes of SSM ciphertext: a standard parameter (a KMS blob) and an advanced one (an Encryption SDK
/// message).
const SEALS: [&str; 2] = ["AQICAH", "AYAB"];

/// Whether a value looks like a `SecureString` that SSM returned without decryption. A user may store
/// ciphertext in a parameter, so the look alone proves nothing.
#[must_use]
pub fn looks_sealed(kind: ParameterType, value: &Value) -> bool {
    kind == ParameterType::SecureString && SEALS.iter().any(|seal| value.expose().starts_with(seal))
}

/// One mirrored parameter, without its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The key in the Secret; `None` if the formatted key is illegal or collides with another.
    pub key: Option<String>,
    /// Whether the mirror sets this key explicitly (`spec.parameters[].key`) instead of deriving it from the
    /// parameter's name. Only an explicit key may be a variable that steers programs, see
    /// [`steering`](crate::content::steering).
    pub is_key_given: bool,
    /// The type in SSM.
    pub kind: ParameterType,
    /// The version in SSM. It restarts at 1 when a parameter is deleted and created again.
    pub version: i64,
    /// When SSM last modified the parameter, Unix milliseconds.
    pub date: i64,
    /// The decrypted value.
    pub value: Value,
}

/// The entries of a mirror under their *names as selected*: beginning with `/`, with the selector if one was
/// given (`/x`, `/x:3`, `/x:live`). The map's order is the bytewise order of every signed text.
pub type Entries = BTreeMap<String, Entry>;
