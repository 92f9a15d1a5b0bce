//! Step 6: report what was found and done, as status, events and log lines. Only transitions cause events and log lines.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::api::{Patch, PatchParams};
use kube::core::Request;
use kube::runtime::reflector::ObjectRef;
use kube::{Resource, ResourceExt};
use parameter_mirror_format::content::Signed;
use parameter_mirror_format::humanize;
use parameter_mirror_format::verdict::Found;
use serde::de::IgnoredAny;
use serde_json::{Value as Json, json};

use crate::api::conditions::{self, DEGRADED, READY, STALLED, SUSPENDED};
use crate::api::{MirrorIssue, ParameterMirror, ParameterMirrorStatus};
use crate::controller::context::Context;
use crate::controller::state::mirror_state::{MirrorState, ReportState};
use crate::controller::state::read_state::ReadState;
use crate::controller::state::target_state::Targets;
use crate::controller::steps::finalize::Orphans;
use crate::controller::steps::publish::Published;
use crate::controller::transitions::{self, Transition};
use crate::kubernetes::client::{ApiError, with_timeout};
use crate::kubernetes::events::EventDraft;
use crate::mirror::copies;
use crate::mirror::plan::{Plan, PlanError};
use crate::mirror::resolve::Incident;
use crate::mirror::schedule;
use crate::mirror::status::{
    self, ConditionState, Conditions, Holding, SourceState, StatusInput, TargetStatus,
};
use crate::targets::target::{Recorded, Target};
use crate::targets::{KINDS, recorded};

/// What became of the write of the status.
pub enum Reported {
    /// The status was not written: it would be out of date within a moment.
    TooEarly,
    /// The write was deferred: the first values of other mirrors come first.
    Deferred,
    /// The status says the same already, or the mirror no longer exists.
    Unchanged,
    /// The status was written.
    Written(Box<ParameterMirrorStatus>, Duration),
    /// The status could not be written. The next reconcile tries again.
    Failed(Box<ParameterMirrorStatus>),
}

/// Writes the status of a mirror whose plan was carried out, with events and log lines for what has changed.
pub async fn report(
    mirror: &ParameterMirror,
    plan: &Plan,
    published: &Published,
    orphans: &Orphans,
    state: &MirrorState,
    ctx: &Context,
) -> Reported {
    let previous = state.previous_status(mirror, ctx.clock.uptime());
    if is_about_to_be_known(mirror, published, state, ctx.clock.uptime()) {
        return Reported::TooEarly;
    }
    if let Some(time) = served_as_of(state) {
        let stale_after = plan.max_staleness.unwrap_or_else(|| schedule::stale_after(plan.interval));
        ctx.metrics.serves(ObjectRef::from_obj(mirror), time, stale_after);
    }
    if should_defer(mirror, published, state, ctx) {
        return Reported::Deferred;
    }
    let facts = facts(mirror, plan, state, ctx);
    let conditions = status::conditions(&facts);
    let mut next = with_conditions(mirror, &previous, &conditions, ctx.clock.now());
    next.issues = issues(&facts, &previous.issues);
    next.last_sync_time = state.last_sync.map(Time).or(previous.last_sync_time.clone());
    next.last_attempt_time = state.source.last_attempt.map(Time).or(previous.last_attempt_time.clone());
    next.last_handled_sync_at =
        state.source.handled_sync_at.clone().or(previous.last_handled_sync_at.clone());
    if let Some(good) = &state.good {
        next.parameter_count = i32::try_from(good.content.entries.len()).ok();
        next.revision = Some(good.content.revision());
    }
    record_targets(plan, &state.targets, &previous, orphans, &mut next);
    for heal in transitions::healed(&previous, published) {
        ctx.metrics.healed(heal.kind);
    }
    // A status that could not be written was reported to log and events all the same, so it is not reported twice.
    let known = state.report.unwritten.as_deref().unwrap_or(&previous);
    let transition = Transition { before: known, after: &next, published, now: ctx.clock.now() };
    let drafts = transition.events(state.good.as_ref(), &state.targets);
    let reported = write(mirror, &previous, next, plan.interval, &state.report, ctx).await;
    for draft in drafts {
        transitions::emit(mirror, &draft, ctx);
    }
    reported
}

/// How long a first read may take before the status of its mirror says `Pending`.
pub const PENDING_AFTER: Duration = Duration::from_secs(2);

/// Whether the first status of a mirror would be out of date within a moment: a read has just begun, or a write met a Secret that
/// no watch shows and that is yet to be observed.
fn is_about_to_be_known(
    mirror: &ParameterMirror,
    published: &Published,
    state: &MirrorState,
    now: Duration,
) -> bool {
    let is_new = mirror.status.as_ref().is_none_or(|status| status.conditions.is_empty());
    let is_reading = state.source.in_flight.as_ref().is_some_and(|read| now < read.due + PENDING_AFTER);
    is_new && state.report.written.is_none() && (is_reading || published.observe_again)
}

