//! The README, run: every command block marked `<!-- run -->`, in order, against real parts; what is marked
//! `<!-- output -->` is what the block before it must print, ages aside. `make demo` and `make test` run by themselves.

use std::path::PathBuf;
use std::process::Stdio;

use parameter_mirror_test_support::cluster::{Cluster, Options};
use parameter_mirror_test_support::{Operator, Redis, Scratch, Ssm, programs};

use crate::world::{cluster, operator_settings, root};

/// A fenced block with the marker on the line before it.
pub struct Block {
    pub marker: String,
    pub text: String,
}

/// The blocks of a page, in order.
pub fn blocks(page: &str) -> Vec<Block> {
    let readme = std::fs::read_to_string(root().join(page)).unwrap();
    let mut blocks = Vec::new();
    let (mut marker, mut open) = (String::new(), None::<String>);
    for line in readme.lines() {
        match &mut open {
            Some(text) if line.starts_with("```") => {
                blocks.push(Block { marker: std::mem::take(&mut marker), text: std::mem::take(text) });
                open = None;
            }
            Some(text) => text.extend([line, "\n"]),
            None if line.starts_with("```") => open = Some(String::new()),
            None if line.starts_with("<!--") => {
                let inner = line.trim_start_matches("<!--").trim_end_matches("-->").trim();
                inner.clone_into(&mut marker);
            }
            None => marker.clear(),
        }
    }
    blocks
}

/// Words of each line; an age is an age.
fn words(text: &str) -> Vec<Vec<&str>> {
    let is_age = |word: &str| {
        word.len() > 1
            && word.starts_with(|c: char| c.is_ascii_digit())
            && word.ends_with(['s', 'm', 'h', 'd'])
    };
    let word = |word| if is_age(word) { "AGE" } else { word };
    text.lines().map(|line| line.split_whitespace().map(word).collect()).collect()
}

/// What the commands of a page run against.
pub struct Stage {
    pub cluster: Cluster,
    pub redis: Redis,
    /// Where they run.
    pub folder: PathBuf,
}

impl Stage {
    /// Runs a block as a reader would type it.
    pub async fn run(&self, text: &str) -> String {
        let program = std::path::Path::new(env!("CARGO_BIN_EXE_parameter-mirror"));
        let path = [programs::folder(), program.parent().unwrap()].map(|folder| folder.to_str().unwrap());
        let path = format!("{}:{}", path.join(":"), std::env::var("PATH").unwrap());
        let mut bash = tokio::process::Command::new("bash");
        bash.args(["-euo", "pipefail", "-c", text]).current_dir(&self.folder).env_clear().env("PATH", path);
        bash.env("KUBECONFIG", self.cluster.kubeconfig()).env("HOME", self.cluster.dir());
        bash.env("REDIS_URL", self.redis.url()).stdin(Stdio::null()).kill_on_drop(true);
        let output = bash.output().await.unwrap();
        let (stdout, stderr) =
            (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{text}\n{stdout}{stderr}");
        stdout.into_owned()
    }
}

#[tokio::test]
async fn every_command_of_the_readme_does_what_it_says() {
    let stage = Stage {
        cluster: Cluster::start(Options { controller_manager: true }).await,
        redis: Redis::start().await,
        folder: root().to_owned(),
    };
    let (ssm, scratch) = (Ssm::start(), Scratch::new("readme").unwrap());
    ssm.put("/prod/checkout/db/host", "db.internal");
    ssm.put("/prod/checkout/db/port", "5432");
    ssm.put_secure("/prod/checkout/db/password", "hunter2");
    let (mut operator, mut printed, mut run) = (None, String::new(), 0);
    for block in blocks("README.md") {
        match block.marker.as_str() {
            "run" => {
                printed = stage.run(&block.text).await;
                run += 1;
            }
            "output" => assert_eq!(
                words(&printed),
                words(&block.text),
                "printed:\n{printed}\nREADME:\n{}",
                block.text
            ),
            "policy" => assert_policy(&block.text),
            _ => assert!(
                block.text.starts_with("make ") || block.text.starts_with("flowchart "),
                "a block that nothing runs:\n{}",
                block.text
            ),
        }
        // No node here runs the pod of the Deployment: the process with its ServiceAccount stands in.
        if block.text.contains("helm install") {
            let (home, account) = ("parameter-mirror", "parameter-mirror");
            let mut settings = operator_settings(&stage.cluster, home, account, scratch.path()).await;
            settings.ssm = ssm.endpoint();
            settings.redis = Some(stage.redis.url());
            operator = Some(Operator::start(settings).await);
        }
    }
    assert!(operator.is_some() && run >= 9, "only {run} blocks were run");
}

/// The pod of docs/reader.md is one that the API server takes.
#[tokio::test]
async fn the_sidecar_of_the_readers_page_is_a_pod() {
    let page = std::fs::read_to_string(root().join("docs/reader.md")).unwrap();
    let (_, rest) = page.split_once("<!-- recipe: sidecar -->\n```yaml\n").unwrap();
    let (pod, _) = rest.split_once("```").unwrap();
    let namespace = cluster().await.namespace("sidecar").await;
    let scratch = Scratch::new("sidecar").unwrap();
    std::fs::write(scratch.path().join("pod.yaml"), pod).unwrap();
    let file = scratch.path().join("pod.yaml");
    // No controllers run here that would make it.
    cluster().await.kubectl(&["create", "serviceaccount", "default", "--namespace", &namespace]).await;
    let apply = ["apply", "--dry-run=server", "--namespace", &namespace, "-f", file.to_str().unwrap()];
    let told = cluster().await.kubectl(&apply).await;
    assert!(told.contains("pod/checkout created"), "{told}");
}

/// The policy allows what the operator calls, and nothing else of SSM.
fn assert_policy(text: &str) {
    let policy: serde_json::Value = serde_json::from_str(text).unwrap();
    let actions = &policy["Statement"][0]["Action"];
    assert_eq!(*actions, serde_json::json!(["ssm:GetParametersByPath", "ssm:GetParameters"]));
}
