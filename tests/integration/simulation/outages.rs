//! Outages of the public record, by date: simulated in virtual time with their real length.

use std::collections::BTreeMap;
use std::time::Duration;

use parameter_mirror::mirror::snapshot::ReadErrorKind;

use super::line::{Call, Edge, Fault};
use super::world::{NAMESPACE, Part, World};

const SOON: Duration = Duration::from_mins(1);
const MIRRORS: [(&str, &str); 3] = [("fast", "30s"), ("usual", "5m"), ("slow", "30m")];

/// A world with three mirrors that serve release 1.
async fn served() -> (World, super::world::Operator) {
    let world = World::new();
    for (name, interval) in MIRRORS {
        world.mirror(name, interval);
    }
    let operator = world.operator();
    for (name, _) in MIRRORS {
        world.both_serve(name, 1, SOON).await;
    }
    (world, operator)
}

fn held(world: &World) -> Vec<Option<BTreeMap<String, String>>> {
    let of = |name| [Part::Secret, Part::Redis].map(|part| world.values(name, part));
    MIRRORS.iter().flat_map(|(name, _)| of(*name)).collect()
}

/// Waits until everything is fresh again, within the longest interval.
async fn recovers(world: &World) {
    for (name, _) in MIRRORS {
        world.both_serve(name, world.released(), Duration::from_mins(31)).await;
        world.becomes(name, "Degraded", "False", "Synced", SOON).await;
    }
    world.assert_whole_and_forward();
}

/// Kinesis, and with it `CloudWatch` and `EventBridge`, for hours. SSM's API was available: events may fail,
/// but reads and writes continue.
#[tokio::test(start_paused = true)]
async fn outage_2020_11_25_events_stop_and_values_do_not() {
    let (world, _operator) = served().await;
    world.faults.set(|call| call.point.contains("events").then_some(Fault::Silent));
    for _ in 0..8 {
        world.pass(Duration::from_mins(30)).await;
        let latest = world.release_next();
        world.both_serve("fast", latest, SOON).await;
    }
    recovers(&world).await;
}

/// Seven hours of latency far above every timeout, and no new credentials.
#[tokio::test(start_paused = true)]
async fn outage_2021_12_07_seven_hours_of_latency_without_new_credentials() {
    let (world, _operator) = served().await;
    let before = held(&world);
    world.release(2);
    let mut number = 0;
    world.faults.set(move |call| {
        number += 1;
        let fault = if number % 3 == 0 {
            Fault::Source(ReadErrorKind::CredentialsUnavailable)
        } else {
            Fault::Slow(Duration::from_mins(2))
        };
        (call.edge == Edge::Ssm).then_some(fault)
    });
    world.pass(Duration::from_hours(7)).await;
    assert_eq!(held(&world), before);
    for (name, _) in MIRRORS {
        assert_eq!(world.condition(name, "Ready"), ("True".to_owned(), "ServingLastKnownGood".to_owned()));
        let (degraded, reason) = world.condition(name, "Degraded");
        assert!(
            degraded == "True" && ["Timeout", "CredentialsUnavailable"].contains(&reason.as_str()),
            "{reason}"
        );
    }
    world.faults.clear();
    recovers(&world).await;
}

/// The incident behind this project: elevated errors and latency for hours, while new tasks start all the
/// time. Every new reader is served. During the outage the operator is rolled out, and a pod's Secret is
/// deleted.
#[tokio::test(start_paused = true)]
async fn outage_2022_09_09_errors_and_latency_while_tasks_start() {
    let (world, operator) = served().await;
    let before = held(&world);
    let mut rng = fastrand::Rng::with_seed(2022);
    world.faults.set(move |call| {
        let fault = match rng.u8(0..10) {
            0..=5 => Fault::Source(ReadErrorKind::SourceUnavailable),
            6 | 7 => Fault::Source(ReadErrorKind::Throttled),
            _ => Fault::Slow(Duration::from_secs(25)),
        };
        (call.edge == Edge::Ssm).then_some(fault)
    });
    for minute in 0..180 {
        if minute == 60 {
            world.destroy("usual", Part::Secret, || world.delete("secrets", NAMESPACE, "usual"));
            world.pass(Duration::from_secs(5)).await;
        }
        assert_eq!(held(&world), before, "a task that starts in minute {minute}");
        world.pass(Duration::from_mins(1)).await;
    }
    operator.kill();
    let _operator = world.operator();
    world.pass(Duration::from_mins(30)).await;
    assert_eq!(held(&world), before);
    world.release(2);
    world.faults.clear();
    recovers(&world).await;
}

/// STS and the API server of EKS, for four hours; SSM itself was available.
#[tokio::test(start_paused = true)]
async fn outage_2023_06_13_sts_and_the_api_server() {
    let (world, operator) = served().await;
    let before = held(&world);
    world.release(2);
    world.faults.set(|call| match call.edge {
        Edge::Ssm => Some(Fault::Source(ReadErrorKind::CredentialsUnavailable)),
        Edge::Kubernetes => Some(Fault::Silent),
        Edge::Redis => None,
    });
    world.pass(Duration::from_hours(2)).await;
    operator.kill();
    // The operator starts without an API server, and waits.
    let _operator = world.operator();
    world.pass(Duration::from_hours(2)).await;
    assert_eq!(held(&world), before);
    world.faults.clear();
    recovers(&world).await;
}

/// The destination of logs and metrics was down for seven hours; SSM was available.
#[tokio::test(start_paused = true)]
async fn outage_2024_07_30_nobody_listens_to_stories() {
    let (world, _operator) = served().await;
    world.faults.set(|call| call.point.contains("events").then_some(Fault::Http(500)));
    for _ in 0..7 {
        world.pass(Duration::from_hours(1)).await;
        let latest = world.release_next();
        world.both_serve("fast", latest, SOON).await;
    }
    recovers(&world).await;
}

/// Fifteen hours: DNS fails, then recovers and fails again, while pods are restarted all the time.
#[tokio::test(start_paused = true)]
async fn outage_2025_10_20_fifteen_hours_with_a_relapse_and_restarts() {
    let (world, mut operator) = served().await;
    let no_such_host = |call: &Call| (call.edge == Edge::Ssm).then_some(Fault::Refused);
    let mut before = held(&world);
    world.faults.set(no_such_host);
    for hour in 0..15 {
        match hour {
            3 => {
                // SSM is available for ten minutes, with new values.
                world.faults.clear();
                world.release(2);
                world.pass(Duration::from_mins(10)).await;
                world.faults.set(no_such_host);
                before = held(&world);
                assert_eq!(world.serves("fast", Part::Redis), Some(2), "it made use of the ten minutes");
            }
            5 | 9 => {
                operator.kill();
                operator = world.operator();
            }
            7 => world.destroy("fast", Part::Redis, || world.redis.delete(&super::world::redis_key("fast"))),
            11 => {
                operator.kill();
                world.destroy("usual", Part::Secret, || world.delete("secrets", NAMESPACE, "usual"));
                operator = world.operator();
            }
            _ => {}
        }
        world.pass(Duration::from_hours(1)).await;
        assert_eq!(held(&world), before, "hour {hour}");
        for (name, _) in MIRRORS {
            assert_eq!(
                world.condition(name, "Degraded"),
                ("True".to_owned(), "SourceUnavailable".to_owned())
            );
        }
    }
    world.release_next();
    world.faults.clear();
    recovers(&world).await;
    drop(operator);
}
