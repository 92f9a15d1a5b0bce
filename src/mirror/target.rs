//! What can be wrong with a target, as a value.

/// Reasons that speak of a target (docs/design/formats.md, "Reasons").
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, strum::Display, strum::IntoStaticStr)]
pub enum TargetReason {
    /// The keys of the operator are lost; nothing can be verified or signed.
    KeyMissing,
    /// The Secret belongs to somebody else.
    SecretConflict,
    /// A parameter has no key, or two have the same.
    SecretKeyInvalid,
    /// More than 1 MiB of data or 256 KiB of annotations.
    SecretTooLarge,
    /// The API server did not take it.
    SecretWriteFailed,
    /// The operator has no Redis, or an unusable configuration of it.
    RedisNotConfigured,
    /// The hash belongs to somebody else, or the key is no hash.
    RedisConflict,
    /// Redis does not answer.
    RedisUnavailable,
    /// Redis is out of memory.
    RedisOutOfMemory,
    /// Redis refuses the operator's user.
    RedisDenied,
    /// A newer operator wrote it.
    LayoutTooNew,
    /// Somebody else keeps changing it.
    TargetContested,
    /// What there is to write was read under a grant that is gone.
    NotGranted,
    /// It was never written, and the source of what there is to write does not exist.
    SourceNotFound,
}

impl TargetReason {
    /// The reason as conditions carry it.
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

/// Why a target is not what it should be. Never carries a value or a server's error text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetIssue {
    /// The class.
    pub reason: TargetReason,
    /// One sentence for people: what is wrong and what to do.
    pub detail: String,
}

impl TargetIssue {
    /// A trouble with its sentence.
    #[must_use]
    pub fn new(reason: TargetReason, detail: impl Into<String>) -> Self {
        Self { reason, detail: detail.into() }
    }

    /// The target is there and belongs to somebody else. Whose it is stays unsaid: a reader of the mirror may not be allowed to read
    /// the Secret, let alone Redis.
    #[must_use]
    pub fn conflict(reason: TargetReason) -> Self {
        Self::new(reason, "it exists and is not of this mirror. It was not touched.")
    }
}
