//! Step 5: converge each target on the desired set. The Secret comes first, then Redis, each by compare-and-set with what was
//! observed.

use std::sync::Arc;
use std::time::Duration;

use parameter_mirror_format::content::{Content, Signed};
use parameter_mirror_format::crypto::keys::KeyRing;
use parameter_mirror_format::verdict::Found;

use crate::controller::context::{Context, RedisBackend};
use crate::controller::state::target_state::{Existence, RedisState, SecretState, Targets};
use crate::controller::steps::observe::{redis_issue, secret_issue};
use crate::controller::steps::permit::WritePermit;
use crate::controller::steps::read::ReadOutcome;
use crate::kubernetes::client::ApiError;
use crate::mirror::copies::{self, Action, Freshness};
use crate::mirror::plan::{Plan, RedisPlan, SecretPlan};
use crate::mirror::resolve::{Desired, DesiredSet, Resolution};
use crate::mirror::schedule::{HealLimiter, MAX_HEALS};
use crate::mirror::snapshot::{ReadError, Snapshot};
use crate::mirror::target::{TargetIssue, TargetReason};
use crate::targets::redis::copy;
use crate::targets::redis::{Guard, HashStore, Heartbeat, ScriptOutcome};
use crate::targets::secret::{self, ObservedSecret, Owner};

/// What one reconcile wrote.
#[derive(Debug, Default)]
pub struct Published {
    /// The set that the targets are to hold, signed. From now on it is the last known good.
    pub signed: Option<Signed>,
    /// Targets that were restored, and why.
    pub healed: Vec<Heal>,
    /// A target changed since it was observed: the operator observes it again at once.
    pub observe_again: bool,
    /// A target holds something that was not observed before SSM was read: the operator reads SSM again at once.
    pub read_again: bool,
}

/// One restored target.
#[derive(Debug)]
pub struct Heal {
    /// The target as messages name it: `Secret checkout-config`, `Redis pm:{shop/checkout}`.
    pub target: String,
    /// Why it was restored: `missing`, `edited`, `older`, `relabelled`.
    pub cause: &'static str,
    /// The target as events and metrics name it: `Secret` or `Redis`.
    pub part: &'static str,
}

/// The parts of a mirror's state that publishing needs.
pub struct Publishing<'a> {
    /// Latest verified read time ever seen, Unix ms.
    pub latest_read_at: i64,
    /// The targets as observed.
    pub targets: &'a mut Targets,
}

/// The context of writing one target.
struct WriteContext<'a> {
    signed: &'a Signed,
    desired: &'a Desired,
    freshness: Freshness,
    /// The result of a read that has ended, for readers; `None` between reads.
    heartbeat: Option<Heartbeat>,
    now: Duration,
    interval: Duration,
}

impl WriteContext<'_> {
    /// Whether a write counts towards the limit on heals: every heal does, and while a target is contested every write does.
    fn counts_as_heal(&self, heals: &HealLimiter) -> bool {
        self.freshness == Freshness::LastKnownGood || heals.is_contested(self.now)
    }
}

/// Brings the targets to what the resolution asks for, as far as the permit allows.
pub async fn publish(
    plan: &Plan,
    owner: &Owner,
    resolution: &Resolution,
    permit: WritePermit,
    outcome: Option<&ReadOutcome>,
    state: Publishing<'_>,
    ctx: &Context,
) -> Published {
    let Publishing { latest_read_at, targets } = state;
    let mut published = Published::default();
    let keys = ctx.keys();
    let (Some(desired), Some(ring)) = (resolution.desired(), keys.ring.as_deref()) else {
        record_secret_conflict(plan, &mut targets.secret);
        record_hash_conflict(plan, &mut targets.redis);
        end_assumption(outcome, targets, &mut published);
        return published;
    };
    let signed = sign(desired, targets, latest_read_at, ring, ctx);
    let heartbeat = outcome.and_then(|outcome| heartbeat_for(&outcome.outcome, resolution));
    let context = |freshness: Option<Freshness>| WriteContext {
        signed: &signed,
        desired,
        freshness: freshness.map_or(desired.freshness, |freshness| freshness.and(desired.freshness)),
        heartbeat,
        now: ctx.clock.uptime(),
        interval: plan.interval,
    };
    match (&plan.secret, permit.secret) {
        (Some(target), Ok(())) => {
            let write = context(outcome.map(|outcome| outcome.secret));
            let was_assumed = targets.secret.existence == Existence::Assumed;
            publish_secret(plan, target, owner, &write, &mut targets.secret, &mut published, ctx).await;
            // The Secret exists, but it was not observed before SSM was read. Only a set that is read after it is observed may
            // replace it.
            published.read_again = was_assumed && published.observe_again;
        }
        (Some(_), Err(issue)) => {
            targets.secret.issue = Some(issue);
            record_secret_conflict(plan, &mut targets.secret);
        }
        (None, _) => {}
    }
    if let (Some(target), RedisBackend::Configured(store)) = (&plan.redis, &ctx.redis) {
        match permit.redis {
            Ok(least) => {
                let write = context(outcome.map(|outcome| outcome.redis));
                let target = RedisPlan { encryption: target.encryption.max(least), ..target.clone() };
                let edge = (store.as_ref(), ring);
                publish_redis(plan, &target, &write, &mut targets.redis, edge, &mut published, ctx).await;
            }
            Err(issue) => {
                targets.redis.issue = Some(issue);
                record_hash_conflict(plan, &mut targets.redis);
            }
        }
    }
    end_assumption(outcome, targets, &mut published);
    Published { signed: Some(signed), ..published }
}

