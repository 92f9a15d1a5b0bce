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
    let memory = ctx.memories.of(&key);
    let mut memory = memory.lock().await;
    let memory = &mut *memory;
    if memory.uid != mirror.metadata.uid {
        *memory = MirrorState { uid: mirror.metadata.uid.clone(), ..MirrorState::default() };
    }
    if mirror.metadata.deletion_timestamp.is_some() {
        ctx.queue.enters(&key, "delete");
        return finalize::delete(mirror, memory, ctx).await;
    }
    let enters = |step| ctx.queue.enters(&key, step);
    let plan = match plan(mirror, memory, ctx).await {
        Ok(plan) => shared(plan, memory),
        Err(refusal) => return refuse(mirror, &refusal, memory, ctx).await,
    };
    if plan.suspend {
        *memory = MirrorState {
            uid: memory.uid.take(),
            reported: memory.reported.take(),
            ..MirrorState::default()
        };
        report::suspended(mirror, memory, ctx).await;
        return Requeue::OnChange;
    }
    if let Some(secret) = &plan.secret {
        memory.secret.catch_up(&ctx.watches.secret(&plan.namespace, &secret.name));
    }
    if let Some(pause) = nothing_to_do(mirror, &plan, memory, ctx) {
        return Requeue::After(pause);
    }
    finalize::hold_on(mirror, &plan, ctx).await;
    note_requests(mirror, &plan, memory, ctx);
    let look = if read::is_due(&plan, memory, ctx) { Depth::Full } else { Depth::Cheap };
    if look == Depth::Cheap && evict::is_untouched(&plan, memory, ctx).await {
        return settle(mirror, plan, false, memory, ctx);
    }
    enters("observe");
    observe(mirror, &plan, memory, look, ctx).await;
    enters("read");
    schedule_first_read(mirror, &plan, memory, ctx);
    let answer = read::finished(&plan, memory, ctx);
    // One that became due while another one was under way begins in the next pass, which reads the targets back first.
    if look == Depth::Full && read::is_due(&plan, memory, ctx) {
        read::begin(&key, &plan, memory, ctx);
    }
    enters("resolve");
    let resolution = resolve(mirror, &plan, answer.as_ref(), memory, ctx);
    let owner = Owner { name: mirror.name_any(), uid: mirror.uid().unwrap_or_default() };
    enters("publish");
    let previous = memory.previous_status(mirror, ctx.clock.uptime());
    let permit = permit(&plan, &resolution, &previous, memory, ctx);
    let mut published = publish(&plan, &owner, &resolution, permit, answer.as_ref(), memory, ctx).await;
    if answer.is_some() && memory.secret.existence == Existence::Assumed {
        // Nothing was to be created. What is there, if anything, has to be known now.
        memory.secret.doubt_existence();
        published.look_again = true;
    }
    let retired = finalize::retire(mirror, &plan, memory, ctx).await;
    enters("report");
    report::report(mirror, &plan, &published, retired, memory, ctx).await;
    confirm::report_source(&plan, answer.as_ref(), ctx).await;
    settle(mirror, plan, published.look_again, memory, ctx)
}

/// Step 1. Allowed by the watch is allowed; a refusal is confirmed by a live read before it is acted on.
async fn plan(mirror: &ParameterMirror, memory: &mut MirrorState, ctx: &Context) -> Result<Plan, PlanError> {
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
            memory.source.due_now |= memory.refused.take().is_some();
            Ok(plan)
        }
        Ok(plan)
            if !read::is_due(&plan, memory, ctx)
                || ctx.missing_sources.is_missing(&plan.source_name, ctx.clock.uptime()) =>
        {
            Ok(plan)
        }
        Err(PlanError::InvalidSpec(_)) => judged,
        Err(ref refusal) if confirm::is_confirmed(refusal, memory, ctx) => judged,
        unconfirmed => match confirm::surroundings(&mirror.spec.source, &namespace, ctx).await {
            Some((source, labels)) => judge(source.as_ref(), &labels).inspect_err(|refusal| {
                memory.refused = Some((refusal.clone(), ctx.clock.uptime()));
            }),
            // The API server does not say: a plan without a source is an outage, a refusal stands for now.
            None => unconfirmed,
        },
    }
}

/// The plan as it is remembered, if it is the same: a plan is as large as its spec.
fn shared(plan: Plan, memory: &MirrorState) -> Arc<Plan> {
    let known = memory.settled.as_ref().map(|settled| &settled.plan).filter(|known| ***known == plan);
    known.map_or_else(|| Arc::new(plan), Arc::clone)
}

