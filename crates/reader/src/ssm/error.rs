//! The errors of SSM, for the person on call.
//!
//! Answers contain values, and requests contain credentials. Messages therefore contain only HTTP statuses,
//! codes that look like codes, and names of parameters.

use hyper::StatusCode;
use serde::Deserialize;

use super::http::{Answer, Failure};

/// Why a read failed. A failed read has no partial result.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SsmError {
    /// The deadline passed, whatever the server did.
    #[error(
        "SSM gave no complete answer in the time allowed: it hangs, or the network to it drops packets (VPC endpoint, security group)"
    )]
    Timeout,
    /// No connection, a broken connection, or an internal error of SSM.
    #[error("SSM is unavailable: {0}")]
    Unavailable(String),
    /// The account exceeds its quota of calls.
    #[error("SSM throttles: this account makes more calls in the Region than its quota allows")]
    Throttled,
    /// SSM or KMS authenticated the caller and denied the request.
    #[error(
        "SSM refuses the read ({code}): the IAM policy of this task, or that of the KMS key, does not allow it"
    )]
    Denied {
        /// The code of the answer.
        code: String,
    },
    /// There are no credentials, or AWS does not accept them.
    #[error("no valid AWS credentials: {0}")]
    CredentialsUnavailable(String),
    /// SSM reports that parameters do not exist.
    #[error("SSM has no {}: was it deleted or misspelt, or is this the wrong Region or account?", names.join(", "))]
    NotFound {
        /// The names as selected.
        names: Vec<String>,
    },
    /// The path has no parameters, which would make an empty environment.
    #[error(
        "SSM has nothing below {path}: was it deleted or misspelt, or is this the wrong Region or account?"
    )]
    Empty {
        /// The path.
        path: String,
    },
    /// The answer does not match the request.
    #[error("SSM's answer cannot be used: {0}")]
    InvalidResponse(String),
}

/// Why SSM cannot be set up: invalid settings, not an outage.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SetupError {
    /// The Region is invalid; it becomes part of a host name.
    #[error("the AWS Region is not a Region's name such as eu-central-1")]
    Region,
    /// The endpoint is not an `http` or `https` URL of a host. It is not shown, because it may contain a
    /// password.
    #[error("the endpoint of SSM is not a URL such as https://ssm.eu-central-1.amazonaws.com")]
    Endpoint,
}

impl SsmError {
    /// Whether a retry of the same request may succeed.
    pub(super) fn is_passing(&self) -> bool {
        matches!(self, Self::Unavailable(_) | Self::Throttled)
    }
}

/// Maps a request without an answer.
pub(super) fn unanswered(operation: &str, failure: &Failure) -> SsmError {
    match failure {
        Failure::Timeout => SsmError::Timeout,
        Failure::NoConnection { .. } | Failure::Broken => {
            SsmError::Unavailable(format!("{operation}: {failure}"))
        }
        Failure::TooLarge => invalid(operation, &failure.to_string()),
    }
}

/// Maps an answer that is not a success. The codes are those of the operator's table (crates/ssm/src/error.rs).
/// There are more real codes than documented ones, so the status decides when the code is unknown.
pub(super) fn refused(operation: &str, answer: &Answer) -> SsmError {
    let (status, code) = (answer.status, code(answer));
    let shown = code.as_deref().unwrap_or("without a code");
    let what = format!("{operation}: HTTP {} {shown}", status.as_u16());
    match code.as_deref().unwrap_or_default() {
        "ThrottlingException"
        | "Throttling"
        | "ThrottledException"
        | "RequestThrottled"
        | "RequestThrottledException"
        | "TooManyRequestsException"
        | "RequestLimitExceeded"
        | "LimitExceededException"
        | "SlowDown"
        | "PriorRequestNotComplete"
        | "BandwidthLimitExceeded"
        | "TransactionInProgressException"
        | "KMSThrottlingException" => SsmError::Throttled,
        "ExpiredToken"
        | "ExpiredTokenException"
        | "UnrecognizedClientException"
        | "InvalidClientTokenId"
        | "InvalidAccessKeyId"
        | "MissingAuthenticationToken"
        | "MissingAuthenticationTokenException"
        | "AuthFailure" => {
            SsmError::CredentialsUnavailable(format!("SSM does not accept those held ({what})"))
        }
        "InvalidSignatureException"
        | "SignatureDoesNotMatch"
        | "RequestExpired"
        | "RequestTimeTooSkewed"
        | "IncompleteSignature"
        | "IncompleteSignatureException" => SsmError::CredentialsUnavailable(format!(
            "SSM does not accept the signature ({what}); is the secret key complete, and this machine's clock right?"
        )),
        "AccessDeniedException"
        | "AccessDenied"
        | "UnauthorizedOperation"
        | "NotAuthorized"
        | "InvalidKeyId"
        | "KMSAccessDeniedException"
        | "KMSDisabledException"
        | "KMSInvalidStateException"
        | "KMSNotFoundException" => SsmError::Denied { code: shown.to_owned() },
        _ if status == StatusCode::TOO_MANY_REQUESTS => SsmError::Throttled,
        _ if status.is_server_error() => SsmError::Unavailable(what),
        _ => SsmError::InvalidResponse(what),
    }
}

