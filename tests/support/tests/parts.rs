//! Tests of the parts themselves: each starts, answers, can be disturbed, and leaves nothing behind.
#![allow(clippy::unwrap_used, reason = "a test may fail wherever it stands, in its own functions too")]

#[path = "parts/contract.rs"]
mod contract;

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::Api;
use parameter_mirror_test_support::cluster::Options;
use parameter_mirror_test_support::{Cluster, Moto, Process, Redis, Scratch, eventually};
use serde_json::json;

const SOON: Duration = Duration::from_secs(10);

fn shell(script: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", script]);
    command
}

fn started(script: &str) -> Process {
    let scratch = Arc::new(Scratch::new("process").unwrap());
    Process::start(&scratch, "script", &shell(script)).unwrap()
}

/// Whether a process runs. A zombie does not count, because an orphan in a container may stay one for ever.
fn runs(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

#[tokio::test]
async fn a_process_sees_a_clean_environment_and_ends_with_its_own_code() {
    let scratch = Arc::new(Scratch::new("process").unwrap());
    let process = Process::start(&scratch, "env", shell("env; exit 7").env("GIVEN", "yes")).unwrap();
    assert_eq!(process.wait_exit(SOON).await.code(), Some(7));
    let names: Vec<_> =
        process.log().lines().filter_map(|line| Some(line.split_once('=')?.0.to_owned())).collect();
    assert!(names.contains(&"GIVEN".to_owned()));
    assert!(
        names.iter().all(|name| ["GIVEN", "PATH", "HOME", "PWD", "_", "SHLVL"].contains(&name.as_str())),
        "{names:?}"
    );
    assert!(process.log().contains(&format!("HOME={}", process.dir().display())));
}

#[tokio::test]
async fn terminate_lets_a_process_finish_and_kill_does_not() {
    let polite = started("trap 'echo bye; exit 3' TERM; echo up; while :; do sleep 0.01; done");
    eventually("the trap is set", SOON, async || polite.log().contains("up").then_some(()).ok_or("no")).await;
    assert_eq!(polite.terminate(SOON).await.code(), Some(3));
    assert!(polite.log().ends_with("bye\n"));

    let killed = started("exec sleep 1000");
    killed.kill();
    assert_eq!(killed.exited().and_then(|status| status.signal()), Some(9));
}

#[tokio::test]
async fn the_folder_stays_for_the_next_process_and_goes_with_the_last() {
    let scratch = Arc::new(Scratch::new("process").unwrap());
    let folder = scratch.path().to_owned();
    let first = Process::start(&scratch, "part", &shell("echo first; sleep 1000")).unwrap();
    eventually("the first speaks", SOON, async || first.log().contains("first").then_some(()).ok_or("no"))
        .await;
    first.kill();
    let second = Process::start(&scratch, "part", &shell("echo second; sleep 1000 & wait")).unwrap();
    let pid = second.pid();
    eventually("the second speaks", SOON, async || second.log().contains("second").then_some(()).ok_or("no"))
        .await;
    assert_eq!(second.log(), "first\nsecond\n");

    drop((first, scratch));
    assert!(folder.exists() && runs(pid));
    drop(second);
    assert!(!folder.exists() && !runs(pid));
}

#[tokio::test]
async fn nothing_survives_a_test_process_that_gets_a_sigkill() {
    let mut holder = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "holder", "--ignored", "--nocapture"])
        .env("HOLD", "1")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(holder.stdout.take().unwrap()).lines();
    let held = lines.map_while(Result::ok).find_map(|line| {
        let (pid, folder) = line.split_once("held ")?.1.split_once(' ')?;
        Some((pid.parse::<u32>().ok()?, PathBuf::from(folder)))
    });
    let (pid, folder) = held.expect("the holder says what it holds");
    assert!(runs(pid) && folder.exists());
    holder.kill().unwrap();
    holder.wait().unwrap();
    eventually("process and folder are gone", SOON, async || {
        if runs(pid) || folder.exists() { Err("still there") } else { Ok(()) }
    })
    .await;
}

/// Not a test: the process that the test above kills.
#[test]
#[ignore = "run by another test"]
fn holder() {
    if std::env::var_os("HOLD").is_some() {
        let process = started("sleep 1000 & sleep 1000");
        println!("held {} {}", process.pid(), process.dir().display());
        process.freeze();
        loop {
            std::thread::park();
        }
    }
}

#[tokio::test]
async fn redis_answers_and_leaves_nothing() {
    let redis = Redis::start().await;
    assert_eq!(redis.cli(&["hset", "pm:{shop/checkout}", "/prod/db", "bytes"]).await, "1");
    let hash = redis.hash("pm:{shop/checkout}").await;
    assert_eq!(hash.into_iter().collect::<Vec<_>>(), [("/prod/db".to_owned(), b"bytes".to_vec())]);
    redis.flush_all().await;
    assert!(redis.hash("pm:{shop/checkout}").await.is_empty());

    let (pid, folder) = (redis.process().pid(), redis.process().dir().to_owned());
    drop(redis);
    assert!(!runs(pid) && !folder.exists());
}

#[tokio::test]
async fn redis_asks_for_its_password() {
    let redis = Redis::with_password("s3cret").await;
    assert_eq!(redis.cli(&["ping"]).await, "PONG");
    let stranger = redis.url().replace(":s3cret@", "");
    let refused = redis::Client::open(stranger).unwrap().get_multiplexed_async_connection().await;
    let refused = match refused {
        Ok(mut connection) => {
            redis::AsyncCommands::get::<_, Option<String>>(&mut connection, "key").await.unwrap_err()
        }
        Err(error) => error,
    };
    assert!(refused.to_string().contains("NOAUTH"), "{refused}");
}

