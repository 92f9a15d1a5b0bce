//! The encodings that all layouts share.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use zeroize::Zeroizing;

/// Feeds each of `items` to `sink` as a 4-byte big-endian length followed by its bytes.
///
/// The lengths make the encoding unambiguous: no choice of names and values can imitate another.
pub fn lp(sink: &mut impl FnMut(&[u8]), items: &[&[u8]]) {
    for item in items {
        // No item reaches 4 GiB: SSM values end at 8 KiB, Redis strings at 512 MiB.
        let length = u32::try_from(item.len()).unwrap_or(u32::MAX);
        sink(&length.to_be_bytes());
        sink(item);
    }
}

/// Encodes with [`lp`] into a buffer.
pub fn lp_bytes(items: &[&[u8]]) -> Vec<u8> {
    let mut bytes = Vec::new();
    lp(&mut |part| bytes.extend_from_slice(part), items);
    bytes
}

/// Encodes as Base64url without padding.
pub fn base64url(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Decodes Base64url text, which may be secret; `None` if it is invalid.
pub fn from_base64url(text: &str) -> Option<Zeroizing<Vec<u8>>> {
    URL_SAFE_NO_PAD.decode(text).ok().map(Zeroizing::new)
}

/// Parses a number in the one decimal form that signed texts use; `None` for any other spelling.
pub fn decimal(text: &str) -> Option<i64> {
    let number: i64 = text.parse().ok()?;
    (number.to_string() == text).then_some(number)
}

/// Encodes a JSON string with its quotes; UTF-8 is not escaped.
pub fn json_string(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_stand_before_the_items() {
        assert_eq!(lp_bytes(&[b"ab", b""]), b"\0\0\0\x02ab\0\0\0\0");
    }

    #[test]
    fn one_spelling_of_a_number() {
        assert_eq!(decimal("-5"), Some(-5));
        for other in ["", "+5", "05", " 5", "5.0", "99999999999999999999"] {
            assert_eq!(decimal(other), None, "{other}");
        }
    }
}
