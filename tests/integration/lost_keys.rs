//! The key Secret signs every target. While it is missing, the operator reports that and changes nothing. A
//! restored Secret is used again; if it is really lost, a new one takes over after a complete read.

use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, DeleteParams, PostParams};
use parameter_mirror_format::crypto::keys::KeyRing;

use crate::world::World;

const NAME: &str = "parameter-mirror-keys";

fn api(world: &World) -> Api<Secret> {
    Api::namespaced(world.client.clone(), &world.home)
}

/// Deletes the key Secret and returns it.
async fn lose(world: &World) -> Secret {
    let keys = api(world).get(NAME).await.unwrap();
    api(world).delete(NAME, &DeleteParams::default()).await.unwrap();
    keys
}

async fn restore(world: &World, mut keys: Secret) {
    keys.metadata.resource_version = None;
    keys.metadata.uid = None;
    api(world).create(&PostParams::default(), &keys).await.unwrap();
}

#[tokio::test]
async fn lost_keys_are_missed_and_taken_up_when_they_come_back() {
    let mut world = World::start().await;
    world.ssm.put("/app/a", "1");
    world.synced("config").await;
    let (version, content) = (world.resource_version("config").await, world.content("config").await);

    let keys = lose(&world).await;
    let degraded = world.degraded("config", "KeyMissing").await;
    assert!(degraded.message.contains("Restore it from a backup"), "{}", degraded.message);
    world.ssm.put("/app/a", "2");
    world.sync("config").await;
    assert_eq!(world.resource_version("config").await, version, "a Secret was written without keys");

    // Even a restart creates no new keys while something is signed with the old ones.
    world.operator.crash_and_restart().await;
    world.degraded("config", "KeyMissing").await;
    assert!(
        api(&world).get_opt(NAME).await.unwrap().is_none(),
        "new keys were made over the loss of old ones"
    );
    assert_eq!(world.resource_version("config").await, version);

    restore(&world, keys).await;
    assert_eq!(world.content("config").await, content);
    world.sync("config").await;
    world.healthy("config").await;
    world.holds("config", &[("A", "2")]).await;
}

#[tokio::test]
async fn new_keys_take_over_after_a_complete_read_and_not_before() {
    let mut world = World::start().await;
    world.ssm.put_secure("/app/a", "1");
    world.synced("config").await;
    let version = world.resource_version("config").await;
    world.ssm.refuse();
    let old = lose(&world).await;
    world.degraded("config", "KeyMissing").await;

    let fresh = KeyRing::generate("k-new".parse().unwrap()).unwrap().to_data();
    let data = fresh.into_iter().map(|(name, bytes)| (name, k8s_openapi::ByteString(bytes))).collect();
    restore(&world, Secret { data: Some(data), ..old }).await;
    world.sync("config").await;
    let degraded = world.degraded("config", "KeyMissing").await;
    assert!(degraded.message.contains("which the key Secret does not hold"), "{}", degraded.message);
    assert_eq!(
        world.resource_version("config").await,
        version,
        "foreign keys were written over without a read"
    );

    // A restarted operator can verify nothing, and still reports what it observes.
    world.operator.crash_and_restart().await;
    world.sync("config").await;
    world.degraded("config", "KeyMissing").await;
    assert_eq!(world.resource_version("config").await, version);

    world.ssm.listen_again();
    world.sync("config").await;
    world.healthy("config").await;
    world.holds("config", &[("A", "1")]).await;
    assert_ne!(world.resource_version("config").await, version);
    assert_eq!(world.values("config").await["/app/a"], "1");
}
