//! What a spec means, and why it is refused. Admission checks most of it first; the plan checks it again.

use std::collections::BTreeSet;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use proptest::prelude::*;
use rstest::rstest;

use super::*;
use crate::api::{GrantSpec, SelectionSpec};
use crate::mirror::fixtures::{grant_to_shop, judge, name, path, plan, source, spec};
use crate::mirror::selection::{NameSelection, PathSelection};

fn refusal(spec: &ParameterMirrorSpec) -> PlanError {
    judge(spec, Some(&source())).unwrap_err()
}

#[test]
fn a_plan_names_owner_targets_and_pace() {
    let plan = plan(&[path("/app")]);
    assert_eq!((plan.owner.as_str(), plan.interval), ("c/shop/checkout", Duration::from_mins(5)));
    assert_eq!(
        plan.targets.iter().map(TargetPlan::name).collect::<Vec<_>>(),
        ["checkout", "pm:{shop/checkout}"]
    );
    assert_eq!(plan.max_removed_percent, 20);
}

#[rstest]
#[case::no_target(|spec: &mut ParameterMirrorSpec| { spec.secret = None; spec.redis = None; }, "at least one target")]
#[case::no_selection(|spec: &mut ParameterMirrorSpec| spec.parameters.clear(), "between 1 and 100")]
#[case::text_for_interval(|spec: &mut ParameterMirrorSpec| "soon".clone_into(&mut spec.interval), "write it like 30s")]
#[case::too_often(|spec: &mut ParameterMirrorSpec| "9s".clone_into(&mut spec.interval), "between 10s and 24h")]
#[case::negative(|spec: &mut ParameterMirrorSpec| "-5m".clone_into(&mut spec.interval), "between 10s and 24h")]
#[case::stale_text(|spec: &mut ParameterMirrorSpec| spec.max_staleness = Some("a day".to_owned()), "write it like 30m")]
#[case::stale_between_reads(|spec: &mut ParameterMirrorSpec| spec.max_staleness = Some("4m59s".to_owned()), "at least spec.interval")]
#[case::too_seldom(|spec: &mut ParameterMirrorSpec| "25h".clone_into(&mut spec.interval), "between 10s and 24h")]
#[case::twice(|spec: &mut ParameterMirrorSpec| spec.parameters.push(path("/app")), "selected twice")]
#[case::too_many_characters(
    |spec: &mut ParameterMirrorSpec| spec.parameters = (0..17).map(|n| name(&format!("/{n:0999}"))).collect(),
    "16,384 characters"
)]
#[case::too_many_excludes(
    |spec: &mut ParameterMirrorSpec| spec.parameters[0].exclude = Some((0..201).map(|n| format!("x{n}")).collect()),
    "200 excludes"
)]
#[case::arn(|spec: &mut ParameterMirrorSpec| spec.parameters.push(name("arn:aws:ssm:x")), "roleArn")]
#[case::dots(|spec: &mut ParameterMirrorSpec| spec.parameters.push(path("/app/../x")), "segment")]
#[case::label_of_ours(
    |spec: &mut ParameterMirrorSpec| drop(spec.secret.as_mut().unwrap().labels.insert("parameter-mirror.dev/x".to_owned(), String::new())),
    "spec.secret.labels"
)]
#[case::a_path_for_a_source(|spec: &mut ParameterMirrorSpec| "../namespaces/x".clone_into(&mut spec.source_ref.name), "spec.sourceRef.name must be")]
#[case::a_path_for_a_secret(
    |spec: &mut ParameterMirrorSpec| spec.secret.as_mut().unwrap().name = Some("../../payments/secrets/config".to_owned()),
    "spec.secret.name must be"
)]
#[case::the_operators_keys(
    |spec: &mut ParameterMirrorSpec| spec.secret.as_mut().unwrap().name = Some("parameter-mirror-keys".to_owned()),
    "operator's own keys"
)]
#[case::annotation_of_kubernetes(
    |spec: &mut ParameterMirrorSpec| drop(spec.secret.as_mut().unwrap().annotations.insert("kubectl.kubernetes.io/x".to_owned(), String::new())),
    "reserved"
)]
fn what_cannot_mean_anything_is_refused_with_its_remedy(
    #[case] change: fn(&mut ParameterMirrorSpec),
    #[case] expected: &str,
) {
    let mut spec = spec(&[path("/app")]);
    change(&mut spec);
    let PlanError::InvalidSpec(message) = refusal(&spec) else { panic!("not InvalidSpec") };
    assert!(message.contains(expected), "{message}");
}

