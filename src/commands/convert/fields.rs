//! An object that is used up field by field: what nobody took was not carried over, and that is told.

use serde_json::{Map, Value};

/// What is to be said about one object of the input.
#[derive(Debug, Default)]
pub struct Notes {
    /// Kind, namespace and name.
    pub about: String,
    /// In the order of discovery.
    pub all: Vec<Note>,
}

/// One thing to be said.
#[derive(Debug, PartialEq, Eq)]
pub struct Note {
    /// Whether the result is not what it was; else it is, and somebody should know or do something.
    pub is_lost: bool,
    /// What about, and what to do.
    pub text: String,
}

impl Notes {
    /// About this object.
    pub fn about(about: String) -> Self {
        Self { about, all: Vec::new() }
    }

    /// This is not carried over.
    pub fn lost(&mut self, field: &str, why: &str) {
        self.all.push(Note { is_lost: true, text: format!("{field}: {why}") });
    }

    /// This is carried over, but somebody should know or do something.
    pub fn know(&mut self, field: &str, what: &str) {
        self.all.push(Note { is_lost: false, text: format!("{field}: {what}") });
    }

    /// Whether the result is not what it was.
    pub fn has_lost(&self) -> bool {
        self.all.iter().any(|note| note.is_lost)
    }
}

/// The fields of one object that nobody has taken yet.
#[derive(Debug)]
pub struct Fields {
    /// Where it stands, like `spec.data[2].remoteRef`.
    pub path: String,
    members: Map<String, Value>,
}

impl Fields {
    /// All fields of `value`; none if it is no object.
    pub fn of(path: impl Into<String>, value: Value) -> Self {
        let members = match value {
            Value::Object(members) => members,
            _ => Map::new(),
        };
        Self { path: path.into(), members }
    }

    /// Where one of its fields stands.
    pub fn at(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }

    /// Whether there is nothing, or nothing left.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Takes a field of any type; `None` also for null.
    pub fn take(&mut self, name: &str) -> Option<Value> {
        self.members.remove(name).filter(|value| !value.is_null())
    }

    /// Takes a text, or a number as text: people forget quotes. An empty one is none.
    pub fn text(&mut self, name: &str) -> Option<String> {
        match self.take(name)? {
            Value::String(text) => Some(text).filter(|text| !text.is_empty()),
            Value::Number(number) => Some(number.to_string()),
            _ => None,
        }
    }

    /// Takes an object; an empty one if it is not there.
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

    /// Takes texts by name, like labels.
    pub fn texts(&mut self, name: &str) -> Vec<(String, String)> {
        let Some(Value::Object(members)) = self.take(name) else { return Vec::new() };
        members.into_iter().filter_map(|(name, value)| Some((name, value.as_str()?.to_owned()))).collect()
    }

    /// Takes a field that may only have the value which does nothing; anything else is lost.
    pub fn only(&mut self, name: &str, neutral: &str, why: &str, notes: &mut Notes) -> bool {
        let text = self.text(name);
        let is_neutral = text.as_deref().is_none_or(|text| text == neutral);
        if let Some(text) = text.filter(|_| !is_neutral) {
            notes.lost(&self.at(name), &format!("{text}: {why}"));
        }
        is_neutral
    }

    /// Whatever nobody has taken is lost.
    pub fn rest(self, notes: &mut Notes) {
        for name in self.members.keys() {
            notes.lost(&self.at(name), "a field that convert does not know");
        }
    }
}
