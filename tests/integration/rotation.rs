//! The operator's key is rotated in the five steps of docs/operations/keys.md, while readers with sub-keys keep
//! reading: they never find a value that they cannot decrypt.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, Patch, PatchParams};
use parameter_mirror_format::crypto::subkey::SubKey;
use parameter_mirror_format::hash::decode_for_reader;
use parameter_mirror_format::hash::fields::Fields;
use parameter_mirror_test_support::Redis;
use parameter_mirror_test_support::copies;
use redis::AsyncCommands as _;
use serde_json::json;

use crate::world::World;

const NEXT: &str = "k-next";

/// The sub-keys of a reader.
type Handed = Arc<Vec<SubKey>>;

/// A reader that reads a mirror repeatedly with its sub-keys.
struct Reader {
    sub_keys: Arc<Mutex<Handed>>,
    stop: Arc<AtomicBool>,
    work: tokio::task::JoinHandle<(u64, Vec<String>)>,
}

async fn read(redis: &Redis, key: &str) -> Fields {
    redis.hash(key).await.into_iter().map(|(name, bytes)| (name.into_bytes(), bytes)).collect()
}

impl Reader {
    async fn start(world: &World, mirror: &str, sub_keys: Handed) -> Self {
        let (sub_keys, stop) = (Arc::new(Mutex::new(sub_keys)), Arc::new(AtomicBool::default()));
        let mut connection = world.redis.connection().await.unwrap();
        let work = tokio::spawn({
            let (key, sub_keys, stop) = (world.key(mirror), Arc::clone(&sub_keys), Arc::clone(&stop));
            async move {
                let (mut reads, mut unreadable) = (0, Vec::new());
                while !stop.load(Ordering::Relaxed) {
                    let found: BTreeMap<Vec<u8>, Vec<u8>> = connection.hgetall(&key).await.unwrap();
                    let fields: Fields = found.into_iter().collect();
                    let handed = Arc::clone(&sub_keys.lock().unwrap());
                    reads += 1;
                    if let Err(error) = decode_for_reader(&fields, &key, &handed, None) {
                        unreadable.push(format!("read {reads}: {error}"));
                    }
                }
                (reads, unreadable)
            }
        });
        Self { sub_keys, stop, work }
    }

    fn is_handed(&self, sub_keys: Handed) {
        *self.sub_keys.lock().unwrap() = sub_keys;
    }

    async fn stop(self) -> (u64, Vec<String>) {
        self.stop.store(true, Ordering::Relaxed);
        self.work.await.unwrap()
    }
}

/// Returns what `parameter-mirror key` prints for a mirror now, the active key first.
async fn sub_keys(world: &World, mirror: &str) -> Handed {
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_parameter-mirror"));
    command.args(["key", &format!("{}/{mirror}", world.namespace), "--namespace", &world.home]).env_clear();
    let output = command.env("KUBECONFIG", world.cluster.kubeconfig()).output().await.unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    Arc::new(printed.lines().map(|line| SubKey::parse(line).unwrap()).collect())
}

fn key_ids(handed: &Handed) -> Vec<String> {
    handed.iter().map(|sub_key| sub_key.key_id().to_string()).collect()
}

