//! A lagging replica of SSM: complete, consistent answers from the past, which lack what was created since.

use std::time::Duration;

use rstest::rstest;
use serde_json::{Value as Json, json};

use super::line::Edge;
use super::world::{NAMESPACE, Operator, Part, World, redis_key};

const SOON: Duration = Duration::from_mins(2);
/// The delay of the read that confirms an absence.
const CONFIRMED_AFTER: Duration = Duration::from_secs(5);

async fn served(parameters: Json) -> (World, Operator) {
    let world = World::new();
    world.mirror_with("app", json!({"interval": "1m", "parameters": parameters}));
    let operator = world.operator();
    world.becomes("app", "Ready", "True", "Synced", SOON).await;
    (world, operator)
}

/// Counts the selections that were read; each read of one begins with such a call.
fn looks(operator: &Operator) -> usize {
    let begins = |point: &str| point.ends_with("after nothing") || point.starts_with("get ");
    operator.line.calls().iter().filter(|call| call.edge == Edge::Ssm && begins(&call.point)).count()
}

/// Waits until a read has ended: no call for a second.
async fn one_read(world: &World, operator: &Operator) {
    let before = looks(operator);
    world
        .eventually(SOON, || if looks(operator) > before { Ok(()) } else { Err("no read".to_owned()) })
        .await;
    world.pass(Duration::from_secs(1)).await;
}

/// Returns the content of both targets.
fn held(world: &World) -> [Option<std::collections::BTreeMap<String, String>>; 2] {
    [Part::Secret, Part::Redis].map(|part| world.values("app", part))
}

/// A complete read from the past, including the answers that confirm the missing names. Nothing is removed or
/// reported, and the rejected read does not count for the age of the served set.
#[rstest]
#[case::below_a_path(json!([{"path": "/app"}]), &["/app/p3"])]
#[case::more_than_the_guard_lets_go(json!([{"path": "/app"}]), &["/app/p3", "/app/p4", "/app/p5", "/app/p6"])]
#[case::an_optional_name(json!([{"name": "/app/p3", "optional": true}, {"name": "/app/p4"}]), &["/app/p3"])]
#[case::a_required_name(json!([{"name": "/app/p3"}, {"name": "/app/p4"}]), &["/app/p3"])]
#[case::everything(json!([{"name": "/app/p3", "optional": true}]), &["/app/p3"])]
#[tokio::test(start_paused = true)]
async fn one_read_of_a_replica_that_lags_removes_nothing_and_says_nothing(
    #[case] parameters: Json,
    #[case] lacks: &[&str],
) {
    let (world, operator) = served(parameters).await;
    let (before, events) = (held(&world), world.events("app"));
    let checked = || world.redis.hash(&redis_key("app")).unwrap().get(b"@checkedAt".as_slice()).cloned();
    for round in 0..3 {
        let current = world.ssm.lock().clone();
        for name in lacks {
            world.ssm.delete(name);
        }
        let at = checked();
        one_read(&world, &operator).await;
        assert_eq!(checked(), at, "a read that is not believed confirms nothing");
        *world.ssm.lock() = current;
        for _ in 0..20 {
            assert_eq!(held(&world), before, "round {round}");
            world.pass(Duration::from_secs(1)).await;
        }
        assert_ne!(checked(), at);
    }
    assert_eq!(world.events("app"), events);
    assert_eq!(world.condition("app", "Degraded"), ("False".to_owned(), "Synced".to_owned()));
}

/// A real deletion is removed with the second read, in both targets at once with all other changes; also
/// after a restart, and also for a triggered read, which ends only when the removal is done.
#[rstest]
#[case::by_itself(false)]
#[case::asked_for(true)]
#[tokio::test(start_paused = true)]
async fn what_is_deleted_goes_with_the_second_read(#[case] asks: bool) {
    let (world, operator) = served(json!([{"path": "/app"}])).await;
    let operator = if asks {
        operator
    } else {
        operator.kill();
        world.operator()
    };
    world.pass(SOON).await;
    world.release(2);
    if asks {
        let annotation = json!({"metadata": {"annotations": {"parameter-mirror.dev/sync-at": "now"}}});
        world.patch("parametermirrors", Some(NAMESPACE), "app", &annotation);
        let handled = || {
            let mirror =
                world.api.objects(|objects| objects.get("parametermirrors", NAMESPACE, "app")).unwrap();
            mirror["status"]["lastHandledSyncAt"] == "now"
        };
        let due = Duration::from_secs(2) + CONFIRMED_AFTER;
        world.eventually(due, || if handled() { Ok(()) } else { Err("not handled".to_owned()) }).await;
        assert_eq!([Part::Secret, Part::Redis].map(|part| world.serves("app", part)), [Some(2); 2]);
    } else {
        one_read(&world, &operator).await;
        assert_eq!([Part::Secret, Part::Redis].map(|part| world.serves("app", part)), [Some(1); 2]);
        world.both_serve("app", 2, CONFIRMED_AFTER + Duration::from_secs(2)).await;
    }
    let before = looks(&operator);
    world.pass(Duration::from_secs(50)).await;
    assert_eq!(looks(&operator), before, "the next read is an interval later");
    world.assert_whole_and_forward();
}

/// Parameters are deleted one after the other, so no two reads lack the same ones. Other changes wait for
/// half a minute, not for ever.
#[tokio::test(start_paused = true)]
async fn removals_without_end_hold_a_change_up_for_half_a_minute() {
    let (world, operator) = served(json!([{"path": "/many"}, {"path": "/app"}])).await;
    for number in 0..100 {
        world.ssm.put(&format!("/many/m{number}"), "1", world.now());
    }
    one_read(&world, &operator).await;
    world.pass(Duration::from_secs(2)).await;
    world.ssm.put("/app/p0", "2", world.now());
    let arrived = |world: &World| held(world).iter().all(|values| values.as_ref().unwrap()["P0"] == "2");
    let mut waited = 0;
    while !arrived(&world) {
        world.ssm.delete(&format!("/many/m{waited}"));
        world.pass(Duration::from_secs(5)).await;
        waited += 1;
        assert!(waited < 30, "it never arrives");
    }
    assert!(waited > 16, "it did not wait at all");
}
