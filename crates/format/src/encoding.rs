//! The encodings that all layouts share.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use zeroize::Zeroizing;

/// Feeds `items` to `sink`, each as a 4-byte big-endian length and its bytes.
///
/// Lengths make the text of several items unambiguous: no choice of names and values can imitate another.
pub fn lp(sink: &mut impl FnMut(&[u8]), items: &[&[u8]]) {
    for item in items {
        // Nothing here reaches 4 GiB: SSM ends at 8 KiB, Redis at 512 MiB.
        let length = u32::try_from(item.len()).unwrap_or(u32::MAX);
        sink(&length.to_be_bytes());
        sink(item);
    }
}

/// [`lp`] into a buffer.
pub fn lp_bytes(items: &[&[u8]]) -> Vec<u8> {
    let mut bytes = Vec::new();
    lp(&mut |part| bytes.extend_from_slice(part), items);
    bytes
}

/// Base64url without padding.
pub fn base64url(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// The bytes of a base64url text, which may be secret; `None` if it is not one.
pub fn from_base64url(text: &str) -> Option<Zeroizing<Vec<u8>>> {
    URL_SAFE_NO_PAD.decode(text).ok().map(Zeroizing::new)
}

/// A number in the one decimal form that signed texts have; `None` for any other spelling.
pub fn decimal(text: &str) -> Option<i64> {
    let number: i64 = text.parse().ok()?;
    (number.to_string() == text).then_some(number)
}

/// A JSON string with its quotes, UTF-8 unescaped.
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