/// Returns what a read that has ended reports to readers of the hash; `None` if the next read decides.
fn heartbeat_for(outcome: &Result<Snapshot, ReadError>, resolution: &Resolution) -> Option<Heartbeat> {
    match (outcome, resolution) {
        (Ok(snapshot), Resolution::Fresh { .. }) => Some(Heartbeat::Good { checked_at: snapshot.started_at }),
        (Ok(_), Resolution::Awaiting { .. }) => None,
        // This includes a good read that is not published, because it leaves nothing or lacks a required name: it did not confirm
        // what is served.
        _ => Some(Heartbeat::Failed),
    }
}

/// Ends the assumption that the Secret is missing, because the read led to no create. The operator now has to observe what exists.
fn end_assumption(outcome: Option<&ReadOutcome>, targets: &mut Targets, published: &mut Published) {
    if outcome.is_some() && targets.secret.existence == Existence::Assumed {
        targets.secret.doubt_existence();
        published.observe_again = true;
    }
}

/// Signs a set that differs from the last known good. A heal over a verified older copy gets a new read time too, so that no
/// process that still holds the older copy restores it.
fn sign(desired: &Desired, targets: &Targets, latest_read_at: i64, ring: &KeyRing, ctx: &Context) -> Signed {
    match &desired.set {
        DesiredSet::New(content) => ring.sign(content.clone()),
        DesiredSet::AsItIs(signed) => {
            let is_older = |held: &Signed| !held.content.same_as(&signed.content);
            if targets.found().into_iter().filter_map(copies::verified).any(is_older) {
                let mut content = Content::clone(&signed.content);
                content.read_at = ctx.clock.now().as_millisecond().max(latest_read_at + 1);
                ring.sign(content)
            } else if !ring.contains(&signed.key_id)
                || (desired.freshness == Freshness::FreshRead && signed.key_id != *ring.active())
            {
                // The key of the set is lost, and a copy signed with it could never be verified again; or another key is active by
                // now. The content is the same, and so is its read time.
                ring.sign(Arc::clone(&signed.content))
            } else {
                signed.clone()
            }
        }
    }
}

/// Reports a Secret that must not be written, although there is nothing to write.
fn record_secret_conflict(plan: &Plan, state: &mut SecretState) {
    let found = state.observed.as_ref().and_then(|observed| observed.found.as_ref());
    let refusal = found.and_then(|found| copies::refusal(found, TargetReason::SecretConflict));
    if plan.secret.is_some() && refusal.is_some() {
        state.issue = refusal;
    }
}

/// Reports a hash that must not be written, although there is nothing to write.
fn record_hash_conflict(plan: &Plan, state: &mut RedisState) {
    let found = state.observed.as_ref().map(|observed| &observed.found);
    let refusal = found.and_then(|found| copies::refusal(found, TargetReason::RedisConflict));
    if plan.redis.is_some() && refusal.is_some() {
        state.issue = refusal;
    }
}

