//! What the status reports, and with how few writes (promises 3 and 5).

use std::time::Duration;

use parameter_mirror::mirror::snapshot::ReadErrorKind;
use serde_json::json;

use super::line::{Edge, Fault};
use super::world::{Operator, Part, World};

const SOON: Duration = Duration::from_mins(1);

fn down(world: &World) {
    world
        .faults
        .set(|call| (call.edge == Edge::Ssm).then_some(Fault::Source(ReadErrorKind::SourceUnavailable)));
}

fn is(world: &World, mirror: &str, type_: &str) -> String {
    let (status, reason) = world.condition(mirror, type_);
    format!("{status}/{reason}")
}

/// Promise 3: degraded within 30 s of the first failed due read; recovered within one interval and 30 s.
#[tokio::test(start_paused = true)]
async fn degraded_and_recovered_are_reported_in_time() {
    let world = World::new();
    world.mirror("app", "1m");
    let _operator = world.operator();
    world.both_serve("app", 1, SOON).await;
    for outage in [Duration::from_mins(2), Duration::from_hours(1), Duration::from_hours(9)] {
        down(&world);
        world.becomes("app", "Degraded", "True", "SourceUnavailable", Duration::from_secs(90)).await;
        world.pass(outage).await;
        world.faults.clear();
        world.becomes("app", "Degraded", "False", "Synced", Duration::from_secs(90)).await;
        assert_eq!(is(&world, "app", "Ready"), "True/Synced", "though no value changed");
    }
}

/// A day of outage: two transitions, and texts that are updated at most once per interval.
#[tokio::test(start_paused = true)]
async fn an_outage_of_a_day_is_two_events_and_few_writes() {
    let world = World::new();
    world.mirror("app", "5m");
    let operator = world.operator();
    world.both_serve("app", 1, SOON).await;
    world.pass(Duration::from_mins(30)).await;
    let before = Noise::of(&operator);
    // Each failure has another text.
    let reasons = [ReadErrorKind::SourceUnavailable, ReadErrorKind::Timeout, ReadErrorKind::Throttled];
    let mut number = 0;
    world.faults.set(move |call| {
        number += 1;
        (call.edge == Edge::Ssm).then(|| Fault::Source(reasons[number % reasons.len()]))
    });
    world.pass(Duration::from_hours(24)).await;
    let since = world.api.objects(|objects| {
        let mirror = objects.get("parametermirrors", "shop", "app").unwrap();
        let conditions = mirror["status"]["conditions"].as_array().unwrap().clone();
        conditions.into_iter().find(|is| is["type"] == "Degraded").unwrap()["lastTransitionTime"].clone()
    });
    assert!(
        since.as_str().unwrap() < "2026-11-23T00:40",
        "a transition time moves only when its status flips: {since}"
    );
    world.faults.clear();
    world.becomes("app", "Degraded", "False", "Synced", Duration::from_mins(6)).await;
    let noise = Noise::of(&operator).since(&before);
    assert!(noise.status_writes <= 24 * 12 * 2 + 10, "{noise:?}");
    assert!(noise.events <= 24 * 12 + 10, "one per change of the reason, {noise:?}");
}

/// An operator's writes besides the targets.
#[derive(Debug)]
struct Noise {
    status_writes: usize,
    events: usize,
}

impl Noise {
    fn of(operator: &Operator) -> Self {
        let calls = operator.line.calls();
        let count = |part: &str| calls.iter().filter(|call| call.point.contains(part)).count();
        Self { status_writes: count("app/status"), events: count(" events/") }
    }

    fn since(&self, before: &Self) -> Self {
        Self { status_writes: self.status_writes - before.status_writes, events: self.events - before.events }
    }
}

