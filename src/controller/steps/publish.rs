//! Step 5: converge each target on what is wanted. Secret first, then Redis; each only against what was observed.

use std::sync::Arc;
use std::time::Duration;

use parameter_mirror_format::content::{Content, Signed};
use parameter_mirror_format::keys::KeyRing;
use parameter_mirror_format::verdict::Found;

use crate::controller::context::{Context, RedisBackend};
use crate::controller::state::mirror_state::{Existence, MirrorState, RedisState, SecretState};
use crate::controller::steps::observe::{redis_trouble, write_failed};
use crate::controller::steps::permit::Permit;
use crate::controller::steps::read::ReadOutcome;
use crate::kubernetes::client::ApiError;
use crate::mirror::copies::{self, Action, Freshness};
use crate::mirror::plan::{Plan, RedisPlan, SecretPlan};
use crate::mirror::resolve::{Desired, DesiredSet, Resolution};
use crate::mirror::schedule::{HealLimiter, MAX_HEALS};
use crate::mirror::target::{TargetIssue, TargetReason};
use crate::targets::redis::copy;
use crate::targets::redis::{Guard, HashStore, Heartbeat, ScriptOutcome};
use crate::targets::secret::{self, ObservedSecret, Owner};

/// What one pass wrote.
#[derive(Debug, Default)]
pub struct Published {
    /// Targets that were restored, and what had happened to them.
    pub healed: Vec<Heal>,
    /// A target changed under our hands: look again at once.
    pub look_again: bool,
}

/// One restored target.
#[derive(Debug)]
pub struct Heal {
    /// As people name it.
    pub target: String,
    /// `missing`, `edited`, `older`, `relabelled`.
    pub cause: &'static str,
    /// Which target, as events count it.
    pub part: &'static str,
}

/// How a pass may write to one target.
struct WriteContext<'a> {
    signed: &'a Signed,
    wanted: &'a Desired,
    authority: Freshness,
    /// What a cycle that has ended tells readers; `None` between cycles.
    beat: Option<Heartbeat>,
    now: Duration,
    interval: Duration,
}

impl WriteContext<'_> {
    /// Whether a write counts towards the limit: every heal, and while a target is contested every write.
    fn counts_as_heal(&self, heals: &HealLimiter) -> bool {
        self.authority == Freshness::LastKnownGood || heals.is_contested(self.now)
    }
}

/// Writes what differs; remembers the last known good.
pub async fn publish(
    plan: &Plan,
    owner: &Owner,
    resolution: &Resolution,
    permit: Permit,
    answer: Option<&ReadOutcome>,
    memory: &mut MirrorState,
    ctx: &Context,
) -> Published {
    let mut published = Published::default();
    let keys = ctx.keys();
    let (Some(wanted), Some(ring)) = (resolution.wanted(), keys.ring.as_deref()) else {
        note_refusal_of_secret(plan, &mut memory.secret);
        note_refusal_of_hash(plan, &mut memory.redis);
        return published;
    };
    let signed = sign(wanted, memory, ring, ctx);
    let beat = answer.and_then(|answer| match (&answer.outcome, resolution) {
        (Ok(reading), Resolution::Fresh { .. }) => Some(Heartbeat::Good { checked_at: reading.started_at }),
        // The next read decides.
        (Ok(_), Resolution::Awaiting { .. }) => None,
        // Also a good read that is not published, because nothing is left or a required name is gone: what is served was not
        // confirmed by it.
        _ => Some(Heartbeat::Failed),
    });
    let errand = |authority: Option<Freshness>| WriteContext {
        signed: &signed,
        wanted,
        authority: authority.map_or(wanted.authority, |authority| authority.and(wanted.authority)),
        beat,
        now: ctx.clock.uptime(),
        interval: plan.interval,
    };
    match (&plan.secret, permit.secret) {
        (Some(target), Ok(())) => {
            let errand = errand(answer.map(|answer| answer.secret));
            let was_assumed = memory.secret.existence == Existence::Assumed;
            publish_secret(plan, target, owner, &errand, &mut memory.secret, &mut published, ctx).await;
            // There is one, which nobody had seen when SSM was read: what may replace it has to be read after it is seen.
            memory.source.due_now |= was_assumed && published.look_again;
        }
        (Some(_), Err(trouble)) => {
            memory.secret.trouble = Some(trouble);
            note_refusal_of_secret(plan, &mut memory.secret);
        }
        (None, _) => {}
    }
    if let (Some(target), RedisBackend::Configured(store)) = (&plan.redis, &ctx.redis) {
        match permit.redis {
            Ok(least) => {
                let errand = errand(answer.map(|answer| answer.redis));
                let target = RedisPlan { encryption: target.encryption.max(least), ..target.clone() };
                let edge = (store.as_ref(), ring);
                publish_redis(plan, &target, &errand, &mut memory.redis, edge, &mut published, ctx).await;
            }
            Err(trouble) => {
                memory.redis.trouble = Some(trouble);
                note_refusal_of_hash(plan, &mut memory.redis);
            }
        }
    }
    published
}

