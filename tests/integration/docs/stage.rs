//! The stage on which pages are run: a cluster, a Redis, an SSM, and a shell in a folder with the
//! repository's content.

use std::collections::BTreeSet;
use std::os::unix::fs::symlink;
use std::process::Stdio;

use parameter_mirror_test_support::installation::IMAGE;
use parameter_mirror_test_support::{Cluster, Operator, Redis, Scratch, Ssm, programs};

use super::page::{Block, Check, Item, items, text};
use crate::chart::WITH_CRDS;
use crate::world::{operator_settings, root};

pub struct Stage {
    pub cluster: Cluster,
    redis: Redis,
    pub ssm: Ssm,
    pub operator: Option<Operator>,
    /// The working directory of the commands.
    folder: Scratch,
    /// The output of the last command.
    pub printed: String,
    runs: usize,
}

impl Stage {
    pub async fn start(cluster: Cluster) -> Self {
        let (ssm, folder) = (Ssm::start(), Scratch::new("docs").unwrap());
        ssm.put("/prod/checkout/db/host", "db.internal");
        ssm.put("/prod/checkout/db/port", "5432");
        ssm.put_secure("/prod/checkout/db/password", "hunter2");
        for name in ["charts", "crds", "deploy"] {
            symlink(root().join(name), folder.path().join(name)).unwrap();
        }
        let redis = Redis::start().await;
        Self { cluster, redis, ssm, operator: None, folder, printed: String::new(), runs: 0 }
    }

    pub fn has_operator(&self) -> bool {
        self.operator.is_some()
    }

    /// Returns how many blocks were run.
    pub fn runs(&self) -> usize {
        self.runs
    }

    /// Runs everything on a page, in order.
    pub async fn play(&mut self, page: &str) {
        for item in items(&text(page)) {
            match item {
                Item::Direction(direction) => self.direct(&direction).await,
                Item::Block(block) => self.check(&block, &format!("{page}:{}", block.line)).await,
            }
        }
    }

    async fn direct(&self, direction: &str) {
        match direction {
            "SSM is down" => self.ssm.refuse(),
            "SSM is back" => self.ssm.listen_again(),
            "somebody deletes two of three parameters" => {
                self.ssm.delete("/prod/checkout/db/password");
                self.ssm.delete("/prod/checkout/db/port");
            }
            "the key Secret is lost" => {
                let lose = "kubectl delete secret parameter-mirror-keys --namespace parameter-mirror
                    kubectl annotate pmirror checkout --namespace shop --overwrite parameter-mirror.dev/sync-at=without-keys
                    kubectl wait pmirror/checkout --namespace shop --timeout=60s \
                      --for=jsonpath='{.status.conditions[?(@.type==\"Degraded\")].reason}'=KeyMissing";
                self.bash(&[], lose, direction).await;
            }
            other => panic!("nobody knows how to play: {other}"),
        }
    }

    /// Checks one block.
    pub async fn check(&mut self, block: &Block, at: &str) {
        match block.check().unwrap_or_else(|| panic!("{at}: a block that nothing checks")) {
            Check::Run => {
                self.printed = self.bash(&[], &block.text, at).await;
                self.runs += 1;
                // No node runs the pod of the Deployment; a process with its ServiceAccount replaces it.
                if block.text.contains("helm install") {
                    self.start_operator().await;
                }
            }
            Check::Output => {
                let (printed, page) = (&self.printed, &block.text);
                assert_eq!(words(printed), words(page), "{at} printed:\n{printed}\nthe page says:\n{page}");
            }
            Check::Syntax => drop(self.bash(&["-n"], &block.text, at).await),
            Check::Make => assert_target(&block.text, at),
            Check::Objects => {
                let file = self.file("objects.yaml", &block.text);
                let apply = ["apply", "--dry-run=server", "-f", &file];
                let output = self.cluster.try_kubectl(&apply).await;
                assert!(output.status.success(), "{at}: {}", output.stderr);
            }
            Check::Values => {
                let file = self.file("values.yaml", &block.text);
                let chart = root().join("charts/parameter-mirror");
                let template = ["template", chart.to_str().unwrap(), "--set", IMAGE, "--values", &file];
                let output = self.cluster.try_helm(&[&template[..], &WITH_CRDS].concat()).await;
                assert!(output.status.success(), "{at}: {}", output.stderr);
            }
            Check::Policy => assert_policy(&block.text),
            Check::Json => drop(serde_json::from_str::<serde_json::Value>(&block.text).expect(at)),
            Check::Queries => self.assert_metrics(&block.text, at).await,
            Check::Recipe => {}
            Check::Drawing => {
                let kinds = ["flowchart ", "sequenceDiagram", "stateDiagram-v2"];
                assert!(kinds.iter().any(|kind| block.text.starts_with(kind)), "{at}: no drawing");
            }
        }
    }

