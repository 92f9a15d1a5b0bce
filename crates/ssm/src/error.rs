//! The errors of SSM, classified.
//!
//! An `SdkError` printed with `{:?}` or with its sources shows the body of the answer, which can hold secrets
//! (measured). So nothing of it is printed but the operation, the HTTP status, and codes that look like codes.

use std::error::Error;

use aws_sdk_ssm::config::http::HttpResponse;
use aws_sdk_ssm::error::{ProvideErrorMetadata, SdkError};

use crate::credentials::Unavailable;
use crate::intercept::{MAX_ANSWER, is_too_large};
use crate::no_connection;

/// Why a call failed. It never carries a body or a value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{kind}: {detail}")]
pub struct SsmError {
    /// The class.
    pub kind: SsmErrorKind,
    /// One clause for people, with at most operation, status and code.
    pub detail: String,
}

/// Classes of failed calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, strum::Display)]
pub enum SsmErrorKind {
    /// HTTP 5xx, or a connection that is refused or reset, or no such host.
    Unavailable,
    /// SSM throttles requests.
    Throttled,
    /// SSM accepted the request and did not answer within the deadline.
    Timeout,
    /// No valid credentials: STS, IMDS or the token file failed, or the token expired.
    CredentialsUnavailable,
    /// IAM denies the request.
    AccessDenied,
    /// KMS denies, throttles or has disabled the key.
    KmsUnavailable,
    /// An answer that cannot be valid, or a request that SSM refuses as malformed.
    InvalidResponse,
}

impl SsmError {
    pub(crate) fn new(kind: SsmErrorKind, detail: String) -> Self {
        Self { kind, detail }
    }
}

/// The error of HTTP 200 with an answer that cannot be used.
pub(crate) fn malformed(operation: &str, what: &str) -> SsmError {
    SsmError::new(SsmErrorKind::InvalidResponse, format!("{operation}: HTTP 200 with {what}"))
}

/// The error of an answer that does not fit its request.
pub(crate) fn unusable(operation: &str, what: &str) -> SsmError {
    SsmError::new(SsmErrorKind::InvalidResponse, format!("{operation}: {what}"))
}

/// Classifies a failed call to `host`, with a clause for people.
pub fn classify<E>(operation: &str, host: &str, error: &SdkError<E, HttpResponse>) -> SsmError
where
    E: ProvideErrorMetadata + Error + 'static,
{
    let status = error.raw_response().map(|response| response.status().as_u16());
    let code = code(error);
    let about_kms =
        error.as_service_error().and_then(ProvideErrorMetadata::message).is_some_and(speaks_of_kms);
    if let Some(none) = lack_of_credentials(error) {
        return SsmError::new(SsmErrorKind::CredentialsUnavailable, format!("{operation}: {none}"));
    }
    let (reason, what) = match error {
        SdkError::TimeoutError(_) => (SsmErrorKind::Timeout, "no answer in time".to_owned()),
        SdkError::DispatchFailure(failure) if failure.is_timeout() => {
            (SsmErrorKind::Timeout, "no answer in time".to_owned())
        }
        SdkError::DispatchFailure(_) => {
            (SsmErrorKind::Unavailable, format!("no connection to {host}: {}", no_connection::why(error)))
        }
        SdkError::ServiceError(_) => service_error(code.as_deref(), status, about_kms),
        SdkError::ResponseError(_) if is_too_large(error) => (
            SsmErrorKind::InvalidResponse,
            format!("an answer of more than {} MiB", MAX_ANSWER / 1024 / 1024),
        ),
        SdkError::ResponseError(_) if is_cut_off(error) => {
            (SsmErrorKind::Unavailable, "the connection ended before the answer was complete".to_owned())
        }
        SdkError::ResponseError(_) => match status {
            Some(429) => (SsmErrorKind::Throttled, "HTTP 429".to_owned()),
            Some(status) if status >= 500 => (SsmErrorKind::Unavailable, format!("HTTP {status}")),
            Some(status) => {
                (SsmErrorKind::InvalidResponse, format!("HTTP {status} with a body that is no answer of SSM"))
            }
            None => (SsmErrorKind::InvalidResponse, "an answer that cannot be read".to_owned()),
        },
        _ => (SsmErrorKind::InvalidResponse, "the request could not be built".to_owned()),
    };
    SsmError::new(reason, format!("{operation}: {what}"))
}

