//! What convert says of objects that are wrong in themselves, or that get into each other's way.

use rstest::rstest;

use super::conversion::Conversion;

const STORE: &str = "
apiVersion: external-secrets.io/v1
kind: SecretStore
metadata: {name: ssm, namespace: shop}
spec: {provider: {aws: {service: ParameterStore, region: us-east-1}}}
---";

/// Converts documents beside a store `shop/ssm`. Returns what is printed, and what is summary.
fn convert(documents: &str) -> (String, String) {
    let conversion = Conversion::of(&format!("{STORE}{documents}"), "shop").unwrap();
    (conversion.yaml().unwrap(), conversion.summary())
}

/// Converts an `ExternalSecret` `shop/app` with this metadata and spec.
fn converted(metadata: &str, spec: &str) -> (String, String) {
    convert(&external("app", metadata, spec))
}

fn external(name: &str, metadata: &str, spec: &str) -> String {
    format!(
        "
apiVersion: external-secrets.io/v1
kind: ExternalSecret
metadata: {{name: {name}, namespace: shop, {metadata}}}
spec: {{secretStoreRef: {{name: ssm}}, {spec}}}
---"
    )
}

const DATA: &str = "data: [{secretKey: KEY, remoteRef: {key: /shop/key}}]";

#[rstest]
#[case::no_parameter("data: [{secretKey: KEY}]", "spec.data[0].remoteRef.key: KEY names no parameter")]
#[case::no_key("data: [{remoteRef: {key: /shop/key}}]", "spec.data[0].secretKey: it names no key")]
#[case::entries_are_no_list("data: {secretKey: KEY}", "spec.data: a field that convert does not know")]
#[case::entry_is_no_object("data: [KEY]", "spec.data: a field that convert does not know")]
#[case::target_is_no_object(
    "target: app, data: [{secretKey: KEY, remoteRef: {key: /k}}]",
    "spec.target: a field that"
)]
#[case::nothing_to_list("dataFrom: [{}]", "spec.dataFrom[0]: it has neither `find` nor `extract`")]
#[case::unknown_of_find(
    "dataFrom: [{find: {path: /p, name: {regexp: .*, glob: x}}}]",
    "spec.dataFrom[0].find.name.glob: a field"
)]
#[case::unknown_of_a_reference(
    "data: [{secretKey: KEY, remoteRef: {key: /k}, sourceRef: {storeRef: {name: ssm, namespace: other}}}]",
    "spec.data[0].sourceRef.storeRef.namespace: a field"
)]
#[case::unknown_policy("target: {deletionPolicy: Sometimes}", "spec.target.deletionPolicy: Sometimes")]
#[case::generic_target("target: {manifest: {kind: ConfigMap}}", "spec.target.manifest: a field")]
#[case::the_same_parameter_with_and_without_a_slash(
    "data: [{secretKey: A, remoteRef: {key: x}}, {secretKey: B, remoteRef: {key: /x}}]",
    "ParameterMirror is refused: spec.parameters[1]: /x is selected twice"
)]
fn nothing_is_dropped_in_silence(#[case] spec: &str, #[case] expected: &str) {
    let (printed, summary) = converted("", spec);
    let line = format!("NOT CARRIED OVER  ExternalSecret shop/app: {expected}");
    assert!(summary.contains(&line), "{line}\n{summary}");
    assert!(
        printed.contains(&format!("# NOT CARRIED OVER: {expected}")) && !printed.contains("adopt-by"),
        "{printed}"
    );
}

/// ESO makes two keys of a parameter that a path and a name select; a mirror makes one.
#[rstest]
#[case::another_key(
    "/shop/db/host",
    "HOST",
    Some("spec.data[0]: /shop/db/host gets the key host from dataFrom too")
)]
#[case::the_same_key("/shop/db/host", "host", None)]
#[case::another_version("/shop/db/host:3", "HOST", None)]
#[case::beside_the_path("/shop/dbhost", "HOST", None)]
fn a_parameter_with_two_keys_is_named(#[case] name: &str, #[case] key: &str, #[case] expected: Option<&str>) {
    let listing =
        "dataFrom: [{find: {path: /shop/db}, rewrite: [{regexp: {source: /shop/db/(.*), target: $1}}]}]";
    let (_, summary) =
        converted("", &format!("{listing}, data: [{{secretKey: {key}, remoteRef: {{key: '{name}'}}}}]"));
    match expected {
        Some(expected) => assert!(
            summary.contains(&format!("NOT CARRIED OVER  ExternalSecret shop/app: {expected}")),
            "{summary}"
        ),
        None => assert!(summary.contains("Converted 1 of 1 ExternalSecret completely"), "{summary}"),
    }
}

