//! The credentials sources over real HTTP, including silent ones.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use jiff::Timestamp;
use parameter_mirror_test_support::{Scratch, Ssm as OwnSsm};
use serde_json::{Value as Json, json};
use tracing_mutex::parkinglot::Mutex;

use super::super::testing::{LONG, SHORT, environment, in_short, serve};
use super::super::{Ssm, SsmError};
use super::*;

pub(super) const HOUR: Duration = Duration::from_hours(1);

/// The requests that a source received, in order.
#[derive(Clone, Default)]
pub(super) struct Asked(Arc<Mutex<Vec<String>>>);

impl Asked {
    pub(super) fn lines(&self) -> Vec<String> {
        self.0.lock().clone()
    }
}

/// A source that answers by method and path. Requests without an answer hang.
pub(super) async fn source(
    asked: &Asked,
    header: &'static str,
    answer: impl Fn(&str) -> Option<Response> + Clone + Send + Sync + 'static,
) -> String {
    let asked = asked.clone();
    let respond = async move |request: Request| {
        let line = format!("{} {}", request.method(), request.uri());
        let shown = request.headers().get(header).map_or("none", |value| value.to_str().unwrap());
        asked.0.lock().push(format!("{line} {header}: {shown}"));
        match answer(&line) {
            Some(response) => response,
            None => std::future::pending().await,
        }
    };
    serve(Router::new().fallback(respond)).await
}

pub(super) fn chain(variables: &[(&str, &str)]) -> Chain {
    Chain::new(environment(variables), "us-east-1".to_owned(), Http::new())
}

pub(super) async fn provide(chain: &Chain, within: Duration) -> Result<Credentials, String> {
    let outcome = chain.provide(&mut Budget::new(within)).await;
    if let Err(what) = &outcome {
        assert!(!what.contains("hunter2"), "{what}");
    }
    outcome
}

/// Credentials in the format of container endpoints and the metadata service.
pub(super) fn handed(id: &str, lifetime: Duration) -> Response {
    let end = Timestamp::now() + lifetime;
    let handed = json!({
        "Code": "Success", "AccessKeyId": id, "SecretAccessKey": "hunter2", "Token": "hunter2-token",
        "Expiration": end.to_string(),
    });
    handed.to_string().into_response()
}

fn parts(credentials: &Credentials) -> (&str, &str, Option<&str>) {
    (credentials.access_key_id(), credentials.secret_access_key(), credentials.session_token())
}

const HANDED: (&str, &str, Option<&str>) = ("AKID", "hunter2", Some("hunter2-token"));

