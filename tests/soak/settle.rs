//! Waits until every mirror is correct in both targets.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use parameter_mirror_test_support::fleet::SecretData;
use parameter_mirror_test_support::{Redis, copies, fleet, installation};
use tokio::sync::Mutex;
use tokio::time::sleep;

use crate::model::{Mirror, Model};
use crate::monitor::Shared;

/// The pause between two checks of all targets. Each check lists all Secrets on the API server.
const PAUSE: Duration = Duration::from_secs(2);
/// How long no further mirror may become correct before the first wrong ones are described.
const STALLED: Duration = Duration::from_secs(15);
/// The number of mirrors that are described, and that are named.
const SHOWN: usize = 3;
const NAMED: usize = 40;

/// Waits until all mirrors are correct; returns how long that took since `began`.
///
/// # Panics
/// When the deadline passes first; the message describes what is wrong.
pub async fn settled(
    client: &kube::Client,
    redis: &Mutex<Redis>,
    model: &Model,
    shared: &Shared,
    began: Instant,
    deadline: Duration,
) -> Duration {
    let mut progress = (usize::MAX, Instant::now());
    loop {
        let wrong = wrong(client, &*redis.lock().await, model).await;
        shared.lock().wrong = wrong.len();
        if wrong.is_empty() {
            return began.elapsed();
        }
        assert!(
            began.elapsed() < deadline,
            "{} of {} mirrors are not right {:.0} s after the last fault (deadline {:.0} s):\n{}",
            wrong.len(),
            model.len(),
            began.elapsed().as_secs_f64(),
            deadline.as_secs_f64(),
            describe(client, model, &wrong).await
        );
        if wrong.len() < progress.0 {
            progress = (wrong.len(), Instant::now());
        } else if progress.1.elapsed() > STALLED {
            println!(
                "{} mirrors have been wrong for {STALLED:?}:\n{}",
                wrong.len(),
                describe(client, model, &wrong).await
            );
            progress.1 = Instant::now();
        }
        sleep(PAUSE).await;
    }
}

/// What is wrong with one mirror.
struct Wrong {
    mirror: usize,
    secret: Option<BTreeMap<String, String>>,
    redis: Option<BTreeMap<String, String>>,
}

async fn wrong(client: &kube::Client, redis: &Redis, model: &Model) -> Vec<Wrong> {
    let mut secrets = BTreeMap::<&str, SecretData>::new();
    for namespace in &model.namespaces {
        let data = fleet::secrets(client, namespace).await.expect("the API server lists Secrets");
        secrets.insert(namespace, data);
    }
    let keys = copies::find_keys(client, installation::HOME).await;
    let redis_keys: Vec<_> = model.mirrors.iter().map(Mirror::redis_key).collect();
    let hashes = redis.hashes(&redis_keys).await.expect("Redis answers");
    let mut wrong = Vec::new();
    for (number, ((mirror, key), hash)) in model.mirrors.iter().zip(&redis_keys).zip(&hashes).enumerate() {
        let secret = secrets[mirror.namespace.as_str()].get(&mirror.name);
        let redis = keys.as_ref().and_then(|keys| copies::redis_values(hash, key, keys));
        let is_right = secret == Some(&model.secret_of(mirror)) && redis == Some(model.values_of(mirror));
        if !is_right {
            wrong.push(Wrong { mirror: number, secret: secret.cloned(), redis });
        }
    }
    wrong
}

async fn describe(client: &kube::Client, model: &Model, wrong: &[Wrong]) -> String {
    let mirrors = wrong.iter().take(NAMED).map(|wrong| &model.mirrors[wrong.mirror]);
    let names: Vec<_> = mirrors.map(|mirror| format!("{}/{}", mirror.namespace, mirror.name)).collect();
    let mut text = format!("{}\n", names.join(" "));
    for Wrong { mirror, secret, redis } in wrong.iter().take(SHOWN) {
        let mirror = &model.mirrors[*mirror];
        let object = fleet::mirrors(client, &mirror.namespace).get_opt(&mirror.name).await;
        let status = object.map(|object| object.map(|object| object.data["status"].clone()));
        let _ = writeln!(
            text,
            "{}/{}: wanted {:?}\n  Secret {secret:?}\n  Redis {redis:?}\n  status {status:?}",
            mirror.namespace,
            mirror.name,
            model.values_of(mirror)
        );
    }
    text
}
