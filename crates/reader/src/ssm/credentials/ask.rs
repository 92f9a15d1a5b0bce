//! One request to a credentials source.

use http_body_util::Full;
use hyper::Request;
use hyper::body::Bytes;
use hyper::header::HeaderValue;

use super::super::http::{Answer, Budget, Failure, Http};

/// Sends a request. Retries once after a transient failure, if the budget allows. `whom` names the source for
/// people.
pub(super) async fn ask(
    http: &Http,
    budget: &mut Budget,
    whom: &str,
    request: &Request<Full<Bytes>>,
) -> Result<Answer, String> {
    loop {
        let (is_passing, what) = match http.send(request.clone(), budget.ends()).await {
            Ok(answer) if answer.status.is_server_error() || answer.status.as_u16() == 429 => {
                (true, format!("{whom} answers HTTP {}", answer.status.as_u16()))
            }
            Ok(answer) => return Ok(answer),
            Err(failure) => {
                let is_passing = matches!(failure, Failure::NoConnection { .. } | Failure::Broken);
                (is_passing, format!("{whom}: {failure}"))
            }
        };
        if !(is_passing && budget.retry().await) {
            return Err(what);
        }
    }
}

/// Like [`ask`], but treats any other status than success as an error.
pub(super) async fn ask_for_success(
    http: &Http,
    budget: &mut Budget,
    whom: &str,
    request: &Request<Full<Bytes>>,
) -> Result<Answer, String> {
    let answer = ask(http, budget, whom, request).await?;
    if answer.status.is_success() {
        Ok(answer)
    } else {
        Err(format!("{whom} answers HTTP {}", answer.status.as_u16()))
    }
}

/// Creates a header marked as sensitive.
pub(super) fn secret_header(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// Reads a token file on a blocking thread, so that a file system that hangs cannot block the runtime.
pub(super) async fn token_file(path: String, budget: &Budget) -> Result<String, String> {
    let shown = format!("the token file {path}");
    let read = tokio::task::spawn_blocking(move || std::fs::read_to_string(path));
    let read = tokio::time::timeout_at(budget.ends(), read).await;
    let read = read.map_err(|_| format!("{shown} cannot be read in time"))?;
    let text = read.map_err(|_| format!("{shown} cannot be read"))?;
    let text = text.map_err(|error| format!("{shown} cannot be read ({})", error.kind()))?;
    let token = text.trim();
    if token.is_empty() { Err(format!("{shown} is empty")) } else { Ok(token.to_owned()) }
}
