//! The cost of a cycle: exact counts of calls, decryptions, writes and connections.

use std::collections::BTreeMap;

use parameter_mirror_test_support::ssm::Operation;
use serde_json::json;

use crate::world::{LATER, Setup, World, eventually};

fn unhurried() -> Setup {
    Setup { arguments: vec!["--ssm-requests-per-second=10000".to_owned()], ..Setup::default() }
}

/// Returns how often the script that writes hashes ran.
async fn scripts_run(world: &World) -> u64 {
    let stats = world.redis.cli(&["info", "commandstats"]).await;
    let calls = |line: &str| line.strip_prefix("cmdstat_evalsha:calls=")?.split(',').next()?.parse().ok();
    stats.lines().find_map(calls).unwrap_or_default()
}

#[tokio::test]
async fn a_quiet_cycle_over_a_thousand_parameters_is_a_hundred_lists_and_one_heartbeat() {
    let world = World::with(unhurried()).await;
    for n in 0..1000 {
        world.ssm.put_secure(&format!("/app/n{n:03}"), "value");
    }
    world
        .mirror(
            "config",
            json!({"parameters": [{"path": "/app"}], "secret": {}, "redis": {}, "interval": "1h"}),
        )
        .await;
    world.ready("config", "Synced").await;
    let (version, calls) = (world.resource_version("config").await, world.ssm.calls());
    let (content, fence) = (world.content("config").await, world.number("config", "@fence").await);
    let generation = world.number("config", "@generation").await;
    assert_eq!(calls.decrypts, 1000, "each value is decrypted once, in the first listing");
    let scripts = scripts_run(&world).await;

    world.sync("config").await;
    let quiet = world.ssm.calls().since(&calls);
    assert_eq!((quiet.of(Operation::GetParametersByPath), quiet.total(), quiet.decrypts), (100, 100, 0));
    assert_eq!(quiet.connections, 0, "the connection to SSM is used again");
    assert_eq!(world.resource_version("config").await, version);
    assert_eq!(world.content("config").await, content);
    assert_eq!(scripts_run(&world).await, scripts + 1, "one beat and nothing else");
    assert!(world.number("config", "@fence").await > fence);
    assert_eq!(world.number("config", "@generation").await, generation);

    // One changed value: the operator lists it, fetches it alone, and lists once more.
    world.ssm.put_secure("/app/n500", "changed");
    let calls = world.ssm.calls();
    world.sync("config").await;
    let one = world.ssm.calls().since(&calls);
    assert_eq!(
        (one.of(Operation::GetParametersByPath), one.of(Operation::GetParameters), one.decrypts),
        (200, 1, 1)
    );
    assert_eq!(world.number("config", "@generation").await, world.number("config", "@fence").await);
    assert_eq!(world.data("config").await.unwrap()["N500"], "changed");
}

#[tokio::test]
async fn names_are_read_ten_at_a_time_and_decrypted_only_when_they_changed() {
    let world = World::start().await;
    let names: Vec<_> = (0..25).map(|n| json!({"name": format!("/app/n{n}")})).collect();
    for n in 0..25 {
        world.ssm.put_secure(&format!("/app/n{n}"), "value");
    }
    world.mirror("config", json!({"parameters": names, "secret": {}, "interval": "1h"})).await;
    world.ready("config", "Synced").await;
    let first = world.ssm.calls();
    assert_eq!(first.decrypts, 25);
    world.sync("config").await;
    let quiet = world.ssm.calls().since(&first);
    assert_eq!((quiet.of(Operation::GetParameters), quiet.total(), quiet.decrypts), (3, 3, 0));
}

