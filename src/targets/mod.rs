//! The targets: what is found there, and how it is written.

pub mod redis;
pub mod secret;
pub(crate) mod target;

use self::target::{Kind, Recorded};
use crate::api::ParameterMirrorStatus;
use crate::mirror::target::TargetKind;

/// Every kind of target, in the order in which targets are written. A new kind gets a folder here and a line in this list.
pub(crate) static KINDS: [&dyn Kind; 2] = [&secret::SecretKind, &redis::RedisKind];

/// Returns the target of a kind that a status names.
pub(crate) fn recorded(kind: TargetKind, status: &ParameterMirrorStatus) -> Option<Recorded> {
    KINDS.iter().find(|one| one.kind() == kind)?.recorded(status)
}
