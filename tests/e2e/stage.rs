//! The parts of the story, and how to observe them.

use std::fs;
use std::path::{Path, PathBuf};

use parameter_mirror_test_support::{Mirrored, Moto, Node, Redis, Scratch};
use serde_json::Value;

/// The namespace of the operator, and the name of its release.
pub const SYSTEM: &str = "parameter-mirror";
/// The namespace of the story.
pub const SHOP: &str = "shop";
/// The application of the story.
pub const APP: &str = "checkout";
/// The mirror of the story and its Secret.
pub const MIRROR: &str = "checkout";
/// The Secret of the mirror.
pub const SECRET: &str = "checkout-config";

/// The parts.
pub struct Stage {
    pub node: Node,
    pub redis: Redis,
    pub ssm: Moto,
    /// The mirror of the story.
    pub mirror: Mirrored,
    scratch: Scratch,
}

impl Stage {
    pub async fn set(node: Node) -> Self {
        let (redis, ssm) = tokio::join!(Redis::start(), Moto::start());
        let mirror = Mirrored::new(&node, SYSTEM, [SHOP, MIRROR, SECRET]);
        Self { node, redis, ssm, mirror, scratch: Scratch::new("e2e").unwrap() }
    }

    /// Writes a new or changed parameter to SSM.
    pub async fn put(&self, name: &str, value: &str, kind: &str) {
        self.ssm.ssm("us-east-1").put(name, value, kind).await;
    }

    pub async fn apply(&self, object: Value) {
        self.node.kubectl_apply(&object.to_string()).await;
    }

    /// Runs `helm upgrade --install` with the node's values and these, and waits until everything is ready.
    pub async fn release(&self, extra: &[&str]) {
        let values = self.file("values.json", &Node::values(&self.ssm).to_string());
        let chart = root().join("charts/parameter-mirror");
        let (chart, values) = (chart.to_str().unwrap(), values.to_str().unwrap());
        let mut args = vec!["upgrade", "--install", SYSTEM, chart, "--namespace", SYSTEM, "--values", values];
        args.extend(["--wait", "--timeout", "2m"]);
        args.extend(extra);
        self.node.helm(&args).await;
    }

    /// Returns the content of a file in a pod of the application.
    pub async fn file_in_pod(&self, path: &str) -> String {
        self.node.kubectl(&["exec", "-n", SHOP, &format!("deployment/{APP}"), "--", "cat", path]).await
    }

    /// Returns information that helps to find the cause of a failure.
    pub async fn last_words(&self) -> String {
        let selector = "app.kubernetes.io/name=parameter-mirror";
        let mut words = String::new();
        for args in [
            &["get", "pods,pmirror", "-A", "-o", "wide"][..],
            &["get", "events", "-A", "--sort-by=.metadata.creationTimestamp"],
            &["logs", "-n", SYSTEM, "-l", selector, "--tail=30", "--prefix"],
        ] {
            let output = self.node.try_kubectl(args).await;
            words += &["\n$ kubectl ", &args.join(" "), "\n", &output.stdout, &output.stderr].concat();
        }
        words
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.scratch.path().join(name);
        fs::write(&path, text).unwrap();
        path
    }
}

/// Returns the root of the repository.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
