//! The effects of an SSM outage beyond its reason (which is in `fault_matrix`): deadlines, healing, the
//! breaker, new mirrors, roles.

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use parameter_mirror_test_support::ssm::{Fault, Operation, When};
use serde_json::json;

use crate::world::{SOON, Setup, World};

/// A world with a synced mirror: a `SecureString`, and enough `String`s for three pages.
async fn synced() -> World {
    let arguments = vec!["--ssm-requests-per-second=1000".to_owned()];
    let world = World::with(Setup { arguments, ..Setup::default() }).await;
    world.ssm.put_secure("/app/secret", "hunter2");
    for n in 0..24 {
        world.ssm.put(&format!("/app/n{n:02}"), "old");
    }
    world.synced("config").await;
    world
}

/// AWS fails ten parameters because of one; the condition names that one for the person who has to fix it.
#[tokio::test]
async fn the_one_parameter_that_cannot_be_read_is_named() {
    let world = World::start().await;
    for number in 0..30 {
        world.ssm.put_secure(&format!("/app/s{number:02}"), "v");
    }
    let locked = When::any().decrypting().name("/app/s17");
    let fault = world.ssm.fail(locked, Fault::invalid_key_id());
    world.mirror("app", json!({"parameters": [{"path": "/app"}], "secret": {}, "redis": {}})).await;
    let degraded = world.degraded("app", "KmsUnavailable").await;
    assert!(degraded.message.contains("It is about /app/s17"), "{}", degraded.message);
    assert!(!degraded.message.contains("/app/s16"), "{}", degraded.message);
    assert_eq!(world.data("app").await, None, "nothing is published in part");
    world.ssm.clear(fault);
    world.ready("app", "Synced").await;

    let names: Vec<_> = (0..12).map(|number| json!({"name": format!("/app/s{number:02}")})).collect();
    world.mirror("names", json!({"parameters": names, "secret": {}})).await;
    world.ready("names", "Synced").await;
    let denied = When::any().operation(Operation::GetParameters).name("/app/s11");
    world.ssm.fail(denied, Fault::access_denied_iam("ssm:GetParameters"));
    let degraded = world.degraded("names", "AccessDenied").await;
    assert!(degraded.message.contains("It is about /app/s11"), "{}", degraded.message);
}

/// Each of forty pages fails once. Retries have their own token bucket: when it is empty, a failure is final.
#[tokio::test]
async fn retries_do_not_double_the_load_of_a_service_that_is_half_down() {
    let world = World::start().await;
    for number in 0..400 {
        world.ssm.put(&format!("/app/p{number:03}"), "v");
    }
    let faults: Vec<_> =
        (1..=40).map(|page| world.ssm.fail(When::any().page(page).times(1), Fault::internal())).collect();
    world.mirror("app", json!({"interval": "1h", "parameters": [{"path": "/app"}], "secret": {}})).await;
    world.degraded("app", "SourceUnavailable").await;
    let failed: u64 = faults.iter().map(|fault| world.ssm.hits(*fault)).sum();
    // Ten retries, one more for ten pages that were answered, and the failure without a retry.
    assert!((10..=14).contains(&failed), "{failed} requests were refused");
}

#[tokio::test]
async fn silence_ends_on_deadlines_and_targets_are_healed_meanwhile() {
    let world = synced().await;
    let content = world.content("config").await;
    world.ssm.freeze();
    world.ask("config").await;
    // The read hangs; a target that is deleted meanwhile is restored at once.
    world.delete_secret("config").await;
    crate::world::eventually("the Secret is back", SOON, async || {
        world.data("config").await.map(|_| ()).ok_or("it is not there")
    })
    .await;
    let conditions = world.status("config").await.conditions;
    let is_degraded = |one: &Condition| one.type_ == "Degraded" && one.status == "True";
    assert!(!conditions.iter().any(is_degraded), "it came back after the read had ended: {conditions:?}");
    // SSM is still silent: the read ends at its own deadline.
    world.degraded("config", "Timeout").await;
    assert_eq!(world.content("config").await, content);
    world.ssm.thaw();
    world.healthy("config").await;
}

