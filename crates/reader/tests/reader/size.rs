//! The dependencies that the program may have.

use std::process::Command;

/// The reader must fit into a Lambda layer: no SDK and no Kubernetes client, one TLS stack and one crypto
/// library.
#[test]
fn it_depends_on_no_sdk_and_no_kubernetes() {
    let mut tree = Command::new(env!("CARGO"));
    tree.args([
        "tree",
        "--package",
        "parameter-mirror-reader",
        "--edges",
        "normal",
        "--prefix",
        "none",
        "--offline",
    ]);
    let output = tree.current_dir(env!("CARGO_MANIFEST_DIR")).output().unwrap();
    let tree = String::from_utf8(output.stdout).unwrap();
    let names: Vec<&str> = tree.lines().filter_map(|line| line.split(' ').next()).collect();
    assert!(names.contains(&"parameter-mirror-format") && names.contains(&"aws-lc-rs"), "{tree}");
    let heavy =
        |name: &&&str| name.starts_with("aws-sdk-") || name.starts_with("kube") || name.starts_with("k8s-");
    assert_eq!(names.iter().find(heavy), None);
    for unwanted in ["aws-config", "ring", "openssl", "native-tls", "reqwest"] {
        assert!(!names.contains(&unwanted), "{unwanted} is in the tree");
    }
}
