//! Canary values, which can be recognised wherever they appear.
//!
//! Each value is random and contains its world's marker twice: at its beginning, so that truncated output is
//! found, and at its end. One search for the marker, in every encoding a program could have used, therefore
//! finds all values of a world.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher as _, Hasher as _};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;

/// Characters that need escaping in JSON, a URL, a shell or a Redis reply. They stand between the two
/// markers.
const AWKWARD: &str = "\"\\/+ %&'{}é\n";

/// The values of one world. `SecureString` values have their own marker, because they must not appear even in
/// a dump of Redis.
#[derive(Debug)]
pub struct Canaries {
    sealed: Marker,
    plain: Marker,
}

#[derive(Debug)]
struct Marker {
    text: String,
    spellings: Vec<(&'static str, String)>,
}

impl Default for Canaries {
    fn default() -> Self {
        Self { sealed: Marker::new(), plain: Marker::new() }
    }
}

impl Canaries {
    /// Returns a new value for a `SecureString`, or for an error body that nobody may repeat.
    #[must_use]
    pub fn sealed(&self) -> String {
        self.sealed.value()
    }

    /// Returns a new value for a `String`.
    #[must_use]
    pub fn plain(&self) -> String {
        self.plain.value()
    }

    /// Returns the marker of the `SecureString` values. It has only letters and digits, so that it is valid
    /// everywhere.
    #[must_use]
    pub fn sealed_marker(&self) -> &str {
        &self.sealed.text
    }

    /// Searches bytes for any of the values; returns the encoding and the surrounding text.
    #[must_use]
    pub fn found_in(&self, bytes: &[u8]) -> Option<String> {
        self.sealed_in(bytes).or_else(|| self.plain.found_in(bytes))
    }

    /// Searches bytes for `SecureString` values only.
    #[must_use]
    pub fn sealed_in(&self, bytes: &[u8]) -> Option<String> {
        self.sealed.found_in(bytes)
    }
}

impl Marker {
    fn new() -> Self {
        // Unlike any word, and unlike an AWS error code, which has no digits.
        let text = format!("k{}7{}", random(6), random(6));
        let spellings = spellings(&text);
        Self { text, spellings }
    }

    fn value(&self) -> String {
        format!("{0}{1}{AWKWARD}{1}{0}", self.text, random(8))
    }

    fn found_in(&self, bytes: &[u8]) -> Option<String> {
        self.spellings.iter().find_map(|(spelling, needle)| {
            let at = position(bytes, needle.as_bytes())?;
            let around = &bytes[at.saturating_sub(300)..bytes.len().min(at + needle.len() + 100)];
            Some(format!("{spelling}: {}", String::from_utf8_lossy(around)))
        })
    }
}

/// Finds a needle. Compares the first byte first, because logs are long.
fn position(bytes: &[u8], needle: &[u8]) -> Option<usize> {
    let (&first, rest) = needle.split_first()?;
    let mut from = 0;
    while let Some(at) = bytes[from..].iter().position(|&byte| byte == first) {
        let after = from + at + 1;
        if bytes[after..].starts_with(rest) {
            return Some(after - 1);
        }
        from = after;
    }
    None
}

/// Returns random letters and digits, from the hash keys of the standard library.
fn random(length: usize) -> String {
    const ALPHABET: &[u8] = b"abcdefghijkmnpqrstuvwxyzACDEFGHJKLMNPQRTUVWXYZ2346789";
    let draw = || RandomState::new().build_hasher().finish();
    let letter =
        |n: u64| char::from(ALPHABET[usize::try_from(n % ALPHABET.len() as u64).unwrap_or_default()]);
    (0..length).map(|_| letter(draw())).collect()
}

/// Returns every encoding in which a program may have written the text, also within longer text.
fn spellings(text: &str) -> Vec<(&'static str, String)> {
    let each = |write: &dyn Fn(u8) -> String, between: &str| {
        text.bytes().map(write).collect::<Vec<_>>().join(between)
    };
    let mut all = vec![
        ("as it is", text.to_owned()),
        ("hex", each(&|byte| format!("{byte:02x}"), "")),
        ("HEX", each(&|byte| format!("{byte:02X}"), "")),
        ("URL-encoded", each(&|byte| format!("%{byte:02X}"), "")),
        ("escaped", each(&|byte| format!("\\x{byte:02x}"), "")),
        ("JSON-escaped", each(&|byte| format!("\\u{byte:04x}"), "")),
        ("a list of bytes", each(&|byte| byte.to_string(), ", ")),
        ("a JSON list of bytes", each(&|byte| byte.to_string(), ",")),
        ("a list of hex", each(&|byte| format!("{byte:02x}"), ", ")),
        ("UTF-16", each(&|byte| char::from(byte).to_string(), "\0")),
    ];
    // Base64 has three encodings of a text, depending on its offset within a group of three bytes. For
    // letters and digits they contain no `+` or `/`.
    all.extend((0..3).map(|before| {
        let mut padded = vec![b'x'; before];
        padded.extend(text.bytes());
        let mut encoded = STANDARD_NO_PAD.encode(&padded);
        // A character that also encodes a neighbouring byte varies, so it is left out.
        if padded.len() % 3 != 0 {
            encoded.pop();
        }
        ("base64", encoded.split_off([0, 2, 3][before]))
    }));
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_found_in_every_spelling_and_place() {
        let canaries = Canaries::default();
        let value = canaries.sealed();
        assert_ne!(value, canaries.sealed());
        for before in ["", "a", "ab", "abc"] {
            let text = format!("{before}{value} and more");
            let spelt = [
                text.clone(),
                serde_json::to_string(&text).unwrap(),
                STANDARD_NO_PAD.encode(&text),
                base64::engine::general_purpose::URL_SAFE.encode(&text),
                text.bytes().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}")),
                text.bytes().fold(String::new(), |url, byte| url + &format!("%{byte:02X}")),
                format!("{:?}", text.as_bytes()),
                format!("{text:?}"),
                // Truncated.
                text.chars().take(before.len() + 16).collect(),
            ];
            for text in spelt {
                assert!(canaries.sealed_in(text.as_bytes()).is_some(), "not found in {text}");
            }
        }
    }

    #[test]
    fn other_values_are_not_taken_for_ours() {
        let (ours, theirs) = (Canaries::default(), Canaries::default());
        let text = format!("{} {} {}", theirs.sealed(), theirs.plain(), "hunter2".repeat(100));
        assert_eq!(ours.found_in(text.as_bytes()), None);
        let plain = ours.plain();
        assert!(ours.found_in(plain.as_bytes()).is_some() && ours.sealed_in(plain.as_bytes()).is_none());
    }
}
