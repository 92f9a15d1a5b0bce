//! `serve`: an SSM on the loopback, answered from memory, for AWS SDKs that know nothing of it (`AWS_ENDPOINT_URL_SSM`) and for
//! programs that use AWS's own Parameters and Secrets extension.
//!
//! What it answers is decided in [`shelf`], from values; [`ssm_api`] and [`extension_api`] are the two languages it speaks.

pub mod extension_api;
pub mod refresh;
pub mod shelf;
pub mod ssm_api;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use parameter_mirror_format::value::Value;
use serde_json::json;
use tokio::net::TcpListener;

use crate::cli::ServeArgs;
use crate::failure::Failure;
use crate::settings;
use crate::ssm::Ssm;

use refresh::Memory;

/// Longest wait for an answer of SSM itself.
const FORWARDED_WITHIN: Duration = Duration::from_secs(5);

/// Everything that answering needs.
#[derive(Debug)]
pub struct Server {
    memory: Memory,
    /// What the extension's clients must show; without one they are all refused.
    token: Option<Value>,
    /// Who answers what no mirror covers.
    forward: Option<Ssm>,
}

/// A server that listens already, and what it serves.
#[derive(Debug)]
pub struct Listening {
    listener: TcpListener,
    server: Arc<Server>,
}

/// Listens. Nothing is read from Redis yet: whoever asks meanwhile waits.
pub async fn listen(args: ServeArgs) -> Result<Listening, Failure> {
    if !args.listen.ip().is_loopback() {
        return Err(Failure::Settings(format!(
            "--listen {}: only the loopback is served, because callers cannot be told apart. Run one reader beside each program",
            args.listen
        )));
    }
    let server = Arc::new(Server {
        token: settings::text_of(args.token_file.as_deref(), "AWS_SESSION_TOKEN")?,
        forward: if args.forward { Some(settings::ssm(args.region, Some(args.listen))?) } else { None },
        memory: Memory::new(settings::mirrors(args.mirrors)?, args.refresh),
    });
    let listener = TcpListener::bind(args.listen).await;
    let listener = listener.map_err(|error| Failure::System(format!("--listen {}: {error}", args.listen)))?;
    Ok(Listening { listener, server })
}

impl Listening {
    /// The address, with the port that was found if 0 was asked for.
    pub fn address(&self) -> Result<SocketAddr, Failure> {
        self.listener.local_addr().map_err(|error| Failure::System(error.to_string()))
    }

    /// What is held in memory.
    #[must_use]
    pub fn memory(&self) -> Memory {
        self.server.memory.clone()
    }

    /// Answers until `end`.
    pub async fn serve(self, end: impl Future<Output = ()> + Send + 'static) -> Result<(), Failure> {
        let routes = Router::new()
            .route("/", post(ssm))
            .route(extension_api::PATH, get(extension_api::answer))
            .route(&format!("{}/", extension_api::PATH), get(extension_api::answer))
            .route("/healthz", get(health))
            .layer(middleware::from_fn(only_from_here))
            .with_state(self.server);
        let served = axum::serve(self.listener, routes).with_graceful_shutdown(end).await;
        served.map_err(|error| Failure::System(error.to_string()))
    }
}

async fn ssm(State(server): State<Arc<Server>>, headers: HeaderMap, body: Bytes) -> Response {
    let target = headers.get("x-amz-target").and_then(|target| target.to_str().ok()).unwrap_or_default();
    let mirrors = server.memory.ready().await;
    match ssm_api::answer(&mirrors, target, &body) {
        Ok(reply) => reply.into_response(),
        Err(not_ours) => server.otherwise(target, body, &not_ours).await,
    }
}

/// Whether anything is served: for probes of Kubernetes and ECS.
async fn health(State(server): State<Arc<Server>>) -> Response {
    let held = server.memory.now();
    let status = if held.is_empty() { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
    let mirrors: Vec<_> = held
        .iter()
        .map(|mirror| json!({"mirror": mirror.name.to_string(), "revision": mirror.copy.revision, "readAt": mirror.copy.read_at}))
        .collect();
    (status, [(header::CONTENT_TYPE, "application/json")], json!({"mirrors": mirrors}).to_string())
        .into_response()
}

impl Server {
    /// The answer to what no mirror can answer: SSM's, if it may be asked.
    async fn otherwise(&self, target: &str, body: Bytes, not_ours: &shelf::NotOurs) -> Response {
        let Some(ssm) = &self.forward else { return not_ours.reply().into_response() };
        match ssm.forward(target, body, FORWARDED_WITHIN).await {
            Ok((status, body)) => {
                (status, [(header::CONTENT_TYPE, ssm_api::CONTENT_TYPE)], body).into_response()
            }
            Err(error) => {
                ssm_api::Reply::unavailable(&format!("{not_ours}, and SSM could not be asked: {error}"))
                    .into_response()
            }
        }
    }
}

/// Refuses what a proxy passes on, and names that lead here from a browser: both would let somebody else in.
async fn only_from_here(request: Request, next: Next) -> Response {
    if request.headers().contains_key("x-forwarded-for") {
        return (StatusCode::BAD_REQUEST, "requests with X-Forwarded-For are not answered").into_response();
    }
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    if !is_loopback(host) {
        return (StatusCode::FORBIDDEN, "the Host is not the loopback").into_response();
    }
    next.run(request).await
}

/// Whether a host name, with or without a port, means this machine.
#[must_use]
pub fn is_loopback(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    name.eq_ignore_ascii_case("localhost") || name.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_the_loopback_lead_here() {
        for host in ["127.0.0.1:2773", "localhost", "LOCALHOST:1", "[::1]:2773", "127.1.2.3"] {
            assert!(is_loopback(host), "{host}");
        }
        for host in
            ["", "example.com", "10.0.0.1:2773", "localhost.example.com", "[::2]:1", "127.0.0.1.example.com"]
        {
            assert!(!is_loopback(host), "{host}");
        }
    }
}
