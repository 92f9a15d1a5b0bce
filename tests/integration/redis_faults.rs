//! All faults of Redis and of the network to it, in real time on real parts. Each time, the Secret and SSM
//! are not delayed, the condition names the cause, and what Redis serves stays unchanged. Redis is up to date
//! within one check after the end of the fault, without a storm of connections.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use parameter_mirror_redis::{Connection, ConnectionError, RedisSettings, Setting};
use parameter_mirror_test_support::proxy::Path;
use parameter_mirror_test_support::ssm::{Fault, When};
use parameter_mirror_test_support::{Proxy, Redis};
use redis::aio::MultiplexedConnection;
use rstest::rstest;

use crate::silence;
use crate::world::{LATER, SOON, Setup, World, eventually};

const GOOD_READS: &str = r#"parameter_mirror_ssm_reads_total{result="success"}"#;

/// A mirror in a world with a proxy in front of Redis.
struct Disturbed {
    world: World,
    proxy: Proxy,
}

impl Disturbed {
    async fn start(redis: Redis) -> Self {
        let proxy = Proxy::start(redis.address()).await;
        let mut arguments = vec!["--log=trace".to_owned()];
        arguments.extend(redis.ca().map(|ca| format!("--redis-ca-file={}", ca.display())));
        let redis_url = Some(redis.url_through(&proxy));
        let world = World::with(Setup { redis: Some(redis), redis_url, arguments, ..Setup::default() }).await;
        world.ssm.put("/app/a", "1");
        put_canaries(&world);
        world.synced("config").await;
        Self { world, proxy }
    }

    /// Returns what Redis serves, read without the proxy.
    async fn served(&self) -> BTreeMap<String, Vec<u8>> {
        self.world.content("config").await
    }
}

/// Writes new values that must not appear in any message.
fn put_canaries(world: &World) {
    world.ssm.put_secure("/app/sealed", &world.canaries.sealed());
    world.ssm.put("/app/plain", &world.canaries.plain());
}

/// Waits until the Secret has this value.
async fn the_secret_has(world: &World, value: &str) {
    eventually(&format!("the Secret has {value}"), LATER, async || {
        let found = world.data("config").await.unwrap_or_default().remove("A");
        if found.as_deref() == Some(value) { Ok(()) } else { Err(world.seen(&found)) }
    })
    .await;
}

/// A value changes while Redis cannot be written. The Secret gets it without delay, and the condition
/// explains why Redis does not, in these words.
async fn only_redis_lags(world: &World, reason: &str, words: &str) {
    put_canaries(world);
    world.ssm.put("/app/a", "2");
    // The fault lasts until the caller ends it, so the Secret does not wait for Redis.
    world.sync("config").await;
    the_secret_has(world, "2").await;
    eventually(&format!("the condition says {words:?}"), LATER, async || {
        // The first failure may be of another kind, and a status with only a new text is delayed for up to a
        // minute.
        world.sync("config").await;
        let degraded = world.degraded("config", reason).await;
        if degraded.message.contains(words) { Ok(()) } else { Err(degraded.message) }
    })
    .await;
    world.ready("config", "Synced").await;
}

/// Waits until Redis is up to date, and searches all output for values. The mirror is read and checked every
/// interval, so one more read may end before Redis is written, and another before the status is.
async fn recovers(world: &World) {
    let before = world.operator.metric(GOOD_READS).await;
    world.field_is("config", "/app/a", "2").await;
    world.healthy("config").await;
    let reads = world.operator.metric(GOOD_READS).await - before;
    assert!(reads <= 2, "Redis waited for {reads} reads");
    // The log and the events report the fault, too.
    silence::says_nothing(world).await;
}

