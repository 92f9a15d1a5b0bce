//! Where the reader finds AWS credentials, and what it says when a source has none. In processes of their own: the
//! sources are files, variables and servers of the process.

use axum::Router;
use axum::extract::Request;
use axum::response::IntoResponse as _;
use axum::routing::any;
use jiff::Timestamp;
use parameter_mirror_test_support::{Scratch, Ssm};
use serde_json::json;

use crate::world::{Ended, World};

/// The account of the role in the tests; the parameters of other accounts are others.
const ROLE_ACCOUNT: &str = "444455556666";

/// An SSM in whose Region `eu-west-1` each account has a parameter of its own.
fn ssm() -> Ssm {
    let ssm = Ssm::start();
    ssm.region("eu-west-1").put("/x", "of the default account");
    ssm.account(ROLE_ACCOUNT).region("eu-west-1").put("/x", "of the role's account");
    ssm
}

/// Reads `/x` from SSM with these variables, in an empty home folder unless they name one.
async fn get(world: &World, ssm: &Ssm, variables: &[(&str, &str)]) -> Ended {
    let home = Scratch::new("home").unwrap();
    let mut reader = world
        .reader("get /x --source ssm-first")
        .with("HOME", home.path().to_str().unwrap())
        .with("PARAMETER_MIRROR_SSM_NAMES", "/x")
        .with("AWS_ENDPOINT_URL_SSM", &ssm.endpoint())
        .with("AWS_EC2_METADATA_DISABLED", "true");
    for (name, value) in variables {
        reader = reader.with(name, value);
    }
    let ended = reader.run().await;
    assert!(!ended.err.contains("hunter2"), "{ended:?}");
    ended
}

#[track_caller]
fn reads(ended: &Ended, value: &str) {
    assert_eq!(ended.out.trim(), value, "{ended:?}");
}

/// A folder with these files.
fn files(all: &[(&str, &str)]) -> Scratch {
    let scratch = Scratch::new("aws").unwrap();
    for (name, text) in all {
        let path = scratch.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    scratch
}

/// Starts a small HTTP server that lives as long as the test's runtime, and returns its base URL.
async fn serve(router: Router) -> String {
    serve_at("127.0.0.1:0", router).await
}

async fn serve_at(address: &str, router: Router) -> String {
    let listener = tokio::net::TcpListener::bind(address).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async { axum::serve(listener, router).await.unwrap() });
    format!("http://{address}")
}

#[tokio::test]
async fn a_profile_gives_keys_and_the_region() {
    let (world, ssm) = (World::start().await, ssm());
    let home = files(&[
        (".aws/config", "[profile of-the-task]\nregion = eu-west-1\n"),
        (".aws/credentials", "[of-the-task]\naws_access_key_id = AKID\naws_secret_access_key = hunter2\n"),
    ]);
    let home = home.path().to_str().unwrap();
    reads(
        &get(&world, &ssm, &[("HOME", home), ("AWS_PROFILE", "of-the-task")]).await,
        "of the default account",
    );
    let without = get(&world, &ssm, &[("HOME", home)]).await;
    assert_eq!(without.code, Some(2), "{without:?}");
    assert!(without.err.contains("name one in the profile"), "{without:?}");
}

#[tokio::test]
async fn a_process_named_in_the_profile_gives_keys() {
    let (world, ssm) = (World::start().await, ssm());
    let printed = json!({"Version": 1, "AccessKeyId": "AKID", "SecretAccessKey": "hunter2"});
    let config = format!("[default]\nregion = eu-west-1\ncredential_process = echo '{printed}'\n");
    let home = files(&[(".aws/config", &config)]);
    let home = [("HOME", home.path().to_str().unwrap())];
    reads(&get(&world, &ssm, &home).await, "of the default account");
}

/// The portal of IAM Identity Center, and the token that `aws sso login` has left.
#[tokio::test]
async fn sso_gives_keys() {
    let (world, ssm) = (World::start().await, ssm());
    let end = (Timestamp::now() + std::time::Duration::from_hours(1)).as_millisecond();
    let portal = async move |request: Request| {
        assert_eq!(request.headers()["x-amz-sso_bearer_token"], "hunter2-token");
        let role = json!({"accessKeyId": "AKID", "secretAccessKey": "hunter2", "sessionToken": "hunter2", "expiration": end});
        json!({ "roleCredentials": role }).to_string().into_response()
    };
    let portal = serve(Router::new().route("/federation/credentials", any(portal))).await;
    let config = "[default]\nregion = eu-west-1\nsso_start_url = https://corp.awsapps.com/start\n\
                  sso_region = eu-west-1\nsso_account_id = 111122223333\nsso_role_name = reader\n";
    let token = json!({"accessToken": "hunter2-token", "expiresAt": "2999-01-01T00:00:00Z"}).to_string();
    // Named after the SHA-1 of the start URL.
    let cached = ".aws/sso/cache/a51746d4aa793ae07b25e90c3a5db96fc7832bd7.json";
    let home = files(&[(".aws/config", config), (cached, &token)]);
    let variables = [("HOME", home.path().to_str().unwrap()), ("AWS_ENDPOINT_URL_SSO", &portal)];
    reads(&get(&world, &ssm, &variables).await, "of the default account");
}

