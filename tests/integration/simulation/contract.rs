//! The API server in memory gives the answers of a real one, to everything that the operator asks of it. One answer is
//! not compared: a watch from a version that is gone gets 410, which a real server gives only after etcd was compacted.

use std::time::Duration;

use futures::StreamExt as _;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{
    Api, DeleteParams, ListParams, ObjectMeta, Patch, PatchParams, PostParams, Preconditions, WatchEvent,
    WatchParams,
};
use kube::{Client, ResourceExt};
use parameter_mirror::api::{ParameterMirror, ParameterMirrorSpec, SecretTargetSpec, SelectionSpec};
use serde_json::{Value as Json, json};

use super::api_server::ApiServer;
use super::line::{FaultInjector, Line};
use crate::world;

/// What was asked, and what came of it.
type Transcript = Vec<(&'static str, String)>;

#[tokio::test]
async fn the_model_behaves_as_kubernetes() {
    let cluster = world::cluster().await;
    let namespace = cluster.namespace("contract").await;
    let real = transcript(cluster.client().await, &namespace).await;
    let server = ApiServer::default();
    let client = server.client(&Line::new(0, FaultInjector::default()));
    let model = transcript(client, &namespace).await;
    for (model, real) in model.iter().zip(&real) {
        assert_eq!(model, real, "the model, and the real one");
    }
    assert_eq!(model.len(), real.len());
}

async fn transcript(client: Client, namespace: &str) -> Transcript {
    let mut transcript = Transcript::new();
    secrets(client.clone(), namespace, &mut transcript).await;
    mirrors(client, namespace, &mut transcript).await;
    transcript
}

fn answer<T>(result: kube::Result<T>, show: impl FnOnce(T) -> String) -> String {
    match result {
        Ok(value) => show(value),
        Err(kube::Error::Api(status)) => format!("{} {}", status.code, status.reason),
        Err(error) => error.to_string(),
    }
}

fn shown(secret: &Secret) -> String {
    let data = secret
        .data
        .iter()
        .flatten()
        .map(|(key, ByteString(bytes))| format!("{key}={}", String::from_utf8_lossy(bytes)));
    format!("{:?} {:?}", secret.labels(), data.collect::<Vec<_>>())
}

async fn secrets(client: Client, namespace: &str, transcript: &mut Transcript) {
    let secrets: Api<Secret> = Api::namespaced(client, namespace);
    let post = PostParams::default();
    let mut said = |asked, answer| transcript.push((asked, answer));
    let object = |value: &str| Secret {
        metadata: ObjectMeta {
            name: Some("one".to_owned()),
            labels: Some([("of".to_owned(), "us".to_owned())].into()),
            ..ObjectMeta::default()
        },
        data: Some([("KEY".to_owned(), ByteString(value.as_bytes().to_vec()))].into()),
        ..Secret::default()
    };
    let begin = secrets.list(&ListParams::default()).await.unwrap().metadata.resource_version.unwrap();

    said(
        "a Secret that is not there",
        answer(secrets.get_opt("one").await, |found| found.is_none().to_string()),
    );
    said(
        "replace what is not there",
        answer(secrets.replace("one", &post, &object("0")).await, |secret| shown(&secret)),
    );
    let first = secrets.create(&post, &object("1")).await.unwrap();
    said("create", shown(&first));
    said("create it again", answer(secrets.create(&post, &object("1")).await, |secret| shown(&secret)));
    let mut second = Secret { metadata: first.metadata.clone(), ..object("2") };
    second = secrets.replace("one", &post, &second).await.unwrap();
    said("replace the version that is there", shown(&second));
    said(
        "replace an older version",
        answer(secrets.replace("one", &post, &first).await, |secret| shown(&secret)),
    );
    let same = secrets.replace("one", &post, &second).await.unwrap();
    said(
        "a write that changes nothing has no new version",
        (same.resource_version() == second.resource_version()).to_string(),
    );
    let metadata = secrets.get_metadata("one").await.unwrap();
    said(
        "metadata alone",
        format!("{:?} {}", metadata.labels(), metadata.resource_version() == second.resource_version()),
    );
    for selector in ["of=us", "of=them"] {
        let list = secrets.list(&ListParams::default().labels(selector)).await.unwrap();
        said("list by label", format!("{:?}", list.iter().map(ResourceExt::name_any).collect::<Vec<_>>()));
    }
    let mut unlabelled = second.clone();
    unlabelled.labels_mut().clear();
    let unlabelled = secrets.replace("one", &post, &unlabelled).await.unwrap();
    let labelled = Secret {
        metadata: ObjectMeta { resource_version: unlabelled.resource_version(), ..second.metadata.clone() },
        ..object("3")
    };
    let labelled = secrets.replace("one", &post, &labelled).await.unwrap();
    let exactly = |version: Option<String>| {
        DeleteParams::default().preconditions(Preconditions { resource_version: version, uid: None })
    };
    said(
        "delete an older version",
        answer(secrets.delete("one", &exactly(first.resource_version())).await, |_| "deleted".to_owned()),
    );
    said(
        "delete this version",
        answer(secrets.delete("one", &exactly(labelled.resource_version())).await, |_| "deleted".to_owned()),
    );
    said("it is gone", answer(secrets.get_opt("one").await, |found| found.is_none().to_string()));
    said(
        "delete it again",
        answer(secrets.delete("one", &DeleteParams::default()).await, |_| "deleted".to_owned()),
    );

    // The end of both watches.
    let mut last = object("end");
    last.metadata.name = Some("two".to_owned());
    secrets.create(&post, &last).await.unwrap();
    for (asked, selector) in [("a watch", None), ("a watch by label", Some("of=us"))] {
        let params = WatchParams { label_selector: selector.map(str::to_owned), ..WatchParams::default() };
        let mut events = secrets.watch_metadata(&params, &begin).await.unwrap().boxed();
        let mut seen = Vec::new();
        while let Some(event) = tokio::time::timeout(Duration::from_secs(30), events.next()).await.unwrap() {
            let (kind, object) = match event.unwrap() {
                WatchEvent::Added(object) => ("added", object),
                WatchEvent::Modified(object) => ("modified", object),
                WatchEvent::Deleted(object) => ("deleted", object),
                other => panic!("{other:?}"),
            };
            let name = object.name_any();
            seen.push(format!("{kind} {name}"));
            if name == "two" {
                break;
            }
        }
        said(asked, seen.join(", "));
    }
}

fn brief(mirror: &ParameterMirror) -> String {
    let status = mirror.status.as_ref();
    format!(
        "generation {:?}, interval {}, parameters {:?}, revision {:?}, annotations {:?}, finalizers {:?}, deleting {}",
        mirror.metadata.generation,
        mirror.spec.interval,
        status.and_then(|status| status.parameter_count),
        status.and_then(|status| status.revision.clone()),
        mirror.annotations(),
        mirror.finalizers(),
        mirror.metadata.deletion_timestamp.is_some(),
    )
}

async fn mirrors(client: Client, namespace: &str, transcript: &mut Transcript) {
    let mirrors: Api<ParameterMirror> = Api::namespaced(client, namespace);
    let mut said = |asked, answer| transcript.push((asked, answer));
    let spec = ParameterMirrorSpec {
        interval: "5m".to_owned(),
        parameters: vec![SelectionSpec { path: Some("/app".to_owned()), ..SelectionSpec::default() }],
        secret: Some(SecretTargetSpec::default()),
        ..ParameterMirrorSpec::default()
    };
    let created = mirrors.create(&PostParams::default(), &ParameterMirror::new("one", spec)).await.unwrap();
    said("create", brief(&created));
    let patch = |patch: Json| Patch::Merge(patch);
    let params = PatchParams::default();
    let status = |status: Json| patch(json!({"status": status}));
    let said_of = |result: kube::Result<ParameterMirror>| answer(result, |mirror| brief(&mirror));
    let set = status(json!({"observedGeneration": 1, "parameters": 3, "revision": "r1"}));
    said("patch the status", said_of(mirrors.patch_status("one", &params, &set).await));
    let null = status(json!({"parameters": null}));
    said("null removes a member", said_of(mirrors.patch_status("one", &params, &null).await));
    let both = patch(json!({"metadata": {"annotations": {"a": "b"}}, "status": {"revision": "forged"}}));
    said("a patch of the object leaves the status", said_of(mirrors.patch("one", &params, &both).await));
    let both = patch(json!({"spec": {"interval": "1h"}, "status": {"revision": "r2"}}));
    said(
        "a patch of the status leaves the object",
        said_of(mirrors.patch_status("one", &params, &both).await),
    );
    said(
        "a patch of the spec",
        said_of(mirrors.patch("one", &params, &patch(json!({"spec": {"interval": "10m"}}))).await),
    );
    said("a patch of what is not there", said_of(mirrors.patch("none", &params, &null).await));
    let finalizers = |finalizers: &[&str], version: Option<String>| {
        patch(json!({"metadata": {"finalizers": finalizers, "resourceVersion": version}}))
    };
    let old = finalizers(&["parameter-mirror.dev/redis"], created.resource_version());
    said("finalizers against an older version", said_of(mirrors.patch("one", &params, &old).await));
    let version = mirrors.get_metadata("one").await.unwrap().resource_version();
    let now = finalizers(&["parameter-mirror.dev/redis"], version);
    said("finalizers against this version", said_of(mirrors.patch("one", &params, &now).await));
    mirrors.delete("one", &DeleteParams::default()).await.unwrap();
    said("deleted, and held by a finalizer", said_of(mirrors.get("one").await));
    let version = mirrors.get_metadata("one").await.unwrap().resource_version();
    mirrors.patch("one", &params, &finalizers(&[], version)).await.unwrap();
    said(
        "without finalizers it goes",
        answer(mirrors.get_opt("one").await, |found| found.is_none().to_string()),
    );
}
