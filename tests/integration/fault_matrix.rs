//! Everything that can be wrong with SSM and on the way to it, a row for each. *Real time*: the real program against a real API server,
//! a real Redis and our own SSM. Under each fault the reason is told and not a byte changes; after it the waiting value arrives.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::events::v1::Event;
use kube::api::{Api, ListParams};
use parameter_mirror_test_support::ssm::{Body, Fault, Operation, When};
use serde_json::json;

use crate::silence;
use crate::world::{LATER, SOON, Setup, World, eventually};

/// One fault.
struct Row {
    name: &'static str,
    when: When,
    fault: Fault,
    meaning: Meaning,
}

/// What a fault means for a mirror.
enum Meaning {
    /// Degraded with this reason: what was served stays.
    Held(&'static str),
    /// Nobody notices.
    Unnoticed,
    /// A read may fail; what waits arrives under the fault all the same.
    Converges,
}

const fn held(name: &'static str, when: When, fault: Fault, reason: &'static str) -> Row {
    Row { name, when, fault, meaning: Meaning::Held(reason) }
}

const fn unnoticed(name: &'static str, when: When, fault: Fault) -> Row {
    Row { name, when, fault, meaning: Meaning::Unnoticed }
}

const fn converges(name: &'static str, when: When, fault: Fault) -> Row {
    Row { name, when, fault, meaning: Meaning::Converges }
}

fn any() -> When {
    When::any()
}

fn list() -> When {
    When::any().operation(Operation::GetParametersByPath)
}

fn values() -> When {
    When::any().operation(Operation::GetParameters)
}

fn status(code: u16, body: Body) -> Fault {
    Fault::Status { code, body }
}

#[tokio::test]
async fn the_service_fails() {
    matrix(vec![
        held("500 from the service", any(), Fault::internal(), "SourceUnavailable"),
        held("503 from the service", any(), Fault::unavailable(), "SourceUnavailable"),
        held("502 from a load balancer", any(), status(502, Body::Html), "SourceUnavailable"),
        held("503 without a word", any(), status(503, Body::Empty), "SourceUnavailable"),
        held("504 with a word of JSON", any(), status(504, Body::Json), "SourceUnavailable"),
        held("the first page fails", any().page(1), Fault::internal(), "SourceUnavailable"),
        held("a page in the middle fails", any().page(2), Fault::internal(), "SourceUnavailable"),
        held("the last page fails", any().page(3), Fault::internal(), "SourceUnavailable"),
        unnoticed("each page fails once", any().page(2).times(1), Fault::internal()),
        converges("every third request fails", any().share(0.3, 7), Fault::unavailable()),
        unnoticed("it is slow", any(), Fault::Slow(Duration::from_millis(300))),
    ])
    .await;
}

#[tokio::test]
async fn the_service_wants_fewer_requests() {
    matrix(vec![
        held("throttled", any(), Fault::throttling(), "Throttled"),
        held("throttled, with a namespace", any(), Fault::throttling_namespaced(), "Throttled"),
        held("throttled, said in a header", any(), Fault::throttling_header_only(), "Throttled"),
        held("429", any(), Fault::too_many_requests(), "Throttled"),
        held("throttled in the middle of a listing", any().page(2), Fault::throttling(), "Throttled"),
        unnoticed("a burst of throttling", any().times(2), Fault::throttling()),
    ])
    .await;
}

#[tokio::test]
async fn somebody_says_no() {
    let decrypting = || any().decrypting();
    matrix(vec![
        held(
            "IAM denies the path",
            any(),
            Fault::access_denied_iam("ssm:GetParametersByPath"),
            "AccessDenied",
        ),
        held(
            "IAM denies the values",
            values(),
            Fault::access_denied_iam("ssm:GetParameters"),
            "AccessDenied",
        ),
        held("KMS denies the key", decrypting(), Fault::access_denied_kms(), "KmsUnavailable"),
        held("the key is disabled", decrypting(), Fault::invalid_key_id(), "KmsUnavailable"),
        held("KMS is throttled", decrypting(), Fault::kms_throttled(), "KmsUnavailable"),
        held("the token has expired", any(), Fault::expired_token(), "CredentialsUnavailable"),
        held("nobody knows the client", any(), Fault::unrecognized_client(), "CredentialsUnavailable"),
        held("the signature is wrong", any(), Fault::invalid_signature(), "CredentialsUnavailable"),
        held("the request is refused as malformed", any(), Fault::validation(), "InvalidResponse"),
    ])
    .await;
}

#[tokio::test]
async fn an_answer_is_none() {
    matrix(vec![
        held("200 with a page of HTML", list(), Fault::GarbageOk, "InvalidResponse"),
        held("200 with half of the JSON", list(), Fault::BrokenJson, "InvalidResponse"),
        held("200 with half of the body", list(), Fault::Truncated, "InvalidResponse"),
        held("200 with {}", list(), Fault::EmptyObject, "InvalidResponse"),
        held("200 with {} for the values", values(), Fault::EmptyObject, "InvalidResponse"),
        held("200 with null for the parameters", list(), Fault::NullParameters, "InvalidResponse"),
        held("parameters without version", list(), Fault::MissingVersion, "InvalidResponse"),
        held("parameters without value", values(), Fault::MissingValue, "InvalidResponse"),
        held("ciphertext where a value should be", values(), Fault::CiphertextAsValue, "InvalidResponse"),
        held("parameters of wrong types", list(), Fault::WrongTypes, "InvalidResponse"),
        held("the same name twice", list(), Fault::DuplicateName, "InvalidResponse"),
    ])
    .await;
}

#[tokio::test]
async fn a_listing_does_not_end_or_is_of_the_past() {
    let endless = |per_page| Fault::Endless { below: "/app".to_owned(), per_page };
    matrix(vec![
        held("a token that leads nowhere", list().page(2), Fault::RepeatedToken, "InvalidResponse"),
        held("a token that is refused", list().page(2), Fault::invalid_next_token(), "InvalidResponse"),
        held("empty pages without end", list(), endless(0), "TooManyParameters"),
        held("a million parameters", list(), endless(10), "TooManyParameters"),
        unnoticed("an empty page in the middle", list().page(2), Fault::EmptyPage),
    ])
    .await;
}

#[tokio::test]
async fn the_way_is_broken() {
    matrix(vec![
        held("connections are reset", any(), Fault::Reset, "SourceUnavailable"),
        held("requests are taken and never answered", any(), Fault::Silent, "Timeout"),
        held("half of the body comes, and no more", list(), Fault::StallBody, "Timeout"),
        held("ten bytes a second", list(), Fault::SlowBody { bytes_per_second: 10 }, "Timeout"),
    ])
    .await;
}

/// The host name of the service is gone, and the operator starts anew: from what the targets hold.
#[tokio::test]
async fn nobody_knows_the_name() {
    let world = &mut synced().await;
    let (before, mut settings) = (State::of(world).await, world.operator.settings().clone());
    settings.ssm = "http://ssm.us-east-1.invalid".to_owned();
    world.operator.terminate().await;
    world.operator = parameter_mirror_test_support::Operator::start(settings).await;
    world.ask("config").await;
    let degraded = world.degraded("config", "SourceUnavailable").await;
    assert!(degraded.message.contains("not affected"), "{}", degraded.message);
    world.ready("config", "ServingLastKnownGood").await;
    before.is_served(world, "no such host").await;
}

/// An older version than the known one is not believed; one that was deleted and made again is.
#[tokio::test]
async fn the_past_is_not_believed_and_a_new_beginning_is() {
    let world = synced().await;
    // What one change costs, so that the answers of the past begin after the next.
    let calls = world.ssm.calls();
    world.ssm.put("/app/n00", "two");
    world.sync("config").await;
    let cost = world.ssm.calls().since(&calls).total();
    world.ssm.fail(any().skip(cost), Fault::Stale);
    world.ssm.put("/app/n00", "three");
    world.sync("config").await;
    assert_eq!(world.data("config").await.unwrap()["N00"], "three");
    world.sync("config").await;
    let degraded = world.degraded("config", "SourceChanging").await;
    assert!(degraded.message.contains("older than the known"), "{}", degraded.message);
    assert_eq!(world.data("config").await.unwrap()["N00"], "three");
    world.ssm.clear_all();

    world.ssm.delete("/app/n00");
    world.ssm.put("/app/n00", "anew");
    world.sync("config").await;
    world.healthy("config").await;
    assert_eq!(world.data("config").await.unwrap()["N00"], "anew");
    assert_eq!(world.values("config").await["/app/n00"], "anew");
}

/// A world with a synced mirror of a String, a SecureString and enough more for three pages.
async fn synced() -> World {
    let arguments = vec!["--ssm-requests-per-second=1000".to_owned(), "--log=trace".to_owned()];
    let world = World::with(Setup { arguments, ..Setup::default() }).await;
    world.ssm.put_secure("/app/secret", &world.canaries.sealed());
    for n in 0..24 {
        world.ssm.put(&format!("/app/n{n:02}"), &world.canaries.plain());
    }
    world.synced("config").await;
    // It comes after the status, and must not be counted among the events of the first row.
    world.event("config", "Synced").await;
    // Every read is asked for: one that comes by itself would fall between the look before a fault and the fault.
    world.change("config", json!({"interval": "1h"})).await;
    world.sync("config").await;
    world
}

async fn matrix(rows: Vec<Row>) {
    let world = synced().await;
    for row in rows {
        outlives(&world, row).await;
    }
    // At the end, with all that was logged under every row.
    silence::keeps(&world).await;
}

/// The most requests that one read may cost: three attempts for each of three pages and one batch, and the search for a culprit.
const REQUESTS: u64 = 60;

/// One row: the same for each of them.
async fn outlives(world: &World, Row { name, when, fault, meaning }: Row) {
    let before = State::of(world).await;
    let endless = matches!(fault, Fault::Endless { .. });
    let calls = world.ssm.calls();
    world.ssm.fail(when, fault);
    world.ssm.quotes(&world.canaries.sealed());
    // Something is to be learnt, so that a fault of decryption shows as well; no read that is under way learns it.
    let value = &world.canaries.sealed();
    world.ssm.put_secure("/app/secret", value);
    world.sync("config").await;
    let reason = match meaning {
        Meaning::Held(reason) => reason,
        Meaning::Unnoticed => {
            world.healthy("config").await;
            arrived(world, value).await;
            assert_eq!(told(world).await, before.told, "{name} made noise");
            return world.ssm.clear_all();
        }
        Meaning::Converges => {
            world.change("config", json!({"interval": "10s"})).await;
            arrived(world, value).await;
            world.ssm.clear_all();
            world.change("config", json!({"interval": "1h"})).await;
            world.sync("config").await;
            return world.healthy("config").await;
        }
    };
    let degraded = world.degraded("config", reason).await;
    assert!(degraded.message.contains("not affected"), "{name}: {}", degraded.message);
    world.ready("config", "ServingLastKnownGood").await;
    before.is_served(world, name).await;
    let sent = world.ssm.calls().since(&calls).total();
    assert!(endless || sent <= REQUESTS, "{name} cost {sent} requests");
    let rss = world.operator.process().resident_bytes();
    assert!(rss < before.rss + (32 << 20), "{name}: memory grew from {} to {rss}", before.rss);

    world.ssm.clear_all();
    world.sync("config").await;
    world.healthy("config").await;
    arrived(world, value).await;
    assert_eq!(world.field("config", "@status").await.as_deref(), Some("Synced"));
    let mut expected = before.told;
    for reason in ["Degraded", "Recovered"] {
        *expected.entry(reason.to_owned()).or_default() += 1;
    }
    eventually(&format!("{name} is told once, and its end"), SOON, async || {
        let told = told(world).await;
        if told == expected { Ok(()) } else { Err(format!("{told:?}, not {expected:?}")) }
    })
    .await;
}

/// How often each event was told; equal ones are one object with a count.
async fn told(world: &World) -> BTreeMap<String, i32> {
    let events: Api<Event> = Api::namespaced(world.client.clone(), &world.namespace);
    let mut told = BTreeMap::new();
    for event in events.list(&ListParams::default()).await.unwrap() {
        let times = event.series.map_or(1, |series| series.count);
        *told.entry(event.reason.unwrap_or_default()).or_default() += times;
    }
    told
}

/// What waited at SSM is in both targets.
async fn arrived(world: &World, value: &str) {
    eventually("what waited arrives", LATER, async || {
        let secret = world.data("config").await.unwrap_or_default().remove("SECRET");
        let redis = world.values("config").await.remove("/app/secret");
        let both = [secret, redis];
        if both.iter().all(|held| held.as_deref() == Some(value)) { Ok(()) } else { Err(world.seen(&both)) }
    })
    .await;
}

/// What a fault must leave as it is.
struct State {
    secret: String,
    redis: BTreeMap<String, Vec<u8>>,
    /// When it was looked at, Unix seconds.
    looked_at: i64,
    told: BTreeMap<String, i32>,
    status_writes: u64,
    rss: u64,
}

impl State {
    async fn of(world: &World) -> Self {
        Self {
            secret: world.resource_version("config").await,
            redis: world.content("config").await,
            looked_at: Timestamp::now().as_second(),
            told: told(world).await,
            status_writes: world.operator.metric("parameter_mirror_status_writes_total").await,
            rss: world.operator.process().resident_bytes(),
        }
    }

    async fn is_served(&self, world: &World, name: &str) {
        assert_eq!(world.resource_version("config").await, self.secret, "{name} wrote the Secret");
        assert_eq!(world.content("config").await, self.redis, "{name} changed Redis");
        assert_eq!(
            world.redis.cli(&["ttl", &world.key("config")]).await,
            "-1",
            "{name}: the hash has an end"
        );
        assert_eq!(world.field("config", "@status").await.as_deref(), Some("Degraded"), "{name}");
        let last_sync = world.status("config").await.last_sync_time.unwrap().0.as_second();
        // The fault came within the second.
        assert!(last_sync <= self.looked_at + 1, "{name}: {last_sync} after {}", self.looked_at);
        let writes = world.operator.metric("parameter_mirror_status_writes_total").await;
        assert!(writes <= self.status_writes + 3, "{name}: {} status writes", writes - self.status_writes);
    }
}