#[rstest]
#[case::silent(Path::Silent)]
#[case::refused(Path::Refuses)]
#[case::one_byte_a_second(Path::Trickles)]
#[case::slower_than_anybody_waits(Path::Delays(Duration::from_millis(700)))]
#[tokio::test]
async fn a_broken_path_holds_up_redis_alone(#[case] path: Path) {
    let Disturbed { world, proxy } = &Disturbed::start(Redis::start().await).await;
    let (before, accepted, began) = (world.content("config").await, proxy.accepted(), Instant::now());
    proxy.set(path.clone()).await;
    if path == Path::Refuses {
        proxy.reset();
    }
    only_redis_lags(world, "RedisUnavailable", "filled as soon as it answers").await;
    // Further cycles change nothing.
    for _ in 0..2 {
        world.sync("config").await;
    }
    assert_eq!(world.content("config").await, before);
    proxy.set(Path::Passes).await;
    recovers(world).await;
    let allowed = 4 + began.elapsed().as_secs();
    assert!(proxy.accepted() - accepted <= allowed, "{} connections", proxy.accepted() - accepted);
}

#[tokio::test]
async fn a_silent_tls_connection_is_replaced() {
    let Disturbed { world, proxy } = &Disturbed::start(Redis::with_tls().await).await;
    proxy.set(Path::Silent).await;
    only_redis_lags(world, "RedisUnavailable", "did not answer in time").await;
    proxy.set(Path::Passes).await;
    recovers(world).await;
}

/// Like an idle connection that a load balancer closes, or a server that is replaced.
#[tokio::test]
async fn a_connection_that_is_reset_is_replaced_unnoticed() {
    let Disturbed { world, proxy } = &Disturbed::start(Redis::start().await).await;
    for _ in 0..3 {
        let accepted = proxy.accepted();
        proxy.reset();
        world.sync("config").await;
        world.healthy("config").await;
        // Two if a machine under load answers late.
        let new = proxy.accepted() - accepted;
        assert!((1..=2).contains(&new), "{new} connections");
    }
    nobody_noticed(world).await;
}

/// The first use of the lost connection is then a write, which is not sent twice.
#[tokio::test]
async fn a_connection_that_is_reset_during_a_read_of_ssm_is_replaced_unnoticed() {
    let Disturbed { world, proxy } = &Disturbed::start(Redis::start().await).await;
    for value in ["1", "2"] {
        world.ssm.fail(When::any().times(1), Fault::Slow(Duration::from_secs(2)));
        world.ssm.put("/app/a", value);
        let calls = world.ssm.calls().total();
        let token = world.ask("config").await;
        eventually("SSM is asked", LATER, async || {
            let now = world.ssm.calls().total();
            if now > calls { Ok(()) } else { Err(world.seen(&now)) }
        })
        .await;
        proxy.reset();
        world.handled("config", &token).await;
        world.field_is("config", "/app/a", value).await;
        world.healthy("config").await;
    }
    nobody_noticed(world).await;
}

/// No event reports anything but the first read.
async fn nobody_noticed(world: &World) {
    let events = world.events("config").await;
    assert!(events.iter().all(|(reason, _)| reason == "Synced"), "{}", world.seen(&events));
}

