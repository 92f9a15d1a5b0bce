//! The Secret and the hash: who owns them, what heals them, what is never changed, and when they are deleted.

use parameter_mirror_test_support::cluster::{Cluster, Options};
use parameter_mirror_test_support::{Operator, Redis, Scratch, Ssm};
use serde_json::json;

use crate::world::{SOON, Setup, World, eventually, root, service_account};

const ADOPT_BY: &str = "parameter-mirror.dev/adopt-by";

/// Returns the whole object as the API server has it.
async fn object(world: &World, secret: &str) -> serde_json::Value {
    let text = world.cluster.kubectl(&["get", "secret", secret, "-n", &world.namespace, "-o", "json"]).await;
    serde_json::from_str(&text).unwrap()
}

fn spec() -> serde_json::Value {
    json!({"parameters": [{"path": "/app"}], "secret": {}, "redis": {}})
}

#[tokio::test]
async fn a_foreign_secret_stays_byte_identical_until_its_owner_consents() {
    let world = World::start().await;
    world.ssm.put("/app/a", "1");
    let foreign = json!({
        "apiVersion": "v1", "kind": "Secret", "type": "Opaque", "stringData": {"THEIRS": "precious"},
        "metadata": {"name": "config", "namespace": world.namespace, "labels": {"app.kubernetes.io/managed-by": "Helm"},
            "annotations": {"meta.helm.sh/release-name": "shop"}},
    });
    world.cluster.kubectl_apply(&foreign.to_string()).await;
    let before = object(&world, "config").await;
    world.mirror("config", spec()).await;
    let ready = world.condition("config", "Ready", "False", "SecretConflict").await;
    for part in ["Secret config", "is not of this mirror", "not touched", "adopt-by=config"] {
        assert!(ready.message.contains(part), "{}", ready.message);
    }
    assert!(!ready.message.contains("Helm"), "the message names the owner: {}", ready.message);
    world.condition("config", "Stalled", "True", "SecretConflict").await;
    world.field_is("config", "/app/a", "1").await;
    world.sync("config").await;
    assert_eq!(object(&world, "config").await, before);

    // Consent for another mirror does not count.
    world
        .cluster
        .kubectl(&["annotate", "secret", "config", &format!("{ADOPT_BY}=other"), "-n", &world.namespace])
        .await;
    world.sync("config").await;
    world.holds("config", &[("THEIRS", "precious")]).await;

    let consent = format!("{ADOPT_BY}=config");
    world
        .cluster
        .kubectl(&["annotate", "--overwrite", "secret", "config", &consent, "-n", &world.namespace])
        .await;
    world.holds("config", &[("A", "1")]).await;
    world.healthy("config").await;
    let after = object(&world, "config").await;
    let annotations = after["metadata"]["annotations"].as_object().unwrap();
    assert!(!annotations.contains_key(ADOPT_BY), "consent outlived the take-over");
    assert!(!annotations.contains_key("kubectl.kubernetes.io/last-applied-configuration"));
}

#[tokio::test]
async fn of_two_mirrors_on_one_secret_the_first_keeps_it() {
    let world = World::start().await;
    world.ssm.put("/app/a", "1");
    world.ssm.put("/app/sub/b", "2");
    world.mirror("first", json!({"parameters": [{"path": "/app"}], "secret": {"name": "config"}})).await;
    world.ready("first", "Synced").await;
    let before = object(&world, "config").await;
    world.mirror("second", json!({"parameters": [{"path": "/app/sub"}], "secret": {"name": "config"}})).await;
    let ready = world.condition("second", "Ready", "False", "SecretConflict").await;
    assert!(!ready.message.contains("first"), "the message names the owner: {}", ready.message);
    world.sync("second").await;
    world.sync("first").await;
    assert_eq!(object(&world, "config").await, before);
}

#[tokio::test]
async fn a_foreign_hash_is_left_alone_until_its_owner_consents() {
    let world = World::start().await;
    world.ssm.put("/app/a", "1");
    let key = world.key("config");
    world.redis.cli(&["hset", &key, "@owner", "other-cluster/shop/config", "/theirs", "precious"]).await;
    world.mirror("config", spec()).await;
    let ready = world.condition("config", "Ready", "False", "RedisConflict").await;
    assert!(!ready.message.contains("other-cluster"), "the message names the owner: {}", ready.message);
    world.holds("config", &[("A", "1")]).await;
    world.sync("config").await;
    assert_eq!(world.redis.hash(&key).await.len(), 2);

    let owner =
        object(&world, "config").await["metadata"]["annotations"]["parameter-mirror.dev/owner"].clone();
    world.redis.cli(&["hset", &key, "@adoptBy", owner.as_str().unwrap()]).await;
    world.sync("config").await;
    world.field_is("config", "/app/a", "1").await;
    world.healthy("config").await;
    assert_eq!(world.field("config", "/theirs").await, None);
}

