//! One pass over one mirror, as named steps:
//!
//! ```text
//! plan      spec + grants -> Plan, or why not             pure, confirmed by a live read before it denies
//! observe   what do the targets hold?                     I/O, cheap unless something changed
//! read      begin a due read / take a finished answer     runs beside the passes
//! resolve   answer + last known good -> Fresh | Held | Unavailable         pure
//! permit    may it be written, judged by where it was read? pure
//! publish   converge the Secret, then Redis               I/O, compare-and-set
//! report    status, events, logs                          I/O, only what changed
//! ```
//!
//! There is no mode for outages: a failed read skips nothing but the read.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use kube::ResourceExt;
use kube::runtime::reflector::ObjectRef;

use crate::api::conditions;
use crate::api::{ACCEPT_SHRINK, ParameterMirror, ParameterSource, SYNC_AT};
use crate::controller::context::Context;
use crate::controller::state::mirror_state::{Existence, LastReconcile, MirrorState};
use crate::controller::steps::bootstrap;
use crate::controller::steps::confirm;
use crate::controller::steps::evict;
use crate::controller::steps::finalize;
use crate::controller::steps::observe::{Depth, observe};
use crate::controller::steps::permit::permit;
use crate::controller::steps::publish::publish;
use crate::controller::steps::read::{self, ReadOutcome};
use crate::controller::steps::report;
use crate::kubernetes::queue::Requeue;
use crate::kubernetes::watches::CachedVersion;
use crate::mirror::plan::{Plan, PlanError, PlanInput};
use crate::mirror::resolve::{Resolution, ResolveInput, SourceIssue};
use crate::mirror::schedule;
use crate::targets::secret::Owner;

/// One pass. Never fails: what goes wrong is a condition, and the next pass is already planned.
#[allow(
    clippy::significant_drop_tightening,
    reason = "the state of a mirror belongs to one reconcile at a time"
)]
pub async fn reconcile(mirror: &ParameterMirror, ctx: &Arc<Context>) -> Requeue {
    let key = ObjectRef::from_obj(mirror);
    let state = ctx.states.of(&key);
    let mut state = state.lock().await;
    let state = &mut *state;
    if state.uid != mirror.metadata.uid {
        *state = MirrorState { uid: mirror.metadata.uid.clone(), ..MirrorState::default() };
    }
    if mirror.metadata.deletion_timestamp.is_some() {
        ctx.queue.enter_step(&key, "delete");
        return finalize::delete(mirror, state, ctx).await;
    }
    let enter_step = |step| ctx.queue.enter_step(&key, step);
    let plan = match plan(mirror, state, ctx).await {
        Ok(plan) => shared(plan, state),
        Err(refusal) => return refuse(mirror, &refusal, state, ctx).await,
    };
    if plan.suspend {
        *state =
            MirrorState { uid: state.uid.take(), reported: state.reported.take(), ..MirrorState::default() };
        report::suspended(mirror, state, ctx).await;
        return Requeue::OnChange;
    }
    if let Some(secret) = &plan.secret {
        state.secret.ack_watch(&ctx.watches.secret(&plan.namespace, &secret.name));
    }
    if let Some(pause) = unchanged_until(mirror, &plan, state, ctx) {
        return Requeue::After(pause);
    }
    finalize::ensure_finalizer(mirror, &plan, ctx).await;
    apply_annotations(mirror, &plan, state, ctx);
    let depth = if read::is_due(&plan, state, ctx) { Depth::Full } else { Depth::Cheap };
    if depth == Depth::Cheap && evict::is_unchanged(&plan, state, ctx).await {
        return finish(mirror, plan, false, state, ctx);
    }
    enter_step("observe");
    observe(mirror, &plan, state, depth, ctx).await;
    enter_step("read");
    schedule_first_read(mirror, &plan, state, ctx);
    let answer = read::finished(&plan, state, ctx);
    // One that became due while another one was under way begins in the next pass, which reads the targets back first.
    if depth == Depth::Full && read::is_due(&plan, state, ctx) {
        read::begin(&key, &plan, state, ctx);
    }
    enter_step("resolve");
    let resolution = resolve(mirror, &plan, answer.as_ref(), state, ctx);
    let owner = Owner { name: mirror.name_any(), uid: mirror.uid().unwrap_or_default() };
    enter_step("publish");
    let previous = state.previous_status(mirror, ctx.clock.uptime());
    let permit = permit(&plan, &resolution, &previous, state, ctx);
    let mut published = publish(&plan, &owner, &resolution, permit, answer.as_ref(), state, ctx).await;
    if answer.is_some() && state.secret.existence == Existence::Assumed {
        // Nothing was to be created. What is there, if anything, has to be known now.
        state.secret.doubt_existence();
        published.look_again = true;
    }
    let orphans = finalize::delete_orphans(mirror, &plan, state, ctx).await;
    enter_step("report");
    report::report(mirror, &plan, &published, orphans, state, ctx).await;
    confirm::report_source(&plan, answer.as_ref(), ctx).await;
    finish(mirror, plan, published.look_again, state, ctx)
}