    fn file(&self, name: &str, text: &str) -> String {
        let path = self.folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }

    async fn start_operator(&mut self) {
        let (home, account) = ("parameter-mirror", "parameter-mirror");
        let mut settings = operator_settings(&self.cluster, home, account, self.folder.path()).await;
        settings.ssm = self.ssm.endpoint();
        settings.redis = Some(self.redis.url());
        self.operator = Some(Operator::start(settings).await);
    }

    /// Runs a block as a reader would type it, in a folder that looks like the root of the repository.
    async fn bash(&self, options: &[&str], text: &str, at: &str) -> String {
        let program = std::path::Path::new(env!("CARGO_BIN_EXE_parameter-mirror"));
        let path = [programs::folder(), program.parent().unwrap()].map(|folder| folder.to_str().unwrap());
        let path = format!("{}:{}", path.join(":"), std::env::var("PATH").unwrap());
        let mut bash = tokio::process::Command::new("bash");
        bash.args(options).args(["-euo", "pipefail", "-c", text]).current_dir(self.folder.path());
        bash.env_clear().env("PATH", path);
        bash.env("KUBECONFIG", self.cluster.kubeconfig()).env("HOME", self.cluster.dir());
        bash.env("REDIS_URL", self.redis.url()).stdin(Stdio::null()).kill_on_drop(true);
        let output = bash.output().await.unwrap();
        let (stdout, stderr) =
            (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{at}\n{text}\n{stdout}{stderr}\noperator:\n{}", self.log());
        stdout.into_owned()
    }

    /// Returns the operator's log.
    pub fn log(&self) -> String {
        self.operator.as_ref().map(Operator::log).unwrap_or_default()
    }

    /// Asserts that the operator has every metric in these queries.
    async fn assert_metrics(&self, queries: &str, at: &str) {
        let operator = self.operator.as_ref().unwrap_or_else(|| panic!("{at}: there is no operator yet"));
        let (_, text) = operator.get("/metrics").await.unwrap();
        let has: BTreeSet<&str> =
            text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
        let word = |c: char| !c.is_ascii_alphanumeric() && c != '_';
        let named: Vec<&str> =
            queries.split(word).filter(|word| word.starts_with("parameter_mirror_")).collect();
        assert!(!named.is_empty(), "{at}: no metric is named");
        for name in named {
            // OpenMetrics names a counter without the suffix of its samples.
            assert!(has.contains(name.trim_end_matches("_total")), "{at}: there is no metric {name}\n{text}");
        }
    }
}

/// Splits each line into words; all ages are equal.
fn words(text: &str) -> Vec<Vec<&str>> {
    let is_age = |word: &str| {
        word.len() > 1
            && word.starts_with(|c: char| c.is_ascii_digit())
            && word.ends_with(['s', 'm', 'h', 'd'])
    };
    let word = |word| if is_age(word) { "AGE" } else { word };
    text.lines().map(|line| line.split_whitespace().map(word).collect()).collect()
}

/// Asserts that the Makefile has the target.
fn assert_target(command: &str, at: &str) {
    let makefile = text("Makefile");
    for line in command.lines() {
        let target = line.split_whitespace().nth(1).unwrap_or_default();
        assert!(makefile.contains(&format!("\n{target}:")), "{at}: make has no target {target}");
    }
}

/// Asserts that the policy allows what the operator calls, and nothing else of SSM.
fn assert_policy(text: &str) {
    let policy: serde_json::Value = serde_json::from_str(text).unwrap();
    let actions = &policy["Statement"][0]["Action"];
    assert_eq!(*actions, serde_json::json!(["ssm:GetParametersByPath", "ssm:GetParameters"]));
}
