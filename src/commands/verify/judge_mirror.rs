//! Turns facts into findings about one mirror. Pure.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::ResourceExt;
use parameter_mirror_format::content::Signed;
use parameter_mirror_format::content::environment;
use parameter_mirror_format::content::source::StoredSource;
use parameter_mirror_format::humanize::{at, parameters, span};
use parameter_mirror_format::verdict::{Found, Verdict};

use crate::api::{DeletionPolicy, FINALIZER};
use crate::commands::verify::dry_read;
use crate::commands::verify::facts::{Facts, FoundMirror, is_operator_alive, ring};
use crate::commands::verify::finding::{Finding, Level};
use crate::mirror::copies;
use crate::mirror::plan::{Plan, PlanError};
use crate::mirror::target::{Conflict, Consent};
use crate::targets::target::Inspection;

/// Returns all findings about a mirror.
pub(super) fn judge(mirror: &FoundMirror, facts: &Facts) -> Vec<Finding> {
    let mut findings = vec![grants(mirror), state(mirror)];
    let copies: Vec<Copy<'_>> = mirror.targets.iter().map(|target| copy(target, mirror, facts)).collect();
    let held: Vec<&Signed> = copies.iter().filter_map(|copy| copy.signed).collect();
    findings.extend(dry_read::judge(mirror));
    findings.extend(agreement(mirror, &held));
    findings.extend(age(mirror, &held, facts.now));
    findings.extend(copies.into_iter().map(|copy| copy.finding));
    findings.extend(held.first().map(|signed| variables(signed)));
    findings.extend(single_copy(mirror));
    findings.extend(circular(mirror, facts));
    findings.push(deletion(mirror, facts));
    findings.into_iter().map(|finding| finding.about(&mirror.name)).collect()
}

/// Whether a target of the mirror holds a set, or held one when the operator last looked.
fn was_published(mirror: &FoundMirror) -> bool {
    let status = mirror.object.status.as_ref();
    let holds = |target: &Inspection| target.found.as_ref().is_ok_and(copies::holds_a_set);
    status.is_some_and(|status| status.secret.is_some() || status.redis.is_some())
        || mirror.targets.iter().any(holds)
}

/// Returns the plan, if the spec is valid and granted.
fn plan(mirror: &FoundMirror) -> Option<&Plan> {
    mirror.plan.as_ref()?.as_ref().ok()
}

fn grants(mirror: &FoundMirror) -> Finding {
    let source = &mirror.object.spec.source_ref.name;
    let (level, text) = match (&mirror.source, &mirror.plan) {
        (Err(problem), _) => {
            (Level::Warn, format!("ParameterSource {source}: {problem}, so its grants are not known"))
        }
        (Ok(_), None) => (
            Level::Warn,
            "the labels of its namespace cannot be read, so its grants are not known".to_owned(),
        ),
        (_, Some(Err(refusal @ PlanError::InvalidSpec(_)))) => (Level::Fail, refusal.to_string()),
        (_, Some(Err(refusal @ PlanError::NotGranted(_)))) => {
            let served = if was_published(mirror) { " What is served stays as it is" } else { "" };
            (Level::Fail, format!("{refusal}{served}"))
        }
        (Ok(None), _) => {
            let served = if was_published(mirror) { ". What is served stays as it is" } else { "" };
            let text = format!(
                "there is no ParameterSource {source}: create it, or correct spec.sourceRef.name{served}"
            );
            (Level::Fail, text)
        }
        (Ok(Some(found)), Some(Ok(plan))) => {
            let count = plan.selections.len();
            let selections =
                if count == 1 { "its selection".to_owned() } else { format!("its {count} selections") };
            (Level::Ok, format!("ParameterSource {source} ({}) grants {selections}", found.spec.region))
        }
    };
    Finding::new(level, "grants", text)
}

/// Judges what the operator itself reports.
fn state(mirror: &FoundMirror) -> Finding {
    let status = mirror.object.status.clone().unwrap_or_default();
    let condition = |type_: &str| status.conditions.iter().find(|condition| condition.type_ == type_);
    let is = |condition: Option<&Condition>, wanted: &str| condition.is_some_and(|is| is.status == wanted);
    let reason_of = |condition: &Condition| format!("{}: {}", condition.reason, condition.message);
    let (ready, degraded) = (condition("Ready"), condition("Degraded"));
    let (level, text) = if mirror.object.spec.suspend {
        let text =
            "it is suspended: nothing is read, written or restored until spec.suspend is false".to_owned();
        (Level::Warn, text)
    } else if mirror
        .object
        .metadata
        .generation
        .is_some_and(|generation| generation != status.observed_generation)
    {
        let text = "the operator has not reconciled its latest change yet. If that lasts for a minute, see the operator's log";
        (Level::Warn, text.to_owned())
    } else if let Some(ready) = ready.filter(|ready| is(Some(ready), "False")) {
        (Level::Fail, format!("not Ready, {}", reason_of(ready)))
    } else if let Some(degraded) = degraded.filter(|degraded| is(Some(degraded), "True")) {
        (Level::Warn, format!("Degraded, {}", reason_of(degraded)))
    } else if is(ready, "True") {
        (Level::Ok, "Ready, and not Degraded".to_owned())
    } else {
        (Level::Warn, "its first read is under way".to_owned())
    };
    Finding::new(level, "state", text)
}