#[tokio::test]
async fn edits_and_deletions_are_healed_but_not_under_suspend() {
    let world = World::start().await;
    world.ssm.put("/app/a", "1");
    world.ssm.put_secure("/app/b", "2");
    world.synced("config").await;
    let whole = [("A", "1"), ("B", "2")];
    let content = world.content("config").await;

    world.edit_secret("config", json!({"data": {"A": "aGFja2Vk"}})).await;
    world.holds("config", &whole).await;
    assert!(world.event("config", "Healed").await.contains("Secret config was edited"));
    world.edit_secret("config", json!({"data": {"B": null}})).await;
    world.holds("config", &whole).await;
    world
        .edit_secret("config", json!({"metadata": {"labels": {"app.kubernetes.io/managed-by": null}}}))
        .await;
    eventually("the label is back", SOON, async || {
        let label = &object(&world, "config").await["metadata"]["labels"]["app.kubernetes.io/managed-by"];
        if label == "parameter-mirror" { Ok(()) } else { Err(label.to_string()) }
    })
    .await;
    world.delete_secret("config").await;
    world.holds("config", &whole).await;
    let key = world.key("config");
    world.redis.cli(&["hset", &key, "/app/a", "hacked"]).await;
    world.sync("config").await;
    world.healthy("config").await;
    assert_eq!(world.content("config").await, content);
    world.redis.cli(&["hdel", &key, "/app/b"]).await;
    world.sync("config").await;
    world.healthy("config").await;
    assert_eq!(world.content("config").await, content);

    world.change("config", json!({"suspend": true})).await;
    let ready = world.ready("config", "Suspended").await;
    assert!(ready.message.contains("neither written nor restored"), "{}", ready.message);
    world.delete_secret("config").await;
    world.redis.flush_all().await;
    // Another mirror completes whole cycles meanwhile; this one is skipped.
    world.mirror("other", json!({"parameters": [{"path": "/app"}], "secret": {}})).await;
    world.ready("other", "Synced").await;
    world.sync("other").await;
    assert_eq!(world.data("config").await, None);
    assert!(world.redis.hash(&key).await.is_empty());

    world.change("config", json!({"suspend": false})).await;
    world.holds("config", &whole).await;
    world.field_is("config", "/app/a", "1").await;
    world.healthy("config").await;
}

#[tokio::test]
async fn an_edit_made_while_the_operator_was_down_is_found_without_ssm() {
    let mut world = World::start().await;
    world.ssm.put("/app/a", "1");
    world.synced("config").await;
    let content = world.content("config").await;
    world.operator.terminate().await;
    world.ssm.refuse();
    world.edit_secret("config", json!({"data": {"A": "aGFja2Vk"}})).await;
    world.operator.restart().await;
    world.holds("config", &[("A", "1")]).await;

    world.operator.terminate().await;
    world.redis.cli(&["hset", &world.key("config"), "/app/a", "hacked"]).await;
    world.operator.restart().await;
    world.field_is("config", "/app/a", "1").await;
    assert_eq!(world.content("config").await, content);
}

#[tokio::test]
async fn a_mirror_that_is_deleted_and_applied_again_inherits_its_targets_unwritten() {
    let world = World::start().await;
    world.ssm.put("/app/a", "1");
    world.synced("config").await;
    let (before, content) = (object(&world, "config").await, world.content("config").await);
    world.cluster.kubectl(&["delete", "pmirror", "config", "-n", &world.namespace]).await;
    assert_eq!(object(&world, "config").await, before, "deleting the mirror touched a retained Secret");
    world.synced("config").await;
    world.sync("config").await;
    assert_eq!(object(&world, "config").await, before);
    assert_eq!(world.content("config").await, content);
}

