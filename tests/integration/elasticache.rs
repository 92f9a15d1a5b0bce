//! The operator signs in to ElastiCache with its AWS identity: against a stand-in that verifies each token
//! independently, in front of a real Redis. It has never been tested against AWS itself.

mod connection;

use std::fs;
use std::time::{Duration, Instant};

use jiff::SignedDuration;
use parameter_mirror_clock::Clock;
use parameter_mirror_redis::RedisClient;
use parameter_mirror_test_support::elasticache::{Cache, Refused};
use parameter_mirror_test_support::ssm::{Fault, Operation, When};
use parameter_mirror_test_support::{Canaries, ElastiCache, Redis, RedisCluster, Scratch};
use redis::aio::MultiplexedConnection;
use rstest::rstest;
use serde_json::json;

use self::connection::{identity, settings};
use crate::silence::said;
use crate::world::{LATER, SOON, Setup, World, eventually};

const USER: &str = "mirror-user";
const CACHE: Cache =
    Cache { name: "shop-cache", service: "elasticache", region: "us-east-1", serverless: false };

fn redis_spec() -> serde_json::Value {
    json!({"parameters": [{"path": "/app"}], "secret": {}, "redis": {}})
}

/// The setup of an operator that signs in to the cache. The cache's id is in mixed case, as a user may type
/// it.
fn signing_in(cache: &ElastiCache, more: &[&str]) -> Setup {
    let ca = format!("--redis-ca-file={}", cache.ca().display());
    let mut arguments = vec![ca, "--redis-iam-cache=Shop-Cache".to_owned()];
    arguments.extend(more.iter().map(|&argument| argument.to_owned()));
    Setup {
        redis_url: Some(cache.url()),
        arguments,
        environment: environment(&[("AWS_REGION", "us-east-1")]),
        ..Setup::default()
    }
}

