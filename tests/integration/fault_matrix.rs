//! All faults of SSM and of the network to it, one row each. *Real time*: the real program against a real API
//! server, a real Redis and our own SSM. Under each fault the reason is reported and not a byte changes;
//! afterwards the waiting value arrives.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Event;
use kube::api::{Api, ListParams};
use parameter_mirror_test_support::ssm::{Body, Fault, Operation, When};
use rstest::rstest;
use serde_json::json;

use crate::silence;
use crate::world::{LATER, SOON, Setup, World, eventually};

struct Row {
    when: When,
    fault: Fault,
    meaning: Meaning,
}

/// The effect of a fault on a mirror.
enum Meaning {
    /// Degraded with this reason; the served set stays.
    Held(&'static str),
    /// No effect.
    Unnoticed,
    /// A read may fail, but the waiting value arrives under the fault.
    Converges,
}

const fn held(when: When, fault: Fault, reason: &'static str) -> Row {
    Row { when, fault, meaning: Meaning::Held(reason) }
}

const fn unnoticed(when: When, fault: Fault) -> Row {
    Row { when, fault, meaning: Meaning::Unnoticed }
}

const fn converges(when: When, fault: Fault) -> Row {
    Row { when, fault, meaning: Meaning::Converges }
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

fn endless(per_page: u32) -> Fault {
    Fault::Endless { below: "/app".to_owned(), per_page }
}

fn status(code: u16, body: Body) -> Fault {
    Fault::Status { code, body }
}

#[rstest]
#[case::http_500_from_the_service(held(any(), Fault::internal(), "SourceUnavailable"))]
#[case::http_503_from_the_service(held(any(), Fault::unavailable(), "SourceUnavailable"))]
#[case::http_502_from_a_load_balancer(held(any(), status(502, Body::Html), "SourceUnavailable"))]
#[case::http_503_without_a_word(held(any(), status(503, Body::Empty), "SourceUnavailable"))]
#[case::http_504_with_a_word_of_json(held(any(), status(504, Body::Json), "SourceUnavailable"))]
#[case::the_first_page_fails(held(any().page(1), Fault::internal(), "SourceUnavailable"))]
#[case::a_page_in_the_middle_fails(held(any().page(2), Fault::internal(), "SourceUnavailable"))]
#[case::the_last_page_fails(held(any().page(3), Fault::internal(), "SourceUnavailable"))]
#[case::each_page_fails_once(unnoticed(any().page(2).times(1), Fault::internal()))]
#[case::every_third_request_fails(converges(any().share(0.3, 7), Fault::unavailable()))]
#[case::it_is_slow(unnoticed(any(), Fault::Slow(Duration::from_millis(300))))]
#[tokio::test]
async fn the_service_fails(#[case] row: Row) {
    outlives(row).await;
}

#[rstest]
#[case::throttled(held(any(), Fault::throttling(), "Throttled"))]
#[case::throttled_with_a_namespace(held(any(), Fault::throttling_namespaced(), "Throttled"))]
#[case::throttled_said_in_a_header(held(any(), Fault::throttling_header_only(), "Throttled"))]
#[case::http_429(held(any(), Fault::too_many_requests(), "Throttled"))]
#[case::throttled_in_the_middle_of_a_listing(held(any().page(2), Fault::throttling(), "Throttled"))]
#[case::a_burst_of_throttling(unnoticed(any().times(2), Fault::throttling()))]
#[tokio::test]
async fn requests_are_throttled(#[case] row: Row) {
    outlives(row).await;
}

#[rstest]
#[case::iam_denies_the_path(held(
    any(),
    Fault::access_denied_iam("ssm:GetParametersByPath"),
    "AccessDenied"
))]
#[case::iam_denies_the_values(held(values(), Fault::access_denied_iam("ssm:GetParameters"), "AccessDenied"))]
#[case::kms_denies_the_key(held(any().decrypting(), Fault::access_denied_kms(), "KmsUnavailable"))]
#[case::the_key_is_disabled(held(any().decrypting(), Fault::invalid_key_id(), "KmsUnavailable"))]
#[case::kms_is_throttled(held(any().decrypting(), Fault::kms_throttled(), "KmsUnavailable"))]
#[case::the_token_has_expired(held(any(), Fault::expired_token(), "CredentialsUnavailable"))]
#[case::nobody_knows_the_client(held(any(), Fault::unrecognized_client(), "CredentialsUnavailable"))]
#[case::the_signature_is_wrong(held(any(), Fault::invalid_signature(), "CredentialsUnavailable"))]
#[case::the_request_is_refused_as_malformed(held(any(), Fault::validation(), "InvalidResponse"))]
#[tokio::test]
async fn requests_are_denied(#[case] row: Row) {
    outlives(row).await;
}