#[rstest]
#[case::below(path("/app/x"), true)]
#[case::itself(path("/app"), true)]
#[case::name_with_selector(name("/app/x:live"), true)]
#[case::same_letters_other_segment(path("/application"), false)]
#[case::above(path("/"), false)]
#[case::elsewhere(name("/other/x"), false)]
#[case::of_aws(name("/aws/service/x"), false)]
fn every_selection_must_be_granted(#[case] selection: SelectionSpec, #[case] granted: bool) {
    let judged = judge(&spec(&[path("/app/always"), selection]), Some(&source()));
    match judged {
        Ok(_) => assert!(granted),
        Err(PlanError::NotGranted(message)) => assert!(!granted && message.contains("default"), "{message}"),
        Err(other) => panic!("{other}"),
    }
}

#[test]
fn grants_are_for_names_or_labels_and_below_aws_only_when_they_say_so() {
    let by = |grant: GrantSpec, paths: &[&str]| ParameterSourceSpec {
        grants: vec![GrantSpec { paths: paths.iter().map(|&path| path.to_owned()).collect(), ..grant }],
        ..source()
    };
    let label = |value: &str| {
        let match_labels = Some(BTreeMap::from([("team".to_owned(), value.to_owned())]));
        let selector = LabelSelector { match_labels, ..LabelSelector::default() };
        GrantSpec { namespace_selector: Some(selector), ..GrantSpec::default() }
    };
    let shop = grant_to_shop(&[]);
    let allowed =
        |source: &ParameterSourceSpec, path_: &str| judge(&spec(&[path(path_)]), Some(source)).is_ok();
    assert!(allowed(&by(label("checkout"), &["/app"]), "/app/x"));
    assert!(!allowed(&by(label("search"), &["/app"]), "/app/x"));
    assert!(!allowed(&by(GrantSpec::default(), &["/app"]), "/app/x"), "no selector selects nothing");
    assert!(allowed(&by(shop.clone(), &["/"]), "/anything"));
    assert!(!allowed(&by(shop.clone(), &["/"]), "/aws/service"));
    assert!(allowed(&by(shop, &["/aws/service/"]), "/aws/service/ami"));
}

#[test]
fn a_mirror_encrypts_at_least_what_its_source_demands() {
    use RedisEncryption::{All, None, SecureStrings};
    let with = |mirror, source_| {
        let mut spec = spec(&[path("/app")]);
        spec.redis.as_mut().unwrap().encryption = mirror;
        judge(&spec, Some(&ParameterSourceSpec { redis_encryption: source_, ..source() }))
    };
    assert!(
        with(None, None).is_ok()
            && with(All, SecureStrings).is_ok()
            && with(SecureStrings, SecureStrings).is_ok()
    );
    let refused = with(None, SecureStrings).unwrap_err();
    assert!(
        matches!(&refused, PlanError::InvalidSpec(message) if message.contains("demands at least SecureStrings"))
    );
}

/// A missing source is an outage: the plan stands, and the targets keep serving.
#[test]
fn without_its_source_a_spec_is_still_a_plan() {
    let plan = judge(&spec(&[path("/anything")]), None).unwrap();
    assert_eq!(plan.source, None);
}

#[test]
fn a_stored_copy_covers_the_spec_it_was_read_for_and_no_other() {
    let one = plan(&[path("/app")]);
    let stored = one.stored_source("111122223333").unwrap();
    assert!(one.is_covered_by(&stored));
    assert!(!plan(&[path("/app/x")]).is_covered_by(&stored));
    let unknown_account = one.stored_source("").unwrap();
    assert!(one.is_covered_by(&unknown_account), "an unknown account is no other account");
    let elsewhere = StoredSource { region: "eu-west-1".to_owned(), ..stored.clone() };
    assert!(!one.is_covered_by(&elsewhere));
}