#[tokio::test]
async fn the_environment_comes_first() {
    let chain = chain(&[
        ("AWS_ACCESS_KEY_ID", "AKIDENV"),
        ("AWS_SECRET_ACCESS_KEY", "secret"),
        ("AWS_SESSION_TOKEN", ""),
        ("AWS_WEB_IDENTITY_TOKEN_FILE", "/nowhere"),
        ("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "/nowhere"),
    ]);
    let credentials = provide(&chain, LONG).await.unwrap();
    assert_eq!(parts(&credentials), ("AKIDENV", "secret", None));
    assert_eq!(credentials.expiry(), None);
}

#[tokio::test]
async fn a_key_with_a_line_break_is_reported_and_not_shown() {
    let keys = [("AWS_ACCESS_KEY_ID", "AKID"), ("AWS_SECRET_ACCESS_KEY", "hunter2\n")];
    let what = provide(&chain(&keys), LONG).await.unwrap_err();
    assert!(what.contains("secret access key") && what.contains("line breaks"), "{what}");
}

#[tokio::test]
async fn without_any_source_it_says_what_was_looked_for() {
    let what = provide(&chain(&[("AWS_ACCESS_KEY_ID", "AKID")]), LONG).await.unwrap_err();
    assert!(what.contains("no keys") && what.contains("profiles and SSO are not read"), "{what}");
}

#[tokio::test]
async fn a_container_shows_its_token_of_the_moment() {
    let scratch = Scratch::new("pod-identity").unwrap();
    let file = scratch.path().join("token");
    std::fs::write(&file, "hunter2-file\n").unwrap();
    let asked = Asked::default();
    let endpoint = source(&asked, "authorization", |_| Some(handed("AKID", HOUR))).await;
    let chain = chain(&[
        ("AWS_CONTAINER_CREDENTIALS_FULL_URI", &format!("{endpoint}/v1/credentials")),
        ("AWS_CONTAINER_AUTHORIZATION_TOKEN", "hunter2-env"),
        ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", file.to_str().unwrap()),
    ]);
    assert_eq!(parts(&provide(&chain, LONG).await.unwrap()), HANDED);
    // Cached from now on.
    provide(&chain, LONG).await.unwrap();
    assert_eq!(asked.lines(), ["GET /v1/credentials authorization: hunter2-file"]);
}

#[tokio::test]
async fn a_token_is_not_sent_to_a_foreign_host() {
    let chain = chain(&[
        ("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://example.com/"),
        ("AWS_CONTAINER_AUTHORIZATION_TOKEN", "hunter2"),
    ]);
    let what = provide(&chain, LONG).await.unwrap_err();
    assert!(what.contains("AWS_CONTAINER_CREDENTIALS_FULL_URI is neither https"), "{what}");
}

/// The metadata service of an instance with a role.
fn metadata(line: &str) -> Response {
    match line {
        "PUT /latest/api/token" => "hunter2-session".into_response(),
        "GET /latest/meta-data/iam/security-credentials/" => "the-role\n".into_response(),
        "GET /latest/meta-data/iam/security-credentials/the-role" => handed("AKID", HOUR),
        _ => StatusCode::NOT_FOUND.into_response(),
    }
}

fn on_instance(endpoint: &str) -> Chain {
    let endpoint = ("AWS_EC2_METADATA_SERVICE_ENDPOINT", endpoint);
    chain(&[("AWS_EC2_METADATA_DISABLED", "false"), endpoint])
}

#[tokio::test]
async fn an_instance_is_asked_with_a_session_token() {
    let asked = Asked::default();
    let chain = on_instance(&source(&asked, "x-aws-ec2-metadata-token", |line| Some(metadata(line))).await);
    assert_eq!(parts(&provide(&chain, LONG).await.unwrap()), HANDED);
    let roles = "GET /latest/meta-data/iam/security-credentials/";
    assert_eq!(
        asked.lines(),
        [
            "PUT /latest/api/token x-aws-ec2-metadata-token: none".to_owned(),
            format!("{roles} x-aws-ec2-metadata-token: hunter2-session"),
            format!("{roles}the-role x-aws-ec2-metadata-token: hunter2-session"),
        ]
    );
}

#[tokio::test]
async fn an_instance_without_a_role_says_so() {
    let no_role = |line: &str| {
        let is_token = line.starts_with("PUT");
        Some(if is_token { metadata(line) } else { StatusCode::NOT_FOUND.into_response() })
    };
    let chain = on_instance(&source(&Asked::default(), "host", no_role).await);
    let what = provide(&chain, LONG).await.unwrap_err();
    assert!(what.contains("the instance has no role") && what.contains("SSO are not read"), "{what}");
}

/// When EC2 cannot renew credentials, it returns expired ones, and AWS accepts them.
#[tokio::test]
async fn an_instance_may_hand_out_what_has_just_ended() {
    let ended = |line: &str| {
        let last = "GET /latest/meta-data/iam/security-credentials/the-role";
        Some(if line == last { handed_before() } else { metadata(line) })
    };
    let chain = on_instance(&source(&Asked::default(), "host", ended).await);
    let credentials = provide(&chain, LONG).await.unwrap();
    assert!(credentials.expiry().unwrap() > SystemTime::now());
}

/// Credentials that expired a minute ago.
fn handed_before() -> Response {
    let end = Timestamp::now() - Duration::from_mins(1);
    let handed = json!({
        "AccessKeyId": "AKID", "SecretAccessKey": "hunter2", "Token": "hunter2-token", "Expiration": end.to_string(),
    });
    handed.to_string().into_response()
}

#[tokio::test]
async fn a_source_without_usable_credentials_is_reported_and_its_answer_is_not_shown() {
    let whole = json!({
        "AccessKeyId": "hunter2", "SecretAccessKey": "hunter2", "Token": "hunter2",
        "Expiration": "2999-01-01T00:00:00Z",
    });
    let with = |member: &str, value: Json| {
        let mut body = whole.clone();
        body[member] = value;
        body.to_string()
    };
    let broken = [
        ("<html>hunter2".to_owned(), "not the expected JSON"),
        ("{}".to_owned(), "no AccessKeyId"),
        (with("SecretAccessKey", Json::Null), "no SecretAccessKey"),
        (with("Token", Json::Null), "no session token"),
        (with("Expiration", "hunter2".into()), "no legal Expiration"),
        (with("Token", "hunter2\nx".into()), "session token is empty or holds"),
        (with("Code", "AssumeRoleUnauthorizedAccess".into()), "AssumeRoleUnauthorizedAccess"),
        (with("Expiration", "2020-01-01T00:00:00Z".into()), "ended already"),
    ];
    for (body, expected) in broken {
        let endpoint = source(&Asked::default(), "host", move |_| Some(body.clone().into_response())).await;
        let chain = chain(&[("AWS_CONTAINER_CREDENTIALS_FULL_URI", &endpoint)]);
        let what = provide(&chain, LONG).await.unwrap_err();
        assert!(what.contains(expected), "{what}");
    }
}

/// Creates the folder and the variables of a web identity.
fn web_identity(sts: &str) -> (Scratch, Chain) {
    let scratch = Scratch::new("web-identity").unwrap();
    let file = scratch.path().join("token");
    std::fs::write(&file, "hunter2.a+b/c=\n").unwrap();
    let chain = chain(&[
        ("AWS_ENDPOINT_URL_STS", sts),
        ("AWS_WEB_IDENTITY_TOKEN_FILE", file.to_str().unwrap()),
        ("AWS_ROLE_ARN", "arn:aws:iam::444455556666:role/reader"),
        ("AWS_ROLE_SESSION_NAME", "pod-1"),
    ]);
    (scratch, chain)
}

#[tokio::test]
async fn a_web_identity_asks_sts_in_json_and_unsigned() {
    let seen: Arc<Mutex<String>> = Arc::default();
    let note = Arc::clone(&seen);
    let sts = async move |request: Request| {
        let (head, body) = request.into_parts();
        let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
        let accept = head.headers["accept"].to_str().unwrap();
        assert!(!head.headers.contains_key("authorization"));
        *note.lock() = format!("{} {} {accept} {}", head.method, head.uri, str::from_utf8(&body).unwrap());
        let end = Timestamp::now().as_second() + 3_600;
        // In AWS's format: the date in seconds, with an exponent.
        let end = format!("{:.9}E9", f64::from(u32::try_from(end).unwrap()) / 1e9);
        format!(
            r#"{{"AssumeRoleWithWebIdentityResponse":{{"AssumeRoleWithWebIdentityResult":{{"Credentials":
            {{"AccessKeyId":"AKID","SecretAccessKey":"hunter2","SessionToken":"hunter2-token","Expiration":{end}}},
            "Provider":"x"}},"ResponseMetadata":{{"RequestId":"x"}}}}}}"#
        )
    };
    let endpoint = serve(Router::new().fallback(sts)).await;
    let (_scratch, chain) = web_identity(&endpoint);
    let credentials = provide(&chain, LONG).await.unwrap();
    assert_eq!(parts(&credentials), HANDED);
    let left = credentials.expiry().unwrap().duration_since(SystemTime::now()).unwrap();
    assert!(left > Duration::from_mins(59) && left <= HOUR, "{left:?}");
    assert_eq!(
        *seen.lock(),
        "POST / application/json Action=AssumeRoleWithWebIdentity&Version=2011-06-15&\
         RoleArn=arn%3Aaws%3Aiam%3A%3A444455556666%3Arole%2Freader&RoleSessionName=pod-1&\
         WebIdentityToken=hunter2.a%2Bb%2Fc%3D"
    );
}