#[tokio::test]
async fn renamed_and_dropped_targets_go_by_their_last_policy() {
    let world = World::start().await;
    world.ssm.put("/app/a", "1");
    let with = |name: &str, policy: &str| json!({"secret": {"name": name, "deletionPolicy": policy}});
    world.synced("config").await;
    world.change("config", with("kept", "Retain")).await;
    world.holds("kept", &[("A", "1")]).await;
    world.holds("config", &[("A", "1")]).await;

    world.change("config", with("going", "Delete")).await;
    world.holds("going", &[("A", "1")]).await;
    let references = object(&world, "going").await["metadata"]["ownerReferences"].clone();
    assert_eq!(references[0]["kind"], "ParameterMirror", "Delete works by an owner reference");
    assert!(object(&world, "kept").await["metadata"].get("ownerReferences").is_none());
    eventually("the status knows of the policy", SOON, async || {
        let held = world.status("config").await.secret.map(|secret| secret.name);
        if held.as_deref() == Some("going") { Ok(()) } else { Err(format!("{held:?}")) }
    })
    .await;
    world.change("config", with("last", "Retain")).await;
    world.holds("last", &[("A", "1")]).await;
    eventually("the Secret under Delete is gone", SOON, async || {
        if world.data("going").await.is_none() { Ok(()) } else { Err("it is there") }
    })
    .await;

    // The hash is removed from the spec. Under Retain it stays; under Delete it is deleted, also with its
    // mirror.
    world.change("config", json!({"redis": null})).await;
    world.sync("config").await;
    world.field_is("config", "/app/a", "1").await;
    world.change("config", json!({"redis": {"deletionPolicy": "Delete"}})).await;
    eventually("the finalizer is set", SOON, async || {
        let finalizers = world.mirrors().get("config").await.unwrap().metadata.finalizers.unwrap_or_default();
        if finalizers.is_empty() { Err("none") } else { Ok(()) }
    })
    .await;
    world.sync("config").await;
    world.cluster.kubectl(&["delete", "pmirror", "config", "-n", &world.namespace, "--timeout=20s"]).await;
    assert!(
        world.redis.hash(&world.key("config")).await.is_empty(),
        "the hash outlived a mirror under Delete"
    );
    world.holds("last", &[("A", "1")]).await;
}

#[tokio::test]
async fn somebody_who_keeps_changing_a_target_is_named_and_no_longer_fought() {
    let world = World::start().await;
    world.ssm.put("/app/a", "1");
    world.mirror("config", json!({"parameters": [{"path": "/app"}], "secret": {}, "interval": "5m"})).await;
    world.ready("config", "Synced").await;
    let patch = r#"{"data": {"A": "aGFja2Vk"}}"#;
    let edit = ["patch", "secret", "config", "--namespace", &world.namespace, "--patch", patch];
    for _ in 0..5 {
        world.cluster.kubectl(&edit).await;
        world.holds("config", &[("A", "1")]).await;
    }
    world.cluster.kubectl(&edit).await;
    let degraded = world.degraded("config", "TargetContested").await;
    for part in ["other writer", "once per interval", "last by the field manager kubectl-patch"] {
        assert!(degraded.message.contains(part), "{part:?} is not in {}", degraded.message);
    }
    world.holds("config", &[("A", "hacked")]).await;
}

#[tokio::test]
async fn a_frozen_redis_delays_neither_ssm_nor_the_secret_and_is_filled_when_it_answers() {
    let world = World::start().await;
    world.ssm.put("/app/a", "1");
    world.synced("config").await;
    world.redis.freeze();
    world.ssm.put("/app/a", "2");
    // Redis stays frozen: what ends now does not wait for it.
    world.sync("config").await;
    world.holds("config", &[("A", "2")]).await;
    let degraded = world.degraded("config", "RedisUnavailable").await;
    assert!(
        degraded.message.contains("perhaps an older one")
            || degraded.message.contains("as soon as it answers"),
        "{}",
        degraded.message
    );
    world.ready("config", "Synced").await;
    world.redis.thaw();
    world.field_is("config", "/app/a", "2").await;
    world.healthy("config").await;

    // A mirror whose Redis never had a set is not ready, but its Secret is served.
    world.redis.freeze();
    world.mirror("new", spec()).await;
    world.holds("new", &[("A", "2")]).await;
    world.condition("new", "Ready", "False", "RedisUnavailable").await;
    world.redis.thaw();
    world.field_is("new", "/app/a", "2").await;
    world.healthy("new").await;
}