/// ESO copies labels and annotations to the Secret if there is no template, and not those of tools here.
#[test]
fn labels_and_annotations_come_along_without_a_template() {
    let metadata = "labels: {team: shop, argocd.argoproj.io/instance: shop, app.kubernetes.io/managed-by: Helm}, \
                    annotations: {owner: me, kubectl.kubernetes.io/last-applied-configuration: '{}', node.kubernetes.io/x: why}";
    let (printed, summary) = converted(metadata, DATA);
    let secret =
        "  secret:\n    annotations:\n      owner: me\n    labels:\n      team: shop\n    name: app\n";
    assert!(printed.contains(secret), "{printed}");
    assert!(
        summary.contains(
            "note  ExternalSecret shop/app: metadata.labels: argocd.argoproj.io/instance: of the tool"
        ),
        "{summary}"
    );
    let reserved = "NOT CARRIED OVER  ExternalSecret shop/app: metadata.annotations.node.kubernetes.io/x: spec.secret: annotations: \
                    parameter-mirror.dev/* and *.kubernetes.io/* are reserved";
    assert!(summary.contains(reserved), "{summary}");
    assert_eq!(summary.matches("NOT CARRIED OVER  ").count(), 1, "{summary}");

    let (printed, summary) = converted(metadata, &format!("target: {{template: {{}}}}, {DATA}"));
    assert!(printed.contains("  secret:\n    name: app\n"), "{printed}");
    assert!(summary.contains("Converted 1 of 1 ExternalSecret completely"), "{summary}");
}

#[test]
fn of_two_objects_with_one_name_none_is_converted() {
    let twice = external("app", "", DATA).repeat(2);
    let (printed, summary) = convert(&twice);
    assert_eq!(
        summary.matches("shop/app: metadata.name: one of 2 of this name, and it is not known which").count(),
        2,
        "{summary}"
    );
    assert!(!printed.contains("\nkind:"), "{printed}");
    assert!(
        summary.contains(
            "Converted 0 of 2 ExternalSecrets completely; 2 not at all (see NOT CARRIED OVER); 0 of 1 store"
        ),
        "{summary}"
    );
}

/// Sources are cluster-scoped, so two stores may make the same name.
#[test]
fn stores_that_would_be_one_source_are_named() {
    let store = STORE
        .replace("kind: SecretStore", "kind: ClusterSecretStore")
        .replace("{name: ssm, namespace: shop}", "{name: shop-ssm}");
    let other =
        external("other", "", DATA).replace("{name: ssm}", "{name: shop-ssm, kind: ClusterSecretStore}");
    let (printed, summary) =
        convert(&[&store, &external("app", "", DATA), &other].map(String::as_str).concat());
    let both = "metadata.name: SecretStore shop/ssm and ClusterSecretStore shop-ssm would all be the source shop-ssm";
    let turned = "metadata.name: ClusterSecretStore shop-ssm and SecretStore shop/ssm would all be the source shop-ssm";
    assert_eq!(summary.matches(both).count() + summary.matches(turned).count(), 2, "{summary}");
    assert!(!printed.contains("kind: ParameterSource"), "{printed}");
    assert!(summary.contains("Converted 0 of 2 ExternalSecrets completely; 2 partially"), "{summary}");
}

#[rstest]
#[case::no_region("{service: ParameterStore}", "ParameterSource is refused: spec.region: required")]
#[case::no_such_region(
    "{service: ParameterStore, region: '${REGION}'}",
    "is refused: spec.region: \"${REGION}\": not an AWS region"
)]
#[case::no_role(
    "{service: ParameterStore, region: us-east-1, role: reader}",
    "is refused: spec.roleArn: \"reader\": not the ARN"
)]
fn a_source_that_would_be_refused_is_not_printed(#[case] aws: &str, #[case] expected: &str) {
    let documents = format!("{STORE}{}", external("app", "", DATA))
        .replace("{service: ParameterStore, region: us-east-1}", aws);
    let conversion = Conversion::of(&documents, "shop").unwrap();
    let (printed, summary) = (conversion.yaml().unwrap(), conversion.summary());
    assert!(
        summary.contains("NOT CARRIED OVER  SecretStore shop/ssm: ") && summary.contains(expected),
        "{summary}"
    );
    assert!(!printed.contains("kind: ParameterSource") && !printed.contains("adopt-by"), "{printed}");
    assert!(
        summary.contains(
            "Converted 0 of 1 ExternalSecret completely; 1 partially (see NOT CARRIED OVER); 0 of 1 store"
        ),
        "{summary}"
    );
}

/// `kubectl get --raw` names the kind once, for all items.
#[test]
fn the_items_of_a_list_of_one_kind_are_read() {
    let list = "
apiVersion: external-secrets.io/v1
kind: ExternalSecretList
items:
- metadata: {name: app, namespace: shop}
  spec: {secretStoreRef: {name: ssm}, data: [{secretKey: KEY, remoteRef: {key: /shop/key}}]}
";
    let (_, summary) = convert(list);
    assert!(summary.contains("Converted 1 of 1 ExternalSecret completely"), "{summary}");
}
