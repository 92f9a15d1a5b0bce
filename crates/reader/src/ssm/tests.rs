//! Reads from our own SSM over real HTTP, and from moto, an independent implementation.

use std::time::Duration;

use async_trait::async_trait;
use aws_credential_types::Credentials;
use axum::Router;
use parameter_mirror_ssm::SsmErrorKind;
use parameter_mirror_ssm::credentials::Fetch;
use parameter_mirror_test_support::ssm::{Body, Fault, Kind, Operation as Sent, When};
use parameter_mirror_test_support::{Moto, Ssm as OwnSsm};
use serde_json::{Value as Json, json};

use super::*;

type Found = BTreeMap<String, Parameter>;

/// Longer than any stand-in on this machine needs for all requests.
const LONG: Duration = Duration::from_secs(20);
/// A deadline that a test waits for.
const SHORT: Duration = Duration::from_millis(400);

/// The credentials of the tests.
struct Keys;

#[async_trait]
impl Fetch for Keys {
    async fn fetch(&self) -> Result<Credentials, String> {
        Ok(Credentials::new("AKIDEXAMPLE", "hunter2", Some("hunter2-token".to_owned()), None, "test"))
    }
}

/// The SSM at this endpoint, with credentials.
async fn ssm(endpoint: &str) -> Ssm {
    let region = Region::from_static("us-east-1");
    let principal =
        CredentialsCache::start(Clock::start(), "this process".to_owned(), Keys, watch::Sender::new(0));
    let endpoint = Endpoint::Url(endpoint.to_owned());
    let client = SsmClient::connect(region.clone(), endpoint.clone(), Deadline::OfTheCaller, principal).await;
    Ssm(Arc::new(Shared { region, endpoint, client: OnceCell::new_with(Some(client)) }))
}

/// Starts a small HTTP server that lives as long as the test's runtime, and returns its base URL.
async fn serve(router: Router) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async { axum::serve(listener, router).await.unwrap() });
    format!("http://{address}")
}

/// Returns the text of an error, and checks that it contains none of the secrets of the tests.
fn text(error: &SsmReadError) -> String {
    let both = format!("{error} {error:?}");
    assert!(!both.contains("hunter2"), "{both}");
    error.to_string()
}

/// Returns the class of a failed request.
fn class(error: &SsmReadError) -> Option<SsmErrorKind> {
    match error {
        SsmReadError::Request(error) => Some(error.kind),
        _ => None,
    }
}

fn strings(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|&text| text.to_owned()).collect()
}

async fn read_within(
    endpoint: &str,
    paths: &[&str],
    names: &[&str],
    within: Duration,
) -> Result<Found, SsmReadError> {
    ssm(endpoint).await.read(&strings(paths), &strings(names), within).await
}

async fn read(server: &OwnSsm, paths: &[&str], names: &[&str]) -> Result<Found, SsmReadError> {
    read_within(&server.endpoint(), paths, names, LONG).await
}

/// Returns names and values, in order.
fn values(found: &Found) -> Vec<(&str, &str)> {
    found.iter().map(|(name, one)| (name.as_str(), one.value.expose())).collect()
}

/// 25 parameters below `/app`, which are three pages.
fn three_pages() -> OwnSsm {
    let server = OwnSsm::start();
    for number in 0..25 {
        server.put(&format!("/app/{number:02}"), &format!("hunter2-{number}"));
    }
    server
}

#[tokio::test]
async fn a_path_is_read_to_its_last_page_and_on_every_level() {
    let server = three_pages();
    server.put("/app/db/main/host", "hunter2-host");
    server.put("/apple/pie", "other");
    let found = read(&server, &["/app/"], &[]).await.unwrap();
    assert_eq!(found.len(), 26);
    assert_eq!(found["/app/db/main/host"].value.expose(), "hunter2-host");
    assert!(!format!("{found:?}").contains("hunter2"));
    assert_eq!(server.calls().of(Sent::GetParametersByPath), 3);
    assert_eq!(server.calls().connections, 1, "pages share a connection");
}

