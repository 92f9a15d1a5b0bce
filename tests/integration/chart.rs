//! The chart on a real API server: lint, install, use, uninstall, reinstall.

mod crds;
mod helm_test;
mod monitoring;
mod package;
mod sources;
mod umbrella;
mod values;

use parameter_mirror_test_support::cluster::{Cluster, Options};
use parameter_mirror_test_support::installation::IMAGE;
use parameter_mirror_test_support::{Operator, Redis, Scratch, Ssm};
use serde_json::{Value, json};

use crate::world::{LATER, eventually, operator_settings, root};

/// Arguments for `helm template`, which asks no cluster, so that it renders as if the CRDs were installed.
pub const WITH_CRDS: [&str; 2] = ["--api-versions", "parameter-mirror.dev/v1alpha1/ParameterSource"];

fn chart() -> String {
    root().join("charts/parameter-mirror").to_str().unwrap().to_owned()
}

/// Returns the objects of the chart rendered with these settings.
async fn rendered(cluster: &Cluster, settings: &[&str]) -> Vec<Value> {
    let chart = chart();
    let mut args =
        vec!["template", "release", &chart, "--namespace", "system", "--skip-tests", "--set", IMAGE];
    args.extend(settings.iter().flat_map(|setting| ["--set", setting]));
    let text = cluster.helm(&args).await;
    let documents = text.split("\n---").filter(|document| document.contains("kind:"));
    documents.map(|document| serde_yaml::from_str(document.trim_start_matches("---")).unwrap()).collect()
}

