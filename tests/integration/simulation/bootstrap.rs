//! A new mirror in an outage is bootstrapped from peers: mirrors that already hold its parameters.

use std::time::Duration;

use serde_json::json;

use super::line::{Edge, Fault};
use super::world::{NAMESPACE, Part, World};

const SOON: Duration = Duration::from_mins(2);

async fn outage_with_one_mirror() -> (World, super::world::Operator) {
    let world = World::new();
    world.mirror("old", "1m");
    let operator = world.operator();
    world.both_serve("old", 1, SOON).await;
    world.faults.set(|call| (call.edge == Edge::Ssm).then_some(Fault::Silent));
    world.release(2);
    world.pass(Duration::from_mins(3)).await;
    (world, operator)
}

#[tokio::test(start_paused = true)]
async fn a_mirror_made_in_the_outage_is_served_from_another_one() {
    let (world, operator) = outage_with_one_mirror().await;
    world.mirror("new", "1m");
    world.both_serve("new", 1, SOON).await;
    world.becomes("new", "Ready", "True", "ServingLastKnownGood", SOON).await;
    world.becomes("new", "Degraded", "True", "Timeout", SOON).await;
    let events = world.events("new");
    assert!(
        events.iter().any(|event| event == "Filled") && !events.iter().any(|event| event == "Healed"),
        "{events:?}"
    );
    // Also by an operator that only knows the targets of the peers.
    operator.kill();
    let _operator = world.operator();
    world.mirror("newer", "1m");
    world.both_serve("newer", 1, SOON).await;
    world.faults.clear();
    for mirror in ["old", "new", "newer"] {
        world.both_serve(mirror, 2, SOON).await;
        world.becomes(mirror, "Degraded", "False", "Synced", SOON).await;
    }
    world.assert_whole_and_forward();
}

#[tokio::test(start_paused = true)]
async fn nobody_gives_what_is_not_granted_not_held_or_not_wanted_any_more() {
    let (world, _operator) = outage_with_one_mirror().await;
    // It selects more than the peer holds.
    world.mirror_with("wider", json!({"interval": "1m", "parameters": [{"path": "/"}]}));
    // A namespace without a grant.
    world.create("namespaces", None, json!({"metadata": {"name": "other"}}));
    let foreign = json!({
        "apiVersion": "parameter-mirror.dev/v1alpha1", "kind": "ParameterMirror", "metadata": {"name": "foreign"},
        "spec": {"interval": "1m", "sourceRef": {"name": "default"}, "parameters": [{"path": "/app"}], "secret": {}},
    });
    world.create("parametermirrors", Some("other"), foreign);
    world.becomes("wider", "Ready", "False", "NoLastKnownGood", SOON).await;
    // The only peer changes its selection, and cannot be read again.
    let elsewhere = json!({"spec": {"parameters": [{"path": "/elsewhere"}]}});
    world.patch("parametermirrors", Some(NAMESPACE), "old", &elsewhere);
    world.pass(Duration::from_secs(10)).await;
    world.mirror("later", "1m");
    world.pass(Duration::from_mins(10)).await;
    assert_eq!([Part::Secret, Part::Redis].map(|part| world.serves("old", part)), [Some(1); 2]);
    let back = json!({"spec": {"parameters": [{"path": "/app"}], "suspend": true}});
    // The peer is suspended, so its owner may have edited what it serves.
    world.patch("parametermirrors", Some(NAMESPACE), "old", &back);
    world.pass(Duration::from_secs(10)).await;
    world.mirror("late", "1m");
    world.pass(Duration::from_mins(10)).await;
    for mirror in ["wider", "later", "late"] {
        assert_eq!(world.condition(mirror, "Ready").0, "False", "{mirror}");
        assert_eq!([Part::Secret, Part::Redis].map(|part| world.values(mirror, part)), [None, None]);
    }
    assert!(world.api.objects(|objects| objects.get("secrets", "other", "foreign")).is_none());
}

