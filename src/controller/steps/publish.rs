//! Step 5: bring each target to what the resolution asks for, in the order of the plan, and each only against what was observed.

use std::sync::Arc;
use std::time::Duration;

use parameter_mirror_format::content::{Content, Signed};
use parameter_mirror_format::crypto::keys::KeyRing;

use crate::controller::context::Context;
use crate::controller::state::target_state::Targets;
use crate::controller::steps::permit::WritePermit;
use crate::controller::steps::read::ReadOutcome;
use crate::mirror::content;
use crate::mirror::copies::{self, Freshness};
use crate::mirror::plan::Plan;
use crate::mirror::resolve::guard::Withheld;
use crate::mirror::resolve::{Desired, DesiredSet, Resolution};
use crate::mirror::snapshot::{ReadError, Snapshot};
use crate::mirror::target::TargetKind;
use crate::targets::redis::Heartbeat;
use crate::targets::secret::Owner;
use crate::targets::target::{Applied, Services, Target, WriteContext};

/// What one reconcile wrote.
#[derive(Debug, Default)]
pub struct Published {
    /// The set that the targets are to hold, signed. From now on it is the last known good.
    pub signed: Option<Signed>,
    /// Targets that were restored, and why.
    pub healed: Vec<Heal>,
    /// Targets that were taken over from somebody else, with consent.
    pub adopted: Vec<(TargetKind, String)>,
    /// How many removals an annotation approved.
    pub approved_removals: Option<Withheld>,
    /// A target changed since it was observed: the operator observes it again at once.
    pub observe_again: bool,
    /// A target holds something that was not observed before SSM was read: the operator reads SSM again at once.
    pub read_again: bool,
}

/// One restored target.
#[derive(Debug)]
pub struct Heal {
    /// Its kind.
    pub kind: TargetKind,
    /// The name of the Secret, or the key of the hash.
    pub name: String,
    /// `missing`, `edited`, `older`, `relabelled`.
    pub cause: &'static str,
}

/// The parts of a mirror's state that publishing needs.
pub struct Publishing<'a> {
    /// Latest verified read time ever seen, Unix ms.
    pub latest_read_at: i64,
    /// What was served before, if anything was.
    pub before: Option<&'a Signed>,
    /// The targets as observed.
    pub targets: &'a mut Targets,
}

/// Brings the targets to what the resolution asks for, as far as the permit allows.
pub async fn publish(
    plan: &Plan,
    owner: &Owner,
    resolution: &Resolution,
    permit: &WritePermit,
    outcome: Option<&ReadOutcome>,
    state: Publishing<'_>,
    ctx: &Context,
) -> Published {
    let Publishing { latest_read_at, before, targets } = state;
    let keys = ctx.keys();
    let services = ctx.services(&keys);
    let mut published =
        Published { approved_removals: resolution.approved_removals().cloned(), ..Published::default() };
    let signed = resolution
        .desired()
        .zip(services.keys)
        .map(|(desired, ring)| (desired, sign(desired, targets, latest_read_at, ring, ctx)));
    let changed_at = before
        .zip(signed.as_ref().filter(|(desired, _)| desired.freshness == Freshness::FreshRead))
        .and_then(|(before, (_, signed))| content::newest_change(&before.content, &signed.content));
    let heartbeat = outcome.and_then(|outcome| heartbeat_for(&outcome.outcome, resolution));
    for (planned, target) in plan.targets.iter().zip(targets.iter_mut()) {
        let kind = target.kind();
        match (&signed, permit.of(kind)) {
            (None, _) => record_conflict(target, plan, &services),
            // Why it is not configured has been observed, and counts for more than the permit.
            (Some(_), Err(_)) if !target.is_configured(&services) => {}
            (Some(_), Err(issue)) => {
                target.state_mut().issue = Some(issue);
                record_conflict(target, plan, &services);
            }
            (Some((desired, signed)), Ok(encryption)) => {
                let freshness = outcome
                    .map_or(desired.freshness, |outcome| outcome.freshness(kind).and(desired.freshness));
                let write = WriteContext {
                    plan,
                    owner,
                    signed,
                    desired,
                    freshness,
                    encryption,
                    heartbeat,
                    now: ctx.clock.uptime(),
                    interval: plan.interval,
                };
                let applied = target.apply(planned, &write, &services).await;
                published.add(target, &applied, ctx);
                if let Some(changed_at) = changed_at.filter(|_| applied.written) {
                    let delay = ctx.clock.now().as_millisecond().saturating_sub(changed_at);
                    let delay = Duration::from_millis(u64::try_from(delay).unwrap_or_default());
                    ctx.metrics.latencies.published(kind, delay);
                }
            }
        }
        // Nothing was to be created although a target was assumed to be missing: what is there, if anything, has to be known now.
        published.observe_again |= outcome.is_some() && target.end_assumption();
    }
    Published { signed: signed.map(|(_, signed)| signed), ..published }
}

impl Published {
    fn add(&mut self, target: &dyn Target, applied: &Applied, ctx: &Context) {
        if applied.written {
            ctx.metrics.written(target.kind());
        }
        self.healed.extend(applied.healed.map(|cause| Heal {
            kind: target.kind(),
            name: target.name().to_owned(),
            cause,
        }));
        if applied.adopted {
            self.adopted.push((target.kind(), target.name().to_owned()));
        }
        self.observe_again |= applied.observe_again;
        self.read_again |= applied.read_again;
    }
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

/// Signs a set that differs from the last known good. A heal over a verified older copy stamps the set with a new time too, so that
/// nobody who still holds the older one heals it back.
fn sign(desired: &Desired, targets: &Targets, latest_read_at: i64, ring: &KeyRing, ctx: &Context) -> Signed {
    match &desired.set {
        DesiredSet::New(content) => ring.sign(content.clone()),
        DesiredSet::AsItIs(signed) => {
            if targets.verified().any(|(_, held)| !held.content.same_as(&signed.content)) {
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

/// Reports a target that must not be written, also when there is nothing to write.
fn record_conflict(target: &mut dyn Target, plan: &Plan, services: &Services<'_>) {
    let conflict = target.conflict(plan, services);
    if let Some(refusal) = target.found().and_then(|found| copies::refusal(found, conflict)) {
        target.state_mut().issue = Some(refusal);
    }
}
