//! How other tools classify a mirror: Flux and Helm with kstatus (its own library, `hack/tools/kstatus`),
//! Argo CD with the health check of docs/guides/gitops.md, run by Redis's own Lua.

use std::process::Stdio;

use kube::api::{Api, DynamicObject};
use kube::core::GroupVersionKind;
use kube::discovery::ApiResource;
use parameter_mirror_test_support::{
    programs,
    ssm::{Fault, When},
};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;

use crate::world::{LATER, World, eventually, root};

/// Stands for the source of the world, beside the names of mirrors.
const SOURCE: &str = "the source";

/// Returns the status and the message of kstatus.
async fn kstatus(object: &Value) -> (String, String) {
    let mut command = tokio::process::Command::new(programs::path("kstatus"));
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(object.to_string().as_bytes()).await.unwrap();
    let output = child.wait_with_output().await.unwrap();
    assert!(output.status.success(), "{object:#}");
    let output = String::from_utf8(output.stdout).unwrap();
    let (word, message) = output.trim_end().split_once(' ').unwrap();
    (word.to_owned(), message.to_owned())
}

/// Returns the health and the message of the script for Argo CD in docs/guides/gitops.md.
async fn argo(world: &World, object: &Value) -> (String, String) {
    let page = std::fs::read_to_string(root().join("docs/guides/gitops.md")).unwrap();
    let marker = format!("<!-- health: {} -->\n```lua\n", object["kind"].as_str().unwrap());
    let (_, rest) = page.split_once(&marker).unwrap();
    let (script, _) = rest.split_once("```").unwrap();
    let script = format!(
        "local health = (function(obj)\n{script}\nend)(cjson.decode(ARGV[1]))\nreturn {{health.status, health.message}}"
    );
    let output = world.redis.cli(&["eval", &script, "0", &object.to_string()]).await;
    let (status, message) = output.split_once('\n').unwrap_or((&output, ""));
    (status.to_owned(), message.to_owned())
}

/// Returns the object as the API server has it; the operator's own types would fill in defaults.
async fn object(world: &World, name: &str) -> Value {
    let kind = ApiResource::from_gvk_with_plural(
        &GroupVersionKind::gvk("parameter-mirror.dev", "v1alpha1", "ParameterMirror"),
        "parametermirrors",
    );
    let api: Api<DynamicObject> = Api::namespaced_with(world.client.clone(), &world.namespace, &kind);
    serde_json::to_value(api.get(name).await.unwrap()).unwrap()
}

/// Returns the source of the world.
async fn source(world: &World) -> Value {
    let source = world.cluster.kubectl(&["get", "psource", &world.source, "-o", "json"]).await;
    serde_json::from_str(&source).unwrap()
}

async fn is_taken_for(world: &World, name: &str, kstatus_word: &str, argo_word: &str, message: &str) {
    let read = async || if name == SOURCE { source(world).await } else { object(world, name).await };
    eventually(&format!("{name} is taken for {kstatus_word} and {argo_word}"), LATER, async || {
        let object = read().await;
        let (by_kstatus, by_argo) = (kstatus(&object).await, argo(world, &object).await);
        let fits = by_kstatus.0 == kstatus_word && by_argo.0 == argo_word && by_argo.1.contains(message);
        if fits { Ok(()) } else { Err(format!("{by_kstatus:?} {by_argo:?}\n{object:#}")) }
    })
    .await;
}

#[tokio::test]
async fn flux_and_argo_take_a_mirror_for_what_it_is() {
    let world = World::start().await;
    world.ssm.put("/app/a", "1");
    let spec = || json!({"parameters": [{"path": "/app"}], "secret": {}, "redis": {}});

    world.synced("config").await;
    is_taken_for(&world, "config", "Current", "Healthy", "").await;
    is_taken_for(&world, SOURCE, "Current", "Healthy", "").await;

    // The held set is served, which is the purpose of a mirror: a rollout must not wait for SSM.
    world.ssm.fail(When::any(), Fault::unavailable());
    world.sync("config").await;
    world.degraded("config", "SourceUnavailable").await;
    is_taken_for(&world, "config", "Current", "Healthy", "SourceUnavailable").await;
    is_taken_for(&world, SOURCE, "Current", "Healthy", "").await;

    // A mirror that has never had a set is waited for.
    world.mirror("early", spec_of("/app/early")).await;
    world.condition("early", "Ready", "False", "NoLastKnownGood").await;
    is_taken_for(&world, "early", "InProgress", "Progressing", "NoLastKnownGood").await;
    world.ssm.clear_all();

    // These need a person.
    world.mirror("ungranted", spec_of("/other")).await;
    is_taken_for(&world, "ungranted", "Failed", "Degraded", "NotGranted").await;
    let twice = json!({"parameters": [{"path": "/app"}, {"path": "/app"}], "secret": {}});
    world.mirror("invalid", twice).await;
    is_taken_for(&world, "invalid", "Failed", "Degraded", "selected twice").await;

    world.sync("config").await;
    world.healthy("config").await;
    world.change("config", json!({"suspend": true})).await;
    is_taken_for(&world, "config", "Current", "Suspended", "").await;

    // The operator has not observed these: a mirror just applied, and one just changed.
    world.operator.terminate().await;
    world.mirror("unseen", spec()).await;
    assert_eq!(object(&world, "unseen").await["status"]["observedGeneration"], -1);
    is_taken_for(&world, "unseen", "InProgress", "Progressing", "").await;
    world.change("config", json!({"suspend": false, "interval": "20s"})).await;
    is_taken_for(&world, "config", "InProgress", "Progressing", "").await;
}

fn spec_of(path: &str) -> Value {
    json!({"parameters": [{"path": path}], "secret": {}})
}
