//! The operator as a process: starting before its CRDs, settings, endpoints, stopping, and keeping secrets
//! private.

use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};

use parameter_mirror_format::crypto::subkey::SubKey;
use parameter_mirror_format::hash::fields::Fields;
use parameter_mirror_format::hash::{ReaderError, decode_for_reader};
use parameter_mirror_test_support::cluster::{Cluster, Options};
use parameter_mirror_test_support::ssm::{Fault, When};
use parameter_mirror_test_support::{Operator, Scratch, Ssm, TlsFront};
use serde_json::json;

use crate::silence;
use crate::world::{SOON, Setup, World, cluster, eventually, root, service_account};

/// Runs the program to its end.
fn run(arguments: &[&str]) -> (Option<i32>, String, String) {
    let output =
        Command::new(env!("CARGO_BIN_EXE_parameter-mirror")).args(arguments).env_clear().output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn help_names_every_setting_and_a_password_on_the_command_line_is_refused() {
    let (code, help, _) = run(&["run", "--help"]);
    assert_eq!(code, Some(0));
    for setting in
        ["--redis-url-file", "PARAMETER_MIRROR_CLUSTER_NAME", "--ssm-requests-per-second", "--log-format"]
    {
        assert!(help.contains(setting), "{setting} is missing in\n{help}");
    }
    let (code, _, stderr) = run(&[
        "run",
        "--listen=127.0.0.1:0",
        "--probe-listen=127.0.0.1:0",
        "--redis-url",
        "redis://:hunter2@localhost",
    ]);
    assert_ne!(code, Some(0));
    assert!(
        stderr.contains("visible in the process list") && stderr.contains("--redis-url-file"),
        "{stderr}"
    );
    assert!(!stderr.contains("hunter2"), "{stderr}");
}

/// The log is a full pipe that nobody reads: the first line blocks its thread for ever.
#[test]
fn an_operator_whose_threads_are_blocked_is_ended() {
    let scratch = Scratch::new("blocked").unwrap();
    let (_unread, mut log) = std::io::pipe().unwrap();
    rustix::io::ioctl_fionbio(&log, true).unwrap();
    while log.write(&[b' '; 4096]).is_ok() {}
    rustix::io::ioctl_fionbio(&log, false).unwrap();
    let mut operator = Command::new(env!("CARGO_BIN_EXE_parameter-mirror"))
        .args(["run", "--listen=127.0.0.1:0", "--probe-listen=127.0.0.1:0", "--namespace=nowhere"])
        .env_clear()
        .current_dir(scratch.path())
        .stdin(Stdio::null())
        .stdout(log)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut text = String::new();
    operator.stderr.take().unwrap().read_to_string(&mut text).unwrap();
    let status = operator.wait().unwrap();
    assert_eq!(status.signal(), Some(6), "{status}: {text}");
    assert!(text.starts_with("parameter-mirror: the operator made no progress for 15 s."), "{text}");
    for part in ["threads:\n", "watchdog", "reconciles:\n  none; this operator does not lead\n", "SSM:\n"] {
        assert!(text.contains(part), "{part} is missing in\n{text}");
    }
}

#[test]
fn a_source_is_printed_ready_to_apply_and_bad_grants_are_explained() {
    let (code, yaml, _) =
        run(&["source", "--region", "us-east-1", "--grant", "shop:/prod/checkout/,/prod/shared/"]);
    assert_eq!(code, Some(0));
    for line in
        ["kind: ParameterSource", "region: us-east-1", "- shop", "- /prod/checkout/", "- /prod/shared/"]
    {
        assert!(yaml.contains(line), "{line} is missing in\n{yaml}");
    }
    let (code, _, stderr) =
        run(&["source", "--region", "useast", "--role-arn", "foo", "--grant", "shop:/prod//x/"]);
    assert_eq!(code, Some(1), "{stderr}");
    for words in ["not an AWS region", "not the ARN of an IAM role", "a path starts with /"] {
        assert!(stderr.contains(words), "{words:?} is not in {stderr}");
    }
    let (code, _, stderr) = run(&["source", "--region", "us-east-1", "--grant", "shop"]);
    assert_eq!(code, Some(2));
    assert!(stderr.contains("write it like shop:/prod/checkout/"), "{stderr}");
}

#[tokio::test]
async fn the_policies_of_the_sources_are_printed_from_cluster_and_file() {
    let cluster = cluster().await;
    let (namespace, scratch) = (cluster.namespace("iam").await, Scratch::new("iam").unwrap());
    let role = format!("arn:aws:iam::444455556666:role/{namespace}");
    let source = json!({
        "apiVersion": "parameter-mirror.dev/v1alpha1", "kind": "ParameterSource", "metadata": {"name": namespace},
        "spec": {"region": "us-east-1", "roleArn": role, "grants": [{"namespaces": [namespace], "paths": ["/pay/"]}]},
    });
    cluster.kubectl_apply(&source.to_string()).await;
    let file = scratch.path().join("sources.yaml");
    std::fs::write(&file, format!("kind: Namespace\n---\n{source}\n")).unwrap();
    let (code, from_file, output) = run(&["iam", "--identity", &role, "--file", file.to_str().unwrap()]);
    assert_eq!(code, Some(0), "{output}");
    assert!(output.contains("everything below it"), "{output}");
    let policy: serde_json::Value = serde_json::from_str(&from_file).unwrap();
    let arn = "arn:aws:ssm:us-east-1:444455556666:parameter/pay";
    assert_eq!(policy["Statement"][0]["Resource"], json!([arn, format!("{arn}/*")]));
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_parameter-mirror"));
    command.args(["iam", "--identity", &role]).env_clear().env("KUBECONFIG", cluster.kubeconfig());
    assert_eq!(String::from_utf8(command.output().await.unwrap().stdout).unwrap(), from_file);
    cluster.kubectl(&["delete", "psource", &namespace]).await;
    let (code, _, output) = run(&["iam", "--identity", "nobody", "--file", file.to_str().unwrap()]);
    assert_eq!(code, Some(1));
    assert!(output.contains(&format!("There are: {role}, operator")), "{output}");
    for no_object in ["- a\n- b\n", "text\n", "17\n", "items: 17\n"] {
        std::fs::write(&file, no_object).unwrap();
        let (code, _, output) = run(&["iam", "--file", file.to_str().unwrap()]);
        assert_eq!(code, Some(1), "{output}");
        assert!(output.contains("there is no ParameterSource"), "{output}");
    }
}

#[test]
fn a_new_key_secret_is_printed_and_differs_each_time() {
    let ((_, one, _), (_, other, _)) = (run(&["keygen"]), run(&["keygen"]));
    assert!(one.contains("name: parameter-mirror-keys") && one.contains("active:"), "{one}");
    assert_ne!(one, other);
}

#[tokio::test]
async fn a_mirrors_sub_key_is_printed_for_its_readers_and_opens_no_other() {
    let world = World::start().await;
    world.ssm.put_secure("/app/password", "hunter2");
    world.synced("config").await;
    world.synced("other").await;
    let key = async |mirror: &str, home: &str| {
        let mirror = format!("{}/{mirror}", world.namespace);
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_parameter-mirror"));
        command.args(["key", &mirror, "--namespace", home]).env_clear();
        let output = command.env("KUBECONFIG", world.cluster.kubeconfig()).output().await.unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code(), text(output.stdout), text(output.stderr))
    };
    let (code, printed, _) = key("config", &world.home).await;
    assert_eq!((code, printed.lines().count()), (Some(0), 1));
    let ((_, other, _), sub_key) = (key("other", &world.home).await, SubKey::parse(printed.trim()).unwrap());
    assert_ne!(printed, other);
    let read = async |mirror: &str| {
        let fields = world.redis.hash(&world.key(mirror)).await;
        let fields: Fields = fields.into_iter().map(|(name, bytes)| (name.into_bytes(), bytes)).collect();
        decode_for_reader(&fields, &world.key(mirror), std::slice::from_ref(&sub_key), None)
    };
    assert_eq!(read("config").await.unwrap().entries["/app/password"].value.expose(), "hunter2");
    assert!(matches!(read("other").await, Err(ReaderError::Broken(_))));
    let (code, printed, stderr) = key("config", "default").await;
    assert_eq!((code, printed.as_str()), (Some(1), ""));
    assert!(stderr.contains("Is --namespace the operator's namespace?"), "{stderr}");
}

