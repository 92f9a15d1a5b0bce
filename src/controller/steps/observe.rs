//! Step 2: observe what the targets hold.
//!
//! A quiet reconcile costs no call to the API server (one for metadata, if Secrets are not watched) and one small call to Redis. An
//! unexpected version leads to a full read-back of that target. A read that is due leads to a full read-back of the hash.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use parameter_mirror_format::content::Signed;
use parameter_mirror_format::crypto::keys::KeyRing;
use parameter_mirror_format::verdict::{Found, Verdict};
use parameter_mirror_redis::ConnectionError;

use crate::api::ParameterMirror;
use crate::controller::context::{Context, RedisBackend};
use crate::controller::state::target_state::{Existence, RedisState, SecretState, Targets};
use crate::kubernetes::client::ApiError;
use crate::kubernetes::watches::CachedVersion;
use crate::mirror::copies::{self, Origin};
use crate::mirror::plan::{Plan, SecretPlan};
use crate::mirror::target::{TargetIssue, TargetReason};
use crate::targets::redis::copy::{self, Trace};
use crate::targets::secret::{self, ObservedSecret};

/// How thoroughly to observe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// Checks whether anything has changed.
    Cheap,
    /// Reads the whole hash, with values and MACs, because a cycle begins. The Secret is read if its version has changed.
    Full,
}

/// What a reconcile knows before it observes.
#[derive(Clone, Copy)]
pub struct KnownSet<'a> {
    /// The last known good set, if this process holds it.
    pub good: Option<&'a Signed>,
    /// Read time that the last good read of this process would stamp, Unix ms; 0 if there was no good read.
    pub confirmed_at: i64,
    /// Whether a read has ended whose answer this reconcile takes.
    pub has_answer: bool,
}

/// What the targets have shown beyond their own state.
#[derive(Default)]
pub struct Observation {
    /// The latest verified read time that a target holds, Unix ms; `None` if no target holds a verified copy.
    pub read_at: Option<i64>,
    /// A set in a target that is newer than the known one.
    pub adopted: Option<Adopted>,
    /// Somebody else wrote the newer set while this process held another one. A read of SSM shows which one is current.
    pub read_again: bool,
}

/// A set that becomes the last known good because a target holds it (docs/design/formats.md, "Copies", rules 2 and 3).
pub struct Adopted {
    /// The set.
    pub set: Signed,
    /// When this set was last known to be current.
    pub known_good_at: Timestamp,
}

/// Observes both targets concurrently, and finds a newer set in them.
pub async fn observe(
    mirror: &ParameterMirror,
    plan: &Plan,
    depth: Depth,
    known: KnownSet<'_>,
    targets: &mut Targets,
    ctx: &Context,
) -> Observation {
    let keys = ctx.keys();
    targets.reset_if_retargeted(plan, keys.version);
    if let Some(secret) = &plan.secret {
        assume_missing(mirror, plan, secret, (depth, known.has_answer), &mut targets.secret, ctx);
    }
    tokio::join!(
        observe_secret(plan, &mut targets.secret, keys.ring.as_deref(), ctx),
        observe_redis(plan, &mut targets.redis, depth, known.has_answer, keys.ring.as_deref(), ctx)
    );
    adopt(known, targets, ctx)
}

/// Finds a verified copy that is newer than the known set.
fn adopt(known: KnownSet<'_>, targets: &mut Targets, ctx: &Context) -> Observation {
    let [secret, redis] = targets.found().map(copies::verified);
    let read_at = [secret, redis].into_iter().flatten().map(|copy| copy.content.read_at).max();
    let own = known.good.map(|signed| copies::MemoryCopy { signed, confirmed_at: known.confirmed_at });
    let Some((newest, origin)) =
        copies::newest(own, secret, redis).filter(|(_, origin)| *origin != Origin::Memory)
    else {
        return Observation { read_at, ..Observation::default() };
    };
    let set = newest.clone();
    let checked = targets.redis.observed.as_ref().and_then(|observed| observed.checked_at).unwrap_or(0);
    let known_good_at =
        Timestamp::from_millisecond(set.content.read_at.max(checked)).unwrap_or(Timestamp::UNIX_EPOCH);
    // A time ahead of the clock counts as now, because an age is never negative (docs/design/formats.md: never below 0).
    let known_good_at = known_good_at.min(ctx.clock.now());
    let read_again = known.good.is_some() && record_external_write(origin, targets, ctx.clock.uptime());
    Observation { read_at, adopted: Some(Adopted { set, known_good_at }), read_again }
}

