//! The README and the pages of docs/, checked: commands run in order against real parts, objects taken by a real API server, links
//! that lead somewhere, and no block that nothing looks at. How a block is marked is in CONTRIBUTING.md.

mod alerts;
mod links;
pub mod page;
pub mod stage;

use parameter_mirror_test_support::cluster::{Cluster, Options};

use crate::world::root;
use page::{Check, Item, items, text};
use stage::Stage;

/// The pages that are run, in this order, by one reader on one cluster: each goes on where the one before it ended.
const PAGES: [&str; 9] = [
    "docs/install.md",
    "docs/concepts.md",
    "docs/outage.md",
    "docs/runbook.md",
    "docs/faq.md",
    "docs/sizing.md",
    "docs/comparison.md",
    "docs/upgrading.md",
    "docs/releasing.md",
];

/// Pages without anything to run, and pages that have tests of their own, with the file that holds them.
const ELSEWHERE: [(&str, &str); 8] = [
    ("docs/reader.md", "crates/reader/tests/reader/recipes.rs"),
    ("docs/redis-format.md", "crates/reader/tests/sdk/hashes.rs"),
    ("docs/operations.md", "tests/integration/redis_access.rs"),
    ("docs/chart.md", "tests/integration/chart_renders.rs"),
    ("docs/commands.md", "tests/integration/explain.rs"),
    ("docs/gitops.md", "tests/integration/kstatus.rs"),
    ("docs/migration.md", "tests/integration/migration.rs"),
    ("docs/metrics.md", "tests/integration/observability.rs"),
];

/// Every page for people, named from the root of the repository.
fn pages() -> Vec<String> {
    let mut pages =
        ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md"].map(str::to_owned).to_vec();
    pages.retain(|page| root().join(page).exists());
    for folder in ["docs", "docs/adr"] {
        let files = std::fs::read_dir(root().join(folder)).unwrap().map(|file| file.unwrap().path());
        let markdown = files.filter(|file| file.extension().is_some_and(|extension| extension == "md"));
        pages
            .extend(markdown.map(|file| format!("{folder}/{}", file.file_name().unwrap().to_str().unwrap())));
    }
    pages
}

#[tokio::test]
async fn every_command_of_the_readme_does_what_it_says() {
    let mut stage = Stage::start(Cluster::start(Options { controller_manager: true }).await).await;
    stage.play("README.md").await;
    assert!(stage.has_operator() && stage.runs() >= 9, "only {} blocks were run", stage.runs());
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
            assert!(run || check == Check::Make, "{at}: nothing runs this page");
        }
    }
}

/// The pod of docs/reader.md is one that the API server takes.
#[tokio::test]
async fn the_sidecar_of_the_readers_page_is_a_pod() {
    let page = text("docs/reader.md");
    let (_, rest) = page.split_once("<!-- recipe: sidecar -->\n```yaml\n").unwrap();
    let (pod, _) = rest.split_once("```").unwrap();
    let cluster = crate::world::cluster().await;
    let namespace = cluster.namespace("sidecar").await;
    let scratch = parameter_mirror_test_support::Scratch::new("sidecar").unwrap();
    std::fs::write(scratch.path().join("pod.yaml"), pod).unwrap();
    let file = scratch.path().join("pod.yaml");
    // No controllers run here that would make it.
    cluster.kubectl(&["create", "serviceaccount", "default", "--namespace", &namespace]).await;
    let apply = ["apply", "--dry-run=server", "--namespace", &namespace, "-f", file.to_str().unwrap()];
    let told = cluster.kubectl(&apply).await;
    assert!(told.contains("pod/checkout created"), "{told}");
}
