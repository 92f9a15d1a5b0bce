//! A new mirror in an outage: asks the memories of the others.

use parameter_mirror_format::source::StoredSource;

use crate::mirror::donor::{Donated, Donation};
use crate::mirror::plan::Plan;

use super::context::Context;
use super::memory::Memory;

/// The set of a mirror that has none, from mirrors that hold its parameters. One that is being worked on is left out: the next
/// look comes soon.
#[must_use]
pub fn donated(plan: &Plan, ctx: &Context) -> Option<Donated> {
    let mut donation = Donation::new(plan);
    for memory in ctx.memories.all() {
        if let Ok(memory) = memory.try_lock()
            && let Some(good) = memory.good.as_ref().filter(|_| may_donate(&memory))
        {
            donation.offer(&good.content);
        }
    }
    donation.finish()
}

/// A copy that does not cover its own mirror's spec never donates (formats.md, "Copies", rule 5), nor does one of a mirror that
/// is refused or suspended: nothing is settled then.
fn may_donate(memory: &Memory) -> bool {
    let stored = memory.good.as_ref().and_then(|good| StoredSource::decode(&good.content.source).ok());
    memory.settled.as_ref().zip(stored).is_some_and(|(settled, stored)| settled.plan.is_covered_by(&stored))
}