/// Records that somebody else wrote a newer set (rule 3), and returns whether SSM is read at once. The write counts towards the
/// limit on heals: two operators that read different values would otherwise keep adopting each other's set.
fn record_external_write(origin: Origin, targets: &mut Targets, now: Duration) -> bool {
    let heals = match origin {
        Origin::Redis => &mut targets.redis.heals,
        Origin::Memory | Origin::Secret => &mut targets.secret.heals,
    };
    heals.record(now);
    let is_contested = heals.is_contested(now);
    if !is_contested {
        tracing::info!(
            from = origin.as_str(),
            "a target holds a newer set than this process; it is adopted, and SSM is read"
        );
    }
    !is_contested
}

/// Assumes that the Secret of a new mirror does not exist while its first read is under way: the watch shows none, and the create
/// that follows finds out. This saves a third of what a new mirror costs the API server. The assumption ends when the read leads to
/// no create, or when a reconcile comes before the read has ended. Then the operator asks for the Secret as for any other.
fn assume_missing(
    mirror: &ParameterMirror,
    plan: &Plan,
    secret: &SecretPlan,
    (depth, has_answer): (Depth, bool),
    state: &mut SecretState,
    ctx: &Context,
) {
    let never_written = mirror.status.as_ref().is_none_or(|status| status.secret.is_none());
    match state.existence {
        Existence::Unknown
            if depth == Depth::Full
                && never_written
                && state.observed.is_none()
                && ctx.watches.secret(&plan.namespace, &secret.name) == CachedVersion::Known(None) =>
        {
            state.existence = Existence::Assumed;
            state.observed = Some(ObservedSecret::missing());
        }
        Existence::Assumed if !has_answer => state.doubt_existence(),
        Existence::Unknown | Existence::Assumed | Existence::Asked => {}
    }
}

/// Returns the resource version of the mirror's Secret: from the watch, or from the API server if Secrets are not watched.
pub async fn secret_version(
    plan: &Plan,
    secret: &SecretPlan,
    ctx: &Context,
) -> Result<Option<String>, ApiError> {
    match ctx.watches.secret(&plan.namespace, &secret.name) {
        CachedVersion::Known(watched) => Ok(watched),
        CachedVersion::NotWatched => ctx.secrets.version(&plan.namespace, &secret.name).await,
    }
}

async fn observe_secret(plan: &Plan, state: &mut SecretState, keys: Option<&KeyRing>, ctx: &Context) {
    let Some(desired) = &plan.secret else { return };
    // Without an observation, the Secret is read in full in any case.
    let version = if state.observed.is_some() { secret_version(plan, desired, ctx).await } else { Ok(None) };
    match version {
        Ok(version) if !state.differs_from_observed(version.as_deref(), ctx.clock.uptime()) => return,
        Ok(_) => {}
        Err(problem) => {
            // The Secret may change unseen, so a read under way must not count as newer than it.
            state.external_changes += 1;
            state.observed = None;
            state.issue = Some(secret_issue("read", &problem));
            return;
        }
    }
    match ctx.secrets.get(&plan.namespace, &desired.name).await {
        Ok(object) => {
            state.existence = Existence::Asked;
            let mut observed = secret::observe(object, &plan.owner, keys);
            if let Some(found) = &mut observed.found {
                share(found, ctx);
            }
            if state
                .observed
                .as_ref()
                .is_some_and(|before| before.resource_version() != observed.resource_version())
            {
                state.external_changes += 1;
            }
            state.before_write = None;
            state.issue = None;
            state.observed = Some(observed);
        }
        Err(problem) => state.issue = Some(secret_issue("read", &problem)),
    }
}

