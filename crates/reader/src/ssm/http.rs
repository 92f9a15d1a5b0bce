//! One HTTP exchange with a deadline, and the time budget that all exchanges of a call share.
//!
//! HTTP proxies are out of scope: `HTTPS_PROXY` is not read. Inside a VPC, an interface endpoint makes a
//! proxy unnecessary.

use std::error::Error;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::Bytes;
use hyper::http::uri::Scheme;
use hyper::{Request, StatusCode};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::{Builder, Client};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::time::{Instant, timeout_at};

/// The time limit for one TCP connection, over all addresses of a host. In a Region it takes milliseconds;
/// two seconds leave room for one lost packet (TCP retransmits after one).
const CONNECT: Duration = Duration::from_secs(2);
/// How long an idle connection may be reused. An older one may have died unnoticed while a Lambda was frozen.
const IDLE: Duration = Duration::from_secs(10);
/// The largest answer. Ten values of 8 KiB are far below it, even with every character escaped.
const MAX_BODY: usize = 8 * 1024 * 1024;
/// The longest pause before a retry.
const PAUSE_MS: u64 = 200;
/// The longest budget, whatever the caller says: a larger one could overflow an [`Instant`].
const LONGEST: Duration = Duration::from_hours(24);

/// TLS needs root certificates. An image may have none, and needs none as long as it reads only its mirror.
const NO_ROOTS: &str = "no root certificates on this machine: install ca-certificates or set SSL_CERT_FILE";

/// Sends requests. Clones share connections.
#[derive(Clone)]
pub(super) struct Http {
    plain: Client<HttpConnector, Full<Bytes>>,
    /// Created on first use, because parsing all certificates takes longer than a call. `None` without
    /// certificates.
    tls: Arc<OnceLock<Option<TlsClient>>>,
}

type TlsClient = Client<HttpsConnector<HttpConnector>, Full<Bytes>>;

/// A complete answer.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    /// The header `x-amzn-errortype`.
    pub(super) error_type: Option<String>,
    pub(super) body: Bytes,
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Failure {
    #[error("no complete answer in time")]
    Timeout,
    #[error("no connection to {host} ({why})")]
    NoConnection { host: String, why: String },
    #[error("the connection ended before the answer was complete")]
    Broken,
    #[error("an answer of more than {} MiB", MAX_BODY / 1024 / 1024)]
    TooLarge,
}

impl Http {
    pub(super) fn new() -> Self {
        Self { plain: pool().build(tcp()), tls: Arc::default() }
    }

    /// Runs one exchange, from the connection to the last byte of the body. Redirects are not followed,
    /// because they would send tokens to another host.
    pub(super) async fn send(&self, request: Request<Full<Bytes>>, ends: Instant) -> Result<Answer, Failure> {
        let host = request.uri().host().unwrap_or_default().to_owned();
        let exchange = async {
            let answer = if request.uri().scheme() == Some(&Scheme::HTTPS) {
                match self.tls.get_or_init(tls) {
                    Some(client) => client.request(request).await,
                    None => return Err(Failure::NoConnection { host, why: NO_ROOTS.to_owned() }),
                }
            } else {
                self.plain.request(request).await
            };
            let answer = answer.map_err(|error| {
                if error.is_connect() {
                    Failure::NoConnection { host, why: deepest(&error) }
                } else {
                    Failure::Broken
                }
            })?;
            let (head, body) = answer.into_parts();
            let body = Limited::new(body, MAX_BODY).collect().await.map_err(|error| {
                if error.is::<LengthLimitError>() { Failure::TooLarge } else { Failure::Broken }
            })?;
            let error_type = head.headers.get("x-amzn-errortype").and_then(|value| value.to_str().ok());
            Ok(Answer {
                status: head.status,
                error_type: error_type.map(str::to_owned),
                body: body.to_bytes(),
            })
        };
        timeout_at(ends, exchange).await.map_err(|_| Failure::Timeout)?
    }
}