/// How long the first status of a mirror is deferred in favour of the first values of other mirrors.
const LONGEST_DEFERRAL: Duration = Duration::from_secs(5);
/// How often a deferred status is tried again.
pub const RETRY_EVERY: Duration = Duration::from_secs(1);

/// Whether to defer the first status of a new mirror that has no issue, because many other mirrors wait for their first values. An
/// issue is reported at once.
fn should_defer(mirror: &ParameterMirror, published: &Published, state: &MirrorState, ctx: &Context) -> bool {
    let now = ctx.clock.uptime();
    let is_first = state.report.written.is_none()
        && mirror.status.as_ref().is_none_or(|status| status.conditions.is_empty());
    let is_well = state.source.issue.is_none()
        && !state.targets.has_issue()
        && state.good.is_some()
        && published.healed.is_empty();
    is_first
        && is_well
        && ctx.unpublished.are_many()
        && state.report.deferred_since.is_none_or(|since| now < since + LONGEST_DEFERRAL)
}

/// Writes the status of a mirror whose spec is refused.
pub async fn refused(
    mirror: &ParameterMirror,
    error: &PlanError,
    state: &MirrorState,
    ctx: &Context,
) -> Reported {
    let previous = state.previous_status(mirror, ctx.clock.uptime());
    let served = previous.parameter_count.and_then(|count| usize::try_from(count).ok());
    let next = with_conditions(mirror, &previous, &status::refused(error, served), ctx.clock.now());
    let known = state.report.unwritten.as_deref().unwrap_or(&previous);
    let draft = transitions::changed(known, &next, READY)
        .map(|ready| EventDraft::warning(&ready.reason, "CheckSpec", ready.message.clone()));
    let reported = write(mirror, &previous, next, Duration::ZERO, &state.report, ctx).await;
    if let Some(draft) = draft {
        transitions::emit(mirror, &draft, ctx);
    }
    reported
}

/// Writes the status of a suspended mirror; `empty` names the targets that hold nothing.
pub async fn suspended(
    mirror: &ParameterMirror,
    empty: &[String],
    state: &MirrorState,
    ctx: &Context,
) -> Reported {
    let previous = state.previous_status(mirror, ctx.clock.uptime());
    let before = match conditions::find(&previous.conditions, READY).map(|ready| ready.status.as_str()) {
        Some("True") => "True",
        Some("False") => "False",
        _ => "Unknown",
    };
    let mut next = with_conditions(mirror, &previous, &status::suspended(before, empty), ctx.clock.now());
    next.issues.clear();
    if let Some(ready) = transitions::changed(&previous, &next, READY) {
        transitions::emit(mirror, &EventDraft::normal("Suspended", "Suspend", ready.message.clone()), ctx);
    }
    write(mirror, &previous, next, Duration::ZERO, &state.report, ctx).await
}

/// Writes the status of a mirror that is being deleted, while its deletion waits for a target.
pub async fn deleting(
    mirror: &ParameterMirror,
    target: &str,
    why: &str,
    until: Timestamp,
    state: &MirrorState,
    ctx: &Context,
) -> Reported {
    let previous = state.previous_status(mirror, ctx.clock.uptime());
    let until = humanize::at(until, ctx.clock.now());
    let next = with_conditions(mirror, &previous, &status::deleting(target, why, &until), ctx.clock.now());
    if let Some(degraded) = transitions::changed(&previous, &next, DEGRADED) {
        let draft = EventDraft::warning(&degraded.reason, "Delete", degraded.message.clone());
        transitions::emit(mirror, &draft, ctx);
    }
    write(mirror, &previous, next, Duration::ZERO, &state.report, ctx).await
}

fn facts<'a>(
    mirror: &'a ParameterMirror,
    plan: &'a Plan,
    state: &MirrorState,
    ctx: &Context,
) -> StatusInput<'a> {
    let now = ctx.clock.now();
    let region = plan.source.as_ref().map_or("", |source| source.region.as_str());
    let selections: Vec<String> = plan.selections.iter().map(ToString::to_string).collect();
    StatusInput {
        now,
        namespace: &plan.namespace,
        mirror: &plan.mirror,
        owner: &plan.owner,
        source_name: &plan.source_name,
        place: format!("{region} (source {})", plan.source_name).trim_start().to_owned(),
        selected: humanize::few(&selections),
        served: state.good.as_ref().map(|good| good.content.entries.len()).zip(served_as_of(state)),
        is_stale: is_stale(plan, state, ctx),
        source: source_state(&state.source),
        targets: state
            .targets
            .iter()
            .map(|target| target_status(target, mirror, state.good.as_ref()))
            .collect(),
        keys: ctx.keys().issue,
    }
}