fn environment(variables: &[(&str, &str)]) -> Vec<(String, String)> {
    variables.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// A cache that knows the access key of the tests' operators.
async fn cache(cache: Cache, redis: &Redis) -> ElastiCache {
    let cache = ElastiCache::start(cache, USER, &[redis]).await;
    cache.know("AKIDTEST", "test", None);
    cache
}

#[tokio::test]
async fn a_mirror_reaches_a_cache_that_knows_the_operators_identity_and_nobody_hears_the_token() {
    let redis = Redis::start().await;
    let cache = cache(Cache { serverless: true, ..CACHE }, &redis).await;
    let canaries = Canaries::default();
    let (secret, session) = (canaries.sealed_marker().to_owned(), format!("{}/+=", canaries.sealed_marker()));
    cache.know("ASIATEST", &secret, Some(&session));
    let mut setup = signing_in(&cache, &["--redis-iam-service=elasticache-serverless", "--log=trace"]);
    setup.environment.extend(environment(&[
        ("AWS_ACCESS_KEY_ID", "ASIATEST"),
        ("AWS_SECRET_ACCESS_KEY", &secret),
        ("AWS_SESSION_TOKEN", &session),
    ]));
    let world = World::with(Setup { redis: Some(redis), ..setup }).await;
    world.ssm.put("/app/a", "1");
    world.synced("config").await;
    world.field_is("config", "/app/a", "1").await;
    assert!(world.redis.cli(&["client", "list"]).await.contains(&format!("user={USER}")));

    // Also for a refused sign-in: an error may not reveal more than a success.
    cache.forget("ASIATEST");
    cache.cut();
    world.sync("config").await;
    world.degraded("config", "RedisDenied").await;
    let tokens: Vec<String> = cache.attempts().into_iter().map(|attempt| attempt.token).collect();
    assert!(tokens.len() > 1 && canaries.found_in(tokens[0].as_bytes()).is_some());
    for (place, bytes) in said(&world).await {
        assert_eq!(canaries.found_in(&bytes), None, "a key stands in {place}");
        let text = String::from_utf8_lossy(&bytes);
        for token in &tokens {
            let (_, signature) = token.split_once("X-Amz-Signature=").unwrap();
            assert!(!text.contains(signature), "a signature stands in {place}");
        }
    }
}

#[rstest]
#[case::another_secret_key(&[], ("AKIDTEST", "another"), 0, Refused::Signature)]
#[case::a_key_that_nobody_knows(&[], ("AKIDOTHER", "test"), 0, Refused::Key)]
#[case::another_region(&["--redis-iam-region=eu-west-1"], ("AKIDTEST", "test"), 0, Refused::Scope)]
#[case::another_service(&["--redis-iam-service=memorydb"], ("AKIDTEST", "test"), 0, Refused::Scope)]
#[case::the_other_kind_of_cache(&["--redis-iam-service=elasticache-serverless"], ("AKIDTEST", "test"), 0, Refused::Action)]
#[case::another_user(&["--redis-username=somebody"], ("AKIDTEST", "test"), 0, Refused::User)]
#[case::a_clock_that_is_behind(&[], ("AKIDTEST", "test"), 16, Refused::Time)]
#[case::a_clock_that_is_ahead(&[], ("AKIDTEST", "test"), -6, Refused::Time)]
#[tokio::test]
async fn who_is_refused_says_what_to_check_and_secrets_go_on(
    #[case] more: &[&str],
    #[case] (access_key, secret): (&str, &str),
    #[case] minutes_ahead: i64,
    #[case] refused: Refused,
) {
    let redis = Redis::start().await;
    let cache = ElastiCache::start(CACHE, USER, &[&redis]).await;
    cache.know(access_key, secret, None);
    cache.set_clock(SignedDuration::from_mins(minutes_ahead));
    let world = World::with(Setup { redis: Some(redis), ..signing_in(&cache, more) }).await;
    world.ssm.put("/app/a", "1");
    world.mirror("config", redis_spec()).await;
    let degraded = world.degraded("config", "RedisDenied").await;
    let action = if more.iter().any(|argument| argument.ends_with("memorydb")) {
        "memorydb:Connect"
    } else {
        "elasticache:Connect"
    };
    for part in [
        "Redis refused the sign-in as user",
        "the operator itself",
        action,
        "authentication mode IAM",
        "clock",
    ] {
        assert!(degraded.message.contains(part), "{part}: {}", degraded.message);
    }
    assert!(cache.attempts().iter().all(|attempt| attempt.outcome == Err(refused)), "{:?}", cache.attempts());
    world.holds("config", &[("A", "1")]).await;

    // A fix at AWS needs no restart.
    if more.is_empty() {
        cache.know("AKIDTEST", "test", None);
        cache.set_clock(SignedDuration::ZERO);
        world.healthy("config").await;
        world.field_is("config", "/app/a", "1").await;
    }
}

/// The key in a mounted file is rotated and the old one deleted. The first refusal makes the operator read
/// the file again.
#[tokio::test]
async fn a_rotated_access_key_is_picked_up_at_the_next_connection() {
    let (redis, scratch) = (Redis::start().await, Scratch::new("key").unwrap());
    let cache = ElastiCache::start(CACHE, USER, &[&redis]).await;
    let file = scratch.path().join("credentials");
    let rotate = |access_key: &str, secret: &str| {
        cache.know(access_key, secret, None);
        let profile =
            format!("[default]\naws_access_key_id = {access_key}\naws_secret_access_key = {secret}\n");
        fs::write(&file, profile).unwrap();
    };
    rotate("AKIDFIRST", "first");
    let mut setup = signing_in(&cache, &[]);
    setup.environment.extend(environment(&[
        ("AWS_ACCESS_KEY_ID", ""),
        ("AWS_SECRET_ACCESS_KEY", ""),
        ("AWS_SHARED_CREDENTIALS_FILE", file.to_str().unwrap()),
    ]));
    let world = World::with(Setup { redis: Some(redis), ..setup }).await;
    world.ssm.put("/app/a", "1");
    world.synced("config").await;

    rotate("AKIDSECOND", "second");
    cache.forget("AKIDFIRST");
    cache.cut();
    world.ssm.put("/app/a", "2");
    world.field_is("config", "/app/a", "2").await;
    world.healthy("config").await;
    let last = cache.attempts().pop().unwrap();
    assert!(last.token.contains("AKIDSECOND") && last.outcome.is_ok());
}

/// Credentials of a web identity that is missing at first. Later STS is down and the connection is lost: the
/// cached credentials still sign in.
#[tokio::test]
async fn nothing_is_sent_without_credentials_and_those_held_sign_while_sts_is_away() {
    let (redis, scratch) = (Redis::start().await, Scratch::new("token").unwrap());
    let cache = ElastiCache::start(CACHE, USER, &[&redis]).await;
    for session in 0..9 {
        cache.know(&format!("ASIAROLE{session}"), "secret", Some("secret"));
    }
    let file = scratch.path().join("token");
    let mut setup = signing_in(&cache, &[]);
    setup.environment.extend(environment(&[
        ("AWS_ACCESS_KEY_ID", ""),
        ("AWS_SECRET_ACCESS_KEY", ""),
        ("AWS_ROLE_ARN", "arn:aws:iam::222233334444:role/operator"),
        ("AWS_WEB_IDENTITY_TOKEN_FILE", file.to_str().unwrap()),
    ]));
    let world = World::with(Setup { redis: Some(redis), ..setup }).await;
    world.ssm.account("222233334444").put("/app/a", "1");
    world.mirror("config", redis_spec()).await;
    world.degraded("config", "CredentialsUnavailable").await;
    assert!(cache.attempts().is_empty());

    fs::write(&file, "a-token").unwrap();
    world.healthy("config").await;
    world.field_is("config", "/app/a", "1").await;

    world.ssm.fail(When::any().operation(Operation::AssumeRoleWithWebIdentity), Fault::unavailable());
    let let_in = cache.let_in();
    cache.cut();
    world.ssm.account("222233334444").put("/app/a", "2");
    world.sync("config").await;
    world.field_is("config", "/app/a", "2").await;
    world.healthy("config").await;
    assert!(cache.let_in() > let_in);
}

#[rstest]
#[case::without_tls("redis://mirror-user@127.0.0.1:1", None, "over TLS only")]
#[case::with_a_password_in_the_url(
    "rediss://mirror-user:hunter2@127.0.0.1:1",
    None,
    "leave one of the two out"
)]
#[case::with_a_password(
    "rediss://mirror-user@127.0.0.1:1",
    Some("--redis-password-file=/dev/null"),
    "leave one of the two out"
)]
#[case::as_nobody("rediss://127.0.0.1:1", None, "signs in as a user")]
#[case::to_an_endpoint(
    "rediss://mirror-user@127.0.0.1:1",
    Some("--redis-iam-cache=shop.use1.cache.amazonaws.com"),
    "not its endpoint"
)]
#[tokio::test]
async fn what_contradicts_itself_is_said_at_the_start(
    #[case] url: &str,
    #[case] more: Option<&str>,
    #[case] says: &str,
) {
    let mut arguments: Vec<String> = more.iter().map(|&argument| argument.to_owned()).collect();
    if !arguments.iter().any(|argument| argument.starts_with("--redis-iam-cache")) {
        arguments.push("--redis-iam-cache=shop-cache".to_owned());
    }
    let environment = environment(&[("AWS_REGION", "us-east-1")]);
    let world =
        World::with(Setup { redis_url: Some(url.to_owned()), arguments, environment, ..Setup::default() })
            .await;
    world.ssm.put("/app/a", "1");
    world.mirror("config", redis_spec()).await;
    let ready = world.condition("config", "Ready", "False", "RedisNotConfigured").await;
    assert!(ready.message.contains(says) && !ready.message.contains("hunter2"), "{}", ready.message);
    assert!(world.operator.log().contains(says) && !world.operator.log().contains("hunter2"));
    world.holds("config", &[("A", "1")]).await;
}

