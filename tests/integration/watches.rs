//! Watches of a real API server that lag, skip events or restart (the perturbations of Sieve, OSDI 2022). The
//! operator reaches the API server through a view that the test controls. *Real time*; `simulation::watches`
//! covers every moment at which it can happen.

use parameter_mirror_test_support::{Scratch, View};
use serde_json::json;

use crate::world::{LATER, Setup, World, eventually};

/// A world whose operator reaches the API server through a view.
async fn through_a_view() -> (World, View, Scratch) {
    let mut world = World::start().await;
    let scratch = Scratch::new("view").unwrap();
    let mut settings = world.operator.settings().clone();
    let view = View::of(&settings.kubeconfig).await;
    settings.kubeconfig = view.kubeconfig(scratch.path());
    world.operator.terminate().await;
    world.operator = parameter_mirror_test_support::Operator::start(settings).await;
    (world, view, scratch)
}

fn spec() -> serde_json::Value {
    json!({"parameters": [{"path": "/app"}], "secret": {}, "redis": {"deletionPolicy": "Delete"}})
}

/// Reads, writes and heartbeats need no watch: values continue to arrive, nothing is reverted, and a hidden
/// change is healed when it is seen.
#[tokio::test]
async fn a_watch_that_stands_still_turns_nothing_back() {
    let (world, view, _scratch) = through_a_view().await;
    world.ssm.put("/app/a", "1");
    world.mirror("config", spec()).await;
    world.ready("config", "Synced").await;
    for resource in ["secrets", "parametermirrors", "parametersources", "namespaces"] {
        view.hold(resource);
    }
    world.ssm.put("/app/a", "2");
    world.holds("config", &[("A", "2")]).await;
    world.field_is("config", "/app/a", "2").await;
    // The Secret is edited while the operator cannot see it: the next write fails on the resource version,
    // and the operator reads the Secret and replaces it.
    world.edit_secret("config", json!({"stringData": {"A": "edited"}})).await;
    world.ssm.put("/app/a", "3");
    world.holds("config", &[("A", "3")]).await;
    world.field_is("config", "/app/a", "3").await;

    world.delete_secret("config").await;
    for resource in ["secrets", "parametermirrors", "parametersources", "namespaces"] {
        view.release(resource);
    }
    world.holds("config", &[("A", "3")]).await;
    world.healthy("config").await;
    let past = |list: &&String| list.contains("resourceVersion=0");
    assert_eq!(view.lists().iter().filter(past).count(), 0, "a list may come from a cache of the past");
}

/// A mirror is deleted and created again with another spec while the watch is interrupted: only the result
/// counts.
#[tokio::test]
async fn what_a_watch_never_showed_does_not_matter() {
    let (world, view, _scratch) = through_a_view().await;
    world.ssm.put("/app/a", "1");
    world.ssm.put("/app/b", "1");
    world.mirror("config", json!({"parameters": [{"path": "/app"}], "secret": {}, "redis": {}})).await;
    world.ready("config", "Synced").await;
    view.hold("secrets");
    view.hold("parametermirrors");
    world.cluster.kubectl(&["delete", "pmirror", "config", "-n", &world.namespace]).await;
    world.delete_secret("config").await;
    world.mirror("config", json!({"parameters": [{"name": "/app/b"}], "secret": {}, "redis": {}})).await;
    view.begin_again("parametermirrors");
    view.begin_again("secrets");
    world.holds("config", &[("B", "1")]).await;
    eventually("Redis holds the same", LATER, async || {
        let held = world.values("config").await;
        if held.keys().eq(["/app/b"]) { Ok(()) } else { Err(world.seen(&held)) }
    })
    .await;
    world.healthy("config").await;
}

/// The watch shows a mirror as being deleted, although it was created again: the operator deletes nothing.
#[tokio::test]
async fn a_deletion_of_the_past_deletes_nothing() {
    let (world, view, _scratch) = through_a_view().await;
    world.ssm.put("/app/a", "1");
    world.mirror("config", spec()).await;
    world.ready("config", "Synced").await;
    view.hold("parametermirrors");
    let name = ["pmirror", "config", "-n", &world.namespace];
    world.cluster.kubectl(&[&["delete", "--wait=false"], &name[..]].concat()).await;
    let let_go =
        [&["patch"], &name[..], &["--type=merge", "-p", r#"{"metadata": {"finalizers": null}}"#]].concat();
    world.cluster.kubectl(&let_go).await;
    world.mirror("config", spec()).await;
    let before = world.number("config", "@generation").await;
    let gets = world.operator.log().len();
    view.pass_one("parametermirrors");
    eventually("the operator has seen the deletion", LATER, async || {
        let log = world.operator.log();
        if log[gets..].contains("is not as the watch shows it") {
            Ok(())
        } else {
            Err(world.seen(&"nothing"))
        }
    })
    .await;
    assert_eq!(world.number("config", "@generation").await, before, "the hash was deleted, or written again");
    view.release("parametermirrors");
    world.ssm.put("/app/a", "2");
    world.field_is("config", "/app/a", "2").await;
    world.holds("config", &[("A", "2")]).await;
}

/// `secretWatch: false`: the operator has no permission to list or watch Secrets, and heals at the next
/// check.
#[tokio::test]
async fn without_the_right_to_list_secrets_a_lost_one_is_back_at_the_next_check() {
    let world = World::with(Setup {
        chart: vec!["secretWatch=false".to_owned()],
        arguments: vec!["--secret-watch=false".to_owned()],
        ..Setup::default()
    })
    .await;
    let account = format!("--as=system:serviceaccount:{0}:{0}-parameter-mirror", world.home);
    let may = async |verb: &str, secret: &str, namespace: &str| {
        let ask = ["auth", "can-i", verb, secret, "-n", namespace, &account];
        world.cluster.try_kubectl(&ask).await.stdout.trim() == "yes"
    };
    for namespace in [&world.namespace, &world.home] {
        for verb in ["list", "watch"] {
            assert!(!may(verb, "secrets", namespace).await, "{verb} in {namespace}");
        }
    }
    assert!(may("watch", "secrets/parameter-mirror-keys", &world.home).await);

    world.ssm.put("/app/a", "1");
    world.synced("config").await;
    world.ssm.refuse();
    world.degraded("config", "SourceUnavailable").await;
    world.delete_secret("config").await;
    world.holds("config", &[("A", "1")]).await;
    world.edit_secret("config", json!({"stringData": {"A": "edited"}})).await;
    world.holds("config", &[("A", "1")]).await;
    world.ready("config", "ServingLastKnownGood").await;
}
