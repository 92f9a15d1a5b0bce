//! The layout of a copy in a Kubernetes Secret.

pub mod manifest;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read as _, Write as _};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use flate2::Compression;
use flate2::read::ZlibDecoder;
use flate2::write::ZlibEncoder;

use crate::content::entry::Entries;
use crate::content::{Content, Signed};
use crate::crypto::envelope::OpenError;
use crate::crypto::keys::KeyRing;
use crate::encoding::decimal;
use crate::secret::manifest::{Manifest, most_lines};
use crate::value::Value;
use crate::verdict::{BrokenCause, Fault, Found, Verdict, check_format};

/// Annotation: the number of the layout.
pub const FORMAT: &str = "parameter-mirror.dev/format";
/// Annotation: `<cluster>/<namespace>/<mirror>`.
pub const OWNER: &str = "parameter-mirror.dev/owner";
/// Annotation: what was read, see [`StoredSource`](crate::content::source::StoredSource).
pub const SOURCE: &str = "parameter-mirror.dev/source";
/// Annotation: the revision of the entries.
pub const REVISION: &str = "parameter-mirror.dev/revision";
/// Annotation: the read time, Unix milliseconds.
pub const READ_AT: &str = "parameter-mirror.dev/read-at";
/// Annotation: the MAC.
pub const MAC: &str = "parameter-mirror.dev/mac";
/// Annotation: the manifest, base64 of zlib of JSON.
pub const MANIFEST: &str = "parameter-mirror.dev/manifest";
/// Annotation with which the owner of a foreign Secret consents to its takeover: the name of a mirror in the
/// same namespace.
pub const ADOPT_BY: &str = "parameter-mirror.dev/adopt-by";
/// The label that the operator's watch selects. No decision depends on it.
pub const LABEL: (&str, &str) = ("app.kubernetes.io/managed-by", "parameter-mirror");

/// All annotations of this layout.
pub const ANNOTATIONS: [&str; 7] = [FORMAT, OWNER, SOURCE, REVISION, READ_AT, MAC, MANIFEST];

/// The most bytes of data in a Secret: the API server's limit, applied to keys and values.
pub const MAX_DATA_BYTES: usize = 1024 * 1024;
/// The most bytes of all annotations of an object, keys and values: the API server's limit.
pub const MAX_ANNOTATION_BYTES: usize = 256 * 1024;
/// The most bytes of an inflated manifest. Without a limit, a few annotation bytes could inflate to
/// gigabytes.
pub const MAX_MANIFEST_BYTES: usize = 4 * 1024 * 1024;

/// The most bytes of the manifest for one value: an SSM name has at most 1,011 characters, a label 100 and a
/// key 253, and JSON escapes extend each to at most six times its length.
pub const MAX_LINE_BYTES: usize = 16 * 1024;

/// The content of a Secret to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parts {
    /// The annotations of this layout.
    pub annotations: BTreeMap<String, String>,
    /// The whole data.
    pub data: BTreeMap<String, Value>,
}

/// Why a set cannot be encoded as a Secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// These parameters have no key, or share one.
    #[error("no Secret key of its own for {}", .0.join(", "))]
    NoKey(Vec<String>),
    /// The manifest is larger than any version of the operator would read.
    #[error("the manifest is {0} bytes, more than {MAX_MANIFEST_BYTES}")]
    ManifestTooLarge(usize),
}

/// Encodes a copy.
pub fn encode(signed: &Signed) -> Result<Parts, EncodeError> {
    let content = &signed.content;
    let mut data = BTreeMap::new();
    let mut without_key = Vec::new();
    for (name, entry) in &content.entries {
        match &entry.key {
            Some(key) if !data.contains_key(key) => drop(data.insert(key.clone(), entry.value.clone())),
            _ => without_key.push(name.clone()),
        }
    }
    if !without_key.is_empty() {
        return Err(EncodeError::NoKey(without_key));
    }
    let manifest = Manifest::of(&content.entries).encode();
    if manifest.len() > MAX_MANIFEST_BYTES {
        return Err(EncodeError::ManifestTooLarge(manifest.len()));
    }
    let annotations = [
        (FORMAT, crate::FORMAT.to_string()),
        (OWNER, content.owner.clone()),
        (SOURCE, content.source.clone()),
        (REVISION, content.revision()),
        (READ_AT, content.read_at.to_string()),
        (MAC, signed.mac.clone()),
        (MANIFEST, deflate(&manifest)),
    ];
    let annotations = annotations.into_iter().map(|(name, text)| (name.to_owned(), text)).collect();
    Ok(Parts { annotations, data })
}

/// Decodes and verifies an existing Secret. The caller handles one that does not exist, which is
/// [`Found::Missing`].
pub fn decode<'a>(
    annotations: Option<&BTreeMap<String, String>>,
    data: impl IntoIterator<Item = (&'a str, &'a [u8])>,
    owner: &str,
    keys: &KeyRing,
) -> Found {
    let found = Annotations(annotations);
    match found.0.and_then(|all| all.get(OWNER)) {
        Some(theirs) if theirs == owner => {}
        theirs => return Found::NotOurs { owner: theirs.cloned() },
    }
    let data = data.into_iter().collect();
    Found::Ours(Verdict::from(judge(&found, &data, owner, keys)))
}

