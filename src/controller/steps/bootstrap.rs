//! Bootstraps a new mirror during an outage from the sets of other mirrors.

use parameter_mirror_format::content::Signed;
use parameter_mirror_format::content::source::StoredSource;

use crate::controller::context::Context;
use crate::controller::state::mirror_state::MirrorState;
use crate::mirror::copies;
use crate::mirror::plan::Plan;
use crate::mirror::resolve::bootstrap::{Bootstrap, BootstrapSet};
use crate::mirror::snapshot::{ReadError, Snapshot};

/// Returns a set for a mirror that has none in an outage, put together from mirrors that hold its parameters. A mirror that is
/// being reconciled is skipped, because the next attempt comes soon.
#[must_use]
pub fn from_peers(
    plan: &Plan,
    outcome: Option<&Result<Snapshot, ReadError>>,
    state: &MirrorState,
    ctx: &Context,
) -> Option<BootstrapSet> {
    let is_outage = match (outcome, &state.source.issue) {
        (Some(outcome), _) => outcome.as_ref().is_err_and(|error| error.reason.is_outage()),
        (None, Some(incident)) => incident.issue.is_outage(),
        (None, None) => false,
    };
    if state.good.is_some() || !is_outage {
        return None;
    }
    let mut bootstrap = Bootstrap::new(plan);
    for state in ctx.states.all() {
        if let Ok(state) = state.try_lock()
            && let Some(good) = state.good.as_ref().filter(|_| may_bootstrap_others(&state))
        {
            bootstrap.offer(&good.content);
        }
    }
    bootstrap.finish()
}

/// Whether other mirrors may start from this mirror's set. The set must cover the spec of its own mirror, and that mirror must be
/// neither refused nor suspended: such a mirror has no last reconcile. The set must not be one that a tenant may have put back:
/// anyone who can write a Secret can keep an old copy of it, and its signature stays valid for ever.
fn may_bootstrap_others(state: &MirrorState) -> bool {
    let Some(good) = &state.good else { return false };
    let Ok(stored) = StoredSource::decode(&good.content.source) else { return false };
    let is_reconciled = state.last.as_ref().is_some_and(|last| last.plan.is_covered_by(&stored));
    is_reconciled && (was_read_here(good, state) || is_out_of_reach_of_tenants(good, state))
}

/// Whether a read of this process brought this set or confirmed it.
fn was_read_here(good: &Signed, state: &MirrorState) -> bool {
    state.confirmed_at > 0 && state.confirmed_at >= good.content.read_at
}

/// Whether a target that tenants cannot write holds it too, confirmed no earlier than the mirror's last good read.
fn is_out_of_reach_of_tenants(good: &Signed, state: &MirrorState) -> bool {
    let last_sync = state.last_sync.map_or(0, jiff::Timestamp::as_millisecond);
    state.targets.iter().filter(|target| target.is_out_of_reach()).any(|target| {
        let confirmed_at = target.checked_at().unwrap_or(0);
        copies::verified(target.found()).is_some_and(|held| {
            held.content.same_as(&good.content) && confirmed_at.max(held.content.read_at) >= last_sync
        })
    })
}
