//! Which copy counts (docs/design/formats.md, "Copies"), with the clocks, backups and tenants that complicate
//! it.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Secret;
use parameter_mirror_format::crypto::keys::KeyRing;
use parameter_mirror_format::secret as layout;
use parameter_mirror_format::verdict::{BrokenCause, Found, Verdict};
use serde_json::{Value as Json, json};

use super::line::{Edge, Fault};
use super::world::{HOME, NAMESPACE, Operator, Part, World, redis_key};

const SOON: Duration = Duration::from_mins(1);

/// A world with a mirror whose targets went through these releases, and their content after each.
async fn after_releases(releases: u64) -> (World, Operator, Vec<Copies>) {
    let world = World::new();
    world.mirror("app", "10s");
    let operator = world.operator();
    let mut copies = Vec::new();
    for release in 1..=releases {
        if release > 1 {
            world.release_next();
        }
        world.both_serve("app", release, SOON).await;
        copies.push(Copies::of(&world));
    }
    (world, operator, copies)
}

/// The content of both targets at a moment.
struct Copies {
    secret: Arc<Json>,
    hash: super::hashes::Hash,
}

impl Copies {
    fn of(world: &World) -> Self {
        let secret = world.api.objects(|objects| objects.get("secrets", NAMESPACE, "app")).unwrap();
        Self { secret, hash: world.redis.hash(&redis_key("app")).unwrap() }
    }

    /// Restores the Secret, as a restored etcd does.
    fn restore_secret(&self, world: &World) {
        let back = json!({"data": self.secret["data"], "metadata": {"annotations": self.secret["metadata"]["annotations"]}});
        let extra = world.values("app", Part::Secret).unwrap_or_default();
        let gone = extra.into_keys().filter(|key| self.secret["data"][key].is_null());
        let mut back = back;
        gone.for_each(|key| back["data"][key] = Json::Null);
        world.destroy("app", Part::Secret, || world.patch("secrets", Some(NAMESPACE), "app", &back));
    }

    /// Restores the hash, as a restored Redis does.
    fn restore_hash(&self, world: &World) {
        world.destroy("app", Part::Redis, || world.redis.put(&redis_key("app"), self.hash.clone()));
    }
}

fn silence_ssm(world: &World) {
    world.faults.set(|call| (call.edge == Edge::Ssm).then_some(Fault::Silent));
}

/// The operator has the newer copy, or after a restart the other target does: also in an outage.
#[tokio::test(start_paused = true)]
async fn a_restored_backup_of_one_target_gives_way_to_the_newer_copy() {
    for restart in [false, true] {
        for part in [Part::Secret, Part::Redis] {
            let (world, operator, copies) = after_releases(3).await;
            silence_ssm(&world);
            if restart {
                operator.kill();
            }
            match part {
                Part::Secret => copies[0].restore_secret(&world),
                Part::Redis => copies[0].restore_hash(&world),
            }
            assert_eq!(world.serves("app", part), Some(1), "{part:?} was put back");
            let _operator = restart.then(|| world.operator());
            world.both_serve("app", 3, SOON).await;
            world.assert_whole_and_forward();
        }
    }
}

/// Redis loses the newest write, which a reader has seen, in a failover to a lagging replica. The next write
/// must have another generation, or that reader would never read again.
#[tokio::test(start_paused = true)]
async fn what_redis_forgot_is_written_again_under_another_generation() {
    for (restart, set_back) in [(false, 0), (true, 0), (false, -3_600_000)] {
        let (world, operator, _) = after_releases(1).await;
        world.pass(SOON).await;
        let before = Copies::of(&world);
        world.release(2);
        world.both_serve("app", 2, SOON).await;
        let generation = || world.redis.hash(&redis_key("app")).unwrap()[b"@generation".as_slice()].clone();
        let forgotten = generation();
        assert_ne!(before.hash[b"@generation".as_slice()], forgotten);
        world.jump(set_back);
        if restart {
            operator.kill();
        }
        before.restore_hash(&world);
        let _operator = restart.then(|| world.operator());
        world.both_serve("app", 2, SOON).await;
        assert_ne!(generation(), forgotten, "restarted {restart}, clock set back {set_back}");
    }
}

