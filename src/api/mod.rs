//! The API group `parameter-mirror.dev/v1alpha1`: serde, schema and CEL, nothing else.
//!
//! Fields decode permissively where they can; whether a spec makes sense is judged in
//! [`crate::mirror::plan`], because admission may be older, newer or switched off.

pub mod conditions;
mod crd;
mod parameter_mirror;
mod parameter_source;

pub use crd::crds;
pub use parameter_mirror::{
    DeletionPolicy, GuardSpec, KeyFormat, MirrorRedisStatus, MirrorSecretStatus, ParameterMirror,
    ParameterMirrorSpec, ParameterMirrorStatus, RedisEncryption, RedisTargetSpec, SecretTargetSpec,
    SecretType, SelectionSpec,
};
pub use parameter_source::{
    GrantSpec, NamespaceSelector, ParameterSource, ParameterSourceSpec, ParameterSourceStatus,
};

/// The API group; also the prefix of every annotation of the product.
pub const GROUP: &str = "parameter-mirror.dev";
/// Annotation on a mirror: any new value asks for a read now.
pub const SYNC_AT: &str = "parameter-mirror.dev/sync-at";
/// Annotation on a mirror: approves exactly the withheld removals with this id.
pub const ACCEPT_SHRINK: &str = "parameter-mirror.dev/accept-shrink";
/// Annotation of a source, a time in RFC 3339 of at most an hour ahead: until then its mirrors behave as in an outage.
pub const DRILL_UNTIL: &str = "parameter-mirror.dev/drill-until";
/// Finalizer on a mirror, only while `redis.deletionPolicy` is `Delete`.
pub const FINALIZER: &str = "parameter-mirror.dev/redis";
