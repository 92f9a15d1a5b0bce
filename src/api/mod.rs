//! The API group `parameter-mirror.dev/v1alpha1`: serde, schema and CEL, nothing else.
//!
//! Fields decode permissively where they can. [`crate::mirror::plan`] validates the spec, because admission may be
//! older, newer or switched off.

pub mod conditions;
mod crd;
mod parameter_mirror;
mod parameter_source;

pub use crd::crds;
pub use parameter_mirror::{
    DeletionPolicy, GuardSpec, KeyFormat, MirrorIssue, MirrorRedisStatus, MirrorSecretStatus,
    ParameterMirror, ParameterMirrorSpec, ParameterMirrorStatus, RedisEncryption, RedisTargetSpec,
    SecretTargetSpec, SecretType, SelectionSpec, SourceRef,
};
pub use parameter_source::{GrantSpec, ParameterSource, ParameterSourceSpec, ParameterSourceStatus};

/// The API group, and the prefix of every annotation of the product.
pub const GROUP: &str = "parameter-mirror.dev";
/// Annotation on a mirror: any new value requests a read now.
pub const SYNC_AT: &str = "parameter-mirror.dev/sync-at";
/// Annotation on a mirror: approves the withheld removals with this id, and no others.
pub const ACCEPT_SHRINK: &str = "parameter-mirror.dev/accept-shrink";
/// Annotation on a source: a time in RFC 3339, at most an hour ahead. Until then its mirrors behave as in an outage.
pub const DRILL_UNTIL: &str = "parameter-mirror.dev/drill-until";
/// Annotation on the key Secret: the key that signed when an administrator made the last backup of it.
pub const BACKED_UP: &str = "parameter-mirror.dev/backed-up";
/// Finalizer on a mirror, present only while `redis.deletionPolicy` is `Delete`.
pub const FINALIZER: &str = "parameter-mirror.dev/redis";