/// Whether what is served is older than `maxStaleness` (docs/design/formats.md, "Copies": the age is never below 0).
fn is_stale(plan: &Plan, state: &MirrorState, ctx: &Context) -> bool {
    let age = served_as_of(state).map(|time| ctx.clock.now().duration_since(time));
    age.zip(plan.max_staleness).is_some_and(|(age, most)| Duration::try_from(age).is_ok_and(|age| age > most))
}

/// Returns when what is served was last known to be current: when it was read, or when a later read confirmed it.
fn served_as_of(state: &MirrorState) -> Option<Timestamp> {
    let good = state.good.as_ref()?;
    let read_at = Timestamp::from_millisecond(good.content.read_at).unwrap_or(Timestamp::UNIX_EPOCH);
    Some(state.last_sync.unwrap_or(read_at))
}

/// Lists what is wrong. What this process has not looked at yet stays as reported, so that a restart keeps its beginning.
fn issues(facts: &StatusInput<'_>, reported: &[MirrorIssue]) -> Vec<MirrorIssue> {
    let reported = |about: &str| reported.iter().find(|issue| issue.about == about).cloned();
    let source = match &facts.source {
        SourceState::Issue(Incident { issue, since, .. }) => {
            Some(MirrorIssue::new(MirrorIssue::SOURCE, issue.reason(), *since))
        }
        SourceState::NotReadYet => reported(MirrorIssue::SOURCE),
        SourceState::Good => None,
    };
    let targets = facts.targets.iter().filter_map(|target| match (&target.issue, target.since) {
        (Some(issue), Some(since)) => Some(MirrorIssue::new(&target.name, issue.reason.as_str(), since)),
        (None, _) if !target.seen => reported(&target.name),
        _ => None,
    });
    source.into_iter().chain(targets).collect()
}

fn source_state(reads: &ReadState) -> SourceState {
    match &reads.issue {
        Some(incident) => SourceState::Issue(incident.clone()),
        None if reads.has_read => SourceState::Good,
        None => SourceState::NotReadYet,
    }
}

/// How messages name a target, and what it holds as far as this process or the status knows.
fn target_status(target: &dyn Target, mirror: &ParameterMirror, good: Option<&Signed>) -> TargetStatus {
    let recorded = mirror.status.as_ref().and_then(|status| recorded(target.kind(), status));
    let holds = match (target.found(), recorded, good) {
        (Some(Found::NotOurs { .. }), _, _) => Holding::Foreign,
        (Some(found), _, _) if !copies::holds_a_set(found) => Holding::Nothing,
        (Some(found), _, Some(good))
            if copies::verified(Some(found)).is_some_and(|held| held.content.same_as(&good.content)) =>
        {
            Holding::Current
        }
        (None, None, _) => Holding::Nothing,
        (None, Some(recorded), Some(good)) if recorded.revision == good.content.revision() => {
            Holding::Current
        }
        (Some(_), _, _) | (None, Some(_), _) => Holding::Other,
    };
    TargetStatus {
        name: target.label(),
        holds,
        seen: target.is_observed(),
        issue: target.state().issue.clone(),
        since: target.state().since.map(|(_, since)| since),
    }
}

/// Records for each kind the target that holds the set; while an old one waits to be deleted, that one.
fn record_targets(
    plan: &Plan,
    targets: &Targets,
    previous: &ParameterMirrorStatus,
    orphans: &Orphans,
    next: &mut ParameterMirrorStatus,
) {
    for kind in KINDS {
        let held = targets.verified().find(|(held, _)| *held == kind.kind()).map(|(_, signed)| signed);
        let recorded = match (plan.target(kind.kind()), held) {
            _ if orphans.are_left(kind.kind()) => kind.recorded(previous),
            (None, _) => None,
            (Some(target), Some(held)) => Some(Recorded {
                name: target.name().to_owned(),
                revision: held.content.revision(),
                deletion_policy: target.deletion_policy(),
            }),
            (Some(_), None) => kind.recorded(previous),
        };
        kind.record(next, recorded);
    }
}

