//! An object whose fields are taken one by one. A field that nothing took was not carried over, and is noted.

use serde_json::{Map, Value};

use crate::commands::convert::notes::Notes;

/// The fields of one object that were not taken yet.
#[derive(Debug)]
pub struct SpecFields {
    /// Path of the object, like `spec.data[2].remoteRef`.
    pub path: String,
    members: Map<String, Value>,
}

impl SpecFields {
    /// All fields of an object.
    pub fn of(path: impl Into<String>, members: Map<String, Value>) -> Self {
        Self { path: path.into(), members }
    }

    /// Returns the path of one of its fields.
    pub fn at(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }

    /// Whether it has this field, and not as null.
    pub fn has(&self, name: &str) -> bool {
        self.members.get(name).is_some_and(|value| !value.is_null())
    }

    /// Returns the names of the fields that are left.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.members.keys().map(String::as_str)
    }

    /// Returns the names of the fields of one of its fields.
    pub fn names_in(&self, name: &str) -> impl Iterator<Item = &str> {
        self.members.get(name).and_then(Value::as_object).into_iter().flat_map(Map::keys).map(String::as_str)
    }

    /// Takes a field of any type; `None` if it is absent or null.
    pub fn take(&mut self, name: &str) -> Option<Value> {
        self.members.remove(name).filter(|value| !value.is_null())
    }

    /// Takes a string, or a number as a string, because people forget quotes; `None` if it is empty. A field of another type stays
    /// where it is, and `rest` notes it.
    pub fn text(&mut self, name: &str) -> Option<String> {
        match self.take(name)? {
            Value::String(text) => Some(text).filter(|text| !text.is_empty()),
            Value::Number(number) => Some(number.to_string()),
            other => self.put_back(name, other),
        }
    }

    /// Takes an object; an empty one if it is absent. A field of another type stays.
    pub fn object(&mut self, name: &str) -> Self {
        self.present(name).unwrap_or_else(|| Self::of(self.at(name), Map::new()))
    }

    /// Takes an object; `None` if it is absent. A field of another type stays.
    pub fn present(&mut self, name: &str) -> Option<Self> {
        match self.take(name)? {
            Value::Object(members) => Some(Self::of(self.at(name), members)),
            other => self.put_back(name, other),
        }
    }

    /// Takes a list of objects. A field of another type stays.
    pub fn list(&mut self, name: &str) -> Vec<Self> {
        let path = self.at(name);
        let Some(value) = self.take(name) else { return Vec::new() };
        match serde_json::from_value::<Vec<Map<String, Value>>>(value.clone()) {
            Ok(items) => {
                let item = |(index, item)| Self::of(format!("{path}[{index}]"), item);
                items.into_iter().enumerate().map(item).collect()
            }
            Err(_) => self.put_back(name, value).unwrap_or_default(),
        }
    }

    /// Takes a map of strings, like labels, and notes the members that are none.
    pub fn texts(&mut self, name: &str, notes: &mut Notes) -> Vec<(String, String)> {
        let mut members = self.object(name);
        let names: Vec<String> = members.names().map(str::to_owned).collect();
        let texts = names.into_iter().filter_map(|name| match members.take(&name)? {
            Value::String(text) => Some((name, text)),
            other => members.put_back(&name, other),
        });
        let texts = texts.collect();
        members.rest(notes);
        texts
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
            notes.lost(
                &self.at(name),
                "a field that convert does not know, or of another type than there should be",
            );
        }
    }

    fn put_back<T>(&mut self, name: &str, value: Value) -> Option<T> {
        self.members.insert(name.to_owned(), value);
        None
    }
}
