//! Copies with a past: a mirror that once held values is changed by a tenant, or its source by an administrator, so that what was
//! read may no longer be used. Judged by where it was read, never by what the spec names now.

use std::time::Duration;

use rstest::rstest;
use serde_json::{Value as Json, json};

use super::line::{Edge, Fault};
use super::world::{NAMESPACE, Operator, Part, World, redis_key};

const SOON: Duration = Duration::from_mins(2);
const LONG: Duration = Duration::from_mins(10);

/// A mirror that serves release 1 out of `us-east-1`, encrypted as its source demands, before SSM falls silent.
async fn one_that_is_served() -> (World, Operator) {
    let world = World::new();
    world.patch("parametersources", None, "default", &json!({"spec": {"redisEncryption": "All"}}));
    world.mirror_with(
        "app",
        json!({"interval": "1m", "parameters": [{"path": "/app"}], "redis": {"encryption": "All"}}),
    );
    let operator = world.operator();
    world.becomes("app", "Ready", "True", "Synced", SOON).await;
    world.sky.set(|call| (call.edge == Edge::Ssm).then_some(Fault::Silent));
    (world, operator)
}

fn grants(paths: &Json) -> Json {
    json!([{"namespaces": {"names": [NAMESPACE]}, "paths": paths}])
}

fn source(world: &World, name: &str, mut spec: Json) {
    spec["grants"] = spec.get("grants").cloned().unwrap_or_else(|| grants(&json!(["/"])));
    let source = json!({
        "apiVersion": "parameter-mirror.dev/v1alpha1", "kind": "ParameterSource", "metadata": {"name": name}, "spec": spec,
    });
    world.create("parametersources", None, source);
}

/// What the tenant tries: a source of this name, another Secret, no encryption.
fn grab(world: &World, source: &str) {
    let spec =
        json!({"spec": {"source": source, "secret": {"name": "loot"}, "redis": {"encryption": "None"}}});
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

/// Named sources that do not exist, that grant nothing, or that lead elsewhere: nothing new is written, by a running operator and by
/// one that knows only what the targets hold.
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
        // It may have it from the source that it came from: but never in clear where that demands encryption.
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

/// What was read through a source that is missing now is kept where it was, and healed there.
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

/// The same place under another name is the same place.
#[tokio::test(start_paused = true)]
async fn a_source_that_is_renamed_goes_on_serving() {
    let (world, _operator) = one_that_is_served().await;
    source(&world, "renamed", json!({"region": "us-east-1", "redisEncryption": "All"}));
    world.delete_source("default");
    world.patch("parametermirrors", Some(NAMESPACE), "app", &json!({"spec": {"source": "renamed"}}));
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
