//! Decodes and verifies the fields of a hash.

use aws_lc_rs::digest;

use crate::content::entry::{Entries, ParameterType};
use crate::content::source::StoredSource;
use crate::content::{Content, Signed};
use crate::crypto::envelope::{OpenError, open};
use crate::crypto::keys::{KeyId, KeyRing};
use crate::crypto::subkey::SubKey;
use crate::encoding::{decimal, lp};
use crate::hash::fields::Fields;
use crate::secret::manifest::Manifest;
use crate::value::Value;
use crate::verdict::{BrokenCause, Fault, Found, Verdict, check_format};

use super::{
    ADOPT_BY, CHECKED_AT, CHECKED_MAC, COUNT, ENC, Encryption, EncryptionMode, FENCE, FORMAT, Fence,
    GENERATION, MAC, OWNER, PARAMS, READ_AT, READER_MAC, REVISION, SOURCE, STATUS, STATUS_AT, Status,
    reader_mac,
};

/// A hash as the operator observed it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HashFound {
    /// The verdict on it.
    pub found: Found,
    /// The fence to compare with at the write.
    pub fence: Fence,
    /// The fence of the last content write, if readable.
    pub generation: Option<i64>,
    /// Which values are encrypted and with which key, if readable.
    pub encryption: Option<Encryption>,
    /// When the last good read began, Unix milliseconds, if its MAC is valid for this set. A time that
    /// someone else wrote is ignored: the next write would sign it.
    pub checked_at: Option<i64>,
    /// Whether the last read was good, if readable.
    pub status: Option<Status>,
    /// Whether `@adoptBy` names this owner: consent to a takeover.
    pub consents: bool,
    /// Whether Redis holds a hash there, or nothing: a value of another type cannot say whose it is.
    pub is_hash: bool,
    /// Whether readers with its sub-key accept it. The content may be verified while the metadata that
    /// readers rely on was changed.
    pub is_for_readers: bool,
    /// The fields that the verdict on a verified copy is based on.
    pub print: Option<Print>,
}

/// A digest of every field that the verdict depends on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Print([u8; 32]);

