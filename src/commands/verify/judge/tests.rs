use std::collections::{BTreeMap, BTreeSet};

use jiff::ToSpan as _;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use parameter_mirror_format::content::{Content, Signed};
use parameter_mirror_format::crypto::keys::KeyRing;
use parameter_mirror_format::verdict::{BrokenCause, Found, Verdict};
use rstest::rstest;

use super::*;
use crate::api::{
    FINALIZER, ParameterMirror, ParameterMirrorSpec, ParameterMirrorStatus, ParameterSource,
    ParameterSourceSpec, RedisTargetSpec, SecretTargetSpec, SelectionSpec,
};
use crate::commands::verify::facts::{FoundMirror, ring};
use crate::mirror::fixtures::grant_to_shop;
use crate::mirror::plan::{Plan, PlanInput};
use crate::mirror::snapshot::{ReadError, ReadErrorKind};
use crate::mirror::target::{TargetKind, TargetReason};
use crate::targets::target::Inspection;

fn now() -> Timestamp {
    "2026-11-23T16:00:00Z".parse().unwrap()
}

/// A set that `ring` has signed.
fn signed(ring: &KeyRing, plan: &Plan, value: &str) -> Signed {
    let found = crate::mirror::fixtures::signed(plan, &[("/app/a", value)], 0);
    let mut content = Content::clone(&found.content);
    content.read_at = (now() - 40.seconds()).as_millisecond();
    ring.sign(content)
}

fn source(paths: &[&str]) -> ParameterSource {
    let spec = ParameterSourceSpec {
        region: "us-east-1".to_owned(),
        grants: vec![grant_to_shop(paths)],
        ..ParameterSourceSpec::default()
    };
    ParameterSource::new("default", spec)
}

fn plan(
    spec: &ParameterMirrorSpec,
    source: Option<&ParameterSource>,
) -> Result<Plan, crate::mirror::plan::PlanError> {
    let around = PlanInput {
        cluster: "c",
        namespace: "shop",
        namespace_labels: &BTreeMap::new(),
        mirror: "checkout",
        source: source.map(|source| &source.spec),
        drill_until: None,
        redis_prefix: "pm:",
        key_secret: None,
    };
    Plan::new(spec, &around)
}

fn condition(type_: &str, status: &str, reason: &str) -> Condition {
    Condition {
        type_: type_.to_owned(),
        status: status.to_owned(),
        reason: reason.to_owned(),
        message: "what the operator says".to_owned(),
        observed_generation: Some(1),
        last_transition_time: Time(now()),
    }
}

/// A mirror of which every check is ok.
fn healthy(ring: &KeyRing) -> FoundMirror {
    let path = SelectionSpec { path: Some("/app".to_owned()), ..SelectionSpec::default() };
    let spec = ParameterMirrorSpec {
        parameters: vec![path],
        secret: Some(SecretTargetSpec::default()),
        redis: Some(RedisTargetSpec::default()),
        ..ParameterMirrorSpec::default()
    };
    let source = source(&["/app"]);
    let plan = plan(&spec, Some(&source));
    let signed = signed(ring, plan.as_ref().unwrap(), "v");
    let mut object = ParameterMirror::new("checkout", spec);
    object.metadata.namespace = Some("shop".to_owned());
    object.metadata.generation = Some(1);
    object.status = Some(ParameterMirrorStatus {
        observed_generation: 1,
        conditions: vec![condition("Ready", "True", "Synced"), condition("Degraded", "False", "Synced")],
        revision: Some(signed.content.revision()),
        ..ParameterMirrorStatus::default()
    });
    let found = Found::Ours(Verdict::Verified(signed));
    FoundMirror {
        name: "shop/checkout".to_owned(),
        object,
        source: Ok(Some(source)),
        plan: Some(plan),
        targets: inspected(&found),
        dry_read: None,
    }
}

