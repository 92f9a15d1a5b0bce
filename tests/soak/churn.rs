//! Creates, changes and deletes parameters, mirrors and sources all the time.

use std::time::{Duration, Instant};

use kube::api::{DeleteParams, Patch, PatchParams};
use parameter_mirror_test_support::{Ssm, fleet};
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::model::{MAIN, Mirror, Model, OTHER};

/// The pause between two changes.
const PAUSE: Duration = Duration::from_millis(40);
/// The time limit until the name of a deleted mirror is free again: the operator must remove its finalizer.
const RELEASED: Duration = Duration::from_mins(2);

/// Makes changes until `until`, and leaves every mirror and source in place.
pub async fn churn(
    client: &kube::Client,
    ssm: &Ssm,
    model: &mut Model,
    mut random: fastrand::Rng,
    until: Instant,
) {
    let mut has_other = true;
    while Instant::now() < until {
        let chosen = random.usize(..model.len());
        match random.u32(..100) {
            0..60 => model.change(ssm, chosen, &mut random),
            60..66 => model.toggle_extra(ssm, chosen),
            66..72 => delete(client, &mut model.mirrors[chosen]).await,
            72..78 => create_absent(client, &mut model.mirrors).await,
            78..86 => {
                let interval = Model::any_interval(&mut random);
                patch(client, &model.mirrors[chosen], json!({"spec": {"interval": interval}})).await;
            }
            86..94 => {
                let asked = json!({"parameter-mirror.dev/sync-at": random.u32(..).to_string()});
                patch(client, &model.mirrors[chosen], json!({"metadata": {"annotations": asked}})).await;
            }
            94..96 => {
                let cap = json!({"spec": {"requestsPerSecond": random.u32(5..50)}});
                patch_source(client, OTHER, cap).await;
            }
            // This limit has no effect, but the change causes a reconcile of every mirror of the source.
            96..98 => {
                let cap = json!({"spec": {"requestsPerSecond": random.u32(900..1_000)}});
                patch_source(client, MAIN, cap).await;
            }
            _ => {
                has_other = !has_other;
                set_other(client, model, has_other).await;
            }
        }
        sleep(PAUSE).await;
    }
    set_other(client, model, true).await;
    patch_source(client, OTHER, json!({"spec": {"requestsPerSecond": null}})).await;
}

/// Changes parameters of one mirror in twenty; returns how many.
pub fn change_some(ssm: &Ssm, model: &mut Model, random: &mut fastrand::Rng) -> usize {
    let some = model.len() / 20;
    for _ in 0..some {
        let chosen = random.usize(..model.len());
        model.change(ssm, chosen, random);
    }
    some
}

/// Creates every deleted mirror again, and waits until the operator has released their names.
pub async fn restore(client: &kube::Client, model: &mut Model) {
    let end = Instant::now() + RELEASED;
    while model.mirrors.iter().any(|mirror| !mirror.exists) {
        create_absent(client, &mut model.mirrors).await;
        let absent = model.mirrors.iter().filter(|mirror| !mirror.exists).count();
        assert!(
            Instant::now() < end,
            "{absent} deleted mirrors still exist after {RELEASED:?}: the operator has not removed its finalizer"
        );
        sleep(PAUSE).await;
    }
}

async fn delete(client: &kube::Client, mirror: &mut Mirror) {
    if mirror.exists {
        let api = fleet::mirrors(client, &mirror.namespace);
        api.delete(&mirror.name, &DeleteParams::default()).await.expect("the API server deletes a mirror");
        mirror.exists = false;
    }
}

/// Creates the deleted mirrors, unless their deletion is still in progress.
async fn create_absent(client: &kube::Client, mirrors: &mut [Mirror]) {
    for mirror in mirrors.iter_mut().filter(|mirror| !mirror.exists) {
        match fleet::create(&fleet::mirrors(client, &mirror.namespace), &mirror.object()).await {
            Ok(()) => mirror.exists = true,
            Err(kube::Error::Api(status)) if status.code == 409 => {}
            Err(error) => panic!("a mirror cannot be created: {error}"),
        }
    }
}

async fn patch(client: &kube::Client, mirror: &Mirror, change: Value) {
    if mirror.exists {
        let api = fleet::mirrors(client, &mirror.namespace);
        let patched = api.patch(&mirror.name, &PatchParams::default(), &Patch::Merge(change)).await;
        patched.expect("the API server takes the change of a mirror");
    }
}

async fn patch_source(client: &kube::Client, name: &str, change: Value) {
    match fleet::sources(client).patch(name, &PatchParams::default(), &Patch::Merge(change)).await {
        Ok(_) => {}
        Err(kube::Error::Api(status)) if status.code == 404 => {}
        Err(error) => panic!("a source cannot be changed: {error}"),
    }
}

/// Creates or deletes the other source.
async fn set_other(client: &kube::Client, model: &Model, present: bool) {
    let api = fleet::sources(client);
    let result = if present {
        fleet::create(&api, &model.source(OTHER)).await
    } else {
        api.delete(OTHER, &DeleteParams::default()).await.map(drop)
    };
    match result {
        Ok(()) => {}
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {}
        Err(error) => panic!("a source cannot be created or deleted: {error}"),
    }
}