/// Whether an answer began and did not come to its end: the SDK has not taken in its body.
fn is_cut_off<E>(error: &SdkError<E, HttpResponse>) -> bool {
    error.raw_response().is_some_and(|response| response.body().bytes().is_none())
}

/// Classifies by the API's codes. Real codes outnumber the SDK's typed errors, so the text counts, not the variant.
fn service_error(code: Option<&str>, status: Option<u16>, about_kms: bool) -> (SsmErrorKind, String) {
    let shown = shown_code(code);
    let status_text = status.map_or_else(String::new, |status| format!("HTTP {status} "));
    let text = format!("{status_text}{shown}");
    let reason = match code.unwrap_or_default() {
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
        | "TransactionInProgressException" => {
            if about_kms {
                SsmErrorKind::KmsUnavailable
            } else {
                SsmErrorKind::Throttled
            }
        }
        "InvalidKeyId"
        | "KMSAccessDeniedException"
        | "KMSDisabledException"
        | "KMSInvalidStateException"
        | "KMSNotFoundException"
        | "KMSThrottlingException" => SsmErrorKind::KmsUnavailable,
        "ExpiredToken"
        | "ExpiredTokenException"
        | "UnrecognizedClientException"
        | "InvalidClientTokenId"
        | "MissingAuthenticationToken"
        | "MissingAuthenticationTokenException"
        | "InvalidSignatureException"
        | "SignatureDoesNotMatch"
        | "RequestExpired"
        | "IncompleteSignature"
        | "IncompleteSignatureException"
        | "InvalidAccessKeyId"
        | "AuthFailure" => SsmErrorKind::CredentialsUnavailable,
        "AccessDeniedException" | "AccessDenied" | "UnauthorizedOperation" | "NotAuthorized" => {
            if about_kms {
                SsmErrorKind::KmsUnavailable
            } else {
                SsmErrorKind::AccessDenied
            }
        }
        "InternalServerError"
        | "InternalFailure"
        | "InternalError"
        | "ServiceUnavailable"
        | "ServiceUnavailableException" => {
            if about_kms {
                SsmErrorKind::KmsUnavailable
            } else {
                SsmErrorKind::Unavailable
            }
        }
        _ => match status {
            Some(429) => SsmErrorKind::Throttled,
            Some(status) if status >= 500 => SsmErrorKind::Unavailable,
            _ => SsmErrorKind::InvalidResponse,
        },
    };
    let hint = match reason {
        SsmErrorKind::KmsUnavailable => "; KMS does not decrypt (key policy, disabled key or throttling)",
        SsmErrorKind::InvalidResponse => "; SSM refuses the request as malformed",
        _ => "",
    };
    (reason, format!("{text}{hint}"))
}

/// Whether this code says that credentials have expired or are unknown. A wrong signature or date says nothing about
/// them: other credentials would not help.
#[must_use]
pub fn refuses_credentials(code: &str) -> bool {
    matches!(
        code,
        "ExpiredToken"
            | "ExpiredTokenException"
            | "UnrecognizedClientException"
            | "InvalidClientTokenId"
            | "InvalidAccessKeyId"
    )
}

/// Returns the code of a failed call, if the answer had one.
#[must_use]
pub fn code<E: ProvideErrorMetadata>(error: &SdkError<E, HttpResponse>) -> Option<String> {
    error.as_service_error().and_then(ProvideErrorMetadata::code).map(bare_code)
}

