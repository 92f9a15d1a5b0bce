//! The sentences of conditions: the state, since when, what is still served, what to do next. Each is derived from what is known of
//! every target, and none holds a time that passes while the message stands.

use parameter_mirror_format::humanize;

use super::{Holding, SourceState, StatusInput, TargetStatus};
use crate::mirror::resolve::guard::Withheld;
use crate::mirror::resolve::{Incident, SourceIssue};
use crate::mirror::snapshot::{ReadError, ReadErrorKind};
use crate::mirror::target::{Consent, TargetIssue, TargetReason};

const AS_THEY_ARE: &str = "The targets stay as they are.";
const NOT_AFFECTED: &str = "New and running pods are not affected.";

/// What is served by a mirror whose spec is refused. The targets are not looked at, so nothing is said about them.
pub(super) fn refused(served: Option<usize>) -> String {
    served.map_or_else(
        || "Nothing has been written.".to_owned(),
        |count| {
            format!(
                "The {} served so far are neither updated nor restored until then.",
                humanize::parameters(count)
            )
        },
    )
}

/// `spec.suspend` is true; `empty` names the targets that hold nothing.
pub(super) fn suspended(empty: &[String]) -> String {
    let gone = match empty {
        [] => AS_THEY_ARE.to_owned(),
        _ => format!(
            "{}: what needs it cannot start.",
            hold_nothing(&empty.iter().map(String::as_str).collect::<Vec<_>>())
        ),
    };
    format!(
        "spec.suspend is true: SSM is not read, and targets are neither written nor restored. {gone} Set it to false to resume."
    )
}

/// The mirror is being deleted, and a target that is to be deleted with it cannot be deleted yet.
pub(super) fn deleting(target: &str, why: &str, until: &str) -> String {
    format!(
        "The mirror is being deleted. {target} is to be deleted with it and cannot be yet: {why}. The operator keeps trying. From {until} \
         on it leaves the target behind, as it is, and ends the deletion."
    )
}

/// What is served is older than `maxStaleness`.
pub(super) fn stale(facts: &StatusInput<'_>) -> String {
    let confirmed =
        facts.served.map_or_else(String::new, |(_, at)| format!(" at {}", humanize::at(at, facts.now)));
    format!(
        "What is served was last confirmed{confirmed}, longer ago than spec.maxStaleness. It is still served."
    )
}

/// `Secret a and Redis b hold all 40 parameters as read at 15:57:02 UTC.`, and what the other targets hold.
pub(super) fn serving(facts: &StatusInput<'_>) -> String {
    let Some((count, read_at)) = facts.served else {
        return if facts.is_unobserved() { AS_THEY_ARE } else { "Nothing is served yet." }.to_owned();
    };
    let current = |target: &&TargetStatus| target.issue.is_none() && !target.is_empty();
    let last_seen = |target: &&TargetStatus| target.issue.is_some() && target.holds == Holding::Current;
    let other = |target: &&TargetStatus| target.issue.is_some() && target.holds == Holding::Other;
    let kept = kept(facts);
    let all = match (count, kept) {
        (_, 1..) => humanize::parameters(count),
        (1, _) => "the 1 parameter".to_owned(),
        (2, _) => "both parameters".to_owned(),
        _ => format!("all {count} parameters"),
    };
    let but = match kept {
        0 => String::new(),
        _ => format!(", {kept} of them as read before SSM lacked them"),
    };
    let set = format!("{all} as read at {}{but}", humanize::at(read_at, facts.now));
    [
        hold(&names(facts, current), ["holds", "hold"], &set),
        hold(&names(facts, last_seen), ["held", "held"], "the same when last seen"),
        hold(&names(facts, other), ["holds", "hold"], "a complete set, perhaps an older one"),
    ]
    .into_iter()
    .flatten()
    .collect::<Vec<_>>()
    .join(" ")
}

/// How many of the parameters that are served SSM no longer has.
fn kept(facts: &StatusInput<'_>) -> usize {
    match facts.issue() {
        Some(SourceIssue::SuspiciousShrink(withheld)) if !withheld.of_another_source => withheld.removed,
        Some(SourceIssue::ParameterNotFound(names)) => names.len(),
        _ => 0,
    }
}

