//! Searches the reader's messages and command line for random values, sub-keys and passwords: none may
//! appear.

use std::fs;

use axum::http::Method;
use parameter_mirror_format::content::entry::ParameterType::{SecureString, String as Plain};
use parameter_mirror_test_support::ssm::{Fault, When};
use parameter_mirror_test_support::{Canaries, Redis, Scratch, Ssm, eventually};

use crate::serve::{send, serve};
use crate::world::{Ended, KEY, Reader, SOON, Set, World, set};

/// Each way to read. None of them may print a value when it fails.
const READS: [&str; 5] = ["exec -- true", "get DB_HOST", "export --format json", "watch", "verify"];

/// A world whose values are canaries, and so is its Redis password.
struct Secretive {
    world: World,
    canaries: Canaries,
    password: Canaries,
    mirror: Set,
}

impl Secretive {
    async fn start() -> Self {
        let (canaries, password) = (Canaries::default(), Canaries::default());
        let world = World::on(Redis::with_password(password.sealed_marker()).await);
        let (plain, sealed) = (canaries.plain(), canaries.sealed());
        let mirror = set(&[("/app/db/host", Plain, &plain), ("/app/db/password", SecureString, &sealed)]);
        world.publish(&mirror).await;
        Self { world, canaries, password, mirror }
    }

    /// A reader that gets the password in a variable.
    fn reader(&self, arguments: &str) -> Reader {
        let url = format!("redis://{}", self.world.redis.address());
        let reader = self.world.reader(arguments).with("PARAMETER_MIRROR_REDIS_URL", &url);
        reader.with("PARAMETER_MIRROR_REDIS_PASSWORD", self.password.sealed_marker())
    }

    /// Asserts that it failed without printing a secret.
    #[track_caller]
    fn silent(&self, what: &str, ended: &Ended) {
        assert!(ended.code != Some(0), "{what}: it did not fail: {ended:?}");
        assert!(!ended.err.is_empty() || !ended.out.is_empty(), "{what}: it says nothing at all");
        self.holds_nothing(what, format!("{}{}", ended.out, ended.err).as_bytes());
    }

    #[track_caller]
    fn holds_nothing(&self, what: &str, said: &[u8]) {
        assert_eq!(self.canaries.found_in(said), None, "{what}");
        assert_eq!(self.password.found_in(said), None, "{what}");
        let sub_key = self.world.sub_key(KEY);
        let (_, secret) = sub_key.split_once(':').unwrap();
        assert!(!String::from_utf8_lossy(said).contains(secret), "{what}: the sub-key");
    }
}

#[tokio::test]
async fn a_damaged_mirror_is_reported_without_its_content() {
    let secretive = Secretive::start().await;
    let Secretive { world, canaries, .. } = &secretive;
    let stray = canaries.sealed();
    for field in
        ["@format", "@enc", "@params", "@count", "@source", "@readAt", "/app/db/password", "/app/else"]
    {
        world.redis.cli(&["hset", KEY, field, &stray]).await;
        for read in READS {
            secretive.silent(&format!("{read} with {field}"), &secretive.reader(read).run().await);
        }
        world.publish(&secretive.mirror).await;
    }
    let other_key = world.sub_key("pm:{shop/other}");
    for sub_keys in [&stray, &format!("k1:{stray}"), &other_key] {
        for read in READS {
            let ended = secretive.reader(read).with("PARAMETER_MIRROR_SUB_KEYS", sub_keys).run().await;
            secretive.silent(&format!("{read} with other sub-keys"), &ended);
        }
    }
    for program in ["exec -- /no/such/program", "exec -- /", "watch -- false", "get NOTHING"] {
        secretive.silent(program, &secretive.reader(program).run().await);
    }
    let mut zero = secretive.mirror.clone();
    zero.entries.get_mut("/app/db/host").unwrap().value = format!("{}\0", canaries.plain()).as_str().into();
    world.publish(&zero).await;
    secretive.silent("a zero byte", &secretive.reader("exec -- true").run().await);
}

#[tokio::test]
async fn a_redis_that_refuses_is_reported_without_the_password() {
    let secretive = Secretive::start().await;
    let address = secretive.world.redis.address();
    let wrong = secretive.password.sealed();
    let marker = secretive.password.sealed_marker();
    let scratch = Scratch::new("silence").unwrap();
    let file = scratch.path().join("not-what-it-should-be");
    fs::write(&file, &wrong).unwrap();
    let file = file.to_str().unwrap().to_owned();
    for (what, name, text) in [
        ("a wrong password", "PARAMETER_MIRROR_REDIS_PASSWORD", &wrong),
        ("a file that is no certificate", "PARAMETER_MIRROR_REDIS_CA_FILE", &file),
        ("sub-keys that are none", "PARAMETER_MIRROR_SUB_KEY_FILE", &file),
        ("a password to encode", "PARAMETER_MIRROR_REDIS_URL", &format!("redis://:{marker}#@{address}")),
    ] {
        for read in READS {
            let ended = secretive.reader(read).with(name, text).run().await;
            secretive.silent(&format!("{read} with {what}"), &ended);
        }
    }
    for url in [
        format!("http://:{marker}@{address}"),
        format!("redis://:{marker}@{address}/#{marker}"),
        format!("redis://:{marker}@{address}/{marker}"),
        format!("rediss://:{marker}@{address}"),
        format!("redis://:{marker}@127.0.0.1:1"),
    ] {
        fs::write(&file, &url).unwrap();
        for read in READS {
            let reader = secretive.reader(read).without("PARAMETER_MIRROR_REDIS_URL");
            let ended = reader.with("PARAMETER_MIRROR_REDIS_URL_FILE", &file).run().await;
            secretive.silent(&format!("{read} with the URL {url}"), &ended);
        }
    }
    secretive.world.redis.freeze();
    secretive.silent("a frozen Redis", &secretive.reader("exec --budget 300ms -- true").run().await);
}

