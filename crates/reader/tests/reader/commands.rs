//! `exec`, `get`, `export` and `watch` without failures.

use std::collections::BTreeMap;
use std::time::Duration;

use parameter_mirror_format::content::entry::ParameterType;
use parameter_mirror_format::hash::EncryptionMode;
use parameter_mirror_test_support::{MirrorHash, Redis, RedisCluster, eventually};

use crate::world::{KEY, MIRROR, Reader, SOON, Set, World, has_said, set, usual};

/// Every character with a meaning to a shell, a parser or a person.
const AWKWARD: &str = "it's \"$HOME\" `id` \\ # = ü 日本 ' \n\ttwo lines  ";

#[tokio::test]
async fn exec_gives_a_program_the_parameters_and_its_place() {
    let world = World::start().await;
    world.publish(&Set { age: Duration::from_hours(2), ..usual() }).await;
    let script =
        "echo host=$DB_HOST; echo password=$DB_PASSWORD; echo key=$PARAMETER_MIRROR_SUB_KEYS; exit 7";
    let ended = world.reader("exec -- sh -c").and(script).run().await;
    assert_eq!((ended.code, ended.out.as_str()), (Some(7), "host=db.internal\npassword=hunter2\nkey=\n"));
    assert_eq!(
        ended.err, "parameter-mirror-reader: 2 parameters from the mirror shop/checkout, read 2 h ago\n",
        "one line, with source and age"
    );
}

#[tokio::test]
async fn the_program_has_the_process_id_and_gets_the_signals() {
    let world = World::usual().await;
    let script = "trap 'echo ended in order; exit 3' TERM; echo \"I am $$\"; while :; do sleep 0.05; done";
    let mut command = std::process::Command::new(crate::world::program());
    command.args(["exec", "--", "sh", "-c", script]).envs(world.settings());
    let process = world.start_program(&command, "I am").await;
    has_said(&process, &format!("I am {}", process.pid())).await;
    let status = process.terminate(crate::world::SOON).await;
    assert_eq!(status.code(), Some(3), "{}", process.log());
}

#[tokio::test]
async fn variables_that_are_set_already_stay_only_if_asked() {
    let world = World::usual().await;
    let run = async |arguments| {
        world.reader(arguments).and("echo $DB_HOST").with("DB_HOST", "localhost").run().await.good()
    };
    assert_eq!(run("exec -- sh -c").await, "db.internal\n");
    assert_eq!(run("exec --keep-existing -- sh -c").await, "localhost\n");
}

#[tokio::test]
async fn get_prints_one_value_by_either_name() {
    let world = World::usual().await;
    assert_eq!(world.reader("get DB_PASSWORD").run().await.good(), "hunter2\n");
    assert_eq!(world.reader("get /app/db/password -n").run().await.good(), "hunter2");
}

#[tokio::test]
async fn every_format_carries_every_value() {
    let world = World::start().await;
    world.publish(&set(&[("/app/awkward", ParameterType::String, AWKWARD)])).await;
    let export = async |format: &str| world.reader("export --format").and(format).run().await.good();

    let script = format!("{}\nprintf %s \"$AWKWARD\"", export("shell").await);
    let shell = tokio::process::Command::new("sh").args(["-c", &script]).output().await.unwrap();
    assert_eq!(String::from_utf8(shell.stdout).unwrap(), AWKWARD);

    let expected = BTreeMap::from([("AWKWARD".to_owned(), AWKWARD.to_owned())]);
    let json: BTreeMap<String, String> = serde_json::from_str(&export("json").await).unwrap();
    assert_eq!(json, expected);
    let yaml: BTreeMap<String, String> = serde_yaml::from_str(&export("yaml").await).unwrap();
    assert_eq!(yaml, expected);
    for format in ["dotenv", "docker"] {
        let ended = world.reader("export --format").and(format).run().await;
        assert_eq!((ended.code, ended.out.as_str()), (Some(16), ""), "{ended:?}");
        assert!(ended.err.contains("this format cannot carry AWKWARD ("), "{ended:?}");
    }
    let lines = AWKWARD.replace('\'', "");
    world.publish(&set(&[("/app/awkward", ParameterType::String, &lines)])).await;
    let dotenv = export("dotenv").await;
    let read: BTreeMap<String, String> =
        dotenvy::from_read_iter(dotenv.as_bytes()).collect::<Result<_, _>>().unwrap();
    assert_eq!(read, BTreeMap::from([("AWKWARD".to_owned(), lines)]), "{dotenv}");
}

