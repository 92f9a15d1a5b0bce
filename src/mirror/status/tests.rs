//! The table "What the conditions say", row by row, and the order of reasons.

mod sentences;

use rstest::rstest;

use super::*;
use crate::mirror::resolve::guard::Withheld;
use crate::mirror::snapshot::ReadError;
use crate::mirror::target::{Conflict, Consent};

/// Both targets hold a set, and the last read was good.
fn synced() -> StatusInput<'static> {
    let target = |name: &str| TargetStatus {
        name: name.to_owned(),
        holds: Holding::Current,
        seen: true,
        issue: None,
        since: None,
    };
    StatusInput {
        now: "2026-11-23T16:26:12Z".parse().unwrap(),
        namespace: "shop",
        mirror: "search",
        owner: "prod/shop/search",
        source_name: "default",
        place: "us-east-1 (source default)".to_owned(),
        selected: "/prod/search".to_owned(),
        served: Some((40, "2026-11-23T15:57:02Z".parse().unwrap())),
        is_stale: false,
        source: SourceState::Good,
        targets: vec![target("Secret search-config"), target("Redis pm:{shop/search}")],
        keys: None,
    }
}

fn troubled(issue: SourceIssue) -> SourceState {
    SourceState::Issue(Incident { issue, since: "2026-11-23T16:00:12Z".parse().unwrap(), failed_reads: 9 })
}

fn failed(reason: ReadErrorKind) -> SourceState {
    troubled(SourceIssue::Read(ReadError::new(reason, "HTTP 500")))
}

fn issue(reason: TargetReason) -> TargetIssue {
    TargetIssue::new(reason, "it is so.")
}

/// `True/Reason` of a condition; `-` for one that stays unchanged.
fn shown(verdict: Option<&ConditionState>) -> String {
    verdict.map_or_else(|| "-".to_owned(), |verdict| format!("{}/{}", verdict.status, verdict.reason))
}

fn all(facts: &StatusInput<'_>) -> [String; 3] {
    let conditions = conditions(facts);
    [shown(conditions.ready.as_ref()), shown(conditions.degraded.as_ref()), shown(Some(&conditions.stalled))]
}

const FINE: &str = "False/AsExpected";

#[test]
fn nothing_read_yet() {
    let fresh = StatusInput { served: None, source: SourceState::NotReadYet, ..synced() };
    assert_eq!(all(&fresh), ["Unknown/Pending", "Unknown/Pending", FINE]);
    // After a restart the previous conditions stand until this process has read.
    let restarted = StatusInput { source: SourceState::NotReadYet, ..synced() };
    assert_eq!(all(&restarted), ["-", "-", FINE]);
}

#[test]
fn all_targets_hold_a_fresh_set() {
    assert_eq!(all(&synced()), ["True/Synced", "False/Synced", FINE]);
}

#[rstest]
#[case(ReadErrorKind::SourceUnavailable)]
#[case(ReadErrorKind::Throttled)]
#[case(ReadErrorKind::Timeout)]
#[case(ReadErrorKind::CredentialsUnavailable)]
#[case(ReadErrorKind::AccessDenied)]
#[case(ReadErrorKind::KmsUnavailable)]
#[case(ReadErrorKind::InvalidResponse)]
#[case(ReadErrorKind::SourceNotFound)]
#[case(ReadErrorKind::SourceChanging)]
#[case(ReadErrorKind::BudgetExhausted)]
fn ssm_fails(#[case] reason: ReadErrorKind) {
    let serving = StatusInput { source: failed(reason), ..synced() };
    assert_eq!(
        all(&serving),
        ["True/ServingLastKnownGood".to_owned(), format!("True/{reason}"), FINE.to_owned()]
    );
    let never = StatusInput { served: None, source: failed(reason), ..synced() };
    assert_eq!(all(&never), ["False/NoLastKnownGood".to_owned(), format!("True/{reason}"), FINE.to_owned()]);
}

