//! A new mirror in an outage: asks the states of the others.

use parameter_mirror_format::content::Signed;
use parameter_mirror_format::content::source::StoredSource;

use crate::controller::context::Context;
use crate::controller::state::mirror_state::MirrorState;
use crate::mirror::copies;
use crate::mirror::plan::Plan;
use crate::mirror::resolve::bootstrap::{Bootstrap, BootstrapSet};

/// The set of a mirror that has none, from mirrors that hold its parameters. One that is being worked on is left out: the next
/// look comes soon.
#[must_use]
pub fn from_peers(plan: &Plan, ctx: &Context) -> Option<BootstrapSet> {
    let mut donation = Bootstrap::new(plan);
    for state in ctx.states.all() {
        if let Ok(state) = state.try_lock()
            && let Some(good) = state.good.as_ref().filter(|_| may_bootstrap_others(&state))
        {
            donation.offer(&good.content);
        }
    }
    donation.finish()
}

/// A copy that does not cover its own mirror's spec never donates, nor does one of a mirror that is refused or suspended: nothing
/// is settled then. Nor does one that a tenant may have put back: whoever can write a Secret can keep an old copy of it, and its
/// signature holds for ever.
fn may_bootstrap_others(state: &MirrorState) -> bool {
    let Some(good) = &state.good else { return false };
    let Ok(stored) = StoredSource::decode(&good.content.source) else { return false };
    let is_settled = state.settled.as_ref().is_some_and(|settled| settled.plan.is_covered_by(&stored));
    is_settled && (was_read_here(good, state) || is_in_redis(good, state))
}

/// Whether SSM gave it to this process.
fn was_read_here(good: &Signed, state: &MirrorState) -> bool {
    state.confirmed_at > 0 && state.confirmed_at >= good.content.read_at
}

/// Whether the hash, which tenants do not write, holds it too, confirmed no earlier than the mirror's last good read.
fn is_in_redis(good: &Signed, state: &MirrorState) -> bool {
    let last_sync = state.last_sync.map_or(0, jiff::Timestamp::as_millisecond);
    state.redis.observed.as_ref().is_some_and(|hash| {
        let confirmed_at = hash.checked_at.unwrap_or(0);
        copies::verified(Some(&hash.found)).is_some_and(|held| {
            held.content.same_as(&good.content) && confirmed_at.max(held.content.read_at) >= last_sync
        })
    })
}
