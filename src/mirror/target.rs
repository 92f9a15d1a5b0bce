//! The issues of a target, as values.

/// The kinds of targets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, strum::Display, strum::IntoStaticStr)]
pub enum TargetKind {
    /// A Kubernetes Secret.
    Secret,
    /// A hash in Redis.
    Redis,
}

impl TargetKind {
    /// Returns the word for logs, events and messages.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.into()
    }

    /// Returns the word for labels of metrics.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Secret => "secret",
            Self::Redis => "redis",
        }
    }
}

/// Reasons that concern a target (docs/design/formats.md, "Reasons").
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, strum::Display, strum::IntoStaticStr)]
pub enum TargetReason {
    /// The keys of the operator are lost; nothing can be verified or signed.
    KeyMissing,
    /// The Secret belongs to another owner.
    SecretConflict,
    /// A parameter has no key, or two have the same key.
    SecretKeyInvalid,
    /// More than 1 MiB of data or 256 KiB of annotations.
    SecretTooLarge,
    /// The API server did not accept the write.
    SecretWriteFailed,
    /// The operator has no Redis, or its configuration is unusable.
    RedisNotConfigured,
    /// The hash belongs to another owner, or the key is not a hash.
    RedisConflict,
    /// Programs cannot be started with the set, so the reader would refuse it.
    RedisNotUsable,
    /// Redis does not answer.
    RedisUnavailable,
    /// Redis is out of memory.
    RedisOutOfMemory,
    /// Redis denies the operator's user a command.
    RedisDenied,
    /// A newer operator wrote it.
    LayoutTooNew,
    /// Another writer keeps changing it.
    TargetContested,
    /// The set to write was read under a grant that no longer exists.
    NotGranted,
    /// The target was never written, and the source of the set to write does not exist.
    SourceNotFound,
}

impl TargetReason {
    /// Returns the reason for conditions.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.into()
    }

    /// Whether only a person can resolve it; such a mirror is Stalled.
    #[must_use]
    pub const fn is_conflict(self) -> bool {
        matches!(self, Self::SecretConflict | Self::RedisConflict)
    }
}

/// Whether a target that belongs to somebody else may be handed over to this mirror.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Consent {
    /// Its owner may consent.
    Possible,
    /// The mirror that owns it exists and still wants it: a takeover would destroy what that mirror serves.
    OwnerAlive,
    /// It belongs to a controller, or it cannot become what the spec asks for.
    Impossible,
}

/// A target that belongs to somebody else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// The reason for conditions.
    pub reason: TargetReason,
    /// Whether its owner may hand it over.
    pub consent: Consent,
}

/// Why a target is not as it should be. It never carries a value or a server's error text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetIssue {
    /// The class.
    pub reason: TargetReason,
    /// One sentence for people: what is wrong and what to do.
    pub detail: String,
    /// Whether the owner of a target in conflict may hand it over; `None` if that is not the issue.
    pub consent: Option<Consent>,
}

impl TargetIssue {
    /// An issue with its sentence.
    #[must_use]
    pub fn new(reason: TargetReason, detail: impl Into<String>) -> Self {
        Self { reason, detail: detail.into(), consent: None }
    }

    /// The target exists and belongs to another owner, who is not named: a reader of the mirror may not be allowed to
    /// read the Secret, let alone Redis.
    #[must_use]
    pub fn conflict(conflict: Conflict) -> Self {
        let Conflict { reason, consent } = conflict;
        let detail = "it exists and is not of this mirror. It was not touched.";
        Self { consent: Some(consent), ..Self::new(reason, detail) }
    }
}