/// SSM quotes secrets in its errors, the mirror is gone, and the credentials are secret.
#[tokio::test]
async fn an_ssm_that_fails_is_reported_without_its_answer() {
    let secretive = Secretive::start().await;
    let Secretive { world, canaries, password, mirror } = &secretive;
    let ssm = Ssm::start();
    ssm.put("/app/db/host", &canaries.plain());
    ssm.put_secure("/app/db/password", &canaries.sealed());
    ssm.quotes(&canaries.sealed());
    let asking = |arguments: &str| {
        let mut reader = secretive.reader(arguments);
        for (name, value) in [
            ("PARAMETER_MIRROR_SSM_PATHS", "/app"),
            ("AWS_REGION", "us-east-1"),
            ("AWS_ENDPOINT_URL_SSM", &ssm.endpoint()),
            ("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE"),
            ("AWS_SECRET_ACCESS_KEY", password.sealed_marker()),
            ("AWS_SESSION_TOKEN", password.sealed_marker()),
        ] {
            reader = reader.with(name, value);
        }
        reader
    };
    let marker = canaries.sealed_marker();
    let faults = || {
        [
            Fault::internal(),
            Fault::coded(400, marker, marker),
            Fault::coded(500, marker, marker),
            Fault::access_denied_kms(),
            Fault::expired_token(),
            Fault::GarbageOk,
            Fault::BrokenJson,
            Fault::WrongTypes,
            Fault::DuplicateName,
            Fault::CiphertextAsValue,
            Fault::Truncated,
        ]
    };
    for fault in faults() {
        let what = format!("{fault:?}");
        ssm.fail(When::any(), fault);
        // The reader falls back to the mirror, and warns about SSM.
        let ended = asking("exec --source ssm-first -- true").run().await;
        assert!(ended.code == Some(0) && ended.err.contains("WARNING"), "{what}: {ended:?}");
        secretive.holds_nothing(&what, ended.err.as_bytes());
        ssm.clear_all();
    }
    world.redis.cli(&["hset", KEY, "@enc", &canaries.sealed()]).await;
    for fault in faults() {
        let what = format!("{fault:?} without a mirror");
        ssm.fail(When::any(), fault);
        secretive.silent(&what, &asking("exec --budget 5s -- true").run().await);
        ssm.clear_all();
    }
    world.publish(mirror).await;
}

/// The server's messages and answers during several failures, and its entry in the process list.
#[tokio::test]
async fn a_server_says_nothing_of_what_it_serves() {
    let secretive = Secretive::start().await;
    let Secretive { world, canaries, mirror, .. } = &secretive;
    let (secret, url) = (secretive.password.sealed_marker(), format!("redis://{}", world.redis.address()));
    let settings = [
        ("PARAMETER_MIRROR_REDIS_URL", url.as_str()),
        ("PARAMETER_MIRROR_REDIS_PASSWORD", secret),
        ("AWS_SESSION_TOKEN", secret),
    ];
    let served = serve(world, &settings).await;
    let has_told = async |what: &str| {
        eventually(&format!("the server reports that {what}"), SOON, async || {
            let log = served.process.log();
            if log.contains(what) { Ok(()) } else { Err(log) }
        })
        .await;
    };
    for (field, what) in
        [("@enc", "@enc"), ("@params", "@params is not readable"), ("/app/db/password", "/app/db/password")]
    {
        world.redis.cli(&["hset", KEY, field, &canaries.sealed()]).await;
        // Makes the server read the mirror, because a reader polls this field.
        world.redis.cli(&["hincrby", KEY, "@generation", "1"]).await;
        has_told(what).await;
        world.publish(mirror).await;
    }
    for query in ["name=/app/db/password&withDecryption=true", "name=/app/absent", "name=/other", ""] {
        let url = format!("{}/systemsmanager/parameters/get?{query}", served.endpoint);
        let (status, body) = send(Method::GET, &url, &[], "").await;
        assert!(!status.is_success());
        secretive.holds_nothing(query, body.as_bytes());
    }
    world.redis.freeze();
    has_told("Redis did not answer in time").await;
    let arguments = fs::read(format!("/proc/{}/cmdline", served.process.pid())).unwrap();
    assert!(String::from_utf8_lossy(&arguments).contains("serve"));
    secretive.holds_nothing("the command line", &arguments);
    secretive.holds_nothing("the log", served.process.log().as_bytes());
}
