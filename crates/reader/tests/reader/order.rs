//! The reading order of mirror and SSM, and how long the reader waits for the first one.

use std::time::Duration;

use parameter_mirror_test_support::Ssm;
use parameter_mirror_test_support::ssm::{Fault, When};

use crate::world::{Ended, KEY, Reader, Set, World, sooner, usual};

/// An SSM with newer values than the mirror.
fn ssm() -> Ssm {
    let ssm = Ssm::start();
    ssm.put("/app/db/host", "fresh.internal");
    ssm.put_secure("/app/db/password", "fresh");
    ssm
}

fn asking(reader: Reader, ssm: &Ssm) -> Reader {
    reader
        .with("PARAMETER_MIRROR_SSM_PATHS", "/app")
        .with("AWS_REGION", "us-east-1")
        .with("AWS_ENDPOINT_URL_SSM", &ssm.endpoint())
        .with("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE")
        .with("AWS_SECRET_ACCESS_KEY", "secret")
}

async fn host(world: &World, ssm: &Ssm, arguments: &str) -> Ended {
    asking(world.reader(&format!("exec {arguments} -- sh -c")).and("echo $DB_HOST"), ssm).run().await
}

#[track_caller]
fn started(ended: &Ended, host: &str, says: &[&str]) {
    assert_eq!((ended.code, ended.out.trim()), (Some(0), host), "{ended:?}");
    assert_eq!(ended.err.lines().count(), 1, "{ended:?}");
    for says in says {
        assert!(ended.err.contains(says), "{says:?} is not in {:?}", ended.err);
    }
}

#[tokio::test]
async fn the_mirror_counts_and_ssm_is_not_asked() {
    let (world, ssm) = (World::start().await, ssm());
    world.publish(&Set { age: Duration::from_hours(2), ..usual() }).await;
    started(&host(&world, &ssm, "").await, "db.internal", &["from the mirror shop/checkout, read 2 h ago"]);
    assert_eq!(ssm.calls().total(), 0);
}

#[tokio::test]
async fn without_a_usable_mirror_ssm_is_asked() {
    let (world, ssm) = (World::usual().await, ssm());
    world.redis.cli(&["hset", KEY, "@format", "2"]).await;
    started(&host(&world, &ssm, "").await, "fresh.internal", &["2 parameters from SSM", "WARNING", "newer"]);
    world.redis.cli(&["del", KEY]).await;
    started(&host(&world, &ssm, "").await, "fresh.internal", &["from SSM", "no such mirror"]);
    world.redis.freeze();
    started(&host(&world, &ssm, "--budget 2s").await, "fresh.internal", &["Redis did not answer"]);
    ssm.fail(When::any(), Fault::Silent);
    let neither = sooner(host(&world, &ssm, "--budget 300ms"), host(&world, &ssm, "--budget 8s")).await;
    assert_eq!((neither.code, neither.out.as_str()), (Some(18), ""), "{neither:?}");
    assert!(neither.err.contains("SSM") && neither.err.contains("Redis did not answer"), "{neither:?}");
}

#[tokio::test]
async fn an_old_mirror_is_the_last_resort_or_refused() {
    let (world, ssm) = (World::start().await, ssm());
    world.publish(&Set { age: Duration::from_hours(2), ..usual() }).await;
    started(&host(&world, &ssm, "").await, "db.internal", &["read 2 h ago"]);
    started(&host(&world, &ssm, "--max-stale 1h").await, "fresh.internal", &["from SSM", "read 2 h ago"]);
    let refused = host(&world, &ssm, "--max-stale 1h --source mirror").await;
    assert_eq!((refused.code, refused.out.as_str()), (Some(15), ""), "{refused:?}");
    ssm.fail(When::any(), Fault::internal());
    started(&host(&world, &ssm, "--max-stale 1h").await, "db.internal", &["WARNING", "read 2 h ago", "SSM"]);
}

/// The reading order that the incident calls for, with a limit: a silent SSM costs its budget and no more.
#[tokio::test]
async fn ssm_first_falls_back_within_its_budget() {
    let (world, ssm) = (World::usual().await, ssm());
    started(&host(&world, &ssm, "--source ssm-first").await, "fresh.internal", &["2 parameters from SSM"]);
    let within =
        async |budget| host(&world, &ssm, &format!("--source ssm-first --ssm-budget {budget}")).await;
    for fault in [Fault::Reset, Fault::internal(), Fault::throttling()] {
        ssm.fail(When::any(), fault);
        let ended = within("2s").await;
        started(&ended, "db.internal", &["from the mirror shop/checkout", "WARNING: SSM"]);
        ssm.clear_all();
    }
    ssm.fail(When::any(), Fault::Silent);
    let ended = sooner(within("500ms"), within("8s")).await;
    started(&ended, "db.internal", &["from the mirror shop/checkout", "WARNING: SSM"]);
    let without = world.reader("exec --source ssm-first -- true").run().await;
    assert_eq!(without.code, Some(2), "{without:?}");
}

/// A program gets the same variables from either source.
#[tokio::test]
async fn variables_keep_the_names_that_the_mirror_gives_them() {
    let (world, ssm) = (World::start().await, ssm());
    let mut renamed = usual();
    renamed.entries.get_mut("/app/db/host").unwrap().key = Some("DATABASE".to_owned());
    world.publish(&renamed).await;
    let reader = world.reader("exec --source ssm-first -- sh -c").and("echo $DATABASE $DB_PASSWORD");
    started(&asking(reader, &ssm).run().await, "fresh.internal fresh", &["from SSM"]);
}