/// One outage has one beginning, whatever SSM answers in its course and whoever leads. The next outage has another.
#[tokio::test(start_paused = true)]
async fn an_incident_keeps_its_beginning_over_other_answers_and_a_restart() {
    let world = World::new();
    world.mirror("app", "10s");
    let operator = world.operator();
    world.both_serve("app", 1, SOON).await;
    let fails = |reason: ReadErrorKind| {
        world.faults.set(move |call| (call.edge == Edge::Ssm).then_some(Fault::Source(reason)));
    };
    let issue = || status(&world)["issues"][0].clone();
    fails(ReadErrorKind::SourceUnavailable);
    world.becomes("app", "Degraded", "True", "SourceUnavailable", SOON).await;
    let first = issue();
    assert_eq!([&first["about"], &first["reason"]], ["Source", "SourceUnavailable"], "{first}");
    world.pass(SOON).await;
    fails(ReadErrorKind::Timeout);
    world.becomes("app", "Degraded", "True", "Timeout", 10 * SOON).await;
    assert_eq!(issue()["since"], first["since"], "the same outage");
    operator.kill();
    let _successor = world.operator();
    world.pass(2 * SOON).await;
    assert_eq!([&issue()["reason"], &issue()["since"]], ["Timeout", first["since"].as_str().unwrap()]);

    world.faults.clear();
    world.becomes("app", "Degraded", "False", "Synced", 10 * SOON).await;
    assert!(issue().is_null(), "{}", status(&world));
    fails(ReadErrorKind::AccessDenied);
    world.becomes("app", "Degraded", "True", "AccessDenied", 10 * SOON).await;
    let denied = issue();
    assert_ne!(denied["since"], first["since"]);
    fails(ReadErrorKind::SourceUnavailable);
    world.becomes("app", "Degraded", "True", "SourceUnavailable", 10 * SOON).await;
    assert_ne!(issue()["since"], denied["since"], "a denial is another incident");
}

/// A Secret that cannot be written lags behind, and so does what the status says of it.
#[tokio::test(start_paused = true)]
async fn the_status_never_claims_what_a_target_does_not_hold() {
    let world = World::new();
    world.mirror("app", "10s");
    let _operator = world.operator();
    world.both_serve("app", 1, SOON).await;
    let before = status(&world)["secret"]["revision"].clone();
    // Only writes fail: the old Secret can be read and verified, which is what the status records.
    let is_write = |point: &str| point.contains("secrets/app") && !point.starts_with("get");
    world.faults.set(move |call| is_write(&call.point).then_some(Fault::Http(403)));
    world.release(2);
    world.becomes("app", "Degraded", "True", "SecretWriteFailed", SOON).await;
    world.pass(SOON).await;
    let now = status(&world);
    assert_eq!(now["secret"]["revision"], before);
    assert_ne!(now["redis"]["revision"], before, "Redis went on");
    assert_eq!([Part::Secret, Part::Redis].map(|part| world.serves("app", part)), [Some(1), Some(2)]);
    world.faults.clear();
    world.both_serve("app", 2, SOON).await;
    assert_eq!(is(&world, "app", "Ready"), "True/Synced");
}

/// Two parameters with one key: no reader could be started with that set, so both targets keep what they hold.
#[tokio::test(start_paused = true)]
async fn a_set_that_no_program_can_use_replaces_none() {
    let world = World::new();
    world.mirror("app", "10s");
    let _operator = world.operator();
    world.both_serve("app", 1, SOON).await;
    let before = status(&world)["secret"]["revision"].clone();
    // The key of this parameter collides with that of `/app/p0`.
    world.ssm.put("/app/P0", "2", world.now());
    world.release(2);
    world.becomes("app", "Degraded", "True", "SecretKeyInvalid", SOON).await;
    world.pass(SOON).await;
    let now = status(&world);
    assert_eq!([&now["secret"]["revision"], &now["redis"]["revision"]], [&before, &before]);
    assert_eq!([Part::Secret, Part::Redis].map(|part| world.serves("app", part)), [Some(1), Some(1)]);
    world.ssm.delete("/app/P0");
    world.both_serve("app", 2, SOON).await;
    assert_eq!(is(&world, "app", "Ready"), "True/Synced");
}