/// A slow answer is valid; an answer that stops halfway is not.
#[tokio::test]
async fn slow_is_not_down() {
    let world = synced().await;
    world.ssm.fail(When::any(), Fault::Slow(Duration::from_millis(500)));
    world.ssm.put("/app/n00", "slowly");
    world.sync("config").await;
    world.healthy("config").await;
    assert_eq!(world.data("config").await.unwrap()["N00"], "slowly");
    world.ssm.clear_all();
    world.ssm.fail(When::any(), Fault::StallBody);
    world.sync("config").await;
    // SSM is still silent: the read ends at its own deadline.
    world.degraded("config", "Timeout").await;
}

#[tokio::test]
async fn an_empty_page_does_not_end_a_listing_and_a_hidden_name_is_not_removed() {
    let world = synced().await;
    world.ssm.fail(When::any().operation(Operation::GetParametersByPath).page(2), Fault::EmptyPage);
    world.sync("config").await;
    world.healthy("config").await;
    assert_eq!(world.data("config").await.unwrap().len(), 25);
    world.ssm.clear_all();
    // The listing lacks a name that GetParameters still returns, which does not prove a deletion.
    world.ssm.fail(When::any().operation(Operation::GetParametersByPath).name("/app/n05"), Fault::Drop);
    world.sync("config").await;
    assert_eq!(world.data("config").await.unwrap().len(), 25);
    assert_eq!(world.values("config").await.len(), 25);
    world.ssm.clear_all();
    world.ssm.delete("/app/n05");
    world.sync("config").await;
    world.healthy("config").await;
    assert_eq!(world.data("config").await.unwrap().len(), 24);
}

/// Two related parameters on different pages change at the same time between two pages of one listing.
#[tokio::test]
async fn what_is_published_was_true_at_one_moment() {
    let world = synced().await;
    world.ssm.after_page(1, |here| {
        here.put("/app/n00", "new");
        here.put("/app/n23", "new");
    });
    world.sync("config").await;
    let data = world.data("config").await.unwrap();
    assert_eq!((data["N00"].as_str(), data["N23"].as_str()), ("new", "new"));
    let values = world.values("config").await;
    assert_eq!((values["/app/n00"].as_str(), values["/app/n23"].as_str()), ("new", "new"));
    world.healthy("config").await;
}

#[tokio::test]
async fn a_mirror_that_is_new_in_the_outage_says_that_it_has_nothing() {
    let world = synced().await;
    world.ssm.refuse();
    world.mirror("new", json!({"parameters": [{"path": "/app/n"}], "secret": {}, "redis": {}})).await;
    let ready = world.condition("new", "Ready", "False", "NoLastKnownGood").await;
    assert!(ready.message.contains("no last known good set"), "{}", ready.message);
    world.degraded("new", "SourceUnavailable").await;
    assert_eq!(world.data("new").await, None);
    let columns = world.cluster.kubectl(&["get", "pmirror", "-n", &world.namespace]).await;
    assert!(columns.contains("new      False   True"), "{columns}");
    world.ssm.listen_again();
    world.ssm.put("/app/n/x", "1");
    world.holds("new", &[("X", "1")]).await;
    world.healthy("new").await;
    let recovered = world.event("new", "Recovered").await;
    assert!(recovered.contains("Recovered from "), "{recovered}");
}

