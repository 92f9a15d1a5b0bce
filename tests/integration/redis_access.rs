//! Access to Redis: TLS with a private authority, ACL users with exactly the documented permissions, and
//! rotated passwords.

use std::fs;
use std::path::Path;

use parameter_mirror_test_support::{Canaries, Redis, Scratch};
use serde_json::json;

use crate::silence;
use crate::world::{Setup, World, root};

/// Returns the commands that docs/guides/redis.md lists as necessary, as ACL rules.
pub fn documented_permissions() -> Vec<String> {
    let text = fs::read_to_string(root().join("docs/guides/redis.md")).unwrap();
    let (_, rest) = text.split_once("<!-- rights -->").unwrap();
    let (paragraph, _) = rest.trim_start().split_once("\n\n").unwrap();
    paragraph
        .split('`')
        .skip(1)
        .step_by(2)
        .map(|command| format!("+{}", command.to_lowercase().replace([' ', '\n'], "|")))
        .collect()
}

/// Returns the arguments of the command in docs/guides/redis.md that creates the operator's user.
fn documented_user() -> Vec<String> {
    let text = fs::read_to_string(root().join("docs/guides/redis.md")).unwrap();
    let (_, rest) = text.split_once("ACL SETUSER parameter-mirror ").unwrap();
    let words = rest.split_once("```").unwrap().0.replace("\\\n", " ");
    let words = words.split_whitespace().map(|word| word.trim_matches('\'').to_owned());
    ["acl", "setuser", "parameter-mirror"].map(str::to_owned).into_iter().chain(words).collect()
}

/// A Redis with that user, and the operator's arguments to sign in with the password of the page, from a
/// file.
async fn with_documented_user(password: &Path) -> (Redis, Vec<String>) {
    let redis = Redis::start().await;
    let words = documented_user();
    redis.cli(&words.iter().map(String::as_str).collect::<Vec<_>>()).await;
    fs::write(password, "PASSWORD\n").unwrap();
    let file = format!("--redis-password-file={}", password.display());
    (redis, vec![file, "--redis-username=parameter-mirror".to_owned(), "--log=trace".to_owned()])
}

/// Changes that user.
async fn user(redis: &Redis, change: &[&str]) {
    redis.cli(&[&["acl", "setuser", "parameter-mirror"], change].concat()).await;
}

#[tokio::test]
async fn a_user_with_the_documented_permissions_suffices_and_may_nothing_else() {
    let mut permissions: Vec<String> =
        documented_user().into_iter().filter(|word| word.starts_with('+')).collect();
    let mut listed = documented_permissions();
    listed.push("+info".to_owned());
    permissions.sort();
    listed.sort();
    assert_eq!(permissions, listed, "the command and the list of docs/guides/redis.md disagree");

    let scratch = Scratch::new("password").unwrap();
    let (redis, arguments) = with_documented_user(&scratch.path().join("password")).await;
    let may = async |command: &[&str]| {
        redis.cli(&[&["acl", "dryrun", "parameter-mirror"], command].concat()).await == "OK"
    };
    assert!(may(&["hgetall", "pm:{shop/checkout}"]).await);
    for refused in [
        &["hgetall", "other:{shop/checkout}"][..],
        &["hset", "pm", "a", "b"],
        &["unlink", "session:1"],
        &["rename", "pm:{shop/checkout}", "elsewhere"],
        &["get", "pm:{shop/checkout}"],
        &["keys", "*"],
        &["scan", "0"],
        &["flushall"],
        &["config", "get", "*"],
        &["acl", "list"],
        &["monitor"],
        &["publish", "c", "m"],
        &["eval", "return 1", "0"],
    ] {
        assert!(!may(refused).await, "{refused:?}");
    }

    let world = World::with(Setup { redis: Some(redis), arguments, ..Setup::default() }).await;
    world.ssm.put("/app/a", "1");
    world.synced("config").await;
    world.sync("config").await;
    world.redis.cli(&["hset", &world.key("config"), "/app/a", "hacked"]).await;
    world.sync("config").await;
    world.field_is("config", "/app/a", "1").await;

    // A permission is revoked and granted again.
    user(&world.redis, &["-hgetall"]).await;
    world.sync("config").await;
    let degraded = world.degraded("config", "RedisDenied").await;
    assert!(degraded.message.contains("may not run HGETALL"), "{}", degraded.message);
    assert!(degraded.message.contains("ACL user"), "{}", degraded.message);
    user(&world.redis, &["+hgetall"]).await;
    world.sync("config").await;
    world.healthy("config").await;
}

