//! botocore computed the expected signatures. It is AWS's own implementation and shares no code with ours.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::Router;
use axum::http::HeaderMap;
use tracing_mutex::parkinglot::Mutex;

use super::super::Operation;
use super::super::testing::{LONG, serve, ssm};
use super::*;

/// 2026-01-02T03:04:05Z
const NOW: u64 = 1_767_323_045;
const BODY: &str = r#"{"Names":["/x"]}"#;
const SCOPE: &str = "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20260102/eu-central-1/ssm/aws4_request";

fn request(endpoint: &'static str, token: Option<&str>) -> Result<Request<Full<Bytes>>, Unsignable> {
    let secret = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
    let credentials = Credentials::new("AKIDEXAMPLE", secret, token.map(str::to_owned), None, "test");
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(NOW);
    let endpoint = Uri::from_static(endpoint);
    signed((&endpoint, "eu-central-1"), "AmazonSSM.GetParameters", Bytes::from(BODY), &credentials, now)
}

fn header<'r>(request: &'r Request<Full<Bytes>>, name: &str) -> &'r str {
    request.headers()[name].to_str().unwrap()
}

#[test]
fn the_session_token_is_signed() {
    let request = request("https://ssm.eu-central-1.amazonaws.com/", Some("TOKEN/+=")).unwrap();
    assert_eq!(
        header(&request, "authorization"),
        format!(
            "{SCOPE}, SignedHeaders=content-type;host;x-amz-date;x-amz-security-token;x-amz-target, \
             Signature=877355de55940f3fe51ba18f20a751fa5d1642b94228b0e62fa91fbb6452d475"
        )
    );
    assert_eq!(header(&request, "host"), "ssm.eu-central-1.amazonaws.com");
    assert_eq!(header(&request, "x-amz-date"), "20260102T030405Z");
    assert_eq!(header(&request, "x-amz-security-token"), "TOKEN/+=");
    assert!(request.headers()["x-amz-security-token"].is_sensitive());
}

#[test]
fn the_port_is_signed_and_no_token_is_no_header() {
    let request = request("http://127.0.0.1:4566/", None).unwrap();
    assert_eq!(
        header(&request, "authorization"),
        format!(
            "{SCOPE}, SignedHeaders=content-type;host;x-amz-date;x-amz-target, \
             Signature=17d8fe94145accb93d8da9ffd54d8c8f5136264de1a2e203b0efa4b202ad243a"
        )
    );
    assert_eq!(header(&request, "host"), "127.0.0.1:4566");
}

#[test]
fn what_is_no_header_is_refused() {
    assert!(request("http://127.0.0.1:4566/", Some("two\nlines")).is_err());
}

/// The signed headers arrive unchanged: the server receives the host that the signature names.
#[tokio::test]
async fn the_signed_headers_arrive() {
    let seen: Arc<Mutex<HeaderMap>> = Arc::default();
    let note = Arc::clone(&seen);
    let server = async move |headers: HeaderMap| {
        *note.lock() = headers;
    };
    let endpoint = serve(Router::new().fallback(server)).await;
    ssm(&endpoint).forward(Operation::GetParameter, Bytes::from("{}"), LONG).await.unwrap();
    let headers = seen.lock();
    let authorization = headers["authorization"].to_str().unwrap();
    let (_, signed) = authorization.split_once("SignedHeaders=").unwrap();
    let (signed, _) = signed.split_once(',').unwrap();
    assert_eq!(signed, "content-type;host;x-amz-date;x-amz-security-token;x-amz-target");
    for name in signed.split(';') {
        assert_eq!(headers.get_all(name).iter().count(), 1, "{name}");
    }
    assert_eq!(format!("http://{}", headers["host"].to_str().unwrap()), endpoint);
    assert_eq!(headers["x-amz-security-token"], "hunter2-token");
    assert_eq!(headers["user-agent"], AGENT);
}