#[test]
fn removals_are_withheld_or_a_name_is_gone() {
    let shrink = |of_another_source| {
        let id = "7f3a9c2e41d0".to_owned();
        let names = "/prod/search/a, /prod/search/b and 29 more".to_owned();
        let withheld = Withheld { removed: 31, names, of: 40, id, is_answered: false, of_another_source };
        troubled(SourceIssue::SuspiciousShrink(withheld))
    };
    let facts = StatusInput { source: shrink(false), ..synced() };
    assert_eq!(all(&facts), ["True/ServingLastKnownGood", "True/SuspiciousShrink", FINE]);
    let message = conditions(&facts).degraded.unwrap().message;
    assert!(
        message.contains("31 of 40 parameters since 16:00:12 UTC: /prod/search/a, /prod/search/b and 29 more. They are kept")
            && message.ends_with(
                "kubectl --namespace shop annotate --overwrite pmirror search parameter-mirror.dev/accept-shrink=7f3a9c2e41d0"
            ),
        "{message}"
    );
    assert!(!message.contains("approves other removals"), "{message}");
    let SourceState::Issue(Incident { issue: SourceIssue::SuspiciousShrink(mut withheld), .. }) =
        shrink(false)
    else {
        panic!("no shrink")
    };
    withheld.is_answered = true;
    let answered = StatusInput { source: troubled(SourceIssue::SuspiciousShrink(withheld)), ..synced() };
    assert!(conditions(&answered).degraded.unwrap().message.contains("that is set approves other removals"));
    let facts = StatusInput { source: shrink(true), ..synced() };
    assert_eq!(all(&facts), ["True/ServingLastKnownGood", "True/SuspiciousShrink", FINE]);
    let message = conditions(&facts).degraded.unwrap().message;
    assert!(
        message.contains("another source") && message.ends_with("accept-shrink=7f3a9c2e41d0"),
        "{message}"
    );

    let gone = troubled(SourceIssue::ParameterNotFound(vec!["/prod/x".to_owned()]));
    let facts = StatusInput { source: gone.clone(), ..synced() };
    assert_eq!(all(&facts), ["True/ServingLastKnownGood", "True/ParameterNotFound", FINE]);
    let never = StatusInput { served: None, source: gone, ..synced() };
    assert_eq!(all(&never), ["False/ParameterNotFound", "True/ParameterNotFound", FINE]);
    let empty = StatusInput { served: None, source: troubled(SourceIssue::NoParameters), ..synced() };
    assert_eq!(all(&empty), ["False/NoParameters", "True/NoParameters", FINE]);
    let many = StatusInput { served: None, source: failed(ReadErrorKind::TooManyParameters), ..synced() };
    assert_eq!(all(&many), ["False/TooManyParameters", "True/TooManyParameters", FINE]);
}

/// What SSM no longer lists is served, and not "as read at" the time of the last read.
#[test]
fn what_is_kept_is_not_said_to_be_read() {
    let gone = troubled(SourceIssue::ParameterNotFound(vec!["/prod/x".to_owned(), "/prod/y".to_owned()]));
    let ready = conditions(&StatusInput { source: gone, ..synced() }).ready.unwrap().message;
    assert!(
        ready.ends_with(
            "hold 40 parameters as read at 15:57:02 UTC, 2 of them as read before SSM lacked them."
        ),
        "{ready}"
    );
}

#[test]
fn no_action_is_required_only_while_all_is_well() {
    let stalled = |facts: &StatusInput<'_>| conditions(facts).stalled.message;
    assert_eq!(stalled(&synced()), "No manual action is required.");
    let mut lags = synced();
    lags.targets[1].issue = Some(issue(TargetReason::RedisUnavailable));
    let keys = StatusInput { keys: Some(issue(TargetReason::KeyMissing)), ..synced() };
    let denied = StatusInput { source: failed(ReadErrorKind::AccessDenied), ..synced() };
    for facts in [lags, keys, denied] {
        assert!(stalled(&facts).contains("Degraded says what is wrong"), "{}", stalled(&facts));
    }
}

#[test]
fn a_deletion_that_waits_says_for_what_and_until_when() {
    let waiting = deleting("Redis pm:{shop/search}", "Redis does not answer", "16:05:00 UTC");
    assert_eq!(shown(waiting.degraded.as_ref()), "True/DeletionWaiting");
    let message = waiting.degraded.unwrap().message;
    for part in [
        "Redis pm:{shop/search}",
        "Redis does not answer",
        "From 16:05:00 UTC on it leaves the target behind",
    ] {
        assert!(message.contains(part), "{message}");
    }
}