/// No newer copy exists before SSM answers, so what is there is served.
#[tokio::test(start_paused = true)]
async fn a_restored_backup_of_everything_is_served_until_ssm_answers() {
    let (world, operator, copies) = after_releases(3).await;
    silence_ssm(&world);
    operator.kill();
    copies[0].restore_secret(&world);
    copies[0].restore_hash(&world);
    let _operator = world.operator();
    world.pass(Duration::from_mins(10)).await;
    assert_eq!(world.serves("app", Part::Secret), Some(1));
    assert_eq!(world.serves("app", Part::Redis), Some(1));
    world.faults.clear();
    world.both_serve("app", 3, SOON).await;
}

/// The content of such a hash is valid, but readers with a sub-key refuse it. The operator writes it again,
/// also in an outage and after a restart. It does not sign a time that someone else wrote.
#[tokio::test(start_paused = true)]
async fn what_readers_go_by_is_restored_and_nobody_elses_time_is_signed() {
    for restart in [false, true] {
        let (world, operator, _) = after_releases(1).await;
        silence_ssm(&world);
        if restart {
            operator.kill();
        }
        let key = redis_key("app");
        let mut hash = world.redis.hash(&key).unwrap();
        hash.remove(b"@readerMac".as_slice());
        hash.insert(b"@checkedAt".to_vec(), b"9999999999999".to_vec());
        world.redis.put(&key, hash);
        let _operator = restart.then(|| world.operator());
        let text = |name: &[u8]| {
            let hash = world.redis.hash(&key).unwrap();
            hash.get(name).map(|text| String::from_utf8(text.clone()).unwrap())
        };
        let restored = || text(b"@readerMac").ok_or_else(|| "there is no @readerMac".to_owned());
        world.eventually(Duration::from_mins(3), restored).await;
        let checked_at: i64 = text(b"@checkedAt").unwrap().parse().unwrap();
        assert!(checked_at <= world.now(), "{checked_at}");
        assert_eq!(world.serves("app", Part::Redis), Some(1));
    }
}

/// Its read time is later than all since, because the clock was ahead when it was written.
#[tokio::test(start_paused = true)]
async fn an_old_secret_with_a_far_read_time_does_not_come_back() {
    for restart in [false, true] {
        let world = World::new();
        world.jump(Duration::from_hours(1).as_millis().try_into().unwrap());
        world.mirror("app", "10s");
        let operator = world.operator();
        world.both_serve("app", 1, SOON).await;
        let old = Copies::of(&world);
        world.jump(-i64::try_from(Duration::from_hours(1).as_millis()).unwrap());
        world.release_next();
        world.both_serve("app", 2, SOON).await;
        silence_ssm(&world);
        if restart {
            operator.kill();
        }
        old.restore_secret(&world);
        let _operator = restart.then(|| world.operator());
        world.both_serve("app", 2, SOON).await;
        world.assert_whole_and_forward();
    }
}

/// Read times increase whatever the clock does.
#[tokio::test(start_paused = true)]
async fn clocks_that_jump_turn_nothing_back() {
    let (world, mut operator, _) = after_releases(1).await;
    for (release, jump) in (2..).zip([-3_600_000, 7_200_000, -86_400_000, 86_400_000]) {
        world.jump(jump);
        if release % 2 == 0 {
            operator.kill();
            operator = world.operator();
        }
        world.release_next();
        world.both_serve("app", release, SOON).await;
    }
    world.assert_whole_and_forward();
}

