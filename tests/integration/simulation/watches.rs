//! Watches that lag, skip events, or restart at any moment (the perturbations of Sieve, OSDI 2022). The
//! result is the same as without, and nothing is ever deleted or reverted because of stale events.

use std::time::Duration;

use serde_json::json;

use super::world::{NAMESPACE, Part, World, in_virtual_time};

const SOON: Duration = Duration::from_secs(40);

/// The operator sees the past for a while, also a new one that starts meanwhile.
#[tokio::test(start_paused = true)]
async fn a_watch_that_lags_turns_nothing_back() {
    let world = World::new();
    world.mirror("app", "10s");
    let operator = world.operator();
    world.both_serve("app", 1, SOON).await;
    world.api.lag();
    world.release(2);
    world.both_serve("app", 2, SOON).await;
    world.destroy("app", Part::Secret, || world.delete("secrets", NAMESPACE, "app"));
    world.patch("parametersources", None, "default", &json!({"spec": {"grants": []}}));
    operator.kill();
    let _operator = world.operator();
    world.pass(SOON).await;
    world.api.catch_up();
    world.becomes("app", "Ready", "False", "NotGranted", SOON).await;
    let grant = json!({"namespaces": [NAMESPACE], "paths": ["/app"]});
    world.patch("parametersources", None, "default", &json!({"spec": {"grants": [grant]}}));
    world.both_serve("app", 2, SOON).await;
    world.assert_whole_and_forward();
}

/// The watch shows a withdrawn grant, which is outdated: the operator confirms it before it acts.
#[tokio::test(start_paused = true)]
async fn a_denial_of_the_past_is_not_believed() {
    let world = World::new();
    let grant = json!([{"namespaces": [NAMESPACE], "paths": ["/app"]}]);
    world.patch("parametersources", None, "default", &json!({"spec": {"grants": []}}));
    let _operator = world.operator();
    world.pass(Duration::from_secs(5)).await;
    world.api.lag_of("parametersources");
    world.patch("parametersources", None, "default", &json!({"spec": {"grants": grant}}));
    world.mirror("app", "10s");
    world.both_serve("app", 1, SOON).await;
}

/// A mirror and its Secret are deleted and created again while the watch is interrupted; the watch lists
/// again and sees only the result.
#[tokio::test(start_paused = true)]
async fn what_happened_between_two_lists_does_not_matter() {
    let world = World::new();
    world.mirror("app", "10s");
    let _operator = world.operator();
    world.both_serve("app", 1, SOON).await;
    world.api.lag();
    world.delete("parametermirrors", NAMESPACE, "app");
    world.destroy("app", Part::Secret, || world.delete("secrets", NAMESPACE, "app"));
    world.mirror("app", "20s");
    world.release(2);
    world.api.objects(super::objects::Objects::compact);
    world.api.catch_up();
    world.both_serve("app", 2, SOON).await;
    world.becomes("app", "Ready", "True", "Synced", SOON).await;
    world.assert_whole_and_forward();
}

/// The watch shows a mirror as being deleted, although it was created again long ago: the operator deletes
/// nothing.
#[tokio::test(start_paused = true)]
async fn a_deletion_of_the_past_deletes_nothing() {
    let world = World::new();
    let spec = |deletion| json!({"interval": "10s", "parameters": [{"path": "/app"}], "redis": {"encryption": "None", "deletionPolicy": deletion}});
    world.mirror_with("app", spec("Delete"));
    let _operator = world.operator();
    world.both_serve("app", 1, SOON).await;
    world.api.lag();
    world.delete("parametermirrors", NAMESPACE, "app");
    let deleting = world.api.version();
    world.patch("parametermirrors", Some(NAMESPACE), "app", &json!({"metadata": {"finalizers": null}}));
    world.mirror_with("app", spec("Delete"));
    world.api.lag_at(deleting);
    for _ in 0..100 {
        world.pass(Duration::from_millis(100)).await;
        assert_eq!(world.serves("app", Part::Redis), Some(1), "deleted on the word of the past");
    }
    world.api.catch_up();
    world.release(2);
    world.both_serve("app", 2, SOON).await;

    world.delete("parametermirrors", NAMESPACE, "app");
    world
        .eventually(SOON, || {
            world.values("app", Part::Redis).map_or(Ok(()), |_| Err("still there".to_owned()))
        })
        .await;
}

/// The watch shows a spec that names another Secret, although the mirror names the old one again: the
/// operator does not delete that one.
#[tokio::test(start_paused = true)]
async fn a_target_that_only_the_past_gives_up_is_kept() {
    let world = World::new();
    let spec = |name| json!({"interval": "10s", "parameters": [{"path": "/app"}], "secret": {"name": name, "deletionPolicy": "Delete"}});
    world.mirror_with("app", spec("app"));
    let _operator = world.operator();
    world.both_serve("app", 1, SOON).await;
    world.api.lag();
    world.patch("parametermirrors", Some(NAMESPACE), "app", &json!({"spec": spec("other")}));
    let other = world.api.version();
    world.patch("parametermirrors", Some(NAMESPACE), "app", &json!({"spec": spec("app")}));
    world.api.lag_at(other);
    for _ in 0..100 {
        world.pass(Duration::from_millis(100)).await;
        assert_eq!(world.serves("app", Part::Secret), Some(1), "deleted on the word of the past");
    }
    world.api.catch_up();
    world.release(2);
    world.both_serve("app", 2, SOON).await;
}

/// Every watch gets `410 Gone` at any call of the operator.
#[test]
fn a_store_that_is_rebuilt_at_any_moment_loses_nothing() {
    let calls = in_virtual_time(rebuilt_at(usize::MAX));
    assert!(calls > 30, "{calls}");
    for call in 0..calls {
        println!("all watches begin again at call {call}");
        in_virtual_time(rebuilt_at(call));
    }
}

async fn rebuilt_at(call: usize) -> usize {
    let world = World::new();
    world.mirror("app", "10s");
    let (mut seen, api) = (0, world.api.clone());
    world.faults.set(move |_| {
        seen += 1;
        if seen == call {
            api.objects(super::objects::Objects::compact);
        }
        None
    });
    let operator = world.operator();
    world.both_serve("app", 1, SOON).await;
    world.release(2);
    world.both_serve("app", 2, SOON).await;
    world.destroy("app", Part::Secret, || world.delete("secrets", NAMESPACE, "app"));
    world.both_serve("app", 2, SOON).await;
    world.becomes("app", "Ready", "True", "Synced", SOON).await;
    world.assert_whole_and_forward();
    operator.line.calls().len()
}
