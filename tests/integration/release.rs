//! The release artifacts, as far as they can be checked without the long build: one version everywhere, bills
//! of materials, archives.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use parameter_mirror_test_support::Scratch;
use serde_json::Value;

use crate::world::root;

const VERSION: &str = env!("CARGO_PKG_VERSION");

fn read(file: &str) -> String {
    std::fs::read_to_string(root().join(file)).unwrap()
}

fn output(program: &str, args: &[&str]) -> Vec<u8> {
    let output = Command::new(root().join(program)).args(args).current_dir(root()).output().unwrap();
    assert!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// Cargo.toml defines the version; `hack/generate` writes it everywhere else.
#[test]
fn the_version_is_the_same_everywhere() {
    assert_eq!(String::from_utf8(output("hack/release", &["version"])).unwrap().trim(), VERSION);
    let chart: Value = serde_yaml::from_str(&read("charts/parameter-mirror/Chart.yaml")).unwrap();
    assert_eq!((chart["version"].as_str(), chart["appVersion"].as_str()), (Some(VERSION), Some(VERSION)));
    assert!(read("CHANGELOG.md").contains(&format!("\n## [{VERSION}] - ")), "CHANGELOG.md has no section");
    let mut found = 0;
    let mut files = crate::docs::pages();
    files.push("Dockerfile".to_owned());
    for file in files {
        let text = read(&file);
        for (at, image) in text.match_indices("registry.example/parameter-mirror:") {
            let tag = &text[at + image.len()..];
            let end =
                tag.find(|c: char| !c.is_ascii_alphanumeric() && c != '.' && c != '-').unwrap_or(tag.len());
            assert_eq!(&tag[..end], VERSION, "{file}");
            found += 1;
        }
    }
    assert!(found >= 4, "only {found} images were found");
}

struct Bill {
    json: Value,
    /// The components by name and version.
    components: BTreeMap<(String, String), Value>,
}

fn bill(program: &str) -> Bill {
    let json: Value = serde_json::from_slice(&output("hack/sbom", &[program])).unwrap();
    let text = |component: &Value, member: &str| component[member].as_str().unwrap().to_owned();
    let all = json["components"].as_array().unwrap().iter();
    let components = all.map(|one| ((text(one, "name"), text(one, "version")), one.clone())).collect();
    Bill { json, components }
}

impl Bill {
    fn names(&self) -> BTreeSet<&str> {
        self.components.keys().map(|(name, _)| name.as_str()).collect()
    }
}

/// Returns the crates of Cargo.lock with their checksums; crates of this repository have none.
fn locked() -> BTreeMap<(String, String), Option<String>> {
    let lock = read("Cargo.lock");
    let member = |package: &str, name: &str| {
        let line = package.lines().find_map(|line| line.strip_prefix(&format!("{name} = \"")));
        line.map(|rest| rest.trim_end_matches('"').to_owned())
    };
    let packages = lock.split("[[package]]").skip(1);
    packages
        .map(|package| {
            let name = (member(package, "name").unwrap(), member(package, "version").unwrap());
            (name, member(package, "checksum"))
        })
        .collect()
}

#[test]
fn a_bill_of_materials_lists_what_is_linked_and_nothing_else() {
    let (operator, reader, locked) = (bill("parameter-mirror"), bill("parameter-mirror-reader"), locked());
    let from_the_system = ["rust-std", "glibc", "libgcc"];
    for bill in [&operator, &reader] {
        let names = bill.names();
        for (name, component) in &bill.components {
            assert!(
                component["licenses"][0]["expression"].as_str().is_some_and(|words| !words.is_empty()),
                "{name:?}"
            );
            if !from_the_system.contains(&name.0.as_str()) {
                let checksum = component["hashes"][0]["content"].as_str().map(str::to_owned);
                assert_eq!(locked.get(name), Some(&checksum), "{name:?} is not that of Cargo.lock");
            }
        }
        for linked in
            ["parameter-mirror-format", "aws-sdk-ssm", "aws-lc-sys", "rustls", "redis", "glibc", "rust-std"]
        {
            assert!(names.contains(linked), "{linked} is missing");
        }
        // Only needed by build scripts, macros, tests, or other systems.
        for not in [
            "cc",
            "cmake",
            "serde_derive",
            "syn",
            "proptest",
            "rstest",
            "parameter-mirror-test-support",
            "windows-sys",
        ] {
            assert!(!names.contains(not), "{not} is not linked");
        }
        // Every dependency is listed, and every listed component is a dependency.
        let known =
            bill.json["components"].as_array().unwrap().iter().map(|one| one["bom-ref"].as_str().unwrap());
        let known: BTreeSet<&str> = known.collect();
        let needs = bill.json["dependencies"].as_array().unwrap().iter();
        let needed: BTreeSet<&str> = needs
            .flat_map(|one| one["dependsOn"].as_array().unwrap())
            .map(|one| one.as_str().unwrap())
            .collect();
        assert_eq!(known, needed);
    }
    assert!(operator.names().contains("kube") && !reader.names().contains("kube"));
    assert_eq!(bill("parameter-mirror-reader").json, reader.json, "the second time is another");
}

fn write(path: &Path, mode: u32, text: &str) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
}