/// This also shows that the operator needs no preparation of the cluster: nothing is applied yet.
#[tokio::test]
async fn it_waits_for_its_definitions_instead_of_crashing() {
    let cluster = Cluster::start(Options::default()).await;
    let (ssm, scratch) = (Ssm::start(), Scratch::new("early").unwrap());
    cluster.kubectl(&["create", "namespace", "operator"]).await;
    let mut settings = service_account(&cluster, "operator", &[], &[], scratch.path()).await;
    settings.ssm = ssm.endpoint();
    let mut operator = Operator::launch(settings);
    eventually("it says what it waits for", SOON, async || {
        let log = operator.log();
        if log.contains("apply crds/") { Ok(()) } else { Err(log) }
    })
    .await;
    operator.wait_listening().await;
    let (code, text) = operator.get("/readyz").await.unwrap();
    assert_eq!((code, operator.get("/livez").await.unwrap().0), (503, 200), "{text}");
    cluster.kubectl(&["apply", "-f", root().join("crds").to_str().unwrap()]).await;
    operator.wait_ready().await;
    assert!(operator.terminate().await.success());
}

#[tokio::test]
async fn sigterm_ends_it_in_order_and_the_targets_go_on_serving() {
    let world = World::start().await;
    world.ssm.put("/app/a", "1");
    world.synced("config").await;
    assert!(world.operator.terminate().await.success(), "{}", world.operator.log());
    assert!(world.operator.log().contains("the targets keep serving"));
    world.holds("config", &[("A", "1")]).await;
    world.field_is("config", "/app/a", "1").await;
}

