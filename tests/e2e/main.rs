//! The day of the incident on a real Kubernetes node (`make e2e`): etcd, API server, controllers, scheduler,
//! kubelet and containerd, with the operator's own image, installed by its chart. `hack/e2e` runs it beside
//! the node that it starts.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a story that cannot go on fails")]

mod stage;
mod story;

use std::panic::AssertUnwindSafe;

use futures::FutureExt;
use parameter_mirror_test_support::{Node, Screen};

use stage::Stage;

#[tokio::test]
async fn the_day_of_the_incident_on_a_real_node() {
    let node = Node::of_environment().await.expect("run it with make e2e: there is no node here");
    let mut screen = Screen::default();
    let mut stage = Stage::set(node).await;
    let outcome = AssertUnwindSafe(story::run(&mut screen, &mut stage)).catch_unwind().await;
    if let Err(cause) = outcome {
        println!("\nFAILED in step {}\n{}", screen.step(), stage.last_words().await);
        std::panic::resume_unwind(cause);
    }
    println!("\nAll {} checks passed.", screen.checks());
}
