//! The story: mirrored, SSM lost, targets damaged, operator restarted, SSM back. A failed step panics with
//! the expected and the actual state.

use std::process::Command;

use parameter_mirror_test_support::{Held, Screen};
use serde_json::json;

use crate::kubernetes::{in_repository, program};
use crate::stage::{HASH, MIRROR, SECRET, SHOP, Stage};
use crate::tasks::{scale_out, scale_out_pods, start_application};

const PREFIX: &str = "/prod/checkout";
/// Name below the prefix, value, type, key in the Secret.
const PARAMETERS: [(&str, &str, &str, &str); 12] = [
    ("api/key", "k-3c9e", "SecureString", "API_KEY"),
    ("api/url", "https://api.example/v2", "String", "API_URL"),
    ("db/host", "db.internal", "String", "DB_HOST"),
    ("db/name", "checkout", "String", "DB_NAME"),
    ("db/password", "correct horse\nbattery staple", "SecureString", "DB_PASSWORD"),
    ("db/port", "5432", "String", "DB_PORT"),
    ("db/user", "checkout", "String", "DB_USER"),
    ("features", "fast-path,new-cart", "StringList", "FEATURES"),
    ("greeting", "Grüß Gott", "String", "GREETING"),
    ("log-level", "info", "String", "LOG_LEVEL"),
    ("queue/url", "https://queue.example/orders", "String", "QUEUE_URL"),
    ("session.secret", "s3ss10n", "SecureString", "SESSION_SECRET"),
];

/// Runs the story from the first step to the last; `stage` stays available to inspect or experiment with.
pub async fn run(screen: &mut Screen, stage: &mut Option<Stage>) {
    let stage = set(screen, stage).await;
    install(screen, stage).await;
    let whole = mirror(screen, stage).await;
    start_application(screen, stage).await;
    lose_ssm(screen, stage, &whole).await;
    damage(screen, stage, &whole).await;
    restart(screen, stage, &whole).await;
    scale_out_pods(screen, stage).await;
    scale_out(screen, stage).await;
    recover(screen, stage).await;
}

async fn set<'s>(screen: &mut Screen, stage: &'s mut Option<Stage>) -> &'s mut Stage {
    screen.begin("Real parts");
    let stage = stage.insert(Stage::set().await);
    let versions = stage.kubernetes.kubectl(&["version"]).await;
    let kubernetes = versions.lines().find_map(|line| line.strip_prefix("Server Version: ")).unwrap_or("?");
    let info = stage.redis.cli(&["info", "server"]).await;
    let redis = info.lines().find_map(|line| line.strip_prefix("redis_version:")).unwrap_or("?").trim();
    screen.checked(&format!("Kubernetes {kubernetes}, Redis {redis} and SSM (moto) are up"));
    stage
}

async fn install(screen: &mut Screen, stage: &mut Stage) {
    screen.begin("kubectl apply -f crds/, helm install, parameter-mirror source | kubectl apply -f -");
    let crds = in_repository("crds");
    stage.kubernetes.kubectl(&["apply", "-f", &crds]).await;
    stage.kubernetes.kubectl(&["wait", "--for=condition=Established", "crd", "--all", "--timeout=30s"]).await;
    let ready = stage.install().await;
    let grant = format!("{SHOP}:{PREFIX}/");
    let source = Command::new(program())
        .args(["source", "--region", "us-east-1", "--grant", &grant])
        .env_clear()
        .output()
        .expect("the program prints a source");
    stage.kubernetes.kubectl_apply(&String::from_utf8_lossy(&source.stdout)).await;
    screen.checked(ready);
}

async fn mirror(screen: &mut Screen, stage: &mut Stage) -> Held {
    let ssm = stage.moto.ssm("us-east-1");
    for (name, value, kind, _) in PARAMETERS {
        ssm.put(&format!("{PREFIX}/{name}"), value, kind).await;
    }
    stage.kubernetes.kubectl(&["create", "namespace", SHOP]).await;
    let mirror = json!({
        "apiVersion": "parameter-mirror.dev/v1alpha1", "kind": "ParameterMirror",
        "metadata": {"name": MIRROR, "namespace": SHOP},
        "spec": {"interval": "10s", "parameters": [{"path": PREFIX}], "secret": {"name": SECRET}, "redis": {}},
    });
    screen.begin("kubectl apply ParameterMirror shop/checkout: 12 parameters (3 SecureStrings)");
    stage.kubernetes.kubectl_apply(&mirror.to_string()).await;
    let whole = holds(stage, "db.internal").await;
    screen.checked(&format!(
        "Secret  {SECRET}   DB_HOST={} ... ({} keys)",
        whole.secret["DB_HOST"],
        whole.secret.len()
    ));
    let mut encrypted = 0;
    for (name, value, kind, _) in PARAMETERS {
        let stored = stage.redis.cli(&["--no-raw", "hget", HASH, &format!("{PREFIX}/{name}")]).await;
        let is_encrypted = stored.starts_with("\"pm1:");
        assert_eq!(is_encrypted, kind == "SecureString", "{name} lies in Redis as {stored}");
        assert!(!is_encrypted || !stored.contains(value), "{name} lies in Redis in plain text");
        encrypted += u32::from(is_encrypted);
    }
    screen.checked(&format!("Redis   {HASH}   {} fields, {encrypted} encrypted", PARAMETERS.len()));
    stage.mirror.says("Degraded", "False", "Synced").await;
    screen.checked("READY True  DEGRADED False  Synced");
    whole
}