#[tokio::test]
async fn redis_freezes_thaws_dies_and_comes_back_on_the_same_port() {
    let mut redis = Redis::start().await;
    redis.cli(&["set", "key", "value"]).await;
    redis.freeze();
    assert!(redis.connection().await.is_err(), "a frozen Redis answered");
    redis.thaw();
    assert_eq!(redis.cli(&["get", "key"]).await, "value");

    let url = redis.url();
    redis.kill();
    assert!(redis.connection().await.is_err(), "a dead Redis answered");
    redis.restart().await;
    assert_eq!((redis.url(), redis.cli(&["exists", "key"]).await), (url, "0".to_owned()));
}

#[tokio::test]
async fn moto_keeps_parameters_until_it_is_restarted() {
    let mut moto = Moto::start().await;
    let ssm = moto.ssm("eu-west-1");
    assert_eq!(ssm.put("/prod/db", "one", "String").await, 1);
    assert_eq!(ssm.put("/prod/db", "two", "SecureString").await, 2);
    ssm.label("/prod/db", 1, "stable").await;
    let (status, answer) = ssm.call("GetParameter", json!({"Name": "/prod/db:stable"})).await;
    assert_eq!((status, answer["Parameter"]["Value"].as_str()), (200, Some("one")), "{answer}");
    let (status, answer) = moto.ssm("us-east-1").call("GetParameter", json!({"Name": "/prod/db"})).await;
    assert_eq!(status, 400, "regions are kept apart: {answer}");
    ssm.put("/prod/gone", "x", "String").await;
    ssm.delete("/prod/gone").await;

    moto.kill();
    ssm.try_call("DescribeParameters", &json!({})).await.expect_err("a dead moto answered");
    moto.restart().await;
    let (status, _) = ssm.call("GetParameter", json!({"Name": "/prod/db"})).await;
    assert_eq!(status, 400);

    let (pid, folder) = (moto.process().pid(), moto.process().dir().to_owned());
    drop(moto);
    assert!(!runs(pid) && !folder.exists());
}

#[tokio::test]
async fn the_shared_cluster_serves_kubectl_helm_and_clients() {
    let cluster = Cluster::shared().await;
    let version: serde_json::Value =
        serde_json::from_str(&cluster.kubectl(&["version", "-o", "json"]).await).unwrap();
    assert_eq!(version["serverVersion"]["gitVersion"], version["clientVersion"]["gitVersion"]);
    assert_eq!(version["serverVersion"]["minor"], "36");

    let namespace = cluster.namespace("parts").await;
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "map", "namespace": namespace}, "data": {"key": "value"}});
    cluster.kubectl_apply(&map.to_string()).await;
    let maps: Api<ConfigMap> = Api::namespaced(cluster.client().await, &namespace);
    assert_eq!(maps.get("map").await.unwrap().data.unwrap()["key"], "value");
    assert!(cluster.helm(&["list", "-n", &namespace]).await.starts_with("NAME"));

    let missing = cluster.try_kubectl(&["get", "configmap", "other", "-n", &namespace]).await;
    assert!(!missing.status.success() && missing.stderr.contains("NotFound"), "{missing:?}");
}

/// Uses its own runtime, as every test does: the shared cluster must not depend on one.
#[test]
fn the_shared_cluster_outlives_the_runtime_that_started_it() {
    for _ in 0..2 {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let client = Cluster::shared().await.client().await;
            let namespace = Cluster::shared().await.namespace("runtime").await;
            Api::<Namespace>::all(client).get(&namespace).await.unwrap();
        });
    }
}

#[tokio::test]
async fn a_service_account_may_do_what_its_roles_say() {
    let cluster = Cluster::shared().await;
    let namespace = cluster.namespace("account").await;
    cluster.kubectl(&["create", "serviceaccount", "reader", "-n", &namespace]).await;
    let scratch = Scratch::new("kubeconfig").unwrap();
    let kubeconfig = cluster.service_account_kubeconfig(&namespace, "reader", scratch.path()).await;
    let kubeconfig = kubeconfig.to_str().unwrap();
    let who = cluster.kubectl(&["--kubeconfig", kubeconfig, "auth", "whoami"]).await;
    assert!(who.contains(&format!("system:serviceaccount:{namespace}:reader")), "{who}");
    let refused =
        cluster.try_kubectl(&["--kubeconfig", kubeconfig, "get", "secrets", "-n", &namespace]).await;
    assert!(refused.stderr.contains("Forbidden"), "{refused:?}");
}

#[tokio::test]
async fn a_cluster_of_ones_own_deletes_namespaces_freezes_and_leaves_nothing() {
    let cluster = Cluster::start(Options { controller_manager: true }).await;
    let namespace = cluster.namespace("gone").await;
    cluster.kubectl(&["delete", "namespace", &namespace, "--timeout", "60s"]).await;

    cluster.freeze();
    let silent = cluster.try_kubectl(&["get", "namespaces", "--request-timeout", "500ms"]).await;
    assert!(!silent.status.success(), "a frozen API server answered");
    cluster.thaw();
    cluster.kubectl(&["get", "namespaces"]).await;

    let (pid, folder) = (cluster.api_server().pid(), cluster.dir().to_owned());
    drop(cluster);
    assert!(!runs(pid) && !folder.exists());
}