/// Redis has a new password. The file has first the old one, then a wrong one, then the right one.
#[tokio::test]
async fn a_rotated_password_needs_no_restart_and_a_wrong_one_in_between_costs_nothing() {
    let (scratch, passwords) = (Scratch::new("password").unwrap(), Canaries::default());
    let file = scratch.path().join("password");
    let (redis, arguments) = with_documented_user(&file).await;
    let first = passwords.sealed_marker();
    user(&redis, &["resetpass", &format!(">{first}")]).await;
    fs::write(&file, format!("{first}\n")).unwrap();
    let world = World::with(Setup { redis: Some(redis), arguments, ..Setup::default() }).await;
    world.ssm.put_secure("/app/a", "1");
    world.synced("config").await;
    let (before, process) = (world.content("config").await, world.operator.process().pid());

    let second = format!("{first}-2");
    user(&world.redis, &["resetpass", &format!(">{second}")]).await;
    world.redis.cli(&["client", "kill", "type", "normal", "skipme", "yes"]).await;
    for (value, wrong) in [("2", first.to_owned()), ("3", format!("{first}-wrong"))] {
        fs::write(&file, &wrong).unwrap();
        world.ssm.put_secure("/app/a", value);
        world.sync("config").await;
        world.holds("config", &[("A", value)]).await;
        let degraded = world.degraded("config", "RedisDenied").await;
        assert!(degraded.message.contains("refused the user or password"), "{}", degraded.message);
        world.ready("config", "Synced").await;
        assert_eq!(world.content("config").await, before, "what Redis serves has changed");
    }
    fs::write(&file, format!("{second}\n")).unwrap();
    world.healthy("config").await;
    assert_eq!(world.values("config").await["/app/a"], "3");
    assert!(world.operator.process().exited().is_none() && world.operator.process().pid() == process);
    silence::says_nothing_of(&world, &[&passwords]).await;
}

/// Redis requires a password and the operator has none: the condition says so, and the Secret is written.
#[tokio::test]
async fn a_missing_password_is_reported() {
    let redis = Redis::with_password("PASSWORD").await;
    let without_password = format!("redis://{}", redis.address());
    let setup = Setup { redis: Some(redis), redis_url: Some(without_password), ..Setup::default() };
    let world = World::with(setup).await;
    world.ssm.put("/app/a", "1");
    world.mirror("config", json!({"parameters": [{"path": "/app"}], "secret": {}, "redis": {}})).await;
    let degraded = world.degraded("config", "RedisDenied").await;
    assert!(degraded.message.contains("refused the user or password"), "{}", degraded.message);
    world.holds("config", &[("A", "1")]).await;
    assert!(world.redis.hash(&world.key("config")).await.is_empty());
}

#[tokio::test]
async fn tls_trusts_the_authority_that_it_is_given() {
    let redis = Redis::with_tls().await;
    let ca = format!("--redis-ca-file={}", redis.ca().unwrap().display());
    let world = World::with(Setup { redis: Some(redis), arguments: vec![ca], ..Setup::default() }).await;
    world.ssm.put("/app/a", "1");
    world.synced("config").await;
    world.field_is("config", "/app/a", "1").await;
}

#[tokio::test]
async fn tls_refuses_an_authority_that_nobody_vouches_for() {
    let world = World::with(Setup { redis: Some(Redis::with_tls().await), ..Setup::default() }).await;
    world.ssm.put("/app/a", "1");
    world.mirror("config", json!({"parameters": [{"path": "/app"}], "secret": {}, "redis": {}})).await;
    world.degraded("config", "RedisUnavailable").await;
    world.holds("config", &[("A", "1")]).await;
    assert!(world.redis.hash(&world.key("config")).await.is_empty());
}

/// A Redis that requires client certificates. All certificates are replaced while the operator runs,
/// including a client certificate that Redis does not accept, and a server certificate of another authority.
#[tokio::test]
async fn certificates_of_both_sides_are_checked_and_rotate_without_a_restart() {
    let (redis, stranger) = tokio::join!(Redis::with_tls(), Redis::with_tls());
    redis.cli(&["config", "set", "tls-auth-clients", "yes"]).await;
    let scratch = Scratch::new("certificates").unwrap();
    let file = |name: &str| scratch.path().join(name);
    let hand_out = |[certificate, key]: &[std::path::PathBuf; 2]| {
        fs::copy(certificate, file("tls.crt")).unwrap();
        fs::copy(key, file("tls.key")).unwrap();
    };
    hand_out(&redis.certificate("operator", "DNS:operator").await);
    let arguments = vec![
        format!("--redis-ca-file={}", redis.ca().unwrap().display()),
        format!("--redis-cert-file={}", file("tls.crt").display()),
        format!("--redis-key-file={}", file("tls.key").display()),
    ];
    let world = World::with(Setup { redis: Some(redis), arguments, ..Setup::default() }).await;
    world.ssm.put("/app/a", "1");
    world.synced("config").await;
    let reconnect = async || {
        world.redis.cli(&["client", "kill", "type", "normal", "skipme", "yes"]).await;
        world.sync("config").await;
    };

    hand_out(&stranger.certificate("operator", "DNS:operator").await);
    reconnect().await;
    world.degraded("config", "RedisUnavailable").await;
    hand_out(&world.redis.certificate("operator-2", "DNS:operator").await);
    world.healthy("config").await;

    world.redis.present(&world.redis.certificate("elsewhere", "DNS:elsewhere.example").await).await;
    reconnect().await;
    world.degraded("config", "RedisUnavailable").await;
    world.ready("config", "Synced").await;
    let renewed = world.redis.certificate("redis-2", "IP:127.0.0.1").await;
    world.redis.present(&renewed).await;
    world.healthy("config").await;
}

/// A missing file is a condition, not a crash.
#[tokio::test]
async fn a_redis_that_is_configured_wrongly_is_a_condition() {
    let arguments = vec!["--redis-password-file=/does/not/exist".to_owned()];
    let world = World::with(Setup { arguments, ..Setup::default() }).await;
    world.ssm.put("/app/a", "1");
    world.mirror("config", json!({"parameters": [{"path": "/app"}], "secret": {}, "redis": {}})).await;
    let ready = world.condition("config", "Ready", "False", "RedisNotConfigured").await;
    assert!(ready.message.contains("password"), "{}", ready.message);
    world.holds("config", &[("A", "1")]).await;
}
