//! The dependencies that the program may have.

use std::process::Command;

/// The reader must fit into a Lambda layer and start in milliseconds: no Kubernetes client, one TLS stack and one crypto
/// library.
#[test]
fn it_depends_on_no_kubernetes_client_and_no_second_tls_stack() {
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
    for needed in ["parameter-mirror-format", "parameter-mirror-ssm", "aws-lc-rs"] {
        assert!(names.contains(&needed), "{needed} is not in the tree");
    }
    let heavy = |name: &&&str| name.starts_with("kube") || name.starts_with("k8s-");
    assert_eq!(names.iter().find(heavy), None);
    for unwanted in ["parameter-mirror", "ring", "openssl", "native-tls", "reqwest"] {
        assert!(!names.contains(&unwanted), "{unwanted} is in the tree");
    }
}