#[tokio::test]
async fn it_lints_and_renders_what_its_values_promise() {
    let cluster = Cluster::shared().await;
    let chart = chart();
    let lint = cluster.helm(&["lint", "--strict", &chart]).await;
    assert!(lint.contains("0 chart(s) failed"), "{lint}");

    let digest = format!("sha256:{}", "a".repeat(64));
    let settings = [
        "image.repository=registry.example/pm",
        &format!("image.digest={digest}"),
        "redis.urlSecret.name=redis",
        "redis.prefix=x:",
        "redis.passwordSecret.name=password",
        "redis.caSecret.name=ca",
        "redis.clientCertSecret.name=client",
        "clusterName=blue",
        "watchNamespaces={shop,search}",
        "ssmRequestsPerSecond=7",
        "memoryValues=9",
        "log.format=text",
        "keySecret.name=own-keys",
    ];
    let objects = rendered(cluster, &settings).await;
    let deployment = objects.iter().find(|object| object["kind"] == "Deployment").unwrap();
    let pod = &deployment["spec"]["template"]["spec"];
    let container = &pod["containers"][0];
    assert_eq!(container["image"], format!("registry.example/pm@{digest}"));
    let env = |name: &str| {
        let all = container["env"].as_array().unwrap();
        all.iter()
            .find(|one| one["name"] == name)
            .map(|one| one["value"].as_str().unwrap_or_default().to_owned())
    };
    for (name, value) in [
        ("PARAMETER_MIRROR_REDIS_PREFIX", "x:"),
        ("PARAMETER_MIRROR_CLUSTER_NAME", "blue"),
        ("PARAMETER_MIRROR_WATCH_NAMESPACES", "shop,search"),
        ("PARAMETER_MIRROR_SSM_REQUESTS_PER_SECOND", "7"),
        ("PARAMETER_MIRROR_MEMORY_VALUES", "9"),
        ("PARAMETER_MIRROR_LOG_FORMAT", "text"),
        ("PARAMETER_MIRROR_KEY_SECRET", "own-keys"),
    ] {
        assert_eq!(env(name).as_deref(), Some(value), "{name}");
    }
    // Each file named in the environment is in a mounted folder.
    let mounts: Vec<_> = container["volumeMounts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|mount| mount["mountPath"].as_str().unwrap())
        .collect();
    for file in ["URL", "PASSWORD", "CA", "CERT", "KEY"] {
        let path = env(&format!("PARAMETER_MIRROR_REDIS_{file}_FILE")).unwrap();
        assert!(
            mounts.iter().any(|mount| path.starts_with(&format!("{mount}/"))),
            "{path} is in none of {mounts:?}"
        );
    }
    assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
    assert_eq!(container["securityContext"]["readOnlyRootFilesystem"], true);
    // The program knows every variable.
    let help = std::process::Command::new(env!("CARGO_BIN_EXE_parameter-mirror"))
        .args(["run", "--help"])
        .output()
        .unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    for one in container["env"].as_array().unwrap() {
        let name = one["name"].as_str().unwrap();
        assert!(help.contains(&format!("[env: {name}=")), "the program does not know {name}");
    }
    // An operator that watches some namespaces needs no permission in the others.
    let secrets_everywhere = objects.iter().filter(|object| object["kind"] == "ClusterRole").any(|role| {
        let rules = role["rules"].as_array().unwrap();
        rules.iter().any(|rule| rule["resources"].as_array().unwrap().contains(&json!("secrets")))
    });
    assert!(!secrets_everywhere, "a ClusterRole gives Secrets although namespaces are named");
}

/// Uses its own cluster with controllers, so that uninstalled objects are garbage-collected as in real life.
#[tokio::test]
async fn it_installs_works_uninstalls_without_losing_anything_and_installs_again() {
    let cluster = Cluster::start(Options { controller_manager: true }).await;
    let (ssm, redis, scratch) = (Ssm::start(), Redis::start().await, Scratch::new("chart").unwrap());
    ssm.put("/app/a", "1");
    let chart = chart();
    let set = ["--namespace", "system", "--create-namespace", "--set", "redis.urlSecret.name=redis"];
    let install = async |release: &str, watch: &str| {
        let watch = format!("secretWatch={watch}");
        cluster
            .helm(&[&["install", release, &chart, "--set", IMAGE, "--set", &watch], &set[..]].concat())
            .await
    };
    let notes = install("pm", "true").await;
    assert!(notes.contains("kind: ParameterSource"), "{notes}");
    assert!(notes.contains("Secret system/redis (redis.urlSecret) does not exist"), "{notes}");
    cluster.kubectl(&["wait", "--for=condition=Established", "crd", "--all", "--timeout=30s"]).await;
    assert!(cluster.kubectl(&["get", "deployment", "-n", "system"]).await.contains("pm-parameter-mirror"));

    // No node runs the pod; a process with its ServiceAccount replaces it.
    let start = async |release: &str, watch: &str| {
        let account = format!("{release}-parameter-mirror");
        let mut settings = operator_settings(&cluster, "system", &account, scratch.path()).await;
        settings.ssm = ssm.endpoint();
        settings.redis = Some(redis.url());
        settings.arguments.push(format!("--secret-watch={watch}"));
        Operator::start(settings).await
    };
    let operator = start("pm", "true").await;
    let shop = cluster.namespace("shop").await;
    let source = json!({
        "apiVersion": "parameter-mirror.dev/v1alpha1", "kind": "ParameterSource", "metadata": {"name": "default"},
        "spec": {"region": "us-east-1", "grants": [{"namespaces": [shop], "paths": ["/app"]}]},
    });
    cluster.kubectl_apply(&source.to_string()).await;
    let mirror = |name: &str, policy: &str| {
        json!({
            "apiVersion": "parameter-mirror.dev/v1alpha1", "kind": "ParameterMirror",
            "metadata": {"name": name, "namespace": shop},
            "spec": {"parameters": [{"path": "/app"}], "secret": {"deletionPolicy": policy}, "redis": {"deletionPolicy": policy}},
        })
        .to_string()
    };
    let ready = async |name: &str| {
        cluster
            .kubectl(&["wait", "--for=condition=Ready", "pmirror", name, "-n", &shop, "--timeout=30s"])
            .await;
    };
    cluster.kubectl_apply(&mirror("kept", "Retain")).await;
    cluster.kubectl_apply(&mirror("going", "Delete")).await;
    ready("kept").await;
    ready("going").await;
    let secret = async || cluster.kubectl(&["get", "secret", "kept", "-n", &shop, "-o", "yaml"]).await;
    let (before, key) = (secret().await, format!("pm:{{{shop}/kept}}"));
    let value = async || redis.cli(&["hget", &key, "/app/a"]).await;
    assert_eq!(value().await, "1");

    assert!(operator.terminate().await.success());
    cluster.helm(&["uninstall", "pm", "--namespace", "system", "--wait"]).await;
    assert!(!cluster.kubectl(&["get", "deployment", "-n", "system"]).await.contains("pm-parameter-mirror"));
    assert!(cluster.kubectl(&["get", "pmirror", "-n", &shop]).await.contains("kept"), "the mirrors are gone");
    assert_eq!(secret().await, before);
    assert_eq!(value().await, "1");

    // Installed again, and under another name with fewer permissions: both adopt what exists.
    let key = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "redis", "namespace": "system"},
        "stringData": {"uri": redis.url()}});
    cluster.kubectl_apply(&key.to_string()).await;
    let mut operator = operator;
    for (release, watch, notice) in [
        ("pm", "true", "Secret system/redis (redis.urlSecret) has no key url"),
        ("other", "false", "CRD parametermirrors.parameter-mirror.dev existed before (release pm)"),
    ] {
        let notes = install(release, watch).await;
        assert!(notes.contains(notice), "{notes}");
        operator = start(release, watch).await;
        let asked = format!("parameter-mirror.dev/sync-at={release}");
        cluster.kubectl(&["annotate", "pmirror", "kept", "-n", &shop, "--overwrite", &asked]).await;
        let handled = format!("--for=jsonpath={{.status.lastHandledSyncAt}}={release}");
        cluster.kubectl(&["wait", &handled, "pmirror", "kept", "-n", &shop, "--timeout=30s"]).await;
        assert_eq!(secret().await, before, "installing {release} again wrote the Secret");
        if release == "pm" {
            assert!(operator.terminate().await.success());
            cluster.helm(&["uninstall", "pm", "--namespace", "system", "--wait"]).await;
        }
    }

    // Each policy does what it says, also when all mirrors are deleted at once.
    cluster.kubectl(&["delete", "pmirror", "--all", "-n", &shop, "--timeout=30s"]).await;
    // The garbage collector discovers new kinds every 30 s.
    eventually("the Secret under Delete is garbage-collected", LATER, async || {
        let secrets = cluster.kubectl(&["get", "secrets", "-n", &shop]).await;
        if secrets.contains("going") { Err(secrets) } else { Ok(()) }
    })
    .await;
    assert_eq!(secret().await, before);
    assert_eq!((redis.cli(&["keys", "*going*"]).await, value().await), (String::new(), "1".to_owned()));
    assert!(operator.terminate().await.success());
}

