//! The CRDs as part of a release.

use parameter_mirror_test_support::Cluster;
use parameter_mirror_test_support::cluster::Options;
use parameter_mirror_test_support::installation::IMAGE;

use super::chart;

const CRD: &str = "crd/parametermirrors.parameter-mirror.dev";

/// Uses its own cluster, because CRDs are shared by everything in a cluster.
#[tokio::test]
async fn uninstalling_deletes_the_crds_only_if_they_are_not_kept() {
    let cluster = Cluster::start(Options::default()).await;
    let chart = chart();
    for keep in [true, false] {
        let keeps = format!("crds.keep={keep}");
        let install = ["install", "pm", &chart, "--namespace", "default", "--set", IMAGE, "--set", &keeps];
        cluster.helm(&install).await;
        cluster.kubectl(&["wait", "--for=condition=Established", CRD, "--timeout=30s"]).await;
        cluster.helm(&["uninstall", "pm", "--namespace", "default"]).await;
        if keep {
            cluster.kubectl(&["get", CRD]).await;
        } else {
            cluster.kubectl(&["wait", "--for=delete", CRD, "--timeout=30s"]).await;
        }
    }
}
