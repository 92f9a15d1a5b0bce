//! The Redis target on a real server: every guard of the script, and what readers see meanwhile.

use std::collections::BTreeMap;
use std::time::Duration;

use parameter_mirror::targets::redis::{
    Check, Guard, HashStore, Heartbeat, ObservedHash, RedisStore, ScriptOutcome,
};
use parameter_mirror_format::hash::fields::Fields;
use parameter_mirror_format::hash::{Fence, STATUS, STATUS_AT};
use parameter_mirror_format::value::Value;
use parameter_mirror_redis::{ConnectionError, RedisClient, RedisSettings, Setting};
use parameter_mirror_test_support::Redis;
use redis::aio::MultiplexedConnection;

use crate::simulation;

mod attempts;
mod heartbeats;

const KEY: &str = "pm:{shop/checkout}";
const OURS: &str = "c/shop/checkout";
const NOW: i64 = 1_795_341_879_120;
/// The time limit for operations that are expected to succeed, on a machine under load.
const AMPLE: Duration = Duration::from_secs(20);

type Hash = BTreeMap<String, String>;

/// A server, the store on it, and a second, plain connection.
struct Part {
    redis: Redis,
    store: RedisStore,
    plain: MultiplexedConnection,
}

impl Part {
    async fn start() -> Self {
        let redis = Redis::start().await;
        let (store, plain) =
            (RedisStore::new(servers(&redis.url())), redis.connection().await.expect("Redis answers"));
        Self { redis, store, plain }
    }

    async fn run(&mut self, words: &[&str]) {
        let (name, arguments) = words.split_first().expect("a command");
        redis::cmd(name).arg(arguments).exec_async(&mut self.plain).await.expect("it is carried out");
    }

    async fn hash(&mut self) -> Hash {
        redis::cmd("HGETALL").arg(KEY).query_async(&mut self.plain).await.expect("a hash")
    }

    /// Returns the server's serialized value of the key.
    async fn dump(&mut self) -> Vec<u8> {
        redis::cmd("DUMP").arg(KEY).query_async(&mut self.plain).await.expect("a key")
    }

    async fn keys(&mut self) -> Vec<String> {
        redis::cmd("KEYS").arg("*").query_async(&mut self.plain).await.expect("keys")
    }

    async fn swap(&self, fence: &Fence, fields: &Fields) -> ScriptOutcome {
        self.store.swap(guard(fence), fields, false, AMPLE).await.expect("an outcome")
    }

    /// Writes a hash of ours, and returns its fence.
    async fn with_hash(self) -> (Self, Fence) {
        let fence = fence_of(self.swap(&Fence::ABSENT, &fields("1")).await);
        (self, fence)
    }

    /// Asserts that all three writes are refused, change no byte, and leave no staging key.
    async fn assert_untouched(&mut self, fence: &Fence, consent: bool, expected: &ScriptOutcome) {
        let before = self.dump().await;
        let swapped = self.store.swap(guard(fence), &fields("new"), consent, AMPLE).await;
        assert_eq!(swapped.as_ref(), Ok(expected));
        assert_eq!(
            self.store.heartbeat(guard(fence), Heartbeat::Failed, None, AMPLE).await.as_ref(),
            Ok(expected)
        );
        assert_eq!(self.store.remove(guard(fence), AMPLE).await.as_ref(), Ok(expected));
        assert_eq!(self.dump().await, before);
        assert_eq!(self.keys().await, [KEY]);
    }
}

fn servers(url: &str) -> RedisClient {
    RedisClient::new(RedisSettings::new(Setting::Value(Value::from(url))))
}

fn guard(fence: &Fence) -> Guard<'_> {
    Guard { key: KEY, owner: OURS, fence, mac: None, now: NOW, least: NOW }
}

