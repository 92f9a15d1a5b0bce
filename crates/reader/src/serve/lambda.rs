//! Serving inside a Lambda function, as an external extension
//! (<https://docs.aws.amazon.com/lambda/latest/dg/runtimes-extensions-api.html>).
//!
//! The runtime starts when the extension has registered. The extension listens and reads the mirrors before
//! that, so that the function's own initialisation can send requests. Under `SnapStart` it reads nothing
//! before the first invocation, because a snapshot may live for days. An extension that exits ends its
//! execution environment, so after registration it answers with errors and keeps running.

use std::future::pending;
use std::time::Duration;

use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper::{Method, Request};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use jiff::Timestamp;
use serde::Deserialize;
use tokio::time::sleep;

use crate::cli::ServeArgs;
use crate::failure::Failure;
use crate::serve;

const IDENTIFIER: &str = "lambda-extension-identifier";
/// The pause between two attempts to fetch the next event, which only return at once when something is wrong.
const PAUSE: Duration = Duration::from_secs(1);

/// The settings from the environment of a Lambda function.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Environment {
    /// `host:port` of the Extensions API.
    pub api: String,
    /// The file name of this program, with which it must register.
    pub name: String,
    /// Whether a snapshot is being created.
    pub is_snap_start: bool,
}

impl Environment {
    /// Reads the environment; `None` outside of Lambda. `program` is how this process was called.
    #[must_use]
    pub fn of(program: &str, variable: impl Fn(&str) -> Option<String>) -> Option<Self> {
        Some(Self {
            api: variable("AWS_LAMBDA_RUNTIME_API")?,
            name: program.rsplit('/').next().unwrap_or(program).to_owned(),
            is_snap_start: variable("AWS_LAMBDA_INITIALIZATION_TYPE").as_deref() == Some("snap-start"),
        })
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Event {
    event_type: String,
}

struct Api {
    client: Client<HttpConnector, Full<Bytes>>,
    base: String,
}

/// Listens, reads, registers, and serves until Lambda shuts the environment down.
pub async fn run(environment: &Environment, args: ServeArgs) -> Result<(), Failure> {
    let listening = serve::listen(args).await?;
    let cache = listening.cache();
    let keep_fresh = || {
        let cache = cache.clone();
        tokio::spawn(async move { cache.keep_fresh().await });
    };
    tokio::spawn(listening.serve(pending()));
    if !environment.is_snap_start {
        keep_fresh();
        cache.ready().await;
    }
    let api = Api::new(&environment.api);
    let identifier = api.register(&environment.name).await?;
    let (mut is_fresh, mut looked) = (!environment.is_snap_start, Timestamp::now());
    loop {
        match api.next(&identifier).await {
            Ok(event) if event.event_type == "SHUTDOWN" => return Ok(()),
            Ok(_) if is_fresh => cache.wake_if_due(&mut looked),
            Ok(_) => {
                keep_fresh();
                is_fresh = true;
            }
            Err(failure) => {
                eprintln!("parameter-mirror-reader: {failure}");
                sleep(PAUSE).await;
            }
        }
    }
}

impl Api {
    fn new(host: &str) -> Self {
        let client = Client::builder(TokioExecutor::new()).build_http();
        Self { client, base: format!("http://{host}/2020-01-01/extension") }
    }

    /// Registers for every invocation and for the shutdown. Returns the identifier of the extension.
    async fn register(&self, name: &str) -> Result<String, Failure> {
        let body = Bytes::from_static(br#"{"events":["INVOKE","SHUTDOWN"]}"#);
        let request = Request::builder().method(Method::POST).uri(format!("{}/register", self.base));
        let (identifier, _) = self.send(request.header("lambda-extension-name", name), body).await?;
        identifier.ok_or_else(|| Failure::System("the Extensions API gave no identifier".to_owned()))
    }

    /// Waits for the next event, without a deadline: the process is frozen meanwhile.
    async fn next(&self, identifier: &str) -> Result<Event, Failure> {
        let request =
            Request::builder().uri(format!("{}/event/next", self.base)).header(IDENTIFIER, identifier);
        let (_, body) = self.send(request, Bytes::new()).await?;
        serde_json::from_slice(&body)
            .map_err(|_| Failure::System("the Extensions API sent no event".to_owned()))
    }

    async fn send(
        &self,
        request: hyper::http::request::Builder,
        body: Bytes,
    ) -> Result<(Option<String>, Bytes), Failure> {
        let failed = |error: &dyn std::fmt::Display| Failure::System(format!("the Extensions API: {error}"));
        let request = request.body(Full::new(body)).map_err(|error| failed(&error))?;
        let answer = self.client.request(request).await.map_err(|error| failed(&error))?;
        let status = answer.status();
        if !status.is_success() {
            return Err(failed(&status));
        }
        let identifier = answer.headers().get(IDENTIFIER).and_then(|id| id.to_str().ok()).map(str::to_owned);
        let body = answer.into_body().collect().await.map_err(|error| failed(&error))?.to_bytes();
        Ok((identifier, body))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_registers_under_the_name_of_its_file() {
        let variable = |name: &str| (name == "AWS_LAMBDA_RUNTIME_API").then(|| "127.0.0.1:9001".to_owned());
        let environment = Environment::of("/opt/extensions/parameter-mirror-reader", variable).unwrap();
        assert_eq!(environment.name, "parameter-mirror-reader");
        assert!(!environment.is_snap_start);
        assert_eq!(Environment::of("x", |_| None), None);
    }
}
