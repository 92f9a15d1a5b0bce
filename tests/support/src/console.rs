//! The tools of an administrator: kubectl, helm and a client.

use std::path::{Path, PathBuf};
use std::process::Command;

use kube::config::{KubeConfigOptions, Kubeconfig};

use crate::command::{self, Output};
use crate::process::clean_environment;
use crate::programs;

/// kubectl, helm and a client with administrator permissions, for any kind of cluster.
#[derive(Clone, Debug)]
pub struct Console {
    kubeconfig: PathBuf,
    /// The working directory of the programs, with their caches.
    home: PathBuf,
}

impl Console {
    /// Uses this kubeconfig; the programs run in `home`.
    #[must_use]
    pub fn new(kubeconfig: &Path, home: &Path) -> Self {
        Self { kubeconfig: kubeconfig.to_owned(), home: home.to_owned() }
    }

    /// Returns the console of the node that `hack/node` has started for this process; `None` elsewhere.
    #[must_use]
    pub fn of_node() -> Option<Self> {
        std::env::var_os("PARAMETER_MIRROR_NODE_ADDRESS")?;
        let kubeconfig = PathBuf::from(std::env::var_os("KUBECONFIG")?);
        let home = kubeconfig.parent()?.to_owned();
        Some(Self { kubeconfig, home })
    }

    /// Returns the path of the administrator's kubeconfig.
    #[must_use]
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// Runs `kubectl` and returns its standard output.
    ///
    /// # Panics
    /// When it fails.
    pub async fn kubectl(&self, args: &[&str]) -> String {
        succeeded("kubectl", args, self.try_kubectl(args).await)
    }

    /// Runs `kubectl`, which may fail.
    pub async fn try_kubectl(&self, args: &[&str]) -> Output {
        command::run(self.command("kubectl", args), None).await
    }

    /// Runs `kubectl apply` with YAML or JSON.
    ///
    /// # Panics
    /// When it fails.
    pub async fn kubectl_apply(&self, yaml: &str) -> String {
        let args = ["apply", "-f", "-"];
        succeeded("kubectl", &args, self.try_kubectl_apply(yaml).await)
    }

    /// Like [`kubectl_apply`](Self::kubectl_apply), for objects that the API server may refuse.
    pub async fn try_kubectl_apply(&self, yaml: &str) -> Output {
        command::run(self.command("kubectl", &["apply", "-f", "-"]), Some(yaml)).await
    }

    /// Runs `helm` and returns its standard output.
    ///
    /// # Panics
    /// When it fails.
    pub async fn helm(&self, args: &[&str]) -> String {
        succeeded("helm", args, self.try_helm(args).await)
    }

    /// Runs `helm`, which may fail.
    pub async fn try_helm(&self, args: &[&str]) -> Output {
        command::run(self.command("helm", args), None).await
    }

    /// Creates a client. Each test needs its own, because a client belongs to the runtime it was created in.
    ///
    /// # Panics
    /// When the kubeconfig cannot be read.
    pub async fn client(&self) -> kube::Client {
        self.try_client().await.expect("a client of the test cluster")
    }

    pub(crate) async fn try_client(&self) -> Result<kube::Client, Box<dyn std::error::Error>> {
        let kubeconfig = Kubeconfig::read_from(&self.kubeconfig)?;
        let config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
        Ok(kube::Client::try_from(config)?)
    }

    fn command(&self, program: &str, args: &[&str]) -> Command {
        let mut command = Command::new(programs::path(program));
        clean_environment(&mut command, &self.home);
        command.env("KUBECONFIG", &self.kubeconfig).args(args);
        command
    }
}

pub(crate) fn succeeded(program: &str, args: &[&str], output: Output) -> String {
    assert!(
        output.status.success(),
        "{program} {args:?}: {}\n{}{}",
        output.status,
        output.stdout,
        output.stderr
    );
    output.stdout
}
