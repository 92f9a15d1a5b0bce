//! Moving from External Secrets Operator: objects as people have them, and a running Secret that changes hands.

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

/// Compares with the file beside the input; `UPDATE=1` writes it.
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
    let told = assert_expected("team", 0);
    assert!(told.contains("let that assume arn:aws:iam::111122223333:role/shop-read"), "{told}");
    assert!(
        told.ends_with("1 of 1 ExternalSecrets are mirrors now; 0 things could not be carried over\n"),
        "{told}"
    );
}

#[test]
fn a_list_of_kubectl_with_a_cluster_store_grants_what_is_used() {
    let told = assert_expected("cluster-store", 0);
    assert!(told.contains("5s is less than the shortest interval"), "{told}");
}

/// Each thing that ESO does and a mirror does not is named with its field, and nothing is handed over.
#[test]
fn what_cannot_be_carried_over_is_named_and_fails_unless_allowed() {
    let told = assert_expected("cannot", 3);
    let lost: Vec<&str> = told.lines().filter_map(|line| line.strip_prefix("NOT CARRIED OVER  ")).collect();
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
        assert!(lost.iter().any(|line| line.starts_with(field)), "{field} is not named in\n{told}");
    }
    assert_eq!(lost.len(), 28, "{told}");
    let allowed = convert(&["--file", "cannot.yaml", "--allow-partial"]);
    assert_eq!(allowed.status.code(), Some(0));
    let yaml = text(&allowed.stdout);
    assert!(yaml.contains("Do not let it take over Secret most as it is"), "{yaml}");
    assert!(!yaml.contains("adopt-by"), "{yaml}");
}

#[test]
fn what_is_no_yaml_or_not_there_is_told() {
    let output = convert(&["--file", "nobody.yaml"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("nobody.yaml cannot be read"), "{}", text(&output.stderr));
    let output = convert(&["--file", "../convert.rs"]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stdout));
    let told = text(&output.stderr);
    assert!(told.contains("this is not YAML") || told.contains("no object of Kubernetes"), "{told}");
}

/// What is printed is what the API server takes, with the rules of admission.
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
