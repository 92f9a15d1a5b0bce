//! The one type for secret text.

use std::fmt;
use std::sync::{Arc, Weak};

use zeroize::Zeroizing;

/// The text of a parameter, or of a key given to a reader.
///
/// Clones share one buffer, which is overwritten when the last clone is dropped. On purpose, it can be
/// neither formatted nor serialized: [`Value::expose`] is the only access, so that every use can be found by
/// name.
#[derive(Clone, PartialEq, Eq)]
pub struct Value(Arc<Zeroizing<String>>);

impl Value {
    /// Takes ownership of the text without copying it.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(Arc::new(Zeroizing::new(text)))
    }

    /// Takes ownership of bytes as text; `None` if they are not UTF-8, which no SSM value is.
    #[must_use]
    pub fn from_utf8(bytes: Vec<u8>) -> Option<Self> {
        match String::from_utf8(bytes) {
            Ok(text) => Some(Self::new(text)),
            Err(error) => {
                drop(Zeroizing::new(error.into_bytes()));
                None
            }
        }
    }

    /// Returns the text.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Returns a weak reference to the text.
    #[must_use]
    pub fn downgrade(&self) -> WeakValue {
        WeakValue(Arc::downgrade(&self.0))
    }

    /// Returns the length of the text in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether the text is empty. An empty text is a valid value.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// A weak reference to a [`Value`].
#[derive(Clone)]
pub struct WeakValue(Weak<Zeroizing<String>>);

impl WeakValue {
    /// Returns the value, if a strong reference still exists.
    #[must_use]
    pub fn upgrade(&self) -> Option<Value> {
        self.0.upgrade().map(Value)
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::new(text.to_owned())
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_nothing_of_the_text() {
        assert_eq!(format!("{:?}", Some(Value::from("hunter2"))), "Some([redacted])");
    }

    #[test]
    fn a_weak_one_keeps_nothing() {
        let value = Value::from("x");
        let weak = value.downgrade();
        assert_eq!(weak.upgrade(), Some(value.clone()));
        drop(value);
        assert_eq!(weak.upgrade(), None);
    }

    #[test]
    fn bytes_that_are_not_text_are_refused() {
        assert_eq!(Value::from_utf8(vec![0xff]), None);
        assert_eq!(Value::from_utf8(b"x".to_vec()), Some(Value::from("x")));
    }
}
