//! Which copy counts, and what each target needs (formats.md, "Copies: which one counts").

use parameter_mirror_format::content::Signed;
use parameter_mirror_format::verdict::{Found, Verdict};

use super::target::{TargetReason, TargetTrouble};

/// Where the last known good was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// This process has it.
    Memory,
    /// The Secret holds it.
    Secret,
    /// The Redis hash holds it.
    Redis,
}

impl Origin {
    /// As logs and events name it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Secret => "secret",
            Self::Redis => "redis",
        }
    }
}

/// The set that a process holds, and the last time SSM confirmed it.
#[derive(Clone, Copy, Debug)]
pub struct Remembered<'a> {
    /// The set.
    pub signed: &'a Signed,
    /// The read time that the last good read would stamp, Unix ms; 0 if nothing was read yet.
    pub confirmed_at: i64,
}

/// The newest of the verified copies; a target that is later than memory with other content wins over it.
///
/// Equal content is never older or newer, so the copy that is nearer (memory, Secret, Redis) is taken.
#[must_use]
pub fn newest<'a>(
    memory: Option<Remembered<'a>>,
    secret: Option<&'a Signed>,
    redis: Option<&'a Signed>,
) -> Option<(&'a Signed, Origin)> {
    let memory = memory.map(|memory| {
        (memory.signed.content.read_at.max(memory.confirmed_at), memory.signed, Origin::Memory)
    });
    let copy =
        |signed: Option<&'a Signed>, origin| signed.map(|signed| (signed.content.read_at, signed, origin));
    [memory, copy(secret, Origin::Secret), copy(redis, Origin::Redis)]
        .into_iter()
        .flatten()
        .reduce(|nearer, further| {
            let is_later = further.0 > nearer.0 && !further.1.content.same_as(&nearer.1.content);
            if is_later { further } else { nearer }
        })
        .map(|(_, signed, origin)| (signed, origin))
}

/// The verified copy in what was found, if it is one.
#[must_use]
pub fn verified(found: Option<&Found>) -> Option<&Signed> {
    match found {
        Some(Found::Ours(Verdict::Verified(signed))) => Some(signed),
        _ => None,
    }
}

/// Whether a target holds some complete set, ours to verify or not.
#[must_use]
pub const fn holds_a_set(found: &Found) -> bool {
    matches!(found, Found::Ours(Verdict::Verified(_) | Verdict::ForeignKey(_) | Verdict::NewerLayout(_)))
}

/// How sure it is that the wanted set is newer than whatever a target holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Authority {
    /// It comes from a complete read of SSM that began after the target was observed.
    FreshRead,
    /// It is the last known good.
    LastKnownGood,
}

impl Authority {
    /// The weaker of two.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::FreshRead, Self::FreshRead) => Self::FreshRead,
            _ => Self::LastKnownGood,
        }
    }
}

/// What one target needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Need {
    /// It holds the content already.
    Nothing,
    /// It is missing or broken: it gets the wanted set with the read time and MAC as they are.
    Restore(&'static str),
    /// It holds another verified set, which is older.
    Replace,
    /// It must not be written.
    Refused(TargetTrouble),
}

/// Compares what was found with what is wanted.
#[must_use]
pub fn need(found: &Found, wanted: &Signed, authority: Authority, conflict: TargetReason) -> Need {
    let fresh = authority == Authority::FreshRead;
    match found {
        Found::Missing => Need::Restore("missing"),
        Found::NotOurs { owner } => Need::Refused(TargetTrouble::conflict(conflict, owner.as_deref())),
        Found::Ours(Verdict::Verified(held)) if held.content.same_as(&wanted.content) => Need::Nothing,
        Found::Ours(Verdict::Verified(_)) => Need::Replace,
        Found::Ours(Verdict::Broken(_)) => Need::Restore("edited"),
        Found::Ours(Verdict::ForeignKey(_)) if fresh => Need::Replace,
        Found::Ours(Verdict::ForeignKey(key_id)) => Need::Refused(TargetTrouble::new(
            TargetReason::KeyMissing,
            format!(
                "it is signed with key {key_id}, which the key Secret does not hold; it stays as it is until SSM has been \
                 read whole or the key is restored"
            ),
        )),
        Found::Ours(Verdict::NewerLayout(format)) => Need::Refused(TargetTrouble::new(
            TargetReason::LayoutTooNew,
            format!("it has layout {format}, written by a newer operator; upgrade this one"),
        )),
    }
}
