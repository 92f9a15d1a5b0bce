//! Promises 1, 3, 5 and 7: whatever SSM does, not a byte changes, the status is true, and SSM is not
//! overloaded.

use std::collections::BTreeMap;
use std::time::Duration;

use parameter_mirror::mirror::snapshot::ReadErrorKind;
use serde_json::json;

use super::line::{Edge, Fault};
use super::world::{Operator, Part, World};

const SOON: Duration = Duration::from_secs(30);

/// Promise 1.
#[tokio::test(start_paused = true)]
async fn a_day_without_ssm_changes_not_a_byte() {
    let world = World::new();
    let mirrors = ["1m", "1m", "5m", "5m", "5m", "1h", "1h", "24h"];
    let mirrors: Vec<String> = (0..)
        .zip(mirrors)
        .map(|(number, interval)| {
            let name = format!("m{number}");
            world.mirror(&name, interval);
            name
        })
        .collect();
    let _operator = world.operator();
    for mirror in &mirrors {
        world.both_serve(mirror, 1, SOON).await;
    }
    let before: Vec<_> = mirrors.iter().map(|mirror| held(&world, mirror)).collect();
    let writes = world.history().len();

    world.faults.set(|call| (call.edge == Edge::Ssm).then_some(Fault::Silent));
    world.release(2);
    world.pass(Duration::from_hours(24)).await;
    for (mirror, before) in mirrors.iter().zip(before) {
        assert_eq!(held(&world, mirror), before);
        assert_eq!(world.condition(mirror, "Ready"), ("True".to_owned(), "ServingLastKnownGood".to_owned()));
        assert_eq!(world.condition(mirror, "Degraded"), ("True".to_owned(), "Timeout".to_owned()));
    }
    assert_eq!(world.history().len(), writes, "no content was written");

    world.faults.clear();
    for mirror in &mirrors {
        world.both_serve(mirror, 2, Duration::from_mins(1)).await;
        world.becomes(mirror, "Degraded", "False", "Synced", SOON).await;
    }
    world.assert_whole_and_forward();
}

fn held(world: &World, mirror: &str) -> [Option<BTreeMap<String, String>>; 2] {
    [Part::Secret, Part::Redis].map(|part| world.values(mirror, part))
}

/// Promises 3, 5 and 7 together, because all of them need many mirrors.
#[tokio::test(start_paused = true)]
async fn an_hour_of_errors_for_500_mirrors() {
    let world = World::new();
    let mirrors = mirrors_of_their_own(&world, 500);
    let operator = world.operator();
    all_hold(&world, &mirrors, "1", Duration::from_mins(4)).await;
    // Skips the first reads, which were all due at once; later ones are spread by the token bucket.
    let calls = || operator.line.calls().into_iter().filter(|call| call.edge == Edge::Ssm);
    let before = calls().count();
    world
        .faults
        .set(|call| (call.edge == Edge::Ssm).then_some(Fault::Source(ReadErrorKind::SourceUnavailable)));
    world.pass(Duration::from_hours(1)).await;
    let requests: usize = calls()
        .skip(before)
        .map(|call| if call.point.starts_with("probe ") { 1 } else { SDK_ATTEMPTS })
        .sum();
    assert!(requests <= 200, "{requests} requests");
    for mirror in &mirrors {
        assert_eq!(world.condition(mirror, "Degraded"), ("True".to_owned(), "SourceUnavailable".to_owned()));
    }

    for mirror in &mirrors {
        world.ssm.put(&format!("/{mirror}/x"), "2", world.now());
    }
    world.faults.clear();
    let needed = Duration::from_secs(500 / 10);
    all_hold(&world, &mirrors, "2", Duration::from_mins(5) + SOON + needed).await;
}

/// Creates this many mirrors, each of a path that no other one reads, with one parameter whose value is 1.
fn mirrors_of_their_own(world: &World, count: usize) -> Vec<String> {
    let mirrors: Vec<String> = (0..count).map(|number| format!("m{number}")).collect();
    for mirror in &mirrors {
        world.ssm.put(&format!("/{mirror}/x"), "1", world.now());
        let parameters = json!([{"path": format!("/{mirror}")}]);
        world.mirror_with(mirror, json!({"interval": "5m", "parameters": parameters}));
    }
    mirrors
}

