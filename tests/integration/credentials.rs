//! Credentials that expire while STS is down, and how little anyone notices. In real time, because the I/O is
//! tested.

use std::time::Duration;

use jiff::Timestamp;
use parameter_mirror_test_support::Scratch;
use parameter_mirror_test_support::ssm::{Calls, Fault, Operation, When};
use serde_json::json;

use crate::world::{LATER, Setup, World, eventually};

/// The account of the source's role.
const THEIRS: &str = "444455556666";
/// The account of the operator's own role.
const OURS: &str = "222233334444";

const FAILING: &str = "parameter_mirror_aws_identities_failing";
const END: &str = "parameter_mirror_aws_credentials_expire_timestamp_seconds";

/// Makes the world's source use a role.
async fn with_role(world: &World) {
    let grant = json!({"namespaces": [world.namespace], "paths": ["/app"]});
    let role = format!("arn:aws:iam::{THEIRS}:role/read");
    world.source_with(json!({"region": "us-east-1", "roleArn": role, "grants": [grant]})).await;
}

fn sts_calls(calls: &Calls) -> u64 {
    calls.of(Operation::AssumeRole) + calls.of(Operation::AssumeRoleWithWebIdentity)
}

/// A world with a synced mirror of an account that is read with a role. Its sessions have this lifetime.
async fn synced_with_role(lifetime: Duration) -> World {
    let world = World::start().await;
    world.ssm.sessions_last(lifetime);
    world.ssm.account(THEIRS).put("/app/a", "0");
    with_role(&world).await;
    world.synced("config").await;
    world.holds("config", &[("A", "0")]).await;
    world
}

/// Reads a new value repeatedly until a read fails; returns when the last good read ended.
async fn read_while_good(world: &World) -> Timestamp {
    let mut last_good = Timestamp::now();
    for round in 1.. {
        let value = round.to_string();
        world.ssm.account(THEIRS).put("/app/a", &value);
        world.sync("config").await;
        if world.data("config").await.unwrap()["A"] != value {
            break;
        }
        last_good = Timestamp::now();
    }
    last_good
}

/// STS fails. The operator also uses the last 15 s of a session, which the SDK alone would discard.
async fn sts_is_down(fault: Fault, said: &str) {
    let world = synced_with_role(Duration::from_secs(30)).await;
    let end = world.operator.metric(END).await;
    let before = world.ssm.calls();
    world.ssm.fail(When::any().operation(Operation::AssumeRole), fault);
    let last_good = read_while_good(&world).await;
    let end = Timestamp::from_second(i64::try_from(end).unwrap()).unwrap();
    assert!(
        end.duration_since(last_good).as_secs() < 9,
        "the last good read was at {last_good}, the end {end}"
    );

    // SSM refuses a read in progress at the expiration; the next read reports why there are no new
    // credentials.
    world.sync("config").await;
    let degraded = world.degraded("config", "CredentialsUnavailable").await;
    for part in [said, &format!("role arn:aws:iam::{THEIRS}:role/read"), "not affected"] {
        assert!(degraded.message.contains(part), "{part}: {}", degraded.message);
    }
    world.ready("config", "ServingLastKnownGood").await;
    assert_eq!(world.operator.metric(FAILING).await, 1);
    let breaker = format!("parameter_mirror_ssm_breaker_open{{account=\"{THEIRS}\",region=\"us-east-1\"}}");
    assert_eq!(world.operator.metric(&breaker).await, 0, "SSM is well");
    let (version, content) = (world.resource_version("config").await, world.content("config").await);
    let asked = sts_calls(&world.ssm.calls().since(&before));
    assert!((1..=8).contains(&asked), "STS was asked {asked} times");
    for _ in 0..5 {
        world.sync("config").await;
    }
    let asked_since = sts_calls(&world.ssm.calls().since(&before)) - asked;
    assert!(asked_since <= 2, "STS was asked {asked_since} times for five reads");
    assert_eq!(world.resource_version("config").await, version);
    assert_eq!(world.content("config").await, content);

    world.ssm.account(THEIRS).put("/app/a", "back");
    world.ssm.clear_all();
    world.healthy("config").await;
    world.holds("config", &[("A", "back")]).await;
    assert_eq!(world.operator.metric(FAILING).await, 0);
}

#[tokio::test]
async fn sts_answers_503_and_credentials_are_used_to_their_end() {
    sts_is_down(Fault::unavailable(), "STS answers HTTP 503 ServiceUnavailable").await;
}

#[tokio::test]
async fn sts_keeps_silent_and_credentials_are_used_to_their_end() {
    sts_is_down(Fault::Silent, "did not answer in time").await;
}