async fn change_keys(world: &World, patch: serde_json::Value) {
    let keys: Api<Secret> = Api::namespaced(world.client.clone(), &world.home);
    keys.patch("parameter-mirror-keys", &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
}

#[tokio::test]
async fn a_key_is_replaced_in_five_steps_without_an_unreadable_read() {
    let world = World::start().await;
    world.ssm.put_secure("/app/a", "1");
    world.synced("one").await;
    world.synced("two").await;
    // This mirror keeps a value that SSM no longer has.
    world.ssm.put_secure("/app/gone", "kept");
    let parameters = json!([{"name": "/app/a"}, {"name": "/app/gone"}]);
    world.mirror("keeper", json!({"parameters": parameters, "secret": {}, "redis": {}})).await;
    world.ready("keeper", "Synced").await;
    world.ssm.delete("/app/gone");
    world.sync("keeper").await;
    world.degraded("keeper", "ParameterNotFound").await;
    for mirror in ["one", "two"] {
        world.sync(mirror).await;
    }
    let old = copies::keys(&world.client, &world.home).await.active().to_string();
    let first = sub_keys(&world, "one").await;
    assert_eq!(key_ids(&first), [old.as_str()]);
    let reader = Reader::start(&world, "one", Arc::clone(&first)).await;
    let other = Reader::start(&world, "two", sub_keys(&world, "two").await).await;
    // A reader that is not given the new key fails at once.
    let forgotten = Reader::start(&world, "one", Arc::clone(&first)).await;
    let (version, content) = (world.resource_version("one").await, world.content("one").await);
    let generation = world.number("one", "@generation").await;

    // Add the key and distribute it: nothing is rewritten yet.
    let random = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
    change_keys(&world, json!({"data": {NEXT: random}})).await;
    let both = sub_keys(&world, "one").await;
    assert_eq!(key_ids(&both), [old.as_str(), NEXT]);
    reader.is_handed(both);
    other.is_handed(sub_keys(&world, "two").await);
    world.sync("one").await;
    assert_eq!(world.resource_version("one").await, version);
    assert_eq!(world.number("one", "@generation").await, generation);

    // Activate it. SSM is down: served targets are not rewritten, and lost ones are restored unchanged.
    world.ssm.refuse();
    change_keys(&world, json!({"stringData": {"active": NEXT}})).await;
    assert_eq!(key_ids(&sub_keys(&world, "one").await), [NEXT, old.as_str()]);
    world.sync("one").await;
    assert_eq!(world.resource_version("one").await, version, "an outage is no time to rewrite");

    // Rewrite: once in each target, with the same content.
    world.ssm.listen_again();
    for mirror in ["one", "two"] {
        world.sync(mirror).await;
        world.healthy(mirror).await;
        world.field_is(mirror, "@enc", &format!("SecureStrings:pm1:{NEXT}")).await;
    }
    world.sync("keeper").await;
    world.degraded("keeper", "ParameterNotFound").await;
    world.field_is("keeper", "@enc", &format!("SecureStrings:pm1:{NEXT}")).await;
    let mac =
        |secret: &Secret| secret.metadata.annotations.clone().unwrap()["parameter-mirror.dev/mac"].clone();
    assert!(mac(&world.secrets().get("one").await.unwrap()).starts_with(&format!("pm1:{NEXT}:")));
    let rewritten = world.resource_version("one").await;
    let after = world.content("one").await;
    for field in ["@readAt", "@revision", "@params", "/app/a"] {
        assert_eq!(after[field], content[field], "{field}");
    }
    let swapped = world.number("one", "@generation").await;
    world.sync("one").await;
    assert_eq!(world.resource_version("one").await, rewritten, "a Secret was rewritten twice");
    assert_eq!(world.number("one", "@generation").await, swapped, "a hash was rewritten twice");

    // Remove the old key.
    change_keys(&world, json!({"data": {&old: null}})).await;
    assert_eq!(key_ids(&sub_keys(&world, "one").await), [NEXT]);
    reader.is_handed(sub_keys(&world, "one").await);
    other.is_handed(sub_keys(&world, "two").await);
    for mirror in ["one", "two"] {
        world.sync(mirror).await;
        world.healthy(mirror).await;
    }
    world.sync("keeper").await;
    world.degraded("keeper", "ParameterNotFound").await;
    world.holds("keeper", &[("A", "1"), ("GONE", "kept")]).await;
    assert_eq!(world.values("keeper").await["/app/gone"], "kept");
    assert!(
        decode_for_reader(&read(&world.redis, &world.key("one")).await, &world.key("one"), &first, None)
            .is_err()
    );
    for reader in [reader, other] {
        let (reads, unreadable) = reader.stop().await;
        assert!(reads > 100 && unreadable.is_empty(), "{} of {reads}: {unreadable:?}", unreadable.len());
    }
    let (_, unreadable) = forgotten.stop().await;
    assert!(!unreadable.is_empty(), "one sub-key was enough: nothing was rewritten");
}
