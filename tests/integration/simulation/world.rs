//! A world in memory in which hours pass in milliseconds.
//!
//! SSM holds *releases*: in release `n` every value is `n`, and one name is new. A set therefore shows
//! whether it is complete, consistent, and newer than another. Each content is checked when it is written to
//! a target.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, Once};
use std::time::Duration;

use jiff::Timestamp;
use parameter_mirror::kubernetes::election::Candidate;
use parameter_mirror::process::admin::Health;
use parameter_mirror::process::operator::{Dependencies, OperatorConfig, operate};
use parameter_mirror::process::run::DRAIN;
use parameter_mirror::targets::redis::RedisBackend;
use parameter_mirror_clock::Clock;
use serde_json::{Value as Json, json};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::api_server::ApiServer;
use super::hashes;
use super::line::{FaultInjector, Line};
use super::objects::Target;
use super::parameters;

/// The namespace of mirrors.
pub const NAMESPACE: &str = "shop";
/// The namespace of the operator.
pub const HOME: &str = "operator";
/// The time at which the world begins.
const EPOCH: i64 = 1_795_392_000_000;
/// The entry in the history for a target that was destroyed.
const NOTHING: u64 = 0;
/// The number of names that all releases contain.
const LASTING: usize = 12;

/// A target of a mirror.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    Secret,
    Redis,
}

/// One content that was written to a target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    pub at: Duration,
    pub mirror: String,
    pub part: Part,
    /// The release; what was wrong with the content otherwise.
    pub release: Result<u64, String>,
}

pub struct World {
    pub api: ApiServer,
    pub redis: hashes::Store,
    pub ssm: parameters::Store,
    pub faults: FaultInjector,
    began: Instant,
    skew: Arc<AtomicI64>,
    history: Arc<Mutex<Vec<Written>>>,
    operators: Cell<usize>,
    released: Cell<u64>,
    /// `--memory-values` in bytes, for operators that are started from now on.
    pub memory_values: Cell<usize>,
    /// `--secret-watch`, for operators that are started from now on.
    pub secret_watch: Cell<bool>,
}

/// A running operator.
pub struct Operator {
    pub line: Line,
    pub health: Health,
    stop: CancellationToken,
    work: JoinHandle<anyhow::Result<()>>,
}

/// Aborts when two locks were taken in two orders. The operator catches a panic of one reconcile, so the test
/// would otherwise continue.
fn end_at_two_orders_of_locks() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            hook(panic);
            if panic.payload_as_str().is_some_and(|text| text.contains("cycle in mutex dependency graph")) {
                std::process::abort();
            }
        }));
    });
}

impl World {
    /// Creates a world without an operator; SSM holds release 1.
    pub fn new() -> Self {
        end_at_two_orders_of_locks();
        let world = Self {
            api: ApiServer::default(),
            redis: hashes::Store::default(),
            ssm: parameters::Store::default(),
            faults: FaultInjector::default(),
            began: Instant::now(),
            skew: Arc::default(),
            history: Arc::default(),
            operators: Cell::new(0),
            released: Cell::new(0),
            memory_values: Cell::new(256 << 20),
            secret_watch: Cell::new(true),
        };
        for name in ["kube-system", HOME, NAMESPACE] {
            world.create("namespaces", None, json!({"metadata": {"name": name, "labels": {}}}));
        }
        let grant = json!({"namespaces": [NAMESPACE], "paths": ["/"]});
        world.create(
            "parametersources",
            None,
            json!({
                "apiVersion": "parameter-mirror.dev/v1alpha1", "kind": "ParameterSource", "metadata": {"name": "default"},
                "spec": {"region": "us-east-1", "redisEncryption": "None", "grants": [grant]},
            }),
        );
        world.watch_writes();
        world.release(1);
        world
    }

    fn watch_writes(&self) {
        let note = |history: &Arc<Mutex<Vec<Written>>>, began: Instant| {
            let history = Arc::clone(history);
            move |mirror: &str, part: Part, values: BTreeMap<String, String>| {
                let written =
                    Written { at: began.elapsed(), mirror: mirror.to_owned(), part, release: judge(&values) };
                history.lock().unwrap().push(written);
            }
        };
        let (secrets, hashes) = (note(&self.history, self.began), note(&self.history, self.began));
        self.api.objects(|objects| {
            objects.on_secret(move |secret| {
                let name = secret["metadata"]["name"].as_str().unwrap();
                if name != "parameter-mirror-keys" {
                    secrets(name, Part::Secret, secret_values(secret));
                }
            });
        });
        self.redis.on_write(move |key, hash| {
            let mirror = key.trim_end_matches('}').rsplit('/').next().unwrap();
            hashes(mirror, Part::Redis, hash_values(hash));
        });
    }

