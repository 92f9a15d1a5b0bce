//! Every kind of foreign Secret stays byte-identical, whatever the mirror does, and even with invalid
//! consent.

use serde_json::{Value, json};

use crate::world::{Setup, World, cluster};

const CONSENT: &str = "parameter-mirror.dev/adopt-by";

/// Returns the foreign Secrets: the kind, the object without name and namespace, and part of the condition's
/// message.
fn kinds() -> Vec<(&'static str, Value, &'static str)> {
    let with = |metadata: Value| json!({"metadata": metadata, "stringData": {"THEIRS": "precious"}});
    let owned_by = |api: &str, kind: &str, name: &str| json!([{"apiVersion": api, "kind": kind, "name": name, "uid": "6d7f1c1a-0000-4000-8000-000000000001", "controller": true}]);
    vec![
        ("nobodys", with(json!({})), "was not touched"),
        (
            "helm",
            with(
                json!({"labels": {"app.kubernetes.io/managed-by": "Helm"}, "annotations": {"meta.helm.sh/release-name": "shop"}}),
            ),
            "was not touched",
        ),
        // Its controller would restore it, so consent does not count.
        (
            "certificate",
            with(
                json!({"ownerReferences": owned_by("cert-manager.io/v1", "Certificate", "shop"), "annotations": {CONSENT: "certificate"}}),
            ),
            "was not touched",
        ),
        (
            "external-secret",
            with(json!({"ownerReferences": owned_by("external-secrets.io/v1", "ExternalSecret", "shop"),
                "labels": {"reconcile.external-secrets.io/managed": "true"}, "annotations": {CONSENT: "external-secret"}})),
            "was not touched",
        ),
        (
            "immutable",
            json!({"metadata": {}, "immutable": true, "stringData": {"THEIRS": "precious"}}),
            "was not touched",
        ),
        (
            "token",
            json!({"metadata": {"annotations": {"kubernetes.io/service-account.name": "default", CONSENT: "token"}},
                "type": "kubernetes.io/service-account-token", "stringData": {"token": "precious"}}),
            "cannot be changed to Opaque",
        ),
        (
            "other-type",
            json!({"metadata": {"annotations": {CONSENT: "other-type"}}, "type": "kubernetes.io/basic-auth", "stringData": {"password": "precious"}}),
            "cannot be changed to Opaque",
        ),
        // The label only selects the watch and proves nothing.
        (
            "our-label",
            with(json!({"labels": {"app.kubernetes.io/managed-by": "parameter-mirror"}})),
            "was not touched",
        ),
        ("consent-to-another", with(json!({"annotations": {CONSENT: "helm"}})), "was not touched"),
        ("going", with(json!({"finalizers": ["example.com/hold"]})), "was not touched"),
    ]
}

async fn object(world: &World, namespace: &str, secret: &str) -> Value {
    let text = world.cluster.kubectl(&["get", "secret", secret, "-n", namespace, "-o", "json"]).await;
    serde_json::from_str(&text).unwrap()
}

#[tokio::test]
async fn every_kind_of_foreign_secret_stays_byte_identical() {
    let home = cluster().await.namespace("operator").await;
    let setup = Setup { home: Some(home.clone()), neighbours: vec![home.clone()], ..Setup::default() };
    let world = World::with(setup).await;
    world.ssm.put("/app/a", "1");
    let grant = json!({"namespaces": [world.namespace, home], "paths": ["/app"]});
    world.source_with(json!({"region": "us-east-1", "grants": [grant]})).await;
    // A copy of the same mirror by another cluster's operator: only its owner differs.
    world.mirror("model", json!({"parameters": [{"path": "/app"}], "secret": {}})).await;
    world.ready("model", "Synced").await;
    let mut of_another_cluster = object(&world, &world.namespace, "model").await;
    let annotations = of_another_cluster["metadata"]["annotations"].as_object_mut().unwrap();
    annotations.insert(
        "parameter-mirror.dev/owner".to_owned(),
        json!(format!("other-cluster/{}/other-cluster", world.namespace)),
    );
    let metadata = json!({"annotations": annotations, "labels": of_another_cluster["metadata"]["labels"]});
    let data = json!({"metadata": metadata, "type": "Opaque", "data": of_another_cluster["data"]});
    let mut kinds = kinds();
    kinds.push(("other-cluster", data, "was not touched"));

    for (name, secret, _) in &kinds {
        let mut secret = secret.clone();
        secret["apiVersion"] = json!("v1");
        secret["kind"] = json!("Secret");
        secret["metadata"]["name"] = json!(name);
        secret["metadata"]["namespace"] = json!(world.namespace);
        // Not `apply`, because its annotation would change the objects.
        let manifest = secret.to_string();
        let api: kube::Api<kube::api::DynamicObject> = kube::Api::namespaced_with(
            world.client.clone(),
            &world.namespace,
            &kube::api::ApiResource::erase::<k8s_openapi::api::core::v1::Secret>(&()),
        );
        api.create(&kube::api::PostParams::default(), &serde_json::from_str(&manifest).unwrap())
            .await
            .unwrap();
    }
    world.delete_secret("going").await;
    let mut before = Vec::new();
    for (name, ..) in &kinds {
        before.push(object(&world, &world.namespace, name).await);
    }
    let keys = object(&world, &home, "parameter-mirror-keys").await;

    for (name, ..) in &kinds {
        world.mirror(name, json!({"parameters": [{"path": "/app"}], "secret": {}, "redis": {}})).await;
    }
    for (name, _, says) in &kinds {
        let ready = world.condition(name, "Ready", "False", "SecretConflict").await;
        assert!(ready.message.contains(says), "{name}: {}", ready.message);
        // A reader of the mirror may not have permission to read Secrets.
        for word in ["Helm", "Certificate", "ExternalSecret", "other-cluster/", "basic-auth"] {
            let may_be_named = word == "basic-auth" && *name == "other-type";
            assert!(may_be_named || !ready.message.contains(word), "{name}: {}", ready.message);
        }
        world.condition(name, "Stalled", "True", "SecretConflict").await;
        world.field_is(name, "/app/a", "1").await;
    }
    let on_keys = json!({
        "apiVersion": "parameter-mirror.dev/v1alpha1", "kind": "ParameterMirror",
        "metadata": {"name": "parameter-mirror-keys", "namespace": home},
        "spec": {"sourceRef": {"name": world.source}, "parameters": [{"path": "/app"}], "secret": {}},
    });
    world.cluster.kubectl_apply(&on_keys.to_string()).await;
    let stalled =
        ["wait", "--for=condition=Stalled", "pmirror/parameter-mirror-keys", "-n", &home, "--timeout=30s"];
    world.cluster.kubectl(&stalled).await;
    let said =
        world.cluster.kubectl(&["get", "pmirror", "parameter-mirror-keys", "-n", &home, "-o", "json"]).await;
    assert!(said.contains("holds the operator's own keys"), "{said}");

    // Neither a change in SSM nor an edit of a Secret makes the operator write.
    world.ssm.put("/app/a", "2");
    for (name, ..) in &kinds {
        world.sync(name).await;
    }
    for ((name, ..), before) in kinds.iter().zip(before) {
        assert_eq!(object(&world, &world.namespace, name).await, before, "{name}");
    }
    assert_eq!(object(&world, &home, "parameter-mirror-keys").await, keys);
    world.edit_secret("going", json!({"metadata": {"finalizers": null}})).await;
}
