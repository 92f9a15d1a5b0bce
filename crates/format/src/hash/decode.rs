//! Judging the fields of a hash.

use aws_lc_rs::digest;

use crate::content::{Content, Signed};
use crate::encoding::{decimal, lp};
use crate::entry::Entries;
use crate::envelope::{OpenError, open};
use crate::fields::Fields;
use crate::keys::{KeyId, KeyRing};
use crate::manifest::Manifest;
use crate::source::StoredSource;
use crate::subkey::SubKey;
use crate::value::Value;
use crate::verdict::{BrokenCause, Fault, Found, Verdict, check_format};

use super::{
    ADOPT_BY, CHECKED_AT, COUNT, ENC, Encryption, FENCE, FORMAT, Fence, GENERATION, MAC, OWNER, PARAMS,
    READ_AT, REVISION, SOURCE, STATUS, STATUS_AT, Status,
};

/// A hash as the operator found it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HashFound {
    /// What it is.
    pub found: Found,
    /// What a write has to compare with.
    pub fence: Fence,
    /// The fence of the last content write, if readable.
    pub generation: Option<i64>,
    /// Which values are encrypted and with which key, if readable.
    pub encryption: Option<Encryption>,
    /// When the last good read began, Unix milliseconds, if readable.
    pub checked_at: Option<i64>,
    /// Whether the last read was good, if readable.
    pub status: Option<Status>,
    /// Whether `@adoptBy` names us: consent to a take-over.
    pub consents: bool,
    /// What the verdict on a verified copy was based on.
    pub print: Option<Print>,
}

/// A digest of everything in a hash that its verdict depends on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Print([u8; 32]);

impl Print {
    /// SHA-256 over all fields but those that no MAC covers and that change while the copy stays the same.
    fn of(fields: &Fields) -> Self {
        const UNSIGNED: [&str; 6] = [FENCE, GENERATION, CHECKED_AT, STATUS, STATUS_AT, ADOPT_BY];
        let mut digest = digest::Context::new(&digest::SHA256);
        for (name, bytes) in
            fields.iter().filter(|(name, _)| UNSIGNED.iter().all(|one| one.as_bytes() != *name))
        {
            lp(&mut |part| digest.update(part), &[name, bytes]);
        }
        let mut print = [0; 32];
        print.copy_from_slice(digest.finish().as_ref());
        Self(print)
    }
}

/// Judges the fields of a hash; no fields are a missing hash.
#[must_use]
pub fn decode(fields: &Fields, redis_key: &str, owner: &str, keys: &KeyRing) -> HashFound {
    decode_again(fields, redis_key, owner, keys, None)
}

/// The same for a hash that was judged before, under the same key and owner and with the same keys: what is byte for byte as it was
/// has the same verdict, and need not be decrypted and verified once more.
#[must_use]
pub fn decode_again(
    fields: &Fields,
    redis_key: &str,
    owner: &str,
    keys: &KeyRing,
    known: Option<&HashFound>,
) -> HashFound {
    let number = |name| fields.text(name).and_then(decimal);
    let print = Print::of(fields);
    let found = match known {
        Some(known) if known.print.as_ref() == Some(&print) => known.found.clone(),
        _ => find(fields, redis_key, owner, keys),
    };
    HashFound {
        print: matches!(found, Found::Ours(Verdict::Verified(_))).then_some(print),
        found,
        fence: Fence::new(fields.get(FENCE).unwrap_or_default().to_vec()),
        generation: number(GENERATION),
        encryption: fields.text(ENC).and_then(|text| text.parse().ok()),
        checked_at: number(CHECKED_AT),
        status: fields.text(STATUS).and_then(Status::parse),
        consents: fields.text(ADOPT_BY) == Some(owner),
    }
}