    /// Creates an object as a user would.
    pub fn create(&self, resource: &str, namespace: Option<&str>, object: Json) {
        let target = target(resource, namespace, None);
        self.api.objects(|objects| objects.create(&target, object)).unwrap();
    }

    /// Changes an object with a merge patch, as a user would.
    pub fn patch(&self, resource: &str, namespace: Option<&str>, name: &str, patch: &Json) {
        self.api.objects(|objects| objects.patch(&target(resource, namespace, Some(name)), patch)).unwrap();
    }

    /// Deletes an object as a user would.
    pub fn delete(&self, resource: &str, namespace: &str, name: &str) {
        let target = target(resource, Some(namespace), Some(name));
        self.api.objects(|objects| objects.delete(&target, &Json::Null)).unwrap();
    }

    /// Deletes a source as an administrator would.
    pub fn delete_source(&self, name: &str) {
        let target = target("parametersources", None, Some(name));
        self.api.objects(|objects| objects.delete(&target, &Json::Null)).unwrap();
    }

    /// Creates a mirror of all releases with both targets.
    pub fn mirror(&self, name: &str, interval: &str) {
        self.mirror_with(name, json!({"interval": interval, "parameters": [{"path": "/app"}]}));
    }

    /// Creates a mirror with this spec and both targets.
    pub fn mirror_with(&self, name: &str, spec: Json) {
        self.mirror_in(NAMESPACE, name, spec);
    }

    /// Creates a mirror in another namespace.
    pub fn mirror_in(&self, namespace: &str, name: &str, mut spec: Json) {
        spec["sourceRef"] = json!({"name": "default"});
        for (member, default) in [("secret", json!({})), ("redis", json!({"encryption": "None"}))] {
            if spec.get(member).is_none() {
                spec[member] = default;
            }
        }
        self.create(
            "parametermirrors",
            Some(namespace),
            json!({
                "apiVersion": "parameter-mirror.dev/v1alpha1", "kind": "ParameterMirror",
                "metadata": {"name": name}, "spec": spec,
            }),
        );
    }

    /// Destroys the content of a target, as a user could. What is written while `act` runs does not count
    /// against the operator.
    pub fn destroy(&self, mirror: &str, part: Part, act: impl FnOnce()) {
        let before = self.history().len();
        act();
        let mut history = self.history.lock().unwrap();
        history.truncate(before);
        history.push(Written { at: self.elapsed(), mirror: mirror.to_owned(), part, release: Ok(NOTHING) });
    }

    /// Returns the release that SSM holds.
    pub fn released(&self) -> u64 {
        self.released.get()
    }

    /// Advances SSM to the next release at once.
    pub fn release_next(&self) -> u64 {
        self.release(self.released() + 1);
        self.released()
    }

    /// Advances SSM to this release at once; it must follow the previous one.
    pub fn release(&self, number: u64) {
        self.released.set(number);
        let now = self.now();
        for name in 0..LASTING {
            self.ssm.put(&format!("/app/p{name}"), &number.to_string(), now);
        }
        self.ssm.put(&format!("/app/extra-{number}"), &number.to_string(), now);
        if number > 1 {
            self.ssm.delete(&format!("/app/extra-{}", number - 1));
        }
    }

    /// Starts an operator. Several may run at the same time.
    pub fn operator(&self) -> Operator {
        self.operator_with(Duration::ZERO)
    }

