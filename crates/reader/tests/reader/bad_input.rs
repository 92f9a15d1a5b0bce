//! Every invalid input causes one line of error, the documented exit code, an end within the budget, and no
//! started program.

use parameter_mirror_format::content::entry::ParameterType;
use parameter_mirror_format::crypto::keys::KeyRing;
use parameter_mirror_test_support::proxy::Path;
use parameter_mirror_test_support::{Proxy, Redis};
use rstest::rstest;

use crate::world::{Ended, KEY, Set, World, set, sooner, usual};

/// Asserts an empty standard output, one line on standard error, and this exit code.
#[track_caller]
fn refused(ended: &Ended, code: i32, says: &str) {
    assert_eq!((ended.code, ended.out.as_str()), (Some(code), ""), "{ended:?}");
    assert_eq!(ended.err.lines().count(), 1, "{ended:?}");
    assert!(ended.err.contains(says), "{says:?} is not in {:?}", ended.err);
    assert!(!ended.err.contains("hunter2"), "{:?}", ended.err);
}

#[rstest]
#[case::no_such_mirror(&["del", KEY], 10, "no such mirror")]
#[case::a_newer_layout(&["hset", KEY, "@format", "2"], 11, "newer than this reader")]
#[case::a_field_is_missing(&["hdel", KEY, "/app/db/host"], 13, "/app/db/host")]
#[case::a_field_too_many(&["hset", KEY, "/app/else", "x"], 13, "/app/else")]
#[case::no_manifest(&["hdel", KEY, "@params"], 13, "@params is missing")]
#[case::another_count(&["hset", KEY, "@count", "7"], 13, "count")]
#[case::plain_text_for_a_secret(&["hset", KEY, "/app/db/password", "hunter2"], 13, "/app/db/password")]
#[case::no_encryption_stated(&["hset", KEY, "@enc", "nonsense"], 13, "@enc")]
#[case::nonsense(&["hset", KEY, "@params", "{"], 13, "@params is not readable")]
#[tokio::test]
async fn a_mirror_that_cannot_be_used_starts_nothing(
    #[case] damage: &[&str],
    #[case] code: i32,
    #[case] says: &str,
) {
    let world = World::usual().await;
    world.redis.cli(damage).await;
    for subcommand in ["exec -- echo started", "get DB_HOST", "export --format json", "watch"] {
        refused(&world.reader(subcommand).run().await, code, says);
    }
}

#[tokio::test]
async fn a_key_that_is_no_hash_starts_nothing() {
    let world = World::usual().await;
    world.redis.cli(&["del", KEY]).await;
    world.redis.cli(&["set", KEY, "x"]).await;
    refused(&world.reader("exec -- echo started").run().await, 13, "something else than a hash");
}

#[tokio::test]
async fn without_the_right_sub_key_no_secret_is_read() {
    let world = World::usual().await;
    let none = world.reader("exec -- echo started").without("PARAMETER_MIRROR_SUB_KEYS").run().await;
    refused(&none, 12, "/app/db/password needs the key k1");
    refused(&none, 12, "`parameter-mirror key shop/checkout` prints it");
    let other = KeyRing::generate("k1".parse().unwrap()).unwrap();
    let other = other.sub_key(other.active(), KEY).unwrap().encode();
    let wrong =
        world.reader("exec -- echo started").with("PARAMETER_MIRROR_SUB_KEYS", other.expose()).run().await;
    refused(
        &wrong,
        13,
        "cannot decrypt /app/db/password with the given sub-key k1: it is the sub-key of another",
    );
    refused(&wrong, 13, "Get the right one: parameter-mirror key shop/checkout");
    assert!(!wrong.err.contains("The operator repairs it"), "{wrong:?}");
    // The same if nothing is encrypted, and only the MAC shows it.
    let strings = set(&[("/app/x", ParameterType::String, "1")]);
    world.publish(&strings).await;
    let wrong = world.reader("get X").with("PARAMETER_MIRROR_SUB_KEYS", other.expose()).run().await;
    refused(
        &wrong,
        13,
        "the sub-key is that of another mirror. Get the right one: parameter-mirror key shop/checkout",
    );
    let nonsense =
        world.reader("exec -- echo started").with("PARAMETER_MIRROR_SUB_KEYS", "hunter2").run().await;
    refused(&nonsense, 2, "not a sub-key");
}

#[tokio::test]
async fn a_ciphertext_that_was_changed_or_moved_is_noticed() {
    let world = World::start().await;
    let secret = |name| (name, ParameterType::SecureString, "hunter2");
    world.publish(&set(&[secret("/app/a"), secret("/app/b")])).await;
    let stored = world.redis.cli(&["hget", KEY, "/app/a"]).await;
    let moved = world.redis.cli(&["hset", KEY, "/app/b", stored.trim()]).await;
    assert_eq!(moved.trim(), "0");
    refused(&world.reader("exec -- echo started").run().await, 13, "/app/b");
    world.publish(&set(&[secret("/app/a"), secret("/app/b")])).await;
    let end = if stored.trim().ends_with('A') { "B" } else { "A" };
    let changed = format!("{}{end}", &stored.trim()[..stored.trim().len() - 1]);
    world.redis.cli(&["hset", KEY, "/app/a", &changed]).await;
    refused(&world.reader("exec -- echo started").run().await, 13, "/app/a");
}

