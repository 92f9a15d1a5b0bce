//! Step 2: what do the targets hold?
//!
//! A quiet pass costs no call to the API server (one for metadata, if Secrets are not watched) and one small one to Redis.
//! Only a surprise, or a cycle, leads to a full read-back.

use std::sync::Arc;
use std::time::Duration;

use parameter_mirror_format::connection::LinkError;
use parameter_mirror_format::content::Signed;
use parameter_mirror_format::keys::KeyRing;
use parameter_mirror_format::verdict::{Found, Verdict};

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
    memory: &mut MirrorState,
    look: Depth,
    ctx: &Context,
) {
    let keys = ctx.keys();
    memory.put_down = None;
    memory.turn_to(plan, keys.version);
    if let Some(secret) = &plan.secret {
        assume_missing(mirror, plan, secret, look, memory, ctx);
    }
    let answered = memory.in_flight.as_ref().is_some_and(|read| read.has_ended());
    let MirrorState { secret, redis, .. } = memory;
    tokio::join!(
        observe_secret(plan, secret, keys.ring.as_deref(), ctx),
        observe_redis(plan, redis, look, answered, keys.ring.as_deref(), ctx)
    );
    adopt(plan, memory, ctx);
    if let Some(good) = &memory.good {
        let secret = memory.secret.observed.as_mut().and_then(|observed| observed.found.as_mut());
        let redis = memory.redis.observed.as_mut().map(|observed| &mut observed.found);
        secret.into_iter().chain(redis).for_each(|found| hold_once(found, good));
    }
}

/// Most of the time all copies are the same.
fn hold_once(found: &mut Found, good: &Signed) {
    if let Found::Ours(Verdict::Verified(copy)) = found
        && copy.content == good.content
    {
        copy.content = Arc::clone(&good.content);
    }
}

/// The newest verified copy becomes the last known good (docs/design/formats.md, "Copies", rules 2 and 3).
fn adopt(plan: &Plan, memory: &mut MirrorState, ctx: &Context) {
    let secret =
        copies::verified(memory.secret.observed.as_ref().and_then(|observed| observed.found.as_ref()))
            .cloned();
    let redis = copies::verified(memory.redis.observed.as_ref().map(|observed| &observed.found)).cloned();
    for copy in [&secret, &redis].into_iter().flatten() {
        memory.saw_read_at(copy.content.read_at);
    }
    let remembered =
        memory.good.as_ref().map(|signed| copies::MemoryCopy { signed, confirmed_at: memory.confirmed_at });
    let Some((newest, origin)) = copies::newest(remembered, secret.as_ref(), redis.as_ref()) else { return };
    if origin == copies::Origin::Memory {
        return;
    }
    let newest = newest.clone();
    if memory.good.is_some() {
        note_other_writer(plan, origin, memory, ctx.clock.uptime());
    }
    let checked = memory.redis.observed.as_ref().and_then(|observed| observed.checked_at).unwrap_or(0);
    let known_good_at = newest.content.read_at.max(checked);
    let known_good_at =
        jiff::Timestamp::from_millisecond(known_good_at).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    // A stamp ahead of the clock has no age (docs/design/formats.md: never below 0).
    let known_good_at = known_good_at.min(ctx.clock.now());
    memory.last_sync = memory.last_sync.max(Some(known_good_at));
    memory.good = Some(newest);
}

