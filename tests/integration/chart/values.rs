//! Values of the chart, and what they change in its objects.

use std::fs;

use parameter_mirror_test_support::Scratch;
use parameter_mirror_test_support::installation::IMAGE;

use super::{chart, rendered};
use crate::world::cluster;

#[tokio::test]
async fn an_image_has_to_be_named_and_may_be_in_another_registry() {
    let cluster = cluster().await;
    let output = cluster.try_helm(&["install", "pm", &chart(), "--namespace", "default"]).await;
    let says = "image.repository: there is no public image yet";
    assert!(!output.status.success() && output.stderr.contains(says), "{}", output.stderr);

    let digest = format!("sha256:{}", "b".repeat(64));
    let by_digest = format!("image.digest={digest}");
    let default = env!("CARGO_PKG_VERSION");
    for (settings, image) in [
        (&["image.repository=pm"][..], format!("pm:{default}")),
        (
            &["image.repository=team/pm", "image.registry=one.example"],
            format!("one.example/team/pm:{default}"),
        ),
        (
            &["image.repository=team/pm", "image.registry=one.example", "global.imageRegistry=two.example"],
            format!("two.example/team/pm:{default}"),
        ),
        (&["image.repository=pm", "image.tag=v1", &by_digest], format!("pm@{digest}")),
    ] {
        let objects = rendered(cluster, settings).await;
        let deployment = objects.iter().find(|object| object["kind"] == "Deployment").unwrap();
        assert_eq!(deployment["spec"]["template"]["spec"]["containers"][0]["image"], image, "{settings:?}");
    }
}

/// People copy them.
#[tokio::test]
async fn the_objects_in_the_notes_are_valid() {
    let cluster = cluster().await;
    let namespace = cluster.namespace("notes").await;
    let watched = format!("watchNamespaces={{{namespace}}}");
    let chart = chart();
    let install = ["install", &namespace, &chart, "--namespace", &namespace, "--dry-run=server"];
    let settings = ["--set", IMAGE, "--set", &watched, "--set", "redis.urlSecret.name=redis"];
    let printed = cluster.helm(&[&install[..], &settings].concat()).await;
    let (_, notes) = printed.split_once("\nNOTES:\n").unwrap();
    let objects = notes.split("\n\n").filter(|paragraph| paragraph.starts_with("   apiVersion: "));
    let objects: Vec<_> = objects.collect();
    assert_eq!(objects.len(), 2, "{notes}");
    let scratch = Scratch::new("notes").unwrap();
    let file = scratch.path().join("objects.yaml");
    fs::write(&file, objects.join("\n---\n")).unwrap();
    cluster.kubectl(&["apply", "--dry-run=server", "--validate=strict", "-f", file.to_str().unwrap()]).await;
    assert!(notes.contains("It does not read anything yet"), "{notes}");

    // With sources of the release the first step is done.
    let sources = r#"sources=[{"name": "team", "spec": {"region": "us-east-1"}}]"#;
    let printed = cluster.helm(&[&install[..], &settings, &["--set-json", sources]].concat()).await;
    let (_, notes) = printed.split_once("\nNOTES:\n").unwrap();
    assert!(notes.contains("Its sources: team.") && !notes.contains("kind: ParameterSource"), "{notes}");
}
