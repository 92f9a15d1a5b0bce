//! The API calls for a new mirror, and what happens if a Secret with its name exists that no watch shows.

use std::time::Duration;

use parameter_mirror::mirror::snapshot::ReadErrorKind;
use serde_json::{Value as Json, json};

use super::line::{Edge, Fault};
use super::world::{NAMESPACE, Operator, Part, World};

const SOON: Duration = Duration::from_secs(10);

fn calls(operator: &Operator, edge: Edge) -> Vec<String> {
    let calls = operator.line.calls();
    calls.into_iter().filter(|call| call.edge == edge).map(|call| call.point).collect()
}

fn count(operator: &Operator, point: &str) -> usize {
    calls(operator, Edge::Kubernetes).iter().filter(|call| *call == point).count()
}

/// Creates a Secret without our label, which the watch does not show.
fn foreign(world: &World, annotations: &Json) {
    let secret = json!({"metadata": {"name": "app", "annotations": annotations}, "data": {"P0": "dGhlaXJz"}});
    world.destroy("app", Part::Secret, || world.create("secrets", Some(NAMESPACE), secret));
}

#[tokio::test(start_paused = true)]
async fn a_new_mirror_is_one_create_and_one_status() {
    let world = World::new();
    let operator = world.operator();
    world.mirror("app", "5m");
    world.both_serve("app", 1, SOON).await;
    world.becomes("app", "Ready", "True", "Synced", SOON).await;
    let about_it: Vec<String> = calls(&operator, Edge::Kubernetes)
        .into_iter()
        .filter(|call| call.ends_with("secrets/app") || call.contains("parametermirrors/app"))
        .collect();
    assert_eq!(about_it, ["create secrets/app", "patch parametermirrors/app/status"]);
    let redis: Vec<String> = calls(&operator, Edge::Redis)
        .iter()
        .filter_map(|call| Some(call.split_once(' ')?.0.to_owned()))
        .collect();
    assert_eq!(redis, ["observe", "swap"]);
}

/// Without a watch, the operator reads the Secret exactly once, before it creates it.
#[tokio::test(start_paused = true)]
async fn without_a_watch_a_new_secret_is_asked_for_before_it_is_created() {
    let world = World::new();
    world.secret_watch.set(false);
    let operator = world.operator();
    world.mirror("app", "5m");
    world.both_serve("app", 1, SOON).await;
    assert_eq!((count(&operator, "get secrets/app"), count(&operator, "create secrets/app")), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_secret_of_somebody_else_is_found_by_the_create_and_left_alone() {
    let world = World::new();
    foreign(&world, &json!({}));
    let operator = world.operator();
    world.mirror("app", "1m");
    world.becomes("app", "Degraded", "True", "SecretConflict", SOON).await;
    world.pass(Duration::from_mins(10)).await;
    assert_eq!(count(&operator, "create secrets/app"), 1, "it is tried once");
    assert_eq!(count(&operator, "replace secrets/app"), 0);
    let secret = world.values("app", Part::Secret).unwrap();
    assert_eq!(secret.into_iter().collect::<Vec<_>>(), [("P0".to_owned(), "theirs".to_owned())]);
    assert_eq!(world.serves("app", Part::Redis), Some(1));
}

/// The operator reads SSM right after it has observed the Secret, not an interval later.
#[tokio::test(start_paused = true)]
async fn a_secret_whose_owner_consents_is_taken_over_at_once() {
    let world = World::new();
    foreign(&world, &json!({"parameter-mirror.dev/adopt-by": "app"}));
    let operator = world.operator();
    world.mirror("app", "1h");
    world.both_serve("app", 1, SOON).await;
    let calls = calls(&operator, Edge::Kubernetes);
    let mut about_it: Vec<&String> = calls.iter().filter(|call| call.ends_with("secrets/app")).collect();
    // No watch shows it, so each reconcile reads it; the number of reconciles depends on the order of events.
    about_it.dedup();
    assert_eq!(about_it, ["create secrets/app", "get secrets/app", "replace secrets/app"]);
    let between = |operator: &Operator| {
        let all: Vec<String> = operator.line.calls().into_iter().map(|call| call.point).collect();
        let at = |point: &str| all.iter().position(|call| call == point).unwrap();
        let (seen, replaced) = (at("get secrets/app"), at("replace secrets/app"));
        operator.line.calls()[seen..replaced].iter().filter(|call| call.edge == Edge::Ssm).count()
    };
    assert!(between(&operator) > 0, "SSM is read between the two");
}

/// Without an answer from SSM nothing is created, so a conflict would not be found in another way.
#[tokio::test(start_paused = true)]
async fn while_ssm_fails_or_is_silent_the_secret_is_asked_for() {
    for fault in [Fault::Source(ReadErrorKind::SourceUnavailable), Fault::Silent] {
        let world = World::new();
        foreign(&world, &json!({}));
        let silent = fault.clone();
        world.faults.set(move |call| (call.edge == Edge::Ssm).then(|| silent.clone()));
        let operator = world.operator();
        world.mirror("app", "1m");
        world
            .eventually(SOON, || match count(&operator, "get secrets/app") {
                0 => Err("nobody has asked for it".to_owned()),
                _ => Ok(()),
            })
            .await;
        assert_eq!(count(&operator, "create secrets/app"), 0, "{fault:?}");
        world.pass(Duration::from_mins(5)).await;
        assert_eq!(count(&operator, "create secrets/app"), 0, "{fault:?}");
    }
}

/// An answer with nothing to publish leads to the conflict, too.
#[tokio::test(start_paused = true)]
async fn an_answer_without_parameters_does_not_hide_a_conflict() {
    let world = World::new();
    foreign(&world, &json!({}));
    let operator = world.operator();
    world.mirror_with("app", json!({"interval": "1m", "parameters": [{"path": "/nothing"}]}));
    world
        .eventually(SOON, || match count(&operator, "get secrets/app") {
            0 => Err("nobody has asked for it".to_owned()),
            _ => Ok(()),
        })
        .await;
    assert_eq!(count(&operator, "create secrets/app"), 0);
}

/// Values first: the operator writes first statuses only when the other mirrors have their values, too.
#[tokio::test(start_paused = true)]
async fn first_statuses_give_way_to_first_values() {
    const MIRRORS: usize = 200;
    let world = World::new();
    // An API server with slow writes.
    world.faults.set(|call| {
        let is_write = call.edge == Edge::Kubernetes && !call.point.starts_with("watch");
        is_write.then_some(Fault::Slow(Duration::from_millis(20)))
    });
    let names: Vec<String> = (0..MIRRORS).map(|number| format!("app{number}")).collect();
    for name in &names {
        world.mirror(name, "5m");
    }
    let operator = world.operator();
    for name in &names {
        world.both_serve(name, 1, SOON).await;
    }
    for name in &names {
        world.becomes(name, "Ready", "True", "Synced", SOON).await;
    }
    let calls = calls(&operator, Edge::Kubernetes);
    let is_status = |call: &&String| call.starts_with("patch parametermirrors/app");
    let last = calls.iter().rposition(|call| call.starts_with("create secrets/app")).unwrap();
    let early = calls[..last].iter().filter(is_status).count();
    assert!(early < MIRRORS / 4, "{early} statuses were written while values waited");
    assert_eq!(calls.iter().filter(is_status).count(), MIRRORS, "one status each");
}