#[tokio::test]
async fn roles_read_other_accounts_and_a_denied_role_is_an_outage() {
    let world = World::start().await;
    let role = "arn:aws:iam::444455556666:role/read";
    world.ssm.account("444455556666").put("/app/a", "theirs");
    world.ssm.put("/app/a", "ours");
    let grant = json!({"namespaces": [world.namespace], "paths": ["/app"]});
    world
        .source_with(json!({"region": "us-east-1", "roleArn": role, "externalId": "x1", "grants": [grant]}))
        .await;
    world.synced("config").await;
    world.holds("config", &[("A", "theirs")]).await;

    let other = "arn:aws:iam::777788889999:role/denied";
    world.ssm.fail(
        When::any().operation(Operation::AssumeRole).name(other),
        Fault::coded(403, "AccessDenied", "no"),
    );
    world.source_with(json!({"region": "us-east-1", "roleArn": other, "grants": [grant]})).await;
    world.degraded("config", "CredentialsUnavailable").await;
    world.ready("config", "ServingLastKnownGood").await;
    world.holds("config", &[("A", "theirs")]).await;
}

/// Each region has its own parameters.
#[tokio::test]
async fn the_region_is_the_one_of_the_source() {
    let world = World::start().await;
    world.ssm.region("eu-central-1").put("/app/a", "frankfurt");
    let grant = json!({"namespaces": [world.namespace], "paths": ["/app"]});
    world.source_with(json!({"region": "eu-central-1", "grants": [grant]})).await;
    world.synced("config").await;
    world.holds("config", &[("A", "frankfurt")]).await;
}

/// Only a slow first read is reported as pending.
#[tokio::test]
async fn a_slow_first_read_is_pending() {
    let world = World::start().await;
    world.ssm.put("/app/a", "1");
    world.ssm.freeze();
    world.mirror("config", json!({"parameters": [{"path": "/app"}], "secret": {}})).await;
    let ready = world.condition("config", "Ready", "Unknown", "Pending").await;
    assert!(ready.message.contains("first read"), "{}", ready.message);
    world.condition("config", "Degraded", "Unknown", "Pending").await;
    world.ssm.thaw();
    world.ready("config", "Synced").await;
}

const BREAKER: &str = r#"parameter_mirror_ssm_breaker_open{account="111122223333",region="us-east-1"}"#;

/// Without a breaker, thirty mirrors at the shortest interval would send hundreds of requests during an
/// outage of one minute.
#[tokio::test]
async fn a_dead_ssm_is_probed_and_not_hammered_and_all_come_back_when_it_answers() {
    const MIRRORS: usize = 30;
    let world = World::start().await;
    for n in 0..MIRRORS {
        world.ssm.put(&format!("/app/m{n}/a"), "old");
        world
            .mirror(&format!("m{n}"), json!({"parameters": [{"path": format!("/app/m{n}")}], "secret": {}}))
            .await;
    }
    for n in 0..MIRRORS {
        world.ready(&format!("m{n}"), "Synced").await;
    }
    let before = world.ssm.calls();
    world.ssm.fail(When::any(), Fault::internal());
    for n in 0..MIRRORS {
        let degraded = world.degraded(&format!("m{n}"), "SourceUnavailable").await;
        assert!(degraded.message.contains("HTTP 500"), "{}", degraded.message);
    }
    assert_eq!(world.operator.metric(BREAKER).await, 1);
    world.source_breaker_is("Open").await;
    // Ten operations at once and four more before the fifth failure, with three attempts each.
    let sent = world.ssm.calls().since(&before).total();
    assert!(sent <= 42, "{sent} requests until the breaker opened");
    crate::world::eventually("a probe is sent", Duration::from_secs(50), async || {
        let now = world.ssm.calls().since(&before).total();
        if now > sent { Ok(()) } else { Err(now) }
    })
    .await;
    let probed = world.ssm.calls().since(&before).total();
    assert!(probed <= sent + 2, "{probed} requests after {sent}");

    for n in 0..MIRRORS {
        world.ssm.put(&format!("/app/m{n}/a"), "new");
    }
    world.ssm.clear_all();
    for n in 0..MIRRORS {
        world.healthy(&format!("m{n}")).await;
        world.holds(&format!("m{n}"), &[("A", "new")]).await;
    }
    assert_eq!(world.operator.metric(BREAKER).await, 0);
    world.source_breaker_is("Closed").await;
}
