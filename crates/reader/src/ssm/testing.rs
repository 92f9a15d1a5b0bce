//! Helpers shared by the tests of this module.

use std::time::{Duration, Instant};

use axum::Router;

use super::credentials::Environment;
use super::{Ssm, SsmError};

/// Longer than any stand-in on this machine needs for all requests.
pub(super) const LONG: Duration = Duration::from_secs(20);
/// A budget that a test waits for to end.
pub(super) const SHORT: Duration = Duration::from_millis(400);

/// An environment with these variables, and no metadata service.
pub(super) fn environment(variables: &[(&str, &str)]) -> Environment {
    let disabled = ("AWS_EC2_METADATA_DISABLED", "true");
    let pair = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    std::iter::once(&disabled).chain(variables).map(pair).collect()
}

/// An SSM client whose environment has keys and a session token.
pub(super) fn ssm(endpoint: &str) -> Ssm {
    let environment = environment(&[
        ("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE"),
        ("AWS_SECRET_ACCESS_KEY", "hunter2"),
        ("AWS_SESSION_TOKEN", "hunter2-token"),
    ]);
    Ssm::new("us-east-1".to_owned(), Some(endpoint.to_owned()), environment).unwrap()
}

/// Starts a small HTTP server that lives as long as the test's runtime, and returns its base URL.
pub(super) async fn serve(router: Router) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async { axum::serve(listener, router).await.unwrap() });
    format!("http://{address}")
}

/// Returns the result of an asynchronous step, which must end within its budget of [`SHORT`].
pub(super) async fn in_short<T>(step: impl Future<Output = T>) -> T {
    let began = Instant::now();
    let outcome = step.await;
    assert!(began.elapsed() < SHORT * 5, "it took {:?}", began.elapsed());
    outcome
}

/// Returns the text of an error, and checks that it contains none of the secrets of the tests.
pub(super) fn text(error: &SsmError) -> String {
    let both = format!("{error} {error:?}");
    assert!(!both.contains("hunter2"), "{both}");
    error.to_string()
}
