//! Values that two targets hold can be evicted from memory (docs/design/formats.md, "Memory"). Nothing else
//! changes.

use std::time::Duration;

use serde_json::json;

use super::line::{Edge, Fault};
use super::world::{HOME, NAMESPACE, Operator, Part, World, redis_key};

const SOON: Duration = Duration::from_mins(1);
const MIRRORS: [&str; 4] = ["a", "b", "c", "d"];

/// Four mirrors with a hundred bytes each, and an operator with memory for a hundred and fifty.
async fn crowded(interval: &str, secret_watch: bool) -> (World, Operator) {
    let world = World::new();
    world.secret_watch.set(secret_watch);
    world.memory_values.set(150);
    let operator = world.operator();
    for mirror in MIRRORS {
        put(&world, mirror, "1");
        world.mirror_with(
            mirror,
            json!({"interval": interval, "parameters": [{"path": format!("/{mirror}")}]}),
        );
        both_hold(&world, mirror, "1").await;
    }
    (world, operator)
}

fn put(world: &World, mirror: &str, value: &str) {
    world.ssm.put(&format!("/{mirror}/x"), &long(mirror, value), world.now());
}

fn long(mirror: &str, value: &str) -> String {
    format!("{mirror}{value}{}", "-".repeat(98))
}

async fn both_hold(world: &World, mirror: &str, value: &str) {
    let holds = |part| {
        let held = world.values(mirror, part).unwrap_or_default();
        held.into_values().eq([long(mirror, value)])
    };
    let look = || {
        if holds(Part::Secret) && holds(Part::Redis) {
            Ok(())
        } else {
            Err(format!("{mirror} does not hold {value}"))
        }
    };
    world.eventually(SOON, look).await;
}

/// Returns how often whole Secrets and hashes were read.
fn read_back(operator: &Operator) -> (usize, usize) {
    let calls = operator.line.calls();
    let count = |edge, verb: &str| {
        calls.iter().filter(|call| call.edge == edge && call.point.starts_with(verb)).count()
    };
    (count(Edge::Kubernetes, "get secrets/"), count(Edge::Redis, "observe"))
}

#[tokio::test(start_paused = true)]
async fn evicted_values_are_read_back_for_a_read_and_not_for_a_check() {
    for secret_watch in [true, false] {
        read_back_when_due(secret_watch).await;
    }
}

async fn read_back_when_due(secret_watch: bool) {
    let (world, operator) = crowded("1h", secret_watch).await;
    world.pass(SOON).await;
    let before = read_back(&operator);
    world.pass(Duration::from_mins(20)).await;
    assert_eq!(read_back(&operator), before, "nothing was due and nobody touched anything");
    world.pass(Duration::from_mins(50)).await;
    let (secrets, hashes) = read_back(&operator);
    // Each cycle reads hashes back, and Secrets only if their values are evicted: those of at least all but
    // one.
    assert_eq!(hashes - before.1, 4);
    assert!((3..=4).contains(&(secrets - before.0)), "{secrets} after {}", before.0);
    for mirror in MIRRORS {
        put(&world, mirror, "2");
    }
    world.pass(Duration::from_hours(1)).await;
    for mirror in MIRRORS {
        both_hold(&world, mirror, "2").await;
    }
}

#[tokio::test(start_paused = true)]
async fn evicted_values_heal_in_an_outage_like_all_others() {
    for secret_watch in [true, false] {
        heals_in_an_outage(secret_watch).await;
    }
}

