//! The HTTP interface of AWS's own Parameters and Secrets extension
//! (<https://docs.aws.amazon.com/systems-manager/latest/userguide/ps-integration-lambda-extensions.html>).
#![expect(clippy::disallowed_methods, reason = "answers programs on the loopback")]

use std::sync::Arc;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use parameter_mirror_format::value::Value;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

use super::Server;
use super::ssm_api::Call;

/// The path of the interface.
pub const PATH: &str = "/systemsmanager/parameters/get";

const TOKEN: &str = "x-aws-parameters-secrets-token";

/// The query of a request. A version takes precedence over a label.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Question {
    name: String,
    version: Option<i64>,
    label: Option<String>,
    #[serde(default, deserialize_with = "boolean")]
    with_decryption: bool,
}

/// Accepts every usual spelling: programs write what their language prints, such as Python's `True`.
fn boolean<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    let text = String::deserialize(deserializer)?;
    match text.to_ascii_lowercase().as_str() {
        "true" | "t" | "yes" | "1" => Ok(true),
        "false" | "f" | "no" | "0" | "" => Ok(false),
        _ => Err(D::Error::custom("withDecryption is neither true nor false")),
    }
}

/// Answers like `GetParameter`.
pub async fn answer(
    State(server): State<Arc<Server>>,
    headers: HeaderMap,
    Query(question): Query<Question>,
) -> Response {
    if !shows(&headers, server.token.as_ref()) {
        return (StatusCode::FORBIDDEN, "Bad Token").into_response();
    }
    let Question { name, version, label, with_decryption } = question;
    let selector = version.map(|version| version.to_string()).or(label);
    let name = selector.map_or_else(|| name.clone(), |selector| format!("{name}:{selector}"));
    server.answer(&Call::one(name, with_decryption)).await
}

/// Whether the caller sent the token. A web page or a forged request does not know it.
fn shows(headers: &HeaderMap, token: Option<&Value>) -> bool {
    let (Some(shown), Some(token)) = (headers.get(TOKEN), token) else { return false };
    verify_slices_are_equal(shown.as_bytes(), token.expose().as_bytes()).is_ok()
}
