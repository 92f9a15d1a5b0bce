//! Many mirrors at once: their objects, and the content of their targets.

use std::collections::BTreeMap;

use futures::{StreamExt as _, TryStreamExt as _, stream};
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, ApiResource, DynamicObject, ListParams, PostParams};
use kube::core::GroupVersionKind;
use serde_json::{Value, json};

const GROUP: &str = "parameter-mirror.dev";
const VERSION: &str = "v1alpha1";
/// The number of concurrent creations: enough to keep the API server busy, few enough for its fairness
/// queues.
const AT_ONCE: usize = 32;

/// The data of Secrets by name.
pub type SecretData = BTreeMap<String, BTreeMap<String, String>>;

/// Returns an API for the mirrors of a namespace, untyped, because the benchmark does not link the operator.
#[must_use]
pub fn mirrors(client: &kube::Client, namespace: &str) -> Api<DynamicObject> {
    Api::namespaced_with(client.clone(), namespace, &resource("ParameterMirror", "parametermirrors"))
}

/// Returns an API for the sources of the cluster.
#[must_use]
pub fn sources(client: &kube::Client) -> Api<DynamicObject> {
    Api::all_with(client.clone(), &resource("ParameterSource", "parametersources"))
}

fn resource(kind: &str, plural: &str) -> ApiResource {
    ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(GROUP, VERSION, kind), plural)
}

/// Builds a mirror with this spec.
#[must_use]
pub fn mirror(namespace: &str, name: &str, spec: &Value) -> Value {
    json!({
        "apiVersion": format!("{GROUP}/{VERSION}"), "kind": "ParameterMirror",
        "metadata": {"name": name, "namespace": namespace}, "spec": spec,
    })
}

/// Builds a source for us-east-1 that grants `paths` to `namespaces`.
#[must_use]
pub fn source(name: &str, namespaces: &[String], paths: &[&str]) -> Value {
    json!({
        "apiVersion": format!("{GROUP}/{VERSION}"), "kind": "ParameterSource", "metadata": {"name": name},
        "spec": {"region": "us-east-1", "grants": [{"namespaces": namespaces, "paths": paths}]},
    })
}

/// Creates an object.
///
/// # Errors
/// When the API server refuses.
///
/// # Panics
/// When it is not a Kubernetes object.
pub async fn create(api: &Api<DynamicObject>, object: &Value) -> kube::Result<()> {
    let object = serde_json::from_value(object.clone()).expect("an object of Kubernetes");
    api.create(&PostParams::default(), &object).await.map(drop)
}

/// Creates mirrors concurrently: `kubectl apply` takes a minute for a thousand.
///
/// # Panics
/// When one of them is refused.
pub async fn create_mirrors(client: &kube::Client, objects: &[Value]) {
    let created = stream::iter(objects).map(async |object| {
        let namespace = object["metadata"]["namespace"].as_str().expect("a namespace");
        create(&mirrors(client, namespace), object).await
    });
    created
        .buffer_unordered(AT_ONCE)
        .try_collect::<Vec<()>>()
        .await
        .expect("the API server takes every mirror");
}

/// Returns the data of every Secret in a namespace.
///
/// # Errors
/// When the API server does not answer.
pub async fn secrets(client: &kube::Client, namespace: &str) -> kube::Result<SecretData> {
    let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let list = secrets.list(&ListParams::default()).await?;
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    let data = |secret: Secret| {
        let data = secret.data.unwrap_or_default().into_iter().map(|(key, value)| (key, text(value.0)));
        (secret.metadata.name.unwrap_or_default(), data.collect())
    };
    Ok(list.items.into_iter().map(data).collect())
}
