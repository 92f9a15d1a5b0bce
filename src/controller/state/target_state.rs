//! What the operator remembers of the targets of one mirror.

use std::sync::Arc;

use parameter_mirror_format::content::Signed;
use parameter_mirror_format::verdict::{Found, Verdict};

use crate::mirror::copies;
use crate::mirror::plan::{Plan, TargetPlan};
use crate::mirror::target::TargetKind;
use crate::targets::KINDS;
use crate::targets::target::Target;

/// The targets of one mirror, each with what it was seen to hold.
#[derive(Default)]
pub struct Targets {
    /// In the order of the plan of the last observation.
    all: Vec<Box<dyn Target>>,
    /// Which version of the operator's keys the verdicts were made with.
    pub keys_version: u64,
}

/// How often others had changed each target when a read began. A target that was not observed is missing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen(Vec<(TargetKind, u64)>);

impl Seen {
    /// Returns how often others had changed the target of this kind.
    #[must_use]
    pub fn of(&self, kind: TargetKind) -> Option<u64> {
        self.0.iter().find(|(seen, _)| *seen == kind).map(|(_, changes)| *changes)
    }
}

impl Targets {
    /// Keeps the targets that the plan names, and creates those that it names for the first time. What was verified with other keys is
    /// observed again.
    pub fn retarget(&mut self, plan: &Plan, keys_version: u64) {
        let mut before = std::mem::take(&mut self.all);
        let target_of = |planned: &TargetPlan| {
            let found = before
                .iter()
                .position(|target| target.kind() == planned.kind() && target.name() == planned.name());
            match found {
                Some(at) => Some(before.swap_remove(at)),
                None => KINDS.iter().find_map(|kind| kind.create(planned)),
            }
        };
        self.all = plan.targets.iter().filter_map(target_of).collect();
        if self.keys_version != keys_version {
            self.keys_version = keys_version;
            self.iter_mut().for_each(Target::invalidate);
        }
    }

    /// Iterates over the targets, in the order in which they are written.
    pub fn iter(&self) -> impl Iterator<Item = &(dyn Target + 'static)> {
        self.all.iter().map(AsRef::as_ref)
    }

    /// The same, to change them.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut (dyn Target + 'static)> {
        self.all.iter_mut().map(AsMut::as_mut)
    }

    /// Returns what is known of the targets now.
    #[must_use]
    pub fn seen(&self) -> Seen {
        let observed = self.iter().filter(|target| target.is_observed());
        Seen(observed.map(|target| (target.kind(), target.state().external_changes)).collect())
    }

    /// Iterates over the verified copies that targets hold.
    pub fn verified(&self) -> impl Iterator<Item = (TargetKind, &Signed)> {
        self.iter().filter_map(|target| Some((target.kind(), copies::verified(target.found())?)))
    }

    /// Makes the copies of the last known good set share its content, because most of the time all copies are equal.
    pub fn share_content(&mut self, good: &Signed) {
        for found in self.iter_mut().filter_map(Target::found_mut) {
            if let Found::Ours(Verdict::Verified(copy)) = found
                && copy.content == good.content
            {
                copy.content = Arc::clone(&good.content);
            }
        }
    }

    /// Returns the names of the targets that were seen not to exist.
    #[must_use]
    pub fn empty(&self) -> Vec<String> {
        // What was edited by hand while the mirror is suspended is there all the same.
        let is_empty = |target: &&(dyn Target + 'static)| matches!(target.found(), Some(Found::Missing));
        self.iter().filter(is_empty).map(Target::label).collect()
    }

    /// Whether one of the targets has an issue.
    #[must_use]
    pub fn has_issue(&self) -> bool {
        self.iter().any(|target| target.state().issue.is_some())
    }

    /// Whether at least two targets hold this set, and none lacks it: then it can be fetched from them when it is needed.
    #[must_use]
    pub fn all_hold(&self, good: &Signed) -> bool {
        let holds_it = |target: &(dyn Target + 'static)| {
            copies::verified(target.found()).is_some_and(|held| held.content.same_as(&good.content))
        };
        self.all.len() > 1 && self.iter().all(holds_it)
    }
}
