//! The verdict on a copy found in a target.

use crate::content::{MacError, Signed};
use crate::crypto::envelope::OpenError;
use crate::crypto::keys::KeyId;

/// What was found in place of our copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// Nothing.
    Missing,
    /// Someone else's object: without consent it is a conflict, and stays as it is.
    NotOurs {
        /// The owner it names, if it names one.
        owner: Option<String>,
    },
    /// An object that names us as its owner.
    Ours(Verdict),
}

/// The four verdicts on a copy that names us as its owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The MAC is valid under a key in the ring: the content may be used.
    Verified(Signed),
    /// Damaged or edited: the operator heals it.
    Broken(BrokenCause),
    /// Signed or encrypted with a key that is not in the key Secret. The operator never heals it or heals
    /// from it; only a complete fresh read replaces it.
    ForeignKey(KeyId),
    /// Written by a newer operator: never overwritten. Holds the format found.
    NewerLayout(String),
}

/// Why a copy is broken, for people. Messages name parameters and fields, never values.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BrokenCause {
    /// A field or annotation of the layout is missing.
    #[error("{0} is missing")]
    Lacks(&'static str),
    /// A field or annotation of the layout is invalid.
    #[error("{0} is not readable")]
    Unreadable(&'static str),
    /// Values that the manifest names are missing.
    #[error("{count} values are missing, {first} among them")]
    ValuesMissing {
        /// The number of values.
        count: usize,
        /// The first of them.
        first: String,
    },
    /// There are values that the manifest does not name.
    #[error("{count} values are not ours, {first} among them")]
    ValuesUnexpected {
        /// The number of values.
        count: usize,
        /// The first of them.
        first: String,
    },
    /// Two parameters share a key, or one has no key.
    #[error("the manifest gives {0} no key of its own")]
    NoKey(String),
    /// A value is not text, or does not decrypt.
    #[error("the value of {name} is not readable: {why}")]
    ValueUnreadable {
        /// The parameter.
        name: String,
        /// What is wrong.
        why: OpenError,
    },
    /// The count differs from the number of parameters in the manifest.
    #[error("the count does not fit the manifest")]
    Count,
    /// The revision differs from that of the manifest.
    #[error("the revision does not fit the manifest")]
    Revision,
    /// The MAC that readers verify does not fit.
    #[error(
        "the MAC for readers does not fit: something was changed by another hand, or the sub-key is that of another mirror"
    )]
    ReaderMac,
    /// The MAC is not valid: the copy was edited.
    #[error("the MAC does not fit, so something was changed by another hand")]
    Mac,
}

/// A verdict other than verified, as an error.
#[derive(Debug)]
pub(crate) enum Fault {
    Broken(BrokenCause),
    ForeignKey(KeyId),
    NewerLayout(String),
}

impl Fault {
    /// Maps a failed MAC of a copy; `place` is where the MAC is stored.
    pub(crate) fn of_mac(error: MacError, place: &'static str) -> Self {
        match error {
            MacError::ForeignKey(key_id) => Self::ForeignKey(key_id),
            MacError::Mismatch => Self::Broken(BrokenCause::Mac),
            MacError::Malformed => Self::Broken(BrokenCause::Unreadable(place)),
        }
    }
}

impl From<BrokenCause> for Fault {
    fn from(cause: BrokenCause) -> Self {
        Self::Broken(cause)
    }
}

impl From<Result<Signed, Fault>> for Verdict {
    fn from(judgement: Result<Signed, Fault>) -> Self {
        match judgement {
            Ok(signed) => Self::Verified(signed),
            Err(Fault::Broken(cause)) => Self::Broken(cause),
            Err(Fault::ForeignKey(key_id)) => Self::ForeignKey(key_id),
            Err(Fault::NewerLayout(format)) => Self::NewerLayout(format),
        }
    }
}

/// Checks the format number of a copy; `place` is where the number is stored.
pub(crate) fn check_format(format: Option<&str>, place: &'static str) -> Result<(), Fault> {
    let format = format.ok_or(BrokenCause::Lacks(place))?;
    if format.is_empty() || !format.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(BrokenCause::Unreadable(place).into());
    }
    match format.parse::<u32>() {
        // Only one spelling is valid, as for every number in the layout.
        Ok(number) if number == crate::FORMAT && !format.starts_with('0') => Ok(()),
        Ok(number) if number <= crate::FORMAT => Err(BrokenCause::Unreadable(place).into()),
        // A number too large for any integer is newer, too.
        _ => Err(Fault::NewerLayout(format.to_owned())),
    }
}