/// Both targets, with this in them.
fn inspected(found: &Found) -> Vec<Inspection> {
    let target = |kind, name: &str, conflict| Inspection {
        kind,
        name: name.to_owned(),
        conflict,
        found: Ok(found.clone()),
        flaw: None,
        checked_at: None,
    };
    vec![
        target(TargetKind::Secret, "Secret checkout", TargetReason::SecretConflict),
        target(TargetKind::Redis, "Redis pm:{shop/checkout}", TargetReason::RedisConflict),
    ]
}

fn facts(mirror: FoundMirror, ring: KeyRing) -> Facts {
    Facts {
        now: now(),
        home: Home {
            namespace: "parameter-mirror".to_owned(),
            key_secret: "parameter-mirror-keys".to_owned(),
            lease: "parameter-mirror".to_owned(),
        },
        api_server_ahead: Some(SignedDuration::ZERO),
        lease: Ok(Some(Leader {
            holder: Some("pod-1".to_owned()),
            renewed: Some(now() - 3.seconds()),
            lasts: Duration::from_secs(15),
        })),
        backed_up: Some(ring.active().to_string()),
        keys: Ok(Some(Ok(ring))),
        redis: RedisFacts::Asked {
            permissions: Ok(()),
            eviction: Ok(Eviction::SparesOurs),
            ahead: Ok(SignedDuration::ZERO),
        },
        mirrors: vec![MirrorFacts::There(Box::new(mirror))],
        orphans: Vec::new(),
        used_by_the_operator: BTreeSet::new(),
    }
}

fn good() -> Facts {
    let ring = KeyRing::generate("k1".parse().unwrap()).unwrap();
    facts(healthy(&ring), ring)
}

fn the_mirror(facts: &mut Facts) -> &mut FoundMirror {
    match &mut facts.mirrors[0] {
        MirrorFacts::There(mirror) => mirror,
        _ => unreachable!("it is there"),
    }
}

/// Returns the findings that are not ok.
fn complaints(facts: &Facts) -> Vec<(Level, &'static str, String)> {
    let found = judge(facts).findings.into_iter().filter(|finding| finding.level != Level::Ok);
    found.map(|finding| (finding.level, finding.check, finding.message)).collect()
}

#[test]
fn a_key_that_steers_programs_is_reported_unless_the_spec_gives_it() {
    let ring = KeyRing::generate("k1".parse().unwrap()).unwrap();
    let complain = |is_key_given| {
        let mut mirror = healthy(&ring);
        let Some(Ok(plan)) = &mirror.plan else { unreachable!("it is granted") };
        let mut content = Content::clone(&signed(&ring, plan, "v").content);
        let entry = content.entries.get_mut("/app/a").unwrap();
        entry.key = Some("LD_PRELOAD".to_owned());
        entry.is_key_given = is_key_given;
        let found = Found::Ours(Verdict::Verified(ring.sign(content)));
        mirror.targets = inspected(&found);
        complaints(&facts(mirror, ring.clone()))
    };
    let complaints = complain(false);
    let [(Level::Warn, "variables", message)] = &complaints[..] else { panic!("{complaints:?}") };
    assert!(
        message.starts_with("/app/a would be the variable LD_PRELOAD, which steers the loader"),
        "{message}"
    );
    assert_eq!(complain(true), []);
}

#[test]
fn what_would_fail_only_in_an_outage_is_reported() {
    let mut alone = good();
    the_mirror(&mut alone).targets.truncate(1);
    let found = complaints(&alone);
    assert!(
        matches!(&found[..], [(Level::Warn, "copies", text)] if text.starts_with("Secret checkout is its only copy")),
        "{found:?}"
    );
    let mut circular = good();
    circular.home.namespace = "shop".to_owned();
    circular.used_by_the_operator = BTreeSet::from(["checkout".to_owned()]);
    assert!(
        matches!(&complaints(&circular)[..], [(Level::Warn, "circular", _)]),
        "{:?}",
        complaints(&circular)
    );
    let mut left = good();
    left.orphans = vec!["shop/old".to_owned()];
    let found = complaints(&left);
    assert!(
        matches!(&found[..], [(Level::Warn, "orphans", text)] if text.contains("Secret shop/old")),
        "{found:?}"
    );
}