#[tokio::test]
async fn two_hundred_mirrors_from_nothing_cost_two_hundred_calls() {
    let world = World::with(unhurried()).await;
    for mirror in 0..200 {
        for n in 0..10 {
            world.ssm.put(&format!("/app/m{mirror}/n{n}"), "value");
        }
    }
    let items: Vec<_> = (0..200)
        .map(|n| {
            json!({
                "apiVersion": "parameter-mirror.dev/v1alpha1", "kind": "ParameterMirror",
                "metadata": {"name": format!("m{n}"), "namespace": world.namespace},
                "spec": {"sourceRef": {"name": world.source}, "interval": "1h", "parameters": [{"path": format!("/app/m{n}")}],
                    "secret": {}, "redis": {}},
            })
        })
        .collect();
    world
        .cluster
        .kubectl_apply(&json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string())
        .await;
    eventually("200 mirrors are synced", 3 * LATER, async || {
        let mirrors = world.mirrors().list(&kube::api::ListParams::default()).await.unwrap().items;
        let synced = mirrors.iter().filter(|mirror| {
            mirror.status.as_ref().is_some_and(|status| status.secret.is_some() && status.redis.is_some())
        });
        let synced = synced.count();
        if synced == 200 { Ok(()) } else { Err(world.seen(&synced)) }
    })
    .await;
    assert_eq!(world.ssm.calls().total(), 200);
    assert_eq!(world.operator.metric(r#"parameter_mirror_target_writes_total{target="secret"}"#).await, 200);
    assert_eq!(world.operator.metric(r#"parameter_mirror_target_writes_total{target="redis"}"#).await, 200);
}

/// The status is written when it changes, otherwise once per max(1 min, interval); the log has a line for
/// each transition.
#[tokio::test]
async fn quiet_cycles_write_no_status_and_log_nothing() {
    let world = World::start().await;
    world.ssm.put("/app/a", "1");
    world.synced("config").await;
    // The status is visible before the operator has counted its write, so the count starts after one more
    // cycle.
    world.next_cycle("config").await;
    let writes = world.operator.metric("parameter_mirror_status_writes_total").await;
    let version = world.mirrors().get("config").await.unwrap().metadata.resource_version;
    let log = world.operator.log();
    // Two scheduled cycles at the shortest interval.
    for _ in 0..2 {
        world.next_cycle("config").await;
    }
    assert_eq!(world.operator.metric("parameter_mirror_status_writes_total").await, writes);
    assert_eq!(world.mirrors().get("config").await.unwrap().metadata.resource_version, version);
    assert_eq!(world.operator.log(), log);
}

/// Three mirrors of 500 KB, one MiB of memory. Evicted sets are restored in an outage, without a decryption.
#[tokio::test]
async fn values_that_two_targets_hold_need_not_stay_in_memory() {
    let arguments = ["--memory-values=1", "--ssm-requests-per-second=10000"].map(str::to_owned);
    let world = World::with(Setup { arguments: arguments.into(), ..Setup::default() }).await;
    let mirrors = ["a", "b", "c"];
    for mirror in mirrors {
        for number in 0..125 {
            let (name, value) =
                (format!("/app/{mirror}/n{number}"), format!("{mirror}{number}").repeat(1_000));
            world.ssm.put_secure(&name, &value[..4_000.min(value.len())]);
        }
        let parameters = json!([{"path": format!("/app/{mirror}")}]);
        let spec = json!({"parameters": parameters, "secret": {}, "redis": {}, "interval": "20s"});
        world.mirror(mirror, spec).await;
        world.ready(mirror, "Synced").await;
    }
    let mut before = Vec::new();
    for mirror in mirrors {
        before.push((world.data(mirror).await.unwrap(), world.content(mirror).await));
    }
    eventually("a mirror is put down", LATER, async || {
        let held = world.operator.metric("parameter_mirror_memory_values_bytes").await;
        if (1..=1 << 20).contains(&held) { Ok(()) } else { Err(world.seen(&held)) }
    })
    .await;

    world.ssm.refuse();
    for (mirror, (data, content)) in mirrors.into_iter().zip(before) {
        world.delete_secret(mirror).await;
        eventually("the Secret is back", LATER, async || {
            if world.data(mirror).await.as_ref() == Some(&data) { Ok(()) } else { Err(world.seen(&mirror)) }
        })
        .await;
        world.redis.cli(&["del", &world.key(mirror)]).await;
        eventually("the hash is back", LATER, async || {
            if world.field(mirror, "@fence").await.is_some() { Ok(()) } else { Err(world.seen(&mirror)) }
        })
        .await;
        let values = |content: &BTreeMap<String, Vec<u8>>| {
            content
                .clone()
                .into_iter()
                .filter(|(field, _)| !field.starts_with('@'))
                .collect::<BTreeMap<_, _>>()
        };
        assert_eq!(values(&world.content(mirror).await), values(&content));
    }
    let calls = world.ssm.calls();
    world.ssm.listen_again();
    world.ssm.put_secure("/app/b/n7", "new");
    eventually("the new value is there", LATER, async || {
        let is = world.data("b").await.unwrap_or_default().remove("N7");
        if is.as_deref() == Some("new") { Ok(()) } else { Err(world.seen(&is)) }
    })
    .await;
    assert_eq!(world.ssm.calls().since(&calls).decrypts, 1);
}