fn status(world: &World) -> serde_json::Value {
    let mirror = world.api.objects(|objects| objects.get("parametermirrors", "shop", "app")).unwrap();
    mirror["status"].clone()
}

/// An hour without any change: no writes except heartbeats and at most one status per interval.
#[tokio::test(start_paused = true)]
async fn a_quiet_hour_is_quiet() {
    let world = World::new();
    world.mirror("app", "5m");
    let operator = world.operator();
    world.both_serve("app", 1, SOON).await;
    world.pass(Duration::from_mins(10)).await;
    let (calls, noise) = (operator.line.calls().len(), Noise::of(&operator));
    world.pass(Duration::from_hours(1)).await;
    let noise = Noise::of(&operator).since(&noise);
    assert!(noise.status_writes <= 13 && noise.events == 0, "{noise:?}");
    let all = operator.line.calls();
    let wrong: Vec<_> = all[calls..]
        .iter()
        .filter(|call| {
            call.edge == Edge::Kubernetes
                && !call.point.starts_with("watch")
                && !call.point.contains("leases")
        })
        .filter(|call| !call.point.ends_with("/status"))
        .chain(all[calls..].iter().filter(|call| call.point.starts_with("swap")))
        .collect();
    assert!(wrong.is_empty(), "{wrong:?}");
}

/// `maxStaleness` only reports; it never deletes anything.
#[tokio::test(start_paused = true)]
async fn what_is_older_than_max_staleness_is_stale_and_stays() {
    let world = World::new();
    let parameters = json!([{"path": "/app"}]);
    world.mirror_with("app", json!({"interval": "5m", "parameters": parameters, "maxStaleness": "2h"}));
    world.mirror("patient", "5m");
    let operator = world.operator();
    world.both_serve("app", 1, SOON).await;
    down(&world);
    world.pass(Duration::from_mins(110)).await;
    assert_eq!(is(&world, "app", "Degraded"), "True/SourceUnavailable");
    world.pass(Duration::from_mins(12)).await;
    assert_eq!(is(&world, "app", "Degraded"), "True/Stale");
    // The age survives a restart of the process.
    operator.kill();
    let _operator = world.operator();
    world.pass(Duration::from_mins(5)).await;
    assert_eq!(is(&world, "app", "Degraded"), "True/Stale");
    assert_eq!(is(&world, "app", "Ready"), "True/ServingLastKnownGood");
    assert_eq!(is(&world, "patient", "Degraded"), "True/SourceUnavailable");
    assert_eq!([Part::Secret, Part::Redis].map(|part| world.serves("app", part)), [Some(1); 2]);
    world.faults.clear();
    world.becomes("app", "Degraded", "False", "Synced", Duration::from_mins(6)).await;
}

