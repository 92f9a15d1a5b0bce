//! What a spec is judged to mean, and why not. Admission checks most of it first; here it is checked again.

use rstest::rstest;

use super::*;
use crate::api::{GrantSpec, NamespaceSelector};
use crate::mirror::samples::{judge, name, path, plan, source, spec};

fn refusal(spec: &ParameterMirrorSpec) -> Refusal {
    judge(spec, Some(&source())).unwrap_err()
}

#[test]
fn a_plan_names_owner_targets_and_pace() {
    let plan = plan(&[path("/app")]);
    assert_eq!((plan.owner.as_str(), plan.interval), ("c/shop/checkout", Duration::from_mins(5)));
    assert_eq!(plan.secret.unwrap().name, "checkout");
    assert_eq!(plan.redis.unwrap().key, "pm:{shop/checkout}");
    assert_eq!(plan.max_removed_percent, 20);
}

#[rstest]
#[case::no_target(|spec: &mut ParameterMirrorSpec| { spec.secret = None; spec.redis = None; }, "at least one target")]
#[case::no_selection(|spec: &mut ParameterMirrorSpec| spec.parameters.clear(), "between 1 and 100")]
#[case::text_for_interval(|spec: &mut ParameterMirrorSpec| "soon".clone_into(&mut spec.interval), "write it like 30s")]
#[case::too_often(|spec: &mut ParameterMirrorSpec| "9s".clone_into(&mut spec.interval), "between 10s and 24h")]
#[case::negative(|spec: &mut ParameterMirrorSpec| "-5m".clone_into(&mut spec.interval), "between 10s and 24h")]
#[case::too_seldom(|spec: &mut ParameterMirrorSpec| "25h".clone_into(&mut spec.interval), "between 10s and 24h")]
#[case::twice(|spec: &mut ParameterMirrorSpec| spec.parameters.push(path("/app")), "selected twice")]
#[case::arn(|spec: &mut ParameterMirrorSpec| spec.parameters.push(name("arn:aws:ssm:x")), "roleArn")]
#[case::dots(|spec: &mut ParameterMirrorSpec| spec.parameters.push(path("/app/../x")), "segment")]
#[case::label_of_ours(
    |spec: &mut ParameterMirrorSpec| drop(spec.secret.as_mut().unwrap().labels.insert("parameter-mirror.dev/x".to_owned(), String::new())),
    "spec.secret.labels"
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
    let Refusal::InvalidSpec(message) = refusal(&spec) else { panic!("not InvalidSpec") };
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
        Err(Refusal::NotGranted(message)) => assert!(!granted && message.contains("default"), "{message}"),
        Err(other) => panic!("{other}"),
    }
}

#[test]
fn grants_are_for_names_or_labels_and_below_aws_only_when_they_say_so() {
    let by = |namespaces: NamespaceSelector, paths: &[&str]| ParameterSourceSpec {
        grants: vec![GrantSpec { namespaces, paths: paths.iter().map(|&path| path.to_owned()).collect() }],
        ..source()
    };
    let label = |value: &str| NamespaceSelector {
        match_labels: BTreeMap::from([("team".to_owned(), value.to_owned())]),
        ..NamespaceSelector::default()
    };
    let shop = NamespaceSelector { names: vec!["shop".to_owned()], ..NamespaceSelector::default() };
    let allowed =
        |source: &ParameterSourceSpec, path_: &str| judge(&spec(&[path(path_)]), Some(source)).is_ok();
    assert!(allowed(&by(label("checkout"), &["/app"]), "/app/x"));
    assert!(!allowed(&by(label("search"), &["/app"]), "/app/x"));
    assert!(!allowed(&by(NamespaceSelector::default(), &["/app"]), "/app/x"), "no selector selects nothing");
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
        matches!(&refused, Refusal::InvalidSpec(message) if message.contains("demands at least SecureStrings"))
    );
}

/// A source that is not there is an outage: the plan stands, and what is served goes on.
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
    assert!(one.grants(&stored));
}