    /// Starts an operator whose clock is ahead by this much.
    pub fn operator_with(&self, ahead: Duration) -> Operator {
        let number = self.operators.replace(self.operators.get() + 1);
        let line = Line::new(number, self.faults.clone());
        let (began, skew) = (self.began, Arc::clone(&self.skew));
        let ahead = i64::try_from(ahead.as_millis()).unwrap();
        let wall = move || {
            let now = wall(began) + skew.load(Ordering::Relaxed) + ahead;
            Timestamp::from_millisecond(now).unwrap()
        };
        let redis = hashes::Reached { store: self.redis.clone(), line: line.clone() };
        let dependencies = Dependencies {
            client: self.api.client(&line),
            redis: RedisBackend::Configured(Arc::new(redis)),
            connect: Box::new(parameters::Reached { store: self.ssm.clone(), line: line.clone() }),
            clock: Clock::with_wall(wall),
        };
        let config = OperatorConfig {
            namespace: HOME.to_owned(),
            key_secret: "parameter-mirror-keys".to_owned(),
            watch_namespaces: Vec::new(),
            cluster_name: Some("c".to_owned()),
            redis_prefix: "pm:".to_owned(),
            requests_per_second: 10,
            memory_values: self.memory_values.get(),
            secret_watch: self.secret_watch.get(),
            lease: "parameter-mirror".to_owned(),
            candidate: Some(Candidate {
                namespace: HOME.to_owned(),
                lease: "parameter-mirror".to_owned(),
                identity: format!("operator-{number}"),
            }),
        };
        let stop = CancellationToken::new();
        let health = Health::default();
        let work = tokio::spawn(operate(dependencies, config, health.clone(), stop.clone()));
        Operator { line, health, stop, work }
    }

    /// Makes the clocks of all operators jump by this many milliseconds.
    pub fn jump(&self, millis: i64) {
        self.skew.fetch_add(millis, Ordering::Relaxed);
    }

    /// Returns the wall time without skew, Unix milliseconds.
    pub fn now(&self) -> i64 {
        wall(self.began)
    }

    /// Waits for this time.
    pub async fn pass(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }

    /// Returns the time since the world began.
    pub fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    /// Returns every content that was written so far.
    pub fn history(&self) -> Vec<Written> {
        self.history.lock().unwrap().clone()
    }

    /// Returns the release that a target serves now; `None` if its content is not complete.
    pub fn serves(&self, mirror: &str, part: Part) -> Option<u64> {
        judge(&self.values(mirror, part)?).ok()
    }

    /// Returns the values of a target.
    pub fn values(&self, mirror: &str, part: Part) -> Option<BTreeMap<String, String>> {
        match part {
            Part::Secret => {
                let secret = self.api.objects(|objects| objects.get("secrets", NAMESPACE, mirror));
                secret.map(|secret| secret_values(&secret))
            }
            Part::Redis => self.redis.hash(&redis_key(mirror)).map(|hash| hash_values(&hash)),
        }
    }

    /// Returns status and reason of a condition of a mirror.
    pub fn condition(&self, mirror: &str, type_: &str) -> (String, String) {
        self.condition_in(NAMESPACE, mirror, type_)
    }

