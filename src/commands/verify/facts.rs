//! What `verify` has found, before it is judged. No value is looked at beyond its MAC.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use parameter_mirror_format::crypto::keys::{KeyError, KeyRing};
use parameter_mirror_format::hash::HashFound;
use parameter_mirror_redis::ConnectionError;
use parameter_mirror_redis::eviction::Eviction;

use crate::api::{ParameterMirror, ParameterSource};
use crate::kubernetes::client::ApiError;
use crate::mirror::plan::{Plan, PlanError};
use crate::targets::secret;

/// Everything that is judged.
pub struct Facts {
    /// When it was found.
    pub now: Timestamp,
    /// Where the operator's own objects should be.
    pub home: Home,
    /// How far the API server's clock is ahead of this machine's; `None` if it did not say.
    pub api_server_ahead: Option<SignedDuration>,
    /// The Lease that the leader holds, if there is one.
    pub lease: Result<Option<Leader>, ApiError>,
    /// The key Secret, if there is one.
    pub keys: Result<Option<Result<KeyRing, KeyError>>, ApiError>,
    /// The operator's Redis.
    pub redis: RedisFacts,
    /// The mirrors, by name.
    pub mirrors: Vec<MirrorFacts>,
}

/// Names of the operator's own objects.
#[derive(Clone, Debug)]
pub struct Home {
    /// Its namespace.
    pub namespace: String,
    /// Its key Secret.
    pub key_secret: String,
    /// Its Lease.
    pub lease: String,
}

/// What the Lease says.
#[derive(Clone, Debug)]
pub struct Leader {
    /// Who holds it; nobody after a leader has given it up.
    pub holder: Option<String>,
    /// When it was renewed last.
    pub renewed: Option<Timestamp>,
    /// How long it lasts without.
    pub lasts: Duration,
}

/// What is known of Redis.
pub enum RedisFacts {
    /// No URL was given.
    NotConfigured,
    /// What was given cannot be used.
    Unusable(String),
    /// It was asked.
    Asked {
        /// Whether this user may do all that the operator does, tried on a hash of its own.
        rights: Result<(), ConnectionError>,
        /// What happens when its memory is full.
        eviction: Result<Eviction, ConnectionError>,
        /// How far its clock is ahead of this machine's.
        ahead: Result<SignedDuration, ConnectionError>,
    },
}

impl RedisFacts {
    /// Whether hashes can be looked at.
    #[must_use]
    pub const fn is_configured(&self) -> bool {
        matches!(self, Self::Asked { .. })
    }
}

/// What is known of one mirror that was asked for.
pub enum MirrorFacts {
    /// There is none of this name.
    Absent(String),
    /// It does not decode.
    Unreadable(String, String),
    /// There is one.
    There(Box<Mirror>),
}

/// A mirror with everything around it.
pub struct Mirror {
    /// `namespace/name`.
    pub name: String,
    /// The object.
    pub object: ParameterMirror,
    /// Its source, if there is one of this name.
    pub source: Result<Option<ParameterSource>, ApiError>,
    /// What spec and grants come to; `None` if the source or the namespace could not be read.
    pub plan: Option<Result<Plan, PlanError>>,
    /// Target 1, if the spec has it.
    pub secret: Option<SecretFacts>,
    /// Target 2, if the spec has it.
    pub redis: Option<HashFacts>,
}

/// A Secret that a mirror should hold.
pub struct SecretFacts {
    /// Its name.
    pub name: String,
    /// What is there.
    pub observed: Result<secret::ObservedSecret, ApiError>,
}

/// A hash that a mirror should hold.
pub struct HashFacts {
    /// Its key.
    pub key: String,
    /// What is there; `None` if nobody could look: there is no Redis, or no key to check the MAC with.
    pub observed: Option<Result<HashFound, ConnectionError>>,
}

/// Whether a leader has renewed its lease in time.
#[must_use]
pub fn is_operator_alive(lease: &Result<Option<Leader>, ApiError>, now: Timestamp) -> bool {
    let Ok(Some(Leader { holder: Some(_), renewed: Some(renewed), lasts })) = lease else { return false };
    now.duration_since(*renewed) <= patience(*lasts)
}

/// A lease that has just run out may be taken over this very moment, and clocks differ a little.
fn patience(lasts: Duration) -> SignedDuration {
    SignedDuration::try_from(lasts * 2).unwrap_or(SignedDuration::MAX)
}

/// The keys, if they can be used.
#[must_use]
pub fn ring(facts: &Facts) -> Option<&KeyRing> {
    match &facts.keys {
        Ok(Some(Ok(ring))) => Some(ring),
        _ => None,
    }
}