#[test]
fn of_what_is_well_every_check_says_so() {
    let report = judge(&good());
    let checks: Vec<_> = report.findings.iter().map(|finding| (finding.level, finding.check)).collect();
    let expected = [
        "operator",
        "keys",
        "key-backup",
        "clock",
        "redis-permissions",
        "redis-eviction",
        "clock",
        "grants",
        "state",
        "content",
        "age",
        "secret",
        "redis",
        "variables",
        "deletion",
    ];
    assert_eq!(checks, expected.map(|check| (Level::Ok, check)), "{}", report.text());
    assert!(
        report.text().contains("ok    shop/checkout: Secret checkout holds 1 parameter, revision "),
        "{}",
        report.text()
    );
    assert!(report.text().ends_with("15 ok, 0 to look at, 0 failed\n"), "{}", report.text());
}

type Change = fn(&mut Facts);

fn found(facts: &mut Facts, found: Found) {
    the_mirror(facts).targets[0].found = Ok(found);
}

#[rstest]
#[case::nobody_ever_led(|f: &mut Facts| f.lease = Ok(None), Level::Fail, "operator", "no operator has ever led here")]
#[case::given_up(|f: &mut Facts| f.lease = Ok(Some(Leader { holder: None, renewed: None, lasts: Duration::ZERO })), Level::Fail, "operator", "held by nobody")]
#[case::dead(
    |f: &mut Facts| f.lease = Ok(Some(Leader { holder: Some("pod-1".to_owned()), renewed: Some(now() - 4.minutes()), lasts: Duration::from_secs(15) })),
    Level::Fail, "operator", "pod-1 renewed Lease parameter-mirror/parameter-mirror 4 min ago"
)]
#[case::no_right_to_the_lease(
    |f: &mut Facts| f.lease = Err(ApiError::Refused { code: 403, reason: "Forbidden".to_owned() }), Level::Warn, "operator", "is not known"
)]
#[case::keys_unusable(
    |f: &mut Facts| f.keys = Ok(Some(KeyRing::from_data([("k1", [0; 3].as_slice()), ("active", b"k1")]))), Level::Fail, "keys", "3 bytes"
)]
#[case::no_backup(|f: &mut Facts| f.backed_up = None, Level::Warn, "key-backup", "--overwrite parameter-mirror.dev/backed-up=k1")]
#[case::an_old_backup(|f: &mut Facts| f.backed_up = Some("k0".to_owned()), Level::Warn, "key-backup", "was made when k0 signed")]
#[case::nothing_read(|f: &mut Facts| the_mirror(f).dry_read = Some(Ok(0)), Level::Warn, "ssm-read", "holds no parameter that it selects")]
#[case::read_denied(
    |f: &mut Facts| the_mirror(f).dry_read = Some(Err(ReadError::new(ReadErrorKind::AccessDenied, "GetParametersByPath: denied"))),
    Level::Fail, "ssm-read", "GetParametersByPath: denied. `parameter-mirror iam` prints the policy"
)]
#[case::clock_off(|f: &mut Facts| f.api_server_ahead = Some(SignedDuration::from_mins(2)), Level::Warn, "clock", "the API server is 2 min ahead of")]
#[case::clock_far_off(|f: &mut Facts| f.api_server_ahead = Some(SignedDuration::from_mins(-7)), Level::Fail, "clock", "is 7 min behind")]
#[case::redis_not_given(|f: &mut Facts| f.redis = RedisFacts::NotConfigured, Level::Warn, "redis-connection", "--redis-url-file")]
#[case::no_source(|f: &mut Facts| { the_mirror(f).source = Ok(None); }, Level::Fail, "grants", "no ParameterSource default")]
#[case::not_granted(
    |f: &mut Facts| { let spec = the_mirror(f).object.spec.clone(); the_mirror(f).plan = Some(plan(&spec, Some(&source(&["/other"])))); },
    Level::Fail, "grants", "does not allow namespace shop to read"
)]
#[case::not_ready(
    |f: &mut Facts| the_mirror(f).object.status.as_mut().unwrap().conditions[0] = condition("Ready", "False", "NoParameters"),
    Level::Fail, "state", "not Ready, NoParameters: what the operator says"
)]
#[case::degraded(
    |f: &mut Facts| the_mirror(f).object.status.as_mut().unwrap().conditions[1] = condition("Degraded", "True", "Timeout"),
    Level::Warn, "state", "Degraded, Timeout: what the operator says"
)]
#[case::not_seen(|f: &mut Facts| the_mirror(f).object.metadata.generation = Some(2), Level::Warn, "state", "has not reconciled its latest change")]
#[case::suspended(|f: &mut Facts| the_mirror(f).object.spec.suspend = true, Level::Warn, "state", "suspended")]
#[case::edited(|f: &mut Facts| found(f, Found::Ours(Verdict::Broken(BrokenCause::Mac))), Level::Fail, "secret", "edited by another hand")]
#[case::gone(|f: &mut Facts| found(f, Found::Missing), Level::Fail, "secret", "Secret checkout is not there")]
#[case::somebody_elses(|f: &mut Facts| found(f, Found::NotOurs { owner: Some("Helm release x".to_owned()) }), Level::Fail, "secret", "belongs to Helm release x")]
#[case::of_a_lost_key(|f: &mut Facts| found(f, Found::Ours(Verdict::ForeignKey("k9".parse().unwrap()))), Level::Fail, "secret", "signed with key k9")]
#[case::too_new(|f: &mut Facts| found(f, Found::Ours(Verdict::NewerLayout("2".to_owned()))), Level::Fail, "secret", "upgrade this one")]
#[case::another_status(
    |f: &mut Facts| the_mirror(f).object.status.as_mut().unwrap().revision = Some("0ther".to_owned()), Level::Warn, "content", "its status says 0ther"
)]
#[case::another_spec(
    |f: &mut Facts| {
        let mut spec = the_mirror(f).object.spec.clone();
        spec.parameters[0].path = Some("/app/deeper".to_owned());
        the_mirror(f).plan = Some(plan(&spec, Some(&source(&["/app"]))));
    },
    Level::Warn, "content", "read for an earlier spec"
)]
#[case::old(|f: &mut Facts| { f.now = now() + 1.hour(); f.lease = good().lease.map(|lease| lease.map(|lease| Leader { renewed: Some(now() + 1.hour()), ..lease })); }, Level::Warn, "age", "although it should be read every 5 min")]
#[case::deleted(
    |f: &mut Facts| the_mirror(f).object.metadata.deletion_timestamp = Some(Time(now())), Level::Fail, "deletion", "is being deleted since 16:00:00 UTC"
)]
#[case::a_finalizer_of_others(
    |f: &mut Facts| the_mirror(f).object.metadata.finalizers = Some(vec!["x/y".to_owned()]), Level::Warn, "deletion", "finalizers of others: x/y"
)]
fn what_is_wrong_is_the_one_complaint(
    #[case] change: Change,
    #[case] level: Level,
    #[case] check: &str,
    #[case] text: &str,
) {
    let mut facts = good();
    change(&mut facts);
    let complaints = complaints(&facts);
    let hit = complaints.iter().find(|(_, is, _)| *is == check);
    assert!(hit.is_some_and(|(is, _, message)| *is == level && message.contains(text)), "{complaints:#?}");
    // A defect, above all of a target, is reported only once.
    assert_eq!(complaints.len(), 1, "{complaints:#?}");
}