/// Creates the error for HTTP 200 with a body that does not answer the operation.
pub(super) fn invalid(operation: &str, what: &str) -> SsmError {
    SsmError::InvalidResponse(format!("{operation}: {what}"))
}

/// Whether AWS reports the credentials as expired or unknown, so that other credentials may help.
pub(super) fn refuses_credentials(answer: &Answer) -> bool {
    !answer.status.is_success()
        && matches!(
            code(answer).as_deref(),
            Some(
                "ExpiredToken"
                    | "ExpiredTokenException"
                    | "UnrecognizedClientException"
                    | "InvalidClientTokenId"
                    | "InvalidAccessKeyId"
            )
        )
}

/// Returns the code of an error, from the header or the body: SDKs read both.
fn code(answer: &Answer) -> Option<String> {
    #[derive(Deserialize)]
    struct Body {
        #[serde(rename = "__type")]
        kind: Option<String>,
        code: Option<String>,
    }
    let from_body = || {
        let body: Body = serde_json::from_slice(&answer.body).ok()?;
        body.kind.or(body.code)
    };
    answer.error_type.clone().or_else(from_body).as_deref().and_then(shown_code)
}

/// Shortens `com.amazonaws.ssm#ThrottlingException:http://...` to `ThrottlingException`. Text that does not
/// look like a code is not shown, because it could be anything.
pub(super) fn shown_code(code: &str) -> Option<String> {
    let code = code.rsplit('#').next().unwrap_or(code);
    let code = code.split(':').next().unwrap_or(code);
    // No code of SSM, STS or KMS contains digits; most tokens and passwords do.
    let is_one = (1..=64).contains(&code.len())
        && code.starts_with(|c: char| c.is_ascii_uppercase())
        && code.chars().all(|c| c.is_ascii_alphabetic() || c == '.');
    is_one.then(|| code.to_owned())
}

#[cfg(test)]
mod tests {
    use hyper::body::Bytes;

    use super::*;

    fn answer(status: u16, error_type: Option<&str>, body: &'static str) -> Answer {
        Answer {
            status: StatusCode::from_u16(status).unwrap(),
            error_type: error_type.map(str::to_owned),
            body: Bytes::from_static(body.as_bytes()),
        }
    }

    #[test]
    fn a_code_stands_in_the_header_or_in_the_body() {
        let denied = SsmError::Denied { code: "AccessDeniedException".to_owned() };
        let header = answer(400, Some("AccessDeniedException:http://x/"), "{}");
        let body = answer(400, None, r#"{"__type":"com.amazonaws.ssm#AccessDeniedException"}"#);
        assert_eq!(refused("GetParameters", &header), denied);
        assert_eq!(refused("GetParameters", &body), denied);
    }

    #[test]
    fn what_is_no_code_is_not_shown() {
        for body in
            [r#"{"__type":"hunter2 is the password"}"#, r#"{"__type":"Hunter2"}"#, r#"{"__type":"hunter"}"#]
        {
            let error = refused("GetParameters", &answer(400, None, body));
            assert_eq!(
                error.to_string(),
                "SSM's answer cannot be used: GetParameters: HTTP 400 without a code"
            );
        }
    }

    #[test]
    fn the_status_decides_where_no_code_is_known() {
        let class = |status, body| refused("GetParameters", &answer(status, None, body));
        assert_eq!(class(429, "<html>"), SsmError::Throttled);
        assert!(matches!(class(502, "<html>"), SsmError::Unavailable(_)));
        assert!(matches!(class(404, "<html>"), SsmError::InvalidResponse(_)));
    }

    #[test]
    fn a_wrong_signature_does_not_ask_for_other_credentials() {
        let wrong = answer(400, Some("InvalidSignatureException"), "{}");
        assert!(!refuses_credentials(&wrong));
        assert!(refused("GetParameters", &wrong).to_string().contains("clock"));
        assert!(refuses_credentials(&answer(400, Some("ExpiredTokenException"), "{}")));
    }
}