/// Searches every output of the operator for values: through changes, an edit, errors that quote them, an
/// outage and a restart.
#[tokio::test]
async fn no_secret_is_ever_printed() {
    let arguments = vec!["--log=trace".to_owned()];
    let mut world = World::with(Setup { arguments, ..Setup::default() }).await;
    let [first, second, edited, quoted] = [(); 4].map(|()| world.canaries.sealed());
    let plain = world.canaries.plain();
    world.ssm.put_secure("/app/a", &first);
    world.ssm.put("/app/b", &plain);
    world.synced("config").await;
    world.ssm.put_secure("/app/a", &second);
    world.sync("config").await;
    world.edit_secret("config", json!({"stringData": {"A": edited}})).await;
    world.holds("config", &[("A", &second), ("B", &plain)]).await;
    world.ssm.quotes(&quoted);
    let code = world.canaries.sealed_marker().to_owned();
    for fault in [Fault::internal(), Fault::GarbageOk, Fault::BrokenJson, Fault::coded(400, &code, &code)] {
        world.ssm.clear_all();
        world.ssm.fail(When::any(), fault);
        world.sync("config").await;
        // Checked before the next failure replaces this one in the condition.
        silence::says_nothing(&world).await;
    }
    world.degraded("config", "InvalidResponse").await;
    world.ssm.clear_all();
    world.ssm.refuse();
    world.sync("config").await;
    silence::keeps(&world).await;
    world.operator.crash_and_restart().await;
    world.sync("config").await;
    silence::keeps(&world).await;
}