#[tokio::test]
async fn values_are_decrypted_whatever_their_type() {
    let server = OwnSsm::start();
    server.put("/app/plain", "a");
    server.put_list("/app/list", "a,b");
    server.put_secure("/app/secret", "c\n\"é");
    server.put_secure("/one/secret", "d");
    let found = read(&server, &["/app"], &["/one/secret"]).await.unwrap();
    let all = [("/app/list", "a,b"), ("/app/plain", "a"), ("/app/secret", "c\n\"é"), ("/one/secret", "d")];
    assert_eq!(values(&found), all);
    let kinds: Vec<ParameterType> = found.values().map(|one| one.kind).collect();
    let secret = ParameterType::SecureString;
    assert_eq!(kinds, [ParameterType::StringList, ParameterType::String, secret, secret]);
}

#[tokio::test]
async fn ciphertext_in_place_of_a_value_is_no_answer() {
    let server = three_pages();
    server.put_secure("/app/secret", "hunter2");
    server.fail(When::any(), Fault::CiphertextAsValue);
    for (paths, names) in [(&["/app"][..], &[][..]), (&[], &["app/secret:1"])] {
        let error = read(&server, paths, names).await.unwrap_err();
        assert!(text(&error).contains("/app/secret encrypted"), "{error}");
        assert!(!error.to_string().contains("AQICAH"), "{error}");
    }
}

/// A user may store ciphertext. A value that does not look like ciphertext causes no further call.
#[tokio::test]
async fn a_value_that_only_looks_like_ciphertext_is_a_value() {
    let server = OwnSsm::start();
    server.put_secure("secret", "AQICAHhZ");
    server.put("plain", "AQICAHhZ");
    let found = read(&server, &[], &["secret", "plain"]).await.unwrap();
    assert_eq!(found["/secret"].value.expose(), "AQICAHhZ");
    let asked: Vec<_> = server.log().into_iter().map(|call| (call.names, call.with_decryption)).collect();
    // Requested with the name as the caller wrote it.
    assert_eq!(asked, [(strings(&["secret", "plain"]), true), (strings(&["secret"]), false)]);
}

#[tokio::test]
async fn versions_and_dates_are_those_of_ssm() {
    let server = OwnSsm::start();
    server.put("/x", "old");
    let home = server.region("us-east-1");
    home.put_at("/x", "new", Kind::String, 1_795_341_879_120);
    let found = read(&server, &[], &["/x"]).await.unwrap();
    assert_eq!((found["/x"].version, found["/x"].date), (2, 1_795_341_879_120));
}

#[tokio::test]
async fn names_keep_their_selectors_and_begin_with_a_slash() {
    let server = OwnSsm::start();
    server.put("/x", "one");
    server.put("/x", "two");
    server.put("/x", "three");
    server.label("/x", 2, "live");
    server.put("bare", "b");
    let found = read(&server, &[], &["/x", "/x:1", "/x:live", "bare", "/x:1"]).await.unwrap();
    assert_eq!(values(&found), [("/bare", "b"), ("/x", "three"), ("/x:1", "one"), ("/x:live", "two")]);
    // SSM refuses the same parameter twice in one batch.
    assert_eq!(server.calls().of(Sent::GetParameters), 3);
}

#[tokio::test]
async fn names_are_asked_for_in_tens() {
    let server = three_pages();
    let names: Vec<String> = (0..25).map(|number| format!("/app/{number:02}")).collect();
    let found = ssm(&server.endpoint()).await.read(&[], &names, LONG).await.unwrap();
    assert_eq!(found.keys().cloned().collect::<Vec<_>>(), names);
    assert_eq!(server.calls().of(Sent::GetParameters), 3);
}