async fn observe_redis(
    plan: &Plan,
    state: &mut RedisState,
    depth: Depth,
    answered: bool,
    keys: Option<&KeyRing>,
    ctx: &Context,
) {
    let Some(desired) = &plan.redis else { return };
    let store = match &ctx.redis {
        RedisBackend::Configured(store) => store.as_ref(),
        RedisBackend::NotConfigured(why) => {
            state.issue = Some(TargetIssue::new(TargetReason::RedisNotConfigured, why.clone()));
            return;
        }
    };
    let Some(keys) = keys else { return };
    if depth == Depth::Cheap
        && let Some(known) = &state.observed
    {
        if answered && (known.found == Found::Missing || copies::verified(Some(&known.found)).is_some()) {
            // The answer leads to a heartbeat or to new content, and the script of either compares what this check would compare.
            return;
        }
        match copy::is_unchanged(store, &desired.key, &Trace::of(known)).await {
            Ok(true) => return,
            Ok(false) => {}
            Err(error) => return invalidate(state, &error),
        }
    }
    match copy::observe(store, &desired.key, &plan.owner, keys, state.observed.as_ref()).await {
        Ok(mut observed) => {
            share(&mut observed.found, ctx);
            let before = state.observed.as_ref();
            if before.is_some_and(|before| before.fence != observed.fence || before.found != observed.found) {
                state.external_changes += 1;
            }
            state.issue = None;
            state.observed = Some(observed);
        }
        Err(error) => invalidate(state, &error),
    }
}

/// Shares equal values, so that a value that several copies hold is in memory once.
fn share(found: &mut Found, ctx: &Context) {
    if let Found::Ours(Verdict::Verified(signed)) = found
        // Content that has another holder was shared when it was first found.
        && let Some(content) = Arc::get_mut(&mut signed.content)
    {
        for entry in content.entries.values_mut() {
            ctx.values.share(&mut entry.value);
        }
    }
}

/// Invalidates the observation. The hash is read again before the next write.
fn invalidate(state: &mut RedisState, error: &ConnectionError) {
    state.observed = None;
    state.issue = Some(redis_issue(error));
}

/// Describes a failed call to the API server as an issue of the Secret. `verb` completes "it cannot be".
#[must_use]
pub fn secret_issue(verb: &str, problem: &ApiError) -> TargetIssue {
    let hint = match problem {
        ApiError::Refused { code: 403, .. } => {
            " Check the namespace's resource quota and the operator's role binding."
        }
        ApiError::Refused { code: 422, .. } => " Check that the Secret is not immutable.",
        _ => "",
    };
    TargetIssue::new(TargetReason::SecretWriteFailed, format!("it cannot be {verb}: {problem}.{hint}"))
}

/// Describes a failed call to Redis as an issue of the hash.
#[must_use]
pub fn redis_issue(error: &ConnectionError) -> TargetIssue {
    let (reason, hint) = match error {
        ConnectionError::OutOfMemory => (TargetReason::RedisOutOfMemory, "Raise maxmemory or remove keys."),
        ConnectionError::SignInRefused(_) => {
            (TargetReason::RedisDenied, "It is tried again every few seconds.")
        }
        error if error.is_denied() => (TargetReason::RedisDenied, "Check the ACL user and its password."),
        ConnectionError::WrongType => (TargetReason::RedisConflict, "The key exists and is no hash."),
        ConnectionError::Settings(_) => {
            (TargetReason::RedisNotConfigured, "Correct the operator's Redis configuration.")
        }
        ConnectionError::NothingToSignInWith(_) => (
            TargetReason::RedisUnavailable,
            "Give the operator an AWS identity again; it is filled as soon as there is one.",
        ),
        _ => (TargetReason::RedisUnavailable, "It is filled as soon as it answers."),
    };
    TargetIssue::new(reason, format!("{error}. {hint}"))
}
