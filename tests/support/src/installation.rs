//! The operator's CRDs and chart, installed in a cluster: the prerequisites of an operator process.

use std::path::{Path, PathBuf};

use crate::Cluster;
use crate::operator::Settings;

/// The namespace of the operator, its release and its service account.
pub const HOME: &str = "parameter-mirror";

/// The one value of the chart that has no default, for `helm --set`. No node pulls it.
pub const IMAGE: &str = "image.repository=registry.example/parameter-mirror";

/// Applies the CRDs and installs the chart as `HOME`. No node runs its pods.
pub async fn install(cluster: &Cluster) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let path = |name: &str| root.join(name).to_string_lossy().into_owned();
    cluster.kubectl(&["apply", "-f", &path("crds")]).await;
    cluster.kubectl(&["wait", "--for=condition=Established", "crd", "--all", "--timeout=30s"]).await;
    let chart = path("charts/parameter-mirror");
    let install = ["install", HOME, &chart, "--namespace", HOME, "--create-namespace", "--set", IMAGE];
    cluster.helm(&install).await;
}

/// Returns the settings of an operator with the permissions of the chart's service account. Writes its
/// kubeconfig into `dir`.
pub async fn settings(cluster: &Cluster, dir: &Path, program: PathBuf) -> Settings {
    Settings {
        program,
        kubeconfig: cluster.service_account_kubeconfig(HOME, HOME, dir).await,
        namespace: HOME.to_owned(),
        watch: Vec::new(),
        ssm: String::new(),
        redis: None,
        arguments: Vec::new(),
        environment: Vec::new(),
    }
}