#[tokio::test]
async fn a_name_replaces_the_same_entry_of_a_path_and_one_with_a_selector_stands_beside_it() {
    let server = OwnSsm::start();
    server.put("/app/x", "one");
    server.put("/app/x", "two");
    server.after(When::any().operation(Sent::GetParametersByPath), |here| {
        here.put("/app/x", "three");
    });
    let found = read(&server, &["/app"], &["/app/x", "/app/x:1"]).await.unwrap();
    assert_eq!(values(&found), [("/app/x", "three"), ("/app/x:1", "one")]);
}

#[tokio::test]
async fn all_absent_names_are_reported_and_nothing_is_read() {
    let server = three_pages();
    let names = ["/app/01", "/gone", "/app/02:9", "also-gone"];
    let error = read(&server, &["/app"], &names).await.unwrap_err();
    assert_eq!(error, SsmReadError::NotFound { names: strings(&["/also-gone", "/app/02:9", "/gone"]) });
    assert!(text(&error).contains("/gone"));
}

#[tokio::test]
async fn a_path_with_nothing_below_it_is_an_error() {
    let server = three_pages();
    server.put("/lonely", "x");
    for path in ["/nothing", "/lonely"] {
        let error = read(&server, &["/app", path], &[]).await.unwrap_err();
        assert_eq!(error, SsmReadError::Empty { path: path.to_owned() });
    }
}

/// The empty text would be the root after its slashes are trimmed.
#[tokio::test]
async fn no_path_is_not_the_root() {
    let server = three_pages();
    let error = read(&server, &[""], &[]).await.unwrap_err();
    assert_eq!(class(&error), Some(SsmErrorKind::InvalidResponse), "{error}");
    assert_eq!(read(&server, &["/"], &[]).await.unwrap().len(), 25);
}

#[tokio::test]
async fn an_empty_page_does_not_end_a_listing() {
    let server = three_pages();
    let faults = [1, 2, 3].map(|page| server.fail(When::any().page(page).times(1), Fault::EmptyPage));
    assert_eq!(read(&server, &["/app"], &[]).await.unwrap().len(), 25);
    assert_eq!(faults.map(|fault| server.hits(fault)), [1, 1, 1]);
}

#[tokio::test]
async fn a_listing_that_turns_in_circles_ends() {
    let server = three_pages();
    server.fail(When::any().page(2), Fault::RepeatedToken);
    let error = read(&server, &["/app"], &[]).await.unwrap_err();
    assert!(text(&error).contains("repeats a page token"), "{error}");
    assert!(server.calls().total() <= 3);
}

#[tokio::test]
async fn a_listing_without_an_end_ends() {
    let server = OwnSsm::start();
    server.fail(When::any(), Fault::Endless { below: "/app".to_owned(), per_page: 1 });
    let error = read_within(&server.endpoint(), &["/app"], &[], LONG * 3).await.unwrap_err();
    assert!(text(&error).contains("no end after 1000 pages"), "{error}");
    assert_eq!(server.calls().total(), 1_000);
}

#[tokio::test]
async fn what_is_no_answer_is_not_taken_for_one() {
    let faults = [
        Fault::WrongTypes,
        Fault::MissingValue,
        Fault::MissingVersion,
        Fault::GarbageOk,
        Fault::BrokenJson,
        Fault::EmptyObject,
        Fault::NullParameters,
        Fault::DuplicateName,
        Fault::validation(),
    ];
    for fault in faults {
        let server = three_pages();
        server.fail(When::any(), fault.clone());
        for (paths, names) in [(&["/app"][..], &[][..]), (&[], &["/app/01", "/app/02"])] {
            let error = read(&server, paths, names).await.unwrap_err();
            assert_eq!(class(&error), Some(SsmErrorKind::InvalidResponse), "{fault:?}: {error}");
            text(&error);
        }
        assert_eq!(server.calls().total(), 2, "{fault:?} passes by no second try");
    }
}