/// Our own STS answers XML, as the API reference documents, and its SSM knows to whom the credentials belong.
#[tokio::test]
async fn a_web_identity_reads_the_parameters_of_its_own_account() {
    let server = OwnSsm::start();
    server.put("/x", "of the default account");
    server.account("444455556666").put("/x", "of the role's account");
    let (_scratch, chain) = web_identity(&server.endpoint());
    let environment = chain.environment.clone();
    let ssm = Ssm::new("us-east-1".to_owned(), Some(server.endpoint()), environment).unwrap();
    let names = ["/x".to_owned()];
    let found = ssm.read(&[], &names, LONG).await.unwrap();
    assert_eq!(found["/x"].value.expose(), "of the role's account");
    assert_eq!(server.web_identity_tokens(), ["hunter2.a+b/c="]);
    server.end_sessions();
    let error = ssm.read(&[], &names, LONG).await.unwrap_err();
    assert!(matches!(error, SsmError::CredentialsUnavailable(_)), "{error}");
    assert!(error.to_string().contains("ExpiredTokenException"), "{error}");
    // New credentials are fetched then, but not at every call.
    tokio::time::pause();
    tokio::time::advance(PAUSE).await;
    tokio::time::resume();
    ssm.read(&[], &names, LONG).await.unwrap();
    assert_eq!(server.web_identity_tokens().len(), 2);
}