async fn lose_ssm(screen: &mut Screen, stage: &mut Stage, whole: &Held) {
    screen.begin("SSM is gone (connections are accepted and never answered)");
    stage.moto.freeze();
    let message = stage.mirror.says("Degraded", "True", "Timeout").await;
    stage.mirror.says("Ready", "True", "ServingLastKnownGood").await;
    screen.checked("READY True  DEGRADED True  Timeout, serving 12 of 12");
    println!("      {message}");
    same(stage, whole).await;
    screen.checked("both targets are as they were, byte for byte");
}

async fn damage(screen: &mut Screen, stage: &mut Stage, whole: &Held) {
    screen.begin("Targets are damaged while SSM is gone");
    stage.kubernetes.kubectl(&["delete", "secret", SECRET, "-n", SHOP]).await;
    same(stage, whole).await;
    screen.checked("Secret deleted by hand: back, byte for byte");
    stage.redis.flush_all().await;
    same(stage, whole).await;
    screen.checked("Redis FLUSHALL: back, byte for byte");
}

async fn restart(screen: &mut Screen, stage: &mut Stage, whole: &Held) {
    screen.begin("Operator killed and started again, SSM still gone");
    let before = stage.mirror.versions(&stage.redis).await;
    stage.kubernetes.kill_operator().await;
    let ask = ["annotate", "pmirror", MIRROR, "-n", SHOP, "parameter-mirror.dev/sync-at=restart"];
    stage.kubernetes.kubectl(&ask).await;
    let handled = "--for=jsonpath={.status.lastHandledSyncAt}=restart";
    stage.kubernetes.kubectl(&["wait", handled, "pmirror", MIRROR, "-n", SHOP, "--timeout=60s"]).await;
    stage.mirror.says("Degraded", "True", "Timeout").await;
    stage.mirror.says("Ready", "True", "ServingLastKnownGood").await;
    screen.checked("it has tried to read and failed: READY True  DEGRADED True, serving 12 of 12");
    same(stage, whole).await;
    assert_eq!(
        stage.mirror.versions(&stage.redis).await,
        before,
        "[Secret, Redis] were written after the restart"
    );
    screen.checked("not one write to either target");
    stage.kubernetes.kubectl(&["delete", "secret", SECRET, "-n", SHOP]).await;
    same(stage, whole).await;
    screen.checked("Secret deleted once more: the restarted operator brings it back from Redis");
}

async fn recover(screen: &mut Screen, stage: &mut Stage) {
    screen.begin("SSM is back, /prod/checkout/db/host changed meanwhile");
    stage.moto.thaw();
    stage.moto.ssm("us-east-1").put(&format!("{PREFIX}/db/host"), "db2.internal", "String").await;
    holds(stage, "db2.internal").await;
    screen.checked("both targets have it: DB_HOST=db2.internal");
    stage.mirror.says("Degraded", "False", "Synced").await;
    screen.checked("READY True  DEGRADED False  Synced");
    let events = ["get", "events", "-n", SHOP, "--sort-by=.lastTimestamp", "-o"];
    let columns = "custom-columns=REASON:.reason,NOTE:.message";
    let shown = stage.kubernetes.kubectl(&[&events[..], &[columns]].concat()).await;
    for reason in ["Synced", "Timeout", "Healed", "Recovered"] {
        assert!(shown.lines().any(|line| line.starts_with(reason)), "no event {reason} in\n{shown}");
    }
    screen.checked("the mirror's events show the story: Synced, Timeout, Healed, Recovered");
}

/// Waits until both targets have exactly the parameters with this database host, and returns their content.
async fn holds(stage: &Stage, host: &str) -> Held {
    let names = PARAMETERS.map(|(name, ..)| format!("{PREFIX}/{name}"));
    let expected: Vec<(&str, &str, &str)> = PARAMETERS
        .iter()
        .zip(&names)
        .map(|(&(name, value, _, key), full)| {
            (key, full.as_str(), if name == "db/host" { host } else { value })
        })
        .collect();
    stage.mirror.holds(&stage.redis, &expected).await
}

/// Waits until both targets have exactly this content.
async fn same(stage: &Stage, whole: &Held) {
    stage.mirror.same(&stage.redis, whole).await;
}