#[tokio::test]
async fn a_name_that_the_answer_is_silent_about_is_an_error() {
    let server = three_pages();
    server.fail(When::any().name("/app/02"), Fault::Drop);
    let error = read(&server, &[], &["/app/01", "/app/02"]).await.unwrap_err();
    assert!(text(&error).contains("says nothing about /app/02"), "{error}");
}

#[tokio::test]
async fn an_answer_beyond_all_bounds_is_not_held_in_memory() {
    let huge = || async { vec![b' '; 9 * 1024 * 1024] };
    let endpoint = serve(Router::new().fallback(huge)).await;
    let error = read_within(&endpoint, &["/app"], &[], LONG).await.unwrap_err();
    assert!(text(&error).contains("more than 8 MiB"), "{error}");
}

#[tokio::test]
async fn a_failure_that_passes_costs_one_second_try() {
    let faults =
        [Fault::unavailable(), Fault::internal(), Fault::throttling(), Fault::throttling_header_only()];
    let odd = [Fault::Reset, Fault::Truncated, Fault::Status { code: 502, body: Body::Html }];
    for fault in faults.into_iter().chain(odd) {
        let server = three_pages();
        server.fail(When::any().page(2).times(1), fault.clone());
        assert_eq!(read(&server, &["/app"], &[]).await.unwrap().len(), 25, "{fault:?}");
        assert_eq!(server.calls().total(), 4, "{fault:?}");
    }
}

#[tokio::test]
async fn a_request_is_tried_twice_and_no_more() {
    for (fault, expected) in
        [(Fault::unavailable(), "ServiceUnavailable"), (Fault::throttling(), "throttles")]
    {
        let server = three_pages();
        server.fail(When::any().page(3), fault);
        let error = read(&server, &["/app"], &[]).await.unwrap_err();
        assert!(text(&error).contains(expected), "{error}");
        assert_eq!(server.calls().total(), 4);
    }
}

#[tokio::test]
async fn a_denial_is_reported_and_not_retried() {
    let server = three_pages();
    server.fail(When::any(), Fault::coded(400, "AccessDeniedException", "User hunter2 is not authorized"));
    let error = read(&server, &["/app"], &[]).await.unwrap_err();
    assert_eq!(class(&error), Some(SsmErrorKind::AccessDenied), "{error}");
    assert!(text(&error).contains("AccessDeniedException; the IAM policy"), "{error}");
    assert_eq!(server.calls().total(), 1);
}

#[tokio::test]
async fn refused_credentials_are_not_the_fault_of_ssm() {
    for fault in [Fault::unrecognized_client(), Fault::invalid_signature()] {
        let server = three_pages();
        server.fail(When::any(), fault);
        let error = read(&server, &["/app"], &[]).await.unwrap_err();
        assert_eq!(class(&error), Some(SsmErrorKind::CredentialsUnavailable), "{error}");
    }
}

#[tokio::test]
async fn whatever_ssm_does_a_read_ends_with_its_budget() {
    let faults =
        [Fault::Silent, Fault::StallBody, Fault::SlowBody { bytes_per_second: 10 }, Fault::Slow(LONG)];
    for page in [1, 3] {
        for fault in &faults {
            let server = three_pages();
            server.fail(When::any().page(page), fault.clone());
            let endpoint = server.endpoint();
            let read = read_within(&endpoint, &["/app"], &[], SHORT);
            assert_eq!(read.await, Err(SsmReadError::Timeout), "{fault:?}");
        }
    }
}

#[tokio::test]
async fn a_connection_that_is_refused_or_breaks_is_reported() {
    let server = three_pages();
    let endpoint = server.endpoint();
    server.fail(When::any(), Fault::Truncated);
    let error = read_within(&endpoint, &["/app"], &[], LONG).await.unwrap_err();
    assert!(text(&error).contains("ended before the answer was complete"), "{error}");
    server.refuse();
    let error = read_within(&endpoint, &["/app"], &[], LONG).await.unwrap_err();
    let expected = format!("no connection to {}: connection refused", server.address());
    assert!(text(&error).contains(&expected), "{error}");
    server.clear_all();
    server.listen_again();
    assert_eq!(read(&server, &["/app"], &[]).await.unwrap().len(), 25);
}

