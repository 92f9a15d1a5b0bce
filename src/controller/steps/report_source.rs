//! After a read: report the state of its source, from the latest reads of all its mirrors.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::api::{Api, Patch, PatchParams};
use kube::runtime::reflector::ObjectRef;
use kube::{Resource as _, ResourceExt};
use parameter_mirror_format::humanize;
use serde_json::json;

use crate::api::conditions::{self, AVAILABLE, READY};
use crate::api::{DRILL_UNTIL, ParameterSource};
use crate::controller::context::Context;
use crate::controller::state::source_health::Outcome;
use crate::controller::state::status_dedup::StatusKey;
use crate::controller::steps::read::ReadOutcome;
use crate::kubernetes::client::with_timeout;
use crate::kubernetes::events::EventDraft;
use crate::mirror::plan::Plan;
use crate::mirror::snapshot::ReadErrorKind;
use crate::ssm::limiter::breaker::BreakerState;

/// Builds the message of the condition `Available`.
fn source_message(
    plan: &Plan,
    answer: &ReadOutcome,
    is_available: bool,
    since: Timestamp,
    ctx: &Context,
) -> String {
    match &answer.outcome {
        Err(failure) if failure.reason == ReadErrorKind::Drill => format!(
            "{}, since {}. SSM is not asked, and mirrors of this source serve what they hold. To end it: kubectl annotate psource {} \
             {DRILL_UNTIL}-",
            humanize::capitalised(&failure.detail),
            humanize::at(since, ctx.clock.now()),
            plan.source_name,
        ),
        Err(failure) if !is_available => format!(
            "SSM {}: {}, since {}. Mirrors of this source serve what they hold. The operator keeps trying.",
            plan.source.as_ref().map_or("", |source| source.region.as_str()),
            failure.detail,
            humanize::at(since, ctx.clock.now())
        ),
        _ => match ctx.source_health.failing(&plan.source_name, ctx.clock.uptime()) {
            (0, _) => "The last read of each mirror was good.".to_owned(),
            (failing, all) => {
                format!(
                    "SSM answers, but the last reads of {failing} of {all} mirrors failed: their conditions say why."
                )
            }
        },
    }
}

/// Returns the lower of the account's request budget and the source's own cap.
fn most_requests(budget: f64, cap: Option<i32>) -> i32 {
    #[allow(clippy::cast_possible_truncation, reason = "a whole number of at most a few thousand")]
    let budget = budget as i32;
    cap.filter(|cap| *cap > 0).map_or(budget, |cap| cap.min(budget))
}

/// Returns since when the reads of a source fail; where the beginning was before this process, as its status says.
fn since(plan: &Plan, answer: &ReadOutcome, before: Option<&Condition>, ctx: &Context) -> Timestamp {
    let failed = answer.outcome.as_ref().err().map(|failure| failure.reason);
    let began = failed.and_then(|failed| ctx.source_health.failing_since(&plan.source_name, failed));
    let ago = began.map(|began| ctx.clock.uptime().saturating_sub(began));
    let ago = ago.and_then(|ago| SignedDuration::try_from(ago).ok());
    let reported = || before.map(|before| before.last_transition_time.0);
    ago.map(|ago| ctx.clock.now() - ago).or_else(reported).unwrap_or_else(|| ctx.clock.now())
}

