//! One reconcile of one mirror, as named steps:
//!
//! ```text
//! plan      spec + grants -> Plan or PlanError            pure; a live read confirms NotGranted
//! observe   what the targets hold                         I/O, cheap unless something changed
//! read      begin a due read, take a finished answer      runs beside the reconciles
//! resolve   answer + last known good -> Fresh | Held | Awaiting | Unavailable   pure
//! permit    may it be written, judged by where it was read?   pure
//! publish   bring each target to it, the Secret first     I/O, compare-and-set
//! report    status, events, logs                          I/O, only what changed
//! ```
//!
//! Each step takes what it needs and returns a value. [`fold`] merges these values into the state of the mirror. There is no mode
//! for outages: a failed read skips nothing but the read.

use std::sync::Arc;

use kube::ResourceExt;
use kube::runtime::reflector::ObjectRef;
use tracing::Span;

use crate::api::{ACCEPT_SHRINK, ParameterMirror};
use crate::controller::context::Context;
use crate::controller::fold;
use crate::controller::requeue;
use crate::controller::state::mirror_state::{MirrorState, ReportState};
use crate::controller::steps::bootstrap;
use crate::controller::steps::evict;
use crate::controller::steps::finalize::{self, Deletion};
use crate::controller::steps::observe::{KnownSet, observe};
use crate::controller::steps::permit::permit;
use crate::controller::steps::plan::{self, CONFIRM_EVERY};
use crate::controller::steps::publish::{Publishing, publish};
use crate::controller::steps::read::{self, Before, ReadOutcome};
use crate::controller::steps::report;
use crate::controller::steps::report_source::report_source;
use crate::controller::steps::resolve::{Resolved, resolve};
use crate::kubernetes::queue::Requeue;
use crate::mirror::plan::{Plan, PlanError};
use crate::mirror::resolve::ResolveInput;
use crate::mirror::schedule;
use crate::targets::KINDS;
use crate::targets::secret::Owner;
use crate::targets::target::Depth;

/// Reconciles one mirror. It never fails: every problem becomes a condition, and the result plans the next reconcile.
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
    Span::current().record("cycle", state.source.cycle);
    Span::current().record("source", mirror.spec.source_ref.name.as_str());
    let enter_step = |step| ctx.queue.enter_step(&key, step);
    if mirror.metadata.deletion_timestamp.is_some() {
        enter_step("delete");
        return delete(mirror, state, ctx).await;
    }
    let planned = plan::plan(mirror, state, ctx).await;
    fold::planned(state, &planned, ctx.clock.uptime());
    let plan = match planned.plan {
        Ok(plan) if plan.suspend => return suspend(mirror, &plan, state, ctx).await,
        Ok(plan) => plan,
        Err(error) => return refuse(mirror, &error, state, ctx).await,
    };
    ack_watches(&plan, state, ctx);
    if let Some(pause) = requeue::unchanged_until(mirror, &plan, state, ctx) {
        return Requeue::After(pause);
    }
    finalize::ensure_finalizer(mirror, &plan, ctx).await;
    fold::annotations(state, mirror, &plan, ctx.clock.now());
    let depth = if read::is_due(&plan, &state.source, ctx) { Depth::Full } else { Depth::Cheap };
    if depth == Depth::Cheap && evict::is_unchanged(&plan, state, ctx).await {
        return requeue::finish(mirror, plan, false, state, ctx);
    }

    enter_step("observe");
    let known = KnownSet {
        good: state.good.as_ref(),
        confirmed_at: state.confirmed_at,
        has_answer: state.source.has_answer(),
    };
    let observation = observe(&plan, mirror.status.as_ref(), depth, known, &mut state.targets, ctx).await;
    fold::observed(state, observation);

    enter_step("read");
    requeue::schedule_first_read(mirror, &plan, state, ctx);
    let outcome = read::take(&plan, &mut state.source, &state.targets, state.good.as_ref(), ctx);
    // A read that became due while another one was under way begins in the next reconcile, which observes the targets in full
    // first.
    if depth == Depth::Full && read::is_due(&plan, &state.source, ctx) {
        let before =
            Before { good: state.good.as_ref(), last_sync: state.last_sync, seen: state.targets.seen() };
        read::begin(&key, &plan, &mut state.source, before, ctx);
    }

    enter_step("resolve");
    let Resolved { resolution, change } = resolved(mirror, &plan, outcome.as_ref(), state, ctx);
    if let Some(change) = change {
        let sync_at = outcome.as_ref().and_then(|outcome| outcome.sync_at.as_ref());
        fold::read(state, change, sync_at, mirror, ctx);
    }

    enter_step("publish");
    let previous = state.previous_status(mirror, ctx.clock.uptime());
    let permit = permit(&plan, &resolution, &previous, &state.targets, ctx);
    let owner = Owner { name: mirror.name_any(), uid: mirror.uid().unwrap_or_default() };
    let publishing = Publishing {
        latest_read_at: state.latest_read_at,
        before: state.good.as_ref(),
        targets: &mut state.targets,
    };
    let published = publish(&plan, &owner, &resolution, &permit, outcome.as_ref(), publishing, ctx).await;
    fold::published(state, &published, mirror, ctx.clock.now());
    let orphans = finalize::delete_orphans(mirror, &plan, state, ctx).await;

    enter_step("report");
    let reported = report::report(mirror, &plan, &published, &orphans, state, ctx).await;
    fold::reported(state, reported, ctx.clock.uptime());
    report_source(&plan, outcome.as_ref(), ctx).await;
    requeue::finish(mirror, plan, published.observe_again, state, ctx)
}

