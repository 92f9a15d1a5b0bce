//! A Redis with mirrors in it, and the program under test.

use std::collections::BTreeMap;
use std::process::{Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::Timestamp;
use parameter_mirror::targets::redis::{
    Guard, HashStore as _, Heartbeat, ObservedHash, RedisStore, ScriptOutcome, copy,
};
use parameter_mirror_format::content::Content;
use parameter_mirror_format::content::entry::{Entry, ParameterType, env_var};
use parameter_mirror_format::content::source::{StoredSelection, StoredSource};
use parameter_mirror_format::crypto::keys::KeyRing;
use parameter_mirror_format::crypto::subkey::SubKey;
use parameter_mirror_format::hash::{EncryptionMode, Fence, MAC, Status, Vitals, decode, encode};
use parameter_mirror_format::value::Value;
use parameter_mirror_reader::mirrors::Mirrors;
use parameter_mirror_redis::{RedisClient, RedisSettings, Setting};
use parameter_mirror_test_support::{Process, Redis, Scratch, eventually};

pub const MIRROR: &str = "shop/checkout";
pub const KEY: &str = "pm:{shop/checkout}";
/// The time limit for operations that are expected to succeed, on a machine under load.
pub const SOON: Duration = Duration::from_secs(20);

/// A Redis, and the keys with which mirrors are written into it.
pub struct World {
    pub redis: Redis,
    pub keys: KeyRing,
    store: RedisStore,
    fences: Mutex<BTreeMap<String, Fence>>,
    scratch: Arc<Scratch>,
}

/// A mirror to write.
#[derive(Clone)]
pub struct Set {
    pub name: &'static str,
    pub entries: BTreeMap<String, Entry>,
    pub selections: Vec<StoredSelection>,
    pub mode: EncryptionMode,
    pub status: Status,
    /// The time since it was read.
    pub age: Duration,
}

/// The mirror `shop/checkout` of everything below `/app`, read just now; `SecureString`s are encrypted.
pub fn set(parameters: &[(&str, ParameterType, &str)]) -> Set {
    let entry = |(name, kind, value): &(&str, ParameterType, &str)| {
        let key = Some(env_var(name.trim_start_matches("/app/")));
        let entry = Entry {
            key,
            is_key_given: false,
            kind: *kind,
            version: 1,
            date: 1_700_000_000_123,
            value: Value::from(*value),
        };
        ((*name).to_owned(), entry)
    };
    let path = StoredSelection::Path { path: "/app".to_owned(), recursive: true, exclude: vec![] };
    Set {
        name: MIRROR,
        entries: parameters.iter().map(entry).collect(),
        selections: vec![path],
        mode: EncryptionMode::SecureStrings,
        status: Status::Synced,
        age: Duration::ZERO,
    }
}

/// `DB_HOST`, a `String`, and `DB_PASSWORD`, a `SecureString`.
pub fn usual() -> Set {
    set(&[
        ("/app/db/host", ParameterType::String, "db.internal"),
        ("/app/db/password", ParameterType::SecureString, "hunter2"),
    ])
}

impl World {
    /// Starts a world with its own, empty Redis.
    pub async fn start() -> Self {
        Self::on(Redis::start().await)
    }

    /// Creates a world on this Redis.
    pub fn on(redis: Redis) -> Self {
        let mut settings = RedisSettings::new(Setting::Value(Value::new(redis.url())));
        settings.ca = redis.ca().map(|path| Setting::File(path.to_owned()));
        Self {
            store: RedisStore::new(RedisClient::new(settings)),
            redis,
            keys: KeyRing::generate("k1".parse().unwrap()).unwrap(),
            fences: Mutex::default(),
            scratch: Arc::new(Scratch::new("reader").unwrap()),
        }
    }

    /// Starts a world with the usual mirror.
    pub async fn usual() -> Self {
        let world = Self::start().await;
        world.publish(&usual()).await;
        world
    }

    /// Writes a mirror as the operator does.
    pub async fn publish(&self, set: &Set) {
        let (namespace, name) = set.name.split_once('/').unwrap();
        let key = parameter_mirror_format::hash::redis_key("pm:", namespace, name);
        let now = Timestamp::now().as_millisecond();
        let read_at = now - i64::try_from(set.age.as_millis()).unwrap();
        let owner = format!("test/{}", set.name);
        let source = StoredSource {
            name: "default".to_owned(),
            region: "us-east-1".to_owned(),
            role_arn: String::new(),
            external_id: String::new(),
            account: "111122223333".to_owned(),
            selections: set.selections.clone(),
        };
        let content =
            Content { owner: owner.clone(), source: source.encode(), read_at, entries: set.entries.clone() };
        let vitals = Vitals { checked_at: read_at, status: set.status, status_at: read_at };
        let fields = encode(&self.keys.sign(content), set.mode, &self.keys, &key, vitals).unwrap();
        let fence = self.fences.lock().unwrap().get(&key).cloned().unwrap_or(Fence::ABSENT);
        let guard = Guard { key: &key, owner: &owner, fence: &fence, mac: None, now, least: now };
        match self.store.swap(guard, &fields, false, SOON).await.unwrap() {
            ScriptOutcome::Done { fence, .. } => self.fences.lock().unwrap().insert(key, fence),
            other => panic!("not written: {other:?}"),
        };
    }

    /// Confirms the mirror `shop/checkout` as the operator does after a read that found nothing new.
    pub async fn confirm(&self) {
        let owner = format!("test/{MIRROR}");
        let observed = self.store.observe(KEY, SOON).await.unwrap();
        let ObservedHash::Fields(fields) = observed else { panic!("no hash: {observed:?}") };
        let known = decode(&fields, KEY, &owner, &self.keys);
        let now = Timestamp::now().as_millisecond();
        let guard =
            Guard { key: KEY, owner: &owner, fence: &known.fence, mac: fields.text(MAC), now, least: now };
        let heartbeat = Heartbeat::Good { checked_at: now };
        match copy::heartbeat(&self.store, guard, heartbeat, &self.keys, &known).await.unwrap() {
            ScriptOutcome::Done { fence, .. } => self.fences.lock().unwrap().insert(KEY.to_owned(), fence),
            other => panic!("not confirmed: {other:?}"),
        };
    }

    /// Returns the sub-key of a mirror, as `parameter-mirror key` prints it.
    pub fn sub_key(&self, key: &str) -> String {
        let sub_key = self.keys.sub_key(self.keys.active(), key).unwrap();
        sub_key.encode().expose().to_owned()
    }

    /// Returns the settings of a task: the complete environment of the program.
    pub fn settings(&self) -> Vec<(&'static str, String)> {
        vec![
            ("PARAMETER_MIRROR_REDIS_URL", self.redis.url()),
            ("PARAMETER_MIRROR_MIRRORS", MIRROR.to_owned()),
            ("PARAMETER_MIRROR_SUB_KEYS", self.sub_key(KEY)),
        ]
    }

    /// Returns the mirror as the program reads it, for use in this process.
    pub fn mirrors(&self) -> Mirrors {
        let settings = RedisSettings::new(Setting::Value(Value::new(self.redis.url())));
        Mirrors {
            servers: RedisClient::new(settings),
            prefix: "pm:".to_owned(),
            names: vec![MIRROR.parse().unwrap()],
            sub_keys: vec![SubKey::parse(&self.sub_key(KEY)).unwrap()],
            least: None,
            budget: SOON,
        }
    }

    /// Returns a reader with these arguments, separated by spaces. Its budget suffices for a machine under
    /// load.
    pub fn reader(&self, arguments: &str) -> Reader {
        let mut reader = Reader::new(arguments.split_whitespace());
        reader.command.envs(self.settings());
        reader.with("PARAMETER_MIRROR_BUDGET", "10s").with("PARAMETER_MIRROR_SSM_BUDGET", "10s")
    }

    /// Starts a reader that keeps running, and waits until its log contains this.
    pub async fn start_reader(&self, arguments: &str, settings: &[(&str, &str)], says: &str) -> Process {
        let mut command = std::process::Command::new(program());
        command.args(arguments.split_whitespace()).envs(self.settings()).envs(settings.iter().copied());
        self.start_program(&command, says).await
    }

    /// Starts a program that keeps running, and waits until its log contains this.
    pub async fn start_program(&self, command: &std::process::Command, says: &str) -> Process {
        let process = Process::start(&self.scratch, "reader", command).unwrap();
        has_said(&process, says).await;
        process
    }
}

/// Waits until a server has printed its address. Waits for the whole line, because it may be printed in
/// pieces.
pub async fn endpoint(process: &Process) -> String {
    eventually("the reader says where it listens", SOON, async || {
        let log = process.log();
        let said = log.split_once("listening on ").and_then(|(_, rest)| rest.split_once('\n'));
        said.map(|(endpoint, _)| endpoint.to_owned()).ok_or(log)
    })
    .await
}

/// Waits until the process has printed this.
pub async fn has_said(process: &Process, says: &str) {
    eventually(&format!("the reader says {says:?}"), SOON, async || {
        let log = process.log();
        if log.contains(says) { Ok(()) } else { Err(log) }
    })
    .await;
}

/// The program under test.
pub fn program() -> &'static str {
    env!("CARGO_BIN_EXE_parameter-mirror-reader")
}

