//! Copies with a past: a tenant changes a mirror that once held values, or an administrator changes its
//! source, so that the set may no longer be used. The operator judges a set by the source it was read from,
//! never by the one that the spec names now.

use std::time::Duration;

use rstest::rstest;
use serde_json::{Value as Json, json};

use super::line::{Edge, Fault};
use super::world::{HOME, NAMESPACE, Operator, Part, World, redis_key};

const SOON: Duration = Duration::from_mins(2);
const LONG: Duration = Duration::from_mins(10);

/// A mirror that serves release 1 from `us-east-1`, encrypted as its source requires, before SSM becomes
/// silent.
async fn one_that_is_served() -> (World, Operator) {
    let world = World::new();
    world.patch("parametersources", None, "default", &json!({"spec": {"redisEncryption": "All"}}));
    world.mirror_with(
        "app",
        json!({"interval": "1m", "parameters": [{"path": "/app"}], "redis": {"encryption": "All"}}),
    );
    let operator = world.operator();
    world.becomes("app", "Ready", "True", "Synced", SOON).await;
    world.faults.set(|call| (call.edge == Edge::Ssm).then_some(Fault::Silent));
    (world, operator)
}

fn grants(paths: &Json) -> Json {
    json!([{"namespaces": [NAMESPACE], "paths": paths}])
}

fn source(world: &World, name: &str, mut spec: Json) {
    spec["grants"] = spec.get("grants").cloned().unwrap_or_else(|| grants(&json!(["/"])));
    let source = json!({
        "apiVersion": "parameter-mirror.dev/v1alpha1", "kind": "ParameterSource", "metadata": {"name": name}, "spec": spec,
    });
    world.create("parametersources", None, source);
}

/// The tenant's attempt: a source with this name, another Secret, no encryption.
fn grab(world: &World, source: &str) {
    let spec = json!({"spec": {"sourceRef": {"name": source}, "secret": {"name": "loot"}, "redis": {"encryption": "None"}}});
    world.patch("parametermirrors", Some(NAMESPACE), "app", &spec);
}

fn loot(world: &World) -> Option<std::sync::Arc<Json>> {
    world.api.objects(|objects| objects.get("secrets", NAMESPACE, "loot"))
}

fn sealed(world: &World) -> bool {
    let hash = world.redis.hash(&redis_key("app")).unwrap();
    let values: Vec<_> = hash.iter().filter(|(field, _)| field.starts_with(b"/")).collect();
    !values.is_empty() && values.iter().all(|(_, value)| value.starts_with(b"pm1:"))
}

/// The mirror names a source that does not exist, grants nothing, or is elsewhere. Nothing new is written,
/// neither by a running operator nor by one that only knows the targets.
#[rstest]
#[case::made_up("made-up", |_: &World| ())]
#[case::withdrawn_and_made_up("made-up", withdraw)]
#[case::withdrawn_and_another_region("elsewhere", |world: &World| {
    withdraw(world);
    source(world, "elsewhere", json!({"region": "eu-west-1", "redisEncryption": "None"}));
})]
#[case::deleted_and_another_region("elsewhere", |world: &World| {
    delete(world);
    source(world, "elsewhere", json!({"region": "eu-west-1", "redisEncryption": "None"}));
})]
#[case::deleted_and_another_role("elsewhere", |world: &World| {
    delete(world);
    let role = "arn:aws:iam::444455556666:role/reader";
    source(world, "elsewhere", json!({"region": "us-east-1", "roleArn": role, "redisEncryption": "None"}));
})]
#[case::deleted("default", delete)]
#[case::undecodable("default", |world: &World| {
    world.patch("parametersources", None, "default", &json!({"spec": {"region": 7}}));
})]
#[case::moved_to_another_region("default", |world: &World| {
    world.patch(
        "parametersources", None, "default",
        &json!({"spec": {"region": "eu-west-1", "redisEncryption": "None"}}),
    );
})]
#[tokio::test(start_paused = true)]
async fn a_tenant_gets_no_new_copy_of_what_is_not_granted_now(
    #[case] named: &str,
    #[case] change: fn(&World),
    #[values(false, true)] restarted: bool,
) {
    let (world, operator) = one_that_is_served().await;
    change(&world);
    world.pass(Duration::from_secs(5)).await;
    let operator = if restarted {
        operator.kill();
        grab(&world, named);
        world.operator()
    } else {
        grab(&world, named);
        operator
    };
    world.pass(LONG).await;
    let is_granted_elsewhere = named == "made-up" && world_still_grants(&world);
    if is_granted_elsewhere {
        // It may have it from the original source, but never unencrypted where that source requires
        // encryption.
        assert!(loot(&world).is_some());
    } else {
        assert_eq!(loot(&world), None);
        let (ready, reason) = world.condition("app", "Ready");
        assert_eq!(ready, "False", "{reason}");
    }
    assert!(sealed(&world), "the hash is in clear");
    drop(operator);
}

