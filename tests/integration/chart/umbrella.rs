//! The chart as a dependency of a parent chart, as platforms and Argo CD applications compose them.

use std::fs;

use parameter_mirror_test_support::installation::IMAGE;
use parameter_mirror_test_support::{Cluster, Scratch};
use serde_json::{Value, json};

use super::chart;
use crate::world::cluster;

/// A parent chart in a folder.
struct Umbrella {
    folder: Scratch,
}

impl Umbrella {
    /// Writes the parent chart and fetches its dependency, the chart of this repository.
    async fn new(cluster: &Cluster) -> Self {
        let folder = Scratch::new("umbrella").unwrap();
        let version = env!("CARGO_PKG_VERSION");
        let dependency = json!({
            "name": "parameter-mirror", "version": version, "repository": format!("file://{}", chart()),
            "condition": "parameter-mirror.enabled",
        });
        let parent =
            json!({"apiVersion": "v2", "name": "platform", "version": "1.0.0", "dependencies": [dependency]});
        fs::write(folder.path().join("Chart.yaml"), parent.to_string()).unwrap();
        // Strict linting wants one.
        fs::create_dir(folder.path().join("templates")).unwrap();
        let umbrella = Self { folder };
        cluster.helm(&["dependency", "update", umbrella.path()]).await;
        umbrella
    }

    fn path(&self) -> &str {
        self.folder.path().to_str().unwrap()
    }

    /// Sets the values of the parent chart.
    fn set(&self, values: &Value) {
        fs::write(self.folder.path().join("values.yaml"), values.to_string()).unwrap();
    }
}

#[tokio::test]
async fn a_parent_chart_switches_it_on_and_off() {
    let cluster = cluster().await;
    let namespace = cluster.namespace("umbrella").await;
    let umbrella = Umbrella::new(cluster).await;
    let values = |enabled: bool| {
        json!({
            "parameter-mirror": {
                "enabled": enabled, "fullnameOverride": namespace,
                "image": {"registry": "unused.example", "repository": "team/pm", "tag": "1"}, "imagePullSecrets": [{"name": "own"}],
            },
            "global": {
                "domain": "example.org", "imageRegistry": "registry.example:5000", "imagePullSecrets": ["shared", {"name": "own"}],
            },
        })
    };
    let deployments = async || cluster.kubectl(&["get", "deployment", "-n", &namespace, "-o", "name"]).await;
    umbrella.set(&values(true));
    cluster.helm(&["lint", "--strict", umbrella.path()]).await;
    cluster.helm(&["install", "platform", umbrella.path(), "--namespace", &namespace]).await;
    assert_eq!(deployments().await.trim(), format!("deployment.apps/{namespace}"));
    // What the parent chart sets for all of its dependencies arrives.
    let pod =
        "jsonpath={.spec.template.spec.containers[0].image} {.spec.template.spec.imagePullSecrets[*].name}";
    let pod = cluster.kubectl(&["get", "deployment", &namespace, "-n", &namespace, "-o", pod]).await;
    assert_eq!(pod, "registry.example:5000/team/pm:1 shared own");

    umbrella.set(&values(false));
    cluster.helm(&["upgrade", "platform", umbrella.path(), "--namespace", &namespace]).await;
    assert_eq!(deployments().await, "");
}

/// Without a parent's condition the value would do nothing, which nobody would notice.
#[tokio::test]
async fn it_cannot_be_switched_off_without_a_condition() {
    let template = ["template", "alone", &chart(), "--set", IMAGE, "--set", "enabled=false"];
    let output = cluster().await.try_helm(&template).await;
    assert!(
        output.stderr.contains("as the condition of its dependency"),
        "{}{}",
        output.stdout,
        output.stderr
    );
    assert!(!output.status.success());
}