/// A core dump would contain every value, and so would the memory to anyone who may read it.
#[tokio::test]
async fn the_operator_leaves_no_core_dump_and_lets_nobody_look_in() {
    let world = World::start().await;
    let pid = world.operator.process().pid();
    let limits = std::fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let core = limits.lines().find_map(|line| line.strip_prefix("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().collect::<Vec<_>>(), ["0", "0", "bytes"]);
    assert!(!world.operator.process().is_open_to_its_user());
}

#[tokio::test]
async fn metrics_and_json_logs_are_for_machines() {
    let arguments = vec!["--log-format=json".to_owned()];
    let world = World::with(Setup { arguments, ..Setup::default() }).await;
    world.ssm.put("/app/a", "1");
    world.synced("config").await;
    for line in world.operator.log().lines() {
        let line: serde_json::Value =
            serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}"));
        assert!(line["timestamp"].is_string() && line["level"].is_string(), "{line}");
    }
    assert_eq!(world.operator.metric("parameter_mirror_mirrors").await, 1);
    assert_eq!(world.operator.metric("parameter_mirror_mirrors_degraded").await, 0);
    assert_eq!(world.operator.metric(r#"parameter_mirror_ssm_reads_total{result="success"}"#).await, 1);
}

/// Each line names the mirror and its cycle: the lines of one reconcile belong together.
#[tokio::test]
async fn each_transition_is_one_line_with_its_mirror_and_cycle() {
    let arguments = vec!["--log-format=json".to_owned()];
    let world = World::with(Setup { arguments, ..Setup::default() }).await;
    world.ssm.put("/app/a", "1");
    let spec = json!({"parameters": [{"path": "/app"}], "secret": {}, "redis": {}, "interval": "1h"});
    world.mirror("config", spec).await;
    world.ready("config", "Synced").await;
    world.sync("config").await;
    world.ssm.refuse();
    world.sync("config").await;
    world.sync("config").await;
    world.degraded("config", "SourceUnavailable").await;
    world.delete_secret("config").await;
    world.holds("config", &[("A", "1")]).await;
    world.event("config", "Healed").await;
    world.ssm.listen_again();
    world.sync("config").await;
    world.event("config", "Recovered").await;
    let lines: Vec<serde_json::Value> =
        world.operator.log().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let story: Vec<_> = lines
        .iter()
        .filter(|line| line["span"]["namespace"] == *world.namespace && line["span"]["mirror"] == "config")
        .filter_map(|line| Some((line["reason"].as_str()?, line["span"]["cycle"].as_u64().unwrap())))
        .collect();
    // The second cycle was quiet, and the fourth had nothing new to report.
    assert_eq!(story, [("Synced", 1), ("SourceUnavailable", 3), ("Healed", 4), ("Recovered", 5)]);
}

/// An object stored under another version of the CRD gets its own condition and stalls no other.
#[tokio::test]
async fn an_object_that_cannot_be_decoded_does_not_stall_the_others() {
    let cluster = Cluster::start(Options::default()).await;
    let (ssm, scratch) = (Ssm::start(), Scratch::new("loose").unwrap());
    ssm.put("/app/a", "1");
    cluster.kubectl(&["apply", "-f", root().join("crds").to_str().unwrap()]).await;
    let namespace = cluster.namespace("shop").await;
    cluster.kubectl(&["create", "namespace", "operator"]).await;
    cluster.kubectl(&["wait", "--for=condition=Established", "crd", "--all", "--timeout=30s"]).await;
    let crd = "parametermirrors.parameter-mirror.dev";
    let versions = json!([{"op": "replace", "path": "/spec/versions/0/schema/openAPIV3Schema", "value":
        {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}]);
    cluster.kubectl(&["patch", "crd", crd, "--type=json", "-p", &versions.to_string()]).await;
    let source = json!({
        "apiVersion": "parameter-mirror.dev/v1alpha1", "kind": "ParameterSource", "metadata": {"name": "default"},
        "spec": {"region": "us-east-1", "grants": [{"namespaces": [namespace], "paths": ["/app"]}]},
    });
    cluster.kubectl_apply(&source.to_string()).await;
    let mirror = |name: &str, spec: serde_json::Value| {
        json!({
            "apiVersion": "parameter-mirror.dev/v1alpha1", "kind": "ParameterMirror",
            "metadata": {"name": name, "namespace": namespace}, "spec": spec,
        })
        .to_string()
    };
    eventually("the loose schema is in use", SOON, async || {
        let output = cluster.try_kubectl_apply(&mirror("odd", json!({"parameters": "all of them"}))).await;
        if output.status.success() { Ok(()) } else { Err(output.stderr) }
    })
    .await;
    cluster.kubectl_apply(&mirror("fine", json!({"parameters": [{"path": "/app"}], "secret": {}}))).await;
    let mut settings = service_account(&cluster, "operator", &[], &[], scratch.path()).await;
    settings.ssm = ssm.endpoint();
    let operator = Operator::start(settings).await;
    for (name, condition) in [("fine", "Ready=True"), ("odd", "Ready=False")] {
        let condition = format!("--for=condition={condition}");
        let args = ["wait", &condition, "pmirror", name, "-n", &namespace, "--timeout=30s"];
        let output = cluster.try_kubectl(&args).await;
        assert!(output.status.success(), "{name}: {}\n{}", output.stderr, operator.log());
    }
    let odd = cluster.kubectl(&["get", "pmirror", "odd", "-n", &namespace, "-o", "yaml"]).await;
    assert!(odd.contains("reason: InvalidSpec") && odd.contains("cannot read the object"), "{odd}");
}

/// A stand-in for a proxy that breaks TLS open, with the certificate of the company's own authority.
#[tokio::test]
async fn aws_ca_bundle_is_honoured_for_ssm_and_missed_by_name() {
    let ssm = Ssm::start();
    ssm.put("/app/x", "1");
    let front = TlsFront::start(ssm.address()).await;
    let with = async |environment| {
        let ssm_endpoint = Some(front.url());
        let world = World::with(Setup { ssm_endpoint, environment, ..Setup::default() }).await;
        world.mirror("config", json!({"parameters": [{"path": "/app"}], "secret": {}})).await;
        world
    };
    let ca = front.ca().to_str().unwrap().to_owned();
    with(vec![("AWS_CA_BUNDLE".to_owned(), ca)]).await.healthy("config").await;
    let world = with(vec![]).await;
    let said = world.degraded("config", "SourceUnavailable").await.message;
    let host = front.address().to_string();
    assert!(
        said.contains(&host) && said.contains("UnknownIssuer") && said.contains("AWS_CA_BUNDLE"),
        "{said}"
    );
}

/// The proxy from the environment is used for AWS; the API server is reached directly.
#[tokio::test]
async fn https_proxy_is_honoured_for_ssm() {
    let proxy = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", proxy.local_addr().unwrap());
    let environment =
        vec![("HTTPS_PROXY".to_owned(), address), ("NO_PROXY".to_owned(), "127.0.0.1,localhost".to_owned())];
    let ssm_endpoint = Some("https://ssm.us-east-1.amazonaws.com".to_owned());
    let world = World::with(Setup { ssm_endpoint, environment, ..Setup::default() }).await;
    world.mirror("config", json!({"parameters": [{"path": "/app"}], "secret": {}})).await;
    let asked = async {
        let (stream, _) = proxy.accept().await.unwrap();
        let mut first = String::new();
        tokio::io::AsyncBufReadExt::read_line(&mut tokio::io::BufReader::new(stream), &mut first)
            .await
            .unwrap();
        first
    };
    let first =
        tokio::time::timeout(SOON, asked).await.unwrap_or_else(|_| panic!("{}", world.operator.log()));
    assert_eq!(first.trim(), "CONNECT ssm.us-east-1.amazonaws.com:443 HTTP/1.1");
}