#[tokio::test]
async fn a_refusal_of_sts_is_reported_with_its_code_alone() {
    let json = r#"{"Error":{"Code":"InvalidIdentityToken","Message":"hunter2","Type":"Sender"}}"#;
    let xml =
        "<ErrorResponse><Error><Code>AccessDenied</Code><Message>hunter2</Message></Error></ErrorResponse>";
    for (body, code) in [(json, "InvalidIdentityToken"), (xml, "AccessDenied"), ("hunter2", "without a code")]
    {
        let refusing = move |_: &str| Some((StatusCode::FORBIDDEN, body).into_response());
        let (_scratch, chain) = web_identity(&source(&Asked::default(), "host", refusing).await);
        let what = provide(&chain, LONG).await.unwrap_err();
        assert!(what.contains(code) && what.contains("role/reader"), "{what}");
    }
}

#[tokio::test]
async fn a_web_identity_without_its_parts_says_which() {
    let file = ("AWS_WEB_IDENTITY_TOKEN_FILE", "/nowhere/token");
    let what = provide(&chain(&[file]), LONG).await.unwrap_err();
    assert!(what.contains("AWS_ROLE_ARN is not"), "{what}");
    let what = provide(&chain(&[file, ("AWS_ROLE_ARN", "arn:aws:iam::1:role/r")]), LONG).await.unwrap_err();
    assert!(what.contains("/nowhere/token"), "{what}");
}

#[tokio::test]
async fn a_silent_source_ends_with_the_budget_and_is_not_blamed_on_ssm() {
    let silent = source(&Asked::default(), "host", |_| None).await;
    let half_silent = |line: &str| line.starts_with("PUT").then(|| metadata(line));
    let half_silent = source(&Asked::default(), "host", half_silent).await;
    let (_scratch, by_sts) = web_identity(&silent);
    let sources = [
        (by_sts, "STS"),
        (chain(&[("AWS_CONTAINER_CREDENTIALS_FULL_URI", &silent)]), "container"),
        (on_instance(&silent), "instance metadata"),
        (on_instance(&half_silent), "instance metadata"),
    ];
    for (chain, whom) in sources {
        let ssm = Ssm::new("us-east-1".to_owned(), None, chain.environment).unwrap();
        let error = in_short(ssm.read(&[], &["/x".to_owned()], SHORT)).await.unwrap_err();
        assert!(matches!(error, SsmError::CredentialsUnavailable(_)), "{error}");
        let text = error.to_string();
        assert!(text.contains(whom) && text.contains("no complete answer in time"), "{text}");
    }
}

#[tokio::test]
async fn a_source_that_fails_once_is_asked_once_more() {
    let times = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&times);
    let fails_once = move |_: &str| {
        let is_first = count.fetch_add(1, Ordering::Relaxed) == 0;
        let failed = (StatusCode::INTERNAL_SERVER_ERROR, "hunter2").into_response();
        Some(if is_first { failed } else { handed("AKID", HOUR) })
    };
    let endpoint = source(&Asked::default(), "host", fails_once).await;
    provide(&chain(&[("AWS_CONTAINER_CREDENTIALS_FULL_URI", &endpoint)]), LONG).await.unwrap();
    assert_eq!(times.load(Ordering::Relaxed), 2);
    let refuses = |_: &str| Some(StatusCode::INTERNAL_SERVER_ERROR.into_response());
    let endpoint = source(&Asked::default(), "host", refuses).await;
    let chain = chain(&[("AWS_CONTAINER_CREDENTIALS_FULL_URI", &endpoint)]);
    let what = provide(&chain, LONG).await.unwrap_err();
    assert!(what.contains("HTTP 500"), "{what}");
}