#[tokio::test]
async fn a_redis_that_does_not_answer_costs_the_budget_and_no_more() {
    let world = World::usual().await;
    let proxy = Proxy::start(world.redis.address()).await;
    proxy.set(Path::Silent).await;
    let exec = async |arguments| {
        let reader =
            world.reader(arguments).with("PARAMETER_MIRROR_REDIS_URL", &world.redis.url_through(&proxy));
        reader.without("PARAMETER_MIRROR_BUDGET").run().await
    };
    let (short, usual) = ("exec --budget 300ms -- echo started", "exec -- echo started");
    refused(&sooner(exec(short), exec(usual)).await, 14, "Redis did not answer in time");
    refused(&exec(usual).await, 14, "Redis did not answer in time");
    world.redis.kill();
    for subcommand in ["exec -- echo started", "get DB_HOST", "export"] {
        let ended = world.reader(subcommand).run().await;
        refused(&ended, 14, "Redis is not available");
        assert!(ended.err.trim_end().ends_with("Check --redis-url and the network"), "{ended:?}");
    }
    let malformed =
        world.reader("get DB_HOST --redis-url localhost:6379").without("PARAMETER_MIRROR_REDIS_URL");
    let malformed = malformed.run().await;
    refused(&malformed, 2, "the Redis URL does not begin with redis://");
    assert!(!malformed.err.contains("the network"), "{malformed:?}");
}

#[tokio::test]
async fn a_redis_that_refuses_says_what() {
    let world = World::on(Redis::with_password("letmein").await);
    world.publish(&usual()).await;
    let url = world.redis.url().replace(":letmein@", "");
    let without = world.reader("get DB_HOST").with("PARAMETER_MIRROR_REDIS_URL", &url);
    refused(&without.run().await, 14, "Redis refused the user or password");
    let shown = world.reader("get DB_HOST --redis-url").and("redis://:hunter2@127.0.0.1:1");
    let shown = shown.without("PARAMETER_MIRROR_REDIS_URL").run().await;
    assert_eq!(shown.code, Some(2), "{shown:?}");
    assert!(shown.err.contains("visible in the process list") && !shown.err.contains("hunter2"), "{shown:?}");
    // ECS puts secrets into variables, which other users do not see.
    let url = world.redis.url();
    assert!(url.contains(":letmein@"), "{url}");
    let variable = world.reader("get DB_HOST").with("PARAMETER_MIRROR_REDIS_URL", &url);
    assert_eq!(variable.run().await.good(), "db.internal\n");
    let help = world.reader("get --help").with("PARAMETER_MIRROR_REDIS_URL", &url).run().await.good();
    assert!(help.contains("PARAMETER_MIRROR_REDIS_URL") && !help.contains("letmein"), "{help}");
}

#[tokio::test]
async fn a_scheme_that_does_not_fit_the_port_is_named_as_the_problem() {
    let (plain, tls) = (World::usual().await, World::on(Redis::with_tls().await));
    let get = async |world: &World, url: String| {
        world.reader("get DB_HOST --budget 2s").with("PARAMETER_MIRROR_REDIS_URL", &url).run().await
    };
    let (plain_at, tls_at) = (plain.redis.address(), tls.redis.address());
    let over_tls = get(&plain, format!("rediss://{plain_at}")).await;
    refused(&over_tls, 14, &format!("{plain_at}: the TLS handshake was not answered in time"));
    refused(&over_tls, 14, "write redis:// instead of rediss://");
    let in_clear = get(&tls, format!("redis://{tls_at}")).await;
    refused(&in_clear, 14, "write rediss:// instead of redis://");
    let untrusted = get(&tls, format!("rediss://{tls_at}")).await;
    refused(&untrusted, 14, "give the certificate of its authority (--redis-ca-file)");
    // Control: nothing of this is said of a server that is not there.
    let nobody = get(&plain, "redis://127.0.0.1:1".to_owned()).await;
    assert!(nobody.code == Some(14) && !nobody.err.contains("instead of"), "{nobody:?}");
}

#[tokio::test]
async fn a_parameter_without_a_variable_of_its_own_is_named() {
    let world = World::start().await;
    let mut keyless = usual();
    keyless.entries.get_mut("/app/db/host").unwrap().key = None;
    world.publish(&keyless).await;
    refused(&world.reader("exec -- echo started").run().await, 16, "/app/db/host cannot be a variable");
    refused(&world.reader("get DB_NAME").run().await, 17, "DB_NAME is in none of the mirrors");
    let other = Set { name: "shop/other", ..set(&[("/app/db_password", ParameterType::String, "x")]) };
    world.publish(&usual()).await;
    world.publish(&other).await;
    let both = world.reader("exec --mirror shop/checkout --mirror shop/other -- echo started");
    let sub_keys = format!("{},{}", world.sub_key(KEY), world.sub_key("pm:{shop/other}"));
    let both = both.with("PARAMETER_MIRROR_SUB_KEYS", &sub_keys);
    refused(
        &both.run().await,
        16,
        "DB_PASSWORD is the variable of both /app/db/password and /app/db_password",
    );
}

#[tokio::test]
async fn a_missing_program_is_reported_as_shells_do() {
    let world = World::usual().await;
    let missing = world.reader("exec -- /no/such/program").run().await;
    assert_eq!((missing.code, missing.out.as_str()), (Some(127), ""), "{missing:?}");
    let folder = world.reader("exec -- /").run().await;
    assert_eq!((folder.code, folder.out.as_str()), (Some(126), ""), "{folder:?}");
}