/// What is wrong with targets, beside an issue of the source that is reported first.
pub(super) fn also(facts: &StatusInput<'_>) -> String {
    let issue = |(target, issue): (&TargetStatus, &TargetIssue)| {
        format!("Also {}, {}: {}.", target.name, issue.reason, issue.detail.trim_end_matches('.'))
    };
    facts.target_issues().map(issue).collect::<Vec<_>>().join(" ")
}

/// What is wrong on the side of the source.
pub(super) fn source(facts: &StatusInput<'_>) -> String {
    let SourceState::Issue(Incident { issue, since, failed_reads }) = &facts.source else {
        return String::new();
    };
    let since = humanize::at(*since, facts.now);
    match issue {
        SourceIssue::Read(error) => failed_read(facts, error, &since, *failed_reads),
        SourceIssue::NoParameters if facts.served.is_some() => format!(
            "SSM {} has held nothing below {} since {since}. An empty read never replaces the parameters that are served. {} \
             If it is intended, delete the mirror or change its selections.",
            facts.place,
            facts.selected,
            effect(facts)
        ),
        SourceIssue::NoParameters => format!(
            "SSM {} holds nothing below {}. Nothing has been written. Check the path: names are case sensitive.",
            facts.place, facts.selected
        ),
        SourceIssue::EmptyPaths(paths) => format!(
            "SSM {} has held nothing below {} since {since}. The other selections are up to date. {} Check the path (names are case \
             sensitive), or mark the selection `optional: true`.",
            facts.place,
            humanize::few(paths),
            serving(facts)
        ),
        SourceIssue::ParameterNotFound(names) => format!(
            "SSM {} has had no {} since {since}. {} Create what is missing, or mark the selection `optional: true`.",
            facts.place,
            humanize::few(&names.iter().map(|name| with_selector(name)).collect::<Vec<_>>()),
            effect(facts)
        ),
        SourceIssue::SuspiciousShrink(withheld) => shrink(facts, withheld, &since),
    }
}

/// What is wrong with one target.
pub(super) fn target(facts: &StatusInput<'_>, target: &TargetStatus, issue: &TargetIssue) -> String {
    let since = target.since.map(|since| format!(", since {}", humanize::at(since, facts.now)));
    let held = match target.holds {
        // What it holds at the moment depends on the last writer.
        _ if issue.reason == TargetReason::TargetContested => "",
        Holding::Current => "It held what is served when last seen.",
        Holding::Other => "It holds a complete set, perhaps an older one.",
        Holding::Nothing => "It holds nothing of this mirror: what needs it cannot start.",
        Holding::Foreign => "What uses it gets what its owner wrote.",
    };
    let others = facts.served.and_then(|_| {
        let fine = |other: &&TargetStatus| other.issue.is_none() && !other.is_empty();
        hold(&names(facts, fine), ["holds", "hold"], "what is served")
    });
    let parts = [
        format!("{}{}: {}.", target.name, since.unwrap_or_default(), issue.detail.trim_end_matches('.')),
        held.to_owned(),
        others.unwrap_or_default(),
        issue.consent.map_or_else(String::new, |consent| handover(facts, target, issue, consent)),
    ];
    parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ")
}

fn failed_read(facts: &StatusInput<'_>, error: &ReadError, since: &str, failed_reads: u32) -> String {
    let effect = effect(facts);
    let reads = match failed_reads {
        0 => String::new(),
        1 => " (1 failed read)".to_owned(),
        _ => format!(" ({failed_reads} failed reads)"),
    };
    match error.reason {
        ReadErrorKind::Drill => format!(
            "{}, since {since}. {effect} To end it: kubectl annotate psource {} parameter-mirror.dev/drill-until-",
            humanize::capitalised(&error.detail),
            facts.source_name
        ),
        ReadErrorKind::SourceNotFound => {
            format!("{}. This has been so since {since}. {effect}", error.detail)
        }
        reason => format!(
            "SSM {}: {}, since {since}{reads}. {effect} {}",
            facts.place,
            error.detail,
            if reason.is_denial() {
                "It is tried again at each interval."
            } else {
                "The operator keeps trying."
            }
        ),
    }
}

