//! How soon a mirror without a first set is read again, and what a read that never succeeds costs the others.

use std::time::Duration;

use parameter_mirror::mirror::snapshot::ReadErrorKind;
use serde_json::json;

use super::line::{Edge, Fault};
use super::world::{Operator, Part, World};

const DAY: &str = "24h";
/// The fix comes a second after the first failed read, and the next read at most five seconds after that.
const SOON: Duration = Duration::from_secs(8);

fn reads(operator: &Operator, path: &str) -> usize {
    let of_path = format!("list {path} ");
    let calls = operator.line.calls();
    calls.iter().filter(|call| call.edge == Edge::Ssm && call.point.starts_with(&of_path)).count()
}

/// The parameter, the permission or SSM itself comes a second after the mirror, which is not due for a day.
#[tokio::test(start_paused = true)]
async fn a_first_set_does_not_wait_for_the_interval() {
    let denials = [ReadErrorKind::AccessDenied, ReadErrorKind::SourceUnavailable].map(Some);
    for denial in [None].into_iter().chain(denials) {
        let world = World::new();
        let _operator = world.operator();
        let (path, put) = ("/late", || world.ssm.put("/late/p0", "1", world.now()));
        let reason = denial.map_or("NoParameters", ReadErrorKind::as_str);
        if let Some(denial) = denial {
            put();
            world.faults.set(move |call| (call.edge == Edge::Ssm).then_some(Fault::Source(denial)));
        }
        world.mirror_with("late", json!({"interval": DAY, "parameters": [{"path": path}]}));
        world.becomes("late", "Degraded", "True", reason, SOON).await;
        world.pass(Duration::from_secs(1)).await;
        world.faults.clear();
        if denial.is_none() {
            put();
        }
        world
            .eventually(SOON, || match world.values("late", Part::Secret) {
                Some(_) => Ok(()),
                None => Err(format!("{reason}: nothing is published yet")),
            })
            .await;
    }
}

/// Once it has a set, a denied mirror waits for its interval again.
#[tokio::test(start_paused = true)]
async fn a_mirror_with_a_set_is_not_read_more_often() {
    let world = World::new();
    let operator = world.operator();
    world.mirror("app", "1h");
    world.both_serve("app", 1, SOON).await;
    world.faults.set(|call| (call.edge == Edge::Ssm).then_some(Fault::Source(ReadErrorKind::AccessDenied)));
    world.pass(Duration::from_mins(90)).await;
    let before = reads(&operator, "/app");
    world.pass(Duration::from_mins(59)).await;
    assert!(reads(&operator, "/app") - before <= 1);
}

/// A mirror that can never succeed is read at most once a minute.
#[tokio::test(start_paused = true)]
async fn a_mirror_that_never_has_a_set_is_read_at_most_once_a_minute() {
    let world = World::new();
    let operator = world.operator();
    world.mirror_with("typo", json!({"interval": DAY, "parameters": [{"path": "/typo"}]}));
    world.pass(Duration::from_hours(1)).await;
    let reads = reads(&operator, "/typo");
    assert!((55..70).contains(&reads), "{reads} reads");
}

/// A mirror of more parameters than it may have costs 200 requests a read, more than the whole budget of 10 s. Two small
/// mirrors of the same namespace keep their rhythm beside it.
#[tokio::test(start_paused = true)]
async fn a_mirror_that_never_succeeds_does_not_starve_its_namespace() {
    let world = World::new();
    for number in 0..2_100 {
        world.ssm.put(&format!("/big/p{number:04}"), "1", world.now());
    }
    let operator = world.operator();
    for small in ["one", "two"] {
        world.ssm.put(&format!("/{small}/p0"), "1", world.now());
        world.mirror_with(small, json!({"interval": "10s", "parameters": [{"path": format!("/{small}")}]}));
        world.becomes(small, "Ready", "True", "Synced", SOON).await;
    }
    world.mirror_with("big", json!({"interval": "10s", "parameters": [{"path": "/big"}]}));
    world.becomes("big", "Ready", "False", "TooManyParameters", Duration::from_mins(2)).await;
    world.pass(Duration::from_mins(1)).await;
    let before = ["one", "two"].map(|small| reads(&operator, &format!("/{small}")));
    world.pass(Duration::from_mins(20)).await;
    for (small, before) in ["one", "two"].iter().zip(before) {
        let reads = reads(&operator, &format!("/{small}")) - before;
        assert!(reads >= 110, "{small}: {reads} reads in 20 minutes at an interval of 10 s");
        assert_eq!(world.condition(small, "Degraded"), ("False".to_owned(), "Synced".to_owned()));
    }
    assert!(reads(&operator, "/big") > 1_000, "the big one is still read with what the others leave");
}