impl Print {
    /// Computes SHA-256 over all fields except those that change while the copy stays the same.
    fn of(fields: &Fields) -> Self {
        const UNSIGNED: [&str; 7] = [FENCE, GENERATION, CHECKED_AT, CHECKED_MAC, STATUS, STATUS_AT, ADOPT_BY];
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

/// Decodes and verifies the fields of a hash; no fields mean that the hash is missing.
#[must_use]
pub fn decode(fields: &Fields, redis_key: &str, owner: &str, keys: &KeyRing) -> HashFound {
    decode_again(fields, redis_key, owner, keys, None)
}

/// Like [`decode`], for a hash that was decoded before with the same key, owner and key ring. If every
/// relevant byte is unchanged, the verdict is reused, so the hash need not be decrypted and verified again.
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
    let (found, is_for_readers) = match known {
        Some(known) if known.print.as_ref() == Some(&print) => (known.found.clone(), known.is_for_readers),
        _ => (find(fields, redis_key, owner, keys), is_for_readers(fields, redis_key, keys)),
    };
    HashFound {
        is_for_readers,
        print: matches!(found, Found::Ours(Verdict::Verified(_))).then_some(print),
        found,
        fence: Fence::new(fields.get(FENCE).unwrap_or_default().to_vec()),
        generation: number(GENERATION),
        encryption: fields.text(ENC).and_then(|text| text.parse().ok()),
        checked_at: checked_at(fields, redis_key, keys),
        status: fields.text(STATUS).and_then(Status::parse),
        consents: fields.text(ADOPT_BY) == Some(owner),
        is_hash: true,
    }
}

/// Returns the sub-key that belongs to the key of the copy's MAC; everything for readers is made with it.
fn sub_key(fields: &Fields, redis_key: &str, keys: &KeyRing) -> Option<SubKey> {
    keys.sub_key(&keys.key_of(fields.text(MAC)?).ok()?, redis_key)
}

fn checked_at(fields: &Fields, redis_key: &str, keys: &KeyRing) -> Option<i64> {
    reader_mac::checked_at(&sub_key(fields, redis_key, keys)?, redis_key, fields)
}

fn is_for_readers(fields: &Fields, redis_key: &str, keys: &KeyRing) -> bool {
    let sub_key = sub_key(fields, redis_key, keys);
    sub_key.is_some_and(|sub_key| reader_mac::is_set_authentic(&sub_key, redis_key, fields))
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
    // Checked first: a copy that a foreign key signed or encrypted is not broken.
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

/// A copy as a reader gets it. With the sub-key of its mirror, everything except
/// [`generation`](Self::generation) and [`status`](Self::status) is verified; without one, nothing is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReaderCopy {
    /// The parameters.
    pub entries: Entries,
    /// The source it was read from.
    pub source: StoredSource,
    /// Which values are encrypted, and with which key.
    pub encryption: Encryption,
    /// The revision of the entries.
    pub revision: String,
    /// The read time, Unix milliseconds.
    pub read_at: i64,
    /// When the last good read began, Unix milliseconds; with a sub-key, only if its MAC is valid for this
    /// set. The age counts from this or the read time, whichever is later.
    pub checked_at: Option<i64>,
    /// Whether the MAC for readers was verified.
    pub is_authentic: bool,
    /// Changes with each content write; readers poll it.
    pub generation: Option<i64>,
    /// Whether the last read was good, if readable.
    pub status: Option<Status>,
}

/// Why a reader cannot use a hash. Field names appear, values never.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReaderError {
    /// The hash does not exist: the mirror has no Redis target, or the hash was lost.
    #[error("the hash does not exist")]
    Missing,
    /// Written by a newer operator.
    #[error("the hash has the layout {0}, which is newer than this reader")]
    NewerLayout(String),
    /// A plain value that must be encrypted.
    #[error("{field} is a {kind} that is not encrypted (@enc is {found}), and {least} has to be")]
    NotEncrypted {
        /// The first such parameter.
        field: String,
        /// Its type.
        kind: ParameterType,
        /// The encryption of the hash.
        found: EncryptionMode,
        /// The weakest encryption that the reader accepts.
        least: EncryptionMode,
    },
    /// Encrypted or authenticated with a key that the reader does not have.
    #[error("{field} needs the key {key_id}, which this reader was not given")]
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

/// Decodes a hash with sub-keys, among them that of its mirror, or without any.
///
/// With sub-keys, the reader accepts only what a holder of this mirror's sub-key wrote, and a plain
/// `SecureString` is an error. Otherwise anyone with write access to Redis could write a hash with `@enc` =
/// `none`. `least` overrides the required encryption.
pub fn decode_for_reader(
    fields: &Fields,
    redis_key: &str,
    sub_keys: &[SubKey],
    least: Option<EncryptionMode>,
) -> Result<ReaderCopy, ReaderError> {
    if fields.is_empty() {
        return Err(ReaderError::Missing);
    }
    check_format(fields.text(FORMAT), FORMAT).map_err(|fault| match fault {
        Fault::NewerLayout(format) => ReaderError::NewerLayout(format),
        Fault::Broken(cause) => cause.into(),
        // A check of the format never finds a foreign key.
        Fault::ForeignKey(_) => BrokenCause::Unreadable(FORMAT).into(),
    })?;
    let encryption: Encryption = text(fields, ENC)?.parse().map_err(|_| BrokenCause::Unreadable(ENC))?;
    let layout = Layout::read(fields)?;
    let secure_strings =
        if sub_keys.is_empty() { EncryptionMode::None } else { EncryptionMode::SecureStrings };
    layout.is_encrypted(&encryption, least.unwrap_or(secure_strings))?;
    let mac_key_id = if sub_keys.is_empty() { None } else { reader_mac::key_id(fields) };
    let wanted = mac_key_id.as_ref().or(encryption.key_id());
    // The sub-keys of several mirrors have the same key ids; the one that verifies is that of this mirror.
    let mut fitting = sub_keys.iter().filter(|key| wanted == Some(key.key_id()));
    let authentic = fitting.clone().find(|key| reader_mac::is_set_authentic(key, redis_key, fields));
    let sub_key = authentic.or_else(|| fitting.next());
    if sub_key.is_none() {
        layout.needs_no_key(&encryption)?;
    }
    let number = |name| fields.text(name).and_then(decimal);
    let source = StoredSource::decode(text(fields, SOURCE)?).map_err(|_| BrokenCause::Unreadable(SOURCE))?;
    // Before the MAC is checked, because this reports what is wrong, and the MAC only that something is.
    let entries = layout.values(fields, redis_key, &encryption, sub_key)?;
    if !sub_keys.is_empty() && authentic.is_none() {
        text(fields, READER_MAC)?;
        return Err(match (sub_key, mac_key_id) {
            (None, Some(key_id)) => ReaderError::KeyMissing { field: READER_MAC.to_owned(), key_id },
            _ => BrokenCause::ReaderMac.into(),
        });
    }
    Ok(ReaderCopy {
        source,
        entries,
        encryption,
        revision: layout.revision.to_owned(),
        read_at: layout.read_at,
        checked_at: authentic
            .map_or_else(|| number(CHECKED_AT), |key| reader_mac::checked_at(key, redis_key, fields)),
        is_authentic: authentic.is_some(),
        generation: number(GENERATION),
        status: fields.text(STATUS).and_then(Status::parse),
    })
}

/// The metadata that both the operator and readers need.
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

    /// Checks that the hash encrypts at least what `least` requires.
    fn is_encrypted(&self, encryption: &Encryption, least: EncryptionMode) -> Result<(), ReaderError> {
        let found = encryption.mode();
        let plain = |kind| least.covers(kind) && !found.covers(kind);
        match self.manifest.0.iter().find(|(_, line)| plain(line.kind)) {
            Some((field, line)) => {
                Err(ReaderError::NotEncrypted { field: field.clone(), kind: line.kind, found, least })
            }
            None => Ok(()),
        }
    }

    /// Checks that there is nothing to decrypt.
    fn needs_no_key(&self, encryption: &Encryption) -> Result<(), ReaderError> {
        let mut lines = self.manifest.0.iter();
        match lines.find_map(|(name, line)| encryption.key_for(line.kind).map(|key_id| (name, key_id))) {
            Some((field, key_id)) => {
                Err(ReaderError::KeyMissing { field: field.clone(), key_id: key_id.clone() })
            }
            None => Ok(()),
        }
    }

    /// Joins each line of the manifest with its value. No value may be missing or left over.
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