fn shrink(facts: &StatusInput<'_>, withheld: &Withheld, since: &str) -> String {
    let kept = if withheld.of_another_source {
        "What is held is from another source and stays as it is."
    } else {
        "They are kept; additions and changes are applied."
    };
    let effect = effect(facts);
    let refused = if withheld.is_answered {
        " The annotation accept-shrink that is set approves other removals."
    } else {
        ""
    };
    format!(
        "SSM {} has no longer listed {} of {} since {since}: {}. {kept} {effect}{refused} If it is intended: kubectl --namespace {} annotate \
         --overwrite pmirror {} parameter-mirror.dev/accept-shrink={}",
        facts.place,
        withheld.removed,
        humanize::parameters(withheld.of),
        withheld.names,
        facts.namespace,
        facts.mirror,
        withheld.id
    )
}

/// What an issue of the source means for pods and readers: what each target holds.
fn effect(facts: &StatusInput<'_>) -> String {
    if facts.served.is_none() {
        let nothing = "There is no last known good set to serve, and nothing was written.";
        return if facts.is_unobserved() { AS_THEY_ARE } else { nothing }.to_owned();
    }
    let empty = names(facts, |target| target.holds == Holding::Nothing);
    let serving = serving(facts);
    let foreign = names(facts, |target| target.holds == Holding::Foreign);
    let consequence = if !empty.is_empty() || !foreign.is_empty() {
        [(empty, "what needs it cannot start"), (foreign, "what uses it gets what its owner wrote")]
            .into_iter()
            .filter(|(names, _)| !names.is_empty())
            .map(|(names, consequence)| format!("{}: {consequence}.", hold_nothing(&names)))
            .collect::<Vec<_>>()
            .join(" ")
    } else if facts.target_issues().next().is_none() {
        NOT_AFFECTED.to_owned()
    } else {
        String::new()
    };
    [serving, consequence].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ")
}

/// What the owner of a foreign target can do.
fn handover(facts: &StatusInput<'_>, target: &TargetStatus, issue: &TargetIssue, consent: Consent) -> String {
    let is_secret = issue.reason == TargetReason::SecretConflict;
    let elsewhere = if is_secret { "Choose another spec.secret.name" } else { "Rename the mirror" };
    match consent {
        Consent::OwnerAlive if is_secret => {
            format!("{elsewhere}: it belongs to another ParameterMirror, which still writes it.")
        }
        Consent::OwnerAlive => format!("{elsewhere}: another operator still writes it."),
        Consent::Impossible => format!("{elsewhere}: it cannot be handed over."),
        Consent::Possible if is_secret => format!(
            "{elsewhere}, or let its owner consent (parameter-mirror verify names the owner if you may read the Secret): kubectl \
             --namespace {} annotate {} parameter-mirror.dev/adopt-by={}",
            facts.namespace,
            target.name.replace("Secret ", "secret "),
            facts.mirror
        ),
        Consent::Possible => format!(
            "{elsewhere}, or let the owner of the hash consent: redis-cli HSET '{}' @adoptBy '{}'",
            target.name.trim_start_matches("Redis "),
            facts.owner
        ),
    }
}

/// `/x with the version or label live`, which SSM does not tell from a parameter that does not exist.
fn with_selector(name: &str) -> String {
    match name.split_once(':') {
        Some((bare, selector)) => format!("{bare} with the version or label {selector}"),
        None => name.to_owned(),
    }
}

fn names<'f>(facts: &'f StatusInput<'_>, wanted: impl Fn(&&TargetStatus) -> bool) -> Vec<&'f str> {
    facts.targets.iter().filter(wanted).map(|target| target.name.as_str()).collect()
}

fn hold_nothing(names: &[&str]) -> String {
    let verb = if names.len() == 1 { "holds" } else { "hold" };
    format!("{} {verb} nothing of this mirror", names.join(" and "))
}

/// `a and b hold x.`
fn hold(names: &[&str], [one, several]: [&str; 2], what: &str) -> Option<String> {
    let verb = if names.len() == 1 { one } else { several };
    (!names.is_empty()).then(|| format!("{} {verb} {what}.", names.join(" and ")))
}
