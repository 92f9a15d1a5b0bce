//! Who may read what: deny by default, checked live. A withdrawn grant removes nothing that is served.

use serde_json::json;

use crate::world::{SOON, World, eventually};

#[tokio::test]
async fn without_a_grant_nothing_is_read() {
    let world = World::start().await;
    world.ssm.put("/secret/a", "1");
    world.ssm.put("/application/a", "1");
    // `/app` is granted. Matching is on path-segment boundaries, so /application is not below it.
    for (mirror, path) in [("other", "/secret"), ("segment", "/application"), ("above", "/")] {
        world.mirror(mirror, json!({"parameters": [{"path": path}], "secret": {}})).await;
        let ready = world.condition(mirror, "Ready", "False", "NotGranted").await;
        assert!(ready.message.contains(path) && ready.message.contains(&world.source), "{}", ready.message);
        world.condition(mirror, "Stalled", "True", "NotGranted").await;
        assert_eq!(world.data(mirror).await, None);
    }
    assert_eq!(world.ssm.calls().total(), 0);
}

#[tokio::test]
async fn a_withdrawn_grant_ends_reads_and_healing_and_takes_nothing_away() {
    let world = World::start().await;
    world.ssm.put("/app/a", "1");
    world.synced("config").await;
    let content = world.content("config").await;

    world.grant(&["/elsewhere"]).await;
    let ready = world.condition("config", "Ready", "False", "NotGranted").await;
    assert!(ready.message.contains("served so far are neither updated nor restored"), "{}", ready.message);
    world.holds("config", &[("A", "1")]).await;
    assert_eq!(world.content("config").await, content);
    let calls = world.ssm.calls().total();
    world.edit_secret("config", json!({"data": {"A": "aGFja2Vk"}})).await;
    // Another mirror completes a whole cycle meanwhile.
    world.ssm.put("/elsewhere/b", "2");
    world.mirror("other", json!({"parameters": [{"path": "/elsewhere"}], "secret": {}})).await;
    world.ready("other", "Synced").await;
    world.holds("config", &[("A", "hacked")]).await;
    assert_eq!(world.ssm.calls().total(), calls + 1, "only the other mirror was read");

    world.grant(&["/app", "/elsewhere"]).await;
    world.healthy("config").await;
    world.holds("config", &[("A", "1")]).await;
}

#[tokio::test]
async fn a_grant_by_label_follows_the_labels_of_the_namespace() {
    let world = World::start().await;
    world.ssm.put("/app/a", "1");
    let grant = json!({"namespaceSelector": {"matchLabels": {"team": "checkout"}}, "paths": ["/app/"]});
    world.source_with(json!({"region": "us-east-1", "grants": [grant]})).await;
    world.mirror("config", json!({"parameters": [{"path": "/app"}], "secret": {}})).await;
    world.condition("config", "Ready", "False", "NotGranted").await;
    world.cluster.kubectl(&["label", "namespace", &world.namespace, "team=checkout"]).await;
    world.holds("config", &[("A", "1")]).await;
    world.ready("config", "Synced").await;
    world.cluster.kubectl(&["label", "namespace", &world.namespace, "team-"]).await;
    world.condition("config", "Ready", "False", "NotGranted").await;
}

/// A missing source is an outage, not a withdrawal.
#[tokio::test]
async fn a_deleted_source_is_an_outage_and_never_a_withdrawal() {
    let world = World::start().await;
    world.ssm.put("/app/a", "1");
    world.synced("config").await;
    world.cluster.kubectl(&["delete", "psource", &world.source]).await;
    world.sync("config").await;
    let degraded = world.degraded("config", "SourceNotFound").await;
    assert!(
        degraded.message.contains(&format!("ParameterSource {} does not exist. Create it", world.source)),
        "{}",
        degraded.message
    );
    world.ready("config", "ServingLastKnownGood").await;
    world.delete_secret("config").await;
    world.holds("config", &[("A", "1")]).await;

    world.grant(&["/app"]).await;
    world.healthy("config").await;

    world
        .mirror(
            "lost",
            json!({"sourceRef": {"name": "nowhere"}, "parameters": [{"path": "/app"}], "secret": {}}),
        )
        .await;
    world.condition("lost", "Ready", "False", "NoLastKnownGood").await;
    world.degraded("lost", "SourceNotFound").await;
}

#[tokio::test]
async fn names_below_aws_need_a_grant_that_says_so() {
    let world = World::start().await;
    world.grant(&["/"]).await;
    world.mirror("aws", json!({"parameters": [{"path": "/aws/service"}], "secret": {}})).await;
    let ready = world.condition("aws", "Ready", "False", "NotGranted").await;
    assert!(ready.message.contains("/aws/"), "{}", ready.message);
    assert_eq!(world.ssm.calls().total(), 0);
}

#[tokio::test]
async fn the_source_says_whether_it_is_available_and_the_least_encryption_holds() {
    let world = World::start().await;
    world.ssm.put("/app/a", "1");
    let grant = json!({"namespaces": [world.namespace], "paths": ["/app"]});
    world.source_with(json!({"region": "us-east-1", "redisEncryption": "All", "grants": [grant]})).await;
    let weak = json!({"parameters": [{"path": "/app"}], "redis": {"encryption": "None"}});
    world.mirror("weak", weak).await;
    let ready = world.condition("weak", "Ready", "False", "InvalidSpec").await;
    assert!(ready.message.contains("encryption") && ready.message.contains("All"), "{}", ready.message);
    assert!(world.redis.hash(&world.key("weak")).await.is_empty());

    world.mirror("strong", json!({"parameters": [{"path": "/app"}], "redis": {"encryption": "All"}})).await;
    world.ready("strong", "Synced").await;
    assert!(world.field("strong", "/app/a").await.unwrap().starts_with("pm1:"));
    assert_eq!(world.values("strong").await["/app/a"], "1");

    // The encryption of a served mirror cannot be weakened: the stored hash stays encrypted.
    let sealed = world.redis.hash(&world.key("strong")).await;
    for weaker in ["SecureStrings", "None"] {
        world.change("strong", json!({"redis": {"encryption": weaker}})).await;
        world.condition("strong", "Stalled", "True", "InvalidSpec").await;
        world.ssm.put("/app/a", weaker);
        eventually(&format!("{weaker} is refused"), SOON, async || {
            let said = world.condition("strong", "Ready", "False", "InvalidSpec").await.message;
            if said.contains(&format!("is {weaker}")) && said.contains("All") { Ok(()) } else { Err(said) }
        })
        .await;
    }
    assert_eq!(world.redis.hash(&world.key("strong")).await, sealed);
    world.change("strong", json!({"redis": {"encryption": "All"}})).await;
    world.ready("strong", "Synced").await;
    world.sync("strong").await;
    assert_eq!(world.values("strong").await["/app/a"], "None");
    eventually("the source says what its last read was", SOON, async || {
        let columns = world.cluster.kubectl(&["get", "psource", &world.source]).await;
        if columns.contains("True        Available") { Ok(()) } else { Err(columns) }
    })
    .await;
}
