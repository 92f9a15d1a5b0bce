//! Someone with write access to Redis and no sub-key can make a reader stop, and nothing else.

use std::time::Duration;

use jiff::Timestamp;
use parameter_mirror_format::content::entry::ParameterType;
use parameter_mirror_format::crypto::keys::KeyRing;
use parameter_mirror_format::hash::EncryptionMode;

use axum::http::{Method, StatusCode};

use crate::serve::{send, serve};
use crate::world::{Ended, KEY, Set, World, has_said, set, usual};

#[track_caller]
fn refused(ended: &Ended, code: i32, says: &str) {
    assert_eq!((ended.code, ended.out.as_str()), (Some(code), ""), "{ended:?}");
    assert_eq!(ended.err.lines().count(), 1, "{ended:?}");
    assert!(ended.err.contains(says), "{says:?} is not in {:?}", ended.err);
}

const START: &str = "exec -- echo started";

#[tokio::test]
async fn a_hash_that_says_nothing_is_encrypted_is_refused_with_a_sub_key() {
    let world = World::usual().await;
    world.redis.cli(&["hset", KEY, "@enc", "none", "/app/db/password", "evil"]).await;
    for subcommand in [START, "get DB_HOST", "export --format json", "watch"] {
        refused(&world.reader(subcommand).run().await, 20, "/app/db/password is a SecureString");
    }
    // Also if the operator itself wrote it: it may be a restored old hash.
    world.publish(&Set { mode: EncryptionMode::None, ..usual() }).await;
    refused(&world.reader(START).run().await, 20, "Set spec.redis.encryption");
    // The person who starts the reader may accept it while a mirror is being switched.
    let switching = world.reader("get DB_PASSWORD --require-encryption None").run().await;
    assert_eq!(switching.good(), "hunter2\n");
    // A reader without a sub-key cannot verify it.
    let keyless = world.reader("get DB_PASSWORD").without("PARAMETER_MIRROR_SUB_KEYS").run().await;
    assert_eq!(keyless.good(), "hunter2\n");
    let demanding = world.reader("get DB_PASSWORD --require-encryption SecureStrings");
    refused(&demanding.without("PARAMETER_MIRROR_SUB_KEYS").run().await, 20, "@enc is None");
}

#[tokio::test]
async fn a_secret_that_becomes_a_string_is_refused_with_a_sub_key() {
    let world = World::usual().await;
    let params = world.redis.cli(&["hget", KEY, "@params"]).await;
    let params = params.trim().replace("SecureString", "String");
    world.redis.cli(&["hset", KEY, "@params", &params, "/app/db/password", "evil"]).await;
    // Control: a reader that does not verify the MAC accepts it.
    let keyless = world.reader("get DB_PASSWORD").without("PARAMETER_MIRROR_SUB_KEYS").run().await;
    assert_eq!(keyless.good(), "evil\n");
    refused(&world.reader(START).run().await, 13, "the MAC for readers does not fit");
}

#[tokio::test]
async fn whatever_else_is_changed_is_noticed_with_a_sub_key() {
    let world = World::usual().await;
    let params = world.redis.cli(&["hget", KEY, "@params"]).await;
    let path = params.trim().replace("DB_HOST", "HOST_OF_DB");
    let source = world.redis.cli(&["hget", KEY, "@source"]).await.trim().replace("/app", "/");
    for (field, text, says) in [
        ("/app/db/host", "evil.example", "the MAC for readers"),
        ("@params", &*path, "the MAC for readers"),
        ("@source", &*source, "the MAC for readers"),
        ("@readAt", "9999999999999", "the MAC for readers"),
        ("@revision", "000000000000", "the MAC for readers"),
        ("@mac", "pm1:k1:AAAA", "the MAC for readers"),
        ("@readerMac", "pm1:k1:AAAA", "the MAC for readers"),
        ("@readerMac", "", "the MAC for readers"),
        ("@format", "0", "@format is not readable"),
        ("@format", "", "@format is not readable"),
    ] {
        world.redis.cli(&["hset", KEY, field, text]).await;
        refused(&world.reader(START).run().await, 13, says);
        world.publish(&usual()).await;
        world.reader(START).run().await.good();
    }
    world.redis.cli(&["hdel", KEY, "@readerMac"]).await;
    refused(&world.reader(START).run().await, 13, "@readerMac is missing");
}