/// A grant is withdrawn during the outage: what is served stays, but is neither healed nor used to bootstrap
/// others, not even those with a grant. The labels of a namespace change while mirrors run, and change back.
#[tokio::test(start_paused = true)]
async fn a_mirror_without_its_grant_is_neither_healed_nor_bootstraps_others() {
    let (world, _operator) = outage_with_one_mirror().await;
    world.create("namespaces", None, json!({"metadata": {"name": "other", "labels": {"reads": "app"}}}));
    let label = |value: Option<&str>| json!({"metadata": {"labels": {"reads": value}}});
    world.patch("namespaces", None, NAMESPACE, &label(Some("app")));
    let grant = json!({"namespaceSelector": {"matchLabels": {"reads": "app"}}, "paths": ["/"]});
    world.patch("parametersources", None, "default", &json!({"spec": {"grants": [grant]}}));
    world.pass(Duration::from_mins(1)).await;
    world.becomes("old", "Ready", "True", "ServingLastKnownGood", SOON).await;

    world.patch("namespaces", None, NAMESPACE, &label(None));
    world.becomes("old", "Ready", "False", "NotGranted", SOON).await;
    assert_eq!([Part::Secret, Part::Redis].map(|part| world.serves("old", part)), [Some(1); 2]);
    let new = json!({
        "apiVersion": "parameter-mirror.dev/v1alpha1", "kind": "ParameterMirror", "metadata": {"name": "new"},
        "spec": {"interval": "1m", "sourceRef": {"name": "default"}, "parameters": [{"path": "/app"}], "secret": {}},
    });
    world.create("parametermirrors", Some("other"), new);
    world.destroy("old", Part::Secret, || world.delete("secrets", NAMESPACE, "old"));
    world.pass(Duration::from_mins(10)).await;
    let given = || world.api.objects(|objects| objects.get("secrets", "other", "new"));
    assert!(given().is_none(), "a mirror that is refused gave what it has");
    assert_eq!(world.values("old", Part::Secret), None, "a mirror that is refused was healed");
    assert_eq!(world.serves("old", Part::Redis), Some(1));

    world.patch("namespaces", None, NAMESPACE, &label(Some("app")));
    world.both_serve("old", 1, SOON).await;
    world.pass(SOON).await;
    assert!(given().is_some(), "granted again, it is a donor again");
}

/// A tenant keeps an old copy of a Secret, whose values have been revoked since, and restores it while no
/// operator runs. The tenant's own mirror has no other copy, so it serves that one; a mirror of someone else
/// is not bootstrapped from it.
#[tokio::test(start_paused = true)]
async fn an_old_copy_that_was_put_back_is_given_to_nobody() {
    let world = World::new();
    let secret_only = json!({"interval": "1m", "parameters": [{"path": "/app"}], "redis": null});
    world.mirror_with("old", secret_only);
    let serves = async |release: u64| {
        world
            .eventually(SOON, || match world.serves("old", Part::Secret) {
                Some(served) if served == release => Ok(()),
                other => Err(format!("old serves {other:?}, not {release}")),
            })
            .await;
    };
    let operator = world.operator();
    serves(1).await;
    let kept = world.api.objects(|objects| objects.get("secrets", NAMESPACE, "old")).unwrap();
    world.release(2);
    serves(2).await;
    world.becomes("old", "Degraded", "False", "Synced", SOON).await;
    operator.kill();
    world.faults.set(|call| (call.edge == Edge::Ssm).then_some(Fault::Silent));
    let put_back =
        json!({"data": kept["data"], "metadata": {"annotations": kept["metadata"]["annotations"]}});
    world.destroy("old", Part::Secret, || world.patch("secrets", Some(NAMESPACE), "old", &put_back));

    let _operator = world.operator();
    world.pass(SOON).await;
    world.mirror("new", "1m");
    world.becomes("new", "Ready", "False", "NoLastKnownGood", SOON).await;
    world.pass(Duration::from_mins(10)).await;
    assert_eq!([Part::Secret, Part::Redis].map(|part| world.values("new", part)), [None, None]);

    world.faults.clear();
    world.both_serve("new", 2, SOON).await;
    serves(2).await;
}
