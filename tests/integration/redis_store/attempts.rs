//! Writes with an unknown outcome, and what they leave behind.

use super::*;

/// A write whose answer was lost is visible to a reader, and then lost by Redis in a failover or from an old
/// dump. The next write must use another number, or the reader would keep what it has.
#[tokio::test]
async fn a_write_that_redis_forgot_shares_its_generation_with_no_other() {
    let (mut part, seen) = Part::start().await.with_hash().await;
    let before = part.dump().await;
    let write = async |part: &Part, text: &str, least| {
        let guard = Guard { least, ..guard(&seen) };
        part.store.swap(guard, &fields(text), false, AMPLE).await.expect("an outcome")
    };
    let ScriptOutcome::Done { generation: lost, .. } = write(&part, "lost", NOW + 5).await else {
        panic!("not written")
    };
    for (later, text) in [(6, "next"), (7, "again")] {
        part.run(&["DEL", KEY]).await;
        let mut restore = redis::cmd("RESTORE");
        restore.arg(KEY).arg(0).arg(&before).exec_async(&mut part.plain).await.unwrap();
        let ScriptOutcome::Done { generation, .. } = write(&part, text, NOW + later).await else {
            panic!("not written")
        };
        assert_ne!(generation, lost);
    }
    // The clock alone suffices for a writer that does not know of the attempt.
    let hash = part.hash().await;
    assert!(hash["@generation"].parse::<i64>().unwrap() >= NOW + 7, "{hash:?}");
}

/// A very slow Redis: each attempt stages its fields and times out before the swap. All attempts together
/// leave one key, which expires.
#[tokio::test]
async fn attempts_that_never_end_leave_one_staging_key() {
    let (mut part, seen) = Part::start().await.with_hash().await;
    let before = part.dump().await;
    let mut large = fields("2");
    (0..4_000).for_each(|number| large.insert(format!("/p/{number}"), vec![b'v'; 4 * 1024]));
    for attempt in 0..20 {
        let within = Duration::from_millis(10 + attempt);
        let swapped = part.store.swap(guard(&seen), &large, false, within).await;
        assert_eq!(swapped, Err(ConnectionError::Timeout));
    }
    let ping = async |part: &mut Part| part.run(&["PING"]).await;
    ping(&mut part).await;
    let keys = part.keys().await;
    let staged: Vec<&String> = keys.iter().filter(|key| *key != KEY).collect();
    assert_eq!(staged, [&format!("{KEY}:stage:write")]);
    let life: i64 = redis::cmd("TTL").arg(staged[0]).query_async(&mut part.plain).await.unwrap();
    assert!((1..=60).contains(&life), "{life}");
    assert_eq!(part.dump().await, before);
    // The next successful attempt, perhaps by another process, writes the whole set and removes the key.
    let next = RedisStore::new(servers(&part.redis.url()));
    fence_of(next.swap(guard(&seen), &fields("3"), false, AMPLE).await.unwrap());
    assert_eq!(part.hash().await["/p/a"], "3");
    assert_eq!(part.keys().await, [KEY]);
}

/// Parts of an abandoned attempt arrive while the next one stages: all of them are rejected, and the latest
/// attempt wins.
#[tokio::test]
async fn two_attempts_under_one_staging_key_do_not_mix() {
    let (mut part, seen) = Part::start().await.with_hash().await;
    let stage = redis::Script::new(include_str!("../../../src/targets/redis/stage.lua"));
    let put = async |part: &mut Part, attempt: &str, begins: &str, field: &str| {
        let mut call = stage.key("pm:{shop/checkout}:stage:write");
        call.arg(60).arg(attempt).arg(begins).arg(field).arg(attempt);
        call.invoke_async::<String>(&mut part.plain).await.unwrap()
    };
    assert_eq!(put(&mut part, "old", "1", "/p/a").await, "STAGED");
    assert_eq!(put(&mut part, "new", "1", "/p/a").await, "STAGED");
    assert_eq!(put(&mut part, "old", "0", "/p/b").await, "LOST");
    assert_eq!(put(&mut part, "new", "0", "/p/b").await, "STAGED");
    let script = redis::Script::new(include_str!("../../../src/targets/redis/script.lua"));
    let swap = async |part: &mut Part, attempt: &str, count: &str| {
        let mut call = script.key(KEY);
        call.key("pm:{shop/checkout}:stage:write");
        call.arg(&["swap", OURS]).arg(seen.as_bytes()).arg(NOW).arg("1").arg(NOW).arg(&[count, "0", attempt]);
        call.invoke_async::<Vec<String>>(&mut part.plain).await.unwrap()
    };
    assert_eq!(swap(&mut part, "old", "3").await, ["TORN"]);
    assert_eq!(swap(&mut part, "new", "3").await[0], "DONE");
    let hash = part.hash().await;
    assert_eq!((hash["/p/a"].as_str(), hash["/p/b"].as_str()), ("new", "new"));
}
