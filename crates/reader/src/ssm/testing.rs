//! What the tests of this module share.

use std::time::{Duration, Instant};

use axum::Router;

use super::credentials::Environment;
use super::{Ssm, SsmError};

/// More than any stand-in on this machine takes for all it is asked.
pub(super) const LONG: Duration = Duration::from_secs(20);
/// A budget that a test waits out.
pub(super) const SHORT: Duration = Duration::from_millis(400);

/// The variables, and no metadata service behind them.
pub(super) fn environment(variables: &[(&str, &str)]) -> Environment {
    let disabled = ("AWS_EC2_METADATA_DISABLED", "true");
    let pair = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    std::iter::once(&disabled).chain(variables).map(pair).collect()
}

/// An SSM client with keys and a session token in its environment.
pub(super) fn ssm(endpoint: &str) -> Ssm {
    let environment = environment(&[
        ("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE"),
        ("AWS_SECRET_ACCESS_KEY", "hunter2"),
        ("AWS_SESSION_TOKEN", "hunter2-token"),
    ]);
    Ssm::new("us-east-1".to_owned(), Some(endpoint.to_owned()), environment).unwrap()
}

/// A small HTTP server for as long as the test's runtime lives; its base URL.
pub(super) async fn serve(router: Router) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async { axum::serve(listener, router).await.unwrap() });
    format!("http://{address}")
}

/// What an asynchronous step brought, which must have ended with its budget of [`SHORT`].
pub(super) async fn in_short<T>(step: impl Future<Output = T>) -> T {
    let began = Instant::now();
    let outcome = step.await;
    assert!(began.elapsed() < SHORT * 5, "it took {:?}", began.elapsed());
    outcome
}

/// The text of an error, which shows none of the secrets that the tests use.
pub(super) fn text(error: &SsmError) -> String {
    let both = format!("{error} {error:?}");
    assert!(!both.contains("hunter2"), "{both}");
    error.to_string()
}
