//! Inventories of real naming habits (`tests/sdk/parameters`), mirrored with each key format into both targets: byte for
//! byte, or held with the parameter's name before anything is published.

use std::collections::{BTreeMap, BTreeSet};

use rstest::rstest;
use serde_json::{Value, json};

use crate::world::{LATER, World, eventually, root};

/// One inventory: type and value by name.
fn inventory(file: &str) -> BTreeMap<String, (String, String)> {
    let text = std::fs::read_to_string(root().join("tests/sdk/parameters").join(file)).unwrap();
    let all: Vec<BTreeMap<String, String>> = serde_json::from_str(&text).unwrap();
    all.into_iter().map(|one| (one["Name"].clone(), (one["Type"].clone(), one["Value"].clone()))).collect()
}

/// The first segment of a name with slashes: what a mirror selects as a path. A name without is selected as it is.
fn selected(name: &str) -> Option<&str> {
    let (first, _) = name.strip_prefix('/')?.split_once('/')?;
    Some(&name[..=first.len()])
}

/// The key of a parameter, by the rules of docs/concepts.md.
fn key(name: &str, format: &str) -> String {
    let below = selected(name).map_or(name, |path| &name[path.len()..]).trim_start_matches('/');
    match format {
        "EnvVar" => below.to_uppercase().replace(['/', '-', '.'], "_"),
        "Dotted" => below.replace('/', "."),
        _ => below.rsplit('/').next().unwrap().to_owned(),
    }
}

#[rstest]
#[case::flat("01-flat-dashed.json")]
#[case::dotted("02-dotted.json")]
#[case::spring("03-spring-config.json")]
#[case::dotnet("04-dotnet-sections.json")]
#[case::environments("05-per-environment-secrets.json")]
#[case::trees("06-platform-trees.json")]
#[case::certificates("07-keys-and-certificates.json")]
#[case::json("08-json-values.json")]
#[case::files("09-whole-files.json")]
#[case::connections("10-connection-strings.json")]
#[case::mixed_case("11-mixed-case.json")]
#[tokio::test]
async fn an_inventory_arrives_byte_for_byte_or_is_held_by_name(#[case] file: &str) {
    let world = World::start().await;
    world.grant(&["/"]).await;
    let all = inventory(file);
    for (name, (kind, value)) in &all {
        match kind.as_str() {
            "SecureString" => world.ssm.put_secure(name, value),
            _ => world.ssm.put(name, value),
        };
    }
    let paths: BTreeSet<&str> = all.keys().filter_map(|name| selected(name)).collect();
    let flat = all.keys().filter(|name| selected(name).is_none());
    let selections: Vec<Value> = paths
        .iter()
        .map(|path| json!({"path": path}))
        .chain(flat.map(|name| json!({"name": name})))
        .collect();
    for format in ["EnvVar", "Dotted", "Basename"] {
        let mirror = format.to_lowercase();
        let spec =
            json!({"interval": "1h", "parameters": selections, "secret": {"keyFormat": format}, "redis": {}});
        world.mirror(&mirror, spec).await;
        let keys: BTreeMap<String, &String> = all.keys().map(|name| (key(name, format), name)).collect();
        if keys.len() < all.len() {
            let degraded = world.degraded(&mirror, "SecretKeyInvalid").await;
            let named = all.keys().filter(|name| degraded.message.contains(name.as_str())).count();
            assert!(named >= 2, "{file} {format}: {}", degraded.message);
            let hash = world.redis.hash(&world.key(&mirror)).await;
            assert_eq!((world.data(&mirror).await, hash.len()), (None, 0), "{file} {format}");
            continue;
        }
        let expected: BTreeMap<String, String> =
            keys.iter().map(|(key, name)| (key.clone(), all[*name].1.clone())).collect();
        eventually("the Secret holds it whole", LATER, async || {
            let data = world.data(&mirror).await;
            if data.as_ref() == Some(&expected) { Ok(()) } else { Err(format!("{file} {format}: {data:?}")) }
        })
        .await;
        let held = eventually("Redis holds it too, or says why not", LATER, async || {
            if world.redis.hash(&world.key(&mirror)).await.is_empty() {
                let conditions = world.status(&mirror).await.conditions;
                let unusable = conditions.iter().any(|is| is.reason == "RedisNotUsable");
                return if unusable { Ok(BTreeMap::new()) } else { Err(format!("{conditions:?}")) };
            }
            let held = world.values(&mirror).await;
            if held.len() == all.len() { Ok(held) } else { Err(format!("{held:?}")) }
        })
        .await;
        for (name, value) in held {
            let name = all
                .get(&name)
                .or_else(|| all.get(name.trim_start_matches('/')))
                .unwrap_or_else(|| panic!("{name}"));
            assert_eq!(value, name.1, "{file} {format}");
        }
    }
}