#[rstest]
#[case::http_200_with_a_page_of_html(held(list(), Fault::GarbageOk, "InvalidResponse"))]
#[case::http_200_with_half_of_the_json(held(list(), Fault::BrokenJson, "InvalidResponse"))]
#[case::http_200_with_half_of_the_body(held(list(), Fault::Truncated, "SourceUnavailable"))]
#[case::http_200_with_an_empty_object(held(list(), Fault::EmptyObject, "InvalidResponse"))]
#[case::http_200_with_an_empty_object_for_the_values(held(values(), Fault::EmptyObject, "InvalidResponse"))]
#[case::http_200_with_null_for_the_parameters(held(list(), Fault::NullParameters, "InvalidResponse"))]
#[case::parameters_without_version(held(list(), Fault::MissingVersion, "InvalidResponse"))]
#[case::parameters_without_value(held(values(), Fault::MissingValue, "InvalidResponse"))]
#[case::ciphertext_where_a_value_should_be(held(values(), Fault::CiphertextAsValue, "InvalidResponse"))]
#[case::parameters_of_wrong_types(held(list(), Fault::WrongTypes, "InvalidResponse"))]
#[case::the_same_name_twice(held(list(), Fault::DuplicateName, "InvalidResponse"))]
#[tokio::test]
async fn answers_are_invalid(#[case] row: Row) {
    outlives(row).await;
}

#[rstest]
#[case::a_token_that_leads_nowhere(held(list().page(2), Fault::RepeatedToken, "InvalidResponse"))]
#[case::a_token_that_is_refused(held(list().page(2), Fault::invalid_next_token(), "InvalidResponse"))]
#[case::empty_pages_without_end(held(list(), endless(0), "TooManyParameters"))]
#[case::a_million_parameters(held(list(), endless(10), "TooManyParameters"))]
#[case::an_empty_page_in_the_middle(unnoticed(list().page(2), Fault::EmptyPage))]
#[tokio::test]
async fn listings_do_not_end(#[case] row: Row) {
    outlives(row).await;
}

#[rstest]
#[case::connections_are_reset(held(any(), Fault::Reset, "SourceUnavailable"))]
#[case::requests_are_taken_and_never_answered(held(any(), Fault::Silent, "Timeout"))]
#[case::half_of_the_body_comes_and_no_more(held(list(), Fault::StallBody, "Timeout"))]
#[case::ten_bytes_a_second(held(list(), Fault::SlowBody { bytes_per_second: 10 }, "Timeout"))]
#[tokio::test]
async fn connections_fail(#[case] row: Row) {
    outlives(row).await;
}

/// SSM's host name cannot be resolved, and the operator restarts: it recovers from the targets.
#[tokio::test]
async fn the_host_name_is_gone() {
    let world = &mut synced().await;
    let (before, mut settings) = (State::of(world).await, world.operator.settings().clone());
    settings.ssm = "http://ssm.us-east-1.invalid".to_owned();
    world.operator.terminate().await;
    world.operator = parameter_mirror_test_support::Operator::start(settings).await;
    world.ask("config").await;
    let degraded = world.degraded("config", "SourceUnavailable").await;
    assert!(degraded.message.contains("not affected"), "{}", degraded.message);
    world.ready("config", "ServingLastKnownGood").await;
    before.is_served(world).await;
}

/// An older version than the known one is refused; a parameter that was deleted and created again is
/// accepted.
#[tokio::test]
async fn an_older_version_is_refused_and_a_recreated_parameter_is_not() {
    let world = synced().await;
    // The number of calls for one change, so that the stale answers begin after the next change.
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
    world.ssm.put("/app/n00", "new");
    world.sync("config").await;
    world.healthy("config").await;
    assert_eq!(world.data("config").await.unwrap()["N00"], "new");
    assert_eq!(world.values("config").await["/app/n00"], "new");
}

/// A world with a synced mirror: a `SecureString`, and enough `String`s for three pages.
async fn synced() -> World {
    let arguments = vec!["--ssm-requests-per-second=1000".to_owned(), format!("--log={EVERYTHING}")];
    let world = World::with(Setup { arguments, ..Setup::default() }).await;
    world.ssm.put_secure("/app/secret", &world.canaries.sealed());
    for n in 0..24 {
        world.ssm.put(&format!("/app/n{n:02}"), &world.canaries.plain());
    }
    world.synced("config").await;
    // The event comes after the status, and must not be counted in the first row.
    world.event("config", "Synced").await;
    // Reads are only triggered: a scheduled one could start between the snapshot and the fault.
    world.change("config", json!({"interval": "1h"})).await;
    world.sync("config").await;
    world
}

/// The most requests that one read may cost: three attempts for each of three pages and one batch, and the search for a culprit.
const REQUESTS: u64 = 60;

/// Every target that the filter can turn on, at its highest level.
const EVERYTHING: &str = "trace,kube=trace,hyper=trace,hyper_util=trace,rustls=trace,tower=trace,aws_smithy=trace,aws_sdk=trace,h2=trace";