#[tokio::test]
async fn without_a_redis_only_mirrors_that_want_it_complain() {
    let world = World::with(Setup { without_redis: true, ..Setup::default() }).await;
    world.ssm.put("/app/a", "1");
    world.mirror("both", spec()).await;
    world.mirror("secret-only", json!({"parameters": [{"path": "/app"}], "secret": {}})).await;
    world.ready("secret-only", "Synced").await;
    let ready = world.condition("both", "Ready", "False", "RedisNotConfigured").await;
    assert!(ready.message.contains("--redis-url-file") && ready.message.contains("remove spec.redis"));
    world.holds("both", &[("A", "1")]).await;
}

#[tokio::test]
async fn limits_are_found_before_the_write_and_hold_the_secret_only() {
    let arguments = vec!["--ssm-requests-per-second=1000".to_owned()];
    let world = World::with(Setup { arguments, ..Setup::default() }).await;
    world.ssm.put("/app/a", "1");
    world.synced("config").await;
    let before = object(&world, "config").await;
    let long = "x".repeat(8 * 1024);
    for n in 0..130 {
        world.ssm.put(&format!("/app/long{n}"), &long);
    }
    world.sync("config").await;
    let degraded = world.degraded("config", "SecretTooLarge").await;
    for part in ["131 parameters", "1048576", "Split"] {
        assert!(degraded.message.contains(part), "{}", degraded.message);
    }
    assert_eq!(object(&world, "config").await, before);
    assert_eq!(world.values("config").await.len(), 131);
}

#[tokio::test]
async fn what_the_api_server_refuses_is_a_condition_with_its_cause() {
    let world = World::start().await;
    world.ssm.put("/app/a", "1");
    let quota = json!({
        "apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "none", "namespace": world.namespace},
        "spec": {"hard": {"secrets": "0"}},
    });
    world.cluster.kubectl_apply(&quota.to_string()).await;
    // Sets the status as the quota controller would: a quota without a status is not enforced.
    let status = r#"{"status": {"hard": {"secrets": "0"}, "used": {"secrets": "0"}}}"#;
    let patch = [
        "patch",
        "resourcequota",
        "none",
        "-n",
        &world.namespace,
        "--subresource=status",
        "--type=merge",
        "-p",
        status,
    ];
    world.cluster.kubectl(&patch).await;
    world.mirror("config", spec()).await;
    let ready = world.condition("config", "Ready", "False", "SecretWriteFailed").await;
    assert!(ready.message.contains("403") && ready.message.contains("quota"), "{}", ready.message);
    world.field_is("config", "/app/a", "1").await;
    world.cluster.kubectl(&["delete", "resourcequota", "none", "-n", &world.namespace]).await;
    world.sync("config").await;
    world.holds("config", &[("A", "1")]).await;

    world.edit_secret("config", json!({"immutable": true})).await;
    world.ssm.put("/app/a", "2");
    world.sync("config").await;
    let degraded = world.degraded("config", "SecretWriteFailed").await;
    assert!(degraded.message.contains("immutable"), "{}", degraded.message);
    world.holds("config", &[("A", "1")]).await;
}

#[tokio::test]
async fn labels_annotations_and_type_are_those_of_the_spec_beside_those_of_others() {
    let world = World::start().await;
    world.ssm.put("/app/tls.crt", "certificate");
    world.ssm.put_secure("/app/tls.key", "key");
    let spec = json!({"parameters": [{"path": "/app"}], "secret": {
        "type": "kubernetes.io/tls", "keyFormat": "Basename",
        "labels": {"team": "checkout"}, "annotations": {"example.com/owner": "checkout"},
    }});
    world.mirror("tls", spec).await;
    world.ready("tls", "Synced").await;
    let secret = object(&world, "tls").await;
    assert_eq!(secret["type"], "kubernetes.io/tls");
    assert_eq!(secret["metadata"]["labels"]["team"], "checkout");
    assert_eq!(secret["metadata"]["annotations"]["example.com/owner"], "checkout");

    // Labels of others stay; labels that the spec no longer has are removed.
    world.edit_secret("tls", json!({"metadata": {"labels": {"seen-by": "backup"}}})).await;
    world.change("tls", json!({"secret": {"labels": {"team": null, "tier": "gold"}}})).await;
    eventually("the labels follow the spec", SOON, async || {
        let labels = object(&world, "tls").await["metadata"]["labels"].clone();
        let right = labels["tier"] == "gold" && labels["seen-by"] == "backup" && labels.get("team").is_none();
        if right { Ok(()) } else { Err(labels.to_string()) }
    })
    .await;

    world
        .mirror(
            "incomplete",
            json!({"parameters": [{"name": "/app/tls.crt"}], "secret": {
        "type": "kubernetes.io/tls", "keyFormat": "Basename"}}),
        )
        .await;
    let ready = world.condition("incomplete", "Ready", "False", "SecretKeyInvalid").await;
    assert!(ready.message.contains("tls.key"), "{}", ready.message);
}

