//! The client of the API server. Every call has a deadline, and errors are classified without their text.

use std::future::Future;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use kube::client::ClientBuilder;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use tower::timeout::TimeoutLayer;

use crate::kubernetes::watches::WATCH_TIMEOUT;

async fn config(cluster: &Cluster) -> anyhow::Result<Config> {
    let options = KubeConfigOptions { context: cluster.context.clone(), ..KubeConfigOptions::default() };
    match &cluster.kubeconfig {
        Some(path) => {
            let kubeconfig = Kubeconfig::read_from(path)?;
            Ok(Config::from_custom_kubeconfig(kubeconfig, &options).await?)
        }
        None if cluster.context.is_some() => Ok(Config::from_kubeconfig(&options).await?),
        // The error of the library names the same cause three times.
        None => Config::infer().await.map_err(|_| {
            anyhow::anyhow!(
                "no cluster is configured: this is no pod, and there is no usable kubeconfig (set --kubeconfig or KUBECONFIG)"
            )
        }),
    }
}

/// The field manager of every write.
pub const FIELD_MANAGER: &str = "parameter-mirror";

/// Deadline of one call to the API server.
pub const DEADLINE: Duration = Duration::from_secs(10);

/// Why a call to the API server failed, without its text, because a refusal can quote the object.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApiError {
    /// The object does not exist.
    #[error("it does not exist")]
    NotFound,
    /// The object has changed since it was observed, or exists already.
    #[error("it changed meanwhile")]
    Conflict,
    /// The API server did not answer in time.
    #[error("the API server did not answer within {} s", DEADLINE.as_secs())]
    Timeout,
    /// The API server cannot be reached.
    #[error("the API server cannot be reached")]
    Unreachable,
    /// The API server answered with an error: HTTP status and machine-readable reason.
    #[error("the API server answered {code} {reason}")]
    Refused {
        /// HTTP status.
        code: u16,
        /// `Forbidden`, `Invalid`, ...
        reason: String,
    },
}

impl ApiError {
    /// Classifies an error of the client.
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

/// Limits how long the API server may take to begin a response. The client waits for ever by default: an operator that
/// starts before a silent API server would never list its mirrors (found by simulation).
#[must_use]
pub const fn response_timeout() -> TimeoutLayer {
    TimeoutLayer::new(Duration::from_secs(15))
}

/// The cluster to connect to, if it is not the default one.
#[derive(Clone, Debug, Default)]
pub struct Cluster {
    /// The kubeconfig file.
    pub kubeconfig: Option<PathBuf>,
    /// The context of the kubeconfig.
    pub context: Option<String>,
}

/// Connects to the API server of the pod or the kubeconfig. The client's own retries can take minutes, so they are off;
/// the work queue retries instead.
pub async fn connect(cluster: &Cluster) -> anyhow::Result<Client> {
    let mut config = config(cluster).await?;
    config.default_retry = false;
    config.connect_timeout = Some(Duration::from_secs(5));
    // For a response that stops in the middle; longer than a watch is ever idle.
    config.read_timeout = Some(WATCH_TIMEOUT + Duration::from_secs(20));
    config.reset_reader_on_write = true;
    // `HTTPS_PROXY` is for AWS; kube would use it too, and does not know `NO_PROXY`.
    config.proxy_url = None;
    let client = ClientBuilder::try_from(config).context("the Kubernetes client cannot be built")?;
    Ok(client.with_layer(&response_timeout()).build())
}
