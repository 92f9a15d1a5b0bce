//! Turns what a reconcile found and did into conditions (docs/design/formats.md, "Reasons").

use std::time::Duration;

use jiff::Timestamp;
use parameter_mirror_format::humanize;

use super::plan::PlanError;
use super::resolve::SourceIssue;
use super::target::{TargetIssue, TargetReason};
use crate::mirror::snapshot::{ReadError, ReadErrorKind};

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
}

/// One target after this reconcile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetStatus {
    /// The name in messages: `Secret checkout-config`, `Redis pm:{shop/checkout}`.
    pub name: String,
    /// Whether it holds a complete set, perhaps an older one.
    pub holds_a_set: bool,
    /// Whether this process has observed that; otherwise it is taken from the status.
    pub seen: bool,
    /// The issue, if there is one.
    pub issue: Option<TargetIssue>,
}

/// The state of the source, after the last due read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SourceState {
    /// This process has not read yet; the previous conditions still hold.
    NotReadYet,
    /// The last due read was good.
    Good,
    /// The last read failed, or was not published in full.
    Issue {
        /// The issue.
        issue: SourceIssue,
        /// Since when.
        since: Timestamp,
        /// Failed reads in a row.
        failed_reads: u32,
        /// Time until the next read.
        next_read: Duration,
    },
}

/// Everything that the conditions depend on.
#[derive(Clone, Debug)]
pub struct StatusInput<'a> {
    /// The current time, for dates in messages.
    pub now: Timestamp,
    /// Name of the mirror, for commands in messages.
    pub mirror: &'a str,
    /// Where the parameters come from, for messages: `us-east-1 (source default)`.
    pub place: String,
    /// What the mirror selects, for messages.
    pub selected: String,
    /// Number of parameters in the last known good set and when it was last known to be current.
    pub served: Option<(usize, Timestamp)>,
    /// The age of what is served, if it exceeds `maxStaleness`.
    pub stale: Option<Duration>,
    /// The state of the source.
    pub source: SourceState,
    /// The targets that the spec wants.
    pub targets: Vec<TargetStatus>,
    /// Why nothing can be signed or verified, if the keys are lost.
    pub keys: Option<TargetIssue>,
}

const AS_THEY_ARE: &str = "The targets stay as they are.";

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
    let serving = served.map_or_else(
        || "Nothing is served.".to_owned(),
        |count| format!("The {} served so far stay as they are.", humanize::parameters(count)),
    );
    let message = format!("{}. {serving}", refusal.to_string().trim_end_matches('.'));
    Conditions {
        stalled: verdict("True", reason, message.clone()),
        degraded: None,
        ready: Some(verdict("False", reason, message)),
    }
}

/// The conditions while `suspend` is true: Ready keeps its status and says so.
#[must_use]
pub fn suspended(ready_before: &'static str) -> Conditions {
    let message = "spec.suspend is true: no reads, no writes, no healing. The targets stay as they are; set it to false to go on.";
    Conditions {
        stalled: as_expected(),
        degraded: None,
        ready: Some(verdict(ready_before, "Suspended", message)),
    }
}

/// The conditions of a mirror that has a plan.
#[must_use]
pub fn conditions(facts: &StatusInput<'_>) -> Conditions {
    Conditions { stalled: stalled(facts), degraded: degraded(facts), ready: ready(facts) }
}

fn as_expected() -> ConditionState {
    verdict("False", "AsExpected", "Nothing waits for a person.")
}

impl StatusInput<'_> {
    fn target_issues(&self) -> impl Iterator<Item = (&TargetStatus, &TargetIssue)> {
        self.targets.iter().filter_map(|target| Some((target, target.issue.as_ref()?)))
    }

    fn issue(&self) -> Option<&SourceIssue> {
        match &self.source {
            SourceState::Issue { issue, .. } => Some(issue),
            SourceState::Good | SourceState::NotReadYet => None,
        }
    }

    /// Whether nothing has been read yet and a target that last held a set cannot be observed, as after a restart: what
    /// is served is unknown, and must not be reported as nothing.
    fn is_unobserved(&self) -> bool {
        self.served.is_none() && self.targets.iter().any(|target| target.holds_a_set && !target.seen)
    }

    /// `Secret a and Redis b hold all 40 parameters as read at 15:57:02 UTC.` A target with an issue is left out.
    fn serving(&self) -> String {
        let Some((count, read_at)) = self.served else {
            return if self.is_unobserved() { AS_THEY_ARE } else { "Nothing is served yet." }.to_owned();
        };
        let (current, lagging): (Vec<_>, Vec<_>) =
            self.targets.iter().partition(|target| target.issue.is_none());
        let lagging = lagging.into_iter().filter(|target| target.holds_a_set).collect();
        let all = if count == 1 { "the 1 parameter".to_owned() } else { format!("all {count} parameters") };
        [
            hold(current, &format!("{all} as read at {}", humanize::at(read_at, self.now))),
            hold(lagging, "a whole set, perhaps an older one"),
        ]
        .into_iter()
        .flatten()
        .collect::<Vec<_>>()
        .join(" ")
    }
}

