//! Step 2: observe what the targets hold.
//!
//! A quiet reconcile costs no call to the API server (one for metadata, if Secrets are not watched) and one small call to Redis. An
//! unexpected version leads to a full read-back of that target. A read that is due leads to a full read-back of the hash.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use jiff::Timestamp;
use parameter_mirror_format::content::Signed;
use parameter_mirror_format::verdict::{Found, Verdict};

use crate::api::ParameterMirrorStatus;
use crate::controller::context::Context;
use crate::controller::state::target_state::Targets;
use crate::mirror::copies::{self, Origin};
use crate::mirror::plan::Plan;
use crate::mirror::target::TargetKind;
use crate::targets::recorded;
use crate::targets::target::{Depth, ObserveRequest, Target};

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

/// Observes all targets, each without waiting for the others, and looks for a newer set in them.
pub async fn observe(
    plan: &Plan,
    status: Option<&ParameterMirrorStatus>,
    depth: Depth,
    known: KnownSet<'_>,
    targets: &mut Targets,
    ctx: &Context,
) -> Observation {
    let keys = ctx.keys();
    let services = ctx.services(&keys);
    targets.retarget(plan, keys.version);
    let was_written = |kind: TargetKind| status.and_then(|status| recorded(kind, status)).is_some();
    let observations = targets.iter_mut().map(|target| {
        let was_written = was_written(target.kind());
        let request = ObserveRequest { plan, depth, has_answer: known.has_answer, was_written };
        async move { target.observe(&request, &services).await }
    });
    join_all(observations).await;
    for found in targets.iter_mut().filter_map(Target::found_mut) {
        share(found, ctx);
    }
    adopt(known, targets, ctx)
}

/// Finds a verified copy that is newer than the known set.
fn adopt(known: KnownSet<'_>, targets: &mut Targets, ctx: &Context) -> Observation {
    let read_at = targets.verified().map(|(_, copy)| copy.content.read_at).max();
    let own = known.good.map(|signed| copies::MemoryCopy { signed, confirmed_at: known.confirmed_at });
    let held: Vec<(TargetKind, &Signed)> = targets.verified().collect();
    let Some((newest, Origin::Target(kind))) = copies::newest(own, &held) else {
        return Observation { read_at, ..Observation::default() };
    };
    let set = newest.clone();
    let checked_at = targets.iter().filter_map(Target::checked_at).max().unwrap_or(0);
    let known_good_at = Timestamp::from_millisecond(set.content.read_at.max(checked_at));
    // A stamp ahead of the clock has no age (docs/design/formats.md: never below 0).
    let known_good_at = known_good_at.unwrap_or(Timestamp::UNIX_EPOCH).min(ctx.clock.now());
    let read_again = known.good.is_some() && record_external_write(kind, targets, ctx.clock.uptime());
    Observation { read_at, adopted: Some(Adopted { set, known_good_at }), read_again }
}

/// Records that somebody else wrote a newer set (rule 3). Two operators that read different things would chase each other like this,
/// so it counts towards the limit on heals. Returns whether SSM is read at once.
fn record_external_write(kind: TargetKind, targets: &mut Targets, now: Duration) -> bool {
    let Some(target) = targets.iter_mut().find(|target| target.kind() == kind) else { return false };
    let heals = &mut target.state_mut().heals;
    heals.record(now);
    let is_contested = heals.is_contested(now);
    if !is_contested {
        tracing::info!(
            from = kind.label(),
            "a target holds a newer set than this process; it is adopted, and SSM is read"
        );
    }
    !is_contested
}

/// Makes a value that several copies hold be held in memory once.
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
