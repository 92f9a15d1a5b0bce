//! Short ids computed from the metadata of parameters, never from their values.

use std::fmt::Write as _;

use aws_lc_rs::digest::{Context, SHA256};

use crate::content::entry::Entries;
use crate::encoding::lp;

/// Computes the revision of a set: the first 12 hex digits of SHA-256 over name, type, version and date of
/// all entries.
///
/// Values are left out on purpose: a revision must not let anyone test guesses of a short secret.
#[must_use]
pub fn revision(entries: &Entries) -> String {
    let mut digest = Context::new(&SHA256);
    for (name, entry) in entries {
        let (version, date) = (entry.version.to_string(), entry.date.to_string());
        lp(
            &mut |part| digest.update(part),
            &[name.as_bytes(), entry.kind.as_str().as_bytes(), version.as_bytes(), date.as_bytes()],
        );
    }
    short_hex(digest)
}

/// Computes the id with which a person approves exactly these removals. The order of the names does not
/// matter.
#[must_use]
pub fn shrink_id<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let mut names: Vec<&str> = names.collect();
    names.sort_unstable();
    let mut digest = Context::new(&SHA256);
    for name in names {
        lp(&mut |part| digest.update(part), &[name.as_bytes()]);
    }
    short_hex(digest)
}

fn short_hex(digest: Context) -> String {
    let digest = digest.finish();
    digest.as_ref().iter().take(6).fold(String::with_capacity(12), |mut hex, byte| {
        // Writing to a String cannot fail.
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}