/// etcd is restored to before a key rotation: the hash is signed with a key that no longer exists.
#[tokio::test(start_paused = true)]
async fn a_backup_from_before_a_key_rotation_touches_nothing_until_ssm_answers() {
    let (world, operator, copies) = after_releases(1).await;
    let keys =
        world.api.objects(|objects| objects.get("secrets", "operator", "parameter-mirror-keys")).unwrap();
    // 32 bytes 0x07, and `k2`, in base64.
    let second = json!({"k2": "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=", "active": "azI="});
    world.patch("secrets", Some("operator"), "parameter-mirror-keys", &json!({"data": second}));
    world.release_next();
    world.both_serve("app", 2, SOON).await;
    silence_ssm(&world);
    operator.kill();

    copies[0].restore_secret(&world);
    let back = json!({"data": {"k2": null, "active": keys["data"]["active"]}});
    world.patch("secrets", Some("operator"), "parameter-mirror-keys", &back);
    let _operator = world.operator();
    world.becomes("app", "Degraded", "True", "KeyMissing", SOON).await;
    world.pass(Duration::from_mins(10)).await;
    assert_eq!(
        world.serves("app", Part::Secret),
        Some(1),
        "nothing heals from a copy that cannot be verified"
    );
    assert_eq!(world.serves("app", Part::Redis), Some(2), "nor over it");

    world.faults.clear();
    world.both_serve("app", 2, SOON).await;
    world.becomes("app", "Degraded", "False", "Synced", SOON).await;
    world.assert_whole_and_forward();
}

/// Someone who edits a target cannot sign the edit. The operator reverts it, and never takes it for a newer
/// copy or copies it to the other target: also after a restart, and with the MAC unchanged and a read time
/// far in the future.
#[tokio::test(start_paused = true)]
async fn an_edit_is_never_taken_for_a_newer_copy() {
    for (part, restart, far) in [Part::Secret, Part::Redis]
        .into_iter()
        .flat_map(|part| [(part, false, false), (part, false, true), (part, true, false), (part, true, true)])
    {
        let (world, operator, _) = after_releases(2).await;
        silence_ssm(&world);
        if restart {
            operator.kill();
        }
        world.destroy("app", part, || forge(&world, part, far));
        let _operator = restart.then(|| world.operator());
        world.both_serve("app", 2, SOON).await;
        world.pass(Duration::from_mins(5)).await;
        world.both_serve("app", 2, SOON).await;
        world.assert_whole_and_forward();
    }
}

/// Changes every value to `9`.
fn forge(world: &World, part: Part, far: bool) {
    const AHEAD: &str = "9999999999999";
    if part == Part::Redis {
        let mut hash = world.redis.hash(&redis_key("app")).unwrap();
        for (_, value) in hash.iter_mut().filter(|(name, _)| !name.starts_with(b"@")) {
            *value = b"9".to_vec();
        }
        if far {
            hash.insert(b"@readAt".to_vec(), AHEAD.as_bytes().to_vec());
        }
        world.redis.put(&redis_key("app"), hash);
        return;
    }
    let values = world.values("app", Part::Secret).unwrap().into_keys().map(|key| (key, json!("OQ==")));
    let annotations = if far { json!({"parameter-mirror.dev/read-at": AHEAD}) } else { json!({}) };
    let edit = json!({
        "data": values.collect::<serde_json::Map<_, _>>(), "metadata": {"annotations": annotations},
    });
    world.patch("secrets", Some(NAMESPACE), "app", &edit);
}

/// Promise 2: whatever is lost from a target is restored from the other, without SSM and by a new process.
#[tokio::test(start_paused = true)]
async fn either_target_comes_back_from_the_other_after_a_cold_start() {
    for part in [Part::Secret, Part::Redis] {
        let (world, operator, _) = after_releases(2).await;
        silence_ssm(&world);
        operator.kill();
        world.destroy("app", part, || match part {
            Part::Secret => world.delete("secrets", NAMESPACE, "app"),
            Part::Redis => world.redis.flush(),
        });
        let _operator = world.operator();
        world.both_serve("app", 2, SOON).await;
        world.assert_whole_and_forward();
    }
}

/// Both are lost and SSM is down: the operator writes nothing empty, and the status reports it.
#[tokio::test(start_paused = true)]
async fn nothing_is_served_rather_than_something_empty() {
    let (world, operator, _) = after_releases(2).await;
    silence_ssm(&world);
    operator.kill();
    world.delete("secrets", NAMESPACE, "app");
    world.redis.flush();
    let writes = world.history().len();
    let _operator = world.operator();
    world.becomes("app", "Ready", "False", "NoLastKnownGood", SOON).await;
    world.pass(Duration::from_hours(1)).await;
    assert_eq!(world.history().len(), writes);
    world.faults.clear();
    world.both_serve("app", 2, SOON).await;
}