/// Creates a client with the root certificates of this machine.
fn tls() -> Option<TlsClient> {
    let mut tcp = tcp();
    tcp.enforce_http(false);
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let roots = HttpsConnectorBuilder::new().with_provider_and_native_roots(provider).ok()?;
    Some(pool().build(roots.https_only().enable_http1().wrap_connector(tcp)))
}

fn tcp() -> HttpConnector {
    let mut tcp = HttpConnector::new();
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(Some(CONNECT));
    tcp
}

fn pool() -> Builder {
    let mut builder = Client::builder(TokioExecutor::new());
    builder.pool_timer(TokioTimer::new()).pool_idle_timeout(IDLE);
    builder
}

/// Returns the root cause of a failed connection. No answer has begun, so the text quotes none.
fn deepest(error: &(dyn Error + 'static)) -> String {
    std::iter::successors(Some(error), |&cause| cause.source())
        .last()
        .map_or_else(|| error.to_string(), ToString::to_string)
}

/// The time that a call may take, and its one retry.
pub(super) struct Budget {
    half: Instant,
    ends: Instant,
    may_retry: bool,
}

impl Budget {
    /// Starts a budget.
    pub(super) fn new(within: Duration) -> Self {
        let (now, within) = (Instant::now(), within.min(LONGEST));
        Self { half: now + within / 2, ends: now + within, may_retry: true }
    }

    /// Returns a quarter of the remaining time as its own budget, without a retry: for optional work.
    pub(super) fn aside(&self) -> Self {
        let left = self.ends.saturating_duration_since(Instant::now());
        Self { may_retry: false, ..Self::new(left / 4) }
    }

    /// Returns the deadline of the call.
    pub(super) fn ends(&self) -> Instant {
        self.ends
    }

    /// Whether to retry; waits for a short pause. Allows one retry, and only while half of the time is left.
    /// The pause is random, because many tasks start at the same time.
    pub(super) async fn retry(&mut self) -> bool {
        let now = Instant::now();
        if !self.may_retry || now > self.half {
            return false;
        }
        self.may_retry = false;
        let longest = (self.ends - now) / 8;
        let pause = Duration::from_millis(RandomState::new().hash_one(0) % PAUSE_MS);
        tokio::time::sleep(pause.min(longest)).await;
        true
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::super::testing::{LONG, SHORT, in_short, serve};
    use super::*;

    fn get(url: &str) -> Request<Full<Bytes>> {
        Request::get(url).body(Full::default()).unwrap()
    }

    async fn failure(http: &Http, url: &str) -> Failure {
        http.send(get(url), Instant::now() + LONG).await.err().unwrap()
    }

    #[tokio::test]
    async fn a_tls_handshake_without_an_answer_ends() {
        let silent = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("https://{}/", silent.local_addr().unwrap());
        let http = Http::new();
        let sent = in_short(http.send(get(&url), Instant::now() + SHORT)).await;
        assert_eq!(sent.err(), Some(Failure::Timeout));
    }

    #[tokio::test]
    async fn a_peer_without_tls_is_refused() {
        let plain = serve(axum::Router::new()).await;
        let error = failure(&Http::new(), &plain.replace("http:", "https:")).await;
        assert!(error.to_string().starts_with("no connection to 127.0.0.1 ("), "{error}");
    }

    #[tokio::test]
    async fn a_machine_without_certificates_says_so_and_still_speaks_plain_http() {
        let http = Http { tls: Arc::new(OnceLock::from(None)), ..Http::new() };
        let error = failure(&http, "https://localhost/").await;
        assert!(error.to_string().contains("install ca-certificates"), "{error}");
        let plain = serve(axum::Router::new()).await;
        assert_eq!(http.send(get(&plain), Instant::now() + LONG).await.ok().unwrap().status, 404);
    }

    #[tokio::test]
    async fn a_second_try_is_taken_once_and_not_late() {
        let mut budget = Budget::new(SHORT);
        assert!(budget.retry().await);
        assert!(!budget.retry().await);
        let mut late = Budget { half: Instant::now() - SHORT, ..Budget::new(SHORT) };
        assert!(!late.retry().await);
        assert!(!Budget::new(SHORT).aside().retry().await);
        assert!(Budget::new(Duration::MAX).ends() > Instant::now());
    }
}
