//! Continuation tokens: opaque, bound to their listing, refused when altered.

use std::hash::{DefaultHasher, Hash, Hasher};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// The start of a page.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Position {
    /// The name before the first one of the page; `None` at the start.
    pub(crate) after: Option<String>,
    /// The number of the page, from 1.
    pub(crate) page: u64,
}

impl Position {
    pub(crate) fn start() -> Self {
        Self { after: None, page: 1 }
    }

    /// Returns the start of the next page, which begins after the given name.
    pub(crate) fn next(&self, after: Option<String>) -> Self {
        Self { after, page: self.page + 1 }
    }
}

/// Encodes the token of a position in a listing.
pub(crate) fn seal(position: &Position, path: &str, recursive: bool) -> String {
    let text = serde_json::to_string(position).expect("a position is JSON");
    let seal = digest(&(&text, path, recursive));
    URL_SAFE_NO_PAD.encode(format!("{seal:016x}{text}"))
}

/// Decodes a token; `None` if it does not belong to this listing.
pub(crate) fn open(token: &str, path: &str, recursive: bool) -> Option<Position> {
    let bytes = URL_SAFE_NO_PAD.decode(token).ok()?;
    let (seal, text) = std::str::from_utf8(&bytes).ok()?.split_at_checked(16)?;
    if seal != format!("{:016x}", digest(&(text, path, recursive))) {
        return None;
    }
    serde_json::from_str(text).ok()
}

/// Computes a stable 64-bit digest, good enough against accidents.
pub(crate) fn digest(content: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    content.hash(&mut hasher);
    hasher.finish()
}
