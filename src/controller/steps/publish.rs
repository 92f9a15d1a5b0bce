//! Step 5: converge each target on what is wanted. Secret first, then Redis; each only against what was observed.

use std::sync::Arc;
use std::time::Duration;

use parameter_mirror_format::content::{Content, Signed};
use parameter_mirror_format::keys::KeyRing;
use parameter_mirror_format::verdict::Found;

use crate::controller::context::{Context, RedisEdge};
use crate::controller::state::mirror_state::{Existence, Memory, RedisMemory, SecretMemory};
use crate::controller::steps::observe::{redis_trouble, write_failed};
use crate::controller::steps::permit::Permit;
use crate::controller::steps::read::Answer;
use crate::kubernetes::client::KubeProblem;
use crate::mirror::copies::{self, Authority, Need};
use crate::mirror::plan::{Plan, RedisPlan, SecretPlan};
use crate::mirror::resolve::{Resolution, Wanted, WantedSet};
use crate::mirror::schedule::{Heals, MAX_HEALS};
use crate::mirror::target::{TargetReason, TargetTrouble};
use crate::targets::redis::copy;
use crate::targets::redis::{Beat, Guard, Hashes, ScriptOutcome};
use crate::targets::secret::{self, Observed, Owner};

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
struct Errand<'a> {
    signed: &'a Signed,
    wanted: &'a Wanted,
    authority: Authority,
    /// What a cycle that has ended tells readers; `None` between cycles.
    beat: Option<Beat>,
    now: Duration,
    interval: Duration,
}

impl Errand<'_> {
    /// Whether a write counts towards the limit: every heal, and while a target is contested every write.
    fn counts_as_heal(&self, heals: &Heals) -> bool {
        self.authority == Authority::LastKnownGood || heals.is_contested(self.now)
    }
}