/// Decides what to do with a target, with the limits on heals and the consent of a foreign owner applied.
fn decide(
    found: &Found,
    write: &WriteContext<'_>,
    consented: bool,
    conflict: TargetReason,
    heals: &HealLimiter,
) -> Action {
    let action = copies::action(found, write.signed, write.freshness, conflict);
    match action {
        Action::Refused(issue)
            if issue.reason == conflict && consented && write.freshness == Freshness::FreshRead =>
        {
            Action::Replace
        }
        Action::Restore(_) | Action::Replace if !heals.allows(write.now, write.interval) => {
            Action::Refused(contested())
        }
        action => action,
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

/// A target that is in sync is still contested for as long as the window lasts.
fn remaining_issue(heals: &HealLimiter, now: Duration) -> Option<TargetIssue> {
    heals.is_contested(now).then(contested)
}

async fn publish_secret(
    plan: &Plan,
    target: &SecretPlan,
    owner: &Owner,
    write: &WriteContext<'_>,
    state: &mut SecretState,
    published: &mut Published,
    ctx: &Context,
) {
    let Some(observed) = state.observed.clone() else { return };
    let Some(found) = &observed.found else { return };
    let consented = observed.consents_to(&plan.mirror);
    let action = decide(found, write, consented, TargetReason::SecretConflict, &state.heals);
    if let Action::Refused(issue) = action {
        state.issue = Some(issue);
        return;
    }
    if action == Action::Nothing && secret::is_in_sync(target, owner, &observed) {
        state.issue = remaining_issue(&state.heals, write.now);
        return;
    }
    let parts = match secret::fits(target, write.signed, &write.desired.key_problems, &observed) {
        Ok(parts) => parts,
        Err(issue) => {
            state.issue = Some(issue);
            return;
        }
    };
    let object = secret::render(target, &plan.namespace, owner, parts, &observed);
    state.existence = Existence::Asked;
    match ctx.secrets.write(&plan.namespace, &object).await {
        Ok(written) => {
            ctx.metrics.secret_written();
            if write.counts_as_heal(&state.heals) {
                state.heals.record(write.now);
            }
            if write.freshness == Freshness::LastKnownGood
                && let Some(cause) = heal_cause(&action)
            {
                published.healed.push(Heal {
                    target: format!("Secret {}", target.name),
                    cause,
                    part: "Secret",
                });
            }
            let before = observed.resource_version().map(str::to_owned);
            state.before_write = ctx.watches.shows_secrets().then_some((before, write.now));
            state.issue = remaining_issue(&state.heals, write.now);
            state.observed = Some(ObservedSecret::written(write.signed.clone(), written));
        }
        Err(ApiError::Conflict) => {
            state.external_changes += 1;
            state.observed = None;
            published.observe_again = true;
        }
        Err(problem) => {
            // After a timeout it is unknown whether the Secret was written, so it is read back.
            state.observed = None;
            state.issue = Some(secret_issue("written", &problem));
        }
    }
}

const fn heal_cause(action: &Action) -> Option<&'static str> {
    match action {
        Action::Restore(cause) => Some(cause),
        Action::Replace => Some("older"),
        Action::Nothing => Some("relabelled"),
        Action::Refused(_) => None,
    }
}

async fn publish_redis(
    plan: &Plan,
    target: &RedisPlan,
    write: &WriteContext<'_>,
    state: &mut RedisState,
    edge: (&dyn HashStore, &KeyRing),
    published: &mut Published,
    ctx: &Context,
) {
    let Some(observed) = state.observed.clone() else { return };
    let (store, ring) = edge;
    let mode = target.encryption.into();
    let mut action =
        decide(&observed.found, write, observed.consents, TargetReason::RedisConflict, &state.heals);
    if action == Action::Nothing && !copy::is_laid_out_as(&observed, mode) {
        action = Action::Replace;
    }
    let now = ctx.clock.now().as_millisecond();
    let guard = |state: &mut RedisState| Guard {
        key: &target.key,
        owner: &plan.owner,
        fence: &observed.fence,
        mac: copies::verified(Some(&observed.found)).map(|signed| signed.mac.as_str()),
        now,
        least: state.least_fence(&observed.fence, now),
    };
    let outcome = match (&action, write.heartbeat) {
        (Action::Refused(issue), _) => {
            state.issue = Some(issue.clone());
            return;
        }
        (Action::Nothing, None) => {
            state.issue = remaining_issue(&state.heals, write.now);
            return;
        }
        (Action::Nothing, Some(heartbeat)) => {
            copy::heartbeat(store, guard(state), heartbeat, ring, &observed).await
        }
        (Action::Restore(_) | Action::Replace, heartbeat) => {
            copy::write(store, guard(state), write.signed, mode, ring, &observed, heartbeat).await
        }
    };
    match outcome {
        Ok(ScriptOutcome::Done { fence, generation }) => {
            if action != Action::Nothing {
                ctx.metrics.redis_written();
                if write.counts_as_heal(&state.heals) {
                    state.heals.record(write.now);
                }
                if write.freshness == Freshness::LastKnownGood
                    && let Some(cause) = heal_cause(&action)
                {
                    published.healed.push(Heal {
                        target: format!("Redis {}", target.key),
                        cause,
                        part: "Redis",
                    });
                }
            }
            state.issue = remaining_issue(&state.heals, write.now);
            state.observed = Some(copy::after(&observed, write.signed, mode, fence, generation));
        }
        Ok(ScriptOutcome::Owned { .. }) => {
            state.observed = None;
            state.issue = Some(TargetIssue::conflict(TargetReason::RedisConflict));
        }
        Ok(ScriptOutcome::Stale | ScriptOutcome::Gone | ScriptOutcome::Torn) => {
            state.external_changes += 1;
            state.observed = None;
            published.observe_again = true;
        }
        Ok(ScriptOutcome::NewerLayout | ScriptOutcome::WrongType) => state.observed = None,
        Err(error) => {
            // After a timeout it is unknown whether the hash was written, so it is read back.
            state.observed = None;
            state.issue = Some(redis_issue(&error));
        }
    }
}
