//! Turns what a reconcile found and did into conditions (docs/design/formats.md, "Reasons").

mod messages;

use jiff::Timestamp;

use super::plan::PlanError;
use super::resolve::{Incident, SourceIssue};
use super::target::{TargetIssue, TargetReason};
use crate::mirror::snapshot::ReadErrorKind;

/// A condition before it is merged into the object's list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConditionState {
    /// `True`, `False` or `Unknown`.
    pub status: &'static str,
    /// The reason, one of the closed list.
    pub reason: String,
    /// What is served, since when, why, what happens next, what to do.
    pub message: String,
}

/// The three conditions of a mirror.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conditions {
    /// Whether only a person can resolve the issue.
    pub stalled: ConditionState,
    /// Whether the last known good set is served or a target lags; `None` leaves the condition unchanged.
    pub degraded: Option<ConditionState>,
    /// Whether the spec is valid and granted and every target holds a complete set; `None` leaves the condition unchanged.
    pub ready: Option<ConditionState>,
    /// That the mirror is suspended; `None` if it is not.
    pub suspended: Option<ConditionState>,
}

/// What a target holds, as far as it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holding {
    /// The set that is served.
    Current,
    /// A complete set that may be older, or that this operator cannot verify.
    Other,
    /// Nothing: it does not exist, or was damaged.
    Nothing,
    /// It exists and belongs to somebody else.
    Foreign,
}

/// One target after this reconcile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetStatus {
    /// The name in messages: `Secret checkout-config`, `Redis pm:{shop/checkout}`.
    pub name: String,
    /// What it holds.
    pub holds: Holding,
    /// Whether this process has observed that; otherwise it is taken from the status.
    pub seen: bool,
    /// The issue, if there is one.
    pub issue: Option<TargetIssue>,
    /// Since when there is an issue.
    pub since: Option<Timestamp>,
}

impl TargetStatus {
    /// Whether it holds no set of this mirror.
    const fn is_empty(&self) -> bool {
        matches!(self.holds, Holding::Nothing | Holding::Foreign)
    }
}

/// The state of the source, after the last due read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SourceState {
    /// This process has not read yet; the previous conditions still hold.
    NotReadYet,
    /// The last due read was good.
    Good,
    /// The last read failed, or was not published in full.
    Issue(Incident),
}

/// Everything that the conditions depend on.
#[derive(Clone, Debug)]
pub struct StatusInput<'a> {
    /// The current time, for dates in messages.
    pub now: Timestamp,
    /// Namespace of the mirror, for commands in messages.
    pub namespace: &'a str,
    /// Name of the mirror, for commands in messages.
    pub mirror: &'a str,
    /// The owner that its targets name, for commands in messages.
    pub owner: &'a str,
    /// Name of its source, for commands in messages.
    pub source_name: &'a str,
    /// Where the parameters come from, for messages: `us-east-1 (source default)`.
    pub place: String,
    /// What the mirror selects, for messages.
    pub selected: String,
    /// Number of parameters in the last known good set and when it was last known to be current.
    pub served: Option<(usize, Timestamp)>,
    /// Whether what is served is older than `maxStaleness`.
    pub is_stale: bool,
    /// The state of the source.
    pub source: SourceState,
    /// The targets that the spec wants.
    pub targets: Vec<TargetStatus>,
    /// Why nothing can be signed or verified, if the keys are lost.
    pub keys: Option<TargetIssue>,
}

fn verdict(status: &'static str, reason: impl Into<String>, message: impl Into<String>) -> ConditionState {
    ConditionState { status, reason: reason.into(), message: message.into() }
}

/// The conditions of a spec that is invalid or not granted: Ready is False, whatever is served.
#[must_use]
pub fn refused(refusal: &PlanError, served: Option<usize>) -> Conditions {
    let reason = match refusal {
        PlanError::InvalidSpec(_) => "InvalidSpec",
        PlanError::NotGranted(_) => "NotGranted",
    };
    let message = format!("{}. {}", refusal.to_string().trim_end_matches('.'), messages::refused(served));
    Conditions {
        stalled: verdict("True", reason, message.clone()),
        degraded: None,
        ready: Some(verdict("False", reason, message)),
        suspended: None,
    }
}

/// The conditions while `suspend` is true. Ready keeps its status, unless a target holds nothing.
#[must_use]
pub fn suspended(ready_before: &'static str, empty: &[String]) -> Conditions {
    let ready = if empty.is_empty() { ready_before } else { "False" };
    let message = messages::suspended(empty);
    Conditions {
        stalled: verdict("False", AS_EXPECTED, "The mirror is suspended by its spec."),
        degraded: Some(verdict("Unknown", "Suspended", message.clone())),
        ready: Some(verdict(ready, "Suspended", message.clone())),
        suspended: Some(verdict("True", "Suspended", message)),
    }
}

/// The conditions of a mirror whose deletion waits for a target until a time. Ready stays as it was, because nothing is lost yet.
#[must_use]
pub fn deleting(target: &str, why: &str, until: &str) -> Conditions {
    let message = messages::deleting(target, why, until);
    Conditions {
        stalled: verdict("False", AS_EXPECTED, "The mirror is being deleted."),
        degraded: Some(verdict("True", "DeletionWaiting", message)),
        ready: None,
        suspended: None,
    }
}

/// The conditions of a mirror that has a plan.
#[must_use]
pub fn conditions(facts: &StatusInput<'_>) -> Conditions {
    Conditions { stalled: stalled(facts), degraded: degraded(facts), ready: ready(facts), suspended: None }
}

const AS_EXPECTED: &str = "AsExpected";

