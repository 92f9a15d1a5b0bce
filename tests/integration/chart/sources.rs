//! `ParameterSource`s as values of the chart.

use std::fs;

use parameter_mirror_test_support::cluster::Options;
use parameter_mirror_test_support::command::Output;
use parameter_mirror_test_support::installation::IMAGE;
use parameter_mirror_test_support::{Cluster, Scratch};
use serde_json::json;

use super::chart;
use crate::world::{SOON, eventually};

struct Release {
    cluster: Cluster,
    scratch: Scratch,
}

impl Release {
    /// Installs or upgrades the chart with one source that grants this path to namespace `shop`, or with none.
    async fn upgrade(&self, path: Option<&str>, settings: &[&str]) -> Output {
        let grant = |path| json!([{"namespaces": ["shop"], "paths": [path]}]);
        let source =
            |path| json!({"name": "default", "spec": {"region": "us-east-1", "grants": grant(path)}});
        let values = json!({"sources": path.into_iter().map(source).collect::<Vec<_>>()});
        let file = self.scratch.path().join("values.yaml");
        fs::write(&file, values.to_string()).unwrap();
        let chart = chart();
        let upgrade = ["upgrade", "--install", "pm", &chart, "--namespace", "default", "--set", IMAGE];
        let values = ["--values", file.to_str().unwrap()];
        self.cluster.try_helm(&[&upgrade[..], &values, settings].concat()).await
    }

    /// Returns the UID of the source and the path that it grants; nothing if there is no source.
    async fn source(&self) -> String {
        let columns = "jsonpath={range .items[*]}{.metadata.uid} {.spec.grants[0].paths[0]}{end}";
        self.cluster.kubectl(&["get", "psource", "-o", columns]).await
    }
}

#[track_caller]
fn succeeded(output: &Output) {
    assert!(output.status.success(), "{}{}", output.stdout, output.stderr);
}

/// Uses its own cluster, because the first install has to bring the CRDs.
#[tokio::test]
async fn sources_need_the_crds_and_then_follow_the_release() {
    let cluster = Cluster::start(Options::default()).await;
    let release = Release { cluster, scratch: Scratch::new("sources").unwrap() };
    let refused = release.upgrade(Some("/one"), &[]).await;
    let says = "Install without `sources` and add them with a helm upgrade";
    assert!(!refused.status.success() && refused.stderr.contains(says), "{}", refused.stderr);
    assert_eq!(release.cluster.kubectl(&["get", "deployment", "-n", "default", "-o", "name"]).await, "");

    succeeded(&release.upgrade(None, &[]).await);
    eventually("the API server knows the kind", SOON, async || {
        let output = release.cluster.try_kubectl(&["get", "psource"]).await;
        if output.status.success() { Ok(()) } else { Err(output.stderr) }
    })
    .await;
    succeeded(&release.upgrade(Some("/one"), &[]).await);
    let first = release.source().await;
    let (uid, path) = first.split_once(' ').unwrap();
    assert_eq!(path, "/one");

    // It is changed in place: a source that is deleted and created again grants nothing in between.
    succeeded(&release.upgrade(Some("/two"), &[]).await);
    assert_eq!(release.source().await, format!("{uid} /two"));
    succeeded(&release.upgrade(None, &[]).await);
    assert_eq!(release.source().await, "");

    // Where the CRDs come from elsewhere, the first install has sources too.
    release.cluster.helm(&["uninstall", "pm", "--namespace", "default"]).await;
    succeeded(&release.upgrade(Some("/three"), &["--set", "crds.enabled=false"]).await);
    assert!(release.source().await.ends_with(" /three"));
    release.cluster.helm(&["uninstall", "pm", "--namespace", "default"]).await;
    assert_eq!(release.source().await, "");
}
