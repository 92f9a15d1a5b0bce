//! What a heartbeat shows to readers, and when it is refused.

use super::*;

/// A heartbeat confirms the observed set, so it also compares the MAC: a manual edit does not change the
/// fence.
#[tokio::test]
async fn a_heartbeat_over_a_hash_that_was_edited_is_stale() {
    let (mut part, seen) = Part::start().await.with_hash().await;
    part.run(&["HSET", KEY, "@mac", "as seen"]).await;
    let guarded = |mac| Guard { mac: Some(mac), ..guard(&seen) };
    let heartbeat =
        part.store.heartbeat(guarded("as it was"), Heartbeat::Good { checked_at: 5 }, None, AMPLE).await;
    assert_eq!(heartbeat, Ok(ScriptOutcome::Stale));
    part.run(&["HDEL", KEY, "@mac"]).await;
    assert_eq!(
        part.store.heartbeat(guarded("as seen"), Heartbeat::Failed, None, AMPLE).await,
        Ok(ScriptOutcome::Stale)
    );
    part.run(&["HSET", KEY, "@mac", "as seen"]).await;
    let heartbeat = part
        .store
        .heartbeat(guarded("as seen"), Heartbeat::Good { checked_at: 5 }, None, AMPLE)
        .await
        .unwrap();
    assert_ne!(fence_of(heartbeat), seen);
}

#[tokio::test]
async fn a_heartbeat_reports_the_read_to_readers() {
    let (mut part, seen) = Part::start().await.with_hash().await;
    let generation = part.hash().await["@generation"].clone();
    let heartbeat = async |part: &mut Part, fence: &Fence, heartbeat, now| {
        let mac = i64::to_string(&now);
        let outcome =
            part.store.heartbeat(Guard { now, ..guard(fence) }, heartbeat, Some(&mac), AMPLE).await.unwrap();
        let hash = part.hash().await;
        assert_eq!(hash["@generation"], generation);
        assert_eq!(hash["@fence"].as_bytes(), fence_of(outcome.clone()).as_bytes());
        let shown = [STATUS, STATUS_AT, "@checkedAt", "@checkedMac"]
            .map(|name| hash.get(name).cloned().unwrap_or_default());
        (fence_of(outcome), shown)
    };
    let (seen, shown) = heartbeat(&mut part, &seen, Heartbeat::Good { checked_at: 10 }, 11).await;
    assert_eq!(shown, ["Synced", "7", "10", "11"], "the status did not flip");
    let (seen, shown) = heartbeat(&mut part, &seen, Heartbeat::Failed, 21).await;
    assert_eq!(shown, ["Degraded", "21", "10", "11"], "the age goes on growing");
    let (seen, shown) = heartbeat(&mut part, &seen, Heartbeat::Failed, 31).await;
    assert_eq!(shown, ["Degraded", "21", "10", "11"]);
    let (_, shown) = heartbeat(&mut part, &seen, Heartbeat::Good { checked_at: 40 }, 41).await;
    assert_eq!(shown, ["Synced", "41", "40", "41"]);
}

#[tokio::test]
async fn a_swap_moves_the_time_of_the_status_only_when_it_flips() {
    let (mut part, seen) = Part::start().await.with_hash().await;
    let mut later = fields("2");
    later.insert(STATUS_AT, "99");
    let seen = fence_of(part.swap(&seen, &later).await);
    assert_eq!(part.hash().await[STATUS_AT], "7");
    later.insert(STATUS, "Degraded");
    fence_of(part.swap(&seen, &later).await);
    assert_eq!(part.hash().await[STATUS_AT], "99");
}
