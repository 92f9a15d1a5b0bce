//! The chart as an archive, and what Artifact Hub shows of it.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use parameter_mirror_test_support::{Scratch, programs};
use serde_json::{Value, json};

use super::chart;
use crate::world::{cluster, root};

/// A file beside the sources, by an editor or by git, is not published.
#[tokio::test]
async fn a_package_holds_the_chart_and_nothing_else() {
    let cluster = cluster().await;
    let scratch = Scratch::new("package").unwrap();
    let folder = scratch.path().to_str().unwrap();
    let copied = Command::new("cp").args(["-r", &chart(), folder]).status().unwrap();
    assert!(copied.success());
    let junk = ["values.yaml.orig", ".values.yaml.swp", "templates/deployment.yaml~"];
    for junk in junk {
        fs::write(scratch.path().join("parameter-mirror").join(junk), "junk").unwrap();
    }
    cluster.helm(&["package", &format!("{folder}/parameter-mirror"), "--destination", folder]).await;
    let archive = format!("{folder}/parameter-mirror-{}.tgz", env!("CARGO_PKG_VERSION"));
    let listed = Command::new("tar").args(["--list", "--file", &archive]).output().unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    let listed: BTreeSet<&str> =
        listed.lines().filter_map(|line| line.strip_prefix("parameter-mirror/")).collect();
    for file in ["README.md", "values.schema.json", "files/crds/parametermirrors.yaml", "templates/NOTES.txt"]
    {
        assert!(listed.contains(file), "{file} is not in {listed:?}");
    }
    assert!(junk.iter().all(|junk| !listed.contains(junk)), "{listed:?}");
}

/// The first thing that people copy.
#[tokio::test]
async fn the_command_of_its_readme_installs_it() {
    let cluster = cluster().await;
    let readme = fs::read_to_string(root().join("charts/parameter-mirror/README.md")).unwrap();
    let (_, rest) = readme.split_once("```sh\n").unwrap();
    let (command, _) = rest.split_once("\n```").unwrap();
    let scratch = Scratch::new("readme").unwrap();
    let path = format!("{}:{}", programs::folder().display(), std::env::var("PATH").unwrap());
    let mut bash = Command::new("bash");
    bash.args(["-c", &format!("{command} --dry-run=server")]).current_dir(root());
    bash.env("PATH", path).env("HOME", scratch.path()).env("KUBECONFIG", cluster.kubeconfig());
    let output = bash.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[tokio::test]
async fn artifact_hub_learns_of_the_crds_that_the_chart_has_and_of_examples_that_work() {
    let text = fs::read_to_string(root().join("charts/parameter-mirror/Chart.yaml")).unwrap();
    let metadata: Value = serde_yaml::from_str(&text).unwrap();
    let annotation = |name: &str| -> Value {
        let text = metadata["annotations"][format!("artifacthub.io/{name}")].as_str().unwrap();
        serde_yaml::from_str(text).unwrap()
    };
    let listed = annotation("crds");
    let listed = listed.as_array().unwrap().iter().map(|crd| {
        assert!(crd["displayName"].is_string() && crd["description"].is_string(), "{crd}");
        json!([crd["name"], crd["kind"], crd["version"]]).to_string()
    });
    let files = fs::read_dir(root().join("charts/parameter-mirror/files/crds")).unwrap();
    let in_the_chart = files.map(|file| {
        let crd: Value = serde_yaml::from_str(&fs::read_to_string(file.unwrap().path()).unwrap()).unwrap();
        let spec = &crd["spec"];
        json!([crd["metadata"]["name"], spec["names"]["kind"], spec["versions"][0]["name"]]).to_string()
    });
    assert_eq!(listed.collect::<BTreeSet<_>>(), in_the_chart.collect::<BTreeSet<_>>());

    let cluster = cluster().await;
    let namespace = cluster.namespace("examples").await;
    let scratch = Scratch::new("examples").unwrap();
    for mut example in annotation("crdsExamples").as_array().unwrap().clone() {
        if example["metadata"].get("namespace").is_some() {
            example["metadata"]["namespace"] = json!(namespace);
        }
        let file = scratch.path().join("example.json");
        fs::write(&file, example.to_string()).unwrap();
        cluster
            .kubectl(&["apply", "--dry-run=server", "--validate=strict", "-f", file.to_str().unwrap()])
            .await;
    }
}
