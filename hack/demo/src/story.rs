//! The story: mirrored, SSM lost, targets damaged, operator restarted, SSM back. A step that is not as it should be
//! panics with what was expected and what was seen.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use parameter_mirror_test_support::eventually;
use serde_json::json;

use crate::screen::Screen;
use crate::stage::{HASH, Held, MIRROR, SECRET, SHOP, SYSTEM, Stage};
use crate::tasks::scale_out;

/// Nothing in the story takes longer, a read that fails on its deadlines included.
const PATIENCE: Duration = Duration::from_mins(1);
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

/// Tells it from the first step to the last; `stage` is left for whoever wants to look or play on.
pub async fn tell(screen: &mut Screen, stage: &mut Option<Stage>) {
    let stage = set(screen, stage).await;
    install(screen, stage).await;
    let whole = mirror(screen, stage).await;
    lose_ssm(screen, stage, &whole).await;
    damage(screen, stage, &whole).await;
    restart(screen, stage, &whole).await;
    scale_out(screen, stage).await;
    recover(screen, stage).await;
}

async fn set<'s>(screen: &mut Screen, stage: &'s mut Option<Stage>) -> &'s mut Stage {
    screen.begin("Real parts");
    let stage = stage.insert(Stage::set().await);
    let versions = stage.cluster.kubectl(&["version"]).await;
    let kubernetes = versions.lines().find_map(|line| line.strip_prefix("Server Version: ")).unwrap_or("?");
    let info = stage.redis.cli(&["info", "server"]).await;
    let redis = info.lines().find_map(|line| line.strip_prefix("redis_version:")).unwrap_or("?").trim();
    screen.checked(&format!("Kubernetes {kubernetes}, Redis {redis} and SSM (moto) are up"));
    stage
}

async fn install(screen: &mut Screen, stage: &mut Stage) {
    screen.begin("kubectl apply -f crds/, helm install, parameter-mirror source | kubectl apply -f -");
    let (crds, chart) = (in_repository("crds"), in_repository("charts/parameter-mirror"));
    stage.cluster.kubectl(&["apply", "-f", &crds]).await;
    stage.cluster.kubectl(&["wait", "--for=condition=Established", "crd", "--all", "--timeout=30s"]).await;
    stage.cluster.helm(&["install", SYSTEM, &chart, "--namespace", SYSTEM, "--create-namespace"]).await;
    let grant = format!("{SHOP}:{PREFIX}/");
    let source = Command::new(Stage::program())
        .args(["source", "--region", "us-east-1", "--grant", &grant])
        .env_clear()
        .output()
        .expect("the program prints a source");
    stage.cluster.kubectl_apply(&String::from_utf8_lossy(&source.stdout)).await;
    stage.start_operator().await;
    screen.checked("the operator is ready, with exactly the rights of its chart");
}

async fn mirror(screen: &mut Screen, stage: &mut Stage) -> Held {
    let ssm = stage.moto.ssm("us-east-1");
    for (name, value, kind, _) in PARAMETERS {
        ssm.put(&format!("{PREFIX}/{name}"), value, kind).await;
    }
    stage.cluster.kubectl(&["create", "namespace", SHOP]).await;
    let mirror = json!({
        "apiVersion": "parameter-mirror.dev/v1alpha1", "kind": "ParameterMirror",
        "metadata": {"name": MIRROR, "namespace": SHOP},
        "spec": {"interval": "10s", "parameters": [{"path": PREFIX}], "secret": {"name": SECRET}, "redis": {}},
    });
    screen.begin("kubectl apply ParameterMirror shop/checkout: 12 parameters (3 SecureStrings)");
    stage.cluster.kubectl_apply(&mirror.to_string()).await;
    let whole = holds(stage, &expected("db.internal")).await;
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
    says(stage, "Degraded", "False", "Synced").await;
    screen.checked("READY True  DEGRADED False  Synced");
    whole
}

async fn lose_ssm(screen: &mut Screen, stage: &mut Stage, whole: &Held) {
    screen.begin("SSM is gone (connections are accepted and never answered)");
    stage.moto.freeze();
    let message = says(stage, "Degraded", "True", "Timeout").await;
    says(stage, "Ready", "True", "ServingLastKnownGood").await;
    screen.checked("READY True  DEGRADED True  Timeout, serving 12 of 12");
    println!("      {message}");
    same(stage, whole).await;
    screen.checked("both targets are as they were, byte for byte");
}

