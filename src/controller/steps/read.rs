//! Step 3: begins a read of SSM when one is due, and hands over the answer of one that has ended.
//!
//! A read runs beside the passes of its mirror: a target that is lost while SSM keeps silent is restored at once.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use kube::runtime::reflector::ObjectRef;
use parameter_mirror_format::content::Signed;
use parameter_mirror_format::humanize;
use tokio::sync::oneshot;
use tokio::sync::oneshot::error::TryRecvError;
use tokio_util::task::AbortOnDropHandle;

use crate::api::{DRILL_UNTIL, ParameterMirror};
use crate::controller::context::Context;
use crate::controller::state::memory_shares::OverShare;
use crate::controller::state::mirror_state::{InFlight, MirrorState, ReadResult};
use crate::controller::state::unpublished::FirstValues;
use crate::kubernetes::queue::Urgency;
use crate::mirror::content;
use crate::mirror::copies::Freshness;
use crate::mirror::plan::{Plan, SourcePlan};
use crate::mirror::resolve::SourceIssue;
use crate::mirror::snapshot::{Priority, QueueKey, ReadError, ReadErrorKind, ReadRequest, Snapshot};

/// The answer of a read that has ended, and how far each target may rely on it.
pub struct ReadOutcome {
    /// What SSM said.
    pub outcome: Result<Snapshot, ReadError>,
    /// Whether the Secret is as it was when the read began.
    pub secret: Freshness,
    /// Whether the hash is as it was when the read began.
    pub redis: Freshness,
    /// The value of `sync-at` that it answers.
    pub sync_at: Option<String>,
    /// Held until the reconcile that publishes it ends.
    _first: Option<FirstValues>,
}

/// Whether a read would begin now.
#[must_use]
pub fn is_due(plan: &Plan, state: &MirrorState, ctx: &Context) -> bool {
    let now = ctx.clock.uptime();
    state.in_flight.is_none()
        && (has_recovered(state, ctx)
            || drill_flips(plan, state, ctx)
            || ctx.read_groups.is_triggered(&ObjectRef::new(&plan.mirror).within(&plan.namespace))
            || state.source.next_read(plan.interval, now) <= now)
}

/// Whether a drill has begun or ended since the last read. One tells at once, unlike an outage: it is short.
fn drill_flips(plan: &Plan, state: &MirrorState, ctx: &Context) -> bool {
    let is_told = matches!(
        &state.source.issue,
        Some((SourceIssue::Read(failure), _)) if failure.reason == ReadErrorKind::Drill
    );
    is_told != is_drill(plan, ctx)
}

fn is_drill(plan: &Plan, ctx: &Context) -> bool {
    plan.source.as_ref().is_some_and(|source| source.is_drill(ctx.clock.now()))
}

/// Whether SSM answers again somewhere since the read that failed: then the retry need not be waited for.
fn has_recovered(state: &MirrorState, ctx: &Context) -> bool {
    state.source.failures > 0 && state.source.recoveries_seen != *ctx.recoveries.borrow()
}

/// Begins the read, and calls those that read the same. The targets have been observed before.
pub fn begin(
    mirror: &ObjectRef<ParameterMirror>,
    plan: &Arc<Plan>,
    state: &mut MirrorState,
    ctx: &Arc<Context>,
) {
    let was_called = ctx.read_groups.is_triggered(mirror);
    let peers = ctx.read_groups.begins(mirror, plan, ctx.clock.uptime());
    let good = state.good.as_ref().map(|good| &*good.content);
    let request = ReadRequest {
        selections: plan.selections.clone(),
        known: good.map(|good| content::known(good, plan)).unwrap_or_default(),
        known_account: good.and_then(content::account),
        last_failure: last_failure(state),
        turn: turn(plan, state),
        coalesce: !peers.is_empty() || was_called,
        started: Arc::default(),
    };
    for other in peers {
        ctx.queue.add(&other, Urgency::Routine);
    }
    let started = Arc::clone(&request.started);
    state.source.due_now = false;
    state.source.absences.confirm_at = None;
    state.source.recoveries_seen = *ctx.recoveries.borrow();
    state.source.cycle = state.source.cycle.saturating_add(1);
    state.source.last_began = Some(ctx.clock.uptime());
    state.last_attempt = Some(ctx.clock.now());
    let (answered, answer) = oneshot::channel();
    let task = tokio::spawn({
        let (ctx, mirror, source) = (Arc::clone(ctx), mirror.clone(), plan.source.clone());
        let (place, is_first) = (plan.source_name.clone(), state.good.is_none());
        async move {
            let outcome = match source {
                Some(source) if source.is_drill(ctx.clock.now()) => Err(drill(&source)),
                Some(source) => ctx.ssm.read(&source, &request).await,
                None => Err(no_source(&place)),
            };
            ctx.metrics.read(&outcome);
            // The mirror may be gone by now; then nobody wants the answer.
            let first = (is_first && outcome.is_ok()).then(|| ctx.unpublished.one_more());
            let _ = answered.send(ReadResult { outcome, first });
            ctx.queue.add(&mirror, Urgency::Routine);
        }
    });
    state.in_flight = Some(Box::new(InFlight {
        answer,
        task: AbortOnDropHandle::new(task),
        plan: Arc::clone(plan),
        started,
        sync_at: state.requested_sync_at.clone(),
        due: ctx.clock.uptime(),
        secret_seen: state.secret.observed.is_some().then_some(state.secret.external_changes),
        redis_seen: state.redis.observed.is_some().then_some(state.redis.external_changes),
    }));
}