/// The same cluster name and the same keys, but a different SSM each: the two must not overwrite each other
/// for ever.
#[tokio::test]
async fn two_operators_on_one_target_say_so_and_calm_down() {
    let world = World::start().await;
    world.ssm.put("/app/a", "ours");
    let other = Ssm::start();
    other.put("/app/a", "theirs");
    let _second = world.second_operator(&other.endpoint()).await;
    world
        .mirror(
            "config",
            // Who finds the values of the other at its first read adopts them, and disagrees at its next one.
            json!({"parameters": [{"path": "/app"}], "secret": {}, "redis": {}, "interval": "10s"}),
        )
        .await;
    let degraded = world.degraded("config", "TargetContested").await;
    assert!(
        degraded.message.contains("another operator with the same --cluster-name"),
        "{}",
        degraded.message
    );
    let calls = world.ssm.calls().total() + other.calls().total();
    assert!(calls <= 40, "{calls} calls of SSM until they noticed");
}

#[tokio::test]
async fn a_target_of_a_newer_operator_is_left_alone() {
    let world = World::start().await;
    world.ssm.put("/app/a", "1");
    world.synced("config").await;
    world
        .edit_secret("config", json!({"metadata": {"annotations": {"parameter-mirror.dev/format": "2"}}}))
        .await;
    world.redis.cli(&["hset", &world.key("config"), "@format", "2"]).await;
    let before = object(&world, "config").await;
    world.ssm.put("/app/a", "2");
    world.sync("config").await;
    let degraded = world.degraded("config", "LayoutTooNew").await;
    assert!(degraded.message.contains("upgrade"), "{}", degraded.message);
    assert_eq!(object(&world, "config").await, before);
    world.field_is("config", "/app/a", "1").await;
}

/// A finalizer must not delay the deletion of a namespace for longer than half a minute.
#[tokio::test]
async fn a_terminating_namespace_does_not_wait_for_a_dead_redis() {
    let cluster = Cluster::start(Options { controller_manager: true }).await;
    let (ssm, redis, scratch) = (Ssm::start(), Redis::start().await, Scratch::new("terminating").unwrap());
    ssm.put("/app/a", "1");
    cluster.kubectl(&["apply", "-f", root().join("crds").to_str().unwrap()]).await;
    cluster.kubectl(&["wait", "--for=condition=Established", "crd", "--all", "--timeout=30s"]).await;
    cluster.kubectl(&["create", "namespace", "operator"]).await;
    let shop = cluster.namespace("shop").await;
    let mut settings = service_account(&cluster, "operator", &[], &[], scratch.path()).await;
    settings.ssm = ssm.endpoint();
    settings.redis = Some(redis.url());
    let operator = Operator::start(settings).await;
    let source = json!({
        "apiVersion": "parameter-mirror.dev/v1alpha1", "kind": "ParameterSource", "metadata": {"name": "default"},
        "spec": {"region": "us-east-1", "grants": [{"namespaces": [shop], "paths": ["/app"]}]},
    });
    cluster.kubectl_apply(&source.to_string()).await;
    let mirror = json!({
        "apiVersion": "parameter-mirror.dev/v1alpha1", "kind": "ParameterMirror",
        "metadata": {"name": "config", "namespace": shop},
        "spec": {"parameters": [{"path": "/app"}], "redis": {"deletionPolicy": "Delete"}},
    });
    cluster.kubectl_apply(&mirror.to_string()).await;
    cluster.kubectl(&["wait", "--for=condition=Ready", "pmirror/config", "-n", &shop, "--timeout=30s"]).await;
    redis.freeze();
    cluster.kubectl(&["delete", "namespace", &shop, "--timeout=90s"]).await;
    assert!(operator.log().contains("is left behind. Remove it by hand: UNLINK"), "{}", operator.log());
}