/// The server executes the script, and its answer is lost. The operator does not repeat the write, but reads
/// it back.
#[tokio::test]
async fn a_write_whose_answer_was_lost_is_read_back_and_not_written_again() {
    let Disturbed { world, proxy } = &Disturbed::start(Redis::start().await).await;
    let [generation, fence] =
        ["@generation", "@fence"].map(async |field| world.number("config", field).await);
    let (generation, fence) = (generation.await, fence.await);
    proxy.set(Path::LosesAnswerTo(b"\r\nswap\r\n")).await;
    world.ssm.put("/app/a", "2");
    world.sync("config").await;
    assert!(proxy.has_lost_the_answer(), "nothing was disturbed");
    assert_eq!(world.field("config", "/app/a").await.as_deref(), Some("2"));
    let (written, next) =
        (world.number("config", "@generation").await, world.number("config", "@fence").await);
    recovers(world).await;
    world.sync("config").await;
    assert!(written > generation && next > fence);
    assert_eq!(world.number("config", "@generation").await, written, "it was written again");
    let writes = world.operator.metric(r#"parameter_mirror_target_writes_total{target="redis"}"#).await;
    assert_eq!(writes, 1, "the first set; of the second nobody knows");
}

#[tokio::test]
async fn a_primary_that_became_a_replica_is_left_for_the_new_one() {
    let disturbed = Disturbed::start(Redis::start().await).await;
    let Disturbed { world, proxy } = &disturbed;
    let second = Redis::start().await;
    let follow = |leader: &Redis| {
        ["replicaof".to_owned(), "127.0.0.1".to_owned(), leader.address().port().to_string()]
    };
    let order = async |server: &Redis, leader: &Redis| {
        let words = follow(leader);
        server.cli(&words.each_ref().map(String::as_str)).await;
    };
    order(&second, &world.redis).await;
    eventually("the replica has the hash", SOON, async || {
        let info = second.cli(&["info", "replication"]).await;
        if info.contains("master_link_status:up") { Ok(()) } else { Err(info) }
    })
    .await;
    // The failover: the name still refers to the old primary, and the connection to it stays open.
    second.cli(&["replicaof", "no", "one"]).await;
    order(&world.redis, &second).await;
    let before = disturbed.served().await;
    only_redis_lags(world, "RedisUnavailable", "read-only replica").await;
    assert_eq!(disturbed.served().await, before);
    // The name is updated.
    proxy.lead_to(second.address());
    let key = world.key("config");
    eventually("the new primary has the value", LATER, async || {
        let value = second.cli(&["hget", &key, "/app/a"]).await;
        if value == "2" { Ok(()) } else { Err(world.seen(&value)) }
    })
    .await;
    world.healthy("config").await;
    assert!(proxy.accepted() < 30, "{} connections", proxy.accepted());
}

#[tokio::test]
async fn a_replica_that_becomes_a_primary_again_is_written_again() {
    let world = &Disturbed::start(Redis::start().await).await.world;
    world.redis.cli(&["replicaof", "127.0.0.1", "1"]).await;
    only_redis_lags(world, "RedisUnavailable", "read-only replica").await;
    world.redis.cli(&["replicaof", "no", "one"]).await;
    recovers(world).await;
}

#[tokio::test]
async fn a_redis_that_was_killed_and_comes_back_empty_is_filled_while_ssm_is_down() {
    let Disturbed { mut world, proxy } = Disturbed::start(Redis::start().await).await;
    let before = world.content("config").await;
    world.ssm.refuse();
    world.redis.kill();
    world.sync("config").await;
    world.degraded("config", "SourceUnavailable").await;
    world.redis.restart().await;
    let accepted = proxy.accepted();
    world.field_is("config", "/app/a", "1").await;
    // The first connection that holds is used at once; an attempt may have been under way.
    let tried = proxy.accepted() - accepted;
    assert!(tried <= 2, "Redis was empty for {tried} connections");
    assert_eq!(world.content("config").await, before);
}

#[tokio::test]
async fn a_redis_that_loads_its_data_is_waited_for() {
    let Disturbed { mut world, proxy: _proxy } = Disturbed::start(Redis::start().await).await;
    let fill = "for n = 1, 8000 do redis.call('set', 'other:' .. n, string.rep('x', 1024)) end";
    world.redis.cli(&["eval", fill, "0"]).await;
    world.redis.cli(&["save"]).await;
    // From now on each key takes some time, and the server reports that it is loading.
    world
        .redis
        .cli(&["config", "set", "key-load-delay", "10000", "loading-process-events-interval-bytes", "1024"])
        .await;
    world.redis.cli(&["config", "rewrite"]).await;
    world.redis.start_again();
    eventually("Redis loads", SOON, async || match world.redis.try_cli(&["ping"]).await {
        Err(refusal) if refusal.contains("LOADING") => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    only_redis_lags(&world, "RedisUnavailable", "LOADING").await;
    world.redis.cli(&["config", "set", "key-load-delay", "0"]).await;
    eventually("Redis has loaded", LATER, async || world.redis.try_cli(&["ping"]).await).await;
    recovers(&world).await;
}

#[tokio::test]
async fn a_full_redis_keeps_what_it_has_and_takes_the_rest_when_there_is_room() {
    let disturbed = Disturbed::start(Redis::start().await).await;
    let world = &disturbed.world;
    let before = disturbed.served().await;
    world.redis.cli(&["config", "set", "maxmemory-policy", "noeviction", "maxmemory", "1"]).await;
    only_redis_lags(world, "RedisOutOfMemory", "Raise maxmemory").await;
    assert_eq!(disturbed.served().await, before);
    world.redis.cli(&["config", "set", "maxmemory", "0"]).await;
    recovers(world).await;
    assert_eq!(disturbed.proxy.accepted(), 1, "a full server is no reason to connect again");
}

#[tokio::test]
async fn a_redis_whose_time_goes_into_somebodys_script_is_waited_for() {
    let disturbed = Disturbed::start(Redis::start().await).await;
    let world = &disturbed.world;
    world.redis.cli(&["config", "set", "busy-reply-threshold", "50"]).await;
    let mut other = world.redis.connection().await.unwrap();
    let endless = async {
        let script = redis::cmd("EVAL").arg("while true do end").arg(0).exec_async(&mut other).await;
        script.unwrap_err()
    };
    let meanwhile = async {
        only_redis_lags(world, "RedisUnavailable", "BUSY").await;
        world.redis.cli(&["script", "kill"]).await;
        recovers(world).await;
    };
    tokio::join!(endless, meanwhile);
}

#[tokio::test]
async fn a_key_that_somebody_turned_into_something_else_is_never_overwritten() {
    let world = &Disturbed::start(Redis::start().await).await.world;
    let key = world.key("config");
    world.redis.cli(&["del", &key]).await;
    world.redis.cli(&["set", &key, "theirs"]).await;
    world.ssm.put("/app/a", "2");
    world.sync("config").await;
    the_secret_has(world, "2").await;
    world.condition("config", "Stalled", "True", "RedisConflict").await;
    assert_eq!(world.redis.cli(&["get", &key]).await, "theirs");
    world.redis.cli(&["del", &key]).await;
    recovers(world).await;
}

/// No served key has a TTL, so only policies for all keys are reported.
#[rstest]
#[case::any_key("allkeys-lru", 1)]
#[case::keys_with_an_end_of_life("volatile-lru", 0)]
#[tokio::test]
async fn a_redis_that_may_evict_what_is_served_is_reported(#[case] policy: &str, #[case] evicts: u64) {
    let redis = Redis::start().await;
    redis.cli(&["config", "set", "maxmemory", "100mb", "maxmemory-policy", policy]).await;
    let world = &Disturbed::start(redis).await.world;
    // The operator asks at its start, before it writes the first mirror, and again after 30 s without an
    // answer.
    world.sync("config").await;
    eventually("the metric says it", LATER, async || {
        let said = world.operator.metric("parameter_mirror_redis_eviction_possible").await;
        if said == evicts { Ok(()) } else { Err(said) }
    })
    .await;
    let warnings = world.operator.log().matches("Set maxmemory-policy to noeviction").count();
    assert_eq!(u64::try_from(warnings).unwrap(), evicts, "{}", world.operator.log());
}

/// Many mirrors observe a silent Redis, one after the other; only the first few wait.
#[tokio::test]
async fn a_thousand_looks_at_a_silent_redis_do_not_wait_a_thousand_times() {
    let redis = Redis::start().await;
    let proxy = Proxy::start(redis.address()).await;
    let url = Setting::Value(redis.url_through(&proxy).as_str().into());
    let connection = Connection::new(RedisSettings::new(url));
    let sent = AtomicU32::new(0);
    let ping = |mut connection: MultiplexedConnection| {
        sent.fetch_add(1, Ordering::Relaxed);
        async move { redis::cmd("PING").query_async::<String>(&mut connection).await }
    };
    let look = async || connection.read(Duration::from_millis(500), ping).await;
    look().await.unwrap();
    proxy.set(Path::Silent).await;
    for _ in 0..1_000 {
        assert!(look().await.is_err());
    }
    let sent = sent.load(Ordering::Relaxed);
    assert!(sent <= 5, "{sent} of them waited for an answer");
    assert_eq!(connection.broken(), Some(ConnectionError::Timeout));
    assert!(proxy.accepted() <= 6, "{} connections", proxy.accepted());
    proxy.set(Path::Passes).await;
    eventually("it is found by itself", LATER, async || match connection.broken() {
        None => Ok(()),
        Some(error) => Err(error.to_string()),
    })
    .await;
    look().await.unwrap();
}
