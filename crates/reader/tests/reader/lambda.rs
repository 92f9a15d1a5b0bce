//! Inside a Lambda function: the real program, and a stand-in for the Extensions API, written from
//! <https://docs.aws.amazon.com/lambda/latest/dg/runtimes-extensions-api.html>.

use std::collections::VecDeque;
use std::os::unix::fs::symlink;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::Method;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use jiff::{SignedDuration, Timestamp};
use parameter_mirror_reader::mirrors::Mirror;
use parameter_mirror_reader::serve::refresh::Cache;
use parameter_mirror_test_support::port::Port;
use parameter_mirror_test_support::{Process, Scratch, eventually};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::Notify;

use crate::serve::send;
use crate::world::{SOON, World, program, usual};

/// The stand-in: what it sends, and what it has received.
#[derive(Default)]
struct Lambda {
    events: Mutex<VecDeque<&'static str>>,
    news: Notify,
    seen: Mutex<Vec<String>>,
    /// Whether the next answer to `next` is an error.
    fails: Mutex<bool>,
}

impl Lambda {
    fn happens(&self, event: &'static str) {
        self.events.lock().unwrap().push_back(event);
        self.news.notify_one();
    }

    fn seen(&self) -> Vec<String> {
        self.seen.lock().unwrap().clone()
    }

    async fn has_seen(&self, what: &str, times: usize) {
        eventually(&format!("{what} is asked {times} times"), SOON, async || {
            let seen = self.seen();
            if seen.iter().filter(|seen| *seen == what).count() >= times {
                Ok(())
            } else {
                Err(format!("{seen:?}"))
            }
        })
        .await;
    }

    /// Starts the stand-in and returns its `host:port`.
    async fn start(self: &Arc<Self>) -> String {
        let routes = Router::new()
            .route("/2020-01-01/extension/register", post(register))
            .route("/2020-01-01/extension/event/next", get(next))
            .with_state(Arc::clone(self));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        tokio::spawn(async { axum::serve(listener, routes).await });
        address
    }
}

async fn register(State(lambda): State<Arc<Lambda>>, request: Request) -> Response {
    let name = request.headers()["lambda-extension-name"].to_str().unwrap().to_owned();
    lambda.seen.lock().unwrap().push(format!("register {name}"));
    ([("Lambda-Extension-Identifier", "an-id")], json!({"functionName": "f"}).to_string()).into_response()
}

async fn next(State(lambda): State<Arc<Lambda>>, request: Request) -> Response {
    assert_eq!(request.headers()["lambda-extension-identifier"], "an-id");
    lambda.seen.lock().unwrap().push("next".to_owned());
    if std::mem::take(&mut *lambda.fails.lock().unwrap()) {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    }
    loop {
        let event = lambda.events.lock().unwrap().pop_front();
        match event {
            Some(event) => return json!({"eventType": event, "deadlineMs": 1}).to_string().into_response(),
            None => lambda.news.notified().await,
        }
    }
}

/// The extension as Lambda starts it: by its file name in the layer, without arguments.
struct Extension {
    process: Process,
    endpoint: String,
    _port: Port,
    /// Kept, because the process loads its file some time after it was spawned.
    _layer: Scratch,
}

impl Extension {
    async fn start(world: &World, api: &str, settings: &[(&str, &str)], says: &str) -> Self {
        let layer = Scratch::new("layer").unwrap();
        let file = layer.path().join("parameter-mirror-reader");
        symlink(program(), &file).unwrap();
        let port = Port::take();
        let listen = format!("127.0.0.1:{}", port.number());
        let mut command = Command::new(&file);
        command.envs(world.settings()).env("PARAMETER_MIRROR_REFRESH", "50ms").envs(settings.iter().copied());
        command.env("AWS_LAMBDA_RUNTIME_API", api).env("AWS_SESSION_TOKEN", "session");
        command.env("PARAMETER_MIRROR_LISTEN", &listen);
        let process = world.start_program(&command, says).await;
        Self { process, endpoint: format!("http://{listen}"), _port: port, _layer: layer }
    }

    /// Requests the parameter as a function would.
    async fn host(&self) -> (StatusCode, String) {
        let url = format!("{}/systemsmanager/parameters/get?name=/app/db/host", self.endpoint);
        send(Method::GET, &url, &[("X-Aws-Parameters-Secrets-Token", "session")], "").await
    }
}

