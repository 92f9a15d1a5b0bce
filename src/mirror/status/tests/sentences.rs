//! The sentences: each is true of every target, and answers what the person on call asks.

use rstest::rstest;

use super::*;

/// What the person on call needs: what is served, since when, why, and what happens next.
#[test]
fn messages_answer_the_questions_of_the_person_on_call() {
    let facts = StatusInput { source: failed(ReadErrorKind::SourceUnavailable), ..synced() };
    let conditions = conditions(&facts);
    assert_eq!(
        conditions.ready.unwrap().message,
        "Secret search-config and Redis pm:{shop/search} hold all 40 parameters as read at 15:57:02 UTC."
    );
    assert_eq!(
        conditions.degraded.unwrap().message,
        "SSM us-east-1 (source default): HTTP 500, since 16:00:12 UTC (9 failed reads). Secret search-config and Redis \
         pm:{shop/search} hold all 40 parameters as read at 15:57:02 UTC. New and running pods are not affected. The \
         operator keeps trying."
    );
}

/// No message claims that a lagging target holds what was read last.
#[rstest]
#[case::redis_lags(
    None,
    Some(TargetReason::RedisUnavailable),
    "Secret search-config holds all 40 parameters as read at 15:57:02 UTC. Redis pm:{shop/search} holds a complete set, \
     perhaps an older one."
)]
#[case::the_secret_lags(
    Some(TargetReason::SecretTooLarge),
    None,
    "Redis pm:{shop/search} holds all 40 parameters as read at 15:57:02 UTC. Secret search-config holds a complete set, \
     perhaps an older one."
)]
#[case::both_lag(
    Some(TargetReason::SecretTooLarge),
    Some(TargetReason::RedisDenied),
    "Secret search-config and Redis pm:{shop/search} hold a complete set, perhaps an older one."
)]
fn a_target_that_lags_is_not_said_to_be_current(
    #[case] of_secret: Option<TargetReason>,
    #[case] of_redis: Option<TargetReason>,
    #[case] said: &str,
) {
    let mut facts = synced();
    for (target, reason) in facts.targets.iter_mut().zip([of_secret, of_redis]) {
        target.issue = reason.map(issue);
        target.holds = if reason.is_some() { Holding::Other } else { Holding::Current };
    }
    assert_eq!(conditions(&facts).ready.unwrap().message, said);
}

/// Redis does not answer a heartbeat: what it holds is what is served, as far as anybody knows.
#[test]
fn a_target_that_fails_at_a_heartbeat_is_not_said_to_be_older() {
    let mut facts = synced();
    facts.targets[1].issue = Some(issue(TargetReason::RedisUnavailable));
    facts.targets[1].since = Some("2026-11-23T16:10:00Z".parse().unwrap());
    assert_eq!(
        conditions(&facts).degraded.unwrap().message,
        "Redis pm:{shop/search}, since 16:10:00 UTC: it is so. It held what is served when last seen. Secret search-config holds \
         what is served."
    );
}

/// Whatever fails and whatever the targets hold: no sentence claims what is not so, and every empty target is named.
#[test]
fn every_sentence_is_true_in_every_state_of_every_target() {
    let reads = [
        ReadErrorKind::SourceUnavailable,
        ReadErrorKind::AccessDenied,
        ReadErrorKind::SourceNotFound,
        ReadErrorKind::Drill,
        ReadErrorKind::TooManyParameters,
    ];
    let gone = SourceIssue::ParameterNotFound(vec!["/prod/x".to_owned()]);
    let issues = reads.map(|reason| SourceIssue::Read(ReadError::new(reason, "HTTP 500")));
    let issues = issues.into_iter().chain([SourceIssue::NoParameters, gone]);
    let holdings = [Holding::Current, Holding::Other, Holding::Nothing, Holding::Foreign];
    let reasons = [None, Some(TargetReason::RedisUnavailable), Some(TargetReason::TargetContested)];
    let states: Vec<_> =
        holdings.into_iter().flat_map(|holds| reasons.map(|reason| (holds, reason))).collect();
    for source in issues.map(troubled).chain([SourceState::Good]) {
        for secret in &states {
            for redis in &states {
                let mut facts = StatusInput { source: source.clone(), ..synced() };
                for (target, (holds, reason)) in facts.targets.iter_mut().zip([secret, redis]) {
                    (target.holds, target.issue) = (*holds, reason.map(issue));
                }
                assert_true(&facts);
            }
        }
    }
}

