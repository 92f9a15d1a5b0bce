//! A real node with pods, which `hack/node` has started for this process.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};

use crate::console::Console;
use crate::names::Names;
use crate::port;
use crate::{Moto, Redis, eventually};

/// The image of applications on the node (hack/e2e makes it).
pub const APPLICATION: &str = "node.test/app:1";
/// The operator's image on the node, without its tag.
pub const OPERATOR: &str = "node.test/parameter-mirror";
/// The host name of Redis on the node.
pub const REDIS: &str = "redis.example";

/// The time limit of a start. On a busy machine the kubelet may have to restart pods.
const STARTED: Duration = Duration::from_mins(2);

/// The node, and the DNS server for its pods.
#[derive(Debug)]
pub struct Node {
    console: Console,
    _names: Names,
}

impl std::ops::Deref for Node {
    type Target = Console;

    fn deref(&self) -> &Console {
        &self.console
    }
}

impl Node {
    /// Returns the node of this process; `None` if there is none.
    pub async fn of_environment() -> Option<Self> {
        let console = Console::of_node()?;
        let address: Ipv4Addr = port::address();
        Some(Self { console, _names: Names::serve(REDIS, address).await })
    }

    /// Returns a folder with the logs of the node's own parts.
    #[must_use]
    pub fn logs() -> Option<PathBuf> {
        std::env::var_os("PARAMETER_MIRROR_NODE_LOGS").map(PathBuf::from)
    }

    /// Returns a URL of Redis for pods, with its host name.
    #[must_use]
    pub fn redis_url(redis: &Redis) -> String {
        format!("redis://{REDIS}:{}", redis.address().port())
    }

    /// Returns chart values for the image, SSM and Redis of this node.
    #[must_use]
    pub fn values(ssm: &Moto) -> Value {
        json!({
            "image": {"repository": OPERATOR, "tag": "1", "pullPolicy": "Never"},
            "redis": {"urlSecret": {"name": "redis"}},
            "extraEnv": [
                {"name": "AWS_ENDPOINT_URL_SSM", "value": ssm.endpoint()},
                {"name": "AWS_ACCESS_KEY_ID", "value": "AKIDTEST"},
                {"name": "AWS_SECRET_ACCESS_KEY", "value": "test"},
                {"name": "AWS_EC2_METADATA_DISABLED", "value": "true"},
            ],
        })
    }

    /// Builds a Deployment of a program that mounts a Secret as environment and as files, and reports that it
    /// is up with one of its keys.
    #[must_use]
    pub fn application(namespace: &str, name: &str, secret: &str, key: &str) -> Value {
        let script = format!("echo \"up with ${key}\"; exec tail -f /dev/null");
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name, "namespace": namespace},
            "spec": {"replicas": 1, "selector": {"matchLabels": {"app": name}}, "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {
                    "terminationGracePeriodSeconds": 0, "automountServiceAccountToken": false,
                    "containers": [{
                        "name": name, "image": APPLICATION, "imagePullPolicy": "Never", "command": ["sh", "-c", script],
                        "envFrom": [{"secretRef": {"name": secret}}],
                        "volumeMounts": [{"name": "config", "mountPath": "/config", "readOnly": true}],
                    }],
                    "volumes": [{"name": "config", "secret": {"secretName": secret}}],
                },
            }},
        })
    }

    /// Builds a Job that starts a program with the parameters of a mirror, from Redis alone.
    #[must_use]
    pub fn task(namespace: &str, name: &str, mirror: &str, redis: &Redis, key: &str) -> Value {
        let script = format!("echo \"up with ${key}\"");
        json!({
            "apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name, "namespace": namespace},
            "spec": {"backoffLimit": 0, "template": {"spec": {
                "restartPolicy": "Never", "automountServiceAccountToken": false,
                "containers": [{
                    "name": name, "image": APPLICATION, "imagePullPolicy": "Never",
                    "command": ["parameter-mirror-reader", "exec", "--mirror", mirror, "--", "sh", "-c", script],
                    "env": [
                        {"name": "PARAMETER_MIRROR_REDIS_URL", "value": Self::redis_url(redis)},
                        {"name": "PARAMETER_MIRROR_SUB_KEYS", "valueFrom": {"secretKeyRef": {"name": "sub-keys", "key": "keys"}}},
                    ],
                }],
            }}},
        })
    }

    /// Waits until this many pods of a Deployment are ready, and all their logs contain `up with VALUE`.
    pub async fn are_up(&self, namespace: &str, name: &str, replicas: usize, value: &str) {
        let label = format!("app={name}");
        let line = format!("up with {value}");
        eventually(&format!("{replicas} pods of {name} say {line:?}"), STARTED, async || {
            let ready =
                ["get", "deployment", name, "-n", namespace, "-o", "jsonpath={.status.readyReplicas}"];
            let ready = self.kubectl(&ready).await;
            if ready != replicas.to_string() {
                let pods = self.kubectl(&["get", "pods", "-n", namespace, "-o", "wide"]).await;
                return Err(format!("{ready} are ready\n{pods}"));
            }
            let logs = self
                .kubectl(&["logs", "-n", namespace, "-l", &label, "--tail=-1", "--max-log-requests=20"])
                .await;
            if logs.lines().filter(|said| *said == line).count() == replicas { Ok(()) } else { Err(logs) }
        })
        .await;
    }

    /// Returns the names of the operator's ready pods.
    pub async fn operators(&self, namespace: &str) -> Vec<String> {
        let ready = r#"jsonpath={range .items[*]}{.metadata.name} {.metadata.deletionTimestamp} {.status.conditions[?(@.type=="Ready")].status}{"\n"}{end}"#;
        let selector = "app.kubernetes.io/name=parameter-mirror";
        let pods = self.kubectl(&["get", "pods", "-n", namespace, "-l", selector, "-o", ready]).await;
        pods.lines().filter_map(|line| line.strip_suffix("  True")).map(str::to_owned).collect()
    }

    /// Returns the name of the leader's pod.
    pub async fn leader(&self, namespace: &str, lease: &str) -> String {
        self.kubectl(&["get", "lease", lease, "-n", namespace, "-o", "jsonpath={.spec.holderIdentity}"]).await
    }
}
