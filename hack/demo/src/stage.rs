//! The parts of the demo, and how to observe them.

use std::fs;
use std::path::{Path, PathBuf};

use parameter_mirror_test_support::{Mirrored, Moto, Redis, Scratch, programs};

use crate::kubernetes::{Kubernetes, SYSTEM};

/// The namespace of the story.
pub const SHOP: &str = "shop";
/// The mirror of the story.
pub const MIRROR: &str = "checkout";
/// Its Secret.
pub const SECRET: &str = "checkout-config";
/// Its hash.
pub const HASH: &str = "pm:{shop/checkout}";

/// The real parts.
pub struct Stage {
    /// Kubernetes with the operator, kubectl and helm.
    pub kubernetes: Kubernetes,
    /// The second target.
    pub redis: Redis,
    /// SSM.
    pub moto: Moto,
    /// The mirror of the story.
    pub mirror: Mirrored,
    scratch: Scratch,
}

impl Stage {
    /// Starts all parts except the operator.
    pub async fn set() -> Self {
        let (kubernetes, redis, moto) =
            tokio::join!(Kubernetes::find_or_start(), Redis::start(), Moto::start());
        let mirror = Mirrored::new(&kubernetes, SYSTEM, [SHOP, MIRROR, SECRET]);
        let scratch = Scratch::new("demo").expect("a temporary folder");
        Self { kubernetes, redis, moto, mirror, scratch }
    }

    /// Installs the chart; returns a description of the operator.
    pub async fn install(&mut self) -> &'static str {
        self.kubernetes.install(&self.scratch, &self.moto, &self.redis).await
    }

    /// Copies the log of every part into one folder that stays.
    pub fn save_logs(&self) -> Option<PathBuf> {
        let folder = std::env::temp_dir().join(format!("parameter-mirror-demo-logs-{}", std::process::id()));
        fs::create_dir_all(&folder).ok()?;
        let (parts, operator) = self.kubernetes.logs();
        if let Some(log) = operator {
            fs::write(folder.join("operator.log"), log).ok()?;
        }
        let own = [self.redis.process().dir(), self.moto.process().dir()];
        for part in parts.iter().map(PathBuf::as_path).chain(own) {
            copy_logs(part, &folder)?;
        }
        Some(folder)
    }

    /// Returns commands for users who want to experiment.
    pub fn how_to_play(&self) -> String {
        let redis = self.redis.address();
        format!(
            r#"
It keeps running until Ctrl-C. In another terminal:

{enter}  export PATH={path}:$PATH KUBECONFIG={kubeconfig}
  kubectl get pmirror -A
  kubectl describe pmirror {MIRROR} -n {SHOP}
  kubectl get secret {SECRET} -n {SHOP} -o yaml
  redis-cli -h {host} -p {port} HGET '{HASH}' /prod/checkout/db/host

  # SSM is moto; change a parameter, or stop it (kill -STOP {ssm_pid}) and start it again (kill -CONT {ssm_pid}):
  curl -s {ssm} -H 'X-Amz-Target: AmazonSSM.PutParameter' -H 'Content-Type: application/x-amz-json-1.1' \
    -H 'Authorization: AWS4-HMAC-SHA256 Credential=demo/20260101/us-east-1/ssm/aws4_request' \
    -d '{{"Name": "/prod/checkout/db/host", "Value": "db3.internal", "Type": "String", "Overwrite": true}}'
"#,
            enter = self.kubernetes.how_to_enter(),
            path = programs::folder().display(),
            host = redis.ip(),
            port = redis.port(),
            kubeconfig = self.kubernetes.kubeconfig().display(),
            ssm = self.moto.endpoint(),
            ssm_pid = self.moto.process().pid(),
        )
    }
}

fn copy_logs(from: &Path, to: &Path) -> Option<()> {
    for entry in fs::read_dir(from).ok()?.flatten() {
        let path = entry.path();
        if path.extension().is_some_and(|extension| extension == "log") {
            fs::copy(&path, to.join(entry.file_name())).ok()?;
        }
    }
    Some(())
}
