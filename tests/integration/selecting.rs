//! Selections and their results: types, pages, levels, versions, labels, and every way to select.

use parameter_mirror_test_support::ssm::Operation;
use serde_json::json;

use crate::world::{SOON, World, eventually};

/// Several pages (SSM returns ten at a time), several levels, all three types, and values that break naive
/// code.
#[tokio::test]
async fn a_tree_of_several_pages_and_levels_arrives_byte_for_byte_in_both_targets() {
    let world = World::start().await;
    let long = "x".repeat(8 * 1024);
    let values = [
        ("/app/eight-kilobytes", long.as_str()),
        ("/app/multi/line", "first\nsecond\r\n\n  third\n"),
        ("/app/utf-8", "Grüße, 東京 \u{1f980}"),
        ("/app/yaml", "- {a: *b}\n--- !!binary |\nno: yes # not a comment"),
        ("/app/number", "007"),
        ("/app/boolean", "NO"),
        ("/app/space", "  \t "),
        ("/app/quotes", r#"{"a": "\u0000\\"}"#),
    ];
    for (name, value) in values {
        world.ssm.put(name, value);
        world.ssm.put_secure(&format!("{name}-secret"), value);
    }
    world.ssm.put_list("/app/a/b/c/list", "one,two,,three");
    for n in 0..15 {
        world.ssm.put(&format!("/app/many/n{n:02}"), &n.to_string());
    }
    world.synced("config").await;

    let data = world.data("config").await.unwrap();
    let hash = world.values("config").await;
    assert_eq!((data.len(), hash.len()), (32, 32));
    for (name, value) in values {
        let secret = format!("{name}-secret");
        let key = |name: &str| name.trim_start_matches("/app/").to_uppercase().replace(['/', '-'], "_");
        for name in [name, secret.as_str()] {
            assert_eq!(data[&key(name)], value, "{name} in the Secret");
            assert_eq!(hash[name], value, "{name} in Redis");
        }
    }
    assert_eq!(data["A_B_C_LIST"], "one,two,,three");
    assert_eq!(data["MANY_N14"], "14");
    let status = world.status("config").await;
    assert_eq!(status.parameter_count, Some(32));
    // A listing of four pages with decryption, and one without: nothing changed in between.
    let calls = world.ssm.calls();
    assert_eq!((calls.of(Operation::GetParametersByPath), calls.total(), calls.decrypts), (8, 8, 8));
}

#[tokio::test]
async fn one_level_exclusions_names_and_selectors_choose_what_is_mirrored() {
    let world = World::start().await;
    for name in ["/app/top", "/app/deep/er", "/app/legacy/x", "/app/tmp/x/y", "/app/tmp/z", "/app/tmpfile"] {
        world.ssm.put(name, "v1");
    }
    world.mirror("level", json!({"parameters": [{"path": "/app", "recursive": false}], "secret": {}})).await;
    world.holds("level", &[("TOP", "v1"), ("TMPFILE", "v1")]).await;

    let exclude = json!({"parameters": [{"path": "/app", "exclude": ["legacy", "tmp/x"]}], "secret": {}});
    world.mirror("exclude", exclude).await;
    world.holds("exclude", &[("TOP", "v1"), ("DEEP_ER", "v1"), ("TMP_Z", "v1"), ("TMPFILE", "v1")]).await;

    world.ssm.put("/app/top", "v2");
    world.ssm.label("/app/top", 1, "live");
    let names = json!({
        "parameters": [
            {"name": "/app/top:1", "key": "FIRST"},
            {"name": "/app/top:live", "key": "LIVE"},
            {"name": "/app/top"},
            {"name": "/app/absent", "optional": true},
        ],
        "secret": {}, "redis": {},
    });
    world.mirror("names", names).await;
    world.holds("names", &[("FIRST", "v1"), ("LIVE", "v1"), ("TOP", "v2")]).await;
    world.field_is("names", "/app/top:live", "v1").await;

    world.ssm.label("/app/top", 2, "live");
    world.sync("names").await;
    world.holds("names", &[("FIRST", "v1"), ("LIVE", "v2"), ("TOP", "v2")]).await;
    // Moving a label back is the usual way to roll back, so an older version is accepted here.
    world.ssm.label("/app/top", 1, "live");
    world.sync("names").await;
    world.holds("names", &[("FIRST", "v1"), ("LIVE", "v1"), ("TOP", "v2")]).await;
    world.field_is("names", "/app/top:live", "v1").await;

    world.ssm.put("/app/absent", "here now");
    world.sync("names").await;
    world.holds("names", &[("FIRST", "v1"), ("LIVE", "v1"), ("TOP", "v2"), ("ABSENT", "here now")]).await;
    world.ssm.delete("/app/absent");
    world.sync("names").await;
    world.holds("names", &[("FIRST", "v1"), ("LIVE", "v1"), ("TOP", "v2")]).await;
}

#[tokio::test]
async fn keys_follow_their_format_and_the_most_specific_selection_wins() {
    let world = World::start().await;
    world.ssm.put("/app/db/Host-name.1", "h");
    world.ssm.put("/app/db/deep/port", "p");
    let with = |format: &str| json!({"parameters": [{"path": "/app"}], "secret": {"keyFormat": format}});
    world.mirror("envvar", with("EnvVar")).await;
    world.mirror("dotted", with("Dotted")).await;
    world.mirror("basename", with("Basename")).await;
    let specific = json!({
        "parameters": [
            {"path": "/app"},
            {"path": "/app/db/deep"},
            {"name": "/app/db/Host-name.1", "key": "chosen.key"},
        ],
        "secret": {},
    });
    world.mirror("specific", specific).await;
    world.holds("envvar", &[("DB_HOST_NAME_1", "h"), ("DB_DEEP_PORT", "p")]).await;
    world.holds("dotted", &[("db.Host-name.1", "h"), ("db.deep.port", "p")]).await;
    world.holds("basename", &[("Host-name.1", "h"), ("port", "p")]).await;
    world.holds("specific", &[("chosen.key", "h"), ("PORT", "p")]).await;
}

/// The whole Secret is held, Redis continues, and the message names the colliding parameters and the remedy.
#[tokio::test]
async fn colliding_and_illegal_keys_hold_both_targets() {
    let world = World::start().await;
    world.ssm.put("/app/db-host", "1");
    world.mirror("collide", json!({"parameters": [{"path": "/app"}], "secret": {}, "redis": {}})).await;
    world.ready("collide", "Synced").await;

    world.ssm.put("/app/db_host", "2");
    world.sync("collide").await;
    let degraded = world.degraded("collide", "SecretKeyInvalid").await;
    for part in ["/app/db-host, /app/db_host all have the key DB_HOST", "`key`"] {
        assert!(degraded.message.contains(part), "{}", degraded.message);
    }
    world.holds("collide", &[("DB_HOST", "1")]).await;
    assert_eq!(world.values("collide").await, [("/app/db-host".to_owned(), "1".to_owned())].into());

    // In SSM a segment may contain two dots only as part of a longer one; `..x` is not valid in a Secret.
    world.ssm.put("/app/dots/..x", "3");
    let dots =
        json!({"parameters": [{"path": "/app/dots"}], "secret": {"keyFormat": "Basename"}, "redis": {}});
    world.mirror("illegal", dots).await;
    let ready = world.condition("illegal", "Ready", "False", "SecretKeyInvalid").await;
    assert!(ready.message.contains(r#"/app/dots/..x would have the key "..x""#), "{}", ready.message);
    assert_eq!(world.data("illegal").await, None);
    assert!(world.redis.hash(&world.key("illegal")).await.is_empty());
}

#[tokio::test]
async fn changes_removals_and_new_births_in_ssm_arrive() {
    let world = World::start().await;
    for n in 0..10 {
        world.ssm.put(&format!("/app/n{n}"), "old");
    }
    world.ssm.put_secure("/app/secret", "old");
    world.synced("config").await;
    let before = world.status("config").await;

    world.ssm.put("/app/n0", "new");
    world.ssm.put_secure("/app/secret", "new");
    world.ssm.delete("/app/n1");
    world.ssm.put("/app/n10", "born");
    world.sync("config").await;
    let data = world.data("config").await.unwrap();
    assert_eq!((data["N0"].as_str(), data["SECRET"].as_str(), data["N10"].as_str()), ("new", "new", "born"));
    assert!(!data.contains_key("N1") && data.len() == 11, "{data:?}");
    let values = world.values("config").await;
    assert_eq!((values["/app/n0"].as_str(), values.len()), ("new", 11));
    assert_ne!(world.status("config").await.revision, before.revision);

    // Deleted and created again: its versions restart at 1, and the change is still detected.
    world.ssm.put("/app/n0", "newer");
    world.sync("config").await;
    world.ssm.delete("/app/n0");
    world.ssm.put("/app/n0", "reborn");
    world.sync("config").await;
    assert_eq!(world.data("config").await.unwrap()["N0"], "reborn");
    world.field_is("config", "/app/n0", "reborn").await;
}

#[tokio::test]
async fn an_emptied_path_is_never_taken_for_an_empty_set() {
    let world = World::start().await;
    world.ssm.put("/app/a", "1");
    world.ssm.put("/app/b", "2");
    world.synced("config").await;
    let content = world.content("config").await;

    world.ssm.delete("/app/a");
    world.ssm.delete("/app/b");
    world.sync("config").await;
    let degraded = world.degraded("config", "NoParameters").await;
    assert!(degraded.message.contains("An empty read never replaces"), "{}", degraded.message);
    world.ready("config", "ServingLastKnownGood").await;
    world.holds("config", &[("A", "1"), ("B", "2")]).await;
    assert_eq!(world.content("config").await, content);
    assert_eq!(world.field("config", "@status").await.as_deref(), Some("Degraded"));

    world.ssm.put("/app/a", "3");
    world.ssm.put("/app/b", "4");
    world.sync("config").await;
    world.healthy("config").await;
    world.holds("config", &[("A", "3"), ("B", "4")]).await;

    world.mirror("typo", json!({"parameters": [{"path": "/app/typo"}], "secret": {}})).await;
    let ready = world.condition("typo", "Ready", "False", "NoParameters").await;
    assert!(
        ready.message.contains("holds nothing below /app/typo") && ready.message.contains("case sensitive")
    );
    assert_eq!(world.data("typo").await, None);
}

#[tokio::test]
async fn a_required_name_that_is_gone_is_kept_and_named() {
    let world = World::start().await;
    world.ssm.put("/app/a", "1");
    world.ssm.put("/app/b", "2");
    let spec = json!({"parameters": [{"name": "/app/a"}, {"name": "/app/b"}], "secret": {}, "redis": {}});
    world.mirror("config", spec).await;
    world.ready("config", "Synced").await;

    world.ssm.delete("/app/b");
    world.ssm.put("/app/a", "changed");
    world.sync("config").await;
    let degraded = world.degraded("config", "ParameterNotFound").await;
    assert!(
        degraded.message.contains("/app/b") && degraded.message.contains("optional"),
        "{}",
        degraded.message
    );
    world.ready("config", "ServingLastKnownGood").await;
    world.holds("config", &[("A", "changed"), ("B", "2")]).await;

    world.mirror("never", json!({"parameters": [{"name": "/app/never"}], "secret": {}})).await;
    world.condition("never", "Ready", "False", "ParameterNotFound").await;
    assert_eq!(world.data("never").await, None);
}

#[tokio::test]
async fn a_suspicious_shrink_is_withheld_until_exactly_it_is_approved() {
    let world = World::start().await;
    for n in 0..10 {
        world.ssm.put(&format!("/app/n{n}"), "v");
    }
    world.synced("config").await;

    for n in 0..4 {
        world.ssm.delete(&format!("/app/n{n}"));
    }
    world.ssm.put("/app/n9", "changed");
    world.ssm.put("/app/new", "added");
    world.sync("config").await;
    let degraded = world.degraded("config", "SuspiciousShrink").await;
    assert!(degraded.message.contains("4 of 10 parameters"), "{}", degraded.message);
    world.ready("config", "ServingLastKnownGood").await;
    let data = world.data("config").await.unwrap();
    assert_eq!((data.len(), data["N9"].as_str(), data["NEW"].as_str()), (11, "changed", "added"));
    assert!(world.event("config", "SuspiciousShrink").await.contains("accept-shrink="));

    world.annotate("config", "parameter-mirror.dev/accept-shrink", "000000000000").await;
    world.sync("config").await;
    assert_eq!(world.data("config").await.unwrap().len(), 11, "a wrong id approved removals");
    let answer = eventually("an answer to a wrong id", SOON, async || {
        let message = world.degraded("config", "SuspiciousShrink").await.message;
        if message.contains("approves other removals") { Ok(message) } else { Err(message) }
    });
    answer.await;

    // The command runs as printed.
    let command = degraded.message.split("If it is intended: ").nth(1).unwrap();
    world.cluster.kubectl(&command.split(' ').skip(1).collect::<Vec<_>>()).await;
    world.healthy("config").await;
    let (_, id) = command.rsplit_once('=').unwrap();
    assert_eq!(
        world.event("config", "RemovalsApproved").await,
        format!(
            "The removal of 4 parameters was approved by accept-shrink={id} and carried out: /app/n0, /app/n1, /app/n2, /app/n3."
        )
    );
    let data = world.data("config").await.unwrap();
    assert_eq!((data.len(), data.contains_key("N0")), (7, false));
    assert_eq!(world.values("config").await.len(), 7);
}

/// The user chose the selection: what it no longer includes is removed without the guard, once the new set
/// exists.
#[tokio::test]
async fn a_changed_selection_replaces_the_set_and_an_unreadable_one_leaves_it() {
    let world = World::start().await;
    world.grant(&["/app", "/other"]).await;
    for n in 0..5 {
        world.ssm.put(&format!("/app/n{n}"), "v");
    }
    world.ssm.put("/other/x", "w");
    world.synced("config").await;

    world.change("config", json!({"parameters": [{"path": "/other/typo"}]})).await;
    world.degraded("config", "NoParameters").await;
    assert_eq!(world.data("config").await.unwrap().len(), 5);

    world.change("config", json!({"parameters": [{"path": "/other"}]})).await;
    world.holds("config", &[("X", "w")]).await;
    world.healthy("config").await;
    assert_eq!(world.values("config").await.into_keys().collect::<Vec<_>>(), ["/other/x"]);
}