#[tokio::test]
async fn several_mirrors_with_keys_of_their_own_make_one_environment() {
    let world = World::usual().await;
    let shared =
        Set { name: "shop/shared", ..set(&[("/app/stripe", ParameterType::SecureString, "sk_live")]) };
    world.publish(&Set { mode: EncryptionMode::All, ..shared }).await;
    let both = format!("{},{}", world.sub_key("pm:{shop/checkout}"), world.sub_key("pm:{shop/shared}"));
    let reader = world.reader("export --mirror shop/checkout --mirror shop/shared --format json");
    let out = reader.with("PARAMETER_MIRROR_SUB_KEYS", &both).run().await.good();
    let json: BTreeMap<String, String> = serde_json::from_str(&out).unwrap();
    assert_eq!(
        json.into_iter().collect::<Vec<_>>(),
        [
            ("DB_HOST".to_owned(), "db.internal".to_owned()),
            ("DB_PASSWORD".to_owned(), "hunter2".to_owned()),
            ("STRIPE".to_owned(), "sk_live".to_owned()),
        ]
    );
}

#[tokio::test]
async fn watch_reports_each_change_and_runs_a_program_with_it() {
    let world = World::usual().await;
    let watching = world.start_reader("watch --refresh 50ms", &[], "shop/checkout revision").await;
    let script = "echo \"host is $DB_HOST\"";
    let mut command = std::process::Command::new(crate::world::program());
    command.args(["watch", "--refresh", "50ms", "--", "sh", "-c", script]).envs(world.settings());
    let hook = world.start_program(&command, "host is db.internal").await;

    let mut changed = usual();
    changed.entries.get_mut("/app/db/host").unwrap().value = "db2.internal".into();
    changed.entries.get_mut("/app/db/host").unwrap().version = 2;
    world.publish(&changed).await;
    has_said(&hook, "host is db2.internal").await;
    eventually("the change is reported", SOON, async || {
        if watching.log().matches("revision").count() == 2 { Ok(()) } else { Err(watching.log()) }
    })
    .await;
    // Redis may come and go: the failure is reported once, and the reader continues.
    world.redis.freeze();
    has_said(&watching, "Redis did not answer in time").await;
    world.redis.thaw();
    assert_eq!(watching.log().matches("shop/checkout revision").count(), 2, "{}", watching.log());
}

#[tokio::test]
async fn redis_is_reached_with_a_password_and_over_tls() {
    let world = World::on(Redis::with_password("letmein").await);
    world.publish(&usual()).await;
    let url = world.redis.url().replace(":letmein@", "");
    let reader = world.reader("get DB_HOST").with("PARAMETER_MIRROR_REDIS_URL", &url);
    assert_eq!(reader.with("PARAMETER_MIRROR_REDIS_PASSWORD", "letmein").run().await.good(), "db.internal\n");

    let world = World::on(Redis::with_tls().await);
    world.publish(&usual()).await;
    let ca = world.redis.ca().unwrap().to_str().unwrap().to_owned();
    assert_eq!(world.reader("get DB_HOST --redis-ca-file").and(&ca).run().await.good(), "db.internal\n");
}

#[tokio::test]
async fn a_cluster_is_read_through_any_of_its_nodes() {
    let cluster = RedisCluster::start(3).await;
    let hash = MirrorHash::of(MIRROR, "/app", usual().entries, EncryptionMode::SecureStrings);
    hash.write(&cluster.nodes[cluster.home_of(KEY).await]).await;
    for node in &cluster.nodes {
        let reader = Reader::new(["get", "DB_PASSWORD", "--mirror", MIRROR, "--redis-url", &node.url()]);
        assert_eq!(reader.with("PARAMETER_MIRROR_SUB_KEYS", &hash.sub_key).run().await.good(), "hunter2\n");
    }
}