fn as_expected(facts: &StatusInput<'_>) -> ConditionState {
    let is_well = facts.issue().is_none() && facts.keys.is_none() && facts.target_issues().next().is_none();
    let message = if is_well {
        "No manual action is required."
    } else {
        "The operator goes on by itself. Degraded says what is wrong, and whether somebody has to act."
    };
    verdict("False", AS_EXPECTED, message)
}

impl StatusInput<'_> {
    fn target_issues(&self) -> impl Iterator<Item = (&TargetStatus, &TargetIssue)> {
        self.targets.iter().filter_map(|target| Some((target, target.issue.as_ref()?)))
    }

    fn issue(&self) -> Option<&SourceIssue> {
        match &self.source {
            SourceState::Issue(incident) => Some(&incident.issue),
            SourceState::Good | SourceState::NotReadYet => None,
        }
    }

    /// Whether nothing has been read yet and a target that last held a set cannot be observed, as after a restart: what
    /// is served is unknown, and must not be reported as nothing.
    fn is_unobserved(&self) -> bool {
        self.served.is_none() && self.targets.iter().any(|target| !target.is_empty() && !target.seen)
    }
}

fn stalled(facts: &StatusInput<'_>) -> ConditionState {
    facts.target_issues().find(|(_, issue)| issue.reason.is_conflict()).map_or_else(
        || as_expected(facts),
        |(target, issue)| verdict("True", issue.reason.as_str(), messages::target(facts, target, issue)),
    )
}

fn ready(facts: &StatusInput<'_>) -> Option<ConditionState> {
    let unreadable = || facts.target_issues().any(|(_, issue)| issue.reason == TargetReason::KeyMissing);
    if facts.keys.is_some() || facts.is_unobserved() || (facts.served.is_none() && unreadable()) {
        // Nothing can be observed or verified, so there is nothing new to report.
        return None;
    }
    let empty = facts.target_issues().find(|(target, _)| target.is_empty());
    if let (Some((target, issue)), true) = (empty, facts.served.is_some() || is_lasting(facts)) {
        return Some(verdict("False", issue.reason.as_str(), messages::target(facts, target, issue)));
    }
    let Some(issue) = facts.issue() else {
        return match facts.source {
            SourceState::NotReadYet if facts.served.is_none() => {
                Some(verdict("Unknown", "Pending", "The first read of SSM is under way."))
            }
            SourceState::NotReadYet => None,
            _ => Some(verdict("True", "Synced", messages::serving(facts))),
        };
    };
    if facts.served.is_some() {
        // With an empty path, everything that SSM has is published.
        let is_held = !matches!(issue, SourceIssue::EmptyPaths(_));
        let reason = if is_held { "ServingLastKnownGood" } else { "Synced" };
        return Some(verdict("True", reason, messages::serving(facts)));
    }
    let reason = match issue {
        SourceIssue::NoParameters | SourceIssue::EmptyPaths(_) => "NoParameters",
        SourceIssue::ParameterNotFound(_) => "ParameterNotFound",
        SourceIssue::Read(failure) if failure.reason.is_limit() => failure.reason.as_str(),
        SourceIssue::Read(_) | SourceIssue::SuspiciousShrink(_) => "NoLastKnownGood",
    };
    Some(verdict("False", reason, messages::source(facts)))
}

/// Whether there is a conflict or a missing configuration. These are reported even before there is a set to publish.
fn is_lasting(facts: &StatusInput<'_>) -> bool {
    facts
        .target_issues()
        .any(|(_, issue)| issue.reason.is_conflict() || issue.reason == TargetReason::RedisNotConfigured)
}

fn degraded(facts: &StatusInput<'_>) -> Option<ConditionState> {
    let verdict = degraded_as_is(facts)?;
    Some(if facts.is_stale && verdict.status == "True" { stale(facts, &verdict) } else { verdict })
}

/// What is served is older than `maxStaleness`: `Stale` becomes the reason, and the cause stays in the message.
fn stale(facts: &StatusInput<'_>, cause: &ConditionState) -> ConditionState {
    verdict("True", "Stale", format!("{} {}: {}", messages::stale(facts), cause.reason, cause.message))
}

fn degraded_as_is(facts: &StatusInput<'_>) -> Option<ConditionState> {
    let is_drill = |issue: &&SourceIssue| matches!(issue, SourceIssue::Read(failure) if failure.reason == ReadErrorKind::Drill);
    if let Some(drill) = facts.issue().filter(is_drill) {
        return Some(of_the_source(facts, drill));
    }
    if let Some(keys) = &facts.keys {
        return Some(verdict(
            "True",
            keys.reason.as_str(),
            format!("{} {}", keys.detail, messages::serving(facts)),
        ));
    }
    let lost_key = facts.target_issues().find(|(_, issue)| issue.reason == TargetReason::KeyMissing);
    let source = facts.issue().filter(|_| lost_key.is_none());
    match (source, lost_key.or_else(|| facts.target_issues().next())) {
        (Some(issue), _) => Some(of_the_source(facts, issue)),
        (None, Some((target, issue))) => {
            Some(verdict("True", issue.reason.as_str(), messages::target(facts, target, issue)))
        }
        (None, None) => match facts.source {
            SourceState::NotReadYet if facts.served.is_none() => {
                Some(verdict("Unknown", "Pending", "The first read of SSM is under way."))
            }
            SourceState::NotReadYet => None,
            _ => Some(verdict("False", "Synced", messages::serving(facts))),
        },
    }
}

/// What the source lacks comes first; what a target lacks beside it is appended.
fn of_the_source(facts: &StatusInput<'_>, issue: &SourceIssue) -> ConditionState {
    let message = [messages::source(facts), messages::also(facts)].join(" ");
    verdict("True", issue.reason(), message.trim_end())
}

#[cfg(test)]
mod tests;