async fn heals_in_an_outage(secret_watch: bool) {
    let (world, operator) = crowded("5m", secret_watch).await;
    world.pass(SOON).await;
    world.faults.set(|call| (call.edge == Edge::Ssm).then_some(Fault::Silent));
    for mirror in MIRRORS {
        world.delete("secrets", NAMESPACE, mirror);
        both_hold(&world, mirror, "1").await;
        world.redis.delete(&redis_key(mirror));
        both_hold(&world, mirror, "1").await;
        world.patch("secrets", Some(NAMESPACE), mirror, &json!({"data": {"X": "ZWRpdGVk"}}));
        both_hold(&world, mirror, "1").await;
    }
    world.pass(Duration::from_mins(20)).await;
    operator.terminate().await;
    let _operator = world.operator();
    for mirror in MIRRORS {
        world.becomes(mirror, "Degraded", "True", "Timeout", Duration::from_mins(6)).await;
        assert_eq!(world.condition(mirror, "Ready"), ("True".to_owned(), "ServingLastKnownGood".to_owned()));
        world.redis.delete(&redis_key(mirror));
        both_hold(&world, mirror, "1").await;
        put(&world, mirror, "2");
    }
    world.faults.clear();
    world.pass(Duration::from_mins(5)).await;
    for mirror in MIRRORS {
        both_hold(&world, mirror, "2").await;
        world.becomes(mirror, "Degraded", "False", "Synced", SOON).await;
    }
}

/// The operator's key is rotated: evicted sets move to the new key, too, and no longer need the old one.
#[tokio::test(start_paused = true)]
async fn evicted_values_move_to_the_new_key_like_all_others() {
    let (world, operator) = crowded("5m", true).await;
    let change = |data: serde_json::Value| {
        world.patch("secrets", Some(HOME), "parameter-mirror-keys", &json!({"data": data}));
    };
    let keys = world.api.objects(|objects| objects.get("secrets", HOME, "parameter-mirror-keys")).unwrap();
    let old: Vec<_> =
        keys["data"].as_object().unwrap().keys().filter(|name| *name != "active").cloned().collect();
    change(json!({"k-next": "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="}));
    world.pass(SOON).await;
    change(json!({"active": "ay1uZXh0"}));
    world.pass(Duration::from_mins(12)).await;
    for mirror in MIRRORS {
        let secret = world.api.objects(|objects| objects.get("secrets", NAMESPACE, mirror)).unwrap();
        let in_secret = secret["metadata"]["annotations"]["parameter-mirror.dev/mac"].as_str().unwrap();
        let in_redis = world.redis.hash(&redis_key(mirror)).unwrap();
        let in_redis = String::from_utf8_lossy(&in_redis[b"@mac".as_slice()]).into_owned();
        for mac in [in_secret, &in_redis] {
            assert!(mac.starts_with("pm1:k-next:"), "{mirror}: {mac}");
        }
    }
    // In an outage, after a restart and without the old key, whatever either target loses is restored.
    change(json!({old[0].as_str(): null}));
    world.faults.set(|call| (call.edge == Edge::Ssm).then_some(Fault::Silent));
    operator.terminate().await;
    let _operator = world.operator();
    for mirror in MIRRORS {
        world.becomes(mirror, "Degraded", "True", "Timeout", Duration::from_mins(6)).await;
        world.delete("secrets", NAMESPACE, mirror);
        both_hold(&world, mirror, "1").await;
        world.redis.delete(&redis_key(mirror));
        both_hold(&world, mirror, "1").await;
    }
}

/// The staleness of an evicted set is reported in time, although nothing reads its values.
#[tokio::test(start_paused = true)]
async fn evicted_values_grow_stale_in_time() {
    let (world, _operator) = crowded("5m", true).await;
    let mirror = json!({"spec": {"maxStaleness": "30m"}});
    for name in MIRRORS {
        world.patch("parametermirrors", Some(NAMESPACE), name, &mirror);
    }
    world.pass(Duration::from_mins(6)).await;
    world.faults.set(|call| (call.edge == Edge::Ssm).then_some(Fault::Silent));
    world.pass(Duration::from_mins(24)).await;
    for name in MIRRORS {
        assert_ne!(world.condition(name, "Degraded").1, "Stale");
    }
    world.pass(Duration::from_mins(7)).await;
    for name in MIRRORS {
        assert_eq!(world.condition(name, "Degraded"), ("True".to_owned(), "Stale".to_owned()));
    }
}

