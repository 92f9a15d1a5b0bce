//! The request and the result of one read of SSM.
//!
//! The types keep absence, denial and outage apart: a [`Snapshot`] exists only if every page and every value was read,
//! and a name may leave a target only if it is in [`Snapshot::absent`].

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use parameter_mirror_format::content::entry::ParameterType;
use parameter_mirror_format::value::Value;

use crate::mirror::selection::Selection;

/// Maximum parameters of one mirror (docs/design/architecture.md, "The API").
pub const MAX_PARAMETERS: usize = 2_000;

/// One parameter as SSM returned it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameter {
    /// Its type; a `SecureString` here is always decrypted.
    pub kind: ParameterType,
    /// Version as reported by the call that detects changes. It restarts at 1 after delete and re-create.
    pub version: i64,
    /// Last-modified, Unix milliseconds, from the same call as `version`.
    pub date: i64,
    /// The plaintext value.
    pub value: Value,
}

/// A parameter that is known and is not decrypted again while it has not changed.
#[derive(Clone, Debug)]
pub struct CachedParameter {
    /// The parameter as last read, or as found in a verified target.
    pub parameter: Parameter,
    /// Whether `version` and `date` come from the operation that reads this parameter now. Dates of different
    /// operations are never compared (docs/design/architecture.md, "Reading SSM"), so a parameter of another one is decrypted again.
    pub comparable: bool,
}

/// Who goes first when the limiter is short of tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Priority {
    /// An annotation requests the read: it goes first.
    Requested,
    /// The mirror has never had a set.
    FirstSync,
    /// Everything else.
    #[default]
    Refresh,
    /// The last reads of the mirror failed through its own fault: it goes last in its namespace, so that one that never succeeds
    /// delays no other, and has one turn in ten.
    Failing,
}

/// The position in the limiter's queue: namespaces take turns; within one, by priority, then by the age of the values served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueKey {
    /// Namespace of the mirror.
    pub namespace: Arc<str>,
    /// Priority of the read.
    pub priority: Priority,
    /// When the last good read began, Unix ms; 0 if there was none. For a failing mirror, when the last read began, so that
    /// failing mirrors take turns.
    pub last_read: i64,
}

/// One read: the whole set of one mirror, or nothing.
#[derive(Clone, Debug)]
pub struct ReadRequest {
    /// The selections; not empty.
    pub selections: Vec<Selection>,
    /// Everything that is published today and still selected, by name as selected.
    pub known: BTreeMap<String, CachedParameter>,
    /// The account that `known` was read from, if known. Versions of another account mean nothing.
    pub known_account: Option<String>,
    /// How the previous read failed, if it did.
    pub last_failure: Option<ReadError>,
    /// The position in the limiter's queue.
    pub turn: QueueKey,
    /// Whether mirrors with equal selections were triggered to read at the same moment.
    pub coalesce: bool,
    /// Set when the limiter has granted the first request.
    pub started: Arc<AtomicBool>,
}

/// The complete result of one successful read: all pages and all values.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Wall clock at the read's first request, Unix milliseconds.
    pub started_at: i64,
    /// The account, learnt from ARNs; `None` if nothing that was read shows it.
    pub account: Option<String>,
    /// By name as selected; the union of all selections.
    pub parameters: BTreeMap<String, Parameter>,
    /// Names as selected that SSM itself calls nonexistent (`InvalidParameters`): selected names, and known names that
    /// a listing no longer holds. Only these may be removed.
    pub absent: BTreeSet<String>,
    /// The cost of the read.
    pub cost: Cost,
}

/// What a read cost at SSM.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// Operations, without the SDK's own retries.
    pub calls: u32,
    /// How many of them the reads of other mirrors sent, which requested the same at the same moment.
    pub shared: u32,
    /// `SecureString` values that its own operations decrypted; each is one KMS call at AWS.
    pub decrypts: u32,
}