/// One fault, from a synced mirror to a healthy one. No value may appear in the trace of it.
async fn outlives(row: Row) {
    let world = synced().await;
    let held = match row.meaning {
        Meaning::Held(reason) => Some(reason),
        Meaning::Unnoticed | Meaning::Converges => None,
    };
    let (before, calls) = (State::of(&world).await, world.ssm.calls());
    let is_endless = matches!(row.fault, Fault::Endless { .. });
    world.ssm.fail(row.when, row.fault);
    world.ssm.quotes(&world.canaries.sealed());
    // There is a new secret value, so that a decryption fault takes effect. No read in progress can have read
    // it.
    let value = &world.canaries.sealed();
    world.ssm.put_secure("/app/secret", value);
    world.sync("config").await;
    match row.meaning {
        Meaning::Held(reason) => {
            let degraded = world.degraded("config", reason).await;
            assert!(degraded.message.contains("not affected"), "{}", degraded.message);
            world.ready("config", "ServingLastKnownGood").await;
            before.is_served(&world).await;
            let sent = world.ssm.calls().since(&calls).total();
            assert!(is_endless || sent <= REQUESTS, "it cost {sent} requests");
            let rss = world.operator.process().resident_bytes();
            assert!(rss < before.rss + (32 << 20), "memory grew from {} to {rss}", before.rss);
        }
        Meaning::Unnoticed => {
            world.healthy("config").await;
            arrived(&world, value).await;
            assert_eq!(event_counts(&world).await, before.event_counts);
        }
        Meaning::Converges => {
            world.change("config", json!({"interval": "10s"})).await;
            arrived(&world, value).await;
        }
    }
    world.ssm.clear_all();
    if let Some(reason) = held {
        recovers(&world, value, before.event_counts, reason).await;
    }
    silence::keeps(&world).await;
}

/// After the fault, what waited at SSM arrives, and log and events have reported the fault and its end once.
async fn recovers(world: &World, value: &str, mut expected: BTreeMap<String, i32>, reason: &str) {
    world.sync("config").await;
    world.healthy("config").await;
    arrived(world, value).await;
    assert_eq!(world.field("config", "@status").await.as_deref(), Some("Synced"));
    for reason in [reason, "Recovered"] {
        *expected.entry(reason.to_owned()).or_default() += 1;
    }
    eventually("the fault and its end are reported once", SOON, async || {
        let event_counts = event_counts(world).await;
        if event_counts == expected { Ok(()) } else { Err(format!("{event_counts:?}, not {expected:?}")) }
    })
    .await;
}

/// Counts the events; equal ones are one object with a count.
async fn event_counts(world: &World) -> BTreeMap<String, i32> {
    let events: Api<Event> = Api::namespaced(world.client.clone(), &world.namespace);
    let mut event_counts = BTreeMap::new();
    for event in events.list(&ListParams::default()).await.unwrap() {
        let times = event.count.unwrap_or(1);
        *event_counts.entry(event.reason.unwrap_or_default()).or_default() += times;
    }
    event_counts
}

/// Waits until both targets have the new value.
async fn arrived(world: &World, value: &str) {
    eventually("what waited arrives", LATER, async || {
        let secret = world.data("config").await.unwrap_or_default().remove("SECRET");
        let redis = world.values("config").await.remove("/app/secret");
        let both = [secret, redis];
        if both.iter().all(|held| held.as_deref() == Some(value)) { Ok(()) } else { Err(world.seen(&both)) }
    })
    .await;
}

/// The state that a fault must not change.
struct State {
    secret: String,
    redis: BTreeMap<String, Vec<u8>>,
    /// The time of the snapshot, Unix seconds.
    looked_at: i64,
    event_counts: BTreeMap<String, i32>,
    status_writes: u64,
    rss: u64,
}

impl State {
    async fn of(world: &World) -> Self {
        Self {
            secret: world.resource_version("config").await,
            redis: world.content("config").await,
            looked_at: Timestamp::now().as_second(),
            event_counts: event_counts(world).await,
            status_writes: world.operator.metric("parameter_mirror_status_writes_total").await,
            rss: world.operator.process().resident_bytes(),
        }
    }

    async fn is_served(&self, world: &World) {
        assert_eq!(world.resource_version("config").await, self.secret, "the Secret was written");
        assert_eq!(world.content("config").await, self.redis, "Redis was changed");
        assert_eq!(world.redis.cli(&["ttl", &world.key("config")]).await, "-1", "the hash has an end");
        assert_eq!(world.field("config", "@status").await.as_deref(), Some("Degraded"));
        let last_sync = world.status("config").await.last_sync_time.unwrap().0.as_second();
        // The fault may start within the same second.
        assert!(last_sync <= self.looked_at + 1, "{last_sync} after {}", self.looked_at);
        let writes = world.operator.metric("parameter_mirror_status_writes_total").await;
        assert!(writes <= self.status_writes + 3, "{} status writes", writes - self.status_writes);
    }
}