/// Returns a code that is safe to show: some servers put unchecked text there.
#[must_use]
pub fn shown_code(code: Option<&str>) -> &str {
    code.filter(|code| looks_like_a_code(code)).unwrap_or("an unknown error")
}

/// `com.amazonaws.ssm#ThrottlingException:http://...` becomes `ThrottlingException`.
fn bare_code(code: &str) -> String {
    let code = code.rsplit('#').next().unwrap_or(code);
    code.split(':').next().unwrap_or(code).to_owned()
}

fn looks_like_a_code(code: &str) -> bool {
    // No code of SSM, STS or KMS has digits; most tokens and passwords do.
    (1..=64).contains(&code.len())
        && code.starts_with(|c: char| c.is_ascii_uppercase())
        && code.chars().all(|c| c.is_ascii_alphabetic() || c == '.')
}

/// Whether an error is about KMS. SSM passes KMS errors on under its own codes; only the message shows it.
fn speaks_of_kms(message: &str) -> bool {
    ["Service: AWSKMS", "Service: Kms", "KMS", "customer master key", "ciphertext refers to"]
        .iter()
        .any(|marker| message.contains(marker))
}

/// Returns why there were no credentials to sign with. The SDK reports this as a failed dispatch with the cause deep below.
fn lack_of_credentials<E, R>(error: &SdkError<E, R>) -> Option<&Unavailable>
where
    E: Error + 'static,
    R: std::fmt::Debug + 'static,
{
    causes(error).find_map(|cause| cause.downcast_ref())
}

/// Returns the causes of an error, from the top. Only for finding types: the texts quote bodies.
pub fn causes<'e>(error: &'e (dyn Error + 'static)) -> impl Iterator<Item = &'e (dyn Error + 'static)> {
    std::iter::successors(error.source(), |&cause| cause.source())
}

impl From<&Unavailable> for SsmError {
    fn from(none: &Unavailable) -> Self {
        Self::new(SsmErrorKind::CredentialsUnavailable, none.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("ThrottlingException", 400, false, SsmErrorKind::Throttled)]
    #[case("ThrottlingException", 400, true, SsmErrorKind::KmsUnavailable)]
    #[case("AccessDeniedException", 400, false, SsmErrorKind::AccessDenied)]
    #[case("AccessDeniedException", 400, true, SsmErrorKind::KmsUnavailable)]
    #[case("InvalidKeyId", 400, false, SsmErrorKind::KmsUnavailable)]
    #[case("ExpiredTokenException", 400, false, SsmErrorKind::CredentialsUnavailable)]
    #[case("UnrecognizedClientException", 400, false, SsmErrorKind::CredentialsUnavailable)]
    #[case("InternalServerError", 500, false, SsmErrorKind::Unavailable)]
    #[case("ValidationException", 400, false, SsmErrorKind::InvalidResponse)]
    #[case("SomethingNew", 503, false, SsmErrorKind::Unavailable)]
    #[case("SomethingNew", 400, false, SsmErrorKind::InvalidResponse)]
    fn every_code_has_its_class(
        #[case] code: &str,
        #[case] status: u16,
        #[case] kms: bool,
        #[case] reason: SsmErrorKind,
    ) {
        assert_eq!(service_error(Some(code), Some(status), kms).0, reason);
    }

    #[test]
    fn only_what_looks_like_a_code_is_shown() {
        for text in ["hunter2 is the password", "hunter2", "Hunter2", "hunter", "Hünter", &"A".repeat(65), ""]
        {
            assert_eq!(shown_code(Some(text)), "an unknown error");
            let (_, message) = service_error(Some(text), Some(400), false);
            assert!(!message.contains("unter2"), "{message}");
        }
        assert_eq!(shown_code(Some("KMS.DisabledException")), "KMS.DisabledException");
        assert_eq!(bare_code("com.amazonaws.ssm#ThrottlingException:http://x"), "ThrottlingException");
    }
}
