//! The problem in the outage: new tasks, which read their configuration at their start.

use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use futures::future::join_all;
use parameter_mirror_test_support::{Node, Screen, programs};

use crate::kubernetes::{SYSTEM, program};
use crate::stage::{MIRROR, SECRET, SHOP, Stage};

/// The application that runs as pods.
const APP: &str = "checkout";
/// The number of tasks that start at once.
const TASKS: usize = 200;
/// How much more time than the other tasks the one that reads SSM gets.
const GRACE: Duration = Duration::from_secs(5);
/// The time limit for the tasks.
const PATIENCE: Duration = Duration::from_mins(2);

/// A task as it was before there were mirrors, except for one line: it does not request what its environment
/// contains.
const TASK: &str = r#"
import os
host = os.environ.get("DB_HOST")
if host is None:
    import boto3
    host = boto3.client("ssm").get_parameter(Name="/prod/checkout/db/host")["Parameter"]["Value"]
print("up with", host)
"#;

/// Starts an application that takes its configuration from the Secret, if pods can run.
pub async fn start_application(screen: &mut Screen, stage: &Stage) {
    let Some(node) = stage.kubernetes.node() else { return };
    screen.begin("An application of one pod takes the Secret as environment and as files");
    node.kubectl_apply(&Node::application(SHOP, APP, SECRET, "DB_HOST").to_string()).await;
    node.are_up(SHOP, APP, 1, "db.internal").await;
    screen.checked("1 of 1 pod is up");
}

/// Starts more of its pods while SSM is silent.
pub async fn scale_out_pods(screen: &mut Screen, stage: &Stage) {
    let Some(node) = stage.kubernetes.node() else { return };
    screen.begin("kubectl scale from 1 to 5 pods while SSM is gone");
    node.kubectl(&["scale", "deployment", APP, "-n", SHOP, "--replicas=5"]).await;
    node.are_up(SHOP, APP, 5, "db.internal").await;
    screen.checked("5 of 5 pods are up");
}

/// Starts tasks while SSM is silent: many with their mirror, and one without.
pub async fn scale_out(screen: &mut Screen, stage: &Stage) {
    screen.begin(&format!("Scale out while SSM is gone: {TASKS} tasks start at once"));
    let python =
        programs::path("moto_server").canonicalize().expect("moto is installed").with_file_name("python");
    let task = |command: &mut Command| {
        command.args(["-c", TASK]).stdin(Stdio::null()).env("AWS_ENDPOINT_URL_SSM", stage.moto.endpoint());
        command
            .env("AWS_DEFAULT_REGION", "us-east-1")
            .env("AWS_ACCESS_KEY_ID", "demo")
            .env("AWS_SECRET_ACCESS_KEY", "demo");
    };
    let mut without = Command::new(&python);
    task(without.env_clear());
    let mut without =
        tokio::process::Command::from(without).kill_on_drop(true).spawn().expect("python starts");

    let sub_key = sub_key(stage);
    let began = Instant::now();
    let with = (0..TASKS).map(|_| {
        let mut command = Command::new(program().with_file_name("parameter-mirror-reader"));
        command.env_clear().args(["exec", "--mirror", &format!("{SHOP}/{MIRROR}"), "--"]).arg(&python);
        command
            .env("PARAMETER_MIRROR_REDIS_URL", stage.redis.url())
            .env("PARAMETER_MIRROR_SUB_KEYS", &sub_key);
        // All start at once, so some wait for Redis.
        command.env("PARAMETER_MIRROR_BUDGET", "30s");
        task(&mut command);
        tokio::process::Command::from(command).kill_on_drop(true).output()
    });
    let ended = tokio::time::timeout(PATIENCE, join_all(with)).await.expect("all tasks start");
    for task in ended {
        let Output { status, stdout, stderr } = task.expect("the reader starts");
        let (out, err) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
        assert!(status.success() && out == "up with db.internal\n", "{status}: {out}{err}");
        assert!(err.contains("from the mirror shop/checkout"), "{err}");
    }
    let took = began.elapsed();
    screen.checked(&format!("with exec: {TASKS} of {TASKS} are up, in {:.1} s together", took.as_secs_f64()));

    let waited = tokio::time::timeout(GRACE, without.wait()).await;
    assert!(waited.is_err(), "a task without the mirror ended while SSM was silent: {waited:?}");
    screen.checked(&format!(
        "the same program without it: still waits for SSM after {:.0} s",
        began.elapsed().as_secs_f64()
    ));
}

/// Returns the sub-key that the task definition got before the outage.
fn sub_key(stage: &Stage) -> String {
    let mut command = Command::new(program());
    command.args(["key", &format!("{SHOP}/{MIRROR}"), "--namespace", SYSTEM]).env_clear();
    let printed =
        command.env("KUBECONFIG", stage.kubernetes.kubeconfig()).output().expect("the program prints a key");
    assert!(printed.status.success(), "{}", String::from_utf8_lossy(&printed.stderr));
    String::from_utf8(printed.stdout).expect("text")
}