/// Step 1. Allowed by the watch is allowed; a refusal is confirmed by a live read before it is acted on.
async fn plan(mirror: &ParameterMirror, state: &mut MirrorState, ctx: &Context) -> Result<Plan, PlanError> {
    let namespace = mirror.namespace().unwrap_or_default();
    let name = mirror.name_any();
    let source = ctx.watches.source(&mirror.spec.source);
    let labels = ctx.watches.namespace_labels(&namespace).unwrap_or_default();
    let judge = |source: Option<&ParameterSource>, labels: &BTreeMap<String, String>| {
        let around = PlanInput {
            cluster: &ctx.settings.cluster,
            namespace: &namespace,
            namespace_labels: labels,
            mirror: &name,
            source: source.map(|source| &source.spec),
            drill_until: ctx.drills.until(&mirror.spec.source, source, ctx.clock.now()),
            redis_prefix: &ctx.settings.redis_prefix,
            key_secret: ctx.settings.keys.of(&namespace),
        };
        Plan::new(&mirror.spec, &around)
    };
    let judged = judge(source.as_ref(), &labels);
    match judged {
        Ok(plan) if plan.source.is_some() => {
            state.source.due_now |= state.refused.take().is_some();
            Ok(plan)
        }
        Ok(plan)
            if !read::is_due(&plan, state, ctx)
                || ctx.missing_sources.is_missing(&plan.source_name, ctx.clock.uptime()) =>
        {
            Ok(plan)
        }
        Err(PlanError::InvalidSpec(_)) => judged,
        Err(ref refusal) if confirm::is_confirmed(refusal, state, ctx) => judged,
        unconfirmed => match confirm::fetch_inputs(&mirror.spec.source, &namespace, ctx).await {
            Some((source, labels)) => judge(source.as_ref(), &labels).inspect_err(|refusal| {
                state.refused = Some((refusal.clone(), ctx.clock.uptime()));
            }),
            // The API server does not say: a plan without a source is an outage, a refusal stands for now.
            None => unconfirmed,
        },
    }
}

/// The plan as it is remembered, if it is the same: a plan is as large as its spec.
fn shared(plan: Plan, state: &MirrorState) -> Arc<Plan> {
    let known = state.settled.as_ref().map(|settled| &settled.plan).filter(|known| ***known == plan);
    known.map_or_else(|| Arc::new(plan), Arc::clone)
}

/// The spec is wrong or not granted: no read, no healing; what is served stays as it is.
async fn refuse(
    mirror: &ParameterMirror,
    refusal: &PlanError,
    state: &mut MirrorState,
    ctx: &Context,
) -> Requeue {
    state.in_flight = None;
    state.settled = None;
    report::refused(mirror, refusal, state, ctx).await;
    Requeue::After(confirm::CONFIRM_EVERY)
}