/// A read that is triggered during another read observes the targets, like any other.
#[tokio::test(start_paused = true)]
async fn each_read_begins_with_a_look_at_what_the_targets_hold() {
    let world = World::new();
    world.mirror("app", "1h");
    let _operator = world.operator();
    world.both_serve("app", 1, SOON).await;
    let ask = |token: &str| {
        let asked = json!({"metadata": {"annotations": {"parameter-mirror.dev/sync-at": token}}});
        world.patch("parametermirrors", Some(NAMESPACE), "app", &asked);
    };
    world.faults.set(|call| (call.edge == Edge::Ssm).then_some(Fault::Slow(Duration::from_secs(5))));
    ask("first");
    world.pass(Duration::from_secs(1)).await;
    // Only a value that readers see changes, so no check notices.
    let mut hash = world.redis.hash(&redis_key("app")).unwrap();
    hash.insert(b"/app/p0".to_vec(), b"edited".to_vec());
    world.redis.put(&redis_key("app"), hash);
    ask("second");
    world.pass(Duration::from_secs(20)).await;
    assert_eq!(world.serves("app", Part::Redis), Some(1));
}

/// A copy is decoded before its author is known, so its claims are decoded only as far as its values go. It
/// is healed like any other.
#[tokio::test(start_paused = true)]
async fn what_a_copy_claims_beyond_its_values_is_not_read_and_it_is_healed() {
    let world = World::new();
    for number in 0..200 {
        world.ssm.put(&format!("/many/n{number}"), "1", world.now());
    }
    world.mirror_with("app", json!({"interval": "1m", "parameters": [{"path": "/many"}]}));
    let operator = world.operator();
    world.becomes("app", "Ready", "True", "Synced", SOON).await;
    let whole = [Part::Secret, Part::Redis].map(|part| world.values("app", part));
    assert_eq!(whole[0].as_ref().map(std::collections::BTreeMap::len), Some(200));
    silence_ssm(&world);
    let get = |namespace: &str, name: &str| {
        world.api.objects(|objects| objects.get("secrets", namespace, name)).unwrap()
    };
    let judge = |data: &[(&str, &[u8])]| {
        let keys: Secret = serde_json::from_value((*get(HOME, "parameter-mirror-keys")).clone()).unwrap();
        let keys = keys.data.unwrap();
        let keys =
            KeyRing::from_data(keys.iter().map(|(name, bytes)| (name.as_str(), bytes.0.as_slice()))).unwrap();
        let secret: Secret = serde_json::from_value((*get(NAMESPACE, "app")).clone()).unwrap();
        let data = data.iter().copied();
        layout::decode(secret.metadata.annotations.as_ref(), data, "c/shop/app", &keys)
    };
    let cause = |found: Found| match found {
        Found::Ours(Verdict::Broken(cause)) => cause,
        other => panic!("{other:?}"),
    };
    assert_eq!(cause(judge(&[("N0", b"1")])), BrokenCause::Unreadable(layout::MANIFEST));

    let removed: serde_json::Map<String, Json> =
        (1..200).map(|number| (format!("N{number}"), Json::Null)).collect();
    world.destroy("app", Part::Secret, || {
        world.patch("secrets", Some(NAMESPACE), "app", &json!({"data": removed}));
    });
    let mut hash = world.redis.hash(&redis_key("app")).unwrap();
    hash.retain(|field, _| field.starts_with(b"@") || field == b"/many/n0");
    world.redis.put(&redis_key("app"), hash);
    let is_whole = || [Part::Secret, Part::Redis].map(|part| world.values("app", part)) == whole;
    world.eventually(SOON, || if is_whole() { Ok(()) } else { Err("not healed".to_owned()) }).await;
    drop(operator);
}
