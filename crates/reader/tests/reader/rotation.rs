//! The operator's key is replaced while a program is started repeatedly. A program with both sub-keys of each
//! of its mirrors never fails.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parameter_mirror_format::content::entry::ParameterType::SecureString;
use parameter_mirror_format::crypto::keys::KeyRing;
use parameter_mirror_format::hash::EncryptionMode;

use crate::serve::serve;
use crate::world::{Reader, Set, World, set, usual};

const MIRRORS: [&str; 2] = ["shop/checkout", "shop/shared"];
const ROUNDS: usize = 12;

/// A ring with these keys of the operator, of which this one is active.
fn ring(data: &BTreeMap<String, Vec<u8>>, active: &str) -> KeyRing {
    let entries = data.iter().filter(|(name, _)| *name != "active");
    let entries = entries.map(|(name, bytes)| (name.as_str(), bytes.as_slice()));
    KeyRing::from_data(entries.chain([("active", active.as_bytes())])).unwrap()
}

/// Returns the sub-keys for a reader of both mirrors: one for each mirror and each key of the operator.
fn handed(keys: &KeyRing) -> String {
    let of = |id, mirror: &str| keys.sub_key(id, &format!("pm:{{{mirror}}}")).unwrap().encode();
    let all = keys.key_ids().flat_map(|id| MIRRORS.map(|mirror| of(id, mirror).expose().to_owned()));
    all.collect::<Vec<_>>().join(",")
}

/// Starts the program repeatedly until `stop` is set. Returns the number of runs, and each failure.
async fn reads(settings: Vec<(&'static str, String)>, stop: Arc<AtomicBool>) -> (usize, Vec<String>) {
    let (mut count, mut failures) = (0, Vec::new());
    while !stop.load(Ordering::Relaxed) {
        let mut reader = Reader::new(["exec", "--", "sh", "-c", "echo $DB_PASSWORD $STRIPE"]);
        reader = reader.with("PARAMETER_MIRROR_BUDGET", "10s");
        for (name, value) in &settings {
            reader = reader.with(name, value);
        }
        let ended = reader.run().await;
        count += 1;
        if (ended.code, ended.out.as_str()) != (Some(0), "hunter2 sk_live\n") {
            failures.push(format!("{ended:?}"));
        }
    }
    (count, failures)
}

#[tokio::test]
async fn a_reader_with_both_sub_keys_reads_through_a_rotation() {
    let mut world = World::start().await;
    let mut data = world.keys.to_data();
    let (only_old, old) = (handed(&world.keys), world.keys.active().to_string());
    data.insert("k-next".to_owned(), vec![7; 32]);
    let shared = set(&[("/app/stripe", SecureString, "sk_live")]);
    let shared = Set { name: MIRRORS[1], mode: EncryptionMode::All, ..shared };
    world.publish(&usual()).await;
    world.publish(&shared).await;
    let mut settings = world.settings();
    settings.retain(|(name, _)| *name == "PARAMETER_MIRROR_REDIS_URL");
    settings.push(("PARAMETER_MIRROR_MIRRORS", MIRRORS.join(",")));
    let with = |sub_keys: String| [&settings[..], &[("PARAMETER_MIRROR_SUB_KEYS", sub_keys)]].concat();
    let both = with(handed(&ring(&data, &old)));
    let borrowed: Vec<_> = both.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let served = serve(&world, &borrowed).await;
    let stop = Arc::new(AtomicBool::default());
    let ready = tokio::spawn(reads(both.clone(), Arc::clone(&stop)));
    let forgotten = tokio::spawn(reads(with(only_old), Arc::clone(&stop)));

    // The key is switched back and forth; each time one mirror is ahead of the other for a moment.
    for round in 0..ROUNDS {
        world.keys = ring(&data, if round % 2 == 0 { "k-next" } else { &old });
        for mirror in [&usual(), &shared] {
            world.publish(mirror).await;
            world
                .reader("get /app/db/password")
                .with("PARAMETER_MIRROR_SUB_KEYS", &handed(&world.keys))
                .run()
                .await
                .good();
        }
    }
    stop.store(true, Ordering::Relaxed);
    let (count, failures) = ready.await.unwrap();
    assert!(count >= ROUNDS && failures.is_empty(), "{} of {count}: {failures:#?}", failures.len());
    let (_, failures) = forgotten.await.unwrap();
    assert!(!failures.is_empty(), "one sub-key was enough: nothing was rewritten");
    let log = served.process.log();
    assert!(log.contains("of shop/shared") && !log.contains("was not given"), "{log}");
}