fn fields(text: &str) -> Fields {
    let fields = [
        ("/p/a", text),
        ("/p/b", text),
        ("@format", "1"),
        ("@mac", text),
        (STATUS, "Synced"),
        (STATUS_AT, "7"),
    ];
    fields.iter().map(|(name, text)| (name.as_bytes().to_vec(), text.as_bytes().to_vec())).collect()
}

fn expected(text: &str, others: &[(&str, &str)]) -> Hash {
    let fields = fields(text);
    let of = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("text");
    let mut hash: Hash = fields.iter().map(|(name, bytes)| (of(name), of(bytes))).collect();
    hash.extend(others.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())));
    hash
}

fn fence(text: &str) -> Fence {
    Fence::new(text.as_bytes().to_vec())
}

fn fence_of(outcome: ScriptOutcome) -> Fence {
    match outcome {
        ScriptOutcome::Done { fence, .. } => fence,
        other => panic!("not done: {other:?}"),
    }
}

#[tokio::test]
async fn a_swap_writes_exactly_its_fields_and_no_end_of_life() {
    let (mut part, first) = Part::start().await.with_hash().await;
    // A lost hash restarts at the wall clock, so that fences always grow.
    assert_eq!(first, fence("1795341879120"));
    let meta = [("@owner", OURS), ("@fence", "1795341879120"), ("@generation", "1795341879120")];
    assert_eq!(part.hash().await, expected("1", &meta));
    let second = part.swap(&first, &fields("2")).await;
    assert_eq!(second, ScriptOutcome::Done { fence: fence("1795341879121"), generation: Some(NOW + 1) });
    let meta = [("@owner", OURS), ("@fence", "1795341879121"), ("@generation", "1795341879121")];
    assert_eq!(part.hash().await, expected("2", &meta));
    let life: i64 = redis::cmd("TTL").arg(KEY).query_async(&mut part.plain).await.unwrap();
    assert_eq!(life, -1);
    assert_eq!(part.keys().await, [KEY]);
}

#[tokio::test]
async fn a_large_set_arrives_whole() {
    let mut part = Part::start().await;
    let mut large = fields("x");
    for number in 0..2_000 {
        large.insert(format!("/p/{number}"), vec![b'v'; 8 * 1024]);
    }
    large.insert("/p/binary", (0..=255).collect::<Vec<u8>>());
    fence_of(part.swap(&Fence::ABSENT, &large).await);
    let ObservedHash::Fields(mut found) = part.store.observe(KEY, AMPLE).await.unwrap() else {
        panic!("not a hash");
    };
    for unsigned in ["@owner", "@fence", "@generation"] {
        found.remove(unsigned);
    }
    assert_eq!(found, large);
    assert_eq!(part.keys().await, [KEY]);
}

#[tokio::test]
async fn of_two_writers_with_one_observation_the_second_is_stale() {
    let (mut part, seen) = Part::start().await.with_hash().await;
    let next = fence_of(part.swap(&seen, &fields("2")).await);
    part.assert_untouched(&seen, true, &ScriptOutcome::Stale).await;
    // A heartbeat counts as a write, so a paused writer notices that others continued.
    let after_beat = fence_of(
        part.store.heartbeat(guard(&next), Heartbeat::Good { checked_at: 5 }, None, AMPLE).await.unwrap(),
    );
    part.assert_untouched(&next, true, &ScriptOutcome::Stale).await;
    fence_of(part.swap(&after_beat, &fields("3")).await);
}

#[tokio::test]
async fn a_hash_of_another_owner_or_of_nobody_stays_byte_for_byte() {
    let mut part = Part::start().await;
    let theirs = ScriptOutcome::Owned { by: Some("other/shop/checkout".to_owned()) };
    part.run(&["HSET", KEY, "@owner", "other/shop/checkout", "@fence", "5", "/p/a", "theirs"]).await;
    part.assert_untouched(&fence("5"), false, &theirs).await;
    // The permission to use a consent is not a consent, and neither is a consent for another owner.
    part.run(&["HSET", KEY, "@adoptBy", "third/shop/checkout"]).await;
    part.assert_untouched(&fence("5"), true, &theirs).await;
    part.run(&["DEL", KEY]).await;
    part.run(&["HSET", KEY, "/p/a", "nobody's"]).await;
    part.assert_untouched(&Fence::ABSENT, true, &ScriptOutcome::Owned { by: None }).await;
}