/// A drill is reported at once, with everything served and healed, and ends by itself.
#[tokio::test(start_paused = true)]
async fn a_drill_behaves_as_an_outage_and_ends_by_itself() {
    let world = World::new();
    world.mirror("app", "1h");
    let operator = world.operator();
    world.both_serve("app", 1, SOON).await;
    world.pass(Duration::from_mins(5)).await;
    let asked =
        |operator: &Operator| operator.line.calls().iter().filter(|call| call.edge == Edge::Ssm).count();
    let before = asked(&operator);
    let drill =
        |until: &str| json!({"metadata": {"annotations": {"parameter-mirror.dev/drill-until": until}}});
    world.patch("parametersources", None, "default", &drill("2026-11-23T00:30:00Z"));
    world.becomes("app", "Degraded", "True", "Drill", SOON).await;
    assert_eq!(is(&world, "app", "Ready"), "True/ServingLastKnownGood");
    world.release(2);
    world.destroy("app", Part::Secret, || world.delete("secrets", super::world::NAMESPACE, "app"));
    world.both_serve("app", 1, SOON).await;
    let source = world.api.objects(|objects| objects.get("parametersources", "", "default")).unwrap();
    assert_eq!(source["status"]["breaker"], "Drill");
    world.pass(Duration::from_mins(15)).await;
    assert_eq!(asked(&operator), before, "SSM is not asked");

    world.pass(Duration::from_mins(10)).await;
    world.becomes("app", "Degraded", "False", "Synced", SOON).await;
    world.both_serve("app", 2, SOON).await;
    let source = world.api.objects(|objects| objects.get("parametersources", "", "default")).unwrap();
    assert_eq!(source["status"]["breaker"], "Closed");

    // A drill of more than an hour is refused, and does not start an hour before its end either.
    world.patch("parametersources", None, "default", &drill("2026-11-23T04:00:00Z"));
    world.pass(Duration::from_hours(3)).await;
    assert_eq!(is(&world, "app", "Degraded"), "False/Synced");
    world.assert_whole_and_forward();
}

/// Samples the status of the source `default`, once per second for this time.
async fn availability(world: &World, time: Duration) -> Vec<String> {
    let mut seen = Vec::new();
    for _ in 0..time.as_secs() {
        world.pass(Duration::from_secs(1)).await;
        let source = world.api.objects(|objects| objects.get("parametersources", "", "default")).unwrap();
        let conditions = source["status"]["conditions"].as_array().unwrap();
        let available = conditions.iter().find(|condition| condition["type"] == "Available").unwrap();
        seen.push(available["status"].as_str().unwrap().to_owned());
    }
    seen
}

/// Two mirrors are denied what they select and read every ten seconds; the others are served. Their source is
/// available, and its status is written once a minute, not at each read. An outage is still reported.
#[tokio::test(start_paused = true)]
async fn one_tenant_whose_reads_fail_does_not_flip_the_source() {
    let world = World::new();
    for name in ["a", "b", "c"] {
        world.mirror(name, "10s");
    }
    for name in ["denied", "denied-too"] {
        world.mirror_with(name, json!({"interval": "10s", "parameters": [{"path": "/denied"}]}));
    }
    let denied = |call: &super::line::Call| call.edge == Edge::Ssm && call.point.contains("/denied");
    world.faults.set(move |call| denied(call).then_some(Fault::Source(ReadErrorKind::AccessDenied)));
    let operator = world.operator();
    world.both_serve("c", 1, SOON).await;
    world.becomes("denied", "Ready", "False", "NoLastKnownGood", SOON).await;
    world.pass(SOON).await;
    let writes = || {
        let of_source = |call: &&super::line::Call| call.point == "patch parametersources/default/status";
        operator.line.calls().iter().filter(of_source).count()
    };
    let before = writes();
    let seen = availability(&world, Duration::from_mins(10)).await;
    assert!(seen.iter().all(|status| status == "True"), "{seen:?}");
    assert!(writes() - before <= 11, "{} writes in ten minutes", writes() - before);
    let source = world.api.objects(|objects| objects.get("parametersources", "", "default")).unwrap();
    let message = source["status"]["conditions"][1]["message"].as_str().unwrap();
    assert!(message.contains("2 of 5 mirrors"), "{message}");

    // Also for an operator that observes the failures first.
    operator.kill();
    let _operator = world.operator();
    let seen = availability(&world, Duration::from_mins(5)).await;
    assert!(seen.iter().all(|status| status == "True"), "{seen:?}");

    down(&world);
    let seen = availability(&world, Duration::from_mins(5)).await;
    assert_eq!(seen[120..].iter().filter(|status| *status == "True").count(), 0, "{seen:?}");
    world.faults.clear();
    let seen = availability(&world, Duration::from_mins(5)).await;
    assert_eq!(seen[90..].iter().filter(|status| *status != "True").count(), 0, "{seen:?}");
}