/// `a and b hold x.`
fn hold(targets: Vec<&TargetStatus>, what: &str) -> Option<String> {
    let verb = if targets.len() == 1 { "holds" } else { "hold" };
    let names: Vec<&str> = targets.into_iter().map(|target| target.name.as_str()).collect();
    (!names.is_empty()).then(|| format!("{} {verb} {what}.", names.join(" and ")))
}

fn stalled(facts: &StatusInput<'_>) -> ConditionState {
    facts
        .target_issues()
        .find(|(_, issue)| issue.reason.is_conflict())
        .map_or_else(as_expected, |(target, issue)| {
            verdict("True", issue.reason.as_str(), about(facts, target, issue))
        })
}

fn ready(facts: &StatusInput<'_>) -> Option<ConditionState> {
    let unreadable = || facts.target_issues().any(|(_, issue)| issue.reason == TargetReason::KeyMissing);
    if facts.keys.is_some() || facts.is_unobserved() || (facts.served.is_none() && unreadable()) {
        // Nothing can be observed or verified, so there is nothing new to report.
        return None;
    }
    let empty = facts.target_issues().find(|(target, _)| !target.holds_a_set);
    if let (Some((target, issue)), true) = (empty, facts.served.is_some() || is_lasting(facts)) {
        return Some(verdict("False", issue.reason.as_str(), about(facts, target, issue)));
    }
    let Some(issue) = facts.issue() else {
        return match facts.source {
            SourceState::NotReadYet if facts.served.is_none() => {
                Some(verdict("Unknown", "Pending", "The first read of SSM is under way."))
            }
            SourceState::NotReadYet => None,
            _ => Some(verdict("True", "Synced", facts.serving())),
        };
    };
    if facts.served.is_some() {
        return Some(verdict("True", "ServingLastKnownGood", facts.serving()));
    }
    let reason = match issue {
        SourceIssue::NoParameters => "NoParameters",
        SourceIssue::ParameterNotFound(_) => "ParameterNotFound",
        SourceIssue::Read(failure) if failure.reason.is_limit() => failure.reason.as_str(),
        SourceIssue::Read(_) | SourceIssue::SuspiciousShrink(_) => "NoLastKnownGood",
    };
    Some(verdict("False", reason, source_message(facts).unwrap_or_default()))
}

/// Whether there is a conflict or a missing configuration. These are reported even before there is a set to publish.
fn is_lasting(facts: &StatusInput<'_>) -> bool {
    facts
        .target_issues()
        .any(|(_, issue)| issue.reason.is_conflict() || issue.reason == TargetReason::RedisNotConfigured)
}

fn degraded(facts: &StatusInput<'_>) -> Option<ConditionState> {
    let verdict = degraded_as_is(facts)?;
    Some(facts.stale.filter(|_| verdict.status == "True").map_or(verdict.clone(), |age| stale(&verdict, age)))
}

/// What is served is older than `maxStaleness`: `Stale` becomes the reason, and the cause stays in the message.
fn stale(cause: &ConditionState, age: Duration) -> ConditionState {
    let message = format!(
        "What is served is {} old, more than spec.maxStaleness. It stays as it is. {}: {}",
        humanize::span(age),
        cause.reason,
        cause.message
    );
    verdict("True", "Stale", message)
}