/// A set that differs from the last known good is signed, and becomes it. A heal over a verified older copy
/// stamps the winner anew too, so that nobody who still holds the older one heals it back.
fn sign(wanted: &Desired, memory: &mut MirrorState, ring: &KeyRing, ctx: &Context) -> Signed {
    let older_copy = |found: Option<&Found>, signed: &Signed| {
        copies::verified(found).is_some_and(|held| !held.content.same_as(&signed.content))
    };
    let signed = match &wanted.set {
        DesiredSet::New(content) => ring.sign(content.clone()),
        DesiredSet::AsItIs(signed) => {
            let secret = memory.secret.observed.as_ref().and_then(|observed| observed.found.as_ref());
            let redis = memory.redis.observed.as_ref().map(|observed| &observed.found);
            if older_copy(secret, signed) || older_copy(redis, signed) {
                let mut content = Content::clone(&signed.content);
                content.read_at = ctx.clock.now().as_millisecond().max(memory.latest_read_at + 1);
                ring.sign(content)
            } else if !ring.contains(&signed.key_id)
                || (wanted.authority == Freshness::FreshRead && signed.key_id != *ring.active())
            {
                // Its key is lost, and a copy under it could never be verified again; or another one is active by now. The
                // content is the same, so its read time is, too.
                ring.sign(Arc::clone(&signed.content))
            } else {
                signed.clone()
            }
        }
    };
    memory.saw_read_at(signed.content.read_at);
    memory.good = Some(signed.clone());
    signed
}

/// Without anything to write, a Secret that must not be written is still worth telling.
fn note_refusal_of_secret(plan: &Plan, memory: &mut SecretState) {
    let found = memory.observed.as_ref().and_then(|observed| observed.found.as_ref());
    let refusal = found.and_then(|found| copies::refusal(found, TargetReason::SecretConflict));
    if plan.secret.is_some() && refusal.is_some() {
        memory.trouble = refusal;
    }
}

/// The same of a hash.
fn note_refusal_of_hash(plan: &Plan, memory: &mut RedisState) {
    let found = memory.observed.as_ref().map(|observed| &observed.found);
    let refusal = found.and_then(|found| copies::refusal(found, TargetReason::RedisConflict));
    if plan.redis.is_some() && refusal.is_some() {
        memory.trouble = refusal;
    }
}

/// What to do with a target, with the limits on heals and the consent of a foreign owner applied.
fn decide(
    found: &Found,
    errand: &WriteContext<'_>,
    consented: bool,
    conflict: TargetReason,
    heals: &HealLimiter,
) -> Action {
    let need = copies::need(found, errand.signed, errand.authority, conflict);
    match need {
        Action::Refused(trouble)
            if trouble.reason == conflict && consented && errand.authority == Freshness::FreshRead =>
        {
            Action::Replace
        }
        Action::Restore(_) | Action::Replace if !heals.allows(errand.now, errand.interval) => {
            Action::Refused(contested())
        }
        need => need,
    }
}

fn contested() -> TargetIssue {
    TargetIssue::new(
        TargetReason::TargetContested,
        format!(
            "somebody else changed it {MAX_HEALS} times in 10 minutes; it is now written once per interval. \
             Find the other writer: another operator with the same --cluster-name, a GitOps tool, a person"
        ),
    )
}

/// A target that is in order is still contested for as long as the window lasts.
fn remaining_trouble(heals: &HealLimiter, now: Duration) -> Option<TargetIssue> {
    heals.is_contested(now).then(contested)
}

