//! A role assumed with the token of a web identity (IRSA), which replaces a signature
//! (<https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRoleWithWebIdentity.html>).

use std::fmt::Write as _;

use aws_credential_types::Credentials;
use http_body_util::Full;
use hyper::Request;
use hyper::body::Bytes;
use serde::Deserialize;

use super::ask::{ask, token_file};
use super::environment::Environment;
use super::handed::{Handed, element};
use crate::ssm::error::shown_code;
use crate::ssm::http::{Answer, Budget, Http};

const WHOM: &str = "STS";

/// The STS endpoint, the token file, the role and the session name.
pub(super) struct WebIdentity {
    endpoint: String,
    token_file: String,
    role: String,
    session: String,
}

impl WebIdentity {
    /// Returns the web identity that the environment configures, if it names a token.
    pub(super) fn configured(environment: &Environment, region: &str) -> Option<Result<Self, String>> {
        let token_file = environment.get("AWS_WEB_IDENTITY_TOKEN_FILE")?;
        let Some(role) = environment.get("AWS_ROLE_ARN") else {
            return Some(Err("AWS_WEB_IDENTITY_TOKEN_FILE is set, and AWS_ROLE_ARN is not".to_owned()));
        };
        let session = environment.get("AWS_ROLE_SESSION_NAME");
        let session = session.unwrap_or_else(|| "parameter-mirror-reader".to_owned());
        Some(Ok(Self { endpoint: environment.sts(region), token_file, role, session }))
    }

    /// Fetches credentials. The token is read each time, because it is rotated.
    pub(super) async fn fetch(self, http: &Http, budget: &mut Budget) -> Result<Credentials, String> {
        let token = token_file(self.token_file, budget).await?;
        let form = [
            ("Action", "AssumeRoleWithWebIdentity"),
            ("Version", "2011-06-15"),
            ("RoleArn", &self.role),
            ("RoleSessionName", &self.session),
            ("WebIdentityToken", &token),
        ];
        let request = Request::post(format!("{}/", self.endpoint.trim_end_matches('/')))
            .header("content-type", "application/x-www-form-urlencoded")
            .header("accept", "application/json")
            .body(Full::new(Bytes::from(encoded(&form))))
            .map_err(|_| "the endpoint of STS is no URL")?;
        let answer = ask(http, budget, WHOM, &request).await?;
        if !answer.status.is_success() {
            return Err(refusal(&answer, &self.role));
        }
        handed(&answer.body).and_then(Handed::credentials).map_err(|what| format!("{WHOM}: {what}"))
    }
}

/// Parses JSON, as requested, or the XML of an STS that ignores the Accept header: stand-ins, and the
/// documented format.
fn handed(body: &[u8]) -> Result<Handed, String> {
    #[derive(Deserialize)]
    struct Outer {
        #[serde(rename = "AssumeRoleWithWebIdentityResponse")]
        response: Middle,
    }
    #[derive(Deserialize)]
    struct Middle {
        #[serde(rename = "AssumeRoleWithWebIdentityResult")]
        result: Inner,
    }
    #[derive(Deserialize)]
    struct Inner {
        #[serde(rename = "Credentials")]
        credentials: Handed,
    }
    if is_xml(body) {
        return Handed::of_xml(body);
    }
    let outer = serde_json::from_slice(body).map(|outer: Outer| outer.response.result.credentials);
    outer.map_err(|_| "its answer is not the expected JSON".to_owned())
}

/// Describes an error answer of STS. Its message quotes the token, so only the code is shown.
fn refusal(answer: &Answer, role: &str) -> String {
    #[derive(Deserialize)]
    struct Outer {
        #[serde(rename = "Error")]
        error: Inner,
    }
    #[derive(Deserialize)]
    struct Inner {
        #[serde(rename = "Code")]
        code: String,
    }
    let code = if is_xml(&answer.body) {
        std::str::from_utf8(&answer.body).ok().and_then(|text| element(text, "Code")).map(str::to_owned)
    } else {
        serde_json::from_slice(&answer.body).ok().map(|outer: Outer| outer.error.code)
    };
    let code = code.as_deref().and_then(shown_code).unwrap_or_else(|| "without a code".to_owned());
    format!(
        "{WHOM} does not hand out the role {role} (HTTP {} {code}); does its trust policy name this service account?",
        answer.status.as_u16()
    )
}

fn is_xml(body: &[u8]) -> bool {
    body.trim_ascii_start().starts_with(b"<")
}

/// Encodes a form; everything but unreserved characters is escaped.
fn encoded(form: &[(&str, &str)]) -> String {
    let mut text = String::new();
    for (name, value) in form {
        if !text.is_empty() {
            text.push('&');
        }
        text.push_str(name);
        text.push('=');
        for byte in value.bytes() {
            if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
                text.push(char::from(byte));
            } else {
                // Writing to a String cannot fail.
                let _ = write!(text, "%{byte:02X}");
            }
        }
    }
    text
}