/// A target as it was observed.
struct Copy<'a> {
    finding: Finding,
    signed: Option<&'a Signed>,
}

fn copy<'a>(target: &'a Inspection, mirror: &FoundMirror, facts: &Facts) -> Copy<'a> {
    let check = target.kind.label();
    let found = match &target.found {
        Ok(found) => found,
        Err(why) => return Copy { finding: Finding::new(Level::Warn, check, why), signed: None },
    };
    let signed = copies::verified(Some(found));
    let (level, text) = match &target.flaw {
        Some(flaw) if signed.is_some() => (Level::Fail, flaw.clone()),
        _ => verdict(target, found, mirror, facts),
    };
    Copy { finding: Finding::new(level, check, text), signed }
}

fn verdict(target: &Inspection, found: &Found, mirror: &FoundMirror, facts: &Facts) -> (Level, String) {
    let Inspection { name: target, conflict, .. } = target;
    let restored = "A working operator restores it within seconds (Redis: at its next check)";
    match found {
        Found::Missing if !was_published(mirror) => {
            (Level::Fail, format!("{target} is not there: nothing has been written to it yet"))
        }
        Found::Missing => (Level::Fail, format!("{target} is not there. {restored}")),
        Found::Ours(Verdict::Broken(cause)) => {
            (Level::Fail, format!("{target} was damaged, or edited by another hand: {cause}. {restored}"))
        }
        Found::Ours(Verdict::Verified(signed)) => {
            let holds = format!(
                "{target} holds {}, revision {}, and its MAC holds under {}",
                parameters(signed.content.entries.len()),
                signed.content.revision(),
                signed.key_id
            );
            match ring(facts) {
                Some(ring) if *ring.active() != signed.key_id => {
                    let text = format!(
                        "{holds}, which is not the active key {}. The next good read writes it with that key",
                        ring.active()
                    );
                    (Level::Warn, text)
                }
                _ => (Level::Ok, holds),
            }
        }
        // The owner may be named: the caller has read the target.
        Found::NotOurs { owner: Some(owner) } => {
            (Level::Fail, format!("{target}: it exists and belongs to {owner}. It was not touched."))
        }
        other => {
            let detail = copies::refusal(other, Conflict { reason: *conflict, consent: Consent::Possible })
                .map_or_else(String::new, |issue| issue.detail);
            (Level::Fail, format!("{target}: {detail}"))
        }
    }
}

/// Whether both targets and the status have the same set, and whether it is the set that the spec asks for.
fn agreement(mirror: &FoundMirror, held: &[&Signed]) -> Option<Finding> {
    let first = held.first()?;
    let revision = first.content.revision();
    let said = mirror.object.status.as_ref().and_then(|status| status.revision.clone());
    let covers = |plan: &Plan| {
        StoredSource::decode(&first.content.source).is_ok_and(|stored| plan.is_covered_by(&stored))
    };
    let (level, text) = if held.iter().any(|other| !other.content.same_as(&first.content)) {
        (
            Level::Fail,
            "Secret and Redis hold different sets. A write under way takes less than a second; if it stays so, the conditions of the \
             mirror say why"
                .to_owned(),
        )
    } else if said.as_ref() != Some(&revision) {
        let said = said.unwrap_or_else(|| "none".to_owned());
        let text = format!(
            "its targets hold revision {revision}, its status says {said}. If that stays so for a minute, see the operator's log"
        );
        (Level::Warn, text)
    } else if plan(mirror).is_some_and(|plan| !covers(plan)) {
        let text = "what is served was read for an earlier spec; it is replaced when everything selected now has been read";
        (Level::Warn, text.to_owned())
    } else if held.len() > 1 {
        (Level::Ok, format!("Secret, Redis and status hold the same set, revision {revision}"))
    } else {
        (Level::Ok, format!("its target and its status hold the same set, revision {revision}"))
    };
    Some(Finding::new(level, "content", text))
}

/// Whether the reader would pass the set to a program.
fn variables(signed: &Signed) -> Finding {
    let Some(problem) = environment::problem(&signed.content.entries) else {
        return Finding::new(Level::Ok, "variables", "programs can be started with it");
    };
    let text = format!(
        "{problem}. The reader's exec, watch and export refuse the mirror, but not what reads the Secret (envFrom)"
    );
    Finding::new(Level::Warn, "variables", text)
}