/// The order, the times and the umask of the folder's creation do not matter.
#[test]
fn the_same_files_pack_to_the_same_bytes() {
    let scratch = Scratch::new("pack").unwrap();
    let [one, other] = ["one", "other"].map(|name| scratch.path().join(name));
    write(&one.join("extensions/reader"), 0o755, "program");
    write(&one.join("LICENSE"), 0o600, "text");
    write(&other.join("LICENSE"), 0o644, "text");
    write(&other.join("extensions/reader"), 0o700, "program");
    let long_ago = std::time::UNIX_EPOCH + std::time::Duration::from_hours(24 * 365);
    std::fs::File::open(other.join("LICENSE")).unwrap().set_modified(long_ago).unwrap();
    for kind in ["zip", "tar", "tgz"] {
        let packed = [&one, &other].map(|folder| {
            let archive = scratch.path().join(format!("archive.{kind}"));
            output("hack/pack", &[folder.to_str().unwrap(), archive.to_str().unwrap()]);
            std::fs::read(archive).unwrap()
        });
        assert!(packed[0] == packed[1], "{kind} differs");
        // The archive contains everything, with the right modes.
        let unpack = "import shutil, sys; shutil.unpack_archive(sys.argv[1], sys.argv[2], sys.argv[3])";
        let (archive, out) = (scratch.path().join(format!("archive.{kind}")), scratch.path().join(kind));
        let format = if kind == "tgz" { "gztar" } else { kind };
        let mut python = Command::new("python3");
        python.args(["-c", unpack]).args([&archive, &out]).arg(format);
        assert!(python.status().unwrap().success());
        assert_eq!(std::fs::read_to_string(out.join("extensions/reader")).unwrap(), "program");
        assert_eq!(std::fs::read_to_string(out.join("LICENSE")).unwrap(), "text");
    }
    // Without modes in the zip, the layer could not be started.
    let listed = "import zipfile, sys; print([oct(one.external_attr >> 16) for one in zipfile.ZipFile(sys.argv[1]).infolist()])";
    let modes = Command::new("python3")
        .args(["-c", listed])
        .arg(scratch.path().join("archive.zip"))
        .output()
        .unwrap();
    assert_eq!(String::from_utf8(modes.stdout).unwrap().trim(), "['0o100644', '0o100755']");
}

/// The base images are named in one place, so that a builder can replace them with verified digests.
#[test]
fn the_image_is_built_on_nothing_but_what_its_builder_names() {
    let dockerfile = read("Dockerfile");
    let images: Vec<&str> = dockerfile.lines().filter_map(|line| line.strip_prefix("FROM ")).collect();
    assert_eq!(images, ["--platform=$BUILDPLATFORM ${BUILD_IMAGE} AS build", "scratch"]);
    assert!(dockerfile.contains("\nARG BUILD_IMAGE=rust:"), "there is no default");
    assert!(read("docs/project/releasing.md").contains("--build-arg BUILD_IMAGE="));
}

/// CI compares the dependencies with the published advisories, and never claims so when it could not.
#[test]
fn advisories_are_checked_or_it_is_said_that_they_were_not() {
    assert!(read(".ci/run").lines().any(|line| line.starts_with("make advisories")), "CI has no such step");
    let scratch = Scratch::new("advisories").unwrap();
    let folder = scratch.path();
    let put = |name: &str, text: &str| {
        let file = folder.join(name);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, text).unwrap();
        let made = Command::new("chmod").arg("+x").arg(&file).status().unwrap();
        assert!(made.success());
    };
    put("hack/advisories", &read("hack/advisories"));
    put("hack/parts", &format!("#!/bin/sh\n[ \"$1\" = install-lint ] || echo '{}/bin'\n", folder.display()));
    let ends = |fetch: u8, check: u8, require: &str| {
        put("bin/cargo", &format!("#!/bin/sh\n[ \"$2\" = fetch ] && exit {fetch}\nexit {check}\n"));
        let mut run = Command::new(folder.join("hack/advisories"));
        let output = run.env("REQUIRE", require).output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap().contains("NOT CHECKED"))
    };
    assert_eq!(ends(0, 0, ""), (Some(0), false));
    assert_eq!(ends(0, 1, ""), (Some(1), false), "there is one");
    assert_eq!(ends(1, 0, ""), (Some(77), true), "they cannot be fetched");
    assert_eq!(ends(1, 0, "1"), (Some(1), true));
}