fn assert_true(facts: &StatusInput<'_>) {
    let Conditions { ready, degraded, .. } = conditions(facts);
    let (ready, degraded) = (ready.unwrap(), degraded.unwrap());
    let is_fine = |target: &TargetStatus| target.holds == Holding::Current && target.issue.is_none();
    for message in [&ready.message, &degraded.message] {
        assert!(!message.contains("in about"), "a time that passes: {message}");
        let claims_all = message.contains("not affected");
        assert!(!claims_all || facts.targets.iter().all(|target| !target.is_empty()), "{message}");
        for target in facts.targets.iter().filter(|target| !is_fine(target)) {
            let holds_all = message
                .split(". ")
                .any(|sentence| sentence.contains("all 40") && sentence.contains(&target.name));
            let is_same = target.holds == Holding::Other && target.issue.is_none();
            assert!(!holds_all || is_same, "{} lags or is empty: {message}", target.name);
        }
    }
    if matches!(facts.source, SourceState::Issue(_)) {
        for empty in facts.targets.iter().filter(|target| target.holds == Holding::Nothing) {
            let is_named =
                degraded.message.contains(&empty.name) && degraded.message.contains("cannot start");
            assert!(is_named, "{} is empty: {}", empty.name, degraded.message);
        }
        for (target, issue) in facts.target_issues() {
            let also = format!("Also {}, {}: it is so.", target.name, issue.reason);
            assert!(degraded.message.contains(&also), "{also} is not in {}", degraded.message);
        }
    }
}

#[test]
fn one_target_holds_and_two_hold() {
    let mut alone = synced();
    alone.targets.truncate(1);
    let message = conditions(&alone).ready.unwrap().message;
    assert_eq!(message, "Secret search-config holds all 40 parameters as read at 15:57:02 UTC.");
    let one = StatusInput { served: Some((1, synced().served.unwrap().1)), ..synced() };
    assert!(conditions(&one).ready.unwrap().message.contains("hold the 1 parameter as read at"));
}

/// Every sentence ends with one full stop, whatever its author wrote.
#[rstest]
#[case(PlanError::InvalidSpec("spec.interval must be between 10s and 24h".to_owned()))]
#[case(PlanError::NotGranted("no grant for /x.".to_owned()))]
fn a_refusal_and_what_is_served_are_two_sentences(#[case] refusal: PlanError) {
    let said = refusal.to_string();
    let said = said.trim_end_matches('.');
    let ready = |served| refused(&refusal, served).ready.unwrap().message;
    assert_eq!(
        ready(Some(3)),
        format!("{said}. The 3 parameters served so far are neither updated nor restored until then.")
    );
    assert_eq!(ready(None), format!("{said}. Nothing has been written."));
}

#[test]
fn one_failed_read_is_not_failed_reads() {
    let mut facts = StatusInput { source: failed(ReadErrorKind::Timeout), ..synced() };
    if let SourceState::Issue(Incident { failed_reads, .. }) = &mut facts.source {
        *failed_reads = 1;
    }
    assert!(conditions(&facts).degraded.unwrap().message.contains("(1 failed read)"));
    facts.served = None;
    let ready = conditions(&facts).ready.unwrap().message;
    assert!(ready.contains("no last known good set to serve, and nothing was written"), "{ready}");
}
