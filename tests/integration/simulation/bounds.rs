//! Input of a tenant that is large or numerous never makes the operator's messages or requests large or
//! numerous.

use std::time::Duration;

use serde_json::{Value as Json, json};

use super::line::Edge;
use super::world::{NAMESPACE, World};

const SOON: Duration = Duration::from_mins(2);

fn message(world: &World, mirror: &str, type_: &str) -> String {
    let found = world.api.objects(|objects| objects.get("parametermirrors", NAMESPACE, mirror)).unwrap();
    let conditions = found["status"]["conditions"].as_array().cloned().unwrap_or_default();
    let condition: Option<Json> = conditions.into_iter().find(|condition| condition["type"] == type_);
    condition.unwrap()["message"].as_str().unwrap().to_owned()
}

/// 1,900 names, each with a twin that has the same key: a message with all names would be 400 KB.
#[tokio::test(start_paused = true)]
async fn a_message_stays_short_however_many_names_it_is_about() {
    let world = World::new();
    for number in 0..950 {
        for twin in ['-', '_'] {
            let name = format!("/wide/{}{twin}{number}", "x".repeat(200));
            world.ssm.put(&name, "1", world.now());
        }
    }
    world.mirror_with("wide", json!({"interval": "1m", "parameters": [{"path": "/wide"}]}));
    let operator = world.operator();
    world.becomes("wide", "Degraded", "True", "SecretKeyInvalid", SOON).await;
    world.pass(Duration::from_mins(10)).await;
    for type_ in ["Degraded", "Ready"] {
        let message = message(&world, "wide", type_);
        assert!((1..=2_048).contains(&message.len()), "{type_}: {} bytes", message.len());
    }
    let statuses = |call: &&super::line::Call| call.point == "patch parametermirrors/wide/status";
    let written = operator.line.calls().iter().filter(statuses).count();
    assert!(written <= 12, "{written} statuses in ten minutes");
}

/// A status that cannot be written is retried, and its event is reported once.
#[tokio::test(start_paused = true)]
async fn what_cannot_be_written_is_reported_once() {
    let world = World::new();
    world.mirror("app", "1m");
    let _operator = world.operator();
    world.both_serve("app", 1, SOON).await;
    world.becomes("app", "Degraded", "False", "Synced", SOON).await;
    world.faults.set(|call| match call.edge {
        Edge::Ssm => Some(super::line::Fault::Silent),
        Edge::Kubernetes if call.point.ends_with("/status") => Some(super::line::Fault::Http(500)),
        _ => None,
    });
    world.pass(Duration::from_mins(30)).await;
    let degraded = world.events("app").iter().filter(|event| *event == "Timeout").count();
    assert_eq!(degraded, 1);
    world.faults.clear();
    world.becomes("app", "Degraded", "False", "Synced", SOON).await;
}

/// All mirrors fail and are retried often; the operator asks the API server for the source once a minute, not
/// once per read.
#[tokio::test(start_paused = true)]
async fn mirrors_of_a_missing_source_ask_for_it_together() {
    const MIRRORS: usize = 200;
    let world = World::new();
    let operator = world.operator();
    for number in 0..MIRRORS {
        let name = format!("lost-{number}");
        world.mirror(&name, "10s");
        world.patch(
            "parametermirrors",
            Some(NAMESPACE),
            &name,
            &json!({"spec": {"sourceRef": {"name": "nowhere"}}}),
        );
    }
    world.becomes("lost-7", "Degraded", "True", "SourceNotFound", SOON).await;
    let asked = || operator.line.calls().iter().filter(|call| call.point.contains("sources/nowhere")).count();
    let before = asked();
    world.pass(Duration::from_mins(30)).await;
    let asked = asked() - before;
    assert!((20..=40).contains(&asked), "asked {asked} times in 30 minutes");

    // A source that is created is found at once.
    let grant = json!({"namespaces": [NAMESPACE], "paths": ["/"]});
    world.create(
        "parametersources",
        None,
        json!({
            "apiVersion": "parameter-mirror.dev/v1alpha1", "kind": "ParameterSource", "metadata": {"name": "nowhere"},
            "spec": {"region": "us-east-1", "redisEncryption": "None", "grants": [grant]},
        }),
    );
    world.both_serve("lost-7", 1, SOON).await;
}