/// The spec is wrong or not granted: no read, no healing; what is served stays as it is.
async fn refuse(
    mirror: &ParameterMirror,
    refusal: &PlanError,
    memory: &mut MirrorState,
    ctx: &Context,
) -> Requeue {
    memory.in_flight = None;
    memory.settled = None;
    report::refused(mirror, refusal, memory, ctx).await;
    Requeue::After(confirm::CONFIRM_EVERY)
}

/// How long to wait if neither the object, the targets nor the clock ask for anything.
///
/// Every write of a status comes back as a change of the object; this is where that ends.
fn nothing_to_do(
    mirror: &ParameterMirror,
    plan: &Plan,
    memory: &MirrorState,
    ctx: &Context,
) -> Option<Duration> {
    let now = ctx.clock.uptime();
    let settled = memory.settled.as_ref()?;
    let same = *settled.plan == *plan
        && settled.generation == mirror.metadata.generation
        && settled.sync_at.as_ref() == mirror.annotations().get(SYNC_AT)
        && settled.accept_shrink.as_ref() == mirror.annotations().get(ACCEPT_SHRINK);
    let secret_as_known = plan.secret.as_ref().is_none_or(|secret| {
        match (ctx.watches.secret(&plan.namespace, &secret.name), &memory.put_down) {
            (CachedVersion::Known(watched), Some(known)) => known.is_secret_version(watched.as_deref()),
            (CachedVersion::Known(watched), None) => !memory.secret.is_surprising(watched.as_deref(), now),
            // It is asked for at the next check, which is never far.
            (CachedVersion::NotWatched, known) => known.is_some() || memory.secret.observed.is_some(),
        }
    });
    let answered = memory.in_flight.as_ref().is_some_and(|read| read.has_ended());
    let keys_as_known = memory.keys_version == ctx.keys().version;
    let due = read::is_due(plan, memory, ctx);
    let quiet = same && secret_as_known && keys_as_known && !answered && !due && now < settled.next_check;
    quiet.then(|| next_look(plan, settled.next_check, memory, ctx))
}

/// What the user asks for besides the rhythm: a read now, or removals approved.
fn note_requests(mirror: &ParameterMirror, plan: &Plan, memory: &mut MirrorState, ctx: &Context) {
    let asked = mirror.annotations().get(SYNC_AT);
    let known = memory
        .requested_sync_at
        .clone()
        .or_else(|| mirror.status.as_ref().and_then(|status| status.last_handled_sync_at.clone()));
    if asked.is_some() && asked != known.as_ref() {
        memory.source.due_now = true;
    }
    memory.requested_sync_at = asked.cloned().or(known);
    if let Some(settled) = &memory.settled {
        let approved = mirror.annotations().get(ACCEPT_SHRINK);
        let other_set = settled.plan.source != plan.source || settled.plan.selections != plan.selections;
        if other_set || (approved.is_some() && approved != settled.accept_shrink.as_ref()) {
            memory.source.due_now = true;
        }
    }
    if memory.last_sync.is_none() {
        let recorded = mirror.status.as_ref().and_then(|status| status.last_sync_time.as_ref());
        memory.last_sync = recorded.map(|time| time.0.min(ctx.clock.now()));
    }
}