/// `verify` runs with the environment of the operator's container.
#[tokio::test]
async fn verify_signs_in_as_the_operator_does() {
    let redis = Redis::start().await;
    let cache = cache(CACHE, &redis).await;
    let world = World::with(Setup { redis: Some(redis), ..signing_in(&cache, &[]) }).await;
    world.ssm.put("/app/a", "1");
    world.synced("config").await;
    let verify = async || {
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_parameter-mirror"));
        command.arg("verify").env_clear().env("KUBECONFIG", &world.operator.settings().kubeconfig);
        command.envs([
            ("PARAMETER_MIRROR_NAMESPACE", world.home.as_str()),
            ("PARAMETER_MIRROR_WATCH_NAMESPACES", &world.namespace),
            ("PARAMETER_MIRROR_LEASE", &format!("{}-parameter-mirror", world.home)),
            ("PARAMETER_MIRROR_REDIS_URL", &cache.url()),
            ("PARAMETER_MIRROR_REDIS_CA_FILE", cache.ca().to_str().unwrap()),
            ("PARAMETER_MIRROR_REDIS_IAM_CACHE", CACHE.name),
            ("AWS_REGION", CACHE.region),
            ("AWS_ACCESS_KEY_ID", "AKIDTEST"),
            ("AWS_SECRET_ACCESS_KEY", "test"),
        ]);
        String::from_utf8(command.output().await.unwrap().stdout).unwrap()
    };
    let output = verify().await;
    assert!(
        output.contains("ok    Redis answers, and this user may do all that the operator does"),
        "{output}"
    );
    assert!(output.contains(" 0 failed"), "{output}");
    cache.forget("AKIDTEST");
    let output = verify().await;
    assert!(
        output.contains("FAIL  Redis refused the sign-in as user mirror-user to elasticache shop-cache"),
        "{output}"
    );
}

