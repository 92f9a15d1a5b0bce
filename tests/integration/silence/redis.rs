//! The content of Redis's own files, and the messages about a hash or a Secret in which someone has put
//! foreign content.

use std::fs;
use std::path::Path;

use parameter_mirror_test_support::{Canaries, Redis};
use serde_json::json;

use super::says_nothing;
use crate::world::{LATER, Setup, World, eventually};

/// Returns every file below a folder, by its path.
fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push((path.display().to_string(), fs::read(&path).unwrap()));
        }
    }
    found
}

/// Waits until Redis has rewritten its append-only file.
async fn rewritten(redis: &Redis) {
    eventually("the append-only file is rewritten", LATER, async || {
        let info = redis.cli(&["info", "persistence"]).await;
        let is_done = ["aof_rewrite_in_progress:0", "aof_rewrite_scheduled:0", "aof_enabled:1"]
            .iter()
            .all(|line| info.contains(line));
        if is_done { Ok(()) } else { Err(info) }
    })
    .await;
}

/// Backups, replicas and disks of Redis contain what its files contain, including values replaced long ago.
#[tokio::test]
async fn redis_keeps_on_its_disk_in_clear_what_the_mirror_leaves_in_clear_and_no_more() {
    let redis = Redis::start().await;
    // Uncompressed, so that the search finds what is there, and every command is written at once.
    for [name, value] in [["rdbcompression", "no"], ["appendfsync", "always"], ["appendonly", "yes"]] {
        redis.cli(&["config", "set", name, value]).await;
    }
    rewritten(&redis).await;
    let world = World::with(Setup { redis: Some(redis), ..Setup::default() }).await;
    let grant = json!({"namespaces": [world.namespace], "paths": ["/app"]});
    world.source_with(json!({"region": "us-east-1", "redisEncryption": "None", "grants": [grant]})).await;
    let modes = [("all", "All"), ("secure", "SecureStrings"), ("none", "None")];
    let modes = modes.map(|(mirror, mode)| (mirror, mode, Canaries::default()));
    let put = || {
        for (mirror, _, canaries) in &modes {
            world.ssm.put_secure(&format!("/app/{mirror}/s"), &canaries.sealed());
            world.ssm.put(&format!("/app/{mirror}/p"), &canaries.plain());
        }
    };
    put();
    for (mirror, mode, _) in &modes {
        let parameters = json!([{"path": format!("/app/{mirror}")}]);
        let spec = json!({"parameters": parameters, "secret": {}, "redis": {"encryption": mode}});
        world.mirror(mirror, spec).await;
        world.ready(mirror, "Synced").await;
    }
    put();
    for (mirror, ..) in &modes {
        world.sync(mirror).await;
        world.healthy(mirror).await;
    }

    let [(.., all), (.., secure), (.., none)] = &modes;
    let judge = |when: &str, folder: &Path| {
        let files = files(folder);
        for (file, bytes) in &files {
            assert_eq!(all.found_in(bytes), None, "{when}: {file}");
            assert_eq!(secure.sealed_in(bytes), None, "{when}: {file}");
        }
        // Control: plain values are found.
        for (what, in_clear) in [
            ("a String", files.iter().any(|(_, bytes)| secure.found_in(bytes).is_some())),
            (
                "a SecureString without encryption",
                files.iter().any(|(_, bytes)| none.sealed_in(bytes).is_some()),
            ),
        ] {
            assert!(in_clear, "{when}: {what} was not found");
        }
    };
    let folder = world.redis.process().dir();
    judge("each command", &folder.join("appendonlydir"));
    world.redis.cli(&["save"]).await;
    fs::create_dir(folder.join("dumped")).unwrap();
    fs::rename(folder.join("dump.rdb"), folder.join("dumped/dump.rdb")).unwrap();
    judge("the dump", &folder.join("dumped"));
    world.redis.cli(&["bgrewriteaof"]).await;
    rewritten(&world.redis).await;
    judge("the rewritten commands", &folder.join("appendonlydir"));
}

/// Someone writes values in place of metadata: the operator heals the copy, and does not repeat the values.
#[tokio::test]
async fn what_stands_in_a_damaged_copy_is_not_repeated() {
    let arguments = vec!["--log=trace".to_owned()];
    let world = World::with(Setup { arguments, ..Setup::default() }).await;
    let (sealed, plain) = (world.canaries.sealed(), world.canaries.plain());
    world.ssm.put_secure("/app/s", &sealed);
    world.ssm.put("/app/p", &plain);
    // A target that is healed more often is contested.
    let [fields, annotations] = [
        ["@mac", "@enc", "@params", "@source", "@readAt", "@count", "@revision", "@format", "/app/s"]
            .as_slice(),
        ["mac", "manifest", "source", "read-at", "revision", "format"].as_slice(),
    ];
    for (mirror, (fields, annotations)) in
        ["a", "b", "c"].iter().zip(fields.chunks(3).zip(annotations.chunks(2)))
    {
        world.synced(mirror).await;
        let (key, content) = (world.key(mirror), world.content(mirror).await);
        for field in fields {
            world.redis.cli(&["hset", &key, field, &sealed]).await;
            world.sync(mirror).await;
            world.healthy(mirror).await;
            assert_eq!(world.content(mirror).await, content, "{field} was not healed");
        }
        for annotation in annotations {
            let name = format!("parameter-mirror.dev/{annotation}");
            world.edit_secret(mirror, json!({"metadata": {"annotations": {name: sealed}}})).await;
            world.sync(mirror).await;
        }
        world.holds(mirror, &[("P", &plain), ("S", &sealed)]).await;
        world.healthy(mirror).await;
    }
    says_nothing(&world).await;
}