#[tokio::test]
async fn a_role_that_may_no_longer_be_assumed_is_used_to_the_end_of_its_session() {
    let denied = Fault::coded(403, "AccessDenied", "hunter2 is not authorized");
    sts_is_down(denied, "STS answers HTTP 403 AccessDenied; the trust policy of the role does not allow it")
        .await;
}

/// The token of a service account (IRSA), and a role assumed with the credentials it provides.
#[tokio::test]
async fn web_identities_read_their_token_again_and_roles_below_them_survive_sts_too() {
    let scratch = Scratch::new("token").unwrap();
    let token = scratch.path().join("token");
    let variables = [
        ("AWS_ACCESS_KEY_ID", String::new()),
        ("AWS_SECRET_ACCESS_KEY", String::new()),
        ("AWS_ROLE_ARN", format!("arn:aws:iam::{OURS}:role/operator")),
        ("AWS_WEB_IDENTITY_TOKEN_FILE", token.to_str().unwrap().to_owned()),
        ("AWS_REGION", "us-east-1".to_owned()),
    ];
    let environment = variables.map(|(name, value)| (name.to_owned(), value)).to_vec();
    let world = World::with(Setup { environment, ..Setup::default() }).await;
    world.ssm.sessions_last(Duration::from_secs(25));
    world.ssm.account(OURS).put("/app/a", "ours");
    world.mirror("config", json!({"parameters": [{"path": "/app"}], "secret": {}, "redis": {}})).await;
    let degraded = world.degraded("config", "CredentialsUnavailable").await;
    let missing = "no valid AWS credentials for the operator itself: their file or endpoint cannot be read";
    assert!(degraded.message.contains(missing), "{}", degraded.message);

    std::fs::write(&token, "token-1").unwrap();
    world.healthy("config").await;
    world.holds("config", &[("A", "ours")]).await;
    std::fs::write(&token, "token-2").unwrap();
    shows(&world, "token-2").await;

    world.ssm.account(THEIRS).put("/app/a", "theirs");
    with_role(&world).await;
    world.holds("config", &[("A", "theirs")]).await;
    let assumed_by = |call: &parameter_mirror_test_support::ssm::Call| {
        (call.operation == Operation::AssumeRole).then(|| call.place.account.clone())
    };
    assert!(world.ssm.log().iter().filter_map(assumed_by).all(|account| account == OURS));

    // Both sessions end early: SSM refuses the role, and STS refuses the operator.
    world.ssm.sessions_last(Duration::from_hours(1));
    all_last(&world, Duration::from_mins(50)).await;
    world.ssm.end_sessions();
    world.ssm.account(THEIRS).put("/app/a", "new sessions");
    world.holds("config", &[("A", "new sessions")]).await;
    world.healthy("config").await;

    world.ssm.fail(When::any().operation(Operation::AssumeRole), Fault::unavailable());
    world.ssm.fail(When::any().operation(Operation::AssumeRoleWithWebIdentity), Fault::unavailable());
    world.ssm.account(THEIRS).put("/app/a", "without STS");
    world.sync("config").await;
    world.healthy("config").await;
    assert_eq!(world.data("config").await.unwrap()["A"], "without STS");
    let log = world.operator.log();
    assert!(!log.contains("token-") && !log.contains("ASIA"), "{log}");
}

/// Waits until STS has received a token.
async fn shows(world: &World, token: &str) {
    eventually(&format!("{token} is shown to STS"), LATER, async || {
        let shown = world.ssm.web_identity_tokens();
        if shown.iter().any(|shown| shown == token) { Ok(()) } else { Err(world.seen(&shown)) }
    })
    .await;
}

/// Waits until all cached credentials are valid for at least this time.
async fn all_last(world: &World, least: Duration) {
    eventually("new sessions last longer", LATER, async || {
        let end = i64::try_from(world.operator.metric(END).await).unwrap();
        let left = end - Timestamp::now().as_second();
        if left >= i64::try_from(least.as_secs()).unwrap() { Ok(()) } else { Err(left) }
    })
    .await;
}

#[tokio::test]
async fn credentials_that_ssm_calls_expired_are_replaced_at_once() {
    let world = synced_with_role(Duration::from_hours(1)).await;
    let before = world.ssm.calls();
    world.ssm.account(THEIRS).put("/app/a", "1");
    world.ssm.end_sessions();
    world.sync("config").await;
    world.degraded("config", "CredentialsUnavailable").await;
    world.healthy("config").await;
    world.holds("config", &[("A", "1")]).await;
    let asked = sts_calls(&world.ssm.calls().since(&before));
    assert_eq!(asked, 1, "one refused key is worth one new session");
}