/// docs/design/formats.md, "Two rhythms": at once if it never had a set, or if the set or the status is not of this spec; else
/// spread over the interval.
fn schedule_first_read(mirror: &ParameterMirror, plan: &Plan, memory: &mut MirrorState, ctx: &Context) {
    if memory.source.first_due.is_some() {
        return;
    }
    let now = ctx.clock.uptime();
    let covered = memory.good.as_ref().is_some_and(|good| {
        parameter_mirror_format::source::StoredSource::decode(&good.content.source)
            .is_ok_and(|stored| plan.is_covered_by(&stored))
    });
    let first_selection = plan.selections.first().map(ToString::to_string).unwrap_or_default();
    let seen = mirror
        .status
        .as_ref()
        .is_some_and(|status| Some(status.observed_generation) == mirror.metadata.generation);
    memory.source.first_due = Some(if covered && seen {
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
    memory: &mut MirrorState,
    ctx: &Context,
) -> Resolution {
    let now = ctx.clock.now();
    let good = memory.good.clone();
    let trouble = answer
        .map_or(memory.source.trouble.as_ref().map(|(trouble, _)| trouble.clone()), |answer| {
            answer.outcome.as_ref().err().cloned().map(SourceIssue::Read)
        });
    let is_needy = good.is_none() && trouble.is_some_and(|trouble| trouble.is_outage());
    let donated = is_needy.then(|| bootstrap::donated(plan, ctx)).flatten();
    let absent_before = memory.source.absences.before().cloned();
    let situation = ResolveInput {
        plan,
        last_known_good: good.as_ref(),
        latest_read_at: memory.latest_read_at,
        now: now.as_millisecond(),
        accepted_shrink: mirror.annotations().get(ACCEPT_SHRINK).map(String::as_str),
        donated: donated.as_ref(),
        absent_before: absent_before.as_ref(),
    };
    let Some(answer) = answer else {
        if let Some(failure) = read::starving(plan, memory, ctx) {
            let trouble = SourceIssue::Read(failure);
            memory.source.trouble.get_or_insert((trouble, now));
        }
        return situation.hold(memory.source.trouble.as_ref().map(|(trouble, _)| trouble.clone()));
    };
    let source = &mut memory.source;
    source.has_read = true;
    let (resolution, trouble) = match &answer.outcome {
        Ok(reading) => {
            source.failures = 0;
            let resolution = situation.after_reading(reading);
            let waits = matches!(resolution, Resolution::Awaiting { .. });
            let uptime = ctx.clock.uptime();
            let confirm_at = waits.then(|| schedule::confirm_at(source.last_began.unwrap_or(uptime), uptime));
            source.absences.note(situation.absent(reading), confirm_at);
            let began = jiff::Timestamp::from_millisecond(reading.started_at).unwrap_or(now);
            if matches!(resolution, Resolution::Fresh { .. }) {
                memory.confirmed_at = reading.started_at.max(memory.latest_read_at.saturating_add(1));
                memory.last_sync = memory.last_sync.max(Some(began));
            }
            // What was wrong with the set stays wrong with it while it stays.
            let before = source.trouble.as_ref().map(|(trouble, _)| trouble);
            let lasts = before.filter(|trouble| waits && !matches!(trouble, SourceIssue::Read(_)));
            let trouble = resolution.trouble().or(lasts).cloned();
            (resolution, trouble)
        }
        Err(failure) => {
            source.failures = source.failures.saturating_add(1);
            let trouble = SourceIssue::Read(failure.clone());
            (situation.hold(Some(trouble.clone())), Some(trouble))
        }
    };
    let source = &mut memory.source;
    source.trouble = trouble.map(|trouble| {
        let since = match &source.trouble {
            Some((_, since)) => *since,
            None => trouble_since(mirror).unwrap_or(now),
        };
        (trouble, since)
    });
    // One that waits for the next read ends with that one.
    if !matches!(resolution, Resolution::Awaiting { .. }) {
        memory.handled_sync_at.clone_from(&answer.sync_at);
    }
    resolution
}

/// Since when a restarted operator's mirror has been degraded on the source's side.
fn trouble_since(mirror: &ParameterMirror) -> Option<jiff::Timestamp> {
    let degraded = conditions::find(&mirror.status.as_ref()?.conditions, conditions::DEGRADED)?;
    (degraded.status == "True").then_some(degraded.last_transition_time.0)
}

/// Remembers what this pass was based on, and says when the next one is due.
fn settle(
    mirror: &ParameterMirror,
    plan: Arc<Plan>,
    look_again: bool,
    memory: &mut MirrorState,
    ctx: &Arc<Context>,
) -> Requeue {
    let now = ctx.clock.uptime();
    if look_again {
        memory.settled = None;
        return Requeue::After(Duration::ZERO);
    }
    let unsaid = memory.in_flight.as_ref().filter(|_| memory.reported.is_none());
    let unsaid = unsaid.map(|read| read.due + report::PENDING_AFTER).filter(|end| *end > now);
    let untold = memory.untold_since.map(|_| now + report::TRY_TO_TELL_EVERY);
    let next_check =
        [unsaid, untold].into_iter().flatten().fold(now + schedule::check_every(plan.interval), Ord::min);
    let pause = next_look(&plan, next_check, memory, ctx);
    memory.settled = Some(LastReconcile {
        sync_at: mirror.annotations().get(SYNC_AT).cloned(),
        accept_shrink: mirror.annotations().get(ACCEPT_SHRINK).cloned(),
        generation: mirror.metadata.generation,
        next_check,
        plan,
    });
    evict::stay_within_bound(&ObjectRef::from_obj(mirror), memory, ctx);
    Requeue::After(pause)
}

fn next_look(plan: &Plan, next_check: Duration, memory: &MirrorState, ctx: &Context) -> Duration {
    let now = ctx.clock.uptime();
    let next_read = match memory.in_flight {
        Some(_) => next_check,
        None => memory.source.next_read(plan.interval, now),
    };
    // A Secret that is deleted right after it was written looks like a watch that lags.
    let lag_ends = memory.secret.lag_ends().filter(|end| *end > now).unwrap_or(next_check);
    next_check.min(next_read).min(lag_ends).saturating_sub(now)
}