#[test]
fn two_different_sets_are_reported() {
    let mut facts = good();
    let ring = ring(&facts).unwrap().clone();
    let mirror = the_mirror(&mut facts);
    let other = signed(&ring, mirror.plan.as_ref().unwrap().as_ref().unwrap(), "other");
    mirror.targets[1].found = Ok(Found::Ours(Verdict::Verified(other)));
    let complaints = complaints(&facts);
    assert!(
        matches!(&complaints[..], [(Level::Fail, "content", message)] if message.contains("different sets")),
        "{complaints:#?}"
    );
}

#[test]
fn a_copy_under_a_key_that_is_not_active_waits_for_the_rotation() {
    let mut facts = good();
    let old = ring(&facts).unwrap().to_data();
    let new = KeyRing::generate("k2".parse().unwrap()).unwrap().to_data();
    let both = old.iter().chain(&new).map(|(name, bytes)| (name.as_str(), bytes.as_slice()));
    facts.keys = Ok(Some(KeyRing::from_data(both)));
    let complaints = complaints(&facts);
    assert!(complaints.iter().all(|(level, _, _)| *level == Level::Warn), "{complaints:#?}");
    let about = |text: &str| complaints.iter().filter(|(_, _, message)| message.contains(text)).count();
    assert_eq!(
        (about("not the active key k2"), about("parameter-mirror.dev/backed-up=k2")),
        (2, 1),
        "{complaints:#?}"
    );
}

