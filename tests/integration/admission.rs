//! `kubectl apply` refuses invalid specs, with a message that names the field and the remedy.

use parameter_mirror::commands::admission::Admission;
use serde_json::{Value, json};

use crate::world::{SOON, cluster, eventually, root};

fn mirror(namespace: &str, spec: &Value) -> String {
    json!({
        "apiVersion": "parameter-mirror.dev/v1alpha1", "kind": "ParameterMirror",
        "metadata": {"name": "bad", "namespace": namespace}, "spec": spec,
    })
    .to_string()
}

fn source(spec: &Value) -> String {
    json!({
        "apiVersion": "parameter-mirror.dev/v1alpha1", "kind": "ParameterSource",
        "metadata": {"name": "admission"}, "spec": spec,
    })
    .to_string()
}

/// Asserts that the verdict of `convert` is that of the API server. A refusal has the same words.
fn assert_same_verdict(judge: &Admission, object: &str, refusal: Option<&str>) {
    let faults = judge.faults(&serde_json::from_str(object).unwrap());
    match refusal {
        Some(words) => assert!(
            faults.iter().any(|fault| fault.contains(words)),
            "{object}: {words:?} is not in {faults:?}"
        ),
        None => assert_eq!(faults, Vec::<String>::new(), "{object}"),
    }
}

/// A hundred names of this length.
fn long_names(characters: usize) -> Value {
    (0..100).map(|number| json!({"name": format!("/{number:0width$}", width = characters - 1)})).collect()
}

/// This many selections, each with the maximum number of excludes.
fn many_excludes(selections: usize) -> Value {
    let excludes: Vec<_> = (0..50).map(|number| format!("x{number}")).collect();
    (0..selections).map(|number| json!({"path": format!("/app{number}"), "exclude": excludes})).collect()
}

/// This many annotations, each with a value of the maximum length.
fn annotations(count: usize) -> Value {
    let all = (0..count).map(|number| (format!("example.com/{number}"), json!("x".repeat(4_080))));
    Value::Object(all.collect())
}

/// A spec just within the limits is accepted.
#[tokio::test]
async fn the_largest_spec_is_accepted() {
    let cluster = cluster().await;
    let namespace = cluster.namespace("admission").await;
    let cases = [
        json!({"parameters": long_names(163), "redis": {}}),
        json!({"parameters": many_excludes(4), "secret": {"annotations": annotations(4)}}),
        json!({"parameters": [{"path": "/app/"}, {"path": "/"}, {"name": "flat:live"}, {"name": "/x".repeat(15)}], "redis": {}}),
    ];
    let judge = Admission::new().unwrap();
    for spec in cases {
        cluster.kubectl_apply(&mirror(&namespace, &spec)).await;
        assert_same_verdict(&judge, &mirror(&namespace, &spec), None);
    }
    let grant = |number: usize| {
        let paths: Vec<_> = (0..20).map(|path| format!("/{{namespace}}/{number:03}/{path:02}")).collect();
        json!({"namespaces": [format!("n{number}")], "paths": paths})
    };
    let grants: Vec<_> = (0..256).map(grant).collect();
    cluster.kubectl_apply(&source(&json!({"region": "us-east-1", "grants": grants}))).await;
}