async fn delete(mirror: &ParameterMirror, state: &mut MirrorState, ctx: &Context) -> Requeue {
    let deletion = finalize::delete(mirror, state, ctx).await;
    if let Deletion::Waiting { target, why, until } = &deletion {
        let reported = report::deleting(mirror, target, why, *until, state, ctx).await;
        fold::reported(state, reported, ctx.clock.uptime());
    }
    deletion.requeue()
}

/// Notes which of our own writes the watches have shown.
fn ack_watches(plan: &Plan, state: &mut MirrorState, ctx: &Context) {
    let keys = ctx.keys();
    let services = ctx.services(&keys);
    state.targets.iter_mut().for_each(|target| target.ack_watch(&plan.namespace, &services));
}

/// The inputs of step 4, which is pure, from the state and from other mirrors.
fn resolved(
    mirror: &ParameterMirror,
    plan: &Plan,
    outcome: Option<&ReadOutcome>,
    state: &MirrorState,
    ctx: &Context,
) -> Resolved {
    let outcome = outcome.map(|outcome| &outcome.outcome);
    let issue = state.source.issue.as_ref().map(|incident| &incident.issue);
    let bootstrap = bootstrap::from_peers(plan, outcome, state, ctx);
    let input = ResolveInput {
        plan,
        last_known_good: state.good.as_ref(),
        latest_read_at: state.latest_read_at,
        now: ctx.clock.now().as_millisecond(),
        accepted_shrink: mirror.annotations().get(ACCEPT_SHRINK).map(String::as_str),
        is_published: state.targets.verified().next().is_some() || is_recorded(mirror),
        bootstrap: bootstrap.as_ref(),
        absent_before: state.source.absences.before(),
    };
    resolve(&input, outcome, issue, read::budget_exhausted(plan, &state.source, ctx))
}

/// Whether the status names a target that holds a set, or held one.
fn is_recorded(mirror: &ParameterMirror) -> bool {
    mirror.status.as_ref().is_some_and(|status| KINDS.iter().any(|kind| kind.recorded(status).is_some()))
}

/// Reports a spec that is invalid or not granted. The operator neither reads nor heals, and what is served stays as it is.
async fn refuse(
    mirror: &ParameterMirror,
    error: &PlanError,
    state: &mut MirrorState,
    ctx: &Context,
) -> Requeue {
    state.source.in_flight = None;
    state.last = None;
    let deferred_since = state.report.deferred_since;
    let reported = report::refused(mirror, error, state, ctx).await;
    fold::reported(state, reported, ctx.clock.uptime());
    // The first status of a mirror that is refused for a moment is not deferred for longer.
    state.report.deferred_since = deferred_since;
    Requeue::After(CONFIRM_EVERY)
}

/// `suspend: true`: forgets the state of the mirror, except its targets, which are still observed, and the status that was last
/// written.
async fn suspend(mirror: &ParameterMirror, plan: &Plan, state: &mut MirrorState, ctx: &Context) -> Requeue {
    let report = ReportState { written: state.report.written.take(), ..ReportState::default() };
    let targets = std::mem::take(&mut state.targets);
    *state = MirrorState { uid: state.uid.take(), targets, report, ..MirrorState::default() };
    let known = KnownSet { good: None, confirmed_at: 0, has_answer: false };
    observe(plan, mirror.status.as_ref(), Depth::Cheap, known, &mut state.targets, ctx).await;
    let reported = report::suspended(mirror, &state.targets.empty(), state, ctx).await;
    fold::reported(state, reported, ctx.clock.uptime());
    Requeue::After(schedule::check_every(plan.interval))
}