#[tokio::test]
async fn consent_hands_the_whole_hash_over_and_is_used_up() {
    let mut part = Part::start().await;
    for owner in [["@owner", "other/shop/checkout"].as_slice(), &["/x", "y"]] {
        part.run(&["DEL", KEY]).await;
        part.run(&[&["HSET", KEY, "@fence", "5", "/p/z", "theirs", "@adoptBy", OURS], owner].concat()).await;
        let refused = part.swap(&fence("5"), &fields("1")).await;
        assert!(matches!(refused, ScriptOutcome::Owned { .. }), "a consent needs a fresh read: {refused:?}");
        let taken = part.store.swap(guard(&fence("5")), &fields("1"), true, AMPLE).await.unwrap();
        assert_eq!(taken, ScriptOutcome::Done { fence: fence("1795341879120"), generation: Some(NOW) });
        let meta = [("@owner", OURS), ("@fence", "1795341879120"), ("@generation", "1795341879120")];
        assert_eq!(part.hash().await, expected("1", &meta));
    }
}

#[tokio::test]
async fn a_newer_layout_is_never_written() {
    let (mut part, seen) = Part::start().await.with_hash().await;
    for format in ["2", "10", "99999999999999999999999999"] {
        part.run(&["HSET", KEY, "@format", format, "@adoptBy", OURS]).await;
        part.assert_untouched(&seen, true, &ScriptOutcome::NewerLayout).await;
    }
    part.run(&["HSET", KEY, "@owner", "other/shop/checkout"]).await;
    let refused = part.store.swap(guard(&seen), &fields("1"), true, AMPLE).await.unwrap();
    assert_eq!(refused, ScriptOutcome::NewerLayout);
}

#[tokio::test]
async fn a_key_that_is_no_hash_stays() {
    let mut part = Part::start().await;
    part.run(&["SET", KEY, "a string"]).await;
    part.assert_untouched(&Fence::ABSENT, true, &ScriptOutcome::WrongType).await;
    assert_eq!(part.store.observe(KEY, AMPLE).await, Ok(ObservedHash::WrongType));
}

#[tokio::test]
async fn a_missing_hash_is_written_only_by_who_saw_it_missing() {
    let part = Part::start().await;
    assert_eq!(part.store.observe(KEY, AMPLE).await, Ok(ObservedHash::Fields(Fields::default())));
    let seen_before_the_loss = fence("41");
    assert_eq!(part.swap(&seen_before_the_loss, &fields("1")).await, ScriptOutcome::Stale);
    for fence in [&seen_before_the_loss, &Fence::ABSENT] {
        let heartbeat =
            part.store.heartbeat(guard(fence), Heartbeat::Good { checked_at: 5 }, None, AMPLE).await;
        assert_eq!(heartbeat, Ok(ScriptOutcome::Gone));
        assert_eq!(part.store.remove(guard(fence), AMPLE).await, Ok(ScriptOutcome::Gone));
    }
}

#[tokio::test]
async fn a_nonsensical_fence_does_not_lock_us_out() {
    let (mut part, _) = Part::start().await.with_hash().await;
    for nonsense in ["", "x", "-1", "1e300", "0x10", "99999999999999999999"] {
        part.run(&["HSET", KEY, "@fence", nonsense]).await;
        assert_eq!(part.swap(&fence("1"), &fields("1")).await, ScriptOutcome::Stale);
        assert_eq!(fence_of(part.swap(&fence(nonsense), &fields("1")).await), fence("1795341879120"));
    }
}