fn world_still_grants(world: &World) -> bool {
    let source = world.api.objects(|objects| objects.get("parametersources", "", "default"));
    source.is_some_and(|source| source["spec"]["grants"] != json!([]))
}

fn withdraw(world: &World) {
    world.patch("parametersources", None, "default", &json!({"spec": {"grants": []}}));
}

fn delete(world: &World) {
    world.delete_source("default");
}

/// A set whose source is missing now is kept where it was, and healed there.
#[rstest]
#[case::deleted(delete)]
#[case::undecodable(|world: &World| {
    world.patch("parametersources", None, "default", &json!({"spec": {"region": 7}}));
})]
#[tokio::test(start_paused = true)]
async fn a_missing_source_is_an_outage_for_what_was_read_through_it(
    #[case] change: fn(&World),
    #[values(false, true)] restarted: bool,
) {
    let (world, operator) = one_that_is_served().await;
    change(&world);
    world.pass(SOON).await;
    let _operator = if restarted {
        operator.kill();
        world.operator()
    } else {
        operator
    };
    world.pass(SOON).await;
    world.destroy("app", Part::Secret, || world.delete("secrets", NAMESPACE, "app"));
    world
        .eventually(SOON, || match world.serves("app", Part::Secret) {
            Some(1) => Ok(()),
            other => Err(format!("the Secret serves {other:?}")),
        })
        .await;
    world.destroy("app", Part::Redis, || world.redis.delete(&redis_key("app")));
    world
        .eventually(SOON, || world.redis.hash(&redis_key("app")).map(|_| ()).ok_or("no hash".to_owned()))
        .await;
    assert!(sealed(&world), "the hash came back in clear");
}

/// The same place under another name is the same source.
#[tokio::test(start_paused = true)]
async fn a_source_that_is_renamed_goes_on_serving() {
    let (world, _operator) = one_that_is_served().await;
    source(&world, "renamed", json!({"region": "us-east-1", "redisEncryption": "All"}));
    world.delete_source("default");
    world.patch(
        "parametermirrors",
        Some(NAMESPACE),
        "app",
        &json!({"spec": {"sourceRef": {"name": "renamed"}}}),
    );
    world.pass(SOON).await;
    world.destroy("app", Part::Secret, || world.delete("secrets", NAMESPACE, "app"));
    world
        .eventually(SOON, || match world.serves("app", Part::Secret) {
            Some(1) => Ok(()),
            other => Err(format!("the Secret serves {other:?}")),
        })
        .await;
    world.becomes("app", "Ready", "True", "ServingLastKnownGood", SOON).await;
}

