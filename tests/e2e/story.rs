//! Installed, mirrored, SSM lost, scaled out nevertheless, recovered, upgraded, uninstalled. A failed step
//! panics with the expected and the actual state.

use std::process::Command;
use std::time::Duration;

use parameter_mirror_test_support::{Held, Node, Screen, eventually};
use serde_json::{Value, json};

use crate::stage::{APP, MIRROR, SECRET, SHOP, SYSTEM, Stage, root};

/// The time limit. The kubelet checks for changed Secrets each second here; a killed leader is succeeded
/// within 20 s.
const PATIENCE: Duration = Duration::from_mins(1);
/// Key, name as selected, type, value.
const PARAMETERS: [(&str, &str, &str, &str); 3] = [
    ("DB_HOST", "/prod/checkout/db/host", "String", "db.internal"),
    ("DB_PASSWORD", "/prod/checkout/db/password", "SecureString", "correct horse"),
    ("DB_PORT", "/prod/checkout/db/port", "String", "5432"),
];

/// Runs the story from the first step to the last.
pub async fn run(screen: &mut Screen, stage: &mut Stage) {
    install(screen, stage).await;
    let whole = mirror(screen, stage).await;
    run_application(screen, stage).await;
    lose_ssm(screen, stage).await;
    scale_out(screen, stage).await;
    stage.mirror.same(&stage.redis, &whole).await;
    screen.checked("after all that, both targets hold the same bytes");
    recover(screen, stage).await;
    kill_the_leader(screen, stage).await;
    upgrade(screen, stage).await;
    delete_a_namespace(screen, stage).await;
    uninstall(screen, stage).await;
}

async fn install(screen: &mut Screen, stage: &Stage) {
    screen.begin("helm install into a namespace with Pod Security restricted, before Redis' Secret is there");
    stage.node.kubectl(&["create", "namespace", SYSTEM]).await;
    let restricted = "pod-security.kubernetes.io/enforce=restricted";
    stage.node.kubectl(&["label", "namespace", SYSTEM, restricted]).await;
    stage.release(&[]).await;
    two_operators(stage).await;
    screen.checked("two operator pods are Ready; a Secret that is missing keeps nobody from starting");

    // As a user does who reads NOTES.txt: creates the Secret, and restarts the pods.
    let url = format!("--from-literal=url={}", Node::redis_url(&stage.redis));
    stage.node.kubectl(&["create", "secret", "generic", "redis", "-n", SYSTEM, &url]).await;
    stage.node.kubectl(&["rollout", "restart", "-n", SYSTEM, "deployment/parameter-mirror"]).await;
    stage
        .node
        .kubectl(&["rollout", "status", "-n", SYSTEM, "deployment/parameter-mirror", "--timeout=2m"])
        .await;
    screen.checked("Redis' Secret is there, by a name that only DNS knows");
}

async fn mirror(screen: &mut Screen, stage: &Stage) -> Held {
    screen.begin("ParameterSource default, and ParameterMirror shop/checkout");
    for (_, name, kind, value) in PARAMETERS {
        stage.put(name, value, kind).await;
    }
    stage.node.kubectl(&["create", "namespace", SHOP]).await;
    stage
        .apply(json!({
            "apiVersion": "parameter-mirror.dev/v1alpha1", "kind": "ParameterSource", "metadata": {"name": "default"},
            "spec": {"region": "us-east-1", "grants": [
                {"namespaces": [SHOP, "lab"], "paths": ["/prod/checkout"]},
            ]},
        }))
        .await;
    stage.apply(checkout(SHOP, &json!({"name": SECRET}), &json!({}))).await;
    let whole = holds(stage, "db.internal").await;
    stage.mirror.says("Degraded", "False", "Synced").await;
    screen.checked("Secret and Redis hold 3 parameters; READY True  DEGRADED False  Synced");

    let report = stage.node.helm(&["test", SYSTEM, "--namespace", SYSTEM, "--logs", "--timeout", "2m"]).await;
    assert!(report.contains("Phase:          Succeeded") && report.contains("0 failed"), "{report}");
    screen.checked("helm test passes, in a pod of its own");
    whole
}

