//! The observations of `verify`, before they are judged. No value is inspected beyond its MAC.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use parameter_mirror_format::crypto::keys::{KeyError, KeyRing};
use parameter_mirror_redis::ConnectionError;
use parameter_mirror_redis::eviction::Eviction;

use crate::api::{ParameterMirror, ParameterSource};
use crate::kubernetes::client::ApiError;
use crate::mirror::plan::{Plan, PlanError};
use crate::mirror::snapshot::ReadError;
use crate::targets::target::Inspection;

/// Everything that `verify` judges.
pub struct Facts {
    /// When the facts were collected.
    pub now: Timestamp,
    /// Where the operator's own objects should be.
    pub home: Home,
    /// How far the API server's clock is ahead of this machine's; `None` if its response had no date.
    pub api_server_ahead: Option<SignedDuration>,
    /// The Lease that the leader holds, if it exists.
    pub lease: Result<Option<Leader>, ApiError>,
    /// The key Secret, if it exists.
    pub keys: Result<Option<Result<KeyRing, KeyError>>, ApiError>,
    /// The key that the last recorded backup of the key Secret signs with.
    pub backed_up: Option<String>,
    /// State of the operator's Redis.
    pub redis: RedisFacts,
    /// The mirrors, by name.
    pub mirrors: Vec<MirrorFacts>,
    /// Secrets that no mirror writes any more, as `namespace/name`.
    pub orphans: Vec<String>,
    /// The Secrets that the operator's own pods use.
    pub used_by_the_operator: BTreeSet<String>,
}

/// Names of the operator's own objects.
#[derive(Clone, Debug)]
pub struct Home {
    /// Namespace of the operator.
    pub namespace: String,
    /// Name of its key Secret.
    pub key_secret: String,
    /// Name of its Lease.
    pub lease: String,
}

/// The content of the Lease.
#[derive(Clone, Debug)]
pub struct Leader {
    /// The holder; `None` after a leader has released the lease.
    pub holder: Option<String>,
    /// When the holder last renewed it.
    pub renewed: Option<Timestamp>,
    /// How long the lease lasts without a renewal.
    pub lasts: Duration,
}

/// The state of Redis, as far as it is known.
pub enum RedisFacts {
    /// No URL was given.
    NotConfigured,
    /// The configuration cannot be used.
    Unusable(String),
    /// Redis was asked.
    Asked {
        /// Whether this user may do everything that the operator does, tried on a scratch hash.
        permissions: Result<(), ConnectionError>,
        /// What Redis evicts when its memory is full.
        eviction: Result<Eviction, ConnectionError>,
        /// How far its clock is ahead of this machine's.
        ahead: Result<SignedDuration, ConnectionError>,
    },
}

impl RedisFacts {
    /// Whether hashes can be observed.
    #[must_use]
    pub const fn is_configured(&self) -> bool {
        matches!(self, Self::Asked { .. })
    }
}

/// What is known of one requested mirror.
pub enum MirrorFacts {
    /// No mirror has this name.
    Absent(String),
    /// The mirror does not decode: its name, and the error.
    Unreadable(String, String),
    /// The mirror exists.
    There(Box<FoundMirror>),
}

/// A mirror with everything that concerns it.
pub struct FoundMirror {
    /// `namespace/name`.
    pub name: String,
    /// The object.
    pub object: ParameterMirror,
    /// Its source, if it exists.
    pub source: Result<Option<ParameterSource>, ApiError>,
    /// The plan for spec and grants; `None` if the source or the labels of the namespace could not be read.
    pub plan: Option<Result<Plan, PlanError>>,
    /// The targets that the spec has.
    pub targets: Vec<Inspection>,
    /// How many parameters this process read from SSM; `None` if it was not asked to, or had no source to read.
    pub dry_read: Option<Result<usize, ReadError>>,
}

/// Whether the leader has renewed its lease in time.
#[must_use]
pub fn is_operator_alive(lease: &Result<Option<Leader>, ApiError>, now: Timestamp) -> bool {
    let Ok(Some(Leader { holder: Some(_), renewed: Some(renewed), lasts })) = lease else { return false };
    now.duration_since(*renewed) <= patience(*lasts)
}

/// A lease that has just expired may be acquired at this very moment, and clocks differ a little.
fn patience(lasts: Duration) -> SignedDuration {
    SignedDuration::try_from(lasts * 2).unwrap_or(SignedDuration::MAX)
}

/// Returns the keys, if they can be used.
#[must_use]
pub fn ring(facts: &Facts) -> Option<&KeyRing> {
    match &facts.keys {
        Ok(Some(Ok(ring))) => Some(ring),
        _ => None,
    }
}
