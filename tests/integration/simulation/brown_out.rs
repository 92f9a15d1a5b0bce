//! A brown-out: for ten minutes, some requests fail and others are answered. Reads continue at a useful rate.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use parameter_mirror::mirror::snapshot::ReadErrorKind;
use rstest::rstest;
use serde_json::json;
use tokio::time::Instant;

use super::line::{Edge, Fault};
use super::world::World;

const MIRRORS: usize = 200;
/// Each mirror is read once a minute, so 200 mirrors need a third of the limit of ten requests per second.
const INTERVAL: &str = "1m";
const LASTS: Duration = Duration::from_mins(10);

/// When each path was last answered, and the numbers of requests, of probes of an open breaker, and of
/// answers.
#[derive(Default)]
struct Seen {
    answered_at: HashMap<String, Instant>,
    sent: usize,
    probes: usize,
    answered: usize,
}

/// `p50` and `p95` are ages of served sets, in seconds, over all mirrors and all minutes; `rate` is in
/// answered requests per second. A failed read is retried after 30 s, and after the interval of a minute if
/// it fails again. This causes the ages, because the token bucket would allow ten requests per second.
#[rstest]
#[case::every_fifth_request_fails(20, (60, 120), 2.5)]
#[case::every_second_request_fails(50, (90, 330), 1.2)]
#[tokio::test(start_paused = true)]
async fn reads_go_on_at_a_useful_rate(
    #[case] percent: u8,
    #[case] (p50, p95): (u64, u64),
    #[case] rate: f64,
) {
    let world = World::new();
    let path = |number: usize| format!("/brown/m{number}");
    for number in 0..MIRRORS {
        world.ssm.put(&format!("{}/value", path(number)), "1", world.now());
        world.mirror_with(
            &format!("m{number}"),
            json!({"interval": INTERVAL, "parameters": [{"path": path(number)}]}),
        );
    }
    let _operator = world.operator();
    let last = format!("m{}", MIRRORS - 1);
    world.becomes(&last, "Ready", "True", "Synced", Duration::from_mins(2)).await;
    world.pass(Duration::from_mins(2)).await;

    let seen = Arc::new(Mutex::new(Seen::default()));
    for number in 0..MIRRORS {
        seen.lock().unwrap().answered_at.insert(path(number), Instant::now());
    }
    let (noted, mut rng) = (Arc::clone(&seen), fastrand::Rng::with_seed(percent.into()));
    world.faults.set(move |call| {
        if call.edge != Edge::Ssm {
            return None;
        }
        let mut seen = noted.lock().unwrap();
        seen.sent += 1;
        seen.probes += usize::from(call.point.starts_with("probe "));
        if rng.u8(0..100) < percent {
            return Some(Fault::Source(ReadErrorKind::SourceUnavailable));
        }
        seen.answered += 1;
        if !call.point.starts_with("probe ")
            && let Some(path) = call.point.split(' ').find(|word| word.starts_with("/brown/"))
        {
            seen.answered_at.insert(path.to_owned(), Instant::now());
        }
        None
    });
    let mut ages = Vec::new();
    for _ in 0..LASTS.as_secs() / 60 {
        world.pass(Duration::from_mins(1)).await;
        ages.extend(seen.lock().unwrap().answered_at.values().map(|at| at.elapsed().as_secs()));
    }
    ages.sort_unstable();
    let age = |percentile: usize| ages[ages.len() * percentile / 100];
    let Seen { sent, probes, answered, .. } = &*seen.lock().unwrap();
    #[allow(clippy::cast_precision_loss, reason = "a few thousand requests")]
    let good = *answered as f64 / LASTS.as_secs_f64();
    println!(
        "{percent} % fail: {sent} requests, {probes} probes, {good:.2} answered a second, ages p50 {} s, p95 {} s, max {} s",
        age(50),
        age(95),
        ages[ages.len() - 1]
    );
    assert!(good >= rate, "{good:.2} answered reads a second");
    assert!(age(50) <= p50 && age(95) <= p95, "ages p50 {} s, p95 {} s", age(50), age(95));
}

/// The mirror that opened the breaker selects the one path that SSM still does not answer, and is probed
/// repeatedly. The other mirrors of the account do not wait for it.
#[rstest]
#[case::in_one_namespace("shop")]
#[case::in_another_namespace("other")]
#[tokio::test(start_paused = true)]
async fn one_selection_that_is_never_answered_does_not_keep_the_breaker_open(#[case] namespace: &str) {
    let world = World::new();
    world.create("namespaces", None, json!({"metadata": {"name": "other", "labels": {}}}));
    let grant = json!([{"namespaces": ["shop", "other"], "paths": ["/"]}]);
    world.patch("parametersources", None, "default", &json!({"spec": {"grants": grant}}));
    world.mirror("app", "1h");
    let operator = world.operator();
    world.becomes("app", "Degraded", "False", "Synced", Duration::from_mins(2)).await;
    let stuck = json!({
        "apiVersion": "parameter-mirror.dev/v1alpha1", "kind": "ParameterMirror", "metadata": {"name": "stuck"},
        "spec": {"interval": "10s", "sourceRef": {"name": "default"}, "parameters": [{"path": "/stuck"}], "secret": {}},
    });
    world.create("parametermirrors", Some(namespace), stuck);
    let fails = |what: &'static str| {
        move |call: &super::line::Call| {
            let concerns = call.edge == Edge::Ssm && call.point.contains(what);
            concerns.then_some(Fault::Source(ReadErrorKind::SourceUnavailable))
        }
    };
    world.faults.set(fails("/"));
    let probed = |what: &str| operator.line.calls().iter().any(|call| call.point == format!("probe {what}"));
    world
        .eventually(Duration::from_mins(5), || {
            if probed("/stuck") { Ok(()) } else { Err("no probe".to_owned()) }
        })
        .await;
    // Now it is triggered, too, and only the other mirror still gets no answer.
    let asked = json!({"metadata": {"annotations": {"parameter-mirror.dev/sync-at": "now"}}});
    world.patch("parametermirrors", Some("shop"), "app", &asked);
    world.becomes("app", "Degraded", "True", "SourceUnavailable", Duration::from_mins(1)).await;
    world.faults.set(fails("/stuck"));
    world.becomes("app", "Degraded", "False", "Synced", Duration::from_mins(3)).await;
}