fn judge(
    annotations: &Annotations<'_>,
    data: &BTreeMap<&str, &[u8]>,
    owner: &str,
    keys: &KeyRing,
) -> Result<Signed, Fault> {
    check_format(annotations.0.and_then(|all| all.get(FORMAT)).map(String::as_str), FORMAT)?;
    let mac = annotations.text(MAC)?;
    // Checked first: a copy that a foreign key signed is not broken.
    let key_id = keys.key_of(mac).map_err(|error| Fault::of_mac(error, MAC))?;
    let manifest = annotations.text(MANIFEST)?;
    let manifest = inflate(manifest, data.len()).ok_or(BrokenCause::Unreadable(MANIFEST))?;
    let content = Content {
        owner: owner.to_owned(),
        source: annotations.text(SOURCE)?.to_owned(),
        read_at: decimal(annotations.text(READ_AT)?).ok_or(BrokenCause::Unreadable(READ_AT))?,
        entries: join(&manifest, data)?,
    };
    if content.revision() != annotations.text(REVISION)? {
        return Err(BrokenCause::Revision.into());
    }
    keys.verified(content, mac.to_owned(), key_id).map_err(|error| Fault::of_mac(error, MAC))
}

struct Annotations<'a>(Option<&'a BTreeMap<String, String>>);

impl<'a> Annotations<'a> {
    fn text(&self, name: &'static str) -> Result<&'a str, BrokenCause> {
        let all = self.0.ok_or(BrokenCause::Lacks(name))?;
        all.get(name).map(String::as_str).ok_or(BrokenCause::Lacks(name))
    }
}

/// Joins each line of the manifest with its value. No value may be missing or left over.
fn join(manifest: &Manifest, data: &BTreeMap<&str, &[u8]>) -> Result<Entries, BrokenCause> {
    let mut entries = Entries::new();
    let mut used = BTreeSet::new();
    let mut missing = Vec::new();
    for (name, line) in &manifest.0 {
        let key = line.key.as_deref().filter(|key| used.insert(*key));
        let key = key.ok_or_else(|| BrokenCause::NoKey(name.clone()))?;
        let Some(bytes) = data.get(key) else {
            missing.push(name);
            continue;
        };
        let value = Value::from_utf8(bytes.to_vec())
            .ok_or_else(|| BrokenCause::ValueUnreadable { name: name.clone(), why: OpenError::NotText })?;
        entries.insert(name.clone(), line.with(value));
    }
    if let Some(first) = missing.first() {
        return Err(BrokenCause::ValuesMissing { count: missing.len(), first: (*first).clone() });
    }
    let mut unexpected = data.keys().filter(|key| !used.contains(*key));
    if let Some(first) = unexpected.next() {
        return Err(BrokenCause::ValuesUnexpected {
            count: 1 + unexpected.count(),
            first: (*first).to_owned(),
        });
    }
    Ok(entries)
}

fn deflate(manifest: &str) -> String {
    let mut packer = ZlibEncoder::new(Vec::new(), Compression::default());
    // Writing to a Vec cannot fail.
    let _ = packer.write_all(manifest.as_bytes());
    STANDARD.encode(packer.finish().unwrap_or_default())
}

/// Inflates the manifest. Its author is unknown, because the MAC is over the inflated content, so the size is
/// limited to what this many values need.
fn inflate(annotation: &str, values: usize) -> Option<Manifest> {
    let packed = STANDARD.decode(annotation).ok()?;
    let limit = MAX_MANIFEST_BYTES.min(most_lines(values).saturating_mul(MAX_LINE_BYTES));
    let mut json = Vec::new();
    ZlibDecoder::new(packed.as_slice()).take(limit as u64 + 1).read_to_end(&mut json).ok()?;
    if json.len() > limit {
        return None;
    }
    Manifest::decode(&json, values).ok()
}

/// Counts the bytes of data as [`MAX_DATA_BYTES`] does.
pub fn data_bytes<'a>(data: impl IntoIterator<Item = (&'a str, usize)>) -> usize {
    data.into_iter().map(|(key, length)| key.len() + length).sum()
}

/// Counts the bytes of annotations as [`MAX_ANNOTATION_BYTES`] does: all of the object, ours or not.
#[must_use]
pub fn annotation_bytes(annotations: &BTreeMap<String, String>) -> usize {
    annotations.iter().map(|(name, text)| name.len() + text.len()).sum()
}

impl Parts {
    /// Returns the bytes of the data, to compare with [`MAX_DATA_BYTES`].
    #[must_use]
    pub fn data_bytes(&self) -> usize {
        data_bytes(self.data.iter().map(|(key, value)| (key.as_str(), value.len())))
    }
}

#[cfg(test)]
mod tests;
