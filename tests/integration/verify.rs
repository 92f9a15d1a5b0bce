//! `parameter-mirror verify`: its report on healthy and on broken mirrors, and that it changes nothing.

use std::path::Path;

use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, DeleteParams};
use parameter_mirror_test_support::Scratch;
use parameter_mirror_test_support::ssm::{Fault, When};
use serde_json::{Value, json};

use crate::world::World;

/// The result of a run.
struct Ended {
    code: Option<i32>,
    out: String,
    err: String,
}

impl Ended {
    /// Returns the line that contains this text.
    fn line(&self, text: &str) -> &str {
        self.out
            .lines()
            .find(|line| line.contains(text))
            .unwrap_or_else(|| panic!("{text:?} is not in\n{}{}", self.out, self.err))
    }

    fn says(&self, level: &str, text: &str) {
        let line = self.line(text);
        assert!(line.starts_with(level), "{line}\nin\n{}", self.out);
    }
}

async fn verify_as(world: &World, kubeconfig: &Path, arguments: &[&str]) -> Ended {
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_parameter-mirror"));
    command.arg("verify").args(arguments).env_clear().env("KUBECONFIG", kubeconfig);
    // The chart sets these for the operator's container, so that no flag is needed there.
    command
        .env("PARAMETER_MIRROR_NAMESPACE", &world.home)
        .env("PARAMETER_MIRROR_WATCH_NAMESPACES", &world.namespace);
    command.env("PARAMETER_MIRROR_LEASE", format!("{}-parameter-mirror", world.home));
    command.env("PARAMETER_MIRROR_REDIS_URL", world.redis.url());
    // Only `--read-ssm` uses these.
    command.env("AWS_ENDPOINT_URL_SSM", world.ssm.endpoint());
    command.env("AWS_ACCESS_KEY_ID", "AKIDTEST").env("AWS_SECRET_ACCESS_KEY", "test");
    let output = command.output().await.unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ended { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}

async fn verify(world: &World, arguments: &[&str]) -> Ended {
    verify_as(world, world.cluster.kubeconfig(), arguments).await
}

/// With exactly the permissions of the operator, as in its pod.
#[tokio::test]
async fn a_mirror_that_is_well_is_said_to_be_and_nothing_is_changed() {
    let world = World::start().await;
    world.ssm.put("/app/a", "a-value-to-hide");
    world.ssm.put_secure("/app/b", "hunter2");
    world.synced("config").await;
    let (secret, content) = (world.resource_version("config").await, world.content("config").await);
    let ended = verify_as(&world, &world.operator.settings().kubeconfig, &[]).await;
    // The command that the report prints records the backup.
    assert_eq!(ended.code, Some(4), "{}{}", ended.out, ended.err);
    let (_, record) = ended.line("WARN  no backup of the keys is recorded").split_once("kubectl ").unwrap();
    world.cluster.kubectl(&record.split(' ').collect::<Vec<_>>()).await;
    let ended = verify_as(&world, &world.operator.settings().kubeconfig, &[]).await;
    assert_eq!(ended.code, Some(0), "{}{}", ended.out, ended.err);
    let mirror = format!("{}/config", world.namespace);
    for line in [
        "ok    the operator works: ".to_owned(),
        format!("ok    Secret {}/parameter-mirror-keys holds k", world.home),
        "ok    a backup of the keys is recorded, and k".to_owned(),
        "ok    the clocks of this machine and the API server agree".to_owned(),
        "ok    Redis answers, and this user may do all that the operator does".to_owned(),
        "ok    Redis does not evict what has no end of life".to_owned(),
        "ok    the clocks of this machine and Redis agree".to_owned(),
        format!("ok    {mirror}: ParameterSource {} (us-east-1) grants its selection", world.source),
        format!("ok    {mirror}: Ready, and not Degraded"),
        format!("ok    {mirror}: Secret, Redis and status hold the same set, revision "),
        format!("ok    {mirror}: what is served is as SSM had it "),
        format!("ok    {mirror}: Secret config holds 2 parameters, revision "),
        format!("ok    {mirror}: Redis {} holds 2 parameters, revision ", world.key("config")),
        format!("ok    {mirror}: nothing holds up its deletion, and its targets stay"),
        "15 ok, 0 to look at, 0 failed".to_owned(),
    ] {
        assert!(ended.out.contains(&line), "{line:?} is not in\n{}", ended.out);
    }
    assert!(!ended.out.contains("hide") && !ended.out.contains("hunter2"), "{}", ended.out);
    assert_eq!(world.redis.cli(&["dbsize"]).await, "1", "it left something behind in Redis");
    assert_eq!(world.resource_version("config").await, secret);
    assert_eq!(world.content("config").await, content);
    let ended = verify(&world, &["--output", "json", &mirror]).await;
    let json: Value = serde_json::from_str(&ended.out).unwrap();
    assert_eq!((&json["ok"], &json["fail"]), (&json!(15), &json!(0)), "{json:#}");
    assert!(json["findings"].as_array().unwrap().iter().all(|finding| finding["level"] == "ok"), "{json:#}");
}

/// IAM and KMS are tested by a read with the identity of the caller.
#[tokio::test]
async fn a_read_of_ssm_shows_whether_the_identity_may_read_it() {
    let world = World::start().await;
    world.ssm.put("/app/a", "1");
    world.ssm.put_secure("/app/b", "hunter2");
    world.synced("config").await;
    world.operator.terminate().await;
    let calls = world.ssm.calls();
    verify(&world, &["--allow-warnings"]).await;
    assert_eq!(world.ssm.calls().since(&calls).total(), 0, "it read SSM without being asked to");
    let read = async || verify(&world, &["--read-ssm"]).await;
    let ended = read().await;
    ended.says("ok", "this identity read 2 parameters from SSM");
    assert!(!ended.out.contains("hunter2"), "{}", ended.out);
    world.ssm.fail(When::any(), Fault::access_denied_iam("GetParametersByPath"));
    let ended = read().await;
    assert_eq!(ended.code, Some(3), "{}", ended.out);
    ended.says("FAIL", "`parameter-mirror iam` prints the policy that is needed");
}

/// Without an operator that would heal it.
#[tokio::test]
async fn what_is_damaged_or_dead_is_reported_with_its_remedy() {
    let world = World::start().await;
    world.ssm.put("/app/a", "1");
    world
        .mirror(
            "config",
            json!({"parameters": [{"path": "/app"}], "secret": {}, "redis": {"deletionPolicy": "Delete"}}),
        )
        .await;
    world.ready("config", "Synced").await;
    world.operator.terminate().await;
    world.edit_secret("config", json!({"stringData": {"A": "edited-by-hand"}})).await;
    let last = world.redis.cli(&["dbsize"]).await;
    world.redis.cli(&["config", "set", "maxmemory", "100mb"]).await;
    world.redis.cli(&["config", "set", "maxmemory-policy", "allkeys-lru"]).await;
    let ended = verify(&world, &[]).await;
    assert_eq!(ended.code, Some(3), "{}", ended.out);
    ended.says("FAIL", "no operator works: ");
    ended.says("FAIL", "Secret config was damaged, or edited by another hand: the MAC does not fit");
    ended.says("ok", "Redis pm:{");
    ended.says("FAIL", "waits for an operator that does not work");
    ended.says("WARN", "Redis evicts any key when its memory is full (allkeys-lru)");
    assert!(!ended.out.contains("edited-by-hand"), "{}", ended.out);
    assert_eq!(world.redis.cli(&["dbsize"]).await, last);

    world.redis.flush_all().await;
    world.delete_secret("config").await;
    let keys: Api<Secret> = Api::namespaced(world.client.clone(), &world.home);
    let ended = verify(&world, &[]).await;
    ended.says("FAIL", "Secret config is not there");
    ended.says("FAIL", "} is not there");
    keys.delete("parameter-mirror-keys", &DeleteParams::default()).await.unwrap();
    let ended = verify(&world, &[]).await;
    ended.says("FAIL", "with the operator's keys is not there. Is --namespace the operator's?");
}

/// Revokes one permission of the operator's user at a time: `verify` reports each, with its name in Redis.
#[tokio::test]
async fn every_right_that_the_operator_needs_is_missed() {
    let world = World::start().await;
    world.ssm.put("/app/a", "1");
    world.synced("config").await;
    let (before, scratch) = (world.content("config").await, Scratch::new("verify").unwrap());
    let url = scratch.path().join("url");
    std::fs::write(&url, world.redis.url().replace("redis://", "redis://verify:pw@")).unwrap();
    let verify = async || {
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_parameter-mirror"));
        command.arg("verify").env_clear().env("KUBECONFIG", world.cluster.kubeconfig());
        command
            .env("PARAMETER_MIRROR_NAMESPACE", &world.home)
            .env("PARAMETER_MIRROR_WATCH_NAMESPACES", &world.namespace);
        let lease = format!("--lease={}-parameter-mirror", world.home);
        let output =
            command.args([&lease, "--redis-url-file", url.to_str().unwrap()]).output().await.unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let rights = crate::redis_access::documented_permissions();
    let mut acl = vec!["acl", "setuser", "verify", "on", ">pw", "~pm:*", "-@all"];
    acl.extend(rights.iter().map(String::as_str));
    world.redis.cli(&acl).await;
    let output = verify().await;
    assert!(output.contains("ok    Redis answers, and this user may do all"), "{output}");
    assert!(output.contains("ok    the clock of Redis is not visible to this user (TIME)"), "{output}");
    // PING is answered in any case. A missing UNLINK is noticed only after the hash was created, which would
    // be left behind.
    for right in rights.iter().filter(|right| !["+ping", "+unlink"].contains(&right.as_str())) {
        let taken = right.replacen('+', "-", 1);
        world.redis.cli(&["acl", "setuser", "verify", &taken]).await;
        let output = verify().await;
        let missed =
            output.lines().any(|line| line.starts_with("FAIL") && line.contains("docs/guides/redis.md"));
        assert!(missed, "without {right}:\n{output}");
        world.redis.cli(&["acl", "setuser", "verify", right]).await;
    }
    assert_eq!(world.content("config").await, before);
}

/// Typical mistakes of a new user.
#[tokio::test]
async fn what_a_new_user_gets_wrong_is_said() {
    let world = World::start().await;
    world.ssm.put("/app/a", "1");
    world.mirror("typo", json!({"parameters": [{"path": "/app/chekout"}], "secret": {}})).await;
    world.mirror("elsewhere", json!({"parameters": [{"path": "/other"}], "secret": {}})).await;
    world
        .mirror(
            "sourceless",
            json!({"sourceRef": {"name": "nobodys"}, "parameters": [{"path": "/app"}], "secret": {}}),
        )
        .await;
    world.condition("typo", "Ready", "False", "NoParameters").await;
    world.condition("elsewhere", "Ready", "False", "NotGranted").await;
    world.degraded("sourceless", "SourceNotFound").await;
    let absent = format!("{}/absent", world.namespace);
    let names = ["typo", "elsewhere", "sourceless"].map(|name| format!("{}/{name}", world.namespace));
    let ended = verify(&world, &[&names[0], &names[1], &names[2], &absent]).await;
    assert_eq!(ended.code, Some(3));
    ended.says("FAIL", "holds nothing below /app/chekout");
    ended.says(
        "FAIL",
        &format!(
            "elsewhere: ParameterSource {} does not allow namespace {} to read",
            world.source, world.namespace
        ),
    );
    ended.says("FAIL", "sourceless: there is no ParameterSource nobodys");
    ended.says("FAIL", "absent: there is no such mirror");
    let ended = verify(&world, &["--redis-url", "redis://:hunter2@localhost"]).await;
    assert!(ended.code == Some(2) && ended.err.contains("visible in the process list"), "{}", ended.err);
    assert!(!ended.err.contains("hunter2"), "{}", ended.err);
    let nowhere = world.cluster.dir().join("nowhere.kubeconfig");
    let ended = verify_as(&world, &nowhere, &[]).await;
    assert!(
        ended.code == Some(1) && ended.err.contains("no cluster is configured"),
        "{:?} {}",
        ended.code,
        ended.err
    );
    // None of this has stopped the operator.
    assert!(world.operator.get("/livez").await.is_some_and(|(code, _)| code == 200));
}
