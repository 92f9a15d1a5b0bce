//! A tenant who creates hundreds of mirrors, each as large as possible: how much memory they cost the
//! operator.

use futures::StreamExt as _;
use kube::api::{ListParams, PostParams};
use parameter_mirror::api::ParameterMirror;
use serde_json::json;

use crate::world::{LATER, Setup, World, eventually};

const FLOOD: usize = 300;
/// The memory limit per mirror: twice the measured cost in this small flood, most of which is the peak of the
/// work (with 3,000 mirrors, each costs 19 KB).
const EACH: u64 = 80 << 10;

#[tokio::test]
async fn a_flood_of_mirrors_costs_the_operator_little_memory() {
    let arguments = vec!["--ssm-requests-per-second=10000".to_owned()];
    let world = World::with(Setup { arguments, ..Setup::default() }).await;
    for number in 0..FLOOD {
        world.ssm.put(&format!("/app/{number}/x"), "v");
    }
    world.mirror("first", json!({"parameters": [{"path": "/app/0"}], "secret": {}, "redis": {}})).await;
    world.ready("first", "Synced").await;
    let before = world.operator.process().resident_bytes();

    // Half of them are not granted. Annotations other than ours are ignored, and must cost nothing.
    let burden = "x".repeat(100 << 10);
    let mirror = |number: usize| -> ParameterMirror {
        let path =
            if number.is_multiple_of(2) { format!("/app/{number}") } else { format!("/other/{number}") };
        let spec = json!({"sourceRef": {"name": world.source}, "interval": "1h", "parameters": [{"path": path}], "secret": {}, "redis": {}});
        let metadata = json!({"name": format!("m{number}"), "annotations": {"example.com/burden": burden}});
        serde_json::from_value(json!({
            "apiVersion": "parameter-mirror.dev/v1alpha1", "kind": "ParameterMirror", "metadata": metadata, "spec": spec,
        }))
        .unwrap()
    };
    let api = world.mirrors();
    futures::stream::iter(0..FLOOD)
        .for_each_concurrent(8, async |number| {
            api.create(&PostParams::default(), &mirror(number)).await.unwrap();
        })
        .await;
    eventually("each mirror is judged", LATER, async || {
        let all = api.list(&ListParams::default()).await.unwrap().items;
        let is_judged = |mirror: &&ParameterMirror| {
            let status = mirror.status.as_ref();
            status.is_some_and(|status| {
                status.conditions.iter().any(|is| is.type_ == "Ready" && is.status != "Unknown")
            })
        };
        let judged = all.iter().filter(is_judged).count();
        if judged == FLOOD + 1 { Ok(()) } else { Err(format!("{judged} of {}", all.len())) }
    })
    .await;
    let after = world.operator.process().resident_bytes();
    let each = after.saturating_sub(before) / u64::try_from(FLOOD).unwrap();
    assert!(each < EACH, "{each} bytes for each mirror: {before} before, {after} after {FLOOD}");
}