/// `Stale` replaces the reason, never the status: a fresh set is not stale, and Ready does not depend on it.
#[test]
fn stale_replaces_the_reason_and_keeps_it_in_the_message() {
    let mut facts = StatusInput { is_stale: true, source: failed(ReadErrorKind::Timeout), ..synced() };
    assert_eq!(all(&facts), ["True/ServingLastKnownGood", "True/Stale", FINE]);
    let message = conditions(&facts).degraded.unwrap().message;
    assert!(
        message.starts_with(
            "What is served was last confirmed at 15:57:02 UTC, longer ago than spec.maxStaleness."
        ) && message.contains("Timeout: SSM us-east-1"),
        "{message}"
    );
    facts.source = SourceState::Good;
    assert_eq!(all(&facts), ["True/Synced", "False/Synced", FINE]);
}

#[test]
fn a_drill_is_reported_first() {
    let facts = StatusInput {
        source: failed(ReadErrorKind::Drill),
        keys: Some(issue(TargetReason::KeyMissing)),
        ..synced()
    };
    assert_eq!(all(&facts), ["-", "True/Drill", FINE]);
}

/// After a restart with a Secret that cannot be observed, Ready keeps its status, and nothing is called empty.
#[test]
fn what_cannot_be_seen_is_not_called_nothing() {
    let mut facts = StatusInput { served: None, source: SourceState::NotReadYet, ..synced() };
    let secret = &mut facts.targets[0];
    (secret.seen, secret.issue) = (false, Some(issue(TargetReason::SecretWriteFailed)));
    assert_eq!(all(&facts), ["-", "True/SecretWriteFailed", FINE]);
    facts.source = failed(ReadErrorKind::Timeout);
    assert_eq!(all(&facts), ["-", "True/Timeout", FINE]);
    let message = conditions(&facts).degraded.unwrap().message;
    assert!(
        message.contains("The targets stay as they are.") && !message.contains("nothing was written"),
        "{message}"
    );
}

/// A target that lags holds an older complete set: Ready, but Degraded.
#[rstest]
#[case(TargetReason::RedisUnavailable)]
#[case(TargetReason::RedisOutOfMemory)]
#[case(TargetReason::RedisDenied)]
#[case(TargetReason::TargetContested)]
#[case(TargetReason::LayoutTooNew)]
fn a_target_lags_or_holds_nothing(#[case] reason: TargetReason) {
    let mut facts = synced();
    facts.targets[1].issue = Some(issue(reason));
    assert_eq!(all(&facts), ["True/Synced".to_owned(), format!("True/{reason}"), FINE.to_owned()]);
    facts.targets[1].holds = Holding::Nothing;
    assert_eq!(all(&facts), [format!("False/{reason}"), format!("True/{reason}"), FINE.to_owned()]);
}

#[rstest]
#[case(TargetReason::SecretConflict, true)]
#[case(TargetReason::RedisConflict, false)]
fn a_conflict_waits_for_a_person(#[case] reason: TargetReason, #[case] of_secret: bool) {
    let mut facts = synced();
    let target = &mut facts.targets[usize::from(!of_secret)];
    (target.issue, target.holds) = (Some(issue(reason)), Holding::Foreign);
    assert_eq!(all(&facts), [format!("False/{reason}"), format!("True/{reason}"), format!("True/{reason}")]);
    let message = |consent| {
        let mut facts = facts.clone();
        facts.targets[usize::from(!of_secret)].issue =
            Some(TargetIssue::conflict(Conflict { reason, consent }));
        conditions(&facts).ready.unwrap().message
    };
    let command = if of_secret {
        "kubectl --namespace shop annotate secret search-config parameter-mirror.dev/adopt-by=search"
    } else {
        "redis-cli HSET 'pm:{shop/search}' @adoptBy 'prod/shop/search'"
    };
    assert!(message(Consent::Possible).ends_with(command), "{}", message(Consent::Possible));
    // It exists, so pods do start, with what is in it.
    let possible = message(Consent::Possible);
    assert!(
        possible.contains("gets what its owner wrote") && !possible.contains("cannot start"),
        "{possible}"
    );
    for consent in [Consent::OwnerAlive, Consent::Impossible] {
        let message = message(consent);
        assert!(!message.contains("adopt"), "a command that cannot help: {message}");
    }
}

