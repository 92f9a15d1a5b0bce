//! What fits into a Secret, and what of others is kept.

use std::hash::{DefaultHasher, Hash, Hasher};

use super::*;
use crate::mirror::fixtures::{path, plan, signed};
use crate::mirror::plan::{Plan, TargetPlan};

fn secret_of(plan: &Plan) -> SecretPlan {
    let secret = plan.targets.iter().find_map(|target| match target {
        TargetPlan::Secret(secret) => Some(secret.clone()),
        TargetPlan::Redis(_) => None,
    });
    secret.unwrap()
}

/// Names that do not compress: the manifest of so many is too large for annotations, although the values are tiny.
#[test]
fn annotations_beyond_the_limit_of_kubernetes_are_found_before_the_write() {
    let noise = |n: u32| {
        let hash = |salt: u32| {
            let mut hasher = DefaultHasher::new();
            (n, salt).hash(&mut hasher);
            format!("{:016x}", hasher.finish())
        };
        format!("/app/{}", (0..14).map(hash).collect::<String>())
    };
    let names: Vec<String> = (0..1_500).map(noise).collect();
    let parameters: Vec<_> = names.iter().map(|name| (name.as_str(), "v")).collect();
    let plan = plan(&[path("/app")]);
    let target = secret_of(&plan);
    let problem = |count: usize| {
        let signed = signed(&plan, &parameters[..count], 1);
        fits(&target, &signed, &[], &ObservedSecret::default())
            .err()
            .map(|issue| (issue.reason, issue.detail))
    };
    assert_eq!(problem(10), None);
    let (reason, detail) = problem(1_500).unwrap();
    assert_eq!(reason, TargetReason::SecretTooLarge);
    assert!(detail.contains("annotations") && detail.contains("262144"), "{detail}");
}

#[test]
fn another_type_than_that_of_the_spec_is_a_conflict() {
    let plan = plan(&[path("/app")]);
    let signed = signed(&plan, &[("/app/a", "v")], 1);
    let existing =
        ObservedSecret { type_: Some("kubernetes.io/tls".to_owned()), ..ObservedSecret::default() };
    let issue = fits(&secret_of(&plan), &signed, &[], &existing).unwrap_err();
    assert_eq!(issue.reason, TargetReason::SecretConflict);
}

/// Foreign metadata on a Secret is written again with it, up to a bound; beyond that, nothing of it is held in memory.
#[test]
fn metadata_of_others_is_held_up_to_a_bound() {
    let plan = plan(&[path("/app")]);
    let signed = signed(&plan, &[("/app/a", "v")], 1);
    let target = &secret_of(&plan);
    let with = |annotations: usize, finalizers: usize, last_applied: usize| {
        let value = |bytes| "x".repeat(bytes);
        let annotations =
            [("note".to_owned(), value(annotations)), (LAST_APPLIED.to_owned(), value(last_applied))];
        let metadata = ObjectMeta {
            annotations: Some(annotations.into()),
            finalizers: Some(vec!["a/b".to_owned(); finalizers]),
            ..ObjectMeta::default()
        };
        ObservedSecret::written(signed.clone(), Secret { metadata, ..Secret::default() })
    };
    assert!(fits(target, &signed, &[], &with(60_000, 10, 250_000)).is_ok());
    for heavy in [with(66_000, 0, 0), with(0, 10_000, 0)] {
        assert_eq!(foreign_bytes(&heavy.metadata), 0);
        let issue = fits(target, &signed, &[], &heavy).unwrap_err();
        assert_eq!(issue.reason, TargetReason::SecretConflict);
        assert!(issue.detail.contains("that others set"), "{}", issue.detail);
    }
}

/// Consent is for one mirror, and never for an object of a controller.
#[test]
fn what_a_controller_owns_is_never_taken_over() {
    let mut observed = ObservedSecret { adopt_by: Some("checkout".to_owned()), ..ObservedSecret::default() };
    assert!(observed.consents_to("checkout") && !observed.consents_to("other"));
    let owner = OwnerReference { controller: Some(true), ..OwnerReference::default() };
    observed.metadata.owner_references = Some(vec![owner]);
    assert!(!observed.consents_to("checkout"));
}