/// `kubectl apply` and Argo CD compare what is applied with what was applied and with the live object: a default
/// inside a list would differ for ever.
#[tokio::test]
async fn what_is_applied_twice_is_unchanged() {
    let cluster = cluster().await;
    let namespace = cluster.namespace("admission").await;
    let selector = json!({"matchExpressions": [{"key": "team", "operator": "Exists"}]});
    let grants = json!([
        {"namespaces": ["shop"], "paths": ["/app/"]},
        {"namespaceSelector": selector, "paths": ["/shared", "/{namespace}"]},
    ]);
    let minimal = json!([{"path": "/app"}, {"name": "/shared/x"}]);
    let whole = json!([
        {"path": "/app", "recursive": false, "exclude": ["legacy"]}, {"name": "/shared/x:3", "key": "X", "optional": true},
    ]);
    let secret = json!({"name": "twice", "labels": {"team": "shop"}, "annotations": {"note": "x"}});
    let named = |manifest: String, name: &str| {
        manifest.replace("\"bad\"", &format!("\"{name}\"")).replace("\"admission\"", &format!("\"{name}\""))
    };
    let samples = [
        named(source(&json!({"region": "us-east-1"})), "twice-least"),
        named(source(&json!({"region": "us-east-1", "grants": grants})), "twice-whole"),
        named(mirror(&namespace, &json!({"parameters": minimal, "secret": {}, "redis": {}})), "twice-least"),
        named(
            mirror(&namespace, &json!({"parameters": whole, "secret": secret, "maxStaleness": "24h"})),
            "twice-whole",
        ),
    ];
    for sample in samples {
        let first = cluster.kubectl_apply(&sample).await;
        assert!(first.contains("created"), "{first}");
        let again = cluster.kubectl_apply(&sample).await;
        assert!(again.contains("unchanged"), "{again} {sample}");
    }
}

#[tokio::test]
async fn a_bad_mirror_is_refused_with_field_and_remedy() {
    let cluster = cluster().await;
    let namespace = cluster.namespace("admission").await;
    let path = json!([{"path": "/app"}]);
    let cases = [
        (json!({"parameters": path}), "add `secret: {}` or `redis: {}`"),
        (json!({"parameters": [], "secret": {}}), "spec.parameters"),
        (json!({"parameters": path, "secret": {}, "interval": "soon"}), "write it like 30s, 5m or 1h30m"),
        (json!({"parameters": path, "secret": {}, "interval": "5s"}), "between 10s and 24h"),
        (json!({"parameters": path, "secret": {}, "interval": "25h"}), "between 10s and 24h"),
        (json!({"parameters": path, "secret": {}, "interval": "99999999999999h"}), "write it like 30s"),
        (
            json!({"parameters": path, "secret": {}, "maxStaleness": "a day"}),
            "write it like 30m, 24h or 1h30m",
        ),
        (
            json!({"parameters": path, "secret": {}, "maxStaleness": "4m"}),
            "maxStaleness must be at least interval",
        ),
        (json!({"parameters": [{"path": "/app", "name": "/a"}], "secret": {}}), "split it into two entries"),
        (json!({"parameters": [{}], "secret": {}}), "either `path` or `name`"),
        (json!({"parameters": [{"path": "/app", "key": "A"}], "secret": {}}), "`key` goes with `name` only"),
        (json!({"parameters": [{"name": "/a", "recursive": true}], "secret": {}}), "go with `path` only"),
        (json!({"parameters": [{"path": "app"}], "secret": {}}), "a path starts with /"),
        (json!({"parameters": [{"path": "/app//x"}], "secret": {}}), "a path starts with /"),
        (json!({"parameters": [{"path": "/x".repeat(16)}], "secret": {}}), "at most 15 levels"),
        (
            json!({"parameters": [{"path": "/aws/reference/secretsmanager/app"}], "secret": {}}),
            "references to Secrets Manager are not supported",
        ),
        (
            json!({"parameters": [{"path": "/app", "exclude": ["../x"]}], "secret": {}}),
            "an exclude is a relative path",
        ),
        (json!({"parameters": [{"name": "app/a"}], "secret": {}}), "begins with / if it has one"),
        (json!({"parameters": [{"name": "/x".repeat(16)}], "secret": {}}), "at most 15 levels"),
        (
            json!({"parameters": [{"name": "/aws/reference/secretsmanager/app/db"}, {"name": "/n/a"}], "secret": {}}),
            "references to Secrets Manager are not supported",
        ),
        (json!({"parameters": [{"name": "/a:3rd"}], "secret": {}}), "a version (a number) or a label"),
        (json!({"parameters": [{"name": "/a:"}], "secret": {}}), "a version (a number) or a label"),
        (json!({"parameters": [{"name": "/a:b c"}], "secret": {}}), "a version (a number) or a label"),
        (json!({"parameters": [{"path": "/app/../x"}], "secret": {}}), "no . or .. segments"),
        (
            json!({"parameters": [{"path": "arn:aws:ssm:x"}], "secret": {}}),
            "set roleArn on the ParameterSource",
        ),
        (
            json!({"parameters": [{"name": "arn:aws:ssm:x"}], "secret": {}}),
            "set roleArn on the ParameterSource",
        ),
        (json!({"parameters": [{"name": "/a:b:c"}], "secret": {}}), "a version (a number) or a label"),
        (
            json!({"parameters": [{"name": "/a", "key": "no spaces"}], "secret": {}}),
            "a Secret key has only letters",
        ),
        (json!({"parameters": path, "secret": {"name": "Upper"}}), "lower-case DNS name"),
        (json!({"parameters": path, "secret": {"type": "Custom"}}), "spec.secret.type"),
        (
            json!({"parameters": path, "secret": {"labels": {"app.kubernetes.io/managed-by": "x"}}}),
            "set by the operator",
        ),
        (
            json!({"parameters": path, "secret": {"annotations": {"parameter-mirror.dev/mac": "x"}}}),
            "are reserved",
        ),
        (json!({"parameters": path, "secret": {}, "guard": {"maxRemovedPercent": 101}}), "maxRemovedPercent"),
        (json!({"parameters": path, "redis": {"encryption": "Some"}}), "spec.redis.encryption"),
        (json!({"parameters": long_names(165), "secret": {}}), "more than 16,384 characters in all"),
        (
            json!({"parameters": [{"path": "/app", "exclude": vec!["x".repeat(1_000); 17]}], "redis": {}}),
            "more than 16,384 characters in all",
        ),
        (json!({"parameters": many_excludes(5), "secret": {}}), "more than 200 excludes in all"),
        (
            json!({"parameters": path, "secret": {"annotations": annotations(5)}}),
            "more than 16,384 characters in all",
        ),
        (
            json!({"parameters": path, "secret": {"labels": {"x".repeat(318): "x"}}}),
            "longer than Kubernetes allows",
        ),
    ];
    let judge = Admission::new().unwrap();
    for (spec, expected) in cases {
        let output = cluster.try_kubectl_apply(&mirror(&namespace, &spec)).await;
        assert!(!output.status.success(), "accepted: {spec}");
        assert!(output.stderr.contains(expected), "{spec}: expected {expected:?} in\n{}", output.stderr);
        assert_same_verdict(&judge, &mirror(&namespace, &spec), Some(expected));
    }
}