/// One run of the program.
pub struct Reader {
    command: tokio::process::Command,
}

impl Reader {
    pub fn new<'a>(arguments: impl IntoIterator<Item = &'a str>) -> Self {
        let mut command = tokio::process::Command::new(program());
        command.args(arguments).env_clear().env("PATH", std::env::var_os("PATH").unwrap());
        command.stdin(Stdio::null()).kill_on_drop(true);
        Self { command }
    }

    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.command.env(name, value);
        self
    }

    pub fn without(mut self, name: &str) -> Self {
        self.command.env_remove(name);
        self
    }

    /// Adds one argument, which may contain spaces.
    pub fn and(mut self, argument: &str) -> Self {
        self.command.arg(argument);
        self
    }

    /// Runs it to its end.
    pub async fn run(mut self) -> Ended {
        let output = tokio::time::timeout(SOON, self.command.output()).await.expect("it ends").unwrap();
        Ended::from(output)
    }
}

/// Runs a reader that ends before another one that differs in its budget alone: it is the budget that ends it.
pub async fn sooner(short: impl Future<Output = Ended>, long: impl Future<Output = Ended>) -> Ended {
    tokio::select! {
        short = short => short,
        long = long => panic!("the longer budget ended first: {long:?}"),
    }
}

/// The result of a run.
#[derive(Debug)]
pub struct Ended {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Ended {
    /// Asserts success, and returns the output.
    #[track_caller]
    pub fn good(self) -> String {
        assert_eq!(self.code, Some(0), "{self:?}");
        self.out
    }
}

impl From<Output> for Ended {
    fn from(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Self { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
    }
}
