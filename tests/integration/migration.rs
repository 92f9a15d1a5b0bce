//! Runs docs/guides/migrate-from-eso.md: a Secret made by External Secrets Operator changes hands, and no byte of its data
//! changes.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::Api;
use parameter_mirror_test_support::cluster::{Cluster, Options};
use parameter_mirror_test_support::installation::IMAGE;
use parameter_mirror_test_support::{Operator, Scratch};
use serde_json::json;

use crate::docs::page::{Check, Item, items, text};
use crate::docs::stage::Stage;
use crate::world::{operator_settings, root};

/// A stand-in for the CRD of one of ESO's resources that accepts any spec.
fn definition(kind: &str, scope: &str) -> serde_json::Value {
    let singular = kind.to_lowercase();
    let schema = json!({"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}});
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{singular}s.external-secrets.io")},
        "spec": {
            "group": "external-secrets.io", "scope": scope,
            "names": {"kind": kind, "plural": format!("{singular}s"), "singular": singular},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": schema}],
        },
    })
}

async fn data(client: &kube::Client) -> BTreeMap<String, ByteString> {
    let secrets: Api<Secret> = Api::namespaced(client.clone(), "shop");
    secrets.get("checkout-config").await.unwrap().data.unwrap()
}

#[tokio::test]
async fn a_secret_of_external_secrets_operator_changes_hands_without_a_byte_changing() {
    let scratch = Scratch::new("migration").unwrap();
    let cluster = Cluster::start(Options { controller_manager: true }).await;
    let mut stage = Stage::start(cluster).await;
    let (cluster, ssm) = (&stage.cluster, &stage.ssm);
    ssm.put("/prod/checkout/db/url", "postgres://db.internal/shop\n");
    ssm.put_secure("/prod/shared/stripe", "sk_live_hunter2");
    cluster.kubectl(&["apply", "-f", root().join("crds").to_str().unwrap()]).await;
    for (kind, scope) in
        [("SecretStore", "Namespaced"), ("ClusterSecretStore", "Cluster"), ("ExternalSecret", "Namespaced")]
    {
        cluster.kubectl_apply(&definition(kind, scope).to_string()).await;
    }
    cluster.kubectl(&["wait", "--for=condition=Established", "crd", "--all", "--timeout=30s"]).await;
    for namespace in ["shop", "parameter-mirror"] {
        cluster.kubectl(&["create", "namespace", namespace]).await;
    }

    // The objects that ESO creates.
    let store = json!({
        "apiVersion": "external-secrets.io/v1", "kind": "ClusterSecretStore", "metadata": {"name": "aws"},
        "spec": {"provider": {"aws": {"service": "ParameterStore", "region": "us-east-1"}}},
    });
    let remote = |secret_key: &str, key: &str| json!({"secretKey": secret_key, "remoteRef": {"key": key}});
    let external = json!({
        "apiVersion": "external-secrets.io/v1", "kind": "ExternalSecret",
        "metadata": {"name": "checkout", "namespace": "shop"},
        "spec": {
            "refreshInterval": "1m", "secretStoreRef": {"name": "aws", "kind": "ClusterSecretStore"},
            "target": {"name": "checkout-config"},
            "data": [remote("database-url", "/prod/checkout/db/url"), remote("stripe.key", "/prod/shared/stripe")],
        },
    });
    cluster.kubectl_apply(&store.to_string()).await;
    cluster.kubectl_apply(&external.to_string()).await;
    let uid = ["get", "externalsecret", "checkout", "-n", "shop", "-o", "jsonpath={.metadata.uid}"];
    let uid = cluster.kubectl(&uid).await;
    let made = json!({
        "apiVersion": "v1", "kind": "Secret", "type": "Opaque",
        "metadata": {
            "name": "checkout-config", "namespace": "shop",
            "labels": {"reconcile.external-secrets.io/managed": "true"},
            "annotations": {"reconcile.external-secrets.io/data-hash": "0"},
            "ownerReferences": [{
                "apiVersion": "external-secrets.io/v1", "kind": "ExternalSecret", "name": "checkout", "uid": uid.trim(),
                "controller": true, "blockOwnerDeletion": true,
            }],
        },
        "stringData": {"database-url": "postgres://db.internal/shop\n", "stripe.key": "sk_live_hunter2"},
    });
    cluster.kubectl_apply(&made.to_string()).await;
    let client = cluster.client().await;
    let before = data(&client).await;

    let chart = root().join("charts/parameter-mirror");
    let mut template =
        vec!["template", "parameter-mirror", chart.to_str().unwrap(), "--namespace", "parameter-mirror"];
    template.extend(["--set", IMAGE]);
    template.extend(["--show-only", "templates/rbac.yaml", "--show-only", "templates/serviceaccount.yaml"]);
    cluster.kubectl_apply(&cluster.helm(&template).await).await;
    let mut settings =
        operator_settings(cluster, "parameter-mirror", "parameter-mirror", scratch.path()).await;
    settings.ssm = ssm.endpoint();
    stage.operator = Some(Operator::start(settings).await);

    let mut steps = 0;
    for item in items(&text("docs/guides/migrate-from-eso.md")) {
        let Item::Block(block) = item else { continue };
        if block.check() == Some(Check::Run) {
            stage.check(&block, &format!("docs/guides/migrate-from-eso.md:{}", block.line)).await;
            assert_eq!(data(&client).await, before, "{}\n{}", block.text, stage.log());
            steps += 1;
        }
    }
    assert_eq!(steps, 4);
    let printed = &stage.printed;
    assert!(printed.contains("ok    shop/checkout: Secret checkout-config holds 2 parameters"), "{printed}");
    let secrets: Api<Secret> = Api::namespaced(client.clone(), "shop");
    let secret = secrets.get("checkout-config").await.unwrap();
    assert_eq!(secret.metadata.owner_references, None);
    let annotations = secret.metadata.annotations.unwrap();
    assert!(annotations["parameter-mirror.dev/owner"].ends_with("/shop/checkout"), "{annotations:?}");
    // From now on the mirror owns the Secret.
    stage.ssm.put("/prod/checkout/db/url", "postgres://new.internal/shop");
    let ask = ["annotate", "pmirror", "checkout", "-n", "shop", "parameter-mirror.dev/sync-at=1"];
    stage.cluster.kubectl(&ask).await;
    crate::world::eventually("the new value is there", crate::world::LATER, async || {
        let found = data(&client).await["database-url"].clone();
        if found.0 == b"postgres://new.internal/shop" { Ok(()) } else { Err(stage.log()) }
    })
    .await;
}