/// Why a read failed. It never carries a response body or a value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}: {detail}")]
pub struct ReadError {
    /// The class, one of the closed list in docs/design/formats.md.
    pub reason: ReadErrorKind,
    /// One clause for people, with at most operation, status or code, and parameter names.
    pub detail: String,
    /// The one parameter that it concerns, if known.
    pub culprit: Option<String>,
}

impl ReadError {
    /// An error that concerns no parameter in particular.
    #[must_use]
    pub fn new(reason: ReadErrorKind, detail: impl Into<String>) -> Self {
        Self { reason, detail: detail.into(), culprit: None }
    }
}

/// Classes of failed reads: the "source's" reasons of docs/design/formats.md, and a set that is too large.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    strum::Display,
    strum::EnumString,
    strum::IntoStaticStr,
)]
pub enum ReadErrorKind {
    /// HTTP 5xx, or a connection that is refused or reset, or no such host.
    SourceUnavailable,
    /// SSM throttles requests.
    Throttled,
    /// SSM accepted the request and did not answer within the deadline.
    Timeout,
    /// No valid credentials: STS, IMDS or the token file failed, or the token expired.
    CredentialsUnavailable,
    /// IAM denies the request.
    AccessDenied,
    /// KMS denies, throttles or has disabled the key.
    KmsUnavailable,
    /// An answer that cannot be valid, or a request that SSM refuses as malformed.
    InvalidResponse,
    /// The `ParameterSource` does not exist.
    SourceNotFound,
    /// The parameters changed during the read, or the answer is older than what is known.
    SourceChanging,
    /// The limiter did not let a due read begin in time.
    BudgetExhausted,
    /// More than [`MAX_PARAMETERS`].
    TooManyParameters,
    /// The namespace has used up its share of the memory for values.
    MemoryShareExceeded,
    /// A drill is under way: nothing was requested.
    Drill,
}

impl ReadErrorKind {
    /// Returns the reason for conditions.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.into()
    }

    /// Whether SSM may hold the parameters but cannot return them: then the sets of peers are good enough.
    #[must_use]
    pub const fn is_outage(self) -> bool {
        !matches!(
            self,
            Self::AccessDenied | Self::TooManyParameters | Self::MemoryShareExceeded | Self::SourceNotFound
        )
    }

    /// Whether SSM, the way to it or the credentials failed: that is no fault of one mirror, and others that read there fail too.
    #[must_use]
    pub const fn is_shared(self) -> bool {
        self.is_unreachable() || matches!(self, Self::BudgetExhausted | Self::Drill)
    }

    /// Whether SSM cannot be read at all at the moment. These change into each other while one outage lasts.
    #[must_use]
    pub const fn is_unreachable(self) -> bool {
        matches!(
            self,
            Self::SourceUnavailable | Self::Throttled | Self::Timeout | Self::CredentialsUnavailable
        )
    }

    /// Whether the time since when reads failed with `before` is true for this failure too.
    #[must_use]
    pub fn continues(self, before: Self) -> bool {
        self == before || (self.is_unreachable() && before.is_unreachable())
    }

    /// Whether SSM answered with more than the operator accepts.
    #[must_use]
    pub const fn is_limit(self) -> bool {
        matches!(self, Self::TooManyParameters | Self::MemoryShareExceeded)
    }

    /// Whether an early retry cannot help: these wait for the interval (docs/design/architecture.md, "Reading SSM").
    #[must_use]
    pub const fn is_denial(self) -> bool {
        matches!(self, Self::AccessDenied | Self::TooManyParameters | Self::MemoryShareExceeded)
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    /// The closed list of docs/design/formats.md, and which reasons wait for the interval because an early retry cannot help.
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

    /// Requested reads go first, then mirrors that have nothing yet; mirrors whose reads fail go last.
    #[test]
    fn priorities_are_in_order() {
        use Priority::{Failing, FirstSync, Refresh, Requested};
        assert!([Requested, FirstSync, Refresh, Failing].is_sorted());
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
