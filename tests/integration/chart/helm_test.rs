//! The pod of `helm test`. No node runs it here: its command runs as a process with the environment and the
//! service account of the pod (`e2e` runs `helm test` itself).

use std::fs;

use parameter_mirror_test_support::Scratch;
use parameter_mirror_test_support::installation::IMAGE;
use serde_json::{Value, json};

use super::{chart, rendered};
use crate::world::{World, cluster};

/// Returns the pod of the release `home` in the namespace of the same name.
async fn pod(home: &str, values: &Value) -> Value {
    let scratch = Scratch::new("helm-test").unwrap();
    let file = scratch.path().join("values.yaml");
    fs::write(&file, values.to_string()).unwrap();
    let chart = chart();
    let template = ["template", home, &chart, "--namespace", home, "--set", IMAGE];
    let shown = ["--values", file.to_str().unwrap(), "--show-only", "templates/tests/verify.yaml"];
    serde_yaml::from_str(&cluster().await.helm(&[&template[..], &shown].concat()).await).unwrap()
}

/// Runs the command of the pod; returns its exit code and its output.
async fn run(world: &World) -> (Option<i32>, String) {
    let values = json!({
        "watchNamespaces": [world.namespace],
        "extraEnv": [{"name": "PARAMETER_MIRROR_REDIS_URL", "value": world.redis.url()}],
    });
    let pod = pod(&world.home, &values).await;
    let container = &pod["spec"]["containers"][0];
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_parameter-mirror"));
    command.env_clear().env("KUBECONFIG", &world.operator.settings().kubeconfig);
    for variable in container["env"].as_array().unwrap() {
        let value = match variable["valueFrom"]["fieldRef"]["fieldPath"].as_str() {
            Some("metadata.namespace") => world.home.as_str(),
            Some("metadata.name") => pod["metadata"]["name"].as_str().unwrap(),
            _ => variable["value"].as_str().unwrap(),
        };
        command.env(variable["name"].as_str().unwrap(), value);
    }
    command.args(container["args"].as_array().unwrap().iter().map(|argument| argument.as_str().unwrap()));
    let output = command.output().await.unwrap();
    let printed = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(printed).unwrap())
}

#[tokio::test]
async fn it_fails_if_something_failed_and_passes_with_warnings() {
    let world = World::start().await;
    // A new installation: there is no mirror, which is a warning.
    let (code, printed) = run(&world).await;
    assert_eq!(code, Some(0), "{printed}");
    assert!(printed.contains("WARN  there is no mirror here"), "{printed}");

    world.ssm.put("/app/a", "1");
    world.synced("config").await;
    let (code, printed) = run(&world).await;
    assert_eq!(code, Some(0), "{printed}");
    // The backup of the keys is not recorded.
    assert!(printed.contains(", 1 to look at, 0 failed"), "{printed}");

    world.operator.terminate().await;
    world.delete_secret("config").await;
    let (code, printed) = run(&world).await;
    assert_eq!(code, Some(3), "{printed}");
    assert!(printed.contains("FAIL  no operator works: "), "{printed}");
}

#[tokio::test]
async fn its_pod_is_admitted_and_is_no_replica_of_the_operator() {
    let cluster = cluster().await;
    let namespace = cluster.namespace("helm-test").await;
    let restricted = "pod-security.kubernetes.io/enforce=restricted";
    cluster.kubectl(&["label", "namespace", &namespace, restricted]).await;
    let account = format!("{namespace}-parameter-mirror");
    cluster.kubectl(&["create", "serviceaccount", &account, "-n", &namespace]).await;
    let values = json!({
        "redis": {"urlSecret": {"name": "redis"}},
        "podLabels": {"app.kubernetes.io/name": "parameter-mirror", "team": "platform"},
        "podAnnotations": {"example.com/note": "hello"},
    });
    let pod = pod(&namespace, &values).await;
    cluster.kubectl_apply(&pod.to_string()).await;
    let labels = pod["metadata"]["labels"].as_object().unwrap();
    assert_eq!(
        (&labels["team"], &pod["metadata"]["annotations"]["example.com/note"]),
        (&json!("platform"), &json!("hello"))
    );

    // Neither Service nor budget counts it, and the network policy lets it ask what the operator asks.
    let settings = ["networkPolicy.enabled=true"];
    for object in rendered(cluster, &settings).await {
        let (kind, spec) = (object["kind"].as_str().unwrap(), &object["spec"]);
        let selector = match kind {
            "Service" => &spec["selector"],
            "PodDisruptionBudget" | "Deployment" => &spec["selector"]["matchLabels"],
            "NetworkPolicy" => {
                let names = &spec["podSelector"]["matchExpressions"][0]["values"];
                assert!(names.as_array().unwrap().contains(&labels["app.kubernetes.io/name"]), "{names}");
                continue;
            }
            _ => continue,
        };
        assert_ne!(selector["app.kubernetes.io/name"], labels["app.kubernetes.io/name"], "{kind}");
    }
}