/// Writes what differs; remembers the last known good.
pub async fn publish(
    plan: &Plan,
    owner: &Owner,
    resolution: &Resolution,
    permit: Permit,
    answer: Option<&Answer>,
    memory: &mut Memory,
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
        (Ok(reading), Resolution::Fresh { .. }) => Some(Beat::Good { checked_at: reading.started_at }),
        // The next read decides.
        (Ok(_), Resolution::Awaiting { .. }) => None,
        // Also a good read that is not published, because nothing is left or a required name is gone: what is served was not
        // confirmed by it.
        _ => Some(Beat::Failed),
    });
    let errand = |authority: Option<Authority>| Errand {
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
    if let (Some(target), RedisEdge::Configured(store)) = (&plan.redis, &ctx.redis) {
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
fn sign(wanted: &Wanted, memory: &mut Memory, ring: &KeyRing, ctx: &Context) -> Signed {
    let older_copy = |found: Option<&Found>, signed: &Signed| {
        copies::verified(found).is_some_and(|held| !held.content.same_as(&signed.content))
    };
    let signed = match &wanted.set {
        WantedSet::New(content) => ring.sign(content.clone()),
        WantedSet::AsItIs(signed) => {
            let secret = memory.secret.observed.as_ref().and_then(|observed| observed.found.as_ref());
            let redis = memory.redis.observed.as_ref().map(|observed| &observed.found);
            if older_copy(secret, signed) || older_copy(redis, signed) {
                let mut content = Content::clone(&signed.content);
                content.read_at = ctx.clock.now().as_millisecond().max(memory.latest_read_at + 1);
                ring.sign(content)
            } else if !ring.contains(&signed.key_id)
                || (wanted.authority == Authority::FreshRead && signed.key_id != *ring.active())
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
fn note_refusal_of_secret(plan: &Plan, memory: &mut SecretMemory) {
    let found = memory.observed.as_ref().and_then(|observed| observed.found.as_ref());
    let refusal = found.and_then(|found| copies::refusal(found, TargetReason::SecretConflict));
    if plan.secret.is_some() && refusal.is_some() {
        memory.trouble = refusal;
    }
}

/// The same of a hash.
fn note_refusal_of_hash(plan: &Plan, memory: &mut RedisMemory) {
    let found = memory.observed.as_ref().map(|observed| &observed.found);
    let refusal = found.and_then(|found| copies::refusal(found, TargetReason::RedisConflict));
    if plan.redis.is_some() && refusal.is_some() {
        memory.trouble = refusal;
    }
}

/// What to do with a target, with the limits on heals and the consent of a foreign owner applied.
fn decide(
    found: &Found,
    errand: &Errand<'_>,
    consented: bool,
    conflict: TargetReason,
    heals: &Heals,
) -> Need {
    let need = copies::need(found, errand.signed, errand.authority, conflict);
    match need {
        Need::Refused(trouble)
            if trouble.reason == conflict && consented && errand.authority == Authority::FreshRead =>
        {
            Need::Replace
        }
        Need::Restore(_) | Need::Replace if !heals.allows(errand.now, errand.interval) => {
            Need::Refused(contested())
        }
        need => need,
    }
}

fn contested() -> TargetTrouble {
    TargetTrouble::new(
        TargetReason::TargetContested,
        format!(
            "somebody else changed it {MAX_HEALS} times in 10 minutes; it is now written once per interval. \
             Find the other writer: another operator with the same --cluster-name, a GitOps tool, a person"
        ),
    )
}

/// A target that is in order is still contested for as long as the window lasts.
fn remaining_trouble(heals: &Heals, now: Duration) -> Option<TargetTrouble> {
    heals.is_contested(now).then(contested)
}

async fn publish_secret(
    plan: &Plan,
    target: &SecretPlan,
    owner: &Owner,
    errand: &Errand<'_>,
    memory: &mut SecretMemory,
    published: &mut Published,
    ctx: &Context,
) {
    let Some(observed) = memory.observed.clone() else { return };
    let Some(found) = &observed.found else { return };
    let consented = observed.consents_to(&plan.mirror);
    let need = decide(found, errand, consented, TargetReason::SecretConflict, &memory.heals);
    if let Need::Refused(trouble) = need {
        memory.trouble = Some(trouble);
        return;
    }
    if need == Need::Nothing && secret::is_in_sync(target, owner, &observed) {
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
            if errand.authority == Authority::LastKnownGood
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
            memory.observed = Some(Observed::written(errand.signed.clone(), written));
        }
        Err(KubeProblem::Conflict) => {
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

const fn heal_cause(need: &Need) -> Option<&'static str> {
    match need {
        Need::Restore(cause) => Some(cause),
        Need::Replace => Some("older"),
        Need::Nothing => Some("relabelled"),
        Need::Refused(_) => None,
    }
}

async fn publish_redis(
    plan: &Plan,
    target: &RedisPlan,
    errand: &Errand<'_>,
    memory: &mut RedisMemory,
    edge: (&dyn Hashes, &KeyRing),
    published: &mut Published,
    ctx: &Context,
) {
    let Some(observed) = memory.observed.clone() else { return };
    let (store, ring) = edge;
    let mode = target.encryption.into();
    let mut need =
        decide(&observed.found, errand, observed.consents, TargetReason::RedisConflict, &memory.heals);
    if need == Need::Nothing && !copy::is_laid_out_as(&observed, mode) {
        need = Need::Replace;
    }
    let now = ctx.clock.now().as_millisecond();
    let guard = |memory: &mut RedisMemory| Guard {
        key: &target.key,
        owner: &plan.owner,
        fence: &observed.fence,
        mac: copies::verified(Some(&observed.found)).map(|signed| signed.mac.as_str()),
        now,
        least: memory.least_fence(&observed.fence, now),
    };
    let outcome = match (&need, errand.beat) {
        (Need::Refused(trouble), _) => {
            memory.trouble = Some(trouble.clone());
            return;
        }
        (Need::Nothing, None) => {
            memory.trouble = remaining_trouble(&memory.heals, errand.now);
            return;
        }
        (Need::Nothing, Some(beat)) => copy::beat(store, guard(memory), beat, ring, &observed).await,
        (Need::Restore(_) | Need::Replace, beat) => {
            copy::write(store, guard(memory), errand.signed, mode, ring, &observed, beat).await
        }
    };
    match outcome {
        Ok(ScriptOutcome::Done { fence, generation }) => {
            if need != Need::Nothing {
                ctx.metrics.redis_written();
                if errand.counts_as_heal(&memory.heals) {
                    memory.heals.record(errand.now);
                }
                if errand.authority == Authority::LastKnownGood
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
            memory.trouble = Some(TargetTrouble::conflict(TargetReason::RedisConflict));
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