#[rstest]
#[case::both(SelectionSpec { path: Some("/app".to_owned()), ..name("/app/x") }, "split it into two")]
#[case::neither(SelectionSpec::default(), "either `path` or `name`")]
#[case::key_of_a_path(SelectionSpec { key: Some("K".to_owned()), ..path("/app") }, "`key` goes with `name` only")]
#[case::recursive_name(SelectionSpec { recursive: Some(true), ..name("/app/x") }, "go with `path` only")]
#[case::exclude_of_a_name(SelectionSpec { exclude: Some(vec![]), ..name("/app/x") }, "go with `path` only")]
#[case::exclude_that_climbs(SelectionSpec { exclude: Some(vec!["../x".to_owned()]), ..path("/app") }, "exclude:")]
#[case::exclude_of_everything(SelectionSpec { exclude: Some(vec!["/".to_owned()]), ..path("/app") }, "exclude:")]
#[case::key_for_the_kubelet(SelectionSpec { key: Some("..data".to_owned()), ..name("/app/x") }, "start with ..")]
#[case::path_without_slash(path("app"), "must start with /")]
#[case::relative_name(name("app/x"), "a name with a slash begins with one")]
#[case::reference(name("/aws/reference/secretsmanager/app"), "references to Secrets Manager")]
#[case::path_of_references(path("/AWS/reference/secretsmanager"), "references to Secrets Manager")]
#[case::label_that_begins_with_a_digit(name("/app/x:3rd"), "or a label")]
#[case::double_slash(path("/app//x"), "empty")]
#[case::path_with_a_selector(path("/app:3"), "other than letters")]
#[case::path_arn(path("arn:aws:ssm:us-east-1:1:parameter/app"), "roleArn")]
#[case::name_of_nothing(name("/"), "empty")]
#[case::name_with_a_space(name("/app/a b"), "other than letters")]
#[case::two_selectors(name("/app/x:1:2"), "or a label")]
#[case::empty_selector(name("/app/x:"), "or a label")]
#[case::too_deep(path(&"/d".repeat(16)), "15 levels")]
#[case::too_long(name(&format!("/{}", "x".repeat(1_012))), "1,011")]
fn a_selection_that_cannot_be_is_refused_by_its_index(
    #[case] selection: SelectionSpec,
    #[case] expected: &str,
) {
    let PlanError::InvalidSpec(message) = refusal(&spec(&[path("/app/fine"), selection])) else {
        panic!("not InvalidSpec")
    };
    assert!(message.starts_with("spec.parameters[1]: ") && message.contains(expected), "{message}");
}

#[rstest]
#[case::same_path_other_depth(path("/app"), SelectionSpec { recursive: Some(false), ..path("/app") }, true)]
#[case::with_and_without_slash(name("x"), name("/x"), true)]
#[case::same_selector(name("/x:3"), name("x:3"), true)]
#[case::other_selector(name("/x:3"), name("/x:4"), false)]
#[case::pinned_beside_the_latest(name("/x:3"), name("/x"), false)]
#[case::name_below_its_path(path("/app"), name("/app/x"), false)]
#[case::path_below_a_path(path("/app"), path("/app/x"), false)]
#[case::name_like_a_path(path("/app"), name("/app"), false)]
fn the_same_parameters_twice_are_refused(
    #[case] one: SelectionSpec,
    #[case] other: SelectionSpec,
    #[case] refused: bool,
) {
    let judged = judge(&spec(&[one, other]), None);
    assert_eq!(judged.is_err(), refused, "{judged:?}");
}

#[test]
fn at_most_a_hundred_selections() {
    let many = |count: usize| (0..count).map(|n| path(&format!("/app/{n}"))).collect::<Vec<_>>();
    assert_eq!(plan(&many(100)).selections.len(), 100);
    assert!(judge(&spec(&many(101)), None).is_err());
}

#[test]
fn a_selection_is_normalised_and_has_its_defaults() {
    let exclude = Some(vec!["/legacy/".to_owned(), "tmp/x".to_owned(), "legacy".to_owned()]);
    let plan = judge(&spec(&[SelectionSpec { exclude, ..path("/") }, name("x:live")]), None).unwrap();
    let exclude = BTreeSet::from(["legacy".to_owned(), "tmp/x".to_owned()]);
    let root = PathSelection { path: "/".to_owned(), recursive: true, exclude };
    let pinned = NameSelection { requested: "x:live".to_owned(), key: None, optional: false };
    assert_eq!(plan.selections, [Selection::Path(root), Selection::Name(pinned)]);
}

#[rstest]
#[case("10s", Some(10))]
#[case("24h", Some(86_400))]
#[case("1h30m", Some(5_400))]
#[case("9999ms", None)]
#[case("24h1ms", None)]
#[case("300", None)]
#[case("", None)]
#[case("5 m", None)]
fn an_interval_has_a_unit_and_bounds(#[case] text: &str, #[case] seconds: Option<u64>) {
    let spec = ParameterMirrorSpec { interval: text.to_owned(), ..spec(&[path("/app")]) };
    let interval = judge(&spec, None).ok().map(|plan| plan.interval);
    assert_eq!(interval, seconds.map(Duration::from_secs));
}

