//! What the chart renders: the files in `golden/chart`, objects that a real API server accepts, and a clear
//! error for every typo.
//!
//! A case is `NAME.values.yaml` with its output `NAME.yaml`. After an intended change, run
//! `GOLDEN=renew cargo test --test integration chart_renders`, review the difference, and commit it.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use futures::future::join_all;
use parameter_mirror_test_support::Cluster;
use parameter_mirror_test_support::installation::IMAGE;
use serde_json::Value;

use crate::chart::WITH_CRDS;
use crate::world::{cluster, root};

/// The namespace of all renderings. The `watchNamespaces` of the cases begin with it.
const NAMESPACE: &str = "render";

fn chart() -> String {
    root().join("charts/parameter-mirror").to_str().unwrap().to_owned()
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Returns the values files of all cases, by name.
fn cases() -> Vec<(String, PathBuf)> {
    let files = fs::read_dir(root().join("tests/integration/golden/chart")).unwrap();
    let mut cases: Vec<_> = files
        .filter_map(|file| {
            let path = file.unwrap().path();
            let name = path.file_name()?.to_str()?.strip_suffix(".values.yaml")?.to_owned();
            Some((name, path))
        })
        .collect();
    cases.sort();
    assert!(cases.len() > 5, "{cases:?}");
    cases
}

async fn rendered(cluster: &Cluster, values: &Path) -> String {
    let (chart, values) = (chart(), values.to_str().unwrap());
    let name = ["template", "release", &chart, "--skip-tests", "--namespace", NAMESPACE, "--set", IMAGE];
    cluster.helm(&[&name[..], &["--values", values, "--set", "crds.enabled=false"]].concat()).await
}

/// Removes the version, and replaces content of the chart's files with a placeholder. `chart::monitoring` checks
/// the alerts.
fn abridged(rendered: &str) -> String {
    let text = rendered.replace(env!("CARGO_PKG_VERSION"), "VERSION");
    let dashboard = read("charts/parameter-mirror/files/dashboard.json");
    let dashboard: Vec<_> = dashboard.lines().map(|line| format!("    {line}")).collect();
    let mut text = text;
    // As in the file, and with the runbook of a case.
    for runbook in ["docs/operations/runbook.md", "https://wiki.example/runbook"] {
        let dashboard = dashboard.join("\n").replace("docs/operations/runbook.md", runbook);
        text = text.replace(&dashboard, "    # files/dashboard.json");
    }
    let Some((before, rules)) = text.split_once("  groups:\n") else { return text };
    let after = rules.lines().skip_while(|line| line.starts_with("  ")).map(|line| format!("{line}\n"));
    [before, "  # files/alerts.yaml\n", &after.collect::<String>()].concat()
}

#[tokio::test]
async fn each_case_renders_as_its_golden_file_says() {
    let cluster = cluster().await;
    let renew = std::env::var("GOLDEN").is_ok_and(|what| what == "renew");
    let all = cases();
    let texts = join_all(all.iter().map(|(_, values)| rendered(cluster, values))).await;
    for ((name, _), text) in all.iter().zip(texts) {
        let path = format!("tests/integration/golden/chart/{name}.yaml");
        let text = abridged(&text);
        if renew {
            fs::write(root().join(&path), &text).unwrap();
        }
        let golden = read(&path);
        let mut lines = text.lines().zip(golden.lines());
        assert!(
            text == golden,
            "{path} differs, first at {:?}; if that is meant: see the top of chart_renders.rs",
            lines.find(|(is, golden)| is != golden)
        );
    }
}

#[tokio::test]
async fn a_real_api_server_takes_every_case() {
    let cluster = cluster().await;
    cluster.kubectl_apply(&read("tests/integration/monitoring-crds.yaml")).await;
    cluster.kubectl(&["wait", "--for=condition=Established", "crd", "--all", "--timeout=30s"]).await;
    for suffix in ["", "-shop", "-search"] {
        let namespace = format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: {NAMESPACE}{suffix}}}");
        cluster.kubectl_apply(&namespace).await;
    }
    let folder = parameter_mirror_test_support::Scratch::new("renders").unwrap();
    let taken = cases().into_iter().map(async |(name, values)| {
        let file = folder.path().join(format!("{name}.yaml"));
        fs::write(&file, rendered(cluster, &values).await).unwrap();
        let dry =
            ["apply", "--server-side", "--dry-run=server", "--validate=strict", "-f", file.to_str().unwrap()];
        let output = cluster.try_kubectl(&dry).await;
        assert!(output.status.success(), "{name}: {}", output.stderr);
    });
    join_all(taken).await;
}