/// Somebody else wrote a newer set (rule 3): SSM says who is right. Two operators that read different things would
/// chase each other like this, so it counts towards the limit on heals.
fn note_other_writer(plan: &Plan, origin: copies::Origin, memory: &mut MirrorState, now: Duration) {
    let heals = match origin {
        copies::Origin::Redis => &mut memory.redis.heals,
        copies::Origin::Memory | copies::Origin::Secret => &mut memory.secret.heals,
    };
    heals.record(now);
    let contested = heals.is_contested(now);
    memory.source.due_now |= !contested;
    if !contested {
        let (mirror, cycle) = (format!("{}/{}", plan.namespace, plan.mirror), memory.source.cycle);
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
    look: Depth,
    memory: &mut MirrorState,
    ctx: &Context,
) {
    let answered = memory.in_flight.as_ref().is_some_and(|read| read.has_ended());
    let never_written = mirror.status.as_ref().is_none_or(|status| status.secret.is_none());
    let memory = &mut memory.secret;
    match memory.existence {
        Existence::Unknown
            if look == Depth::Full
                && never_written
                && memory.observed.is_none()
                && ctx.watches.secret(&plan.namespace, &secret.name) == CachedVersion::Known(None) =>
        {
            memory.existence = Existence::Assumed;
            memory.observed = Some(ObservedSecret::missing());
        }
        Existence::Assumed if !answered => memory.doubt_existence(),
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

async fn observe_secret(plan: &Plan, memory: &mut SecretState, keys: Option<&KeyRing>, ctx: &Context) {
    let Some(wanted) = &plan.secret else { return };
    // Without an observation it is read whole in any case.
    let version = if memory.observed.is_some() { secret_version(plan, wanted, ctx).await } else { Ok(None) };
    match version {
        Ok(version) if !memory.is_surprising(version.as_deref(), ctx.clock.uptime()) => return,
        Ok(_) => {}
        Err(problem) => {
            // It may change unseen: a read under way does not know what it meets.
            memory.foreign_changes += 1;
            memory.observed = None;
            memory.trouble = Some(write_failed("read", &problem));
            return;
        }
    }
    match ctx.secrets.get(&plan.namespace, &wanted.name).await {
        Ok(object) => {
            memory.existence = Existence::Asked;
            let mut observed = secret::observe(object, &plan.owner, keys);
            if let Some(found) = &mut observed.found {
                share(found, ctx);
            }
            if memory
                .observed
                .as_ref()
                .is_some_and(|before| before.resource_version() != observed.resource_version())
            {
                memory.foreign_changes += 1;
            }
            memory.before_write = None;
            memory.trouble = None;
            memory.observed = Some(observed);
        }
        Err(problem) => memory.trouble = Some(write_failed("read", &problem)),
    }
}

async fn observe_redis(
    plan: &Plan,
    memory: &mut RedisState,
    look: Depth,
    answered: bool,
    keys: Option<&KeyRing>,
    ctx: &Context,
) {
    let Some(wanted) = &plan.redis else { return };
    let store = match &ctx.redis {
        RedisBackend::Configured(store) => store.as_ref(),
        RedisBackend::NotConfigured(why) => {
            memory.trouble = Some(TargetIssue::new(TargetReason::RedisNotConfigured, why.clone()));
            return;
        }
    };
    let Some(keys) = keys else { return };
    if look == Depth::Cheap
        && let Some(known) = &memory.observed
    {
        if answered && (known.found == Found::Missing || copies::verified(Some(&known.found)).is_some()) {
            // The answer leads to a heartbeat or to new content, and the script of either compares what this would compare.
            return;
        }
        match copy::is_untouched(store, &wanted.key, &Trace::of(known)).await {
            Ok(true) => return,
            Ok(false) => {}
            Err(error) => return lose_sight(memory, &error),
        }
    }
    match copy::look(store, &wanted.key, &plan.owner, keys, memory.observed.as_ref()).await {
        Ok(mut observed) => {
            share(&mut observed.found, ctx);
            let before = memory.observed.as_ref();
            if before.is_some_and(|before| before.fence != observed.fence || before.found != observed.found) {
                memory.foreign_changes += 1;
            }
            memory.trouble = None;
            memory.observed = Some(observed);
        }
        Err(error) => lose_sight(memory, &error),
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
fn lose_sight(memory: &mut RedisState, error: &LinkError) {
    memory.observed = None;
    memory.trouble = Some(redis_trouble(error));
}

/// A failed call to the API server as a trouble of the Secret.
#[must_use]
pub fn write_failed(verb: &str, problem: &ApiError) -> TargetIssue {
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
pub fn redis_trouble(error: &LinkError) -> TargetIssue {
    let (reason, hint) = match error {
        LinkError::OutOfMemory => (TargetReason::RedisOutOfMemory, "Raise maxmemory or remove keys."),
        LinkError::SignInRefused(_) => (TargetReason::RedisDenied, "It is tried again every few seconds."),
        error if error.is_denied() => (TargetReason::RedisDenied, "Check the ACL user and its password."),
        LinkError::WrongType => (TargetReason::RedisConflict, "The key exists and is no hash."),
        LinkError::Settings(_) => {
            (TargetReason::RedisNotConfigured, "Correct the operator's Redis configuration.")
        }
        LinkError::NothingToSignInWith(_) => (
            TargetReason::RedisUnavailable,
            "Give the operator an AWS identity again; it is filled as soon as there is one.",
        ),
        _ => (TargetReason::RedisUnavailable, "It is filled as soon as it answers."),
    };
    TargetIssue::new(reason, format!("{error}. {hint}"))
}
