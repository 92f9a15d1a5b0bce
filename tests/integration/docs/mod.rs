//! Checks the README and the pages of docs/: runs commands in order against real parts, applies objects to a
//! real API server, and checks links. Every block must be checked by something. CONTRIBUTING.md describes the
//! markers of blocks.

mod alerts;
mod links;
pub mod page;
pub mod stage;

use parameter_mirror_test_support::cluster::{Cluster, Options};

use crate::world::root;
use page::{Check, Item, items, text};
use stage::Stage;

/// The pages that are run in this order, as one reader on one cluster. Each page continues where the previous
/// one ended.
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

/// Pages that are not run here: each has its own tests, or nothing to run, in the given file.
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

/// Returns every page for people, relative to the root of the repository.
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

/// The API server accepts the pod of docs/reader.md.
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
    // No controllers run here, so the test creates it.
    cluster.kubectl(&["create", "serviceaccount", "default", "--namespace", &namespace]).await;
    let apply = ["apply", "--dry-run=server", "--namespace", &namespace, "-f", file.to_str().unwrap()];
    let output = cluster.kubectl(&apply).await;
    assert!(output.contains("pod/checkout created"), "{output}");
}
