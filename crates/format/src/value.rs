//! The one type for secret text.

use std::fmt;
use std::sync::{Arc, Weak};

use zeroize::Zeroizing;

/// The text of a parameter, or of a key handed to a reader.
///
/// Clones share one buffer, which is overwritten when the last of them goes. There is deliberately no way to
/// format or serialize it: [`Value::expose`] is the only door, so that every use can be found by its name.
#[derive(Clone, PartialEq, Eq)]
pub struct Value(Arc<Zeroizing<String>>);

impl Value {
    /// Takes the text over without copying it.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(Arc::new(Zeroizing::new(text)))
    }

    /// Takes bytes over as text; `None` if they are not UTF-8, which no SSM value is.
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

    /// The text itself.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// A reference that does not keep the text.
    #[must_use]
    pub fn downgrade(&self) -> WeakValue {
        WeakValue(Arc::downgrade(&self.0))
    }

    /// The length of the text in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// True for the empty text, which is a value like any other.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// A [`Value`] that does not keep the text.
#[derive(Clone)]
pub struct WeakValue(Weak<Zeroizing<String>>);

impl WeakValue {
    /// The value, if somebody still holds it.
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
