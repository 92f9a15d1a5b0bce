//! Another version of the operator takes over live data, in both directions, and writes nothing
//! (`hack/upgrade COMMIT`).
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

use std::path::{Path, PathBuf};
use std::time::Duration;

use parameter_mirror_test_support::cluster::Options;
use parameter_mirror_test_support::installation::IMAGE;
use parameter_mirror_test_support::operator::Settings;
use parameter_mirror_test_support::{Cluster, Held, Mirrored, Operator, Redis, Scratch, Ssm, eventually};
use serde_json::{Value, json};

const SYSTEM: &str = "parameter-mirror";
const SHOP: &str = "shop";
/// Namespace, mirror and Secret: a path with both targets, names and selectors with everything encrypted, a
/// Secret of another type and format.
const MIRRORS: [[&str; 3]; 3] =
    [[SHOP, "checkout", "checkout"], [SHOP, "pinned", "pinned-config"], [SHOP, "dotted", "dotted"]];
const LATER: Duration = Duration::from_mins(1);

struct Upgrade {
    cluster: Cluster,
    ssm: Ssm,
    redis: Redis,
    scratch: Scratch,
}

/// What a write would change, and what is served.
type Seen = Vec<([String; 2], Held)>;

#[tokio::test]
async fn data_outlives_an_upgrade_and_a_downgrade_without_a_write() {
    let old = std::env::var_os("PARAMETER_MIRROR_OLD").expect("run it with hack/upgrade COMMIT");
    let (old, new) = (PathBuf::from(old), Path::new(env!("CARGO_MANIFEST_DIR")));
    let old_program = PathBuf::from(std::env::var_os("PARAMETER_MIRROR_OLD_PROGRAM").unwrap());
    let new_program = Path::new(env!("CARGO_BIN_EXE_parameter-mirror"));
    let world = Upgrade::start().await;

    let operator = world.run(&old, &old_program).await;
    world.make_mirrors().await;
    let before = world.synced("old").await;
    operator.terminate().await;

    let operator = world.run(new, new_program).await;
    assert_eq!(world.synced("new").await, before, "the upgrade wrote");
    world.ssm.put("/app/db/host", "db2.internal");
    let changed = world.changed("db2.internal").await;
    operator.terminate().await;

    let operator = world.run(&old, &old_program).await;
    assert_eq!(world.synced("old-again").await, changed, "the downgrade wrote");
    world.ssm.put("/app/db/host", "db3.internal");
    let changed = world.changed("db3.internal").await;
    operator.terminate().await;

    let operator = world.run(new, new_program).await;
    assert_eq!(world.synced("new-again").await, changed, "the second upgrade wrote");
    operator.terminate().await;
}

impl Upgrade {
    async fn start() -> Self {
        let cluster = Cluster::start(Options::default()).await;
        let world = Self {
            cluster,
            ssm: Ssm::start(),
            redis: Redis::start().await,
            scratch: Scratch::new("upgrade").unwrap(),
        };
        for namespace in [SYSTEM, SHOP] {
            world.cluster.kubectl(&["create", "namespace", namespace]).await;
        }
        world.ssm.put("/app/db/host", "db.internal");
        world.ssm.put_secure("/app/db/password", "hunter2");
        world.ssm.put("/app/pinned", "one");
        world.ssm.put("/app/pinned", "two");
        world.ssm.label("/app/pinned", 1, "live");
        world
    }

    /// Runs the version of a tree, with its CRDs and its chart's permissions.
    async fn run(&self, tree: &Path, program: &Path) -> Operator {
        self.cluster.kubectl(&["apply", "-f", tree.join("crds").to_str().unwrap()]).await;
        self.cluster.kubectl(&["wait", "--for=condition=Established", "crd", "--all", "--timeout=30s"]).await;
        let chart = tree.join("charts/parameter-mirror");
        let arguments = ["template", SYSTEM, chart.to_str().unwrap(), "--namespace", SYSTEM, "--set", IMAGE];
        let shown = ["--show-only", "templates/rbac.yaml", "--show-only", "templates/serviceaccount.yaml"];
        let rights = self.cluster.helm(&[&arguments[..], &shown].concat()).await;
        self.cluster.kubectl_apply(&rights).await;
        Operator::start(Settings {
            program: program.to_owned(),
            kubeconfig: self.cluster.service_account_kubeconfig(SYSTEM, SYSTEM, self.scratch.path()).await,
            namespace: SYSTEM.to_owned(),
            watch: Vec::new(),
            ssm: self.ssm.endpoint(),
            redis: Some(self.redis.url()),
            arguments: Vec::new(),
            environment: Vec::new(),
        })
        .await
    }

    async fn make_mirrors(&self) {
        let grant = json!({"namespaces": [SHOP], "paths": ["/app"]});
        let source = json!({"region": "us-east-1", "grants": [grant]});
        self.apply("ParameterSource", "default", &source).await;
        let path = json!({"interval": "10s", "parameters": [{"path": "/app"}], "secret": {}, "redis": {}});
        self.apply("ParameterMirror", "checkout", &path).await;
        let names = json!([{"name": "/app/pinned:live", "key": "PIN"}, {"name": "/app/db/host"}]);
        let pinned = json!({"interval": "10s", "parameters": names, "secret": {"name": "pinned-config"},
            "redis": {"encryption": "All"}});
        self.apply("ParameterMirror", "pinned", &pinned).await;
        let dotted = json!({"interval": "10s", "parameters": [{"path": "/app/db"}],
            "secret": {"keyFormat": "Dotted", "labels": {"team": "shop"}}, "redis": {}});
        self.apply("ParameterMirror", "dotted", &dotted).await;
    }

    async fn apply(&self, kind: &str, name: &str, spec: &Value) {
        let object = json!({"apiVersion": "parameter-mirror.dev/v1alpha1", "kind": kind,
            "metadata": {"name": name, "namespace": (kind == "ParameterMirror").then_some(SHOP)}, "spec": spec});
        self.cluster.kubectl_apply(&object.to_string()).await;
    }

    fn mirrors(&self) -> impl Iterator<Item = Mirrored> + '_ {
        MIRRORS.into_iter().map(|mirror| Mirrored::new(&self.cluster, SYSTEM, mirror))
    }

    /// Triggers a read of every mirror, and returns the resulting state.
    async fn synced(&self, token: &str) -> Seen {
        let ask = format!("parameter-mirror.dev/sync-at={token}");
        self.cluster.kubectl(&["annotate", "pmirror", "--all", "-n", SHOP, "--overwrite", &ask]).await;
        let handled = format!("--for=jsonpath={{.status.lastHandledSyncAt}}={token}");
        self.cluster.kubectl(&["wait", &handled, "pmirror", "--all", "-n", SHOP, "--timeout=60s"]).await;
        let mut seen = Vec::new();
        for mirror in self.mirrors() {
            mirror.says("Ready", "True", "Synced").await;
            seen.push((mirror.versions(&self.redis).await, mirror.held(&self.redis).await.unwrap()));
        }
        seen
    }

    /// Waits until every mirror serves this database host, and returns the resulting state.
    async fn changed(&self, host: &str) -> Seen {
        for mirror in self.mirrors() {
            eventually(&format!("{} has {host}", mirror.name), LATER, async || {
                let held = mirror.held(&self.redis).await.ok_or("nothing")?;
                let redis = held.redis.get("/app/db/host").is_some_and(|value| value == host.as_bytes());
                if redis && held.secret.values().any(|value| value == host) {
                    Ok(())
                } else {
                    Err("the old one")
                }
            })
            .await;
        }
        self.synced(host).await
    }
}