#[tokio::test]
async fn its_pods_may_run_where_pod_security_is_restricted() {
    let cluster = cluster().await;
    let namespace = cluster.namespace("restricted").await;
    cluster
        .kubectl(&["label", "namespace", &namespace, "pod-security.kubernetes.io/enforce=restricted"])
        .await;
    cluster.kubectl(&["create", "serviceaccount", "parameter-mirror", "-n", &namespace]).await;
    let values = root().join("tests/integration/golden/chart/eks.values.yaml");
    let text = rendered(cluster, &values).await;
    let deployment = text.split("\n---").find(|document| document.contains("kind: Deployment")).unwrap();
    let deployment: Value = serde_yaml::from_str(deployment).unwrap();
    let mut pod = deployment["spec"]["template"].clone();
    pod["apiVersion"] = "v1".into();
    pod["kind"] = "Pod".into();
    pod["metadata"]["name"] = "operator".into();
    pod["metadata"]["namespace"] = namespace.into();
    cluster.kubectl_apply(&pod.to_string()).await;
}

#[tokio::test]
async fn two_ways_to_sign_in_to_redis_exclude_each_other() {
    let values = "redis.iam.cache=shop,redis.passwordSecret.name=redis";
    let arguments = ["template", "contradiction", &chart(), "--set", IMAGE, "--set", values];
    let output = cluster().await.try_helm(&arguments).await;
    assert!(!output.status.success() && output.stderr.contains("exclude each other"), "{}", output.stderr);
}

/// Each case is a mistake that users will make, with the error of helm.
#[tokio::test]
async fn a_value_that_is_not_one_is_refused_with_its_place() {
    let cluster = cluster().await;
    let chart = chart();
    let mistakes = [
        ("replica=3", "at '': additional properties 'replica' not allowed"),
        ("image.repo=x", "at '/image': additional properties 'repo' not allowed"),
        ("image.digest=latest", "at '/image/digest'"),
        ("image.registry=registry.example/", "at '/image/registry'"),
        ("global.imagePullSecrets=registry", "at '/global/imagePullSecrets': got string, want array"),
        ("redis.url=redis://x", "at '/redis': additional properties 'url' not allowed"),
        ("redis.urlSecret.nmae=x", "at '/redis/urlSecret': additional properties 'nmae' not allowed"),
        ("redis.iam.cache=shop.abc123.cache.amazonaws.com", "at '/redis/iam/cache'"),
        ("watchNamespaces=shop", "at '/watchNamespaces': got string, want array"),
        ("watchNamespaces={Shop}", "at '/watchNamespaces/0'"),
        ("ssmRequestsPerSecond=0", "at '/ssmRequestsPerSecond': minimum: got 0, want 1"),
        ("log.format=yaml", "at '/log/format': value must be one of 'json', 'text'"),
        ("extraEnv[0].nam=x", "at '/extraEnv/0': missing property 'name'"),
        ("extraEnvFrom[0].secret=x", "at '/extraEnvFrom/0': additional properties 'secret' not allowed"),
        ("extraArgs[0]=7", "at '/extraArgs/0': got number, want string"),
        ("dnsPolicy=none", "at '/dnsPolicy': value must be one of"),
        ("hostAliases[0].ip=10.0.0.1", "at '/hostAliases/0': missing property 'hostnames'"),
        ("commonAnnotations.port=80", "at '/commonAnnotations/port': got number, want string"),
        ("metrics.serviceMonitor.enable=true", "additional properties 'enable' not allowed"),
        (
            "metrics.prometheusRule.runbookUrl=docs/operations/runbook.md",
            "at '/metrics/prometheusRule/runbookUrl'",
        ),
        (
            "metrics.prometheusRule.customRules.ParameterMirrorStale.for=soon",
            "at '/metrics/prometheusRule/customRules/ParameterMirrorStale/for'",
        ),
        ("networkPolicy.redisPorts[0]=99999", "at '/networkPolicy/redisPorts/0'"),
        ("keySecret.name=", "at '/keySecret/name'"),
    ];
    let refused = mistakes.map(async |(mistake, says)| {
        let commands: [&[&str]; 2] =
            [&["lint", &chart], &["install", "typo", &chart, "--namespace", "default", "--set", IMAGE]];
        for command in commands {
            let output = cluster.try_helm(&[command, &["--set", mistake]].concat()).await;
            let said = output.stdout + &output.stderr;
            assert!(!output.status.success() && said.contains(says), "{mistake}: {command:?} says\n{said}");
        }
    });
    join_all(refused).await;
    assert!(!cluster.kubectl(&["get", "deployment", "-n", "default"]).await.contains("typo"));
}

/// Collects the paths of all values in the schema: the nodes without described members.
fn known(schema: &Value, path: &str, all: &mut BTreeSet<String>) {
    match schema["properties"].as_object() {
        // Values that Kubernetes describes are documented as a whole.
        Some(members) if path != "resources" => {
            for (name, member) in members {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                known(member, &path, all);
            }
        }
        _ => {
            all.insert(path.to_owned());
        }
    }
}