fn find(fields: &Fields, redis_key: &str, owner: &str, keys: &KeyRing) -> Found {
    if fields.is_empty() {
        return Found::Missing;
    }
    match fields.get(OWNER) {
        Some(theirs) if theirs == owner.as_bytes() => {
            Found::Ours(Verdict::from(judge(fields, redis_key, owner, keys)))
        }
        theirs => Found::NotOurs { owner: theirs.map(|theirs| String::from_utf8_lossy(theirs).into_owned()) },
    }
}

fn judge(fields: &Fields, redis_key: &str, owner: &str, keys: &KeyRing) -> Result<Signed, Fault> {
    check_format(fields.text(FORMAT), FORMAT)?;
    let mac = text(fields, MAC)?;
    // First of all: what a foreign key signed or encrypted is not ours to call broken.
    let key_id = keys.key_of(mac).map_err(|error| Fault::of_mac(error, MAC))?;
    let encryption: Encryption = text(fields, ENC)?.parse().map_err(|_| BrokenCause::Unreadable(ENC))?;
    let sub_key = match encryption.key_id() {
        Some(key_id) => {
            Some(keys.sub_key(key_id, redis_key).ok_or_else(|| Fault::ForeignKey(key_id.clone()))?)
        }
        None => None,
    };
    let layout = Layout::read(fields)?;
    let content = Content {
        owner: owner.to_owned(),
        source: text(fields, SOURCE)?.to_owned(),
        read_at: layout.read_at,
        entries: layout.values(fields, redis_key, &encryption, sub_key.as_ref())?,
    };
    if content.revision() != layout.revision {
        return Err(BrokenCause::Revision.into());
    }
    keys.verified(content, mac.to_owned(), key_id).map_err(|error| Fault::of_mac(error, MAC))
}

/// A copy as a reader gets it. Nobody but the operator can check the MAC; what is encrypted proves itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReaderCopy {
    /// The parameters.
    pub entries: Entries,
    /// What was read.
    pub source: StoredSource,
    /// Which values are encrypted, and with which key.
    pub encryption: Encryption,
    /// The revision of the entries.
    pub revision: String,
    /// The read time, Unix milliseconds.
    pub read_at: i64,
    /// When the last good read began, Unix milliseconds, if readable. Age counts from the later of the two.
    pub checked_at: Option<i64>,
    /// Moves with each content write; poll it.
    pub generation: Option<i64>,
    /// Whether the last read was good, if readable.
    pub status: Option<Status>,
}

/// Why a reader cannot use a hash. Field names appear, values never.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReaderError {
    /// No such hash: not mirrored, or lost.
    #[error("the hash does not exist")]
    Missing,
    /// Written by a newer operator.
    #[error("the hash has the layout {0}, which is newer than this reader")]
    NewerLayout(String),
    /// Encrypted with a key the reader was not given.
    #[error("{field} is encrypted with the key {key_id}, which this reader was not given")]
    KeyMissing {
        /// The first field that needs it.
        field: String,
        /// The key.
        key_id: KeyId,
    },
    /// Damaged.
    #[error(transparent)]
    Broken(#[from] BrokenCause),
}

/// Reads a hash with the sub-keys of its mirror only.
pub fn decode_for_reader(
    fields: &Fields,
    redis_key: &str,
    sub_keys: &[SubKey],
) -> Result<ReaderCopy, ReaderError> {
    if fields.is_empty() {
        return Err(ReaderError::Missing);
    }
    check_format(fields.text(FORMAT), FORMAT).map_err(|fault| match fault {
        Fault::NewerLayout(format) => ReaderError::NewerLayout(format),
        Fault::Broken(cause) => cause.into(),
        // A format names no key.
        Fault::ForeignKey(_) => BrokenCause::Unreadable(FORMAT).into(),
    })?;
    let encryption: Encryption = text(fields, ENC)?.parse().map_err(|_| BrokenCause::Unreadable(ENC))?;
    let layout = Layout::read(fields)?;
    let sub_key = encryption.key_id().and_then(|wanted| sub_keys.iter().find(|key| key.key_id() == wanted));
    if sub_key.is_none() {
        let mut needed = layout.manifest.0.iter();
        let needed = needed.find_map(|(name, line)| encryption.key_for(line.kind).map(|key| (name, key)));
        if let Some((field, key_id)) = needed {
            return Err(ReaderError::KeyMissing { field: field.clone(), key_id: key_id.clone() });
        }
    }
    let number = |name| fields.text(name).and_then(decimal);
    let source = StoredSource::decode(text(fields, SOURCE)?).map_err(|_| BrokenCause::Unreadable(SOURCE))?;
    Ok(ReaderCopy {
        source,
        entries: layout.values(fields, redis_key, &encryption, sub_key)?,
        encryption,
        revision: layout.revision.to_owned(),
        read_at: layout.read_at,
        checked_at: number(CHECKED_AT),
        generation: number(GENERATION),
        status: fields.text(STATUS).and_then(Status::parse),
    })
}