#[tokio::test]
async fn it_has_read_when_it_registers_and_ends_at_shutdown() {
    let world = World::usual().await;
    let lambda = Arc::new(Lambda::default());
    let extension =
        Extension::start(&world, &lambda.start().await, &[], "2 parameters of shop/checkout").await;
    lambda.has_seen("next", 1).await;
    assert_eq!(lambda.seen(), ["register parameter-mirror-reader", "next"]);
    let (status, body) = extension.host().await;
    assert!(status == StatusCode::OK && body.contains("db.internal"), "{status} {body}");

    // An error of Lambda does not end the extension, because that would end the execution environment.
    *lambda.fails.lock().unwrap() = true;
    lambda.happens("INVOKE");
    lambda.has_seen("next", 3).await;
    assert!(extension.process.exited().is_none());
    lambda.happens("SHUTDOWN");
    assert_eq!(extension.process.wait_exit(SOON).await.code(), Some(0));
}

/// A frozen process does not notice that time passes. An invocation triggers a refresh, at most once per
/// interval.
#[tokio::test]
async fn an_invocation_after_a_long_freeze_brings_what_has_changed() {
    let world = World::usual().await;
    let cache = Cache::new(world.mirrors(), Duration::from_hours(1), None);
    let frozen = cache.clone();
    tokio::spawn(async move { frozen.keep_fresh().await });
    let host = |held: &[Mirror]| held[0].copy.entries["/app/db/host"].value.expose().to_owned();
    assert_eq!(host(&cache.ready().await), "db.internal");
    let mut changed = usual();
    changed.entries.get_mut("/app/db/host").unwrap().value = "db2.internal".into();
    world.publish(&changed).await;

    let mut looked = Timestamp::now() - SignedDuration::from_hours(2);
    cache.wake_if_due(&mut looked);
    assert!(looked > Timestamp::now() - SignedDuration::from_mins(1), "the next invocation need not look");
    eventually("the change is held", SOON, async || {
        let host = host(&cache.now());
        if host == "db2.internal" { Ok(()) } else { Err(host) }
    })
    .await;
}

/// A snapshot may be used for days, so it contains no values.
#[tokio::test]
async fn under_snapstart_nothing_is_read_before_the_first_invocation() {
    let world = World::usual().await;
    let lambda = Arc::new(Lambda::default());
    let before = world.redis.connections().await;
    let settings = [("AWS_LAMBDA_INITIALIZATION_TYPE", "snap-start")];
    let extension = Extension::start(&world, &lambda.start().await, &settings, "").await;
    lambda.has_seen("next", 1).await;
    assert_eq!(world.redis.connections().await, before);
    let (status, body) = extension.host().await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{body}");
    lambda.happens("INVOKE");
    eventually("the mirror is served", SOON, async || {
        let (status, body) = extension.host().await;
        if status == StatusCode::OK { Ok(()) } else { Err(body) }
    })
    .await;
}

#[tokio::test]
async fn a_redis_that_is_down_does_not_keep_the_function_from_starting() {
    let world = World::usual().await;
    world.redis.freeze();
    let lambda = Arc::new(Lambda::default());
    let settings = [("PARAMETER_MIRROR_BUDGET", "200ms")];
    let extension = Extension::start(&world, &lambda.start().await, &settings, "did not answer").await;
    lambda.has_seen("next", 1).await;
    assert_eq!(extension.host().await.0, StatusCode::SERVICE_UNAVAILABLE);
    world.redis.thaw();
    eventually("the mirror is served", SOON, async || {
        let (status, body) = extension.host().await;
        if status == StatusCode::OK { Ok(()) } else { Err(body) }
    })
    .await;
}

#[tokio::test]
async fn the_wrapper_gives_the_runtime_its_variables() {
    let world = World::usual().await;
    let wrapper = concat!(env!("CARGO_MANIFEST_DIR"), "/lambda/parameter-mirror-exec");
    let script = std::fs::read_to_string(wrapper)
        .unwrap()
        .replace("/opt/extensions/parameter-mirror-reader", program());
    let mut command = tokio::process::Command::new("sh");
    command.args(["-c", &script, "parameter-mirror-exec", "sh", "-c", "echo $DB_HOST of $0", "the runtime"]);
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap()).envs(world.settings());
    let output = command.output().await.unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "db.internal of the runtime\n");
}