    /// Returns the same for a mirror in another namespace.
    pub fn condition_in(&self, namespace: &str, mirror: &str, type_: &str) -> (String, String) {
        let found = self.api.objects(|objects| objects.get("parametermirrors", namespace, mirror)).unwrap();
        let conditions = found["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let is = conditions.into_iter().find(|condition| condition["type"] == type_).unwrap_or_default();
        let text = |member: &str| is[member].as_str().unwrap_or_default().to_owned();
        (text("status"), text("reason"))
    }

    /// Returns the reasons of all events of a mirror.
    pub fn events(&self, mirror: &str) -> Vec<String> {
        let events = self.api.objects(|objects| objects.list(&target("events", Some(NAMESPACE), None), &[]));
        let about = events.iter().filter(|event| event["involvedObject"]["name"] == mirror);
        about.map(|event| event["reason"].as_str().unwrap_or_default().to_owned()).collect()
    }

    /// Waits until both targets of a mirror serve this release, at most for this time.
    pub async fn both_serve(&self, mirror: &str, release: u64, within: Duration) {
        self.eventually(within, || {
            let served = [Part::Secret, Part::Redis].map(|part| self.serves(mirror, part));
            if served == [Some(release); 2] {
                Ok(())
            } else {
                Err(format!("{mirror} serves {served:?}, not {release}"))
            }
        })
        .await;
    }

    /// Waits until a condition has this status and reason, at most for this time.
    pub async fn becomes(&self, mirror: &str, type_: &str, status: &str, reason: &str, within: Duration) {
        self.eventually(within, || {
            let is = self.condition(mirror, type_);
            if (is.0.as_str(), is.1.as_str()) == (status, reason) {
                Ok(())
            } else {
                Err(format!("{type_} is {is:?}"))
            }
        })
        .await;
    }

    /// Waits for a condition, checked ten times per second.
    pub async fn eventually<T>(&self, within: Duration, mut look: impl FnMut() -> Result<T, String>) -> T {
        let deadline = Instant::now() + within;
        loop {
            match look() {
                Ok(seen) => return seen,
                Err(seen) if Instant::now() >= deadline => {
                    panic!("not within {within:?}: {seen}\n{}", self.story())
                }
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
    }

    /// Asserts that no written set was partial or mixed, and that no target went back to an older release; a
    /// destroyed target may go back, but not behind the other one.
    pub fn assert_whole_and_forward(&self) {
        let mut latest: BTreeMap<(String, Part), u64> = BTreeMap::new();
        for written in self.history() {
            let release = written.release.clone().unwrap_or_else(|wrong| panic!("{written:?}: {wrong}"));
            let of = |part| (written.mirror.clone(), part);
            if release == NOTHING {
                let other = if written.part == Part::Secret { Part::Redis } else { Part::Secret };
                let left = latest.get(&of(other)).copied().unwrap_or(NOTHING);
                latest.insert(of(written.part), left);
                continue;
            }
            let before = latest.insert(of(written.part), release);
            let story = || format!("{written:?} replaces release {before:?}\n{}", self.story());
            assert!(before.is_none_or(|before| before <= release), "{}", story());
        }
    }

    /// Describes the last writes, and the status of the mirrors.
    fn story(&self) -> String {
        let history = self.history();
        let tail = history.iter().skip(history.len().saturating_sub(10));
        let written: Vec<String> = tail.map(|written| format!("{written:?}")).collect();
        let mirrors = target("parametermirrors", None, None);
        let mirrors = self.api.objects(|objects| objects.list(&mirrors, &[]));
        let status = |mirror: &Arc<Json>| format!("{} {:#}", mirror["metadata"]["name"], mirror["status"]);
        let said: Vec<String> = mirrors.iter().map(status).collect();
        format!("at {:?}\n{}\n{}", self.elapsed(), written.join("\n"), said.join("\n"))
    }
}

impl Operator {
    /// Kills it, like SIGKILL.
    pub fn kill(self) {
        self.line.kill();
        self.work.abort();
    }

    /// Stops the work queues, but not the process.
    pub fn hang(&self) {
        self.work.abort();
    }

    /// Terminates it, like SIGTERM; waits until the process has ended, by itself or because its grace period
    /// is over.
    pub async fn terminate(mut self) {
        self.stop.cancel();
        let _ = tokio::time::timeout(DRAIN, &mut self.work).await;
        self.kill();
    }
}

/// Runs a world on its own runtime to its end.
pub fn in_virtual_time<T>(world: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.unwrap().block_on(world)
}

/// Returns the Redis key of a mirror.
pub fn redis_key(mirror: &str) -> String {
    format!("pm:{{{NAMESPACE}/{mirror}}}")
}

fn wall(began: Instant) -> i64 {
    EPOCH + i64::try_from(began.elapsed().as_millis()).unwrap()
}

fn target(resource: &str, namespace: Option<&str>, name: Option<&str>) -> Target {
    Target {
        resource: resource.to_owned(),
        namespace: namespace.map(str::to_owned),
        name: name.map(str::to_owned),
        subresource: None,
    }
}

/// Returns the release of a set. Names are those in a Secret.
fn judge(values: &BTreeMap<String, String>) -> Result<u64, String> {
    let first = values.values().next().ok_or("nothing")?;
    let release: u64 = first.parse().map_err(|_| format!("{first} is no release"))?;
    if values.values().any(|value| value != first) {
        return Err(format!("mixed: {values:?}"));
    }
    let mut expected: Vec<String> = (0..LASTING).map(|name| format!("P{name}")).collect();
    expected.push(format!("EXTRA_{release}"));
    expected.sort();
    if values.keys().ne(&expected) {
        return Err(format!("partial: {values:?}"));
    }
    Ok(release)
}

fn secret_values(secret: &Json) -> BTreeMap<String, String> {
    let data = secret["data"].as_object().cloned().unwrap_or_default();
    let text = |value: &Json| {
        let bytes: k8s_openapi::ByteString = serde_json::from_value(value.clone()).unwrap();
        String::from_utf8(bytes.0).unwrap()
    };
    data.iter().map(|(key, value)| (key.clone(), text(value))).collect()
}

fn hash_values(hash: &hashes::Hash) -> BTreeMap<String, String> {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let as_key = |name: &str| name.trim_start_matches("/app/").replace('-', "_").to_uppercase();
    let values = hash.iter().map(|(name, value)| (text(name), text(value)));
    values.filter(|(name, _)| !name.starts_with('@')).map(|(name, value)| (as_key(&name), value)).collect()
}