/// How long to wait if neither the object, the targets nor the clock ask for anything.
///
/// Every write of a status comes back as a change of the object; this is where that ends.
fn unchanged_until(
    mirror: &ParameterMirror,
    plan: &Plan,
    state: &MirrorState,
    ctx: &Context,
) -> Option<Duration> {
    let now = ctx.clock.uptime();
    let settled = state.settled.as_ref()?;
    let same = *settled.plan == *plan
        && settled.generation == mirror.metadata.generation
        && settled.sync_at.as_ref() == mirror.annotations().get(SYNC_AT)
        && settled.accept_shrink.as_ref() == mirror.annotations().get(ACCEPT_SHRINK);
    let secret_as_known = plan.secret.as_ref().is_none_or(|secret| {
        match (ctx.watches.secret(&plan.namespace, &secret.name), &state.evicted) {
            (CachedVersion::Known(watched), Some(known)) => known.is_secret_version(watched.as_deref()),
            (CachedVersion::Known(watched), None) => {
                !state.secret.differs_from_observed(watched.as_deref(), now)
            }
            // It is asked for at the next check, which is never far.
            (CachedVersion::NotWatched, known) => known.is_some() || state.secret.observed.is_some(),
        }
    });
    let answered = state.in_flight.as_ref().is_some_and(|read| read.has_ended());
    let keys_as_known = state.keys_version == ctx.keys().version;
    let due = read::is_due(plan, state, ctx);
    let quiet = same && secret_as_known && keys_as_known && !answered && !due && now < settled.next_check;
    quiet.then(|| next_requeue(plan, settled.next_check, state, ctx))
}

/// What the user asks for besides the rhythm: a read now, or removals approved.
fn apply_annotations(mirror: &ParameterMirror, plan: &Plan, state: &mut MirrorState, ctx: &Context) {
    let asked = mirror.annotations().get(SYNC_AT);
    let known = state
        .requested_sync_at
        .clone()
        .or_else(|| mirror.status.as_ref().and_then(|status| status.last_handled_sync_at.clone()));
    if asked.is_some() && asked != known.as_ref() {
        state.source.due_now = true;
    }
    state.requested_sync_at = asked.cloned().or(known);
    if let Some(settled) = &state.settled {
        let approved = mirror.annotations().get(ACCEPT_SHRINK);
        let other_set = settled.plan.source != plan.source || settled.plan.selections != plan.selections;
        if other_set || (approved.is_some() && approved != settled.accept_shrink.as_ref()) {
            state.source.due_now = true;
        }
    }
    if state.last_sync.is_none() {
        let recorded = mirror.status.as_ref().and_then(|status| status.last_sync_time.as_ref());
        state.last_sync = recorded.map(|time| time.0.min(ctx.clock.now()));
    }
}

/// docs/design/formats.md, "Two rhythms": at once if it never had a set, or if the set or the status is not of this spec; else
/// spread over the interval.
fn schedule_first_read(mirror: &ParameterMirror, plan: &Plan, state: &mut MirrorState, ctx: &Context) {
    if state.source.first_due.is_some() {
        return;
    }
    let now = ctx.clock.uptime();
    let covered = state.good.as_ref().is_some_and(|good| {
        parameter_mirror_format::content::source::StoredSource::decode(&good.content.source)
            .is_ok_and(|stored| plan.is_covered_by(&stored))
    });
    let first_selection = plan.selections.first().map(ToString::to_string).unwrap_or_default();
    let seen = mirror
        .status
        .as_ref()
        .is_some_and(|status| Some(status.observed_generation) == mirror.metadata.generation);
    state.source.first_due = Some(if covered && seen {
        schedule::first_read(now, plan.interval, &plan.source_name, &first_selection)
    } else {
        now
    });
}

