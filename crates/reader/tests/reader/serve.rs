//! `serve`: what an unmodified SDK sees, and which failures the server survives.

use std::collections::BTreeMap;

use aws_credential_types::Credentials;
use aws_sdk_ssm::Client;
use aws_sdk_ssm::config::retry::RetryConfig;
use aws_sdk_ssm::config::{BehaviorVersion, Region};
use aws_sdk_ssm::error::SdkError;
use axum::http::{Method, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::Request;
use hyper::body::Bytes;
use hyper_util::rt::TokioExecutor;
use parameter_mirror_format::content::entry::ParameterType::{self, SecureString, String as Plain};
use parameter_mirror_format::content::source::StoredSelection;
use parameter_mirror_test_support::{Process, Ssm, eventually};
use serde_json::{Value as Json, json};

use crate::world::{KEY, SOON, Set, World, endpoint, has_said, set, usual};

/// A server and its endpoint.
pub struct Served {
    pub process: Process,
    pub endpoint: String,
}

pub async fn serve(world: &World, settings: &[(&str, &str)]) -> Served {
    let process =
        world.start_reader("serve --listen 127.0.0.1:0 --refresh 50ms", settings, "listening on ").await;
    Served { endpoint: endpoint(&process).await, process }
}

fn sdk(endpoint: &str) -> Client {
    let config = aws_sdk_ssm::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .credentials_provider(Credentials::from_keys("AKIAIOSFODNN7EXAMPLE", "x", None))
        .retry_config(RetryConfig::disabled())
        .endpoint_url(endpoint);
    Client::from_conf(config.build())
}

/// Sends one request, and returns status and body.
pub async fn send(method: Method, url: &str, headers: &[(&str, &str)], body: &str) -> (StatusCode, String) {
    let client = hyper_util::client::legacy::Client::builder(TokioExecutor::new()).build_http();
    let mut request = Request::builder().method(method).uri(url);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Full::new(Bytes::from(body.to_owned()))).unwrap();
    let answer = tokio::time::timeout(SOON, client.request(request)).await.expect("an answer").unwrap();
    let status = answer.status();
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

async fn operation(served: &Served, operation: &str, request: Json) -> (StatusCode, Json) {
    let headers = [("x-amz-target", &*format!("AmazonSSM.{operation}"))];
    let (status, body) = send(Method::POST, &served.endpoint, &headers, &request.to_string()).await;
    (status, serde_json::from_str(&body).unwrap_or_else(|_| panic!("not JSON: {body}")))
}

/// Twelve parameters on two levels, and a pinned version.
fn dozen() -> Set {
    let names: Vec<String> =
        (0..12).map(|n| format!("/app/{}n{n:02}", if n < 4 { "deep/" } else { "" })).collect();
    let parameters: Vec<(&str, ParameterType, &str)> =
        names.iter().map(|name| (name.as_str(), Plain, "v")).collect();
    let mut dozen = set(&parameters);
    dozen.entries.get_mut("/app/n11").unwrap().version = 5;
    let mut pinned = dozen.entries["/app/n11"].clone();
    (pinned.version, pinned.key, pinned.value) = (3, Some("OLD".to_owned()), "third".into());
    dozen.entries.insert("/app/n11:3".to_owned(), pinned);
    dozen.selections.push(StoredSelection::Name { name: "/app/n11:3".to_owned() });
    dozen
}

#[tokio::test]
async fn an_unmodified_sdk_finds_what_is_mirrored() {
    let world = World::usual().await;
    let served = serve(&world, &[]).await;
    let ssm = sdk(&served.endpoint);
    let one = ssm.get_parameter().name("/app/db/password").with_decryption(true).send().await.unwrap();
    let one = one.parameter.unwrap();
    assert_eq!(
        (one.value(), one.version, one.r#type().unwrap().as_str()),
        (Some("hunter2"), 1, "SecureString")
    );
    assert_eq!(one.arn(), Some("arn:aws:ssm:us-east-1:111122223333:parameter/app/db/password"));
    assert_eq!(one.last_modified_date.unwrap().secs(), 1_700_000_000);

    let arn = one.arn.unwrap();
    let by_arn = ssm.get_parameter().name(arn).with_decryption(true).send().await.unwrap();
    assert_eq!(by_arn.parameter.unwrap().value(), Some("hunter2"));

    let many = ssm.get_parameters().names("/app/db/host").names("/app/absent").send().await.unwrap();
    assert_eq!(many.parameters()[0].value(), Some("db.internal"));
    assert_eq!(many.invalid_parameters(), ["/app/absent"]);

    let absent = ssm.get_parameter().name("/app/absent").send().await.unwrap_err();
    assert!(absent.into_service_error().is_parameter_not_found());
}

#[tokio::test]
async fn a_public_parameter_is_found_by_its_arn_which_names_no_account() {
    let world = World::start().await;
    let name = "/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-x86_64";
    let mut public = set(&[(name, Plain, "ami-0123456789abcdef0")]);
    public.selections = vec![StoredSelection::Name { name: name.to_owned() }];
    world.publish(&public).await;
    let served = serve(&world, &[]).await;
    let arn = format!("arn:aws:ssm:us-east-1::parameter{name}");
    for asked in [name, &arn] {
        let found = sdk(&served.endpoint).get_parameter().name(asked).send().await.unwrap();
        assert_eq!(found.parameter.unwrap().arn(), Some(&*arn), "{asked}");
    }
}

#[tokio::test]
async fn pages_hold_everything_below_a_path_once() {
    let world = World::start().await;
    world.publish(&dozen()).await;
    let served = serve(&world, &[]).await;
    let ssm = sdk(&served.endpoint);
    let names = async |path: &str, recursive| {
        let pages =
            ssm.get_parameters_by_path().path(path).recursive(recursive).max_results(3).into_paginator();
        let pages: Result<Vec<_>, _> = pages.send().collect().await;
        let all = pages.unwrap().into_iter().flat_map(|page| page.parameters.unwrap_or_default());
        all.map(|one| one.name.unwrap()).collect::<Vec<_>>()
    };
    let deep: Vec<String> = (0..4).map(|n| format!("/app/deep/n{n:02}")).collect();
    let shallow: Vec<String> = (4..12).map(|n| format!("/app/n{n:02}")).collect();
    assert_eq!(names("/app", true).await, [deep.clone(), shallow.clone()].concat());
    assert_eq!(names("/app/", false).await, shallow);
    assert_eq!(names("/app/deep", true).await, deep);
    assert_eq!(names("/app/nothing/here", true).await, Vec::<String>::new());
    let wrong = ssm.get_parameters_by_path().path("/app").next_token("x").send().await.unwrap_err();
    assert!(wrong.into_service_error().is_invalid_next_token());
}

/// Programs take *not found* as "use the default", so the server never reports it for a parameter that may
/// exist.
#[tokio::test]
async fn what_is_not_mirrored_is_unavailable_or_refused_and_never_not_found() {
    let world = World::usual().await;
    world
        .publish(&Set {
            entries: [usual().entries, dozen().entries].into_iter().flatten().collect(),
            ..dozen()
        })
        .await;
    let served = serve(&world, &[]).await;
    let unavailable = StatusCode::SERVICE_UNAVAILABLE;
    let refused = StatusCode::BAD_REQUEST;
    for (name, request, status, says) in [
        ("GetParameter", json!({"Name": "/other/x"}), unavailable, "no mirror here covers /other/x"),
        (
            "GetParameter",
            json!({"Name": "arn:aws:ssm:eu-west-1:111122223333:parameter/app/db/host"}),
            unavailable,
            "covers",
        ),
        (
            "GetParameters",
            json!({"Names": ["/app/db/host", "/other/x"]}),
            unavailable,
            "no mirror here covers /other/x",
        ),
        ("GetParametersByPath", json!({"Path": "/", "Recursive": true}), unavailable, "everything below /"),
        (
            "GetParameter",
            json!({"Name": "/app/db/host:7"}),
            refused,
            "not mirrored with this version or label",
        ),
        (
            "GetParameter",
            json!({"Name": "/app/db/host:live"}),
            refused,
            "not mirrored with this version or label",
        ),
        ("GetParameter", json!({"Name": "/app/db/password"}), refused, "ask WithDecryption"),
        ("GetParametersByPath", json!({"Path": "/app/db"}), refused, "ask WithDecryption"),
        (
            "GetParametersByPath",
            json!({"Path": "/app", "ParameterFilters": [{"Key": "Type"}]}),
            refused,
            "ParameterFilters is not offered",
        ),
        (
            "PutParameter",
            json!({"Name": "/app/db/host", "Value": "x"}),
            refused,
            "PutParameter is not offered",
        ),
        ("GetParameter", json!({"Nam": "x"}), refused, "not the JSON"),
    ] {
        let (found, body) = operation(&served, name, request.clone()).await;
        assert_eq!(found, status, "{request}: {body}");
        assert!(body["message"].as_str().unwrap().contains(says), "{request}: {body}");
        assert_ne!(body["__type"], "ParameterNotFound", "{request}");
    }
    // A mirrored version is returned for its selector, and also if it is the current one.
    for (name, value) in [("/app/n11:3", "third"), ("/app/n11:5", "v")] {
        let (status, body) = operation(&served, "GetParameter", json!({"Name": name})).await;
        assert_eq!((status, body["Parameter"]["Value"].as_str()), (StatusCode::OK, Some(value)), "{name}");
        assert_eq!(body["Parameter"]["Selector"], name["/app/n11".len()..], "{name}");
    }
    let unavailable = sdk(&served.endpoint).get_parameter().name("/other/x").send().await.unwrap_err();
    let SdkError::ServiceError(error) = unavailable else { panic!("{unavailable:?}") };
    assert!(!error.err().is_parameter_not_found());
}

#[tokio::test]
async fn what_was_read_once_survives_redis_and_ssm() {
    let mut world = World::usual().await;
    let served = serve(&world, &[]).await;
    let value = async |name: &str| {
        let (status, body) = operation(&served, "GetParameter", json!({"Name": name})).await;
        (status, body["Parameter"]["Value"].as_str().map(str::to_owned))
    };
    let good = |text: &str| (StatusCode::OK, Some(text.to_owned()));
    assert_eq!(value("/app/db/host").await, good("db.internal"));

    world.redis.freeze();
    has_said(&served.process, "Redis did not answer in time").await;
    assert_eq!(value("/app/db/host").await, good("db.internal"));
    world.redis.thaw();
    world.redis.kill();
    has_said(&served.process, "Redis is not available").await;
    assert_eq!(value("/app/db/host").await, good("db.internal"));

    // Redis restarts empty; the operator refills it later.
    world.redis.restart().await;
    has_said(&served.process, "no such mirror in Redis").await;
    assert_eq!(value("/app/db/host").await, good("db.internal"));
    let keys = world.keys.clone();
    world = World::on(world.redis);
    world.keys = keys;
    let mut changed = usual();
    changed.entries.get_mut("/app/db/host").unwrap().value = "db2.internal".into();
    world.publish(&changed).await;
    eventually("the change is served", SOON, async || {
        let value = value("/app/db/host").await;
        if value == good("db2.internal") { Ok(()) } else { Err(format!("{value:?}")) }
    })
    .await;
}

/// The server starts before it has anything to serve, and reports that instead of exiting.
#[tokio::test]
async fn a_server_without_a_mirror_yet_is_unavailable_until_there_is_one() {
    let world = World::start().await;
    let served = serve(&world, &[]).await;
    let health = format!("{}/healthz", served.endpoint);
    assert_eq!(send(Method::GET, &health, &[], "").await.0, StatusCode::SERVICE_UNAVAILABLE);
    for (name, request) in [
        ("GetParameter", json!({"Name": "/app/db/host"})),
        ("GetParametersByPath", json!({"Path": "/app", "Recursive": true})),
    ] {
        let (status, body) = operation(&served, name, request).await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        assert!(body["message"].as_str().unwrap().starts_with("not read yet: shop/checkout"), "{body}");
    }
    world.publish(&usual()).await;
    eventually("the mirror is served", SOON, async || {
        let (status, body) = send(Method::GET, &health, &[], "").await;
        if status == StatusCode::OK && body.contains("shop/checkout") { Ok(()) } else { Err(body) }
    })
    .await;
    assert_eq!(served.process.terminate(SOON).await.code(), Some(0));
}

#[tokio::test]
async fn the_contract_of_the_extension_is_kept() {
    let world = World::usual().await;
    let served = serve(&world, &[("AWS_SESSION_TOKEN", "session")]).await;
    let get = async |query: &str, headers: &[(&str, &str)]| {
        let url = format!("{}/systemsmanager/parameters/get?{query}", served.endpoint);
        send(Method::GET, &url, headers, "").await
    };
    let token = ("X-Aws-Parameters-Secrets-Token", "session");
    let value = |body: &str| serde_json::from_str::<Json>(body).unwrap()["Parameter"]["Value"].clone();
    let (status, body) = get("name=%2Fapp%2Fdb%2Fpassword&withDecryption=true", &[token]).await;
    assert_eq!((status, value(&body)), (StatusCode::OK, json!("hunter2")), "{body}");
    // Python writes `True`, Go's strconv understands `T` and `1`.
    for (spelled, expected) in [
        ("True", StatusCode::OK),
        ("TRUE", StatusCode::OK),
        ("1", StatusCode::OK),
        ("t", StatusCode::OK),
        ("False", StatusCode::BAD_REQUEST),
        ("0", StatusCode::BAD_REQUEST),
        ("perhaps", StatusCode::BAD_REQUEST),
    ] {
        let (status, body) = get(&format!("name=/app/db/password&withDecryption={spelled}"), &[token]).await;
        assert_eq!(status, expected, "{spelled}: {body}");
        assert_eq!(body.contains("hunter2"), expected == StatusCode::OK, "{spelled}: {body}");
    }
    let (status, body) = get("name=/app/db/host&version=1&label=x", &[token]).await;
    assert_eq!((status, value(&body)), (StatusCode::OK, json!("db.internal")), "{body}");
    for (query, headers, status) in [
        ("name=/app/db/host", &[][..], StatusCode::FORBIDDEN),
        ("name=/app/db/host", &[("X-Aws-Parameters-Secrets-Token", "guessed")], StatusCode::FORBIDDEN),
        ("name=/app/db/host", &[token, ("X-Forwarded-For", "10.0.0.1")], StatusCode::BAD_REQUEST),
        ("name=/app/db/host", &[token, ("Host", "example.com")], StatusCode::FORBIDDEN),
        ("name=/app/db/host&label=live", &[token], StatusCode::BAD_REQUEST),
        ("name=/app/db/password", &[token], StatusCode::BAD_REQUEST),
        ("name=/app/absent", &[token], StatusCode::BAD_REQUEST),
        ("name=/other", &[token], StatusCode::SERVICE_UNAVAILABLE),
        ("", &[token], StatusCode::BAD_REQUEST),
    ] {
        let (found, body) = get(query, headers).await;
        assert_eq!(found, status, "{query}: {body}");
        assert!(!body.contains("hunter2") && !body.contains("db.internal"), "{query}: {body}");
    }
}

#[tokio::test]
async fn what_no_mirror_covers_can_be_sent_on_to_ssm() {
    let world = World::usual().await;
    let ssm = Ssm::start();
    ssm.put("/other/x", "from ssm");
    ssm.put_secure("/other/y", "too");
    let settings = [
        ("PARAMETER_MIRROR_FORWARD", "True"),
        ("AWS_REGION", "us-east-1"),
        ("AWS_ENDPOINT_URL_SSM", &*ssm.endpoint()),
        ("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE"),
        ("AWS_SECRET_ACCESS_KEY", "secret"),
    ];
    let served = serve(&world, &settings).await;
    let sdk = sdk(&served.endpoint);
    let one = sdk.get_parameter().name("/other/x").send().await.unwrap();
    assert_eq!(one.parameter.unwrap().value(), Some("from ssm"));
    // A covered request is not forwarded; a partly covered one is forwarded completely.
    assert_eq!(ssm.calls().total(), 1);
    sdk.get_parameter().name("/app/db/host").send().await.unwrap();
    assert_eq!(ssm.calls().total(), 1);
    let absent = sdk.get_parameter().name("/other/absent").send().await.unwrap_err();
    assert!(absent.into_service_error().is_parameter_not_found(), "SSM itself says so");
    ssm.freeze();
    let silent = sdk.get_parameter().name("/other/x").send().await.unwrap_err();
    assert!(!silent.into_service_error().is_parameter_not_found());
    let one = sdk.get_parameter().name("/app/db/host").send().await.unwrap();
    assert_eq!(one.parameter.unwrap().value(), Some("db.internal"));
}

#[tokio::test]
async fn only_the_loopback_is_listened_on() {
    let world = World::usual().await;
    let ended = world.reader("serve --listen 0.0.0.0:0").run().await;
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert!(ended.err.contains("only the loopback is served"), "{ended:?}");
}

/// The values come from one consistent set even if the mirror changes during the read.
#[tokio::test]
async fn a_changed_mirror_is_served_whole() {
    let world = World::start().await;
    let generation = |text: &str| set(&[("/app/a", Plain, text), ("/app/b", SecureString, text)]);
    world.publish(&generation("0")).await;
    let served = serve(&world, &[]).await;
    let writer = async {
        for number in 1..=50 {
            world.publish(&generation(&number.to_string())).await;
        }
    };
    let reader = async {
        let mut seen = BTreeMap::<String, usize>::new();
        while !seen.contains_key("50") {
            let request = json!({"Names": ["/app/a", "/app/b"], "WithDecryption": true});
            let (_, body) = operation(&served, "GetParameters", request).await;
            assert_eq!(body["Parameters"][0]["Value"], body["Parameters"][1]["Value"], "torn: {body}");
            *seen.entry(body["Parameters"][0]["Value"].as_str().unwrap().to_owned()).or_default() += 1;
        }
    };
    tokio::time::timeout(SOON, async { tokio::join!(writer, reader) }).await.expect("the last one is served");
    assert!(!world.redis.cli(&["hget", KEY, "@generation"]).await.is_empty());
}
