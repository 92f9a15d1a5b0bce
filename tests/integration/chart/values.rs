//! Values of the chart, and what they change in its objects.

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
        (&["image.repository=team/pm", "image.registry=one.example"], format!("one.example/team/pm:{default}")),
        (
            &["image.repository=team/pm", "image.registry=one.example", "global.imageRegistry=two.example"],
            format!("two.example/team/pm:{default}"),
        ),
        (&["image.repository=pm", "image.tag=1", &by_digest], format!("pm@{digest}")),
    ] {
        let objects = rendered(cluster, settings).await;
        let deployment = objects.iter().find(|object| object["kind"] == "Deployment").unwrap();
        assert_eq!(deployment["spec"]["template"]["spec"]["containers"][0]["image"], image, "{settings:?}");
    }
}
