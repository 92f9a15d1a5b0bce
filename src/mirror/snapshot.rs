//! What one read of SSM is asked for and what it answers.
//!
//! The types keep absence, denial and outage apart: a [`Snapshot`] exists only if every page and every
//! value was read, and a name may leave a target only if it is in [`Reading::absent`].

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use parameter_mirror_format::content::entry::ParameterType;
use parameter_mirror_format::value::Value;

use crate::mirror::selection::Selection;

/// The most parameters one mirror may hold (docs/design/architecture.md, "The API").
pub const MAX_PARAMETERS: usize = 2_000;

/// One parameter as SSM answered it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameter {
    /// Its type; a `SecureString` here is always decrypted.
    pub kind: ParameterType,
    /// Version as the call that detects changes reported it. Restarts at 1 after delete and re-create.
    pub version: i64,
    /// Last-modified, Unix milliseconds, from the same call as `version`.
    pub date: i64,
    /// The plain value.
    pub value: Value,
}

/// A parameter that is known already and need not be decrypted again while it has not changed.
#[derive(Clone, Debug)]
pub struct CachedParameter {
    /// The parameter as last read, or as found in a verified target.
    pub parameter: Parameter,
    /// Whether `version` and `date` come from the operation that reads this parameter now. Dates of
    /// different operations are never compared (docs/design/architecture.md, "Reading SSM"); such a parameter is decrypted anew.
    pub comparable: bool,
}

/// Who goes first when the budget is short.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Priority {
    /// Somebody asked for it by annotation: the front of the queue.
    Requested,
    /// A mirror that never had a set.
    FirstSync,
    /// Everything else.
    #[default]
    Refresh,
}

/// The place in the queue for the budget: namespaces take turns; in one, by priority, then whoever serves the oldest values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueKey {
    /// Whose request it is.
    pub namespace: Arc<str>,
    /// Who goes first.
    pub priority: Priority,
    /// When the last good read began, Unix ms; 0 if there was none.
    pub last_good: i64,
}

/// One read: the whole set of one mirror, or nothing.
#[derive(Clone, Debug)]
pub struct ReadRequest {
    /// What is selected; not empty.
    pub selections: Vec<Selection>,
    /// By name as selected: everything that is published today and still selected.
    pub known: BTreeMap<String, CachedParameter>,
    /// The account that `known` was read from, if that is known. Versions of another account say nothing.
    pub known_account: Option<String>,
    /// How the read before this one failed, if it did.
    pub last_failure: Option<ReadError>,
    /// The place in the queue for the budget.
    pub turn: QueueKey,
    /// Whether mirrors with equal selections have been called to read at the same moment.
    pub coalesce: bool,
    /// Set when the first request has got through the budget.
    pub started: Arc<AtomicBool>,
}

/// The complete answer of one successful read: all pages and all values.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Wall clock at the read's first request, Unix milliseconds.
    pub started_at: i64,
    /// The account, learnt from ARNs; `None` if nothing was read that shows it.
    pub account: Option<String>,
    /// By name as selected; the union of all selections.
    pub parameters: BTreeMap<String, Parameter>,
    /// Names as selected that SSM itself calls non-existent (`InvalidParameters`): selected names, and
    /// known names that a listing no longer held. Only these may be removed.
    pub absent: BTreeSet<String>,
    /// What it cost.
    pub cost: Cost,
}

/// What a read cost at SSM.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// Operations that it took (the SDK's own retries not counted).
    pub calls: u32,
    /// So many of them were sent by the reads of other mirrors that asked the same at the same moment.
    pub shared: u32,
    /// `SecureString` values that its own operations had decrypted: each is one KMS call at AWS.
    pub decrypts: u32,
}

/// Why a read brought nothing. Never carries a response body or a value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}: {detail}")]
pub struct ReadError {
    /// The class, one of the closed list in docs/design/formats.md.
    pub reason: ReadErrorKind,
    /// One clause for people: operation, status or code, parameter names at most.
    pub detail: String,
    /// The one parameter that it is about, if it is known.
    pub culprit: Option<String>,
}

impl ReadError {
    /// A failure that is about no parameter in particular.
    #[must_use]
    pub fn new(reason: ReadErrorKind, detail: impl Into<String>) -> Self {
        Self { reason, detail: detail.into(), culprit: None }
    }
}