#[tokio::test]
async fn the_type_of_a_secret_cannot_be_changed() {
    let cluster = cluster().await;
    let namespace = cluster.namespace("admission").await;
    let spec = json!({"parameters": [{"path": "/app"}], "secret": {}});
    cluster.kubectl_apply(&mirror(&namespace, &spec)).await;
    let spec = json!({"parameters": [{"path": "/app"}], "secret": {"type": "kubernetes.io/tls"}});
    let output = cluster.try_kubectl_apply(&mirror(&namespace, &spec)).await;
    assert!(output.stderr.contains("type is immutable"), "{}", output.stderr);
}

#[tokio::test]
async fn a_bad_source_is_refused_with_field_and_remedy() {
    let cluster = cluster().await;
    let grant = json!([{"namespaces": ["shop"], "paths": ["/app"]}]);
    let cases = [
        (json!({"region": "Virginia", "grants": grant}), "write it like us-east-1"),
        (json!({"region": "us-east-1", "roleArn": "checkout-read"}), "not the ARN of an IAM role"),
        (json!({"region": "us-east-1", "requestsPerSecond": 0}), "requestsPerSecond"),
        (
            json!({"region": "us-east-1", "grants": [{"namespaces": ["shop"], "paths": ["app"]}]}),
            "a path starts with /",
        ),
        (json!({"region": "us-east-1", "grants": [{"namespaces": ["shop"], "paths": []}]}), "paths"),
        (json!({"region": "us-east-1", "grants": [{"paths": ["/app"]}]}), "a grant names namespaces"),
        (
            json!({"region": "us-east-1", "grants": [{"namespaceSelector": {}, "paths": ["/app"]}]}),
            "for all namespaces write namespaceSelector",
        ),
        (
            json!({"region": "us-east-1", "grants": [{"namespaceSelector": {"matchExpressions": []}, "paths": ["/app"]}]}),
            "for all namespaces write namespaceSelector",
        ),
        (
            json!({"region": "us-east-1", "grants": [{"namespaces": ["shop"], "paths": ["/{namespace}s"]}]}),
            "or the segment {namespace}",
        ),
    ];
    let judge = Admission::new().unwrap();
    for (spec, expected) in cases {
        let output = cluster.try_kubectl_apply(&source(&spec)).await;
        assert!(!output.status.success(), "accepted: {spec}");
        assert!(output.stderr.contains(expected), "{spec}: expected {expected:?} in\n{}", output.stderr);
        assert_same_verdict(&judge, &source(&spec), Some(expected));
    }
}