#[tokio::test]
async fn a_drop_deletes_and_nothing_older_brings_it_back() {
    let (mut part, seen) = Part::start().await.with_hash().await;
    let dropped = part.store.remove(guard(&seen), AMPLE).await;
    assert_eq!(dropped, Ok(ScriptOutcome::Done { fence: Fence::ABSENT, generation: None }));
    assert!(part.keys().await.is_empty());
    assert_eq!(part.swap(&seen, &fields("1")).await, ScriptOutcome::Stale);
    assert!(part.keys().await.is_empty());
}

#[tokio::test]
async fn one_round_trip_checks_many_hashes() {
    let (mut part, seen) = Part::start().await.with_hash().await;
    part.run(&["SET", "pm:{shop/string}", "x"]).await;
    let checks = part.store.check(&["pm:{shop/none}", "pm:{shop/string}", KEY], AMPLE).await.unwrap();
    let none = Check::Hash { owner: None, fence: Fence::ABSENT, mac: None };
    let ours = Check::Hash { owner: Some(OURS.to_owned()), fence: seen, mac: Some("1".to_owned()) };
    assert_eq!(checks, [none, Check::WrongType, ours]);
    assert_eq!(part.store.check(&[], AMPLE).await, Ok(vec![]));
}

#[tokio::test]
async fn out_of_memory_leaves_the_live_hash_and_no_staging_key() {
    let (mut part, seen) = Part::start().await.with_hash().await;
    part.run(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]).await;
    let before = part.dump().await;
    part.run(&["CONFIG", "SET", "maxmemory", "1"]).await;
    let swapped = part.store.swap(guard(&seen), &fields("2"), false, AMPLE).await;
    assert_eq!(swapped, Err(ConnectionError::OutOfMemory));
    let heartbeat = part.store.heartbeat(guard(&seen), Heartbeat::Failed, None, AMPLE).await;
    assert_eq!(heartbeat, Err(ConnectionError::OutOfMemory));
    assert_eq!(part.dump().await, before);
    // Memory runs out during staging: a part of the set fits.
    let used: String = redis::cmd("INFO").arg("memory").query_async(&mut part.plain).await.unwrap();
    let used =
        used.lines().find_map(|line| line.strip_prefix("used_memory:")).unwrap().parse::<u64>().unwrap();
    part.run(&["CONFIG", "SET", "maxmemory", &(used + 4 * 1024 * 1024).to_string()]).await;
    let mut large = fields("3");
    (0..2_000).for_each(|number| large.insert(format!("/p/{number}"), vec![b'v'; 8 * 1024]));
    let swapped = part.store.swap(guard(&seen), &large, false, AMPLE).await;
    assert_eq!(swapped, Err(ConnectionError::OutOfMemory));
    assert_eq!(part.keys().await, [KEY]);
    part.run(&["CONFIG", "SET", "maxmemory", "0"]).await;
    assert_eq!(part.dump().await, before);
    fence_of(part.swap(&seen, &fields("2")).await);
}

#[tokio::test]
async fn a_frozen_server_costs_no_more_than_the_deadline_and_is_served_again() {
    const DEADLINE: Duration = Duration::from_millis(500);
    let (part, seen) = Part::start().await.with_hash().await;
    part.redis.freeze();
    for _ in 0..3 {
        // Ends before one that may take longer, so it is the deadline that ends it, and not a timeout of the connection.
        let error = tokio::select! {
            observed = part.store.observe(KEY, DEADLINE) => observed.unwrap_err(),
            observed = part.store.observe(KEY, DEADLINE * 4) => panic!("the longer deadline ended first: {observed:?}"),
        };
        assert_eq!(error, ConnectionError::Timeout);
    }
    part.redis.thaw();
    let recovered = async {
        loop {
            match part.store.observe(KEY, DEADLINE).await {
                Ok(observed) => break observed,
                Err(_) => tokio::task::yield_now().await,
            }
        }
    };
    let Ok(ObservedHash::Fields(found)) = tokio::time::timeout(AMPLE, recovered).await else {
        panic!("no recovery");
    };
    assert_eq!(found.get("@fence"), Some(seen.as_bytes()));
}