async fn run_application(screen: &mut Screen, stage: &Stage) {
    screen.begin("An application takes the Secret as environment and as files");
    stage.apply(Node::application(SHOP, APP, SECRET, "DB_HOST")).await;
    stage.node.are_up(SHOP, APP, 1, "db.internal").await;
    assert_eq!(stage.file_in_pod("/config/DB_PASSWORD").await, "correct horse");
    screen.checked("1 of 1 pod is up, with DB_HOST from its environment and DB_PASSWORD from a file");
}

async fn lose_ssm(screen: &mut Screen, stage: &Stage) {
    screen.begin("SSM is gone (connections are accepted and never answered)");
    stage.ssm.freeze();
    let message = stage.mirror.says("Degraded", "True", "Timeout").await;
    stage.mirror.says("Ready", "True", "ServingLastKnownGood").await;
    screen.checked("READY True  DEGRADED True  Timeout, serving 3 of 3");
    println!("      {message}");
}

async fn scale_out(screen: &mut Screen, stage: &Stage) {
    screen.begin("kubectl scale from 1 to 5, while SSM is gone");
    stage.node.kubectl(&["scale", "deployment", APP, "-n", SHOP, "--replicas=5"]).await;
    stage.node.are_up(SHOP, APP, 5, "db.internal").await;
    screen.checked("5 of 5 pods are up: the day of the incident, won");

    let keys = format!("--from-literal=keys={}", sub_keys(stage));
    stage.node.kubectl(&["create", "secret", "generic", "sub-keys", "-n", SHOP, &keys]).await;
    stage.apply(Node::task(SHOP, "task", &format!("{SHOP}/{MIRROR}"), &stage.redis, "DB_PASSWORD")).await;
    stage.node.kubectl(&["wait", "--for=condition=Complete", "job/task", "-n", SHOP, "--timeout=60s"]).await;
    let said = stage.node.kubectl(&["logs", "-n", SHOP, "job/task"]).await;
    assert!(said.contains("up with correct horse"), "{said}");
    screen.checked("a task without a Secret is up, with parameter-mirror-reader exec");

    stage.node.kubectl(&["delete", "secret", SECRET, "-n", SHOP]).await;
    holds(stage, "db.internal").await;
    screen.checked("the Secret is deleted, and back");
}

async fn recover(screen: &mut Screen, stage: &Stage) {
    screen.begin("SSM is back, /prod/checkout/db/host changed meanwhile");
    stage.ssm.thaw();
    stage.put("/prod/checkout/db/host", "db2.internal", "String").await;
    holds(stage, "db2.internal").await;
    stage.mirror.says("Degraded", "False", "Synced").await;
    screen.checked("both targets have it; DEGRADED False  Synced");
    eventually("the mounted file follows", PATIENCE, async || {
        let host = stage.file_in_pod("/config/DB_HOST").await;
        if host == "db2.internal" { Ok(()) } else { Err(host) }
    })
    .await;
    screen.checked("the file in the running pods follows");
}

async fn kill_the_leader(screen: &mut Screen, stage: &Stage) {
    screen.begin("The leader's pod is killed");
    let leader = stage.node.leader(SYSTEM, "parameter-mirror").await;
    stage.put("/prod/checkout/db/host", "db3.internal", "String").await;
    stage.node.kubectl(&["delete", "pod", &leader, "-n", SYSTEM, "--grace-period=0", "--force"]).await;
    eventually("another pod leads", PATIENCE, async || {
        let now = stage.node.leader(SYSTEM, "parameter-mirror").await;
        if now.is_empty() || now == leader { Err(now) } else { Ok(()) }
    })
    .await;
    screen.checked("the other one leads");
    holds(stage, "db3.internal").await;
    screen.checked("and brings the next change");
    two_operators(stage).await;
    screen.checked("two pods are Ready again");
}

async fn upgrade(screen: &mut Screen, stage: &Stage) {
    screen.begin("helm upgrade (a new log filter: both pods are replaced)");
    let before = (stage.mirror.held(&stage.redis).await, stage.mirror.versions(&stage.redis).await);
    let old = stage.node.operators(SYSTEM).await;
    stage.release(&["--set", "log.filter=info\\,parameter_mirror=debug"]).await;
    eventually("the old pods are gone", PATIENCE, async || {
        let now = stage.node.operators(SYSTEM).await;
        if now.len() == 2 && !now.iter().any(|pod| old.contains(pod)) { Ok(()) } else { Err(now.join(" ")) }
    })
    .await;
    synced_again(stage, "upgrade").await;
    let after = (stage.mirror.held(&stage.redis).await, stage.mirror.versions(&stage.redis).await);
    assert_eq!(after, before, "the upgrade wrote");
    screen.checked("the new pods have read SSM, and written neither the Secret nor a value in Redis");
}

