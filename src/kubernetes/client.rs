//! The client of the API server. Every call has a deadline, and errors are told apart without their text.

use std::future::Future;
use std::time::Duration;

use anyhow::Context as _;
use kube::client::ClientBuilder;
use kube::{Client, Config};
use tower::timeout::TimeoutLayer;

use crate::kubernetes::watches::WATCH_TIMEOUT;

/// Who writes, as managed fields say it.
pub const FIELD_MANAGER: &str = "parameter-mirror";

/// How long one call to the API server may take.
pub const DEADLINE: Duration = Duration::from_secs(10);

/// Why a call to the API server failed, without its text: a refusal can quote the object it refuses.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApiError {
    /// The object is not there.
    #[error("it does not exist")]
    NotFound,
    /// It has changed since it was observed, or exists already.
    #[error("it changed meanwhile")]
    Conflict,
    /// No answer in time.
    #[error("the API server did not answer within {} s", DEADLINE.as_secs())]
    Timeout,
    /// The API server cannot be reached.
    #[error("the API server cannot be reached")]
    Unreachable,
    /// It answered with an error: HTTP code and machine-readable reason.
    #[error("the API server answered {code} {reason}")]
    Refused {
        /// HTTP status.
        code: u16,
        /// `Forbidden`, `Invalid`, ...
        reason: String,
    },
}

impl ApiError {
    /// The class of an error of the client.
    #[must_use]
    pub fn of(error: &kube::Error) -> Self {
        match error {
            kube::Error::Api(status) if status.code == 404 => Self::NotFound,
            kube::Error::Api(status) if status.code == 409 => Self::Conflict,
            kube::Error::Api(status) => Self::Refused { code: status.code, reason: status.reason.clone() },
            _ => Self::Unreachable,
        }
    }
}

/// Runs one call to the API server under the deadline.
pub async fn with_timeout<T>(call: impl Future<Output = kube::Result<T>>) -> Result<T, ApiError> {
    match tokio::time::timeout(DEADLINE, call).await {
        Ok(answer) => answer.map_err(|error| ApiError::of(&error)),
        Err(_) => Err(ApiError::Timeout),
    }
}

/// How long the API server may take to begin an answer. The client waits for ever by default: an operator that starts
/// before a silent API server would never list its mirrors (found by simulation).
#[must_use]
pub const fn response_timeout() -> TimeoutLayer {
    TimeoutLayer::new(Duration::from_secs(15))
}

/// The API server of the pod or the kubeconfig. The client's own retries can take minutes; ours go through the queue.
pub async fn connect() -> anyhow::Result<Client> {
    let mut config =
        Config::infer().await.context("no API server: neither in a pod nor with a kubeconfig")?;
    config.default_retry = false;
    config.connect_timeout = Some(Duration::from_secs(5));
    // An answer that stops in the middle; longer than a watch is ever idle.
    config.read_timeout = Some(WATCH_TIMEOUT + Duration::from_secs(20));
    config.reset_reader_on_write = true;
    // HTTPS_PROXY is for AWS; kube takes it for itself too, and knows no NO_PROXY.
    config.proxy_url = None;
    let client = ClientBuilder::try_from(config).context("the Kubernetes client cannot be built")?;
    Ok(client.with_layer(&response_timeout()).build())
}
