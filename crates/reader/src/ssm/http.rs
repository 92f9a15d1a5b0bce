//! One HTTP exchange with a deadline, and the budget of time that all exchanges of a call share.
//!
//! HTTP proxies are out of scope: `HTTPS_PROXY` is not read, as the SDK in Rust does not read it by default either.

use std::error::Error;
use std::hash::{BuildHasher as _, RandomState};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::Bytes;
use hyper::{Request, StatusCode};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::time::{Instant, timeout_at};

/// Of one TCP connection, over all addresses of a host. In a Region it takes milliseconds; two seconds leave room for
/// one lost packet (TCP sends again after one).
const CONNECT: Duration = Duration::from_secs(2);
/// An idle connection may have died unseen while a Lambda was frozen: only one that was just used is used again.
const IDLE: Duration = Duration::from_secs(10);
/// Most of one answer. Ten values of 8 KiB are far below it, even with every character escaped.
const MAX_BODY: usize = 8 * 1024 * 1024;
/// Longest pause before a second try.
const PAUSE_MS: u64 = 200;
/// No call waits longer, whatever its caller says: times beyond are no times for an [`Instant`].
const LONGEST: Duration = Duration::from_hours(24);

/// Sends requests. Clones share connections.
#[derive(Clone)]
pub(super) struct Http(Client<HttpsConnector<HttpConnector>, Full<Bytes>>);

/// An answer that came in whole.
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
    /// With the certificates of this machine.
    pub(super) fn new() -> io::Result<Self> {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(CONNECT));
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let connector = HttpsConnectorBuilder::new()
            .with_provider_and_native_roots(provider)?
            .https_or_http()
            .enable_http1()
            .wrap_connector(tcp);
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .build(connector);
        Ok(Self(client))
    }

    /// One exchange, from the connection to the last byte of the body. Redirects are not followed: they would carry
    /// tokens to another host.
    pub(super) async fn send(&self, request: Request<Full<Bytes>>, ends: Instant) -> Result<Answer, Failure> {
        let host = request.uri().host().unwrap_or_default().to_owned();
        let exchange = async {
            let answer = self.0.request(request).await.map_err(|error| {
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

/// What lies below a failed connection. No answer has begun, so that the text quotes none.
fn deepest(error: &(dyn Error + 'static)) -> String {
    std::iter::successors(Some(error), |&cause| cause.source())
        .last()
        .map_or_else(|| error.to_string(), ToString::to_string)
}

/// The time that a call may take, and its one second try.
pub(super) struct Budget {
    half: Instant,
    ends: Instant,
    may_retry: bool,
}

impl Budget {
    /// Begins now.
    pub(super) fn new(within: Duration) -> Self {
        let (now, within) = (Instant::now(), within.min(LONGEST));
        Self { half: now + within / 2, ends: now + within, may_retry: true }
    }

    /// A quarter of what is left of this one, without a second try: for what the call can do without.
    pub(super) fn aside(&self) -> Self {
        let left = self.ends.saturating_duration_since(Instant::now());
        Self { may_retry: false, ..Self::new(left / 4) }
    }

    /// When the call ends.
    pub(super) fn ends(&self) -> Instant {
        self.ends
    }

    /// Whether to try again, after a short pause: once, and only if half of the time is left. Many tasks start at
    /// once, so the pause differs between them.
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