async fn delete_a_namespace(screen: &mut Screen, stage: &Stage) {
    screen.begin("kubectl delete namespace, with a mirror in it that cleans up Redis after itself");
    stage.node.kubectl(&["create", "namespace", "lab"]).await;
    stage.apply(checkout("lab", &json!({}), &json!({"deletionPolicy": "Delete"}))).await;
    let ready = ["wait", "--for=condition=Ready", "pmirror/checkout", "-n", "lab", "--timeout=60s"];
    stage.node.kubectl(&ready).await;
    assert_eq!(stage.redis.cli(&["exists", "pm:{lab/checkout}"]).await, "1");
    stage.node.kubectl(&["delete", "namespace", "lab", "--timeout=60s"]).await;
    assert_eq!(stage.redis.cli(&["exists", "pm:{lab/checkout}"]).await, "0");
    screen.checked("the namespace is gone, and the hash with it");
}

async fn uninstall(screen: &mut Screen, stage: &Stage) {
    screen.begin("helm uninstall");
    let before = (stage.mirror.held(&stage.redis).await, stage.mirror.versions(&stage.redis).await);
    stage.node.helm(&["uninstall", SYSTEM, "--namespace", SYSTEM, "--wait", "--timeout", "2m"]).await;
    let after = (stage.mirror.held(&stage.redis).await, stage.mirror.versions(&stage.redis).await);
    assert_eq!(after, before, "uninstalling changed what is served");
    stage.node.kubectl(&["get", "pmirror", MIRROR, "-n", SHOP]).await;
    stage.node.are_up(SHOP, APP, 5, "db.internal").await;
    screen.checked("Secret, Redis, mirror and 5 running pods are left as they were");
}

/// Waits until both operators are Ready.
async fn two_operators(stage: &Stage) {
    eventually("two operator pods are Ready", PATIENCE, async || {
        let ready = stage.node.operators(SYSTEM).await;
        if ready.len() == 2 { Ok(()) } else { Err(ready.join(" ")) }
    })
    .await;
}

/// Triggers a read, and waits until it has succeeded.
async fn synced_again(stage: &Stage, token: &str) {
    let ask = format!("parameter-mirror.dev/sync-at={token}");
    stage.node.kubectl(&["annotate", "pmirror", MIRROR, "-n", SHOP, "--overwrite", &ask]).await;
    let handled = format!("--for=jsonpath={{.status.lastHandledSyncAt}}={token}");
    stage.node.kubectl(&["wait", &handled, "pmirror", MIRROR, "-n", SHOP, "--timeout=60s"]).await;
    stage.mirror.says("Degraded", "False", "Synced").await;
}

/// Waits until both targets have the parameters with this database host.
async fn holds(stage: &Stage, host: &str) -> Held {
    let expected =
        PARAMETERS.map(|(key, name, _, value)| (key, name, if key == "DB_HOST" { host } else { value }));
    stage.mirror.holds(&stage.redis, &expected).await
}

fn checkout(namespace: &str, secret: &Value, redis: &Value) -> Value {
    json!({
        "apiVersion": "parameter-mirror.dev/v1alpha1", "kind": "ParameterMirror",
        "metadata": {"name": MIRROR, "namespace": namespace},
        "spec": {"interval": "10s", "parameters": [{"path": "/prod/checkout"}], "secret": secret, "redis": redis},
    })
}

/// Returns the sub-keys that the task definition got before the outage.
fn sub_keys(stage: &Stage) -> String {
    let printed = Command::new(env!("CARGO_BIN_EXE_parameter-mirror"))
        .args(["key", &format!("{SHOP}/{MIRROR}"), "--namespace", SYSTEM])
        .env_clear()
        .env("KUBECONFIG", stage.node.kubeconfig())
        .current_dir(root())
        .output()
        .unwrap();
    assert!(printed.status.success(), "{}", String::from_utf8_lossy(&printed.stderr));
    String::from_utf8(printed.stdout).unwrap().trim().to_owned()
}
