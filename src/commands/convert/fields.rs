//! An object whose fields are taken one by one. A field that nothing took was not carried over, and is noted.

use serde_json::{Map, Value};

/// The notes on one object of the input.
#[derive(Debug, Default)]
pub struct Notes {
    /// Kind, namespace and name of the object.
    pub about: String,
    /// The notes, in the order of discovery.
    pub all: Vec<Note>,
}

/// One note for the user.
#[derive(Debug, PartialEq, Eq)]
pub struct Note {
    /// Whether something was lost. Otherwise it was carried over, and the user should know or do something.
    pub is_lost: bool,
    /// What it is about, and what to do.
    pub text: String,
}

impl Notes {
    /// Starts without notes on this object.
    pub fn about(about: String) -> Self {
        Self { about, all: Vec::new() }
    }

    /// Notes that `field` is not carried over.
    pub fn lost(&mut self, field: &str, why: &str) {
        self.all.push(Note { is_lost: true, text: format!("{field}: {why}") });
    }

    /// Notes that `field` is carried over, and what the user should know or do.
    pub fn know(&mut self, field: &str, what: &str) {
        self.all.push(Note { is_lost: false, text: format!("{field}: {what}") });
    }

    /// Whether anything was lost.
    pub fn has_lost(&self) -> bool {
        self.all.iter().any(|note| note.is_lost)
    }
}

/// The fields of one object that were not taken yet.
#[derive(Debug)]
pub struct SpecFields {
    /// Path of the object, like `spec.data[2].remoteRef`.
    pub path: String,
    members: Map<String, Value>,
}

impl SpecFields {
    /// All fields of `value`; none if it is not an object.
    pub fn of(path: impl Into<String>, value: Value) -> Self {
        let members = match value {
            Value::Object(members) => members,
            _ => Map::new(),
        };
        Self { path: path.into(), members }
    }

    /// Returns the path of one of its fields.
    pub fn at(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }

    /// Whether no field is left.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Takes a field of any type; `None` if it is absent or null.
    pub fn take(&mut self, name: &str) -> Option<Value> {
        self.members.remove(name).filter(|value| !value.is_null())
    }

    /// Takes a string, or a number as a string, because people forget quotes; `None` if it is empty.
    pub fn text(&mut self, name: &str) -> Option<String> {
        match self.take(name)? {
            Value::String(text) => Some(text).filter(|text| !text.is_empty()),
            Value::Number(number) => Some(number.to_string()),
            _ => None,
        }
    }

    /// Takes an object; an empty one if it is absent.
    pub fn object(&mut self, name: &str) -> Self {
        Self::of(self.at(name), self.take(name).unwrap_or_default())
    }

    /// Takes a list of objects.
    pub fn list(&mut self, name: &str) -> Vec<Self> {
        let Some(Value::Array(items)) = self.take(name) else { return Vec::new() };
        let path = self.at(name);
        items
            .into_iter()
            .enumerate()
            .map(|(index, item)| Self::of(format!("{path}[{index}]"), item))
            .collect()
    }

    /// Takes a map of strings, like labels.
    pub fn texts(&mut self, name: &str) -> Vec<(String, String)> {
        let Some(Value::Object(members)) = self.take(name) else { return Vec::new() };
        members.into_iter().filter_map(|(name, value)| Some((name, value.as_str()?.to_owned()))).collect()
    }

    /// Takes a field in which only `neutral` has no effect, and notes any other value as lost. Returns whether it is neutral.
    pub fn only(&mut self, name: &str, neutral: &str, why: &str, notes: &mut Notes) -> bool {
        let text = self.text(name);
        let is_neutral = text.as_deref().is_none_or(|text| text == neutral);
        if let Some(text) = text.filter(|_| !is_neutral) {
            notes.lost(&self.at(name), &format!("{text}: {why}"));
        }
        is_neutral
    }

    /// Notes every field that was not taken as lost.
    pub fn rest(self, notes: &mut Notes) {
        for name in self.members.keys() {
            notes.lost(&self.at(name), "a field that convert does not know");
        }
    }
}
