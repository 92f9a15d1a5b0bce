//! The reading order of mirror and SSM, and how long the reader waits for the first one.

use std::time::Duration;

use parameter_mirror_test_support::Ssm;
use parameter_mirror_test_support::ssm::{Fault, When};

use crate::world::{Ended, KEY, Reader, Set, World, has_said, sooner, usual};

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

#[tokio::test]
async fn get_and_export_warn_as_exec_does_and_are_silent_otherwise() {
    let (world, ssm) = (World::start().await, ssm());
    world.publish(&Set { age: Duration::from_hours(2), ..usual() }).await;
    for (subcommand, printed) in
        [("get DB_HOST", "db.internal"), ("export --format json", "\"DB_HOST\": \"db.internal\"")]
    {
        let run = async |arguments: &str| {
            asking(world.reader(&format!("{subcommand} {arguments}")), &ssm).run().await
        };
        let young = run("").await;
        assert_eq!((young.code, young.err.as_str()), (Some(0), ""), "{young:?}");
        ssm.fail(When::any(), Fault::internal());
        let without = "--max-stale 1h";
        for (arguments, warns) in
            [(without, "--max-stale is 1 h"), ("--source ssm-first", "WARNING: SSM is unavailable")]
        {
            let old = run(arguments).await;
            assert!(old.code == Some(0) && old.out.contains(printed), "{old:?}");
            assert!(old.err.contains("read 2 h ago. WARNING: ") && old.err.contains(warns), "{old:?}");
            assert_eq!(old.err.lines().count(), 1, "{old:?}");
        }
        ssm.clear_all();
        let reader = asking(world.reader(&format!("{subcommand} --source ssm-first")), &ssm);
        let reader = reader.without("AWS_ACCESS_KEY_ID").with("AWS_EC2_METADATA_DISABLED", "true");
        let without_credentials = reader.run().await;
        assert!(without_credentials.out.contains(printed), "{without_credentials:?}");
        assert!(without_credentials.err.contains("WARNING: SSM was not read"), "{without_credentials:?}");
        let fresh = run("--max-stale 1h").await;
        assert!(fresh.out.contains("fresh.internal"), "{fresh:?}");
        assert!(
            fresh.err.contains("2 parameters from SSM. WARNING: shop/checkout: read 2 h ago"),
            "{fresh:?}"
        );
    }
}

/// The operator confirms a set without writing it again, so its age is not that of what is held.
#[tokio::test]
async fn serve_and_watch_report_a_mirror_that_gets_too_old_and_young_again() {
    let world = World::start().await;
    let aged = |age| Set { age, ..usual() };
    world.publish(&aged(Duration::from_hours(2))).await;
    for subcommand in ["serve --listen 127.0.0.1:0", "watch"] {
        let arguments = format!("{subcommand} --refresh 50ms --max-stale 1h");
        let running = world.start_reader(&arguments, &[], "checkout").await;
        has_said(&running, "WARNING: shop/checkout: read 2 h ago, --max-stale is 1 h. It goes on").await;
        world.confirm().await;
        has_said(&running, " s ago\n").await;
        assert_eq!(running.log().matches("WARNING").count(), 1, "{}", running.log());
        world.publish(&aged(Duration::from_hours(2))).await;
    }
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
