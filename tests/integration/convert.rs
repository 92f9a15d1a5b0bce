//! Migration from External Secrets Operator: conversion of typical objects, and what is said of the others.

mod field;

use std::process::{Command, Output};

use parameter_mirror_test_support::Scratch;
use serde_json::{Value, json};

use crate::world::root;

fn convert(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_parameter-mirror"));
    command.arg("convert").args(arguments).current_dir(root().join("tests/integration/convert"));
    command.env_clear().output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// Compares the output with the file beside the input; `UPDATE=1` writes that file.
fn assert_expected(name: &str, code: i32) -> String {
    let output = convert(&["--file", &format!("{name}.yaml")]);
    assert_eq!(output.status.code(), Some(code), "{}", text(&output.stderr));
    let expected = root().join(format!("tests/integration/convert/{name}.expected.yaml"));
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&expected, &output.stdout).unwrap();
    }
    assert_eq!(text(&output.stdout), std::fs::read_to_string(expected).unwrap(), "{name}");
    text(&output.stderr).to_owned()
}

fn documents(yaml: &str) -> Vec<Value> {
    let documents: Vec<Value> = serde_yaml::from_multiple(yaml).unwrap();
    documents.into_iter().filter(|document| !document.is_null()).collect()
}

#[test]
fn a_teams_secret_comes_out_with_the_same_keys() {
    let output = assert_expected("team", 0);
    assert!(output.contains("let that assume arn:aws:iam::111122223333:role/shop-read"), "{output}");
    assert!(
        output.ends_with("Converted 1 of 1 ExternalSecret completely; 1 of 1 store converted\n"),
        "{output}"
    );
}

#[test]
fn a_list_of_kubectl_with_a_cluster_store_grants_what_is_used() {
    let output = assert_expected("cluster-store", 0);
    assert!(output.contains("5s is less than the shortest interval"), "{output}");
}