#[tokio::test]
async fn the_scripts_come_back_after_the_server_forgot_them() {
    let (mut part, seen) = Part::start().await.with_hash().await;
    part.run(&["SCRIPT", "FLUSH"]).await;
    let seen = fence_of(part.swap(&seen, &fields("2")).await);
    part.run(&["SCRIPT", "FLUSH"]).await;
    fence_of(part.store.heartbeat(guard(&seen), Heartbeat::Failed, None, AMPLE).await.unwrap());
}

#[tokio::test]
async fn an_evicted_staging_key_is_torn_and_the_live_hash_stays() {
    let (mut part, seen) = Part::start().await.with_hash().await;
    let before = part.dump().await;
    // The script finds its staging key incomplete, as after an eviction: here nothing was staged at all.
    let script = redis::Script::new(include_str!("../../src/targets/redis/script.lua"));
    let mut call = script.key(KEY);
    call.key("pm:{shop/checkout}:stage:write");
    call.arg(&["swap", OURS]).arg(seen.as_bytes()).arg(NOW).arg("1").arg(NOW).arg(&["7", "0", "x"]);
    let answer: Vec<String> = call.invoke_async(&mut part.plain).await.unwrap();
    assert_eq!(answer, ["TORN"]);
    assert_eq!(part.dump().await, before);
}

#[tokio::test]
async fn a_reader_never_sees_a_torn_hash() {
    let (mut part, mut seen) = Part::start().await.with_hash().await;
    let writer = async {
        for generation in 0..300 {
            let text = generation.to_string();
            let mut fields = fields(&text);
            (0..200).for_each(|number| fields.insert(format!("/p/{number}"), text.as_str()));
            seen = fence_of(part.store.swap(guard(&seen), &fields, false, AMPLE).await.unwrap());
        }
    };
    let plain = &mut part.plain;
    let reader = async {
        let mut versions = std::collections::BTreeSet::new();
        loop {
            let hash: Hash = redis::cmd("HGETALL").arg(KEY).query_async(plain).await.unwrap();
            let mac = &hash["@mac"];
            let torn = hash.iter().find(|(name, text)| name.starts_with("/p/") && *text != mac);
            assert_eq!(torn, None, "@mac is {mac}");
            versions.insert(mac.clone());
            if mac == "299" {
                break versions.len();
            }
        }
    };
    let ((), versions) = tokio::join!(writer, reader);
    assert!(versions > 10, "the reader saw {versions} versions, too few to prove anything");
}

#[tokio::test]
async fn the_documented_permissions_suffice_and_a_missing_one_is_a_denial() {
    let mut part = Part::start().await;
    let rights = crate::redis_access::documented_permissions();
    let rights: Vec<&str> = rights.iter().map(String::as_str).collect();
    let user = ["ACL", "SETUSER", "writer", "on", ">secret", "~pm:*", "resetchannels", "-@all"];
    part.run(&[user.as_slice(), &rights].concat()).await;
    let url = part.redis.url().replace("redis://", "redis://writer:secret@");
    let store = RedisStore::new(servers(&url));
    let seen = fence_of(store.swap(guard(&Fence::ABSENT), &fields("1"), false, AMPLE).await.unwrap());
    let seen = fence_of(store.swap(guard(&seen), &fields("2"), false, AMPLE).await.unwrap());
    assert!(matches!(store.observe(KEY, AMPLE).await, Ok(ObservedHash::Fields(_))));
    let seen = fence_of(store.heartbeat(guard(&seen), Heartbeat::Failed, None, AMPLE).await.unwrap());
    part.run(&["ACL", "SETUSER", "writer", "-hset"]).await;
    let denied = store.heartbeat(guard(&seen), Heartbeat::Failed, None, AMPLE).await.unwrap_err();
    assert!(matches!(denied, ConnectionError::Forbidden(_)), "{denied}");
    part.run(&["ACL", "SETUSER", "writer", "+hset"]).await;
    fence_of(store.remove(guard(&seen), AMPLE).await.unwrap());

    let wrong = RedisStore::new(servers(&part.redis.url().replace("redis://", "redis://writer:wrong@")));
    let denied = wrong.observe(KEY, AMPLE).await.unwrap_err();
    assert_eq!(denied, ConnectionError::Unauthenticated);
}