#[tokio::test]
async fn a_peer_without_tls_and_a_host_that_does_not_exist_are_named() {
    let plain = serve(Router::new()).await.replace("http:", "https:");
    let error = read_within(&plain, &["/app"], &[], LONG).await.unwrap_err();
    assert_eq!(class(&error), Some(SsmErrorKind::Unavailable), "{error}");
    assert!(text(&error).contains("it does not speak TLS"), "{error}");
    let nowhere = "http://ssm.parameter-mirror.invalid:4566";
    let error = read_within(nowhere, &["/app"], &[], LONG).await.unwrap_err();
    let expected = "no connection to ssm.parameter-mirror.invalid:4566: no such host";
    assert!(text(&error).contains(expected), "{error}");
}

#[tokio::test]
async fn an_operation_is_sent_on_and_its_answer_comes_back_as_it_is() {
    let server = OwnSsm::start();
    let ssm = ssm(&server.endpoint()).await;
    server.put("/x", "v");
    let get = |name: &str| json!({"Name": name}).to_string();
    let answer = ssm.forward(Operation::GetParameter, get("/x"), LONG).await.unwrap();
    assert_eq!(answer.status, 200);
    assert_eq!(serde_json::from_slice::<Json>(&answer.body).unwrap()["Parameter"]["Value"], "v");
    let page = json!({"Path": "/", "Recursive": true});
    let answer = ssm.forward(Operation::GetParametersByPath, page.to_string(), LONG).await.unwrap();
    let body: Json = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!((answer.status, &body["Parameters"][0]["Name"]), (200, &json!("/x")));
    let answer = ssm.forward(Operation::GetParameter, get("/gone"), LONG).await.unwrap();
    assert_eq!(answer.status, 400);
    assert_eq!(serde_json::from_slice::<Json>(&answer.body).unwrap()["__type"], "ParameterNotFound");
    server.fail(When::any(), Fault::unavailable());
    let before = server.calls();
    let answer = ssm.forward(Operation::GetParameter, get("/x"), LONG).await.unwrap();
    assert_eq!((answer.status, server.calls().since(&before).total()), (503, 1));
    server.clear_all();
    server.freeze();
    let silent = ssm.forward(Operation::GetParameter, get("/x"), SHORT).await;
    assert_eq!(silent.err(), Some(SsmReadError::Timeout));
}

#[tokio::test]
async fn moto_understands_and_is_understood() {
    let moto = Moto::start().await;
    let arrange = moto.ssm("us-east-1");
    for number in 0..12 {
        arrange.put(&format!("/app/{number:02}"), "hunter2", "String").await;
    }
    arrange.put("/app/secret", "c", "SecureString").await;
    arrange.put("/one", "1", "String").await;
    arrange.put("/one", "2", "String").await;
    let read = async |paths: &[&str], names: &[&str]| read_within(&moto.endpoint(), paths, names, LONG).await;
    let found = read(&["/app"], &[]).await.unwrap();
    assert_eq!((found.len(), found["/app/secret"].value.expose()), (13, "c"));
    let found = read(&[], &["/one", "/app/secret"]).await.unwrap();
    assert_eq!(values(&found), [("/app/secret", "c"), ("/one", "2")]);
    assert_eq!(found["/one"].version, 2);
    let absent = SsmReadError::NotFound { names: strings(&["/gone"]) };
    assert_eq!(read(&[], &["/one", "/gone"]).await, Err(absent));
    assert_eq!(read(&["/nothing"], &[]).await, Err(SsmReadError::Empty { path: "/nothing".to_owned() }));
    // moto returns no selector, so the answer cannot be matched to a request. The operator does not accept it
    // either.
    let error = read(&[], &["/one:1"]).await.unwrap_err();
    assert!(text(&error).contains("does not say which version"), "{error}");
}
