//! The story of the product: mirror, outage, damage, restart, recovery.

use parameter_mirror_test_support::Moto;
use serde_json::json;

use crate::world::{Setup, World};

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

/// The same against an SSM that is not our own.
#[tokio::test]
async fn moto_is_mirrored_too() {
    let moto = Moto::start().await;
    let world = World::with(Setup { ssm_endpoint: Some(moto.endpoint()), ..Setup::default() }).await;
    let ssm = moto.ssm("us-east-1");
    for n in 0..25 {
        ssm.put(&format!("/app/deep/n{n}"), "old", "String").await;
    }
    ssm.put("/app/secret", "hunter2", "SecureString").await;
    ssm.put("/app/list", "a,b", "StringList").await;
    world.synced("config").await;
    let data = world.data("config").await.unwrap();
    assert_eq!((data.len(), data["SECRET"].as_str(), data["LIST"].as_str()), (27, "hunter2", "a,b"));

    ssm.put("/app/deep/n24", "new", "String").await;
    ssm.put("/app/secret", "hunter3", "SecureString").await;
    ssm.delete("/app/deep/n0").await;
    world.sync("config").await;
    world.healthy("config").await;
    let values = world.values("config").await;
    assert_eq!(
        (values.len(), values["/app/secret"].as_str(), values["/app/deep/n24"].as_str()),
        (26, "hunter3", "new")
    );
    let data = world.data("config").await.unwrap();
    assert!(!data.contains_key("DEEP_N0") && data["DEEP_N24"] == "new");
}
