//! Promise 8: one poisoned mirror never delays the others, and an operator without progress reports it.

use std::time::Duration;

use super::line::{Call, Edge, Fault};
use super::world::{Part, World};

const MIRRORS: usize = 200;
const INTERVAL: Duration = Duration::from_secs(30);

fn concerns(call: &Call, mirror: &str) -> bool {
    call.edge == Edge::Redis && call.point.ends_with(&super::world::redis_key(mirror))
}

#[tokio::test(start_paused = true)]
async fn a_mirror_that_panics_and_one_that_hangs_delay_nobody() {
    let world = World::new();
    let mirrors: Vec<String> = (0..MIRRORS).map(|number| format!("m{number}")).collect();
    for mirror in &mirrors {
        let parameters = serde_json::json!([{"name": "/app/p0"}]);
        world.mirror_with(mirror, serde_json::json!({"interval": "30s", "parameters": parameters}));
    }
    let operator = world.operator();
    world.pass(Duration::from_mins(2)).await;
    world.faults.set(|call| match () {
        () if concerns(call, "m0") => Some(Fault::Panics("m0".to_owned())),
        () if concerns(call, "m1") => Some(Fault::Stuck),
        () => None,
    });
    world.pass(INTERVAL).await;
    for _ in 0..5 {
        let latest = world.release_next().to_string();
        world.pass(INTERVAL + Duration::from_secs(5)).await;
        for mirror in &mirrors[2..] {
            for part in [Part::Secret, Part::Redis] {
                let values = world.values(mirror, part).unwrap();
                assert_eq!(values["P0"], latest, "{mirror} {part:?} after {:?}", world.elapsed());
            }
        }
    }
    assert_eq!(operator.health.stall(), None, "broken passes end, so the process lives on");

    // Recovers by itself, without a restart.
    world.faults.clear();
    world.pass(Duration::from_mins(3)).await;
    let latest = world.released().to_string();
    for mirror in &mirrors[..2] {
        assert_eq!(world.values(mirror, Part::Redis).unwrap()["P0"], latest, "{mirror}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_operator_in_which_nothing_happens_is_not_alive() {
    let world = World::new();
    world.mirror("app", "10s");
    let operator = world.operator();
    world.both_serve("app", 1, INTERVAL).await;
    world.faults.set(|call| (call.edge != Edge::Redis).then_some(Fault::Silent));
    world.pass(Duration::from_hours(3)).await;
    assert_eq!(operator.health.stall(), None, "an outage of everything is no reason to restart");
    world.faults.clear();
    world.pass(Duration::from_mins(2)).await;
    operator.hang();
    world.pass(Duration::from_mins(4)).await;
    assert!(operator.health.stall().is_some());
}

/// A tenant creates thousands of mirrors at once and triggers all of them repeatedly. With ten requests per
/// second, its first reads alone take more than eight minutes; other readers must not wait for them.
#[tokio::test(start_paused = true)]
async fn a_tenant_with_5000_mirrors_delays_nobody() {
    const FLOOD: usize = 5_000;
    let world = World::new();
    world.create("namespaces", None, serde_json::json!({"metadata": {"name": "flood", "labels": {}}}));
    let to = |namespace: &str| serde_json::json!({"namespaces": [namespace], "paths": ["/"]});
    let grants = serde_json::json!({"spec": {"grants": [to(super::world::NAMESPACE), to("flood")]}});
    world.patch("parametersources", None, "default", &grants);
    for mirror in ["calm-0", "calm-1", "calm-2"] {
        world.mirror(mirror, "30s");
    }
    let operator = world.operator();
    world.both_serve("calm-2", 1, INTERVAL).await;

    let flood = |number: usize| format!("flood-{number}");
    for number in 0..FLOOD {
        world.ssm.put(&format!("/flood/{number}/x"), "1", world.now());
        let spec = serde_json::json!({"interval": "1h", "parameters": [{"path": format!("/flood/{number}")}], "redis": {}});
        world.create(
            "parametermirrors",
            Some("flood"),
            serde_json::json!({
                "apiVersion": "parameter-mirror.dev/v1alpha1", "kind": "ParameterMirror",
                "metadata": {"name": flood(number)}, "spec": spec,
            }),
        );
    }
    for number in 0..FLOOD / 10 {
        let asked = serde_json::json!({"metadata": {"annotations": {"parameter-mirror.dev/sync-at": "now"}}});
        world.patch("parametermirrors", Some("flood"), &flood(number), &asked);
    }
    let latest = world.release_next();
    // Another tenant's first mirror does not wait for all earlier ones.
    world.mirror("newcomer", "30s");
    world.both_serve("newcomer", latest, Duration::from_secs(5)).await;
    // A change arrives within an interval and a little more, as without the flood.
    for mirror in ["calm-0", "calm-1", "calm-2"] {
        world.both_serve(mirror, latest, INTERVAL + Duration::from_secs(5)).await;
    }
    let read = operator.line.calls().iter().filter(|call| call.point.contains("/flood/")).count();
    assert!(read < FLOOD / 2, "the flood was over before it could do harm: {read} of its reads");
}