/// Returns the status with these conditions. A transition time moves only when the status of its condition changes.
fn with_conditions(
    mirror: &ParameterMirror,
    previous: &ParameterMirrorStatus,
    next: &Conditions,
    now: Timestamp,
) -> ParameterMirrorStatus {
    let generation = mirror.metadata.generation;
    let of = |type_: &str, verdict: Option<&ConditionState>| {
        let Some(verdict) = verdict else { return conditions::find(&previous.conditions, type_).cloned() };
        let message = humanize::cut(&verdict.message, humanize::LONGEST_MESSAGE);
        let state = (verdict.status, verdict.reason.as_str(), message);
        Some(conditions::set(&previous.conditions, type_, state, generation, now))
    };
    let conditions = [
        of(STALLED, Some(&next.stalled)),
        of(DEGRADED, next.degraded.as_ref()),
        of(READY, next.ready.as_ref()),
        next.suspended.as_ref().and_then(|verdict| of(SUSPENDED, Some(verdict))),
    ];
    let conditions: Vec<_> = conditions.into_iter().flatten().collect();
    ParameterMirrorStatus {
        observed_generation: generation.unwrap_or_default(),
        reason: foremost(&conditions),
        conditions,
        ..previous.clone()
    }
}

/// Returns the reason that a list shows: why the mirror is suspended, stalled or degraded, else why it is ready or not.
fn foremost(conditions: &[Condition]) -> Option<String> {
    let is_true = |type_| conditions::find(conditions, type_).filter(|condition| condition.status == "True");
    let first = [SUSPENDED, STALLED, DEGRADED].into_iter().find_map(is_true);
    first.or_else(|| conditions::find(conditions, READY)).map(|condition| condition.reason.clone())
}

/// Writes the status if it says something new. If only messages and times have changed, it is written at most once per
/// max(1 min, interval).
async fn write(
    mirror: &ParameterMirror,
    previous: &ParameterMirrorStatus,
    next: ParameterMirrorStatus,
    interval: Duration,
    state: &ReportState,
    ctx: &Context,
) -> Reported {
    let now = ctx.clock.uptime();
    let may_wait =
        state.written.as_ref().is_some_and(|(_, at)| now < *at + interval.max(Duration::from_mins(1)));
    if *previous == next || (may_wait && without_volatile_fields(previous) == without_volatile_fields(&next))
    {
        return Reported::Unchanged;
    }
    let status = as_patch(&next);
    match write_status(&mirror.namespace().unwrap_or_default(), &mirror.name_any(), &status, ctx).await {
        Ok(()) => {
            ctx.metrics.reported();
            Reported::Written(Box::new(next), now)
        }
        Err(ApiError::NotFound) => Reported::Unchanged,
        Err(problem) => {
            // The next reconcile finds that the status still says something else, and writes it.
            tracing::warn!(error = %problem, "the status cannot be written");
            Reported::Failed(Box::new(next))
        }
    }
}

/// Writes a status. The answer is not decoded: it is the whole object, which the watch brings anyway, and the object may be one
/// that does not decode.
pub async fn write_status(namespace: &str, name: &str, status: &Json, ctx: &Context) -> Result<(), ApiError> {
    let url = ParameterMirror::url_path(&(), Some(namespace));
    let patch = Patch::Merge(json!({ "status": status }));
    let call = async {
        let request = Request::new(url).patch_subresource("status", name, &PatchParams::default(), &patch);
        let request = request.map_err(kube::Error::BuildRequest)?;
        ctx.client.request::<IgnoredAny>(request).await.map(|IgnoredAny| ())
    };
    with_timeout(call).await
}

/// Returns the part of a status that is worth a write at once: everything but messages and times.
fn without_volatile_fields(status: &ParameterMirrorStatus) -> ParameterMirrorStatus {
    let mut without_volatile_fields = status.clone();
    without_volatile_fields.last_sync_time = None;
    without_volatile_fields.last_attempt_time = None;
    for condition in &mut without_volatile_fields.conditions {
        condition.message.clear();
    }
    without_volatile_fields
}

/// Builds a merge patch. A merge patch keeps members that it does not name, so absent members are set to null.
fn as_patch(status: &ParameterMirrorStatus) -> Json {
    let mut patch = json!(status);
    if let Some(members) = patch.as_object_mut() {
        for name in [
            "reason",
            "lastSyncTime",
            "lastAttemptTime",
            "lastHandledSyncAt",
            "parameterCount",
            "revision",
            "secret",
            "redis",
        ] {
            members.entry(name).or_insert(Json::Null);
        }
    }
    patch
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A member that is forgotten here would stay in the status for ever.
    #[test]
    fn a_patch_names_every_member_of_the_status() {
        let patch = as_patch(&ParameterMirrorStatus::default());
        let schema = schemars::SchemaGenerator::default().into_root_schema_for::<ParameterMirrorStatus>();
        let schema = serde_json::to_value(schema).unwrap();
        let members = schema["properties"].as_object().unwrap();
        assert!(members.len() >= 9, "{members:?}");
        for member in members.keys() {
            assert!(patch.get(member).is_some(), "as_patch does not name {member}");
        }
    }
}
