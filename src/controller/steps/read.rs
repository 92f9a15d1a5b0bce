//! Step 3: begins a read of SSM when one is due, and takes the answer of a read that has ended.
//!
//! A read runs beside the reconciles of its mirror, so a target that is lost while SSM does not answer is restored at once.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use jiff::Timestamp;
use kube::runtime::reflector::ObjectRef;
use parameter_mirror_format::content::Signed;
use parameter_mirror_format::humanize;
use tokio::sync::oneshot;
use tokio::sync::oneshot::error::TryRecvError;
use tokio_util::task::AbortOnDropHandle;
use tracing::{Instrument as _, Span};

use crate::api::ParameterMirror;
use crate::controller::context::Context;
use crate::controller::state::memory_shares::OverShare;
use crate::controller::state::read_state::{InFlight, ReadResult, ReadState};
use crate::controller::state::target_state::{Seen, Targets};
use crate::controller::state::unpublished::UnpublishedGuard;
use crate::kubernetes::queue::Urgency;
use crate::mirror::content;
use crate::mirror::copies::Freshness;
use crate::mirror::plan::{Plan, SourcePlan};
use crate::mirror::snapshot::{Priority, QueueKey, ReadError, ReadErrorKind, ReadRequest, Snapshot};
use crate::mirror::target::TargetKind;
use crate::targets::target::Target;

/// The answer of a read that has ended, and how far each target may rely on it.
pub struct ReadOutcome {
    /// The answer of SSM.
    pub outcome: Result<Snapshot, ReadError>,
    /// The targets that are as they were when the read began.
    unchanged: Vec<TargetKind>,
    /// The value of `sync-at` that it answers.
    pub sync_at: Option<String>,
    /// Held until the reconcile that publishes the values ends.
    _first: Option<UnpublishedGuard>,
}

impl ReadOutcome {
    /// Returns how far the target of this kind may rely on the outcome.
    #[must_use]
    pub fn freshness(&self, kind: TargetKind) -> Freshness {
        if self.unchanged.contains(&kind) { Freshness::FreshRead } else { Freshness::LastKnownGood }
    }
}

/// Whether a read would begin now.
#[must_use]
pub fn is_due(plan: &Plan, reads: &ReadState, ctx: &Context) -> bool {
    let now = ctx.clock.uptime();
    reads.in_flight.is_none()
        && (has_recovered(reads, ctx)
            || drill_flips(plan, reads, ctx)
            || ctx.read_groups.is_triggered(&ObjectRef::new(&plan.mirror).within(&plan.namespace))
            || reads.next_read(plan.interval, now) <= now)
}

/// Whether a drill has begun or ended since the last read. A drill is reported at once, unlike an outage, because it is short.
fn drill_flips(plan: &Plan, reads: &ReadState, ctx: &Context) -> bool {
    let is_known = reads.last_error().is_some_and(|error| error.reason == ReadErrorKind::Drill);
    is_known != is_drill(plan, ctx)
}

fn is_drill(plan: &Plan, ctx: &Context) -> bool {
    plan.source.as_ref().is_some_and(|source| source.is_drill(ctx.clock.now()))
}

/// Whether SSM or the credentials have recovered since the last read began and failed. Then the read does not wait for its
/// back-off.
fn has_recovered(reads: &ReadState, ctx: &Context) -> bool {
    reads.failures > 0 && reads.recoveries_seen != *ctx.recoveries.borrow()
}

/// What a read takes of the state of its mirror.
#[derive(Clone)]
pub struct Before<'a> {
    /// The last known good set.
    pub good: Option<&'a Signed>,
    /// Wall time at which the last good read began.
    pub last_sync: Option<Timestamp>,
    /// How often others had changed each target, as observed just now.
    pub seen: Seen,
}

/// Begins a read, and triggers the mirrors that read the same selections.
pub fn begin(
    mirror: &ObjectRef<ParameterMirror>,
    plan: &Arc<Plan>,
    reads: &mut ReadState,
    before: Before<'_>,
    ctx: &Arc<Context>,
) {
    let was_triggered = ctx.read_groups.is_triggered(mirror);
    let peers = ctx.read_groups.begins(mirror, plan, ctx.clock.uptime());
    let good = before.good.map(|good| &*good.content);
    let request = ReadRequest {
        selections: plan.selections.clone(),
        known: good.map(|good| content::known(good, plan)).unwrap_or_default(),
        known_account: good.and_then(content::account),
        last_failure: reads.last_error().cloned(),
        turn: queue_key(plan, reads, &before),
        coalesce: !peers.is_empty() || was_triggered,
        started: Arc::default(),
    };
    for peer in peers {
        ctx.queue.add(&peer, Urgency::Routine);
    }
    let started = Arc::clone(&request.started);
    reads.due_now = false;
    reads.absences.confirm_at = None;
    reads.recoveries_seen = *ctx.recoveries.borrow();
    reads.cycle = reads.cycle.saturating_add(1);
    reads.last_began = Some(ctx.clock.uptime());
    reads.last_attempt = Some(ctx.clock.now());
    let (sender, answer) = oneshot::channel();
    let span = Span::current();
    let task = tokio::spawn({
        let (ctx, mirror, source) = (Arc::clone(ctx), mirror.clone(), plan.source.clone());
        let (source_name, is_first) = (plan.source_name.clone(), before.good.is_none());
        async move {
            let began = ctx.clock.uptime();
            let outcome = match source {
                Some(source) if source.is_drill(ctx.clock.now()) => Err(drill(&source_name, &source)),
                Some(source) => ctx.ssm.read(&source, &request).await,
                None => Err(no_source(&source_name)),
            };
            ctx.metrics.read(&outcome);
            log(&outcome, ctx.clock.uptime().saturating_sub(began));
            // The mirror may be gone by now. Then nothing receives the answer.
            let first = (is_first && outcome.is_ok()).then(|| ctx.unpublished.one_more());
            let _ = sender.send(ReadResult { outcome, first });
            ctx.queue.add(&mirror, Urgency::Routine);
        }
        .instrument(span)
    });
    reads.in_flight = Some(Box::new(InFlight {
        answer,
        task: AbortOnDropHandle::new(task),
        plan: Arc::clone(plan),
        started,
        sync_at: reads.requested_sync_at.clone(),
        due: ctx.clock.uptime(),
        seen: before.seen,
    }));
}