async fn damage(screen: &mut Screen, stage: &mut Stage, whole: &Held) {
    screen.begin("Targets are damaged while SSM is gone");
    stage.cluster.kubectl(&["delete", "secret", SECRET, "-n", SHOP]).await;
    same(stage, whole).await;
    screen.checked("Secret deleted by hand: back, byte for byte");
    stage.redis.flush_all().await;
    same(stage, whole).await;
    screen.checked("Redis FLUSHALL: back, byte for byte");
}

async fn restart(screen: &mut Screen, stage: &mut Stage, whole: &Held) {
    screen.begin("Operator killed and started, SSM still gone");
    let before = stage.versions().await;
    stage.operator().crash_and_restart().await;
    let ask = ["annotate", "pmirror", MIRROR, "-n", SHOP, "parameter-mirror.dev/sync-at=restart"];
    stage.cluster.kubectl(&ask).await;
    let handled = "--for=jsonpath={.status.lastHandledSyncAt}=restart";
    stage.cluster.kubectl(&["wait", handled, "pmirror", MIRROR, "-n", SHOP, "--timeout=60s"]).await;
    says(stage, "Degraded", "True", "Timeout").await;
    says(stage, "Ready", "True", "ServingLastKnownGood").await;
    screen.checked("it has tried to read and failed: READY True  DEGRADED True, serving 12 of 12");
    same(stage, whole).await;
    assert_eq!(stage.versions().await, before, "[Secret, Redis] were written after the restart");
    screen.checked("not one write to either target");
    stage.cluster.kubectl(&["delete", "secret", SECRET, "-n", SHOP]).await;
    same(stage, whole).await;
    screen.checked("Secret deleted once more: the restarted operator brings it back from Redis");
}

async fn recover(screen: &mut Screen, stage: &mut Stage) {
    screen.begin("SSM is back, /prod/checkout/db/host changed meanwhile");
    stage.moto.thaw();
    stage.moto.ssm("us-east-1").put(&format!("{PREFIX}/db/host"), "db2.internal", "String").await;
    holds(stage, &expected("db2.internal")).await;
    screen.checked("both targets have it: DB_HOST=db2.internal");
    says(stage, "Degraded", "False", "Synced").await;
    screen.checked("READY True  DEGRADED False  Synced");
    let events = ["get", "events.events.k8s.io", "-n", SHOP, "--sort-by=.eventTime", "-o"];
    let columns = "custom-columns=REASON:.reason,NOTE:.note";
    let told = stage.cluster.kubectl(&[&events[..], &[columns]].concat()).await;
    for reason in ["Synced", "Degraded", "Healed", "Recovered"] {
        assert!(told.lines().any(|line| line.starts_with(reason)), "no event {reason} in\n{told}");
    }
    screen.checked("the mirror's events tell the story: Synced, Degraded, Healed, Recovered");
}

/// What the Secret holds with this database host.
fn expected(host: &str) -> BTreeMap<String, String> {
    let values = PARAMETERS.iter().map(|&(name, value, _, key)| {
        (key.to_owned(), if name == "db/host" { host } else { value }.to_owned())
    });
    values.collect()
}

/// Waits until both targets hold exactly these values, and returns all that they hold.
async fn holds(stage: &Stage, expected: &BTreeMap<String, String>) -> Held {
    eventually(&format!("Secret {SECRET} and Redis {HASH} hold {expected:#?}"), PATIENCE, async || {
        let Some(held) = stage.held().await else { return Err("a target holds nothing".to_owned()) };
        let in_redis = |name: &str| held.redis.get(&format!("{PREFIX}/{name}")).map(Vec::as_slice);
        let redis =
            PARAMETERS.iter().all(|(name, _, _, key)| in_redis(name) == Some(expected[*key].as_bytes()));
        if held.secret == *expected && redis { Ok(held) } else { Err(format!("{:#?}", held.secret)) }
    })
    .await
}

/// Waits until both targets hold exactly what they held.
async fn same(stage: &Stage, whole: &Held) {
    eventually(&format!("{whole:#?}"), PATIENCE, async || {
        let held = stage.held().await;
        if held.as_ref() == Some(whole) { Ok(()) } else { Err(format!("{held:#?}")) }
    })
    .await;
}

/// Waits until a condition says this, and returns its message.
async fn says(stage: &Stage, type_: &str, status: &str, reason: &str) -> String {
    eventually(&format!("{type_} {status} {reason}"), PATIENCE, async || {
        let condition = stage.condition(type_).await;
        let [is_status, is_reason, message] = &condition;
        if is_status == status && is_reason == reason {
            Ok(message.clone())
        } else {
            Err(condition.join(" "))
        }
    })
    .await
}

fn in_repository(path: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    root.join(path).to_string_lossy().into_owned()
}
