//! Many mirrors of one namespace beside one of another, while an edge is slow but not dead. A call that fails
//! at once takes a slot for a moment, a slow call keeps it. The one mirror must wait no longer than without
//! the many, except for the slots that are taken when its turn comes.

use std::time::Duration;

use parameter_mirror::mirror::snapshot::ReadErrorKind;
use rstest::rstest;
use serde_json::json;

use super::line::{Call, Edge, Fault};
use super::world::{NAMESPACE, Part, World};

const MANY: usize = 400;
const DEADLINE: Duration = Duration::from_mins(20);

type FaultPolicy = fn(&Call) -> Option<Fault>;

/// The reconciles and reads in progress when the turn of the one mirror comes must end: a few sequential
/// calls of the slow edge.
const SLOTS_END: Duration = Duration::from_secs(15);

/// How long the one mirror waits.
#[derive(Debug)]
struct Waits {
    /// From the creation of a mirror to its first values in its Secret.
    first_values: Duration,
    /// From the deletion of a Secret until it is restored.
    healed: Duration,
    /// From a change in SSM to its arrival.
    changed: Duration,
}

async fn waits(many: usize, policy: FaultPolicy) -> Waits {
    let world = World::new();
    world.create("namespaces", None, json!({"metadata": {"name": "many", "labels": {}}}));
    let to = |namespace: &str| json!({"namespaces": [namespace], "paths": ["/"]});
    let grants = json!({"spec": {"grants": [to(NAMESPACE), to("many")]}});
    world.patch("parametersources", None, "default", &grants);
    let name = |number: usize| format!("many-{number}");
    for number in 0..many {
        world.ssm.put(&format!("/many/{number}/x"), "1", world.now());
        let spec = json!({
            "interval": "1m", "sourceRef": {"name": "default"}, "parameters": [{"path": format!("/many/{number}")}], "secret": {}, "redis": {},
        });
        let mirror = json!({
            "apiVersion": "parameter-mirror.dev/v1alpha1", "kind": "ParameterMirror",
            "metadata": {"name": name(number)}, "spec": spec,
        });
        world.create("parametermirrors", Some("many"), mirror);
    }
    world.mirror("calm", "1m");
    let _operator = world.operator();
    world.both_serve("calm", 1, DEADLINE).await;
    world.pass(Duration::from_mins(3)).await;

    world.faults.set(policy);
    world.pass(Duration::from_mins(2)).await;
    // The many mirrors lose all their Secrets at the same moment.
    for number in 0..many {
        lose(&world, &name(number));
    }
    let began = world.elapsed();
    world.destroy("calm", Part::Secret, || world.delete("secrets", NAMESPACE, "calm"));
    serves(&world, "calm", 1).await;
    let healed = world.elapsed().saturating_sub(began);

    for number in 0..many {
        lose(&world, &name(number));
    }
    let began = world.elapsed();
    world.mirror("new", "1m");
    serves(&world, "new", 1).await;
    let first_values = world.elapsed().saturating_sub(began);

    let began = world.elapsed();
    let release = world.release_next();
    serves(&world, "calm", release).await;
    Waits { first_values, healed, changed: world.elapsed().saturating_sub(began) }
}

/// Deletes the Secret, unless it has not been restored yet.
fn lose(world: &World, secret: &str) {
    if world.api.objects(|objects| objects.get("secrets", "many", secret)).is_some() {
        world.delete("secrets", "many", secret);
    }
}

async fn serves(world: &World, mirror: &str, release: u64) {
    world
        .eventually(DEADLINE, || match world.serves(mirror, Part::Secret) {
            Some(served) if served == release => Ok(()),
            other => Err(format!("{mirror} serves {other:?}, not {release}")),
        })
        .await;
}

#[rstest]
#[case::nothing_is_slow(|_: &Call| None)]
#[case::api_server_3_s(|call: &Call| {
    let slow = call.edge == Edge::Kubernetes && !call.point.starts_with("watch") && !call.point.contains("leases");
    slow.then_some(Fault::Slow(Duration::from_secs(3)))
})]
#[case::ssm_4_s(|call: &Call| (call.edge == Edge::Ssm).then_some(Fault::Slow(Duration::from_secs(4))))]
#[case::redis_400_ms(|call: &Call| (call.edge == Edge::Redis).then_some(Fault::Slow(Duration::from_millis(400))))]
#[case::redis_is_full(|call: &Call| {
    let full = Fault::Redis(parameter_mirror_redis::ConnectionError::OutOfMemory);
    (call.edge == Edge::Redis && call.point.starts_with("swap")).then_some(full)
})]
#[case::the_many_are_refused(|call: &Call| {
    (call.edge == Edge::Kubernetes && call.point.contains("many-")).then_some(Fault::Http(429))
})]
#[case::a_webhook_takes_10_s_for_the_many(|call: &Call| {
    let writes = call.point.contains("secrets/many-") && !call.point.starts_with("get");
    (call.edge == Edge::Kubernetes && writes).then_some(Fault::Slow(Duration::from_secs(10)))
})]
#[case::ssm_throttles_the_many(|call: &Call| {
    let throttled = Fault::Source(ReadErrorKind::Throttled);
    (call.edge == Edge::Ssm && call.point.contains("/many/")).then_some(throttled)
})]
#[tokio::test(start_paused = true)]
async fn one_beside_many_waits_no_longer_than_alone(#[case] policy: FaultPolicy) {
    let alone = waits(0, policy).await;
    let beside = waits(MANY, policy).await;
    println!("alone {alone:?}, beside {MANY} {beside:?}");
    let pairs = [
        ("first values", alone.first_values, beside.first_values),
        ("healed", alone.healed, beside.healed),
        ("changed", alone.changed, beside.changed),
    ];
    for (what, alone, beside) in pairs {
        assert!(beside <= alone + SLOTS_END, "{what}: {beside:?} beside {MANY}, {alone:?} alone");
    }
}