/// An attacker's complete hash, in which only the key is wrong.
#[tokio::test]
async fn a_hash_of_somebody_elses_is_refused_with_a_sub_key() {
    let mut world = World::usual().await;
    let sub_key = world.sub_key(KEY);
    world.keys = KeyRing::generate("k1".parse().unwrap()).unwrap();
    let strings = set(&[
        ("/app/db/host", ParameterType::String, "evil"),
        ("/app/db/password", ParameterType::String, "x"),
    ]);
    for mode in [EncryptionMode::None, EncryptionMode::SecureStrings] {
        world.publish(&Set { mode, ..strings.clone() }).await;
        let ours = world.reader(START).with("PARAMETER_MIRROR_SUB_KEYS", &sub_key).run().await;
        refused(&ours, 13, "the MAC for readers does not fit");
    }
}

#[tokio::test]
async fn all_can_be_demanded() {
    let world = World::usual().await;
    let demanded = "get DB_HOST --require-encryption=All";
    refused(&world.reader(demanded).run().await, 20, "/app/db/host is a String that is not encrypted");
    let reader = world.reader("get DB_HOST").with("PARAMETER_MIRROR_REQUIRE_ENCRYPTION", "All");
    refused(&reader.run().await, 20, "@enc is SecureStrings");
    world.publish(&Set { mode: EncryptionMode::All, ..usual() }).await;
    assert_eq!(world.reader(demanded).run().await.good(), "db.internal\n");
    let wrong = world.reader("get DB_HOST --require-encryption some").run().await;
    assert_eq!(wrong.code, Some(2), "{wrong:?}");
}

#[tokio::test]
async fn sub_keys_that_are_given_and_are_none_are_no_permission() {
    let world = World::usual().await;
    let file = world.redis.process().dir().join("no-sub-keys");
    std::fs::write(&file, "\n").unwrap();
    let reader = world.reader("get DB_HOST --sub-key-file").and(file.to_str().unwrap());
    refused(&reader.run().await, 2, "holds none");
}

/// The age decides whether the reader asks SSM, and whether a drill fails. Write access to Redis must not be
/// enough to keep an old set fresh.
#[tokio::test]
async fn a_time_that_somebody_else_wrote_does_not_make_a_set_young() {
    let world = World::start().await;
    let old = set(&[("/app/db/host", ParameterType::String, "db.internal")]);
    let old = Set { age: Duration::from_hours(2), ..old };
    world.publish(&old).await;
    let now = Timestamp::now().as_millisecond();
    for forged in [now, now + 86_400_000 * 365] {
        world.redis.cli(&["hset", KEY, "@checkedAt", &forged.to_string()]).await;
        let read = world.reader("get DB_HOST --source mirror --max-stale 1h").run().await;
        refused(&read, 15, "read 2 h ago");
    }
    // Without a sub-key, a plausible time is accepted.
    let keyless = world.reader("get DB_HOST --source mirror --max-stale 1h");
    refused(&keyless.without("PARAMETER_MIRROR_SUB_KEYS").run().await, 15, "read 2 h ago");
    let verify = world.reader("verify").without("PARAMETER_MIRROR_SUB_KEYS").run().await;
    let line = verify.out.lines().find(|line| line.contains("later than now"));
    assert!(line.is_some_and(|line| line.starts_with("WARN")), "{verify:?}");
}

/// An old set of the operator is still authentic. A reader that holds a newer set does not go back.
#[tokio::test]
async fn a_set_that_was_put_back_does_not_replace_a_newer_one_that_is_held() {
    let world = World::start().await;
    let with = |host: &'static str, age| {
        let mut set = Set { age, ..usual() };
        set.entries.get_mut("/app/db/host").unwrap().value = host.into();
        set
    };
    world.publish(&with("new.internal", Duration::ZERO)).await;
    let served = serve(&world, &[]).await;
    let value = async || {
        let target = [("x-amz-target", "AmazonSSM.GetParameter")];
        let (status, body) =
            send(Method::POST, &served.endpoint, &target, r#"{"Name": "/app/db/host"}"#).await;
        assert_eq!(status, StatusCode::OK, "{body}");
        let body: serde_json::Value = serde_json::from_str(&body).unwrap();
        body["Parameter"]["Value"].as_str().unwrap().to_owned()
    };
    assert_eq!(value().await, "new.internal");
    world.publish(&with("old.internal", Duration::from_hours(1))).await;
    has_said(&served.process, "somebody put the old set back").await;
    assert_eq!(value().await, "new.internal");
    world.publish(&with("newer.internal", Duration::ZERO)).await;
    parameter_mirror_test_support::eventually("the newer one is served", crate::world::SOON, async || {
        let value = value().await;
        if value == "newer.internal" { Ok(()) } else { Err(value) }
    })
    .await;
}