/// AWS adds partitions: none of them is named in the definition.
#[tokio::test]
async fn regions_and_roles_of_every_partition_are_accepted() {
    let cluster = cluster().await;
    let cases = [
        ("ap-southeast-7", "aws"),
        ("cn-northwest-1", "aws-cn"),
        ("us-gov-west-1", "aws-us-gov"),
        ("eusc-de-east-1", "aws-eusc"),
        ("us-iso-east-1", "aws-iso"),
        ("us-isob-east-1", "aws-iso-b"),
        ("eu-isoe-west-1", "aws-iso-e"),
    ];
    for (region, partition) in cases {
        let role = format!("arn:{partition}:iam::111122223333:role/team/checkout-read");
        cluster.kubectl_apply(&source(&json!({"region": region, "roleArn": role}))).await;
    }
}

#[tokio::test]
async fn kubectl_explains_every_field() {
    let cluster = cluster().await;
    // kubectl can explain CRDs only a moment after they are served.
    eventually("kubectl can explain the definitions", SOON, async || {
        let both = [["explain", "parametermirror"], ["explain", "parametersource"]];
        for command in both {
            let output = cluster.try_kubectl(&command).await;
            if !output.status.success() {
                return Err(output.stderr);
            }
        }
        Ok(())
    })
    .await;
    for resource in ["parametermirror", "parametersource"] {
        let text = cluster.kubectl(&["explain", resource, "--recursive"]).await;
        assert!(text.contains("spec") && text.contains("status"), "{text}");
        let text = cluster.kubectl(&["explain", &format!("{resource}.spec")]).await;
        assert!(!text.contains("<no description>"), "{text}");
    }
    let text = cluster.kubectl(&["explain", "pmirror"]).await;
    for promise in ["When SSM cannot be read, the targets keep the last known good values", "with one target"]
    {
        let flat = text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(flat.contains(promise), "{flat}");
    }
    let text = cluster.kubectl(&["explain", "pmirror.spec.interval"]).await;
    assert!(text.contains("10s"), "{text}");
}

/// The CRD files in the repository and in the chart are equal to those that the program prints.
#[tokio::test]
async fn the_committed_definitions_are_those_of_the_program() {
    let printed =
        std::process::Command::new(env!("CARGO_BIN_EXE_parameter-mirror")).arg("crd").output().unwrap();
    let printed = String::from_utf8(printed.stdout).unwrap();
    for name in ["parametermirrors.yaml", "parametersources.yaml"] {
        let file = std::fs::read_to_string(root().join("crds").join(name)).unwrap();
        let body = file.lines().filter(|line| !line.starts_with('#')).collect::<Vec<_>>().join("\n");
        assert!(printed.contains(body.trim()), "crds/{name} is stale: run `make generate`");
        let of_chart =
            std::fs::read_to_string(root().join("charts/parameter-mirror/files/crds").join(name)).unwrap();
        assert_eq!(of_chart, file, "the chart's {name} is stale: run `make generate`");
    }
}
