//! What kubectl shows of a mirror: columns, waiting, and the events of an outage.

use parameter_mirror_test_support::ssm::{Fault, When};
use serde_json::json;

use crate::world::{SOON, World, eventually};

#[tokio::test]
async fn wide_columns_say_where_from_and_where_to() {
    let world = World::start().await;
    world.ssm.put("/app/a", "1");
    world
        .mirror(
            "config",
            json!({"parameters": [{"path": "/app"}], "secret": {"name": "app-config"}, "redis": {}}),
        )
        .await;
    let kubectl = async |arguments: &[&str]| {
        let mut all = arguments.to_vec();
        all.extend(["--namespace", &world.namespace]);
        world.cluster.kubectl(&all).await
    };
    let output = kubectl(&["wait", "--for=condition=Ready", "pmirror/config", "--timeout=30s"]).await;
    assert!(output.contains("condition met"), "{output}");
    let narrow = kubectl(&["get", "pmirror"]).await;
    let header: Vec<&str> =
        narrow.lines().next().unwrap().split("  ").map(str::trim).filter(|word| !word.is_empty()).collect();
    assert_eq!(
        header,
        ["NAME", "READY", "DEGRADED", "REASON", "SUSPENDED", "PARAMETERS", "LAST SYNC", "AGE"],
        "{narrow}"
    );
    let wide = kubectl(&["get", "pmirror", "-o", "wide"]).await;
    let (header, row) = wide.split_once('\n').unwrap();
    for column in ["SOURCE", "INTERVAL", "SECRET", "REDIS KEY", "REVISION"] {
        assert!(header.contains(column), "{column} is missing in\n{wide}");
    }
    let revision = world.status("config").await.revision.unwrap();
    for cell in [world.source.as_str(), "10s", "app-config", &world.key("config"), &revision] {
        assert!(row.contains(cell), "{cell} is missing in\n{wide}");
    }
}

/// `kubectl describe` on the morning after: one line for each event, in order.
#[tokio::test]
async fn the_events_of_an_outage_are_its_story() {
    let world = World::start().await;
    world.ssm.put("/app/a", "1");
    world.synced("config").await;
    world.event("config", "Synced").await;
    world.ssm.fail(When::any(), Fault::unavailable());
    world.sync("config").await;
    world.degraded("config", "SourceUnavailable").await;
    world.event("config", "SourceUnavailable").await;
    world.delete_secret("config").await;
    world.event("config", "Healed").await;
    world.ssm.clear_all();
    world.sync("config").await;
    world.healthy("config").await;
    world.event("config", "Recovered").await;
    let described = eventually("describe shows the story", SOON, async || {
        let output =
            world.cluster.kubectl(&["describe", "pmirror", "config", "--namespace", &world.namespace]).await;
        let (_, events) = output.split_once("Events:").unwrap_or_default();
        let at = ["Synced", "SourceUnavailable", "Healed", "Recovered"]
            .map(|reason| events.find(&format!("  {reason}  ")));
        if at.is_sorted() && at[0].is_some() { Ok(output) } else { Err(world.seen(&output)) }
    })
    .await;
    let (_, events) = described.split_once("Events:").unwrap();
    for words in ["HTTP 503 ServiceUnavailable", "Secret config", "Recovered from SourceUnavailable after"] {
        assert!(events.contains(words), "{words:?} is not in\n{events}");
    }
    // Two header lines, and no event beyond what happened.
    assert_eq!(events.trim().lines().count(), 2 + 4, "{events}");
}
