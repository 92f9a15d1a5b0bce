//! Step 2: what do the targets hold?
//!
//! A quiet pass costs no call to the API server (one for metadata, if Secrets are not watched) and one small one to Redis.
//! Only a surprise, or a cycle, leads to a full read-back.

use std::sync::Arc;
use std::time::Duration;

use parameter_mirror_format::content::Signed;
use parameter_mirror_format::crypto::keys::KeyRing;
use parameter_mirror_format::verdict::{Found, Verdict};
use parameter_mirror_redis::ConnectionError;

use crate::api::ParameterMirror;
use crate::controller::context::{Context, RedisBackend};
use crate::controller::state::mirror_state::{Existence, MirrorState, RedisState, SecretState};
use crate::kubernetes::client::ApiError;
use crate::kubernetes::watches::CachedVersion;
use crate::mirror::copies;
use crate::mirror::plan::{Plan, SecretPlan};
use crate::mirror::target::{TargetIssue, TargetReason};
use crate::targets::redis::copy::{self, Trace};
use crate::targets::secret::{self, ObservedSecret};

/// How thoroughly to look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// Has anything changed?
    Cheap,
    /// Everything, with values and MACs: a cycle begins.
    Full,
}

/// Brings the memory of both targets up to date. Neither waits for the other.
pub async fn observe(
    mirror: &ParameterMirror,
    plan: &Plan,
    state: &mut MirrorState,
    depth: Depth,
    ctx: &Context,
) {
    let keys = ctx.keys();
    state.evicted = None;
    state.reset_if_retargeted(plan, keys.version);
    if let Some(secret) = &plan.secret {
        assume_missing(mirror, plan, secret, depth, state, ctx);
    }
    let answered = state.in_flight.as_ref().is_some_and(|read| read.has_ended());
    let MirrorState { secret, redis, .. } = state;
    tokio::join!(
        observe_secret(plan, secret, keys.ring.as_deref(), ctx),
        observe_redis(plan, redis, depth, answered, keys.ring.as_deref(), ctx)
    );
    adopt(plan, state, ctx);
    if let Some(good) = &state.good {
        let secret = state.secret.observed.as_mut().and_then(|observed| observed.found.as_mut());
        let redis = state.redis.observed.as_mut().map(|observed| &mut observed.found);
        secret.into_iter().chain(redis).for_each(|found| share_content(found, good));
    }
}

/// Most of the time all copies are the same.
fn share_content(found: &mut Found, good: &Signed) {
    if let Found::Ours(Verdict::Verified(copy)) = found
        && copy.content == good.content
    {
        copy.content = Arc::clone(&good.content);
    }
}

/// The newest verified copy becomes the last known good (docs/design/formats.md, "Copies", rules 2 and 3).
fn adopt(plan: &Plan, state: &mut MirrorState, ctx: &Context) {
    let secret =
        copies::verified(state.secret.observed.as_ref().and_then(|observed| observed.found.as_ref()))
            .cloned();
    let redis = copies::verified(state.redis.observed.as_ref().map(|observed| &observed.found)).cloned();
    for copy in [&secret, &redis].into_iter().flatten() {
        state.advance_read_at(copy.content.read_at);
    }
    let remembered =
        state.good.as_ref().map(|signed| copies::MemoryCopy { signed, confirmed_at: state.confirmed_at });
    let Some((newest, origin)) = copies::newest(remembered, secret.as_ref(), redis.as_ref()) else { return };
    if origin == copies::Origin::Memory {
        return;
    }
    let newest = newest.clone();
    if state.good.is_some() {
        record_external_write(plan, origin, state, ctx.clock.uptime());
    }
    let checked = state.redis.observed.as_ref().and_then(|observed| observed.checked_at).unwrap_or(0);
    let known_good_at = newest.content.read_at.max(checked);
    let known_good_at =
        jiff::Timestamp::from_millisecond(known_good_at).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    // A stamp ahead of the clock has no age (docs/design/formats.md: never below 0).
    let known_good_at = known_good_at.min(ctx.clock.now());
    state.last_sync = state.last_sync.max(Some(known_good_at));
    state.good = Some(newest);
}

/// Somebody else wrote a newer set (rule 3): SSM says who is right. Two operators that read different things would
/// chase each other like this, so it counts towards the limit on heals.
fn record_external_write(plan: &Plan, origin: copies::Origin, state: &mut MirrorState, now: Duration) {
    let heals = match origin {
        copies::Origin::Redis => &mut state.redis.heals,
        copies::Origin::Memory | copies::Origin::Secret => &mut state.secret.heals,
    };
    heals.record(now);
    let contested = heals.is_contested(now);
    state.source.due_now |= !contested;
    if !contested {
        let (mirror, cycle) = (format!("{}/{}", plan.namespace, plan.mirror), state.source.cycle);
        tracing::info!(target: "parameter_mirror", mirror, cycle, from = origin.as_str(), "a target holds a newer set than memory; it is taken over and SSM is read");
    }
}

/// A new mirror's Secret is not asked for while its first read is under way: the watch shows none, and the create that follows
/// finds out. That is a third of what a new mirror costs the API server. Whatever else comes of the read, and a read that
/// takes its time, end the assumption: then the Secret is asked for like any other.
fn assume_missing(
    mirror: &ParameterMirror,
    plan: &Plan,
    secret: &SecretPlan,
    depth: Depth,
    state: &mut MirrorState,
    ctx: &Context,
) {
    let answered = state.in_flight.as_ref().is_some_and(|read| read.has_ended());
    let never_written = mirror.status.as_ref().is_none_or(|status| status.secret.is_none());
    let state = &mut state.secret;
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
        Existence::Assumed if !answered => state.doubt_existence(),
        Existence::Unknown | Existence::Assumed | Existence::Asked => {}
    }
}

/// The version of the mirror's Secret: as the watch shows it, or as the API server has it if there is no watch.
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
    // Without an observation it is read whole in any case.
    let version = if state.observed.is_some() { secret_version(plan, desired, ctx).await } else { Ok(None) };
    match version {
        Ok(version) if !state.differs_from_observed(version.as_deref(), ctx.clock.uptime()) => return,
        Ok(_) => {}
        Err(problem) => {
            // It may change unseen: a read under way does not know what it meets.
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
            // The answer leads to a heartbeat or to new content, and the script of either compares what this would compare.
            return;
        }
        match copy::is_unchanged(store, &desired.key, &Trace::of(known)).await {
            Ok(true) => return,
            Ok(false) => {}
            Err(error) => return invalidate(state, &error),
        }
    }
    match copy::look(store, &desired.key, &plan.owner, keys, state.observed.as_ref()).await {
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

/// A value that several copies hold is held in memory once.
fn share(found: &mut Found, ctx: &Context) {
    if let Found::Ours(Verdict::Verified(signed)) = found
        // One that somebody holds already was shared when it was found first.
        && let Some(content) = Arc::get_mut(&mut signed.content)
    {
        for entry in content.entries.values_mut() {
            ctx.values.share(&mut entry.value);
        }
    }
}

/// What was known of the hash is not known any more; nothing is written before it has been seen again.
fn invalidate(state: &mut RedisState, error: &ConnectionError) {
    state.observed = None;
    state.issue = Some(redis_issue(error));
}

/// A failed call to the API server as a trouble of the Secret.
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

/// A failed call to Redis as a trouble of the hash.
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