async fn publish_secret(
    plan: &Plan,
    target: &SecretPlan,
    owner: &Owner,
    errand: &WriteContext<'_>,
    memory: &mut SecretState,
    published: &mut Published,
    ctx: &Context,
) {
    let Some(observed) = memory.observed.clone() else { return };
    let Some(found) = &observed.found else { return };
    let consented = observed.consents_to(&plan.mirror);
    let need = decide(found, errand, consented, TargetReason::SecretConflict, &memory.heals);
    if let Action::Refused(trouble) = need {
        memory.trouble = Some(trouble);
        return;
    }
    if need == Action::Nothing && secret::is_in_sync(target, owner, &observed) {
        memory.trouble = remaining_trouble(&memory.heals, errand.now);
        return;
    }
    let parts = match secret::fits(target, errand.signed, &errand.wanted.key_problems, &observed) {
        Ok(parts) => parts,
        Err(trouble) => {
            memory.trouble = Some(trouble);
            return;
        }
    };
    let object = secret::render(target, &plan.namespace, owner, parts, &observed);
    memory.existence = Existence::Asked;
    match ctx.secrets.write(&plan.namespace, &object).await {
        Ok(written) => {
            ctx.metrics.secret_written();
            if errand.counts_as_heal(&memory.heals) {
                memory.heals.record(errand.now);
            }
            if errand.authority == Freshness::LastKnownGood
                && let Some(cause) = heal_cause(&need)
            {
                published.healed.push(Heal {
                    target: format!("Secret {}", target.name),
                    cause,
                    part: "Secret",
                });
            }
            let before = observed.resource_version().map(str::to_owned);
            memory.before_write = ctx.watches.shows_secrets().then_some((before, errand.now));
            memory.trouble = remaining_trouble(&memory.heals, errand.now);
            memory.observed = Some(ObservedSecret::written(errand.signed.clone(), written));
        }
        Err(ApiError::Conflict) => {
            memory.foreign_changes += 1;
            memory.observed = None;
            published.look_again = true;
        }
        Err(problem) => {
            // Whether it was written is not known after a timeout: it is read back.
            memory.observed = None;
            memory.trouble = Some(write_failed("written", &problem));
        }
    }
}

const fn heal_cause(need: &Action) -> Option<&'static str> {
    match need {
        Action::Restore(cause) => Some(cause),
        Action::Replace => Some("older"),
        Action::Nothing => Some("relabelled"),
        Action::Refused(_) => None,
    }
}

async fn publish_redis(
    plan: &Plan,
    target: &RedisPlan,
    errand: &WriteContext<'_>,
    memory: &mut RedisState,
    edge: (&dyn HashStore, &KeyRing),
    published: &mut Published,
    ctx: &Context,
) {
    let Some(observed) = memory.observed.clone() else { return };
    let (store, ring) = edge;
    let mode = target.encryption.into();
    let mut need =
        decide(&observed.found, errand, observed.consents, TargetReason::RedisConflict, &memory.heals);
    if need == Action::Nothing && !copy::is_laid_out_as(&observed, mode) {
        need = Action::Replace;
    }
    let now = ctx.clock.now().as_millisecond();
    let guard = |memory: &mut RedisState| Guard {
        key: &target.key,
        owner: &plan.owner,
        fence: &observed.fence,
        mac: copies::verified(Some(&observed.found)).map(|signed| signed.mac.as_str()),
        now,
        least: memory.least_fence(&observed.fence, now),
    };
    let outcome = match (&need, errand.beat) {
        (Action::Refused(trouble), _) => {
            memory.trouble = Some(trouble.clone());
            return;
        }
        (Action::Nothing, None) => {
            memory.trouble = remaining_trouble(&memory.heals, errand.now);
            return;
        }
        (Action::Nothing, Some(beat)) => copy::beat(store, guard(memory), beat, ring, &observed).await,
        (Action::Restore(_) | Action::Replace, beat) => {
            copy::write(store, guard(memory), errand.signed, mode, ring, &observed, beat).await
        }
    };
    match outcome {
        Ok(ScriptOutcome::Done { fence, generation }) => {
            if need != Action::Nothing {
                ctx.metrics.redis_written();
                if errand.counts_as_heal(&memory.heals) {
                    memory.heals.record(errand.now);
                }
                if errand.authority == Freshness::LastKnownGood
                    && let Some(cause) = heal_cause(&need)
                {
                    published.healed.push(Heal {
                        target: format!("Redis {}", target.key),
                        cause,
                        part: "Redis",
                    });
                }
            }
            memory.trouble = remaining_trouble(&memory.heals, errand.now);
            memory.observed = Some(copy::after(&observed, errand.signed, mode, fence, generation));
        }
        Ok(ScriptOutcome::Owned { .. }) => {
            memory.observed = None;
            memory.trouble = Some(TargetIssue::conflict(TargetReason::RedisConflict));
        }
        Ok(ScriptOutcome::Stale | ScriptOutcome::Gone | ScriptOutcome::Torn) => {
            memory.foreign_changes += 1;
            memory.observed = None;
            published.look_again = true;
        }
        Ok(ScriptOutcome::NewerLayout | ScriptOutcome::WrongType) => memory.observed = None,
        Err(error) => {
            // A timeout leaves the outcome unknown: it is read back.
            memory.observed = None;
            memory.trouble = Some(redis_trouble(&error));
        }
    }
}