/// A mirror with one target: nothing restores that target in an outage once the operator has restarted.
fn single_copy(mirror: &FoundMirror) -> Option<Finding> {
    let [only] = &mirror.targets[..] else { return None };
    let is = if was_published(mirror) { "is" } else { "will be" };
    let text = format!(
        "{} {is} its only copy: if that is lost in an outage of SSM after a restart of the operator, nothing can restore it. Give the mirror \
         both targets",
        only.name
    );
    Some(Finding::new(Level::Warn, "copies", text))
}

/// A mirror that writes a Secret of the operator itself: the operator could not start without what only it can restore.
fn circular(mirror: &FoundMirror, facts: &Facts) -> Option<Finding> {
    let object = &mirror.object;
    let is_at_home = object.namespace().is_some_and(|namespace| namespace == facts.home.namespace);
    let secret = object.spec.secret.as_ref()?.name_for(object.metadata.name.as_deref()?);
    let text = format!(
        "the operator itself uses Secret {secret}, which this mirror writes: if it is lost in an outage, the operator cannot start and \
         restore it. Keep what the operator needs elsewhere"
    );
    (is_at_home && facts.used_by_the_operator.contains(secret))
        .then(|| Finding::new(Level::Warn, "circular", text))
}

/// How old what is served is, since it was read or confirmed.
fn age(mirror: &FoundMirror, held: &[&Signed], now: Timestamp) -> Option<Finding> {
    held.first()?;
    let read =
        held.iter().filter_map(|signed| Timestamp::from_millisecond(signed.content.read_at).ok()).max();
    let confirmed =
        mirror.object.status.as_ref().and_then(|status| status.last_sync_time.as_ref().map(|time| time.0));
    let checked = mirror.targets.iter().filter_map(|target| target.checked_at).max();
    let checked = checked.and_then(|at| Timestamp::from_millisecond(at).ok());
    let current = [read, confirmed, checked].into_iter().flatten().max()?;
    let age = Duration::try_from(now.duration_since(current).max(SignedDuration::ZERO)).unwrap_or_default();
    let served = format!("what is served is as SSM had it {} ago ({})", span(age), at(current, now));
    let Some(plan) = plan(mirror) else { return Some(Finding::new(Level::Ok, "age", served)) };
    let (level, text) = match plan.max_staleness {
        Some(most) if age > most => {
            (Level::Fail, format!("{served}, longer than spec.maxStaleness allows ({})", span(most)))
        }
        // Reads are up to an interval apart, and a read takes time.
        _ if age > plan.interval * 2 + Duration::from_secs(30) && !plan.suspend => {
            (Level::Warn, format!("{served}, although it should be read every {}", span(plan.interval)))
        }
        _ => (Level::Ok, served),
    };
    Some(Finding::new(level, "age", text))
}

/// What would block the deletion of the mirror or its namespace, and what would be deleted with it.
fn deletion(mirror: &FoundMirror, facts: &Facts) -> Finding {
    let object = &mirror.object;
    let alive = is_operator_alive(&facts.lease, facts.now);
    let ours = object.finalizers().iter().any(|finalizer| finalizer == FINALIZER);
    let others: Vec<String> =
        object.finalizers().iter().filter(|finalizer| *finalizer != FINALIZER).cloned().collect();
    let mut complaints = Vec::new();
    if let Some(since) = &object.metadata.deletion_timestamp {
        complaints.push((Level::Fail, format!("it is being deleted since {}", at(since.0, facts.now))));
    }
    if ours && alive {
        complaints.push((
            Level::Ok,
            "its deletion waits for the operator, which deletes the Redis hash with it (redis.deletionPolicy Delete): delete it before \
             you uninstall"
                .to_owned(),
        ));
    } else if ours {
        complaints.push((
            Level::Fail,
            format!(
                "its deletion, and that of its namespace, waits for an operator that does not work (redis.deletionPolicy Delete). Start \
                 the operator, or give the hash up: kubectl patch pmirror {} -n {} --type merge -p '{{\"metadata\":{{\"finalizers\":null}}}}'",
                object.name_any(),
                object.namespace().unwrap_or_default()
            ),
        ));
    }
    if !others.is_empty() {
        complaints.push((
            Level::Warn,
            format!("its deletion waits for finalizers of others: {}", others.join(", ")),
        ));
    }
    let goes =
        object.spec.secret.as_ref().is_some_and(|secret| secret.deletion_policy == DeletionPolicy::Delete);
    if goes {
        complaints.push((
            Level::Ok,
            "its Secret goes when it is deleted, also with the CRDs (secret.deletionPolicy Delete)"
                .to_owned(),
        ));
    }
    let level = complaints.iter().map(|(level, _)| *level).max().unwrap_or(Level::Ok);
    let text = complaints.into_iter().map(|(_, text)| text).collect::<Vec<_>>().join("; ");
    let text =
        if text.is_empty() { "nothing holds up its deletion, and its targets stay".to_owned() } else { text };
    Finding::new(level, "deletion", text)
}