async fn all_hold(world: &World, mirrors: &[String], value: &str, within: Duration) {
    let deadline = world.elapsed() + within;
    for mirror in mirrors {
        let left = deadline.saturating_sub(world.elapsed());
        let holds =
            |part| world.values(mirror, part).is_some_and(|held| held.values().all(|held| held == value));
        let both = || if holds(Part::Secret) && holds(Part::Redis) { Ok(()) } else { Err(mirror.clone()) };
        world.eventually(left, both).await;
    }
}

/// How often the SDK sends a failing operation.
const SDK_ATTEMPTS: usize = 3;

/// Forty mirrors of one path and sixty of twelve names, created one after the other, cost as much as
/// thirteen: read groups read together, and simultaneous equal requests are sent once.
#[tokio::test(start_paused = true)]
async fn mirrors_that_read_the_same_are_read_at_once() {
    let world = World::new();
    let operator = world.operator();
    let mut mirrors = Vec::new();
    for number in 0..100 {
        let parameters = match number % 5 {
            0 | 1 => json!([{"path": "/app"}]),
            _ => json!([{"name": format!("/app/p{}", number % 12)}]),
        };
        let mirror = format!("m{number}");
        world.mirror_with(&mirror, json!({"interval": "5m", "parameters": parameters}));
        mirrors.push(mirror);
        world.pass(Duration::from_millis(250)).await;
    }
    all_hold(&world, &mirrors, "1", Duration::from_mins(1)).await;
    world.pass(Duration::from_mins(10)).await;
    let calls = || operator.line.calls().into_iter().filter(|call| call.edge == Edge::Ssm).count();
    let before = calls();
    world.pass(Duration::from_hours(1)).await;
    // Every five minutes: two pages for all mirrors of the path, and twelve names.
    let hour = calls() - before;
    assert!((144..=13 * (2 + 12)).contains(&hour), "{hour} requests");

    world.release(2);
    all_hold(&world, &mirrors, "2", Duration::from_mins(5) + SOON).await;
    for mirror in &mirrors {
        assert_eq!(world.condition(mirror, "Degraded").0, "False");
    }
}

/// A first start reads as fast as the token bucket allows, and a restart spreads its reads over an interval.
#[tokio::test(start_paused = true)]
async fn a_restart_with_1000_mirrors_spreads_its_reads() {
    let world = World::new();
    mirrors_of_their_own(&world, 1_000);
    let first = world.operator();
    let per_second = calls_per_second(&world, &first, 180).await;
    let windows: Vec<usize> = per_second.windows(10).map(|window| window.iter().sum()).collect();
    assert!(windows.iter().all(|&calls| calls <= 110), "over the budget of 10/s: {windows:?}");
    assert!(windows.iter().any(|&calls| calls >= 95), "the budget was needed: {windows:?}");
    first.terminate().await;

    let second = world.operator();
    let per_second = calls_per_second(&world, &second, 300).await;
    let total: usize = per_second.iter().sum();
    assert!(total >= 990, "every mirror is read once in five minutes: {total}");
    let half: usize = per_second[..150].iter().sum();
    assert!(
        (400..=600).contains(&half),
        "spread evenly over five minutes: {half} of {total} in the first half"
    );
}

/// Returns the number of requests to SSM in each of the next seconds.
async fn calls_per_second(world: &World, operator: &Operator, seconds: usize) -> Vec<usize> {
    let calls = || operator.line.calls().iter().filter(|call| call.edge == Edge::Ssm).count();
    let mut per_second = Vec::new();
    for _ in 0..seconds {
        let before = calls();
        world.pass(Duration::from_secs(1)).await;
        per_second.push(calls() - before);
    }
    per_second
}

/// SSM changes all the time, also between two pages of one read; every published set is consistent.
#[tokio::test(start_paused = true)]
async fn no_set_of_two_moments_is_ever_published() {
    let world = World::new();
    world.mirror("app", "10s");
    let _operator = world.operator();
    world.both_serve("app", 1, SOON).await;
    let mut rng = fastrand::Rng::with_seed(12);
    let until = world.elapsed() + Duration::from_mins(20);
    while world.elapsed() < until {
        // A read takes a few milliseconds; sometimes it fits between two changes, sometimes not.
        for _ in 0..rng.u8(1..40) {
            world.release_next();
            world.pass(Duration::from_millis(rng.u64(1..4))).await;
        }
        world.pass(Duration::from_millis(rng.u64(0..3_000))).await;
    }
    world.assert_whole_and_forward();
    assert!(world.history().len() > 100, "it was published in between, too");
    world.both_serve("app", world.released(), SOON).await;
}