#[tokio::test]
async fn a_web_identity_reads_the_parameters_of_its_own_account() {
    let (world, ssm) = (World::start().await, ssm());
    let folder = files(&[("token", "hunter2.a+b/c=\n")]);
    let token = folder.path().join("token");
    let variables = [
        ("AWS_REGION", "eu-west-1"),
        ("AWS_ENDPOINT_URL_STS", &ssm.endpoint()),
        ("AWS_WEB_IDENTITY_TOKEN_FILE", token.to_str().unwrap()),
        ("AWS_ROLE_ARN", &format!("arn:aws:iam::{ROLE_ACCOUNT}:role/reader")),
    ];
    reads(&get(&world, &ssm, &variables).await, "of the role's account");
}

#[tokio::test]
async fn a_container_shows_its_token_of_the_moment() {
    let (world, ssm) = (World::start().await, ssm());
    let agent = async |request: Request| {
        assert_eq!(request.headers()["authorization"], "hunter2-file");
        json!({
            "AccessKeyId": "AKID", "SecretAccessKey": "hunter2", "Token": "hunter2",
            "Expiration": (Timestamp::now() + std::time::Duration::from_hours(1)).to_string(),
        })
        .to_string()
    };
    let folder = files(&[("token", "hunter2-file")]);
    let token = folder.path().join("token");
    for address in ["127.0.0.1:0", "[::1]:0"] {
        let agent = serve_at(address, Router::new().route("/v1/credentials", any(agent))).await;
        let variables = [
            ("AWS_REGION", "eu-west-1"),
            ("AWS_CONTAINER_CREDENTIALS_FULL_URI", &format!("{agent}/v1/credentials")),
            ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", token.to_str().unwrap()),
        ];
        reads(&get(&world, &ssm, &variables).await, "of the default account");
    }
}

/// The agent of EKS Pod Identity in a cluster of IPv6. Other addresses are refused without a request.
#[tokio::test]
async fn the_agent_of_pod_identity_is_asked_over_ipv6() {
    let (world, ssm) = (World::start().await, ssm());
    let asking = async |host: &str| {
        let uri = format!("http://{host}/v1/credentials");
        let budget = ("PARAMETER_MIRROR_SSM_BUDGET", "300ms");
        get(
            &world,
            &ssm,
            &[("AWS_REGION", "eu-west-1"), ("AWS_CONTAINER_CREDENTIALS_FULL_URI", &uri), budget],
        )
        .await
    };
    let refused = "their configuration is contradictory or incomplete";
    let of_eks = asking("[fd00:ec2::23]").await;
    assert!(of_eks.code == Some(18) && !of_eks.err.contains(refused), "{of_eks:?}");
    let other = asking("[fd00:ec2::24]").await;
    assert!(other.err.contains(refused), "{other:?}");
}

#[tokio::test]
async fn what_is_wrong_with_the_credentials_is_said_and_not_blamed_on_ssm() {
    let (world, ssm) = (World::start().await, ssm());
    let silent = serve(Router::new().fallback(std::future::pending::<String>)).await;
    let region = ("AWS_REGION", "eu-west-1");
    let file = ("AWS_WEB_IDENTITY_TOKEN_FILE", "/nowhere/token");
    let container = ("AWS_CONTAINER_CREDENTIALS_FULL_URI", silent.as_str());
    let cases: [(&[(&str, &str)], &str); 3] = [
        (&[region], "there are none: no environment variables, profile"),
        (&[region, file, ("AWS_ROLE_ARN", "arn:aws:iam::1:role/r")], "their file or endpoint cannot be read"),
        (&[region, container, ("PARAMETER_MIRROR_SSM_BUDGET", "300ms")], "gave none in the time allowed"),
    ];
    for (variables, expected) in cases {
        let ended = get(&world, &ssm, variables).await;
        assert_eq!(ended.code, Some(18), "{ended:?}");
        assert!(ended.err.contains("SSM was not read") && ended.err.contains(expected), "{ended:?}");
    }
    assert_eq!(ssm.calls().total(), 0);
}
