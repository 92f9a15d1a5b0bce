//! Migration from External Secrets Operator: conversion of typical objects, and a Secret in use that changes
//! hands.

use std::collections::BTreeMap;
use std::process::{Command, Output};

use parameter_mirror::api::{ParameterMirror, ParameterSource};
use parameter_mirror_test_support::Scratch;
use serde_json::{Value, json};

use crate::world::{cluster, root};

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
        output.ends_with("1 of 1 ExternalSecrets are mirrors now; 0 things could not be carried over\n"),
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
    let store = json!({
        "apiVersion": "external-secrets.io/v1", "kind": "SecretStore", "metadata": {"name": "store", "namespace": "shop"},
        "spec": {"provider": {"aws": {"service": "ParameterStore", "region": owned, "role": owned, owned: owned, "auth": {"jwt": {}}}}},
    });
    let secret = |reference: &str, target: &str| {
        json!({
            "apiVersion": "external-secrets.io/v1", "kind": "ExternalSecret", "metadata": {"name": "app", "namespace": "shop"},
            "spec": {
                "refreshInterval": owned, "refreshPolicy": owned, "secretStoreRef": {"name": reference}, owned: owned,
                "target": {
                    "name": target, "creationPolicy": owned,
                    "template": {"type": owned, "metadata": {"labels": {owned: "{{ . }}"}}},
                },
                "data": [
                    {"secretKey": owned, "remoteRef": {"key": owned, "version": owned}},
                    {"secretKey": "a", "remoteRef": {"key": owned, "property": owned}},
                ],
                "dataFrom": [{"find": {"path": "/p", "name": {"regexp": owned}}}],
            },
        })
    };
    let other = json!({"apiVersion": owned, "kind": owned, "metadata": {"name": owned}});
    let list = json!({"kind": "List", "items": [store, secret("store", owned), secret(owned, "app"), other]});
    let scratch = Scratch::new("convert").unwrap();
    let file = scratch.path().join("list.yaml");
    std::fs::write(&file, list.to_string()).unwrap();
    let output = convert(&["--allow-partial", "--file", file.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let kinds: Vec<Value> =
        documents(text(&output.stdout)).into_iter().map(|document| document["kind"].clone()).collect();
    assert_eq!(kinds, ["ParameterSource", "ParameterMirror", "ParameterMirror"]);
    for printed in [text(&output.stdout), text(&output.stderr)] {
        let harmful = |c: char| c != '\n' && (c.is_control() || c == '\u{2028}');
        assert!(!printed.contains(harmful), "{printed:?}");
    }

    // Names that become part of commands are checked.
    for (name, namespace) in [(owned, "shop"), ("app", owned), ("$(reboot)", "shop"), ("", "shop")] {
        let mut named = secret("store", "app");
        named["metadata"] = json!({"name": name, "namespace": namespace});
        std::fs::write(&file, named.to_string()).unwrap();
        let output = convert(&["--allow-partial", "--file", file.to_str().unwrap()]);
        assert_eq!((output.status.code(), text(&output.stdout)), (Some(1), ""), "{name:?} {namespace:?}");
        assert!(!text(&output.stderr).trim_end().contains('\n'), "{}", text(&output.stderr));
    }
}

/// Each feature of ESO that a mirror lacks is reported with its field, and nothing is handed over.
#[test]
fn what_cannot_be_carried_over_is_named_and_fails_unless_allowed() {
    let output = assert_expected("cannot", 3);
    let lost: Vec<&str> = output.lines().filter_map(|line| line.strip_prefix("NOT CARRIED OVER  ")).collect();
    for field in [
        "SecretStore shop/store: spec.provider.aws.additionalRoles",
        "SecretStore shop/store: spec.provider.aws.sessionTags",
        "SecretStore shop/manager: spec.provider",
        "ExternalSecret shop/most: spec.refreshPolicy",
        "ExternalSecret shop/most: spec.refreshInterval",
        "ExternalSecret shop/most: spec.syncWindows",
        "ExternalSecret shop/most: spec.target.creationPolicy",
        "ExternalSecret shop/most: spec.target.deletionPolicy",
        "ExternalSecret shop/most: spec.target.immutable",
        "ExternalSecret shop/most: spec.target.template.type",
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
        "ExternalSecret shop/managed: spec.secretStoreRef",
        "ExternalSecret shop/lonely: spec.secretStoreRef",
        "PushSecret push: kind",
        "ClusterExternalSecret wide: kind",
        "Password p: kind",
    ] {
        assert!(lost.iter().any(|line| line.starts_with(field)), "{field} is not named in\n{output}");
    }
    assert_eq!(lost.len(), 28, "{output}");
    let allowed = convert(&["--file", "cannot.yaml", "--allow-partial"]);
    assert_eq!(allowed.status.code(), Some(0));
    let yaml = text(&allowed.stdout);
    assert!(yaml.contains("Do not let it take over Secret most as it is"), "{yaml}");
    assert!(!yaml.contains("adopt-by"), "{yaml}");
}

#[test]
fn invalid_yaml_and_missing_files_are_reported() {
    let output = convert(&["--file", "nobody.yaml"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("nobody.yaml cannot be read"), "{}", text(&output.stderr));
    let output = convert(&["--file", "../convert.rs"]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stdout));
    let output = text(&output.stderr);
    assert!(output.contains("this is not YAML") || output.contains("no object of Kubernetes"), "{output}");
}

/// The API server accepts the output, including the admission rules.
#[tokio::test]
async fn the_api_server_takes_what_is_printed() {
    let scratch = Scratch::new("convert").unwrap();
    let file = scratch.path().join("object.json");
    for name in ["team", "cluster-store"] {
        let output = convert(&["--file", &format!("{name}.yaml")]);
        let mut known = BTreeMap::new();
        for mut document in documents(text(&output.stdout)) {
            if let Some(namespace) = document["metadata"]["namespace"].as_str() {
                let namespace = namespace.to_owned();
                if !known.contains_key(&namespace) {
                    known.insert(namespace.clone(), cluster().await.namespace(&namespace).await);
                }
                document["metadata"]["namespace"] = json!(known[&namespace]);
                let _: ParameterMirror = serde_json::from_value(document.clone()).unwrap();
            } else {
                let _: ParameterSource = serde_json::from_value(document.clone()).unwrap();
                document["metadata"]["name"] = json!(format!("{name}-{}", std::process::id()));
            }
            std::fs::write(&file, document.to_string()).unwrap();
            let apply = ["apply", "--dry-run=server", "-f", file.to_str().unwrap()];
            let applied = cluster().await.try_kubectl(&apply).await;
            assert!(applied.status.success(), "{}\n{document:#}", applied.stderr);
        }
    }
}