#[rstest]
#[case(-1, 0)]
#[case(0, 0)]
#[case(100, 100)]
#[case(101, 100)]
fn the_guard_stays_a_percentage(#[case] given: i32, #[case] taken: u32) {
    let mut spec = spec(&[path("/app")]);
    spec.guard.max_removed_percent = given;
    assert_eq!(judge(&spec, None).unwrap().max_removed_percent, taken);
}

#[rstest]
#[case::none(None, None)]
#[case::zero_is_none(Some(0), None)]
#[case::negative_is_none(Some(-3), None)]
#[case::some(Some(5), Some(5))]
fn a_source_may_have_a_cap_of_its_own(#[case] given: Option<i32>, #[case] taken: Option<u32>) {
    let source = ParameterSourceSpec { requests_per_second: given, ..source() };
    let plan = judge(&spec(&[path("/app")]), Some(&source)).unwrap();
    assert_eq!(plan.source.unwrap().requests_per_second, taken);
}

/// The role names the account; without a role it is learnt from what is read.
#[test]
fn the_account_of_a_role_is_known_before_anything_is_read() {
    let role = "arn:aws:iam::444455556666:role/checkout-read".to_owned();
    let source = ParameterSourceSpec { role_arn: Some(role.clone()), ..source() };
    let with_role = judge(&spec(&[path("/app")]), Some(&source)).unwrap();
    let stored = with_role.stored_source("111122223333").unwrap();
    assert_eq!((stored.account.as_str(), &stored.role_arn), ("444455556666", &role));
    assert_eq!(plan(&[path("/app")]).stored_source("111122223333").unwrap().account, "111122223333");
    assert!(!plan(&[path("/app")]).is_covered_by(&stored), "another role is another source");
}

/// While the source is missing, its name and the selections decide.
#[test]
fn a_copy_covers_a_spec_whose_source_is_gone() {
    let stored = plan(&[path("/app"), name("/app/x:3")]).stored_source("").unwrap();
    let gone = |parameters: &[SelectionSpec]| judge(&spec(parameters), None).unwrap();
    let reordered = gone(&[SelectionSpec { optional: Some(true), ..name("/app/x:3") }, path("/app/")]);
    assert!(reordered.is_covered_by(&stored), "order, keys and optional are not part of what was read");
    assert!(!gone(&[path("/app")]).is_covered_by(&stored));
    assert!(reordered.stored_source("").is_none());
    let through_another = StoredSource { name: "other".to_owned(), ..stored };
    assert!(!reordered.is_covered_by(&through_another));
}

/// An invalid spec is reported before a missing grant: no grant would make it valid.
#[rstest]
#[case::interval(|spec: &mut ParameterMirrorSpec| "9s".clone_into(&mut spec.interval))]
#[case::no_target(|spec: &mut ParameterMirrorSpec| { spec.secret = None; spec.redis = None; })]
#[case::encryption(|spec: &mut ParameterMirrorSpec| spec.redis.as_mut().unwrap().encryption = RedisEncryption::None)]
fn an_invalid_spec_is_invalid_also_without_a_grant(#[case] change: fn(&mut ParameterMirrorSpec)) {
    let mut spec = spec(&[path("/elsewhere")]);
    assert!(matches!(refusal(&spec), PlanError::NotGranted(_)));
    change(&mut spec);
    assert!(matches!(refusal(&spec), PlanError::InvalidSpec(_)), "{}", refusal(&spec));
}

/// The remedy can be pasted: a grant takes paths that begin with a slash and have no selector.
#[rstest]
#[case(path("/elsewhere"), "/elsewhere")]
#[case(name("/elsewhere/x:live"), "/elsewhere/x")]
#[case(name("elsewhere"), "/elsewhere")]
fn the_grant_to_ask_for_is_one_that_can_be_given(#[case] selection: SelectionSpec, #[case] asked: &str) {
    let message = refusal(&spec(&[path("/app"), selection.clone()])).to_string();
    assert!(message.contains(&format!("paths: [{asked}]}}.")), "{message}");
    let given = ParameterSourceSpec {
        grants: vec![GrantSpec { paths: vec![asked.to_owned()], ..source().grants[0].clone() }],
        ..source()
    };
    assert!(judge(&spec(&[selection]), Some(&given)).is_ok());
}