fn log(outcome: &Result<Snapshot, ReadError>, took: Duration) {
    let duration_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
    match outcome {
        Ok(snapshot) => {
            tracing::debug!(
                duration_ms,
                parameters = snapshot.parameters.len(),
                calls = snapshot.cost.calls,
                "read SSM"
            );
        }
        Err(error) => {
            tracing::debug!(
                duration_ms,
                reason = error.reason.as_str(),
                error = error.detail,
                "cannot read SSM"
            );
        }
    }
}

/// Takes the answer of the read under way, if the read has ended and was for this plan.
///
/// If somebody changed a target while SSM was read, the answer may be older than that change. The operator reads SSM once more at
/// once; after that, it uses the answer for the targets that did not change.
pub fn take(
    plan: &Plan,
    reads: &mut ReadState,
    targets: &Targets,
    good: Option<&Signed>,
    ctx: &Context,
) -> Option<ReadOutcome> {
    if reads.in_flight.as_ref().is_some_and(|read| !same_read(&read.plan, plan)) {
        reads.in_flight = None;
        reads.due_now = true;
    }
    let (outcome, first) = match reads.in_flight.as_mut()?.answer.try_recv() {
        Ok(ReadResult { outcome, first }) => {
            (outcome.and_then(|snapshot| intern_values(snapshot, plan, good, ctx)), first)
        }
        Err(TryRecvError::Empty) => return None,
        Err(TryRecvError::Closed) => {
            let detail = "the read ended without an answer".to_owned();
            (Err(ReadError::new(ReadErrorKind::InvalidResponse, detail)), None)
        }
    };
    let InFlight { seen, sync_at, .. } = *reads.in_flight.take()?;
    let changes = |target: &(dyn Target + 'static)| (target.kind(), target.state().external_changes);
    let is_stale =
        targets.iter().map(changes).any(|(kind, now)| seen.of(kind).is_some_and(|seen| seen != now));
    if is_stale && outcome.is_ok() && !reads.retried_stale {
        reads.retried_stale = true;
        reads.due_now = true;
        return None;
    }
    reads.retried_stale = false;
    let unchanged = targets.iter().map(changes).filter(|(kind, now)| seen.of(*kind) == Some(*now));
    let unchanged = unchanged.map(|(kind, _)| kind).collect();
    Some(ReadOutcome { outcome, unchanged, sync_at, _first: first })
}

/// Shares the values that other mirrors hold, so that equal values are in memory once. A set that grows must fit into memory.
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

/// Returns the error of a due read that still waits for the request budget after max(interval, 60 s).
#[must_use]
pub fn budget_exhausted(plan: &Plan, reads: &ReadState, ctx: &Context) -> Option<ReadError> {
    let read = reads.in_flight.as_ref()?;
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

/// Whether a read for one plan also answers the other.
fn same_read(one: &Plan, other: &Plan) -> bool {
    one.source == other.source && one.selections == other.selections
}

fn queue_key(plan: &Plan, reads: &ReadState, before: &Before<'_>) -> QueueKey {
    // A deletion that has to be confirmed is late already.
    let is_urgent = reads.due_now || reads.absences.waits > 0;
    let priority = match (before.good, is_urgent) {
        (Some(_), true) => Priority::Requested,
        (_, false) if reads.is_failing() => Priority::Failing,
        (None, _) => Priority::FirstSync,
        (Some(_), false) => Priority::Refresh,
    };
    let last = if priority == Priority::Failing { reads.last_attempt } else { before.last_sync };
    let last_read = last.map_or(0, Timestamp::as_millisecond);
    QueueKey { namespace: plan.namespace.as_str().into(), priority, last_read }
}

fn drill(name: &str, source: &SourcePlan) -> ReadError {
    let until = source.drill_until.unwrap_or_default().strftime("%H:%M:%S UTC");
    ReadError::new(
        ReadErrorKind::Drill,
        format!("an outage of ParameterSource {name} is rehearsed until {until}"),
    )
}

fn no_source(name: &str) -> ReadError {
    ReadError::new(
        ReadErrorKind::SourceNotFound,
        format!("ParameterSource {name} does not exist. Create it, or name another one in spec.sourceRef"),
    )
}
