//! Checks the README and the pages of docs/: runs commands in order against real parts, applies objects to a
//! real API server, and checks links. Every block must be checked by something. CONTRIBUTING.md describes the
//! markers of blocks.

mod alerts;
mod language;
mod links;
pub mod page;
pub mod stage;

use std::process::Command;

use parameter_mirror_test_support::cluster::{Cluster, Options};

use crate::world::root;
use page::{Check, Item, items, text};
use stage::Stage;

/// The pages that are run in this order, as one reader on one cluster. Each page continues where the previous
/// one ended.
const PAGES: [&str; 25] = [
    "docs/getting-started/install.md",
    "docs/guides/redis.md",
    "docs/getting-started/first-mirror.md",
    "docs/getting-started/verify.md",
    "docs/getting-started/quick-start.md",
    "docs/guides/ecs-and-lambda.md",
    "docs/guides/vms.md",
    "docs/guides/sdk-endpoint.md",
    "docs/concepts.md",
    "docs/operations/monitoring.md",
    "docs/operations/limits.md",
    "docs/guides/tenants.md",
    "docs/guides/accounts.md",
    "docs/guides/clusters.md",
    "docs/guides/closed-networks.md",
    "docs/operations/outage.md",
    "docs/operations/runbook.md",
    "docs/operations/keys.md",
    "docs/operations/troubleshooting.md",
    "docs/security/README.md",
    "docs/project/faq.md",
    "docs/operations/sizing.md",
    "docs/project/alternatives.md",
    "docs/operations/upgrading.md",
    "docs/project/releasing.md",
];

/// Pages that are not run here: each has its own tests, or nothing to run, in the given file.
const ELSEWHERE: [(&str, &str); 7] = [
    ("docs/reference/reader.md", "crates/reader/tests/reader/recipes.rs"),
    ("docs/reference/redis-format.md", "crates/reader/tests/sdk/hashes.rs"),
    ("docs/reference/chart.md", "tests/integration/chart_renders.rs"),
    ("docs/reference/cli.md", "tests/integration/explain.rs"),
    ("docs/guides/gitops.md", "tests/integration/kstatus.rs"),
    ("docs/guides/migrate-from-eso.md", "tests/integration/migration.rs"),
    ("docs/reference/metrics.md", "tests/integration/observability.rs"),
];

/// Returns every page for people, relative to the root of the repository.
pub fn pages() -> Vec<String> {
    let mut pages = Vec::new();
    for folder in [".", "docs", "docs/*", "hack", "tests/support"] {
        let output = Command::new("git")
            .args(["ls-files", "--cached", "--others", "--exclude-standard"])
            .arg(format!(":(glob){folder}/*.md"))
            .current_dir(root())
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        pages.extend(String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned));
    }
    pages.retain(|page| root().join(page).exists());
    pages
}

#[tokio::test]
async fn every_command_of_the_readme_does_what_it_says() {
    let mut stage = Stage::start(Cluster::start(Options { controller_manager: true }).await).await;
    stage.play("README.md").await;
    assert!(stage.has_operator() && stage.runs() >= 3, "only {} blocks were run", stage.runs());
}

#[tokio::test]
async fn every_command_of_the_pages_does_what_it_says() {
    let mut stage = Stage::start(Cluster::start(Options { controller_manager: true }).await).await;
    for page in PAGES {
        stage.play(page).await;
    }
    assert!(stage.has_operator() && stage.runs() >= 20, "only {} blocks were run", stage.runs());
}

#[test]
fn every_block_of_every_page_is_checked_by_something() {
    for (page, test) in ELSEWHERE {
        assert!(text(test).contains(page), "{test} does not look at {page}");
    }
    let elsewhere = |page: &String| ELSEWHERE.iter().any(|(known, _)| known == page);
    for page in pages().iter().filter(|page| !elsewhere(page)) {
        let run = page == "README.md" || PAGES.contains(&page.as_str());
        for item in items(&text(page)) {
            let Item::Block(block) = item else { continue };
            let at = format!("{page}:{}", block.line);
            let check = block.check().unwrap_or_else(|| panic!("{at}: a block that nothing checks"));
            assert!(run || matches!(check, Check::Make | Check::Drawing), "{at}: nothing runs this page");
        }
    }
}

/// The API server accepts the pod of docs/guides/sdk-endpoint.md.
#[tokio::test]
async fn the_sidecar_of_the_guide_is_a_pod() {
    let page = text("docs/guides/sdk-endpoint.md");
    let (_, rest) = page.split_once("<!-- recipe: sidecar -->\n```yaml\n").unwrap();
    let (pod, _) = rest.split_once("```").unwrap();
    let cluster = crate::world::cluster().await;
    let namespace = cluster.namespace("sidecar").await;
    let scratch = parameter_mirror_test_support::Scratch::new("sidecar").unwrap();
    std::fs::write(scratch.path().join("pod.yaml"), pod).unwrap();
    let file = scratch.path().join("pod.yaml");
    // No controllers run here, so the test creates it.
    cluster.kubectl(&["create", "serviceaccount", "default", "--namespace", &namespace]).await;
    let apply = ["apply", "--dry-run=server", "--namespace", &namespace, "-f", file.to_str().unwrap()];
    let output = cluster.kubectl(&apply).await;
    assert!(output.contains("pod/checkout created"), "{output}");
}
