//! `verify`: what it reports to a drill or a pipeline.

use std::time::Duration;

use parameter_mirror_format::hash::EncryptionMode;

use crate::recipes::block;
use crate::world::{KEY, Set, World, usual};

/// Returns the URL and the password of a user with the permissions that docs/reference/reader.md recommends.
async fn as_reader(world: &World) -> [String; 2] {
    let command = block("rights");
    let words: Vec<&str> = command.split_whitespace().collect();
    let password = words.iter().find_map(|word| word.strip_prefix('>')).unwrap();
    world.redis.cli(&words).await;
    [world.redis.url().replace("redis://", &format!("redis://{}@", words[2])), password.to_owned()]
}

#[tokio::test]
async fn a_reader_with_the_documented_rights_finds_nothing_to_complain_of() {
    let world = World::usual().await;
    let [url, password] = as_reader(&world).await;
    let run = async |arguments| {
        let reader = world.reader(arguments).with("PARAMETER_MIRROR_REDIS_URL", &url);
        reader.with("PARAMETER_MIRROR_REDIS_PASSWORD", &password).run().await
    };
    let report = run("verify").await.good();
    for line in [
        "ok    shop/checkout: 2 parameters, revision ",
        "ok    shop/checkout: 1 values are encrypted with k1, and the sub-key opens them",
        "ok    shop/checkout: this user may read, and not write",
        "ok    2 variables for exec and export",
        "ok    the eviction policy is not visible to this user (INFO)",
    ] {
        assert!(report.contains(line), "{line:?} is not in\n{report}");
    }
    // These permissions suffice for all other commands that read, too.
    assert_eq!(run("get DB_HOST").await.good(), "db.internal\n");
    let other = run("get DB_HOST --mirror shop/search").await;
    assert!(other.code == Some(14) && other.err.contains("may not use this key"), "{other:?}");
    for refused in [
        &["hset", KEY, "/x", "y"][..],
        &["unlink", KEY],
        &["hgetall", "pm:{shop/search}"],
        &["evalsha", "0", "1", KEY],
        &["keys", "*"],
        &["config", "get", "*"],
    ] {
        let may = world.redis.cli(&[&["acl", "dryrun", "checkout"], refused].concat()).await;
        assert_ne!(may, "OK", "{refused:?}");
    }
}

#[tokio::test]
async fn what_needs_attention_is_reported_with_a_code() {
    let world = World::start().await;
    world.publish(&Set { mode: EncryptionMode::None, age: Duration::from_hours(1), ..usual() }).await;
    world.redis.cli(&["config", "set", "maxmemory", "100mb"]).await;
    world.redis.cli(&["config", "set", "maxmemory-policy", "allkeys-lru"]).await;
    let before = world.redis.cli(&["hlen", KEY]).await;
    let refused = world.reader("verify").run().await;
    let expected = "FAIL  shop/checkout: /app/db/password is a SecureString that is not encrypted";
    assert!(refused.code == Some(3) && refused.out.contains(expected), "with a sub-key: {refused:?}");
    let ended = world.reader("verify").without("PARAMETER_MIRROR_SUB_KEYS").run().await;
    assert_eq!(ended.code, Some(4), "{ended:?}");
    for line in [
        "read 1 h ago: SSM cannot be read",
        "1 SecureStrings lie in Redis unencrypted",
        "this user may write",
        "Redis evicts any key when its memory is full (allkeys-lru)",
    ] {
        let found = ended.out.lines().find(|text| text.contains(line));
        assert!(found.is_some_and(|text| text.starts_with("WARN")), "{line:?}: {}", ended.out);
    }
    assert_eq!(world.redis.cli(&["hlen", KEY]).await, before, "looking for rights changed the mirror");
    world.redis.flush_all().await;
    let ended = world.reader("verify").run().await;
    assert!(ended.code == Some(3) && ended.out.contains("no such mirror"), "{ended:?}");
}