#[test]
fn the_order_of_reasons_is_fixed() {
    let mut facts = StatusInput { source: failed(ReadErrorKind::Timeout), ..synced() };
    for target in &mut facts.targets {
        (target.issue, target.holds) = (Some(issue(TargetReason::SecretTooLarge)), Holding::Nothing);
    }
    facts.targets[1].issue = Some(issue(TargetReason::RedisUnavailable));
    // Ready: the Secret's reason before Redis's before the source's. Degraded: the source's first.
    assert_eq!(all(&facts), ["False/SecretTooLarge", "True/Timeout", FINE]);
    facts.source = SourceState::Good;
    assert_eq!(all(&facts), ["False/SecretTooLarge", "True/SecretTooLarge", FINE]);
    facts.keys = Some(issue(TargetReason::KeyMissing));
    assert_eq!(all(&facts), ["-", "True/KeyMissing", FINE], "lost keys come first and leave Ready as it was");
}

#[test]
fn a_wrong_spec_is_not_ready_whatever_is_served() {
    let refused = refused(&PlanError::NotGranted("no grant for /x.".to_owned()), Some(12));
    assert_eq!(shown(refused.ready.as_ref()), "False/NotGranted");
    assert_eq!(shown(Some(&refused.stalled)), "True/NotGranted");
    assert_eq!(refused.degraded, None, "Degraded stays as it was");
    assert!(
        refused.stalled.message.contains("12 parameters served so far are neither updated nor restored"),
        "{}",
        refused.stalled.message
    );
}

/// docs/design/formats.md: `KeyMissing` comes before the source's reason, even if only one copy is signed with a lost key.
#[test]
fn a_copy_under_a_lost_key_is_reported_before_an_outage() {
    for of_secret in [true, false] {
        let mut facts = StatusInput { source: failed(ReadErrorKind::Timeout), ..synced() };
        let target = &mut facts.targets[usize::from(!of_secret)];
        target.issue = Some(issue(TargetReason::KeyMissing));
        assert_eq!(all(&facts), ["True/ServingLastKnownGood", "True/KeyMissing", FINE]);
        facts.source = SourceState::Good;
        assert_eq!(all(&facts), ["True/Synced", "True/KeyMissing", FINE]);
    }
}

#[rstest]
#[case("True")]
#[case("False")]
#[case("Unknown")]
fn a_suspended_mirror_says_so_and_stays_as_ready_as_it_was(#[case] before: &'static str) {
    let paused = suspended(before, &[]);
    assert_eq!(shown(paused.ready.as_ref()), format!("{before}/Suspended"));
    // It is not judged any more, so no earlier claim stands.
    assert_eq!(shown(paused.degraded.as_ref()), "Unknown/Suspended");
    assert_eq!(shown(Some(&paused.stalled)), FINE);
    let gone = suspended(before, &["Secret search-config".to_owned()]).ready.unwrap();
    assert_eq!(shown(Some(&gone)), "False/Suspended");
    assert!(gone.message.contains("Secret search-config holds nothing of this mirror"), "{}", gone.message);
}

#[test]
fn an_invalid_spec_waits_for_a_person() {
    let refused = refused(&PlanError::InvalidSpec("x".to_owned()), None);
    assert_eq!(shown(refused.ready.as_ref()), "False/InvalidSpec");
    assert_eq!(shown(Some(&refused.stalled)), "True/InvalidSpec");
}

/// Before the first set, a target has only those issues reported that a person has to resolve.
#[rstest]
#[case(TargetReason::RedisNotConfigured, true)]
#[case(TargetReason::SecretConflict, true)]
#[case(TargetReason::RedisConflict, true)]
#[case(TargetReason::RedisUnavailable, false)]
#[case(TargetReason::SecretWriteFailed, false)]
fn a_target_in_trouble_before_the_first_set(#[case] reason: TargetReason, #[case] lasting: bool) {
    let mut facts = StatusInput { served: None, source: SourceState::NotReadYet, ..synced() };
    for target in &mut facts.targets {
        target.holds = Holding::Nothing;
    }
    facts.targets[1].issue = Some(issue(reason));
    let ready = if lasting { format!("False/{reason}") } else { "Unknown/Pending".to_owned() };
    assert_eq!(shown(conditions(&facts).ready.as_ref()), ready);
    facts.source = failed(ReadErrorKind::Timeout);
    let ready = if lasting { format!("False/{reason}") } else { "False/NoLastKnownGood".to_owned() };
    assert_eq!(shown(conditions(&facts).ready.as_ref()), ready);
}