#[test]
fn the_documentation_lists_every_value_that_the_schema_knows() {
    let schema: Value = serde_json::from_str(&read("charts/parameter-mirror/values.schema.json")).unwrap();
    let mut all = BTreeSet::new();
    known(&schema, "", &mut all);
    for page in ["docs/reference/chart.md", "charts/parameter-mirror/README.md"] {
        let table = read(page);
        let (_, table) = table.split_once("<!-- table of values -->").unwrap();
        let rows = table.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`'));
        let documented: BTreeSet<String> = rows.map(|(name, _)| name.to_owned()).collect();
        assert_eq!(documented, all, "{page}: run `make generate`; values.yaml and values.schema.json differ");
    }
}

#[tokio::test]
async fn its_values_in_the_documentation_are_values() {
    let cluster = cluster().await;
    let (text, chart) = (read("docs/reference/chart.md"), chart());
    let blocks: Vec<_> =
        text.split("```yaml\n").skip(1).map(|rest| rest.split_once("```").unwrap().0).collect();
    assert!(blocks.len() > 5, "{blocks:?}");
    let folder = parameter_mirror_test_support::Scratch::new("recipes").unwrap();
    for (number, block) in blocks.into_iter().enumerate() {
        let file = folder.path().join(format!("{number}.yaml"));
        fs::write(&file, block).unwrap();
        let template = ["template", &chart, "--set", IMAGE, "--values", file.to_str().unwrap()];
        let output = cluster.try_helm(&[&template[..], &WITH_CRDS].concat()).await;
        assert!(output.status.success(), "{block}\n{}", output.stderr);
    }
}

/// Each rule of each role has a comment with its reason, uses no wildcard, and grants no permission that
/// allows escalation.
#[test]
fn every_right_is_named_and_has_its_reason() {
    let mut rules = 0;
    for (name, _) in cases() {
        let text = read(&format!("tests/integration/golden/chart/{name}.yaml"));
        for (before, line) in text.lines().zip(text.lines().skip(1)) {
            if line.trim_start().starts_with("- apiGroups:") {
                assert!(before.trim_start().starts_with('#'), "{name}: no reason above {line}, but {before}");
            }
        }
        let documents = text.split("\n---").filter(|document| document.contains("\nrules:"));
        for document in documents {
            let role: Value = serde_yaml::from_str(document.trim_start_matches("---")).unwrap();
            for rule in role["rules"].as_array().unwrap() {
                rules += 1;
                let words =
                    ["apiGroups", "resources", "verbs"].into_iter().filter_map(|of| rule[of].as_array());
                for word in words.flatten().filter_map(Value::as_str) {
                    let is_too_much = word.contains('*')
                        || ["escalate", "bind", "impersonate", "roles", "pods"].contains(&word);
                    assert!(!is_too_much, "{name}: {word} in {rule}");
                }
            }
        }
    }
    assert!(rules > 30, "{rules} rules were seen");
}

#[tokio::test]
async fn a_key_secret_of_another_name_is_the_only_secret_that_may_be_read() {
    let cluster = cluster().await;
    let home = cluster.namespace("own-keys").await;
    let (chart, watched) = (chart(), cluster.namespace("watched").await);
    let watch = format!("watchNamespaces={{{watched}}}");
    let settings = [
        "--set",
        IMAGE,
        "--set",
        "keySecret.name=own-keys",
        "--set",
        &watch,
        "--show-only",
        "templates/rbac.yaml",
    ];
    let roles =
        cluster.helm(&[&["template", "pm", &chart, "--namespace", &home], &settings[..]].concat()).await;
    cluster.kubectl_apply(&roles).await;
    let account = format!("--as=system:serviceaccount:{home}:pm-parameter-mirror");
    let may_get = async |secret: &str| {
        let ask = ["auth", "can-i", "get", &format!("secrets/{secret}"), "-n", &home, &account];
        cluster.try_kubectl(&ask).await.stdout.trim() == "yes"
    };
    assert!(may_get("own-keys").await);
    assert!(!may_get("parameter-mirror-keys").await);
}

/// The chart's objects as plain manifests, for users without helm.
#[tokio::test]
async fn the_plain_manifests_are_taken_and_name_what_the_chart_names() {
    let cluster = cluster().await;
    let folder = root().join("deploy");
    cluster.kubectl_apply(&read("deploy/namespace.yaml")).await;
    let dry = ["apply", "--dry-run=server", "--validate=strict", "-k", folder.to_str().unwrap()];
    let said = cluster.kubectl(&dry).await;
    for object in [
        "deployment.apps/parameter-mirror",
        "customresourcedefinition.apiextensions.k8s.io/parametermirrors.parameter-mirror.dev",
        "clusterrolebinding.rbac.authorization.k8s.io/parameter-mirror",
        "poddisruptionbudget.policy/parameter-mirror",
    ] {
        assert!(said.contains(object), "{object} is not in\n{said}");
    }
    let text = cluster.kubectl(&["kustomize", folder.to_str().unwrap()]).await;
    assert!(text.contains("image: registry.example/parameter-mirror:"), "the image is not replaced");
    assert!(!text.to_lowercase().contains("helm"), "an object says that helm manages it");
}