/// What both the operator and a reader need of the metadata.
struct Layout<'a> {
    manifest: Manifest,
    read_at: i64,
    revision: &'a str,
}

impl<'a> Layout<'a> {
    fn read(fields: &'a Fields) -> Result<Self, BrokenCause> {
        let manifest = fields.get(PARAMS).ok_or(BrokenCause::Lacks(PARAMS))?;
        let manifest =
            Manifest::decode(manifest, fields.len()).map_err(|_| BrokenCause::Unreadable(PARAMS))?;
        let read_at = decimal(text(fields, READ_AT)?).ok_or(BrokenCause::Unreadable(READ_AT))?;
        if text(fields, COUNT)? != manifest.0.len().to_string() {
            return Err(BrokenCause::Count);
        }
        Ok(Self { manifest, read_at, revision: text(fields, REVISION)? })
    }

    /// Gives each line of the manifest its value; nothing may be missing and nothing left over.
    fn values(
        &self,
        fields: &Fields,
        redis_key: &str,
        encryption: &Encryption,
        sub_key: Option<&SubKey>,
    ) -> Result<Entries, BrokenCause> {
        let mut entries = Entries::new();
        let mut missing = Vec::new();
        for (name, line) in &self.manifest.0 {
            let Some(stored) = fields.get(name) else {
                missing.push(name);
                continue;
            };
            let value = match (encryption.key_for(line.kind), sub_key) {
                (None, _) => Value::from_utf8(stored.to_vec()).ok_or(OpenError::NotText),
                (Some(key_id), None) => Err(OpenError::OtherKey(key_id.clone())),
                (Some(_), Some(sub_key)) => std::str::from_utf8(stored)
                    .map_err(|_| OpenError::NotAnEnvelope)
                    .and_then(|stored| open(sub_key, redis_key, name, stored)),
            };
            let value = value.map_err(|why| BrokenCause::ValueUnreadable { name: name.clone(), why })?;
            entries.insert(name.clone(), line.with(value));
        }
        if let Some(first) = missing.first() {
            return Err(BrokenCause::ValuesMissing { count: missing.len(), first: (*first).clone() });
        }
        self.nothing_left_over(fields)?;
        Ok(entries)
    }

    fn nothing_left_over(&self, fields: &Fields) -> Result<(), BrokenCause> {
        let known = |name: &[u8]| {
            name.starts_with(b"@")
                || std::str::from_utf8(name).is_ok_and(|name| self.manifest.0.contains_key(name))
        };
        let mut unexpected = fields.iter().map(|(name, _)| name).filter(|name| !known(name));
        match unexpected.next() {
            None => Ok(()),
            Some(first) => Err(BrokenCause::ValuesUnexpected {
                first: String::from_utf8_lossy(first).into_owned(),
                count: 1 + unexpected.count(),
            }),
        }
    }
}

fn text<'a>(fields: &'a Fields, name: &'static str) -> Result<&'a str, BrokenCause> {
    fields.get(name).ok_or(BrokenCause::Lacks(name))?;
    fields.text(name).ok_or(BrokenCause::Unreadable(name))
}
