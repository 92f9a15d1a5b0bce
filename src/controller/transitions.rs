//! The Kubernetes events of a reconcile: one for each transition, with the cause as its reason and the part that it is about as its
//! action. The API server's clients count repeats by reason and action and show the first note, so what differs must differ there.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::Resource as _;
use parameter_mirror_format::content::Signed;
use parameter_mirror_format::humanize;

use crate::api::conditions::{self, DEGRADED, READY};
use crate::api::{ParameterMirror, ParameterMirrorStatus};
use crate::controller::context::Context;
use crate::controller::state::target_state::Targets;
use crate::controller::steps::publish::{Heal, Published};
use crate::kubernetes::events::EventDraft;
use crate::mirror::resolve::guard::Withheld;
use crate::mirror::target::{TargetKind, TargetReason};

/// A status before and after a reconcile, and what the reconcile did.
pub struct Transition<'a> {
    /// What was last reported.
    pub before: &'a ParameterMirrorStatus,
    /// What is reported now.
    pub after: &'a ParameterMirrorStatus,
    /// What was written.
    pub published: &'a Published,
    /// The current time.
    pub now: Timestamp,
}

impl Transition<'_> {
    /// Returns the events, oldest first.
    pub fn events(&self, good: Option<&Signed>, targets: &Targets) -> Vec<EventDraft> {
        let mut drafts = self.consents();
        drafts.extend(healed(self.before, self.published).map(restored));
        drafts.extend(changed(self.before, self.after, DEGRADED).and_then(|now| self.degraded(now, targets)));
        drafts.extend(self.filled(good));
        drafts.extend(self.first_synced(good));
        drafts
    }

    /// What an annotation or the owner of a target consented to, and was done.
    fn consents(&self) -> Vec<EventDraft> {
        let approved = self.published.approved_removals.as_ref().map(|removals| {
            let Withheld { removed, names, id, .. } = removals;
            let note = format!(
                "The removal of {} was approved by accept-shrink={id} and carried out: {names}.",
                humanize::parameters(*removed)
            );
            EventDraft::normal("RemovalsApproved", "Remove", note)
        });
        let adopted = self.published.adopted.iter().map(|(kind, name)| {
            let note = format!("Its owner consented: {kind} {name} belongs to this mirror now.");
            EventDraft::normal("Adopted", write_of(*kind), note)
        });
        approved.into_iter().chain(adopted).collect()
    }

    /// Degraded has changed its status or its reason.
    fn degraded(&self, degraded: &Condition, targets: &Targets) -> Option<EventDraft> {
        let before = conditions::find(&self.before.conditions, DEGRADED);
        match (degraded.status.as_str(), before) {
            ("True", _) => {
                let action = action_of(&degraded.reason, targets);
                Some(EventDraft::warning(&degraded.reason, action, degraded.message.clone()))
            }
            ("False", Some(before)) if before.status == "True" => {
                let dated = self.before.issues.iter().find(|issue| issue.reason == before.reason);
                let since = dated.map_or(before.last_transition_time.0, |issue| issue.since.0);
                let after = Duration::try_from(self.now.duration_since(since)).unwrap_or_default();
                let note = format!(
                    "Recovered from {} after {}. {}",
                    before.reason,
                    humanize::span(after),
                    degraded.message
                );
                Some(EventDraft::normal("Recovered", action_of(&before.reason, targets), note))
            }
            _ => None,
        }
    }

    /// A mirror without a set was filled from others during an outage.
    fn filled(&self, good: Option<&Signed>) -> Option<EventDraft> {
        let good = good.filter(|_| self.before.revision.is_none() && !self.published.healed.is_empty())?;
        let read_at = Timestamp::from_millisecond(good.content.read_at).unwrap_or(self.now);
        let note = format!(
            "SSM cannot be read; filled from other mirrors that hold the same parameters, as read at {}.",
            humanize::at(read_at, self.now)
        );
        Some(EventDraft::normal("Filled", "Bootstrap", note))
    }

    fn first_synced(&self, good: Option<&Signed>) -> Option<EventDraft> {
        let was_ready =
            conditions::find(&self.before.conditions, READY).is_some_and(|ready| ready.status == "True");
        let ready = conditions::find(&self.after.conditions, READY)?;
        let is_synced = ready.status == "True" && ready.reason == "Synced";
        (!was_ready && good.is_some() && is_synced)
            .then(|| EventDraft::normal("Synced", "Sync", ready.message.clone()))
    }
}

/// Returns the condition if its status or reason has changed.
pub fn changed<'s>(
    before: &ParameterMirrorStatus,
    after: &'s ParameterMirrorStatus,
    type_: &str,
) -> Option<&'s Condition> {
    let is = conditions::find(&after.conditions, type_)?;
    let was = conditions::find(&before.conditions, type_);
    (was.map(|was| (&was.status, &was.reason)) != Some((&is.status, &is.reason))).then_some(is)
}

/// Returns the heals. The first write of a mirror that has never held a set fills its targets, and is no heal.
pub fn healed<'p>(
    before: &ParameterMirrorStatus,
    published: &'p Published,
) -> impl Iterator<Item = &'p Heal> + use<'p> {
    let had_a_set = before.revision.is_some();
    published.healed.iter().filter(move |_| had_a_set)
}

/// Emits a Kubernetes event, and a log line with the same text.
pub fn emit(mirror: &ParameterMirror, draft: &EventDraft, ctx: &Context) {
    draft.log();
    ctx.events.emit(mirror.object_ref(&()), draft);
}

fn restored(heal: &Heal) -> EventDraft {
    let Heal { kind, name, cause } = heal;
    let action = match *cause {
        "missing" => "Create",
        "edited" => "Revert",
        _ => "Update",
    };
    let note = format!("{kind} {name} was {cause}; it holds the last known good set again.");
    EventDraft::normal("Healed", &format!("{action}{kind}"), note)
}

const fn write_of(kind: TargetKind) -> &'static str {
    match kind {
        TargetKind::Secret => "WriteSecret",
        TargetKind::Redis => "WriteRedis",
    }
}

/// The part of the mirror that a reason of Degraded is about.
fn action_of(reason: &str, targets: &Targets) -> &'static str {
    let has_it = |issue: TargetReason| issue.as_str() == reason;
    let of_targets =
        targets.iter().find(|target| target.state().issue.as_ref().is_some_and(|issue| has_it(issue.reason)));
    match of_targets {
        Some(target) => write_of(target.kind()),
        None if reason.starts_with("Secret") => "WriteSecret",
        None if reason.starts_with("Redis") => "WriteRedis",
        None if reason == TargetReason::KeyMissing.as_str() => "ReadKeys",
        None => "ReadSource",
    }
}