/// The answer of the read under way, if it has ended and was for this plan.
///
/// If somebody changed a target while SSM was read, the answer may be older than that change: SSM is read once
/// more at once, and after that the answer is used for the targets that did not change.
pub fn finished(plan: &Plan, state: &mut MirrorState, ctx: &Context) -> Option<ReadOutcome> {
    if state.in_flight.as_ref().is_some_and(|read| !same_read(&read.plan, plan)) {
        state.in_flight = None;
        state.source.due_now = true;
    }
    let read = state.in_flight.as_mut()?;
    let (outcome, first) = match read.answer.try_recv() {
        Ok(ReadResult { outcome, first }) => {
            (outcome.and_then(|reading| intern_values(reading, plan, state.good.as_ref(), ctx)), first)
        }
        Err(TryRecvError::Empty) => return None,
        Err(TryRecvError::Closed) => {
            let detail = "the read ended without an answer".to_owned();
            (Err(ReadError::new(ReadErrorKind::InvalidResponse, detail)), None)
        }
    };
    let unchanged = |seen: Option<u64>, changes: u64| {
        if seen == Some(changes) { Freshness::FreshRead } else { Freshness::LastKnownGood }
    };
    let mut answer = ReadOutcome {
        outcome,
        secret: unchanged(read.secret_seen, state.secret.external_changes),
        redis: unchanged(read.redis_seen, state.redis.external_changes),
        sync_at: None,
        _first: first,
    };
    let stale = read.secret_seen.is_some_and(|seen| seen != state.secret.external_changes)
        || read.redis_seen.is_some_and(|seen| seen != state.redis.external_changes);
    answer.sync_at = state.in_flight.take().and_then(|read| read.sync_at);
    if stale && answer.outcome.is_ok() && !state.source.retried_stale {
        state.source.retried_stale = true;
        state.source.due_now = true;
        return None;
    }
    state.source.retried_stale = false;
    Some(answer)
}

/// A value that another mirror holds is held once. A set that grows has to fit into memory.
fn intern_values(
    mut reading: Snapshot,
    plan: &Plan,
    good: Option<&Signed>,
    ctx: &Context,
) -> Result<Snapshot, ReadError> {
    let mirror = ObjectRef::new(&plan.mirror).within(&plan.namespace);
    let values = reading.parameters.values().map(|parameter| &parameter.value);
    let known = good.map_or(0, Signed::bytes);
    ctx.values.judge(&mirror, values, known, || ctx.watches.namespaces_with_mirrors()).map_err(
        |OverShare { desired, share }| {
            let detail = format!(
                "the values of namespace {} would take {desired} bytes of the operator's memory; its share is {share} bytes, and the \
                 rest of --memory-values ({} bytes) is in use or kept for other namespaces. Select less, give its mirrors both \
                 targets, or raise --memory-values",
                plan.namespace,
                ctx.values.bound()
            );
            ReadError::new(ReadErrorKind::MemoryShareExceeded, detail)
        },
    )?;
    for parameter in reading.parameters.values_mut() {
        ctx.values.share(&mut parameter.value);
    }
    Ok(reading)
}

/// A due read that still waits for the budget after max(interval, 60 s) is a trouble of its own.
#[must_use]
pub fn budget_exhausted(plan: &Plan, state: &MirrorState, ctx: &Context) -> Option<ReadError> {
    let read = state.in_flight.as_ref()?;
    let waited = ctx.clock.uptime().saturating_sub(read.due);
    let is_starving =
        !read.started.load(Ordering::Relaxed) && waited >= plan.interval.max(Duration::from_mins(1));
    let detail = || {
        format!(
            "a due read has waited {} for its turn in the budget of requests; raise --ssm-requests-per-second or \
             the intervals",
            humanize::span(waited)
        )
    };
    is_starving.then(|| ReadError::new(ReadErrorKind::BudgetExhausted, detail()))
}

/// Whether a read for one plan answers the other.
fn same_read(one: &Plan, other: &Plan) -> bool {
    one.source == other.source && one.selections == other.selections
}

fn last_failure(state: &MirrorState) -> Option<ReadError> {
    match &state.source.issue {
        Some((SourceIssue::Read(failure), _)) => Some(failure.clone()),
        _ => None,
    }
}

fn turn(plan: &Plan, state: &MirrorState) -> QueueKey {
    // A deletion that has to be confirmed is late already.
    let is_urgent = state.source.due_now || state.source.absences.waits > 0;
    let priority = match (&state.good, is_urgent) {
        (None, _) => Priority::FirstSync,
        (Some(_), true) => Priority::Requested,
        (Some(_), false) => Priority::Refresh,
    };
    let last_good = state.last_sync.map_or(0, jiff::Timestamp::as_millisecond);
    QueueKey { namespace: plan.namespace.as_str().into(), priority, last_good }
}

fn drill(source: &SourcePlan) -> ReadError {
    let until = source.drill_until.unwrap_or_default().strftime("%H:%M:%S UTC");
    ReadError::new(
        ReadErrorKind::Drill,
        format!("an outage is rehearsed until {until}; to end it, remove {DRILL_UNTIL} from the source"),
    )
}

fn no_source(name: &str) -> ReadError {
    ReadError::new(
        ReadErrorKind::SourceNotFound,
        format!("there is no ParameterSource {name}; create it, or name another one in spec.source"),
    )
}