/// A set in only one target cannot be evicted, so memory can run out.
#[tokio::test(start_paused = true)]
async fn a_first_set_that_does_not_fit_is_refused_and_says_memory() {
    let world = World::new();
    world.memory_values.set(150);
    let _operator = world.operator();
    for mirror in ["a", "b"] {
        put(&world, mirror, "1");
        let spec = json!({"interval": "5m", "parameters": [{"path": format!("/{mirror}")}], "redis": null});
        world.mirror_with(mirror, spec);
        world.pass(Duration::from_secs(5)).await;
    }
    assert_eq!(world.condition("a", "Ready"), ("True".to_owned(), "Synced".to_owned()));
    assert_eq!(world.condition("b", "Ready"), ("False".to_owned(), "MemoryShareExceeded".to_owned()));
    assert_eq!(world.values("b", Part::Secret), None);
    let said = world.api.objects(|objects| objects.get("parametermirrors", NAMESPACE, "b")).unwrap();
    assert!(said["status"].to_string().contains("--memory-values"), "{}", said["status"]);

    world.delete("parametermirrors", NAMESPACE, "a");
    world.becomes("b", "Ready", "True", "Synced", Duration::from_mins(6)).await;
}

/// A tenant that takes all it can get leaves enough memory for others to start and to continue.
#[tokio::test(start_paused = true)]
async fn a_namespace_leaves_the_others_their_shares() {
    let world = World::new();
    world.memory_values.set(1_000);
    world.create("namespaces", None, json!({"metadata": {"name": "greedy", "labels": {}}}));
    let to = |namespace: &str| json!({"namespaces": [namespace], "paths": ["/"]});
    let grants = json!({"spec": {"grants": [to(NAMESPACE), to("greedy")]}});
    world.patch("parametersources", None, "default", &grants);
    let _operator = world.operator();
    let spec = |mirror: &str| json!({"interval": "1m", "parameters": [{"path": format!("/{mirror}")}], "redis": null});
    let exceeded = ("False".to_owned(), "MemoryShareExceeded".to_owned());
    for number in 0..20 {
        let mirror = format!("g{number}");
        put(&world, &mirror, "1");
        world.mirror_in("greedy", &mirror, spec(&mirror));
    }
    let refused = || {
        (0..20)
            .filter(|number| world.condition_in("greedy", &format!("g{number}"), "Ready") == exceeded)
            .count()
    };
    let is_full =
        || Some(()).filter(|()| refused() >= 10).ok_or_else(|| format!("{} are refused", refused()));
    world.eventually(SOON, is_full).await;

    world.ssm.put("/small/x", "12345", world.now());
    world.mirror_with("small", spec("small"));
    world.becomes("small", "Ready", "True", "Synced", SOON).await;
    // A set that has grown is held where it exceeds the share, and accepted where it does not.
    let grown = "-".repeat(150);
    world.ssm.put("/small/x", &grown, world.now());
    for number in 0..20 {
        put(&world, &format!("g{number}"), &grown);
    }
    world
        .eventually(SOON * 2, || match world.values("small", Part::Secret) {
            Some(values) if values.values().eq([&grown]) => Ok(()),
            other => Err(format!("{other:?}")),
        })
        .await;
    let degraded = |mirror: &str| world.condition_in("greedy", mirror, "Degraded");
    let ready = |mirror: &str| world.condition_in("greedy", mirror, "Ready");
    let served: Vec<_> =
        (0..20).map(|number| format!("g{number}")).filter(|mirror| ready(mirror).0 == "True").collect();
    assert!(!served.is_empty());
    for mirror in &served {
        assert_eq!(ready(mirror), ("True".to_owned(), "ServingLastKnownGood".to_owned()));
        assert_eq!(degraded(mirror), ("True".to_owned(), "MemoryShareExceeded".to_owned()));
    }
}

/// Twenty mirrors of the same hundred bytes need memory for one.
#[tokio::test(start_paused = true)]
async fn what_many_mirrors_share_needs_room_once() {
    let world = World::new();
    world.memory_values.set(150);
    let _operator = world.operator();
    put(&world, "shared", "1");
    for number in 0..20 {
        let spec = json!({"interval": "5m", "parameters": [{"path": "/shared"}], "redis": null});
        world.mirror_with(&format!("m{number}"), spec);
    }
    for number in 0..20 {
        world.becomes(&format!("m{number}"), "Ready", "True", "Synced", SOON).await;
    }
}