/// The simulation's model of Redis gives the same answers and keeps the same data, for any order of
/// operations.
#[tokio::test]
async fn the_model_behaves_as_redis() {
    let mut part = Part::start().await;
    let mut rng = fastrand::Rng::with_seed(6);
    let model = simulation::hashes::Store::default();
    let line = simulation::line::Line::new(0, simulation::line::FaultInjector::default());
    let modelled = simulation::hashes::Reached { store: model.clone(), line };
    let fences = ["", "7", "8", "nonsense", "999999999999999", "1795341879120", "1795341879121"];
    for step in 0..500 {
        let expected = fence(fences[rng.usize(0..fences.len())]);
        // Most of the time, use the fence that a writer would know.
        let known = part.hash().await.remove("@fence").map_or(Fence::ABSENT, |text| fence(&text));
        let expected = if rng.u8(0..4) == 0 { expected } else { known };
        let (guard, new) = (guard(&expected), fields(&rng.u8(0..5).to_string()));
        let heartbeat =
            if rng.bool() { Heartbeat::Failed } else { Heartbeat::Good { checked_at: rng.i64(0..9) } };
        let consent = rng.bool();
        let (real, in_memory) = match rng.u8(0..10) {
            0..=3 => (
                part.store.swap(guard, &new, consent, AMPLE).await,
                modelled.swap(guard, &new, consent, AMPLE).await,
            ),
            4..=6 => {
                let guard = Guard { mac: [None, Some("m1"), Some("m2")][rng.usize(0..3)], ..guard };
                let mac = [None, Some("c1"), Some("c2")][rng.usize(0..3)];
                (
                    part.store.heartbeat(guard, heartbeat, mac, AMPLE).await,
                    modelled.heartbeat(guard, heartbeat, mac, AMPLE).await,
                )
            }
            7 => (part.store.remove(guard, AMPLE).await, modelled.remove(guard, AMPLE).await),
            _ => {
                // Edits by others: another owner, no owner, consent, a newer layout, a broken fence.
                let edits = [
                    ("@owner", "c/shop/other"),
                    ("@owner", OURS),
                    ("@adoptBy", OURS),
                    ("@format", "2"),
                    ("@format", "1"),
                    ("@fence", fences[rng.usize(1..fences.len())]),
                    ("@mac", "m1"),
                    ("@mac", "m2"),
                ];
                let (field, text) = edits[rng.usize(0..edits.len())];
                part.run(&["HSET", KEY, field, text]).await;
                let mut hash = model.hash(KEY).unwrap_or_default();
                hash.insert(field.into(), text.into());
                model.put(KEY, hash);
                continue;
            }
        };
        assert_eq!(real, in_memory, "step {step}");
        let real: Hash = part.hash().await;
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        let in_memory = model.hash(KEY).unwrap_or_default();
        let in_memory: Hash = in_memory.into_iter().map(|(name, bytes)| (text(name), text(bytes))).collect();
        assert_eq!(real, in_memory, "step {step}");
        assert_eq!(part.store.observe(KEY, AMPLE).await, modelled.observe(KEY, AMPLE).await, "step {step}");
        assert_eq!(part.store.check(&[KEY], AMPLE).await, modelled.check(&[KEY], AMPLE).await, "step {step}");
    }
}