/// Step 4, and what the answer means for the rhythm of reads.
fn resolve(
    mirror: &ParameterMirror,
    plan: &Plan,
    answer: Option<&ReadOutcome>,
    state: &mut MirrorState,
    ctx: &Context,
) -> Resolution {
    let now = ctx.clock.now();
    let good = state.good.clone();
    let issue = answer.map_or(state.source.issue.as_ref().map(|(issue, _)| issue.clone()), |answer| {
        answer.outcome.as_ref().err().cloned().map(SourceIssue::Read)
    });
    let is_needy = good.is_none() && issue.is_some_and(|issue| issue.is_outage());
    let donated = is_needy.then(|| bootstrap::from_peers(plan, ctx)).flatten();
    let absent_before = state.source.absences.before().cloned();
    let input = ResolveInput {
        plan,
        last_known_good: good.as_ref(),
        latest_read_at: state.latest_read_at,
        now: now.as_millisecond(),
        accepted_shrink: mirror.annotations().get(ACCEPT_SHRINK).map(String::as_str),
        donated: donated.as_ref(),
        absent_before: absent_before.as_ref(),
    };
    let Some(answer) = answer else {
        if let Some(failure) = read::budget_exhausted(plan, state, ctx) {
            let issue = SourceIssue::Read(failure);
            state.source.issue.get_or_insert((issue, now));
        }
        return input.hold(state.source.issue.as_ref().map(|(issue, _)| issue.clone()));
    };
    let source = &mut state.source;
    source.has_read = true;
    let (resolution, issue) = match &answer.outcome {
        Ok(reading) => {
            source.failures = 0;
            let resolution = input.after_reading(reading);
            let waits = matches!(resolution, Resolution::Awaiting { .. });
            let uptime = ctx.clock.uptime();
            let confirm_at = waits.then(|| schedule::confirm_at(source.last_began.unwrap_or(uptime), uptime));
            source.absences.note(input.absent(reading), confirm_at);
            let began = jiff::Timestamp::from_millisecond(reading.started_at).unwrap_or(now);
            if matches!(resolution, Resolution::Fresh { .. }) {
                state.confirmed_at = reading.started_at.max(state.latest_read_at.saturating_add(1));
                state.last_sync = state.last_sync.max(Some(began));
            }
            // What was wrong with the set stays wrong with it while it stays.
            let before = source.issue.as_ref().map(|(issue, _)| issue);
            let lasts = before.filter(|issue| waits && !matches!(issue, SourceIssue::Read(_)));
            let issue = resolution.issue().or(lasts).cloned();
            (resolution, issue)
        }
        Err(failure) => {
            source.failures = source.failures.saturating_add(1);
            let issue = SourceIssue::Read(failure.clone());
            (input.hold(Some(issue.clone())), Some(issue))
        }
    };
    let source = &mut state.source;
    source.issue = issue.map(|issue| {
        let since = match &source.issue {
            Some((_, since)) => *since,
            None => issue_since(mirror).unwrap_or(now),
        };
        (issue, since)
    });
    // One that waits for the next read ends with that one.
    if !matches!(resolution, Resolution::Awaiting { .. }) {
        state.handled_sync_at.clone_from(&answer.sync_at);
    }
    resolution
}

/// Since when a restarted operator's mirror has been degraded on the source's side.
fn issue_since(mirror: &ParameterMirror) -> Option<jiff::Timestamp> {
    let degraded = conditions::find(&mirror.status.as_ref()?.conditions, conditions::DEGRADED)?;
    (degraded.status == "True").then_some(degraded.last_transition_time.0)
}

/// Remembers what this pass was based on, and says when the next one is due.
fn finish(
    mirror: &ParameterMirror,
    plan: Arc<Plan>,
    look_again: bool,
    state: &mut MirrorState,
    ctx: &Arc<Context>,
) -> Requeue {
    let now = ctx.clock.uptime();
    if look_again {
        state.settled = None;
        return Requeue::After(Duration::ZERO);
    }
    let unsaid = state.in_flight.as_ref().filter(|_| state.reported.is_none());
    let unsaid = unsaid.map(|read| read.due + report::PENDING_AFTER).filter(|end| *end > now);
    let untold = state.deferred_since.map(|_| now + report::RETRY_EVERY);
    let next_check =
        [unsaid, untold].into_iter().flatten().fold(now + schedule::check_every(plan.interval), Ord::min);
    let pause = next_requeue(&plan, next_check, state, ctx);
    state.settled = Some(LastReconcile {
        sync_at: mirror.annotations().get(SYNC_AT).cloned(),
        accept_shrink: mirror.annotations().get(ACCEPT_SHRINK).cloned(),
        generation: mirror.metadata.generation,
        next_check,
        plan,
    });
    evict::enforce_memory_limit(&ObjectRef::from_obj(mirror), state, ctx);
    Requeue::After(pause)
}

fn next_requeue(plan: &Plan, next_check: Duration, state: &MirrorState, ctx: &Context) -> Duration {
    let now = ctx.clock.uptime();
    let next_read = match state.in_flight {
        Some(_) => next_check,
        None => state.source.next_read(plan.interval, now),
    };
    // A Secret that is deleted right after it was written looks like a watch that lags.
    let lag_ends = state.secret.lag_ends().filter(|end| *end > now).unwrap_or(next_check);
    next_check.min(next_read).min(lag_ends).saturating_sub(now)
}
