//! The one place where the values that the steps return become the state of a mirror.

use std::time::Duration;

use jiff::Timestamp;
use kube::ResourceExt as _;

use crate::api::{ACCEPT_SHRINK, MirrorIssue, ParameterMirror, SYNC_AT};
use crate::controller::context::Context;
use crate::controller::state::mirror_state::MirrorState;
use crate::controller::state::read_state::ReadState;
use crate::controller::steps::observe::Observation;
use crate::controller::steps::plan::{Confirmation, Planned};
use crate::controller::steps::publish::Published;
use crate::controller::steps::report::Reported;
use crate::controller::steps::resolve::ReadChange;
use crate::mirror::plan::{Plan, PlanError};
use crate::mirror::resolve::{Incident, SourceIssue};
use crate::mirror::schedule;
use crate::mirror::target::TargetReason;

/// Folds the plan. It remembers a refusal that the API server confirmed, and requests a read when the refusal ends.
pub fn planned(state: &mut MirrorState, planned: &Planned, now: Duration) {
    match (planned.confirmation, &planned.plan) {
        (Confirmation::Granted, _) => state.source.due_now |= state.refused.take().is_some(),
        (Confirmation::Refused, Err(error)) => state.refused = Some((PlanError::clone(error), now)),
        (Confirmation::Refused | Confirmation::Unchanged, _) => {}
    }
}

/// Folds the annotations and the spec. A new `sync-at`, a new approval of removals, or another source or selection makes a read due
/// at once. In a new process, the time of the last good read comes from the status.
pub fn annotations(state: &mut MirrorState, mirror: &ParameterMirror, plan: &Plan, now: Timestamp) {
    let requested = mirror.annotations().get(SYNC_AT);
    let recorded = || mirror.status.as_ref()?.last_handled_sync_at.clone();
    let known = state.source.requested_sync_at.clone().or_else(recorded);
    state.source.due_now |= requested.is_some() && requested != known.as_ref();
    state.source.requested_sync_at = requested.cloned().or(known);
    if let Some(last) = &state.last {
        let approved = mirror.annotations().get(ACCEPT_SHRINK);
        let is_another_set = last.plan.source != plan.source || last.plan.selections != plan.selections;
        let is_approved = approved.is_some() && approved != last.accept_shrink.as_ref();
        state.source.due_now |= is_another_set || is_approved;
    }
    if state.last_sync.is_none() {
        let recorded = mirror.status.as_ref().and_then(|status| status.last_sync_time.as_ref());
        state.last_sync = recorded.map(|time| time.0.min(now));
    }
}

/// Folds the observation. A newer set in a target becomes the last known good.
pub fn observed(state: &mut MirrorState, observation: Observation) {
    state.is_evicted = false;
    if let Some(read_at) = observation.read_at {
        state.advance_read_at(read_at);
    }
    state.source.due_now |= observation.read_again;
    if let Some(adopted) = observation.adopted {
        state.last_sync = state.last_sync.max(Some(adopted.known_good_at));
        state.good = Some(adopted.set);
    }
    if let Some(good) = &state.good {
        state.targets.share_content(good);
    }
}

/// Folds a read that has ended, or that has waited too long for the request budget. `sync_at` is the value of the annotation that
/// the read answers.
pub fn read(
    state: &mut MirrorState,
    change: ReadChange,
    sync_at: Option<&String>,
    mirror: &ParameterMirror,
    ctx: &Context,
) {
    let (now, uptime) = (ctx.clock.now(), ctx.clock.uptime());
    let reads = &mut state.source;
    let (issue, is_awaiting, is_fresh) = match change {
        ReadChange::Starved(error) => {
            if reads.issue.is_none() {
                let incident = incident(SourceIssue::Read(error), reads, mirror, now);
                reads.issue = Some(Incident { failed_reads: 0, ..incident });
            }
            return;
        }
        ReadChange::Failed(error) => {
            reads.failures = reads.failures.saturating_add(1);
            (Some(SourceIssue::Read(error)), false, false)
        }
        ReadChange::Complete { started_at, absent, is_fresh, is_awaiting, issue } => {
            reads.failures = 0;
            let confirm_at =
                is_awaiting.then(|| schedule::confirm_at(reads.last_began.unwrap_or(uptime), uptime));
            reads.absences.note(absent, confirm_at);
            if is_fresh {
                let began = Timestamp::from_millisecond(started_at).unwrap_or(now);
                state.confirmed_at = started_at.max(state.latest_read_at.saturating_add(1));
                state.last_sync = state.last_sync.max(Some(began));
            }
            (issue, is_awaiting, is_fresh)
        }
    };
    let reads = &mut state.source;
    reads.without_set =
        if state.good.is_some() || is_fresh { 0 } else { reads.without_set.saturating_add(1) };
    reads.issue = issue.map(|issue| incident(issue, reads, mirror, now));
    reads.has_read = true;
    // A read that waits for confirmation does not answer `sync-at`; the read that confirms it does.
    if !is_awaiting {
        reads.handled_sync_at = sync_at.cloned();
    }
}

/// Dates an issue that the last read has, or still has: it keeps the time of the incident that it continues.
fn incident(issue: SourceIssue, reads: &ReadState, mirror: &ParameterMirror, now: Timestamp) -> Incident {
    let before = reads.issue.as_ref().filter(|before| issue.continues(&before.issue));
    let is_new_process = !reads.has_read;
    let reported = || reported_since(mirror, MirrorIssue::SOURCE, |reason| issue.continues_reason(reason));
    let failed_before = before.map_or(0, |before| before.failed_reads);
    let failed = u32::from(matches!(issue, SourceIssue::Read(_)));
    let since =
        before.map(|before| before.since).or_else(|| reported().filter(|_| is_new_process)).unwrap_or(now);
    Incident { issue, since, failed_reads: failed_before.saturating_add(failed) }
}

/// Returns since when the status reports such an issue, so that a restarted operator keeps that time.
fn reported_since(
    mirror: &ParameterMirror,
    about: &str,
    is_same: impl Fn(&str) -> bool,
) -> Option<Timestamp> {
    let issues = &mirror.status.as_ref()?.issues;
    let known = issues.iter().find(|issue| issue.about == about && is_same(&issue.reason));
    known.map(|issue| issue.since.0)
}

/// Folds what was written to the targets. The signed set becomes the last known good. A restarted operator takes the time of an
/// issue from the status.
pub fn published(state: &mut MirrorState, published: &Published, mirror: &ParameterMirror, now: Timestamp) {
    for target in state.targets.iter_mut() {
        let about = target.label();
        let reported =
            |reason: TargetReason| reported_since(mirror, &about, |known| known == reason.as_str());
        target.state_mut().date_issue(now, reported);
    }
    if let Some(signed) = &published.signed {
        state.advance_read_at(signed.content.read_at);
        state.good = Some(signed.clone());
        state.source.without_set = 0;
    }
    state.source.due_now |= published.read_again;
}

/// Folds the write of the status.
pub fn reported(state: &mut MirrorState, reported: Reported, now: Duration) {
    let report = &mut state.report;
    match reported {
        Reported::TooEarly => return,
        Reported::Deferred => {
            report.deferred_since.get_or_insert(now);
            return;
        }
        Reported::Unchanged => {}
        Reported::Written(status, at) => {
            report.written = Some((*status, at));
            report.unwritten = None;
        }
        Reported::Failed(status) => report.unwritten = Some(status),
    }
    report.deferred_since = None;
}