/// The operator signs in to each node, and again after all connections were closed.
#[tokio::test]
async fn every_node_of_a_cluster_is_signed_in_to() {
    const NODES: usize = 3;
    let cluster = RedisCluster::start(NODES).await;
    let nodes: Vec<&Redis> = cluster.nodes.iter().collect();
    let cache = ElastiCache::start(CACHE, USER, &nodes).await;
    cache.know("AKIDTEST", "test", None);
    // A node announces this address to clients.
    for (node, address) in nodes.iter().zip(&cache.nodes) {
        node.cli(&["config", "set", "cluster-announce-port", &address.port().to_string()]).await;
    }
    for node in &nodes {
        eventually("all nodes name the doors", SOON, async || {
            let named = node.cli(&["cluster", "slots"]).await;
            let all = cache.nodes.iter().all(|address| named.contains(&address.port().to_string()));
            if all { Ok(()) } else { Err(named) }
        })
        .await;
    }
    let world = World::with(signing_in(&cache, &[])).await;
    world.ssm.put("/app/a", "1");
    let mut mirrors = Vec::new();
    for number in 0.. {
        let name = format!("m{number}");
        if cluster.home_of(&world.key(&name)).await == mirrors.len() {
            mirrors.push(name);
        }
        if mirrors.len() == NODES {
            break;
        }
    }
    let all_serve = async |value: &str| {
        for (node, mirror) in nodes.iter().zip(&mirrors) {
            let key = world.key(mirror);
            eventually(&format!("{mirror} is {value}"), LATER, async || {
                let found = node.try_cli(&["hget", &key, "/app/a"]).await;
                if found.as_deref() == Ok(value) { Ok(()) } else { Err(world.seen(&found)) }
            })
            .await;
        }
    };
    for mirror in &mirrors {
        world.mirror(mirror, redis_spec()).await;
    }
    all_serve("1").await;
    cache.cut();
    world.ssm.put("/app/a", "2");
    all_serve("2").await;
    let attempts = cache.attempts();
    for node in 0..NODES {
        let there: Vec<_> = attempts.iter().filter(|attempt| attempt.node == node).collect();
        assert!(there.len() > 1 && there.iter().all(|attempt| attempt.outcome.is_ok()), "{there:?}");
    }

    // Each connection has its own lifetime.
    let servers = RedisClient::new(settings(&cache, identity(Clock::start()), Duration::from_millis(300)));
    let of_node = |node| cache.attempts().iter().filter(|attempt| attempt.node == node).count();
    let before: Vec<_> = (0..NODES).map(of_node).collect();
    let began = Instant::now();
    while (0..NODES).any(|node| of_node(node) < before[node] + 4) {
        assert!(began.elapsed() < LATER, "{before:?} attempts, and no successor at some node");
        for mirror in &mirrors {
            let counter = &format!("x{{{}/{mirror}}}", world.namespace);
            let incr = |mut connection: MultiplexedConnection| async move {
                redis::cmd("INCR").arg(counter).exec_async(&mut connection).await
            };
            assert_eq!(servers.write(counter, SOON, incr).await, Ok(()));
        }
    }
}