/// What a tenant can create before the very first start: the label and a forged signature on a Secret, a
/// status with a published set, and a hash if Redis is open to it. None of that makes the operator believe
/// that it has lost its keys.
#[rstest]
#[tokio::test(start_paused = true)]
async fn what_a_tenant_left_before_the_first_start_is_no_loss_of_keys(#[values(true, false)] watches: bool) {
    let world = World::new();
    world.secret_watch.set(watches);
    let forged = json!({
        "parameter-mirror.dev/mac": "pm1:k1:AAAA", "parameter-mirror.dev/format": "1",
        "parameter-mirror.dev/owner": format!("c/{NAMESPACE}/app"), "parameter-mirror.dev/source": "{}",
    });
    let label = json!({"app.kubernetes.io/managed-by": "parameter-mirror"});
    for name in ["left", "app"] {
        let metadata = json!({"name": name, "labels": label, "annotations": forged});
        world.create("secrets", Some(NAMESPACE), json!({"metadata": metadata, "data": {}}));
    }
    world.redis.put(&redis_key("app"), [("@mac", "pm1:k1:AAAA"), ("/app/p0", "x")].map(pair).into());
    world.mirror_with("app", json!({"interval": "1m", "parameters": [{"path": "/app"}], "redis": null}));
    let status =
        json!({"status": {"revision": "abc", "parameters": 3, "secret": {"name": "app", "revision": "abc"}}});
    world.patch("parametermirrors", Some(NAMESPACE), "app", &status);
    world.mirror("neighbour", "1m");
    let operator = world.operator();
    world.both_serve("neighbour", 1, SOON).await;
    world.becomes("neighbour", "Degraded", "False", "Synced", SOON).await;
    // The tenant's own Secret claims a signature by a key that never existed; a complete read replaces it.
    world.becomes("app", "Degraded", "False", "Synced", SOON).await;

    // The operator records that it has created keys where no tenant can write, so lost keys are noticed
    // whatever tenants delete.
    operator.terminate().await;
    world.delete("secrets", HOME, "parameter-mirror-keys");
    world.delete("secrets", NAMESPACE, "left");
    let _operator = world.operator();
    world.becomes("neighbour", "Degraded", "True", "KeyMissing", SOON).await;
    assert!(world.api.objects(|objects| objects.get("secrets", HOME, "parameter-mirror-keys")).is_none());
}

fn pair((name, text): (&str, &str)) -> (Vec<u8>, Vec<u8>) {
    (name.into(), text.into())
}

/// A namespace is deleted and created again under its old name for another team. Its current grant decides,
/// not what an earlier mirror of that name was served. The copy that the earlier mirror left in Redis is a
/// copy like any other.
#[rstest]
#[case::granted_by_labels_that_it_does_not_have(json!({"namespaceSelector": {"matchLabels": {"team": "former"}}}), false)]
#[case::granted_by_its_name(json!({"namespaces": [NAMESPACE]}), true)]
#[tokio::test(start_paused = true)]
async fn a_namespace_under_an_old_name_gets_what_is_granted_to_it_now(
    #[case] mut grant: Json,
    #[case] is_served: bool,
    #[values(false, true)] restarted: bool,
) {
    let (world, operator) = one_that_is_served().await;
    let team = |team: Option<&str>| json!({"metadata": {"labels": {"team": team}}});
    world.patch("namespaces", None, NAMESPACE, &team(Some("former")));
    grant["paths"] = json!(["/"]);
    world.patch("parametersources", None, "default", &json!({"spec": {"grants": [grant]}}));
    world.pass(SOON).await;

    world.delete("parametermirrors", NAMESPACE, "app");
    world.destroy("app", Part::Secret, || world.delete("secrets", NAMESPACE, "app"));
    world.patch("namespaces", None, NAMESPACE, &team(None));
    world.pass(SOON).await;
    assert!(sealed(&world), "its copy is still there");
    let _operator = if restarted {
        operator.kill();
        world.operator()
    } else {
        operator
    };
    world.mirror_with(
        "app",
        json!({"interval": "1m", "parameters": [{"path": "/app"}], "secret": {"name": "loot"}, "redis": {"encryption": "All"}}),
    );
    world.pass(LONG).await;
    assert_eq!(loot(&world).is_some(), is_served);
    let (ready, reason) = world.condition("app", "Ready");
    assert_eq!(ready == "True", is_served, "{reason}");
}
