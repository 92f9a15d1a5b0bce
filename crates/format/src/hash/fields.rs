//! The fields of a Redis hash, as bytes.

use std::collections::BTreeMap;
use std::fmt;

use zeroize::Zeroizing;

/// Field names and their bytes. Some fields hold plain values, so the bytes are overwritten on drop, and
/// `Debug` shows only names and lengths.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Fields(BTreeMap<Vec<u8>, Zeroizing<Vec<u8>>>);

impl Fields {
    /// Adds a field, or replaces the one of the same name.
    pub fn insert(&mut self, name: impl Into<Vec<u8>>, bytes: impl Into<Vec<u8>>) {
        self.0.insert(name.into(), Zeroizing::new(bytes.into()));
    }

    /// Removes a field.
    pub fn remove(&mut self, name: &str) {
        self.0.remove(name.as_bytes());
    }

    /// Returns the bytes of a field.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.0.get(name.as_bytes()).map(|bytes| bytes.as_slice())
    }

    /// Returns the text of a field; `None` if it is absent or not UTF-8.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        std::str::from_utf8(self.get(name)?).ok()
    }

    /// Returns the number of fields.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is no field. In Redis this means that the hash does not exist.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Iterates over all names and bytes, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.0.iter().map(|(name, bytes)| (name.as_slice(), bytes.as_slice()))
    }
}

impl FromIterator<(Vec<u8>, Vec<u8>)> for Fields {
    fn from_iter<I: IntoIterator<Item = (Vec<u8>, Vec<u8>)>>(fields: I) -> Self {
        Self(fields.into_iter().map(|(name, bytes)| (name, Zeroizing::new(bytes))).collect())
    }
}

impl fmt::Debug for Fields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map()
            .entries(self.0.iter().map(|(name, bytes)| (String::from_utf8_lossy(name), bytes.len())))
            .finish()
    }
}