/// A user cannot set what the operator or Kubernetes writes itself.
#[rstest]
#[case("team", true, true)]
#[case("example.com/team", true, true)]
#[case("app.kubernetes.io/name", true, false)]
#[case("app.kubernetes.io/managed-by", false, false)]
#[case("parameter-mirror.dev/mirror", false, false)]
#[case("kubernetes.io/description", true, false)]
#[case("kubectl.kubernetes.io/restartedAt", true, false)]
#[case("k8s.io/x", true, false)]
#[case("x.k8s.io/y", true, false)]
#[case("notkubernetes.io/x", true, true)]
fn labels_and_annotations_of_others_are_refused(
    #[case] key: &str,
    #[case] as_label: bool,
    #[case] as_annotation: bool,
) {
    let with = |set: fn(&mut SecretTargetSpec, BTreeMap<String, String>)| {
        let mut spec = spec(&[path("/app")]);
        set(spec.secret.as_mut().unwrap(), [(key.to_owned(), "x".to_owned())].into());
        judge(&spec, Some(&source()))
    };
    let outcomes = [
        (with(|secret, all| secret.labels = all), as_label),
        (with(|secret, all| secret.annotations = all), as_annotation),
    ];
    for (outcome, allowed) in outcomes {
        match outcome {
            Ok(_) => assert!(allowed, "{key} is taken"),
            Err(refusal) => assert!(!allowed && refusal.to_string().contains(key), "{refusal}"),
        }
    }
}

#[test]
fn a_drill_ends_at_its_time() {
    let until: Timestamp = "2026-11-23T12:00:00Z".parse().unwrap();
    let drill = SourcePlan { drill_until: Some(until), ..plan(&[path("/app")]).source.unwrap() };
    let second = jiff::SignedDuration::from_secs(1);
    assert!(drill.is_drill(until - second));
    assert!(!drill.is_drill(until) && !drill.is_drill(until + second));
    assert!(!SourcePlan { drill_until: None, ..drill }.is_drill(until - second));
}

/// Any JSON, with names that our resources use among its members.
fn anything() -> impl Strategy<Value = serde_json::Value> {
    use serde_json::{Value, json};
    let text = "\\PC{0,6}|/app(/[a-z.]{1,3}){0,2}|(1|10|-5|999999999)[smh]|arn:aws:.*|EnvVar|Retain|default|[0-9]{1,20}";
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        text.prop_map(Value::from),
    ];
    let field = "path|name|recursive|exclude|key|optional|type|keyFormat|labels|annotations|deletionPolicy|encryption|maxRemovedPercent|[a-z]{1,3}";
    leaf.prop_recursive(3, 24, 4, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::btree_map(field, inner, 0..4).prop_map(|members| json!(members)),
        ]
    })
}

proptest! {
    /// Any stored mirror is planned, refused, or does not decode; nothing panics, and no plan selects what is not granted.
    #[test]
    fn no_spec_panics_or_reads_what_is_foreign(
        mut spec in proptest::collection::btree_map("interval|suspend|guard|maxStaleness|secret|redis|source", anything(), 0..4),
        parameters in proptest::collection::vec(prop_oneof![
            anything(),
            "/?(app|apps|other|[a-z./:*%]{1,4})(/[a-z.:]{1,3}){0,2}/?".prop_map(|path| serde_json::json!({ "path": path })),
            "/?(app|apps|other|[a-z./:*%]{1,4})(/[a-z.:]{1,3}){0,2}/?".prop_map(|name| serde_json::json!({ "name": name })),
        ], 0..4),
        whole in any::<bool>(),
    ) {
        if whole {
            spec.clear();
            spec.insert("secret".to_owned(), serde_json::json!({}));
        }
        spec.insert("parameters".to_owned(), parameters.into());
        let Ok(spec) = serde_json::from_value::<ParameterMirrorSpec>(serde_json::json!(spec)) else { return Ok(()) };
        let Ok(plan) = judge(&spec, Some(&source())) else { return Ok(()) };
        for selection in &plan.selections {
            let read = match selection {
                Selection::Path(path) => path.path.clone(),
                Selection::Name(name) => name.bare_name(),
            };
            prop_assert!(read == "/app" || read.starts_with("/app/"), "{} is not granted", read);
            prop_assert!(!read.contains("..") || !read.split('/').any(|segment| segment == ".."), "{}", read);
        }
    }

    /// The same for sources: an invalid path grants nothing.
    #[test]
    fn no_source_panics(grants in anything(), labels in anything()) {
        let stored = serde_json::json!({"region": "us-east-1", "grants": [grants, {"namespaceSelector": {"matchLabels": labels}, "paths": ["/app"]}]});
        if let Ok(source) = serde_json::from_value::<ParameterSourceSpec>(stored) {
            let _ = judge(&spec(&[path("/app")]), Some(&source));
        }
    }
}