/// Classes of failed reads: the "source's" reasons of docs/design/formats.md, and a set that is too large.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, strum::Display, strum::IntoStaticStr)]
pub enum ReadErrorKind {
    /// HTTP 5xx, refused, reset, no such host.
    SourceUnavailable,
    /// SSM asks for fewer calls.
    Throttled,
    /// Accepted and not answered within the deadline.
    Timeout,
    /// No valid credentials: STS, IMDS or the token file failed, or the token expired.
    CredentialsUnavailable,
    /// IAM says no.
    AccessDenied,
    /// KMS denies, throttles or has disabled the key.
    KmsUnavailable,
    /// An answer that cannot be what SSM says, or a request it refuses as malformed.
    InvalidResponse,
    /// The `ParameterSource` is not there.
    SourceNotFound,
    /// The parameters moved while they were read, or the answer is older than what is known.
    SourceChanging,
    /// A due read has not begun in time for want of budget.
    BudgetExhausted,
    /// More than [`MAX_PARAMETERS`].
    TooManyParameters,
    /// The namespace's share of the memory for values is used up.
    MemoryShareExceeded,
    /// Somebody rehearses an outage: nothing was asked.
    Drill,
}

impl ReadErrorKind {
    /// The reason as conditions carry it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.into()
    }

    /// Whether SSM may well hold the parameters, and only cannot say so: then what others read of it is good enough.
    #[must_use]
    pub const fn is_outage(self) -> bool {
        !matches!(
            self,
            Self::AccessDenied | Self::TooManyParameters | Self::MemoryShareExceeded | Self::SourceNotFound
        )
    }

    /// Whether SSM answered, and the operator does not take that much.
    #[must_use]
    pub const fn is_limit(self) -> bool {
        matches!(self, Self::TooManyParameters | Self::MemoryShareExceeded)
    }

    /// Whether trying again soon cannot help: these wait for the interval (docs/design/architecture.md, "Reading SSM").
    #[must_use]
    pub const fn is_denial(self) -> bool {
        matches!(self, Self::AccessDenied | Self::TooManyParameters | Self::MemoryShareExceeded)
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    /// The closed list of docs/design/formats.md, and which of them wait for the interval: asking again soon cannot help.
    #[rstest]
    #[case(ReadErrorKind::SourceUnavailable, "SourceUnavailable", false)]
    #[case(ReadErrorKind::Throttled, "Throttled", false)]
    #[case(ReadErrorKind::Timeout, "Timeout", false)]
    #[case(ReadErrorKind::CredentialsUnavailable, "CredentialsUnavailable", false)]
    #[case(ReadErrorKind::AccessDenied, "AccessDenied", true)]
    #[case(ReadErrorKind::KmsUnavailable, "KmsUnavailable", false)]
    #[case(ReadErrorKind::InvalidResponse, "InvalidResponse", false)]
    #[case(ReadErrorKind::SourceNotFound, "SourceNotFound", false)]
    #[case(ReadErrorKind::SourceChanging, "SourceChanging", false)]
    #[case(ReadErrorKind::BudgetExhausted, "BudgetExhausted", false)]
    #[case(ReadErrorKind::TooManyParameters, "TooManyParameters", true)]
    #[case(ReadErrorKind::MemoryShareExceeded, "MemoryShareExceeded", true)]
    #[case(ReadErrorKind::Drill, "Drill", false)]
    fn reasons_are_words_that_others_match_on(
        #[case] reason: ReadErrorKind,
        #[case] word: &str,
        #[case] denial: bool,
    ) {
        assert_eq!((reason.to_string().as_str(), reason.is_denial()), (word, denial));
        let failure = ReadError::new(reason, "HTTP 500");
        assert_eq!(failure.to_string(), format!("{word}: HTTP 500"));
    }

    /// Who asked goes first, then who has nothing yet.
    #[test]
    fn priorities_are_in_order() {
        assert!(Priority::Requested < Priority::FirstSync && Priority::FirstSync < Priority::Refresh);
    }

    #[test]
    fn nothing_that_is_printed_shows_a_value() {
        let value = Value::new("hunter2".to_owned());
        let parameter = Parameter { kind: ParameterType::SecureString, version: 1, date: 1, value };
        let reading = Snapshot {
            started_at: 0,
            account: None,
            parameters: [("/x".to_owned(), parameter.clone())].into(),
            absent: BTreeSet::new(),
            cost: Cost::default(),
        };
        let known = CachedParameter { parameter, comparable: true };
        assert!(!format!("{reading:?} {known:?}").contains("hunter2"));
    }
}
