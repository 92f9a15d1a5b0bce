//! How the operator gets into Redis: TLS with a private authority, ACL users with exactly the documented rights, and
//! passwords that rotate.

use std::fs;

use parameter_mirror_test_support::{Redis, Scratch};
use serde_json::json;

use crate::world::{Setup, World, root};

/// The commands that docs/operations.md says are needed, in the words of an ACL.
pub fn documented_rights() -> Vec<String> {
    let text = fs::read_to_string(root().join("docs/operations.md")).unwrap();
    let (_, rest) = text.split_once("<!-- rights -->").unwrap();
    let line = rest.trim_start().lines().next().unwrap();
    line.split('`')
        .skip(1)
        .step_by(2)
        .map(|command| format!("+{}", command.to_lowercase().replace(' ', "|")))
        .collect()
}

#[tokio::test]
async fn a_user_with_the_documented_rights_suffices_and_a_rotated_password_needs_no_restart() {
    let (redis, scratch) = (Redis::start().await, Scratch::new("password").unwrap());
    let rights = documented_rights();
    let user = async |change: &[&str]| {
        let mut acl = vec!["acl", "setuser", "mirror"];
        acl.extend(change);
        redis.cli(&acl).await;
    };
    user(&["on", ">first", "~pm:*", "-@all"]).await;
    user(&rights.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let password = scratch.path().join("password");
    fs::write(&password, "first\n").unwrap();
    let file = format!("--redis-password-file={}", password.display());
    let arguments = vec![file, "--redis-username=mirror".to_owned()];
    let world = World::with(Setup { redis: Some(redis), arguments, ..Setup::default() }).await;
    let user = async |change: &[&str]| {
        let mut acl = vec!["acl", "setuser", "mirror"];
        acl.extend(change);
        world.redis.cli(&acl).await;
    };
    world.ssm.put("/app/a", "1");
    world.synced("config").await;
    world.sync("config").await;
    world.redis.cli(&["hset", &world.key("config"), "/app/a", "hacked"]).await;
    world.sync("config").await;
    world.field_is("config", "/app/a", "1").await;

    // A right is taken away, and given back.
    user(&["-hgetall"]).await;
    world.sync("config").await;
    let degraded = world.degraded("config", "RedisDenied").await;
    assert!(degraded.message.contains("ACL user"), "{}", degraded.message);
    user(&["+hgetall"]).await;
    world.sync("config").await;
    world.healthy("config").await;

    // The password rotates: connections end, and the file has the new one a moment later.
    user(&["resetpass", ">second"]).await;
    world.redis.cli(&["client", "kill", "type", "normal", "skipme", "yes"]).await;
    world.sync("config").await;
    world.degraded("config", "RedisDenied").await;
    world.ready("config", "Synced").await;
    fs::write(&password, "second\n").unwrap();
    world.sync("config").await;
    world.healthy("config").await;
    assert!(!world.operator.log().contains("second"), "the password was logged");
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

/// A Redis that asks for certificates too, all of which are replaced while the operator runs: one that Redis does not accept in between,
/// and one of Redis that is somebody else's.
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

/// A file that does not exist yet is a condition, not a crash.
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