fn degraded_as_is(facts: &StatusInput<'_>) -> Option<ConditionState> {
    let is_drill = |failure: &ReadError| failure.reason == ReadErrorKind::Drill;
    let drill =
        facts.issue().filter(|issue| matches!(issue, SourceIssue::Read(failure) if is_drill(failure)));
    if let Some(drill) = drill {
        return Some(verdict("True", source_reason(drill), source_message(facts).unwrap_or_default()));
    }
    if let Some(keys) = &facts.keys {
        return Some(verdict("True", keys.reason.as_str(), format!("{} {}", keys.detail, facts.serving())));
    }
    let lost_key = facts.target_issues().find(|(_, issue)| issue.reason == TargetReason::KeyMissing);
    let source = facts.issue().filter(|_| lost_key.is_none());
    match (source, lost_key.or_else(|| facts.target_issues().next())) {
        (Some(issue), _) => {
            Some(verdict("True", source_reason(issue), source_message(facts).unwrap_or_default()))
        }
        (None, Some((target, issue))) => {
            Some(verdict("True", issue.reason.as_str(), about(facts, target, issue)))
        }
        (None, None) => match facts.source {
            SourceState::NotReadYet if facts.served.is_none() => {
                Some(verdict("Unknown", "Pending", "The first read of SSM is under way."))
            }
            SourceState::NotReadYet => None,
            _ => Some(verdict("False", "Synced", facts.serving())),
        },
    }
}

/// Returns the reason of Degraded for an issue of the source.
#[must_use]
pub fn source_reason(issue: &SourceIssue) -> &'static str {
    match issue {
        SourceIssue::Read(failure) => failure.reason.as_str(),
        SourceIssue::NoParameters => "NoParameters",
        SourceIssue::ParameterNotFound(_) => "ParameterNotFound",
        SourceIssue::SuspiciousShrink(_) => "SuspiciousShrink",
    }
}

fn source_message(facts: &StatusInput<'_>) -> Option<String> {
    let SourceState::Issue { issue, since, failed_reads, next_read } = &facts.source else { return None };
    let serves = facts.served.is_some();
    Some(match issue {
        SourceIssue::Read(failure) => {
            let effect = if serves {
                "New and running pods are not affected."
            } else if facts.is_unobserved() {
                AS_THEY_ARE
            } else {
                "There is no last known good set to serve, and nothing was written."
            };
            let reads = if *failed_reads == 1 {
                "1 failed read".to_owned()
            } else {
                format!("{failed_reads} failed reads")
            };
            format!(
                "SSM {}: {}, since {} ({reads}). {effect} Reads go on, the next in about {}.",
                facts.place,
                failure.detail,
                humanize::at(*since, facts.now),
                humanize::span(*next_read)
            )
        }
        SourceIssue::NoParameters if serves => format!(
            "SSM {} holds nothing below {} since {}. Empty never replaces the parameters that are served: they are kept. \
             If this is meant, delete the mirror or change its selections.",
            facts.place,
            facts.selected,
            humanize::at(*since, facts.now)
        ),
        SourceIssue::NoParameters => format!(
            "Nothing below {} in {}. Check the path; names are case sensitive.",
            facts.selected, facts.place
        ),
        SourceIssue::ParameterNotFound(names) => format!(
            "SSM {} has no {}. {} Create it there, or mark the selection `optional: true`.",
            facts.place,
            humanize::few(names),
            if serves { "What is served is kept." } else { "Nothing was written." }
        ),
        SourceIssue::SuspiciousShrink(withheld) => format!(
            "SSM no longer lists {} of {}. {} If this is meant: \
             kubectl annotate --overwrite pmirror {} parameter-mirror.dev/accept-shrink={}",
            withheld.removed,
            humanize::parameters(withheld.of),
            if withheld.of_another_source {
                "What is served is of another source and stays whole."
            } else {
                "They are kept; additions and changes are applied."
            },
            facts.mirror,
            withheld.id
        ),
    })
}

fn about(facts: &StatusInput<'_>, target: &TargetStatus, issue: &TargetIssue) -> String {
    let served = if issue.reason == TargetReason::TargetContested {
        // What it holds at the moment depends on the last writer.
        ""
    } else if target.holds_a_set {
        "It holds an older whole set."
    } else if issue.reason.is_conflict() {
        ""
    } else {
        "It holds nothing of this mirror yet."
    };
    let what_next = match issue.reason {
        TargetReason::SecretConflict => format!(
            "Choose another spec.secret.name, or let its owner consent (parameter-mirror verify names the owner if you may read the \
             Secret): kubectl annotate {} parameter-mirror.dev/adopt-by={}",
            target.name.replace("Secret ", "secret "),
            facts.mirror
        ),
        TargetReason::RedisConflict => {
            "Rename the mirror, or let the owner of the hash consent with @adoptBy.".to_owned()
        }
        _ => String::new(),
    };
    [format!("{}: {}.", target.name, issue.detail.trim_end_matches('.')), served.to_owned(), what_next]
        .into_iter()
        .filter(|part| !part.is_empty())
        .collect::<Vec<_>>()
        .join(" ")
}

#[cfg(test)]
mod tests;