/// Checks the default roles of clusters, which the controllers aggregate.
#[tokio::test]
async fn editors_of_a_namespace_edit_its_mirrors_and_nobody_edits_sources() {
    let cluster = Cluster::start(Options { controller_manager: true }).await;
    cluster.helm(&["install", "pm", &chart(), "--namespace", "default", "--set", IMAGE]).await;
    for (role, user) in [("view", "viewer"), ("edit", "editor"), ("admin", "owner")] {
        let (role, user) = (format!("--clusterrole={role}"), format!("--user={user}"));
        cluster.kubectl(&["create", "rolebinding", &user[7..], &role, &user, "-n", "default"]).await;
    }
    let everywhere = ["create", "clusterrolebinding", "auditor", "--clusterrole=admin", "--user=auditor"];
    cluster.kubectl(&everywhere).await;
    let can = async |user: &str, verb: &str, what: &str| {
        let user = format!("--as={user}");
        let ask = ["auth", "can-i", verb, &format!("{what}.parameter-mirror.dev"), "-n", "default", &user];
        cluster.try_kubectl(&ask).await.stdout.trim() == "yes"
    };
    eventually("the roles are put together", LATER, async || {
        for (user, verb) in
            [("viewer", "list"), ("editor", "create"), ("owner", "create"), ("auditor", "create")]
        {
            if !can(user, verb, "parametermirrors").await {
                return Err(user);
            }
        }
        Ok(())
    })
    .await;
    for user in ["viewer", "editor", "owner", "auditor"] {
        assert!(can(user, "list", "parametermirrors").await, "{user} does not see mirrors");
        for verb in ["create", "update", "patch", "delete"] {
            let may = can(user, verb, "parametermirrors").await;
            assert_eq!(may, user != "viewer", "{user} {verb} mirrors");
            assert!(!can(user, verb, "parametersources").await, "{user} may {verb} sources");
        }
    }
    // Sources are cluster-scoped, so only users who may see everything see them.
    let sees = async |user: &str| {
        let user = format!("--as={user}");
        cluster.try_kubectl(&["get", "parametersources", &user]).await.status.success()
    };
    assert_eq!((sees("auditor").await, sees("editor").await), (true, false));
}

/// CRDs that were first applied with kubectl belong to the user who applied them; the chart installs beside
/// them.
#[tokio::test]
async fn it_leaves_definitions_alone_that_somebody_else_applied() {
    let cluster = crate::world::cluster().await;
    let namespace = cluster.namespace("beside").await;
    let chart = chart();
    cluster.helm(&["install", &namespace, &chart, "--namespace", &namespace, "--set", IMAGE]).await;
    let owner = "jsonpath={.metadata.annotations.meta\\.helm\\.sh/release-name}";
    let crd = "parametermirrors.parameter-mirror.dev";
    assert_eq!(cluster.kubectl(&["get", "crd", crd, "-o", owner]).await, "");
    cluster.helm(&["uninstall", &namespace, "--namespace", &namespace]).await;
    cluster.kubectl(&["get", "crd", crd]).await;
}
