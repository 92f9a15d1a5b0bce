//! Faults of Kubernetes itself. *Real time*. Unreachable and silent API servers are in `replicas`, quotas and
//! refusals in `targets`, watches in `watches`.

use serde_json::json;
use tokio::net::TcpListener;
use tokio::time::timeout;

use crate::world::{LATER, World, eventually};

/// The permission for Secrets is revoked in one namespace. Only the Secrets there are affected.
#[tokio::test]
async fn rights_that_are_taken_away_hold_the_secret_and_nothing_else() {
    let world = World::start().await;
    world.ssm.put("/app/a", "1");
    world.synced("config").await;
    let role = format!("{}-parameter-mirror", world.home);
    let name = ["role", &role, "-n", &world.namespace];
    let text = world.cluster.kubectl(&[&["get"], &name[..], &["-o", "json"]].concat()).await;
    let full: serde_json::Value = serde_json::from_str(&text).unwrap();
    let rules = |rules: &[serde_json::Value]| json!({"rules": rules}).to_string();
    let all = full["rules"].as_array().unwrap().clone();
    let without: Vec<_> =
        all.iter().filter(|rule| !rule["resources"].to_string().contains("\"secrets\"")).cloned().collect();
    assert!(!without.is_empty() && without.len() < all.len(), "{text}");
    let set = async |rules: String| {
        world.cluster.kubectl(&[&["patch"], &name[..], &["--type=merge", "-p", &rules]].concat()).await;
    };
    set(rules(&without)).await;

    world.ssm.put("/app/a", "2");
    world.field_is("config", "/app/a", "2").await;
    let degraded = world.degraded("config", "SecretWriteFailed").await;
    assert!(
        degraded.message.contains("403") && degraded.message.contains("cannot update resource"),
        "{}",
        degraded.message
    );
    world.ready("config", "Synced").await;
    world.holds("config", &[("A", "1")]).await;

    set(rules(&all)).await;
    world.holds("config", &[("A", "2")]).await;
    world.healthy("config").await;
}

/// An admission webhook that never answers delays a write until the API server's timeout. The operator's own
/// timeout is shorter.
#[tokio::test]
async fn a_webhook_that_hangs_holds_up_one_secret() {
    let world = World::start().await;
    world.ssm.put("/app/a", "1");
    world.synced("config").await;
    world.mirror("other", json!({"parameters": [{"path": "/app"}], "redis": {}})).await;
    world.ready("other", "Synced").await;
    let silent = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let url = format!("https://{}/", silent.local_addr().unwrap());
    let webhook = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": world.namespace},
        "webhooks": [{
            "name": "hangs.example.com", "admissionReviewVersions": ["v1"], "sideEffects": "None",
            "failurePolicy": "Fail", "timeoutSeconds": 30, "clientConfig": {"url": url},
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": world.namespace}},
            "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE", "UPDATE"], "resources": ["secrets"]}],
        }],
    });
    world.cluster.kubectl_apply(&webhook.to_string()).await;

    world.ssm.put("/app/a", "2");
    // The write hangs now, until the operator gives it up and says so.
    let _hangs = timeout(LATER, silent.accept()).await.expect("the webhook is asked").unwrap();
    world.sync("other").await;
    let conditions = world.status("config").await.conditions;
    assert!(
        !conditions.iter().any(|condition| condition.reason == "SecretWriteFailed"),
        "another mirror waited for the write that hangs: {conditions:?}"
    );
    world.degraded("config", "SecretWriteFailed").await;
    world.field_is("config", "/app/a", "2").await;
    world.holds("config", &[("A", "1")]).await;

    world.cluster.kubectl(&["delete", "validatingwebhookconfiguration", &world.namespace]).await;
    world.holds("config", &[("A", "2")]).await;
    world.healthy("config").await;
}

/// Each deletion policy works without SSM.
#[tokio::test]
async fn mirrors_that_are_deleted_in_an_outage_leave_what_their_policy_says() {
    let world = World::start().await;
    world.ssm.put("/app/a", "1");
    for (mirror, policy) in [("keeps", "Retain"), ("cleans", "Delete")] {
        let target = json!({"deletionPolicy": policy});
        world
            .mirror(mirror, json!({"parameters": [{"path": "/app"}], "secret": target, "redis": target}))
            .await;
        world.ready(mirror, "Synced").await;
    }
    world.ssm.refuse();
    world.sync("keeps").await;
    world.degraded("keeps", "SourceUnavailable").await;
    let kept = world.content("keeps").await;
    for mirror in ["keeps", "cleans"] {
        world.cluster.kubectl(&["delete", "pmirror", mirror, "-n", &world.namespace]).await;
    }
    eventually("the hash is gone", LATER, async || {
        let left = world.redis.hash(&world.key("cleans")).await;
        if left.is_empty() { Ok(()) } else { Err(world.seen(&left.len())) }
    })
    .await;
    assert_eq!(world.content("keeps").await, kept);
    world.holds("keeps", &[("A", "1")]).await;
    // Kubernetes deletes the Secret with its owner.
    let secret = world.secrets().get("cleans").await.unwrap();
    assert_eq!(secret.metadata.owner_references.unwrap().len(), 1);
    assert!(world.secrets().get("keeps").await.unwrap().metadata.owner_references.is_none());
}