/// Untrusted input stays within comments and strings: it starts no document and moves no cursor.
#[test]
fn nothing_in_the_input_becomes_an_object_of_its_own() {
    let owned = "x\n---\napiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRoleBinding\nmetadata: {name: owned}\n#\r\u{85}\u{2028}\u{1b}[2J";
    let store = |region: &str| {
        json!({
            "apiVersion": "external-secrets.io/v1", "kind": "SecretStore", "metadata": {"name": "store", "namespace": "shop"},
            "spec": {"provider": {"aws": {
                "service": "ParameterStore", "region": region, "externalID": owned, owned: owned, "auth": {"jwt": {}},
            }}},
        })
    };
    let secret = |name: &str, reference: &str, target: &str| {
        json!({
            "apiVersion": "external-secrets.io/v1", "kind": "ExternalSecret", "metadata": {"name": name, "namespace": "shop"},
            "spec": {
                "refreshInterval": owned, "refreshPolicy": owned, "secretStoreRef": {"name": reference}, owned: owned,
                "target": {
                    "name": target, "creationPolicy": owned,
                    "template": {"metadata": {"labels": {owned: "{{ . }}"}, "annotations": {owned: owned}}},
                },
                "data": [
                    {"secretKey": "key", "remoteRef": {"key": "/key"}},
                    {"secretKey": "a", "remoteRef": {"key": owned, "property": owned}},
                ],
                "dataFrom": [{"find": {"path": "/p", "name": {"regexp": owned}}}],
            },
        })
    };
    let other = json!({"apiVersion": owned, "kind": owned, "metadata": {"name": owned}});
    let scratch = Scratch::new("convert").unwrap();
    let file = scratch.path().join("list.yaml");
    let kinds_of = |items: Vec<Value>| {
        std::fs::write(&file, json!({"kind": "List", "items": items}).to_string()).unwrap();
        let output = convert(&["--allow-partial", "--file", file.to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        for printed in [text(&output.stdout), text(&output.stderr)] {
            let harmful = |c: char| c != '\n' && (c.is_control() || c == '\u{2028}');
            assert!(!printed.contains(harmful), "{printed:?}");
        }
        let all = documents(text(&output.stdout));
        all.into_iter().map(|document| document["kind"].clone()).collect::<Vec<_>>()
    };
    let printed = kinds_of(vec![store("us-east-1"), secret("app", "store", "app"), other.clone()]);
    assert_eq!(printed, ["ParameterSource", "ParameterMirror"]);

    // What an API server would refuse is not printed, so no name of it becomes part of a command.
    let refused = vec![
        store(owned),
        secret(owned, "store", "app"),
        secret("$(reboot)", "store", "app"),
        secret("", "store", "app"),
        secret("target", "store", owned),
        secret("reference", owned, "app"),
        other,
    ];
    assert_eq!(kinds_of(refused), Vec::<Value>::new());
    let mut elsewhere = secret("app", "store", "app");
    elsewhere["metadata"]["namespace"] = json!(owned);
    assert_eq!(kinds_of(vec![store("us-east-1"), elsewhere]), Vec::<Value>::new());
}

/// Each feature of ESO that a mirror lacks is reported with its field, and nothing is handed over.
#[test]
fn what_cannot_be_carried_over_is_named_and_fails_unless_allowed() {
    let output = assert_expected("cannot", 3);
    let lost: Vec<&str> = output.lines().filter_map(|line| line.strip_prefix("NOT CARRIED OVER  ")).collect();
    for field in [
        "SecretStore shop/store: spec.provider.aws.additionalRoles",
        "SecretStore shop/store: spec.provider.aws.sessionTags",
        "ExternalSecret shop/most: spec.refreshPolicy",
        "ExternalSecret shop/most: spec.refreshInterval",
        "ExternalSecret shop/most: spec.syncWindows",
        "ExternalSecret shop/most: spec.target.creationPolicy",
        "ExternalSecret shop/most: spec.target.deletionPolicy",
        "ExternalSecret shop/most: spec.target.immutable",
        "ExternalSecret shop/most: spec.target.template.data",
        "ExternalSecret shop/most: spec.target.template.metadata.annotations.made",
        "ExternalSecret shop/most: spec.data[1]",
        "ExternalSecret shop/most: spec.data[2].remoteRef.property",
        "ExternalSecret shop/most: spec.data[3].remoteRef.decodingStrategy",
        "ExternalSecret shop/most: spec.data[4].remoteRef.metadataPolicy",
        "ExternalSecret shop/most: spec.data[5].remoteRef.key",
        "ExternalSecret shop/most: spec.data[6].sourceRef",
        "ExternalSecret shop/most: spec.dataFrom[0].extract",
        "ExternalSecret shop/most: spec.dataFrom[1].find.tags",
        "ExternalSecret shop/most: spec.dataFrom[2].find.name.regexp",
        "ExternalSecret shop/most: spec.dataFrom[3].rewrite",
        "ExternalSecret shop/most: spec.dataFrom[4].sourceRef",
        "ExternalSecret shop/most: spec.secretStoreRef: SecretStore shop/store is not carried over whole",
        "ExternalSecret shop/refused: ParameterMirror is refused: spec.parameters[0].key: \"a b\": a Secret key has only letters",
        "ExternalSecret shop/refused: ParameterMirror is refused: spec.parameters[0].name: \"/app//a\": a name has only letters",
        "ExternalSecret shop/refused: ParameterMirror is refused: spec.parameters[1].name: \"/app/c:1:2\": what follows the colon",
        "ExternalSecret shop/refused: ParameterMirror is refused: spec.secret.name: \"Refused\": must be a lower-case DNS name",
        "ExternalSecret shop/refused: ParameterMirror is refused: spec.secret.type: \"example.com/own\": supported values: \"Opaque\"",
        "ExternalSecret shop/managed: spec.secretStoreRef: SecretStore shop/manager is of AWS Secrets Manager",
        "ExternalSecret shop/lonely: spec.secretStoreRef",
        "PushSecret shop/push: kind",
        "ClusterExternalSecret wide: kind",
        "Password shop/p: kind",
    ] {
        assert!(lost.iter().any(|line| line.starts_with(field)), "{field} is not named in\n{output}");
    }
    assert_eq!(lost.len(), 32, "{output}");
    // The page shows this line.
    let page = std::fs::read_to_string(root().join("docs/guides/migrate-from-eso.md")).unwrap();
    assert!(page.contains(output.lines().last().unwrap()), "{output}");
    let allowed = convert(&["--file", "cannot.yaml", "--allow-partial"]);
    assert_eq!(allowed.status.code(), Some(0));
    let yaml = text(&allowed.stdout);
    assert!(yaml.contains("Do not let it take over Secret most as it is"), "{yaml}");
    assert_eq!(yaml.matches("adopt-by").count(), 1, "only of `whole`: {yaml}");
}

#[test]
fn what_cannot_be_read_is_an_error_in_one_line() {
    let scratch = Scratch::new("convert").unwrap();
    let file = scratch.path().join("input.yaml");
    let deployment = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: app}\n";
    for (input, expected) in [
        ("", "error: input contains no Kubernetes objects"),
        ("# nothing\n---\n", "error: input contains no Kubernetes objects"),
        ("[1, 2]\n", "error: input contains no Kubernetes objects"),
        ("a: [1\nb: }\n", "error: input is not YAML: "),
        (
            "name: {{ .Values.name }}\nkind: ExternalSecret\n",
            "error: input is a template of Helm that is not rendered",
        ),
        (deployment, "error: input contains no objects of External Secrets Operator, only Deployment"),
    ] {
        std::fs::write(&file, input).unwrap();
        let output = convert(&["--file", file.to_str().unwrap()]);
        assert_eq!((output.status.code(), text(&output.stdout)), (Some(1), ""), "{input}");
        let stderr = text(&output.stderr);
        assert!(stderr.starts_with(expected) && stderr.lines().count() == 1, "{input}\n{stderr}");
    }
    let output = convert(&["--file", "nobody.yaml"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("nobody.yaml cannot be read"), "{}", text(&output.stderr));
    let output = convert(&["--file", "team.yaml", "--namespace", "a b"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        text(&output.stderr).contains("--namespace `a b` is not the name of a namespace"),
        "{}",
        text(&output.stderr)
    );
}