#[test]
fn beyond_max_staleness_it_is_a_failure() {
    let mut facts = good();
    if let Some(Ok(plan)) = &mut the_mirror(&mut facts).plan {
        plan.max_staleness = Some(Duration::from_secs(30));
    }
    let complaints = complaints(&facts);
    assert!(
        matches!(&complaints[..], [(Level::Fail, "age", message)] if message.contains("spec.maxStaleness")),
        "{complaints:#?}"
    );
}

/// A finalizer blocks nothing while an operator runs that removes it.
#[test]
fn a_finalizer_holds_up_only_without_an_operator() {
    let mut facts = good();
    the_mirror(&mut facts).object.metadata.finalizers = Some(vec![FINALIZER.to_owned()]);
    assert_eq!(complaints(&facts), []);
    facts.lease = Ok(None);
    let complaints = complaints(&facts);
    let message = complaints.iter().find(|(_, check, _)| *check == "deletion");
    assert!(
        message.is_some_and(
            |(level, _, message)| *level == Level::Fail && message.contains("that of its namespace")
        ),
        "{complaints:#?}"
    );
}

#[test]
fn what_a_user_of_redis_may_not_see_is_no_fault_and_what_it_may_not_do_is() {
    let denied = || ConnectionError::Forbidden("no right to INFO".to_owned());
    let mut facts = good();
    facts.redis = RedisFacts::Asked { permissions: Ok(()), eviction: Err(denied()), ahead: Err(denied()) };
    assert_eq!(complaints(&facts), []);
    facts.redis =
        RedisFacts::Asked { permissions: Err(denied()), eviction: Err(denied()), ahead: Err(denied()) };
    assert!(
        matches!(&complaints(&facts)[..], [(Level::Fail, "redis-permissions", message)] if message.contains("docs/guides/redis.md"))
    );
    facts.redis = RedisFacts::Asked {
        permissions: Err(ConnectionError::Timeout),
        eviction: Err(ConnectionError::Timeout),
        ahead: Err(ConnectionError::Timeout),
    };
    assert!(
        matches!(&complaints(&facts)[..], [(Level::Fail, "redis-connection", message)] if message.contains("did not answer in time"))
    );
}

#[test]
fn machines_get_the_same_and_a_code() {
    let report = Report {
        findings: vec![
            Finding::new(Level::Ok, "keys", "fine"),
            Finding::new(Level::Warn, "age", "old").about("shop/checkout"),
        ],
    };
    let json: serde_json::Value = serde_json::from_str(&report.json().unwrap()).unwrap();
    let expected = serde_json::json!({
        "findings": [
            {"level": "ok", "check": "keys", "message": "fine"},
            {"level": "warn", "check": "age", "mirror": "shop/checkout", "message": "old"},
        ],
        "ok": 1, "warn": 1, "fail": 0,
    });
    assert_eq!(json, expected);
}
