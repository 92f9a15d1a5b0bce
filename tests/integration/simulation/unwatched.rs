//! Secrets that the operator reads at each check instead of watching them (`--secret-watch false`): the same
//! promises, within one check.

use std::time::Duration;

use serde_json::json;

use super::line::{Edge, Fault};
use super::world::{HOME, NAMESPACE, Operator, Part, World};

/// The time until a check has ended.
const CHECK: Duration = Duration::from_secs(32);
const SOON: Duration = Duration::from_mins(1);

/// A world whose operators have no permission to list or watch Secrets other than the one with their keys.
fn world() -> World {
    let world = World::new();
    world.secret_watch.set(false);
    forbid_lists(&world, false);
    world
}

/// Denies lists and watches, and silences SSM if `silent`.
fn forbid_lists(world: &World, silent: bool) {
    world.faults.set(move |call| match call.edge {
        Edge::Ssm => silent.then_some(Fault::Silent),
        Edge::Kubernetes => {
            ["list secrets/", "watch secrets/"].contains(&call.point.as_str()).then_some(Fault::Http(403))
        }
        Edge::Redis => None,
    });
}

fn count(operator: &Operator, point: &str) -> usize {
    operator.line.calls().iter().filter(|call| call.point == point).count()
}

#[tokio::test(start_paused = true)]
async fn what_is_lost_or_edited_in_an_outage_is_back_at_the_next_check() {
    let world = world();
    world.mirror("app", "5m");
    let operator = world.operator();
    world.both_serve("app", 1, SOON).await;
    forbid_lists(&world, true);
    for _ in 0..2 {
        // The second time right after the operator's own write, without a watch that could lag behind it.
        world.destroy("app", Part::Secret, || world.delete("secrets", NAMESPACE, "app"));
        world.both_serve("app", 1, CHECK).await;
    }
    let edit = json!({"data": {"P0": "ZWRpdGVk"}});
    world.destroy("app", Part::Secret, || world.patch("secrets", Some(NAMESPACE), "app", &edit));
    world.both_serve("app", 1, CHECK).await;
    world.becomes("app", "Degraded", "True", "Timeout", Duration::from_mins(6)).await;
    for point in ["list secrets/", "watch secrets/"] {
        assert_eq!(count(&operator, point), 0, "{point}");
    }
    forbid_lists(&world, false);
    world.release(2);
    world.both_serve("app", 2, Duration::from_mins(2)).await;
    world.assert_whole_and_forward();
}

/// One call for metadata per check, and one for values only after a change.
#[tokio::test(start_paused = true)]
async fn a_quiet_check_asks_for_metadata_once() {
    let world = world();
    world.mirror("app", "1h");
    let operator = world.operator();
    world.both_serve("app", 1, SOON).await;
    world.pass(SOON).await;
    let (metadata, whole) = (count(&operator, "metadata secrets/app"), count(&operator, "get secrets/app"));
    world.pass(Duration::from_mins(20)).await;
    assert_eq!(count(&operator, "metadata secrets/app") - metadata, 40);
    assert_eq!(count(&operator, "get secrets/app"), whole);
}

/// The failure is reported, delays nothing else, and the Secret is updated when the API server answers again.
#[tokio::test(start_paused = true)]
async fn a_secret_that_cannot_be_asked_for_is_the_matter_of_that_secret() {
    let world = world();
    world.mirror("app", "1m");
    let _operator = world.operator();
    world.both_serve("app", 1, SOON).await;
    world.faults.set(|call| call.point.ends_with(" secrets/app").then_some(Fault::Http(500)));
    world.becomes("app", "Degraded", "True", "SecretWriteFailed", CHECK).await;
    world.release(2);
    world.pass(Duration::from_mins(2)).await;
    assert_eq!((world.serves("app", Part::Secret), world.serves("app", Part::Redis)), (Some(1), Some(2)));
    forbid_lists(&world, false);
    world.both_serve("app", 2, CHECK).await;
    world.becomes("app", "Degraded", "False", "Synced", CHECK).await;
}

/// Mirrors that were applied again after a restore have no status, and no list shows the signed Secrets.
#[tokio::test(start_paused = true)]
async fn missing_keys_are_not_created_over_signed_secrets() {
    let world = world();
    world.mirror("app", "5m");
    let operator = world.operator();
    world.both_serve("app", 1, SOON).await;
    operator.terminate().await;
    world.delete("secrets", HOME, "parameter-mirror-keys");
    world.delete("parametermirrors", NAMESPACE, "app");
    world.mirror("app", "5m");
    let _operator = world.operator();
    world.becomes("app", "Degraded", "True", "KeyMissing", SOON).await;
    assert!(world.api.objects(|objects| objects.get("secrets", HOME, "parameter-mirror-keys")).is_none());
    assert_eq!(world.serves("app", Part::Secret), Some(1));
}
