//! `serve`: an SSM endpoint on the loopback, answered from memory, for unmodified AWS SDKs
//! (`AWS_ENDPOINT_URL_SSM`) and for programs that use AWS's own Parameters and Secrets extension.
//!
//! [`lookup`] decides what to answer, as a function of values. [`ssm_api`] and [`extension_api`] are the two
//! protocols.

pub mod extension_api;
pub mod lambda;
mod listener;
pub mod lookup;
mod origin;
pub mod refresh;
pub mod ssm_api;

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use axum::middleware;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use parameter_mirror_format::value::Value;
use parameter_mirror_ssm::RawAnswer;
use rustix::io::Errno;
use serde_json::json;
use tokio::net::TcpListener;

use crate::cli::ServeArgs;
use crate::failure::Failure;
use crate::mirrors::Mirror;
use crate::settings;
use crate::ssm::Ssm;

use lookup::NotOurs;
pub use origin::is_loopback;
use refresh::Cache;
use ssm_api::{Call, Reply};

/// The header that names the operation.
const TARGET: HeaderName = HeaderName::from_static("x-amz-target");
/// The longest wait for an answer from SSM itself.
const FORWARDED_WITHIN: Duration = Duration::from_secs(5);

/// The state that request handlers share.
#[derive(Debug)]
pub struct Server {
    cache: Cache,
    /// The token that clients of the extension must send; without one, all of them are refused.
    token: Option<Value>,
    /// The client for requests that no mirror covers.
    forward: Option<Ssm>,
}

/// A server with open sockets.
#[derive(Debug)]
pub struct Listening {
    listeners: Vec<TcpListener>,
    server: Arc<Server>,
}

/// Opens the sockets. Nothing has been read from Redis yet, so early requests wait.
pub async fn listen(args: ServeArgs) -> Result<Listening, Failure> {
    // `localhost` is either of them, and not every program tries the second one.
    let both = [(Ipv4Addr::LOCALHOST, args.port).into(), (Ipv6Addr::LOCALHOST, args.port).into()];
    let addresses = if args.listen.is_empty() { both.to_vec() } else { args.listen };
    if let Some(address) = addresses.iter().find(|address| !address.ip().to_canonical().is_loopback()) {
        return Err(Failure::Settings(format!(
            "--listen {address}: only the loopback is served, because callers cannot be distinguished. Run one reader beside each program"
        )));
    }
    let server = Arc::new(Server {
        token: settings::text_of(args.token_file.as_deref(), "AWS_SESSION_TOKEN")?,
        forward: if args.forward { Some(settings::ssm(args.region, &addresses).await?) } else { None },
        cache: Cache::new(settings::mirrors(args.mirrors)?, args.refresh, args.max_stale),
    });
    let mut listeners = Vec::new();
    for address in &addresses {
        match TcpListener::bind(address).await {
            Ok(listener) => listeners.push(listener),
            // Never for another reason: somebody else on that address would answer in our place.
            Err(error) if *address == both[1] && !listeners.is_empty() && lacks_ipv6(&error) => {}
            Err(error) => return Err(Failure::System(format!("--listen {address}: {error}"))),
        }
    }
    Ok(Listening { listeners, server })
}

/// Whether the kernel has no IPv6, or its loopback has no address of it.
fn lacks_ipv6(error: &std::io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::AFNOSUPPORT | Errno::ADDRNOTAVAIL))
}

impl Listening {
    /// Returns the URLs, with the actual port if port 0 was requested.
    pub fn urls(&self) -> Result<Vec<String>, Failure> {
        let addresses: Result<Vec<_>, _> = self.listeners.iter().map(TcpListener::local_addr).collect();
        let addresses = addresses.map_err(|error| Failure::System(error.to_string()))?;
        Ok(addresses.iter().map(|address| format!("http://{address}")).collect())
    }

    /// Returns the mirrors held in memory.
    #[must_use]
    pub fn cache(&self) -> Cache {
        self.server.cache.clone()
    }

    /// Serves until `end`.
    pub async fn serve(self, end: impl Future<Output = ()> + Send + 'static) {
        let routes = Router::new()
            .route("/", post(ssm))
            .route(extension_api::PATH, get(extension_api::answer))
            .route(&format!("{}/", extension_api::PATH), get(extension_api::answer))
            .route("/healthz", get(health))
            .layer(middleware::from_fn(origin::only_from_here))
            .with_state(self.server);
        listener::serve(self.listeners, routes, end).await;
    }
}

async fn ssm(State(server): State<Arc<Server>>, headers: HeaderMap, body: Body) -> Response {
    let body = match listener::body(body).await {
        Ok(body) => body,
        Err(status) => return status.into_response(),
    };
    let call = match Call::read(origin::single(&headers, &TARGET).unwrap_or_default(), &body) {
        Ok(call) => call,
        Err(reply) => return reply.into_response(),
    };
    server.answer(&call).await
}

/// Reports whether anything is served, for probes of Kubernetes and ECS.
async fn health(State(server): State<Arc<Server>>) -> Response {
    let held = server.cache.now();
    let status = if held.is_empty() { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
    let mirrors: Vec<_> = held
        .iter()
        .map(|mirror| json!({"mirror": mirror.name.to_string(), "revision": mirror.copy.revision, "readAt": mirror.copy.read_at}))
        .collect();
    (status, [(header::CONTENT_TYPE, "application/json")], json!({"mirrors": mirrors}).to_string())
        .into_response()
}

impl Server {
    /// Answers from the mirrors. Forwards to SSM what no mirror can answer, if SSM may be asked.
    async fn answer(&self, call: &Call) -> Response {
        let mirrors = self.cache.ready().await;
        let not_ours = match call.answer(&mirrors) {
            Ok(reply) => return reply.into_response(),
            Err(not_ours) => not_ours,
        };
        let Some(ssm) = &self.forward else { return self.refusal(&not_ours, &mirrors).into_response() };
        match ssm.forward(call.operation(), call.body(), FORWARDED_WITHIN).await {
            Ok(RawAnswer { status, body }) => {
                let status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY);
                (status, [(header::CONTENT_TYPE, ssm_api::CONTENT_TYPE)], body).into_response()
            }
            Err(error) => Reply::unavailable(&format!("{not_ours}, and SSM could not be asked: {error}"))
                .into_response(),
        }
    }

    /// Returns the answer to what none of these mirrors can answer. A mirror that was not read yet might.
    fn refusal(&self, not_ours: &NotOurs, mirrors: &[Mirror]) -> Reply {
        let unread = self.cache.unread(mirrors);
        match not_ours {
            NotOurs::NotCovered(_) if !unread.is_empty() => Reply::unavailable(&format!(
                "not read yet: {}. The log of this reader says why",
                unread.join(", ")
            )),
            _ => not_ours.reply(),
        }
    }
}