/// Writes the state of a source from its latest reads: `Available`, the last success, the number of mirrors.
pub async fn report_source(plan: &Plan, answer: Option<&ReadOutcome>, ctx: &Context) {
    let (Some(answer), Some(source)) = (answer, ctx.watches.source(&plan.source_name)) else { return };
    let previous = source.status.clone().unwrap_or_default();
    let now = ctx.clock.now();
    let before = conditions::find(&previous.conditions, AVAILABLE);
    let account = plan.source.as_ref().map(|source| ctx.ssm.account_of(source));
    let outcome = Outcome {
        failed: answer
            .outcome
            .as_ref()
            .err()
            .map(|failure| failure.reason)
            .filter(|reason| !reason.is_limit()),
        is_open: account.as_ref().is_some_and(|account| account.breaker == BreakerState::Open),
        mirror: &ObjectRef::new(&plan.mirror).within(&plan.namespace),
        interval: plan.interval,
        generation: source.metadata.generation,
        was_available: before.is_some_and(|before| before.status == "True"),
    };
    let is_available = ctx.source_health.note(&plan.source_name, &outcome, ctx.clock.uptime());
    let (status, reason) = match &answer.outcome {
        _ if is_available => ("True", "Available"),
        Err(failure) if !failure.reason.is_limit() => ("False", failure.reason.as_str()),
        // SSM answered this read, so it does not show why the source is unavailable. The reads that fail report the reason.
        Ok(_) | Err(_) => return,
    };
    let is_drill = answer.outcome.as_ref().is_err_and(|failure| failure.reason == ReadErrorKind::Drill);
    let breaker =
        if is_drill { Some("Drill") } else { account.as_ref().map(|account| account.breaker.as_str()) };
    let said =
        StatusKey { status, reason: reason.to_owned(), breaker, generation: source.metadata.generation };
    let same = before.is_some_and(|before| before.status == status && before.reason == reason)
        && previous.breaker.as_deref() == breaker
        && previous.observed_generation == source.metadata.generation;
    if !ctx.source_status_dedup.should_write(&plan.source_name, said, same, ctx.clock.uptime()) {
        return;
    }
    // Counted only when the status is written: counting the mirrors after each read of each mirror would be quadratic.
    let mirrors = i32::try_from(ctx.watches.mirrors_on(&plan.source_name)).unwrap_or(i32::MAX);
    let since = since(plan, answer, before.filter(|before| before.status == status), ctx);
    let message = source_message(plan, answer, is_available, since, ctx);
    let message = humanize::cut(&message, humanize::LONGEST_MESSAGE);
    let condition = conditions::set(
        &previous.conditions,
        AVAILABLE,
        (status, reason, message),
        source.metadata.generation,
        now,
    );
    // An outage is no reason to hold up a rollout, and a denial is.
    let ready = if reason == ReadErrorKind::AccessDenied.as_str() { "False" } else { "True" };
    let ready = (ready, reason, condition.message.clone());
    let ready = conditions::set(&previous.conditions, READY, ready, source.metadata.generation, now);
    let last_success = if answer.outcome.is_ok() { Some(Time(now)) } else { previous.last_success_time };
    let patch = Patch::Merge(json!({"status": {
        "observedGeneration": source.metadata.generation,
        "conditions": [ready, condition],
        "lastSuccessTime": last_success,
        "breaker": breaker,
        "requestsPerSecond": account.map(|account| most_requests(account.rate, source.spec.requests_per_second)),
        "mirrors": mirrors,
    }}));
    if before.is_none_or(|before| before.status != status) {
        emit(&source, before, &condition, ctx);
    }
    let api: Api<ParameterSource> = Api::all(ctx.client.clone());
    if let Err(problem) =
        with_timeout(api.patch_status(&source.name_any(), &PatchParams::default(), &patch)).await
    {
        tracing::debug!(source = plan.source_name, error = %problem, "the status of the source cannot be written");
    }
}

/// Emits an event about a source that has become unavailable, or available again.
fn emit(source: &ParameterSource, before: Option<&Condition>, now: &Condition, ctx: &Context) {
    let draft = match (now.status.as_str(), before) {
        ("False", _) => EventDraft::warning(&now.reason, "ReadSource", now.message.clone()),
        (_, Some(_)) => EventDraft::normal(&now.reason, "ReadSource", now.message.clone()),
        (_, None) => return,
    };
    draft.log();
    ctx.events.emit(source.object_ref(&()), &draft);
}
