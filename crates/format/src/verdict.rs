//! What is thought of a copy found in a target.

use crate::content::{MacError, Signed};
use crate::crypto::envelope::OpenError;
use crate::crypto::keys::KeyId;

/// What was found where a copy of ours should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// Nothing at all.
    Missing,
    /// Somebody else's object: refused without consent, and left as it is.
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
    /// The MAC holds under a key we have: the copy counts.
    Verified(Signed),
    /// Damaged or edited: it is healed.
    Broken(BrokenCause),
    /// Signed or encrypted with a key that is not in the key Secret: never healed over or from; only a complete
    /// fresh read replaces it.
    ForeignKey(KeyId),
    /// Written by a newer operator: never written. Holds the format found.
    NewerLayout(String),
}

/// What is wrong with a broken copy, for people. Names of parameters and fields appear, values never.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BrokenCause {
    /// A field or annotation of the layout is not there.
    #[error("{0} is missing")]
    Lacks(&'static str),
    /// A field or annotation of the layout cannot be read.
    #[error("{0} is not readable")]
    Unreadable(&'static str),
    /// Values that the manifest names are not there.
    #[error("{count} values are missing, {first} among them")]
    ValuesMissing {
        /// How many.
        count: usize,
        /// The first of them.
        first: String,
    },
    /// Values that the manifest does not name are there.
    #[error("{count} values are not ours, {first} among them")]
    ValuesUnexpected {
        /// How many.
        count: usize,
        /// The first of them.
        first: String,
    },
    /// Two parameters share a key, or one has none.
    #[error("the manifest gives {0} no key of its own")]
    NoKey(String),
    /// A value that is not text, or does not decrypt.
    #[error("the value of {name} is not readable: {why}")]
    ValueUnreadable {
        /// The parameter.
        name: String,
        /// What is wrong.
        why: OpenError,
    },
    /// The count is not the number of parameters in the manifest.
    #[error("the count does not fit the manifest")]
    Count,
    /// The revision is not that of the manifest.
    #[error("the revision does not fit the manifest")]
    Revision,
    /// The MAC that readers verify does not fit.
    #[error(
        "the MAC for readers does not fit: something was changed by another hand, or the sub-key is that of another mirror"
    )]
    ReaderMac,
    /// The MAC does not fit: something was edited.
    #[error("the MAC does not fit, so something was changed by another hand")]
    Mac,
}

/// A verdict other than verified, on its way out of a judgement.
#[derive(Debug)]
pub(crate) enum Fault {
    Broken(BrokenCause),
    ForeignKey(KeyId),
    NewerLayout(String),
}

impl Fault {
    /// What a failed MAC means for a copy whose MAC stands in `place`.
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

/// Judges the format number a copy names, which stands in `place`.
pub(crate) fn check_format(format: Option<&str>, place: &'static str) -> Result<(), Fault> {
    let format = format.ok_or(BrokenCause::Lacks(place))?;
    if format.is_empty() || !format.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(BrokenCause::Unreadable(place).into());
    }
    match format.parse::<u32>() {
        // One spelling, as of every number here.
        Ok(number) if number == crate::FORMAT && !format.starts_with('0') => Ok(()),
        Ok(number) if number <= crate::FORMAT => Err(BrokenCause::Unreadable(place).into()),
        // Also a number too large for any integer is one above ours.
        _ => Err(Fault::NewerLayout(format.to_owned())),
    }
}
