//! The parts of the demo, and what can be seen of them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use parameter_mirror_test_support::cluster::Options;
use parameter_mirror_test_support::operator::Settings;
use parameter_mirror_test_support::{Cluster, Moto, Operator, Redis, Scratch, copies, programs};
use serde_json::Value;

/// The namespace of the story.
pub const SHOP: &str = "shop";
/// The mirror of the story.
pub const MIRROR: &str = "checkout";
/// Its Secret.
pub const SECRET: &str = "checkout-config";
/// Its hash.
pub const HASH: &str = "pm:{shop/checkout}";
/// The namespace of the operator, and the name of its release and service account.
pub const SYSTEM: &str = "parameter-mirror";

/// What both targets hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// Data of the Secret.
    pub secret: BTreeMap<String, String>,
    /// What the hash serves, values decrypted.
    pub redis: BTreeMap<String, Vec<u8>>,
}

/// The real parts.
pub struct Stage {
    /// The API server, kubectl and helm.
    pub cluster: Cluster,
    /// The second target.
    pub redis: Redis,
    /// SSM.
    pub moto: Moto,
    /// The operator, once it is installed.
    pub operator: Option<Operator>,
    client: kube::Client,
    scratch: Scratch,
}

impl Stage {
    /// Starts all parts but the operator.
    pub async fn set() -> Self {
        let controllers = Options { controller_manager: true };
        let (cluster, redis, moto) = tokio::join!(Cluster::start(controllers), Redis::start(), Moto::start());
        let client = cluster.client().await;
        let scratch = Scratch::new("demo").expect("a temporary folder");
        Self { cluster, redis, moto, operator: None, client, scratch }
    }

    /// The program that the Makefile has just built.
    pub fn program() -> PathBuf {
        let this = std::env::current_exe().expect("the path of this program");
        this.with_file_name("parameter-mirror")
    }

    /// Starts the operator with the rights of the chart's service account. There is no node here that could run its pod.
    pub async fn start_operator(&mut self) {
        let settings = Settings {
            program: Self::program(),
            kubeconfig: self.cluster.service_account_kubeconfig(SYSTEM, SYSTEM, self.scratch.path()).await,
            namespace: SYSTEM.to_owned(),
            watch: Vec::new(),
            ssm: self.moto.endpoint(),
            redis: Some(self.redis.url()),
            arguments: Vec::new(),
            environment: Vec::new(),
        };
        self.operator = Some(Operator::start(settings).await);
    }

    /// The operator, which runs by now.
    pub fn operator(&mut self) -> &mut Operator {
        self.operator.as_mut().expect("the operator runs")
    }

    /// `status`, `reason` and `message` of a condition; empty while there is none.
    pub async fn condition(&self, type_: &str) -> [String; 3] {
        let mirror = self.cluster.kubectl(&["get", "pmirror", MIRROR, "-n", SHOP, "-o", "json"]).await;
        let mirror: Value = serde_json::from_str(&mirror).expect("kubectl prints JSON");
        let conditions = mirror["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let condition = conditions.into_iter().find(|one| one["type"] == type_).unwrap_or_default();
        ["status", "reason", "message"].map(|name| condition[name].as_str().unwrap_or_default().to_owned())
    }

    /// What both targets hold; `None` while one of them holds nothing.
    pub async fn held(&self) -> Option<Held> {
        let secret = copies::secret_data(&self.client, SHOP, SECRET).await?;
        if self.redis.hash(HASH).await.is_empty() {
            return None;
        }
        let keys = copies::keys(&self.client, SYSTEM).await;
        Some(Held { secret, redis: copies::redis_content(&self.redis, HASH, &keys).await })
    }

    /// What a write would move: the version of the Secret, and the hash's counter of content writes.
    pub async fn versions(&self) -> [String; 2] {
        let version = ["get", "secret", SECRET, "-n", SHOP, "-o", "jsonpath={.metadata.resourceVersion}"];
        [self.cluster.kubectl(&version).await, self.redis.cli(&["hget", HASH, "@generation"]).await]
    }

    /// Puts the log of every part into one folder that stays.
    pub fn save_logs(&self) -> Option<PathBuf> {
        let folder = std::env::temp_dir().join(format!("parameter-mirror-demo-logs-{}", std::process::id()));
        fs::create_dir_all(&folder).ok()?;
        if let Some(operator) = &self.operator {
            fs::write(folder.join("operator.log"), operator.log()).ok()?;
        }
        for part in [self.cluster.dir(), self.redis.process().dir(), self.moto.process().dir()] {
            copy_logs(part, &folder)?;
        }
        Some(folder)
    }

    /// Commands for somebody who wants to play on.
    pub fn how_to_play(&self) -> String {
        let redis = self.redis.url();
        let port = redis.rsplit(':').next().unwrap_or_default();
        format!(
            r#"
It keeps running until Ctrl-C. In another terminal:

  export PATH={path}:$PATH KUBECONFIG={kubeconfig}
  kubectl get pmirror -A
  kubectl describe pmirror {MIRROR} -n {SHOP}
  kubectl get secret {SECRET} -n {SHOP} -o yaml
  redis-cli -p {port} HGET '{HASH}' /prod/checkout/db/host

  # SSM is moto; change a parameter, or stop it (kill -STOP {ssm_pid}) and start it again (kill -CONT {ssm_pid}):
  curl -s {ssm} -H 'X-Amz-Target: AmazonSSM.PutParameter' -H 'Content-Type: application/x-amz-json-1.1' \
    -H 'Authorization: AWS4-HMAC-SHA256 Credential=demo/20260101/us-east-1/ssm/aws4_request' \
    -d '{{"Name": "/prod/checkout/db/host", "Value": "db3.internal", "Type": "String", "Overwrite": true}}'
"#,
            path = programs::folder().display(),
            kubeconfig = self.cluster.kubeconfig().display(),
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
