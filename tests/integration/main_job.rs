//! The story of the product: mirror, outage, damage, restart, recovery.

use serde_json::json;

use crate::world::World;

#[tokio::test]
async fn values_are_mirrored_and_outlive_an_outage_damage_and_a_restart() {
    let mut world = World::start().await;
    world.ssm.put("/app/db/host", "db.internal");
    world.ssm.put_list("/app/brokers", "a,b,c");
    world.ssm.put_secure("/app/db/password", "hunter2");
    world.mirror("config", json!({"parameters": [{"path": "/app"}], "secret": {}, "redis": {}})).await;
    world.ready("config", "Synced").await;
    let all = [("BROKERS", "a,b,c"), ("DB_HOST", "db.internal"), ("DB_PASSWORD", "hunter2")];
    world.holds("config", &all).await;
    world.field_is("config", "/app/db/host", "db.internal").await;
    let encrypted = world.field("config", "/app/db/password").await.unwrap();
    assert!(encrypted.starts_with("pm1:"), "a SecureString lies in Redis as {encrypted}");

    world.ssm.refuse();
    world.sync("config").await;
    world.degraded("config", "SourceUnavailable").await;
    world.ready("config", "ServingLastKnownGood").await;
    let content = world.content("config").await;

    world.cluster.kubectl(&["delete", "secret", "config", "-n", &world.namespace]).await;
    world.holds("config", &all).await;
    world.redis.flush_all().await;
    world.field_is("config", "/app/db/host", "db.internal").await;
    assert_eq!(world.content("config").await, content, "Redis came back, but not byte for byte");

    let version = world.resource_version("config").await;
    world.operator.crash_and_restart().await;
    world.sync("config").await;
    world.degraded("config", "SourceUnavailable").await;
    assert_eq!(world.resource_version("config").await, version, "a restart wrote the Secret");
    assert_eq!(world.content("config").await, content, "a restart wrote Redis");

    world.ssm.put("/app/db/host", "db2.internal");
    world.ssm.listen_again();
    world.healthy("config").await;
    world
        .holds("config", &[("BROKERS", "a,b,c"), ("DB_HOST", "db2.internal"), ("DB_PASSWORD", "hunter2")])
        .await;
    world.field_is("config", "/app/db/host", "db2.internal").await;
}
