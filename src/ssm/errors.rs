//! Classifies errors of the SDK.
//!
//! An `SdkError` printed with `{:?}` or with its sources shows the body of the answer, which can hold secrets
//! (measured). So nothing of it is printed but the operation, the HTTP status, and codes that look like codes.

use std::error::Error;

use aws_sdk_ssm::config::http::HttpResponse;
use aws_sdk_ssm::error::{ProvideErrorMetadata, SdkError};

use crate::mirror::snapshot::{ReadError, ReadErrorKind};

use super::credentials::Unavailable;

/// Classifies a failed call, with a clause for people.
pub fn classify<E>(operation: &str, error: &SdkError<E, HttpResponse>) -> ReadError
where
    E: ProvideErrorMetadata + Error + 'static,
{
    let status = error.raw_response().map(|response| response.status().as_u16());
    let code = code(error);
    let about_kms =
        error.as_service_error().and_then(ProvideErrorMetadata::message).is_some_and(speaks_of_kms);
    if let Some(none) = lack_of_credentials(error) {
        return ReadError::new(ReadErrorKind::CredentialsUnavailable, format!("{operation}: {none}"));
    }
    let (reason, what) = match error {
        SdkError::TimeoutError(_) => (ReadErrorKind::Timeout, "no answer in time".to_owned()),
        SdkError::DispatchFailure(failure) if failure.is_timeout() => {
            (ReadErrorKind::Timeout, "no answer in time".to_owned())
        }
        SdkError::DispatchFailure(_) => {
            (ReadErrorKind::SourceUnavailable, "no connection (refused, reset or no such host)".to_owned())
        }
        SdkError::ServiceError(_) => service_error(code.as_deref(), status, about_kms),
        SdkError::ResponseError(_) => match status {
            Some(429) => (ReadErrorKind::Throttled, "HTTP 429".to_owned()),
            Some(status) if status >= 500 => (ReadErrorKind::SourceUnavailable, format!("HTTP {status}")),
            Some(status) => (
                ReadErrorKind::InvalidResponse,
                format!("HTTP {status} with a body that is no answer of SSM"),
            ),
            None => (ReadErrorKind::InvalidResponse, "an answer that cannot be read".to_owned()),
        },
        _ => (ReadErrorKind::InvalidResponse, "the request could not be built".to_owned()),
    };
    ReadError::new(reason, format!("{operation}: {what}"))
}

/// Classifies by the API's codes. Real codes outnumber the SDK's typed errors, so the text counts, not the variant.
fn service_error(code: Option<&str>, status: Option<u16>, about_kms: bool) -> (ReadErrorKind, String) {
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
                ReadErrorKind::KmsUnavailable
            } else {
                ReadErrorKind::Throttled
            }
        }
        "InvalidKeyId"
        | "KMSAccessDeniedException"
        | "KMSDisabledException"
        | "KMSInvalidStateException"
        | "KMSNotFoundException"
        | "KMSThrottlingException" => ReadErrorKind::KmsUnavailable,
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
        | "AuthFailure" => ReadErrorKind::CredentialsUnavailable,
        "AccessDeniedException" | "AccessDenied" | "UnauthorizedOperation" | "NotAuthorized" => {
            if about_kms {
                ReadErrorKind::KmsUnavailable
            } else {
                ReadErrorKind::AccessDenied
            }
        }
        "InternalServerError"
        | "InternalFailure"
        | "InternalError"
        | "ServiceUnavailable"
        | "ServiceUnavailableException" => {
            if about_kms {
                ReadErrorKind::KmsUnavailable
            } else {
                ReadErrorKind::SourceUnavailable
            }
        }
        _ => match status {
            Some(429) => ReadErrorKind::Throttled,
            Some(status) if status >= 500 => ReadErrorKind::SourceUnavailable,
            _ => ReadErrorKind::InvalidResponse,
        },
    };
    let hint = match reason {
        ReadErrorKind::AccessDenied => "; the operator's IAM policy does not allow it for these parameters",
        ReadErrorKind::KmsUnavailable => "; KMS does not decrypt (key policy, disabled key or throttling)",
        ReadErrorKind::InvalidResponse => "; SSM refuses the request as malformed",
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

impl From<&Unavailable> for ReadError {
    fn from(none: &Unavailable) -> Self {
        Self::new(ReadErrorKind::CredentialsUnavailable, none.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("ThrottlingException", 400, false, ReadErrorKind::Throttled)]
    #[case("ThrottlingException", 400, true, ReadErrorKind::KmsUnavailable)]
    #[case("AccessDeniedException", 400, false, ReadErrorKind::AccessDenied)]
    #[case("AccessDeniedException", 400, true, ReadErrorKind::KmsUnavailable)]
    #[case("InvalidKeyId", 400, false, ReadErrorKind::KmsUnavailable)]
    #[case("ExpiredTokenException", 400, false, ReadErrorKind::CredentialsUnavailable)]
    #[case("UnrecognizedClientException", 400, false, ReadErrorKind::CredentialsUnavailable)]
    #[case("InternalServerError", 500, false, ReadErrorKind::SourceUnavailable)]
    #[case("ValidationException", 400, false, ReadErrorKind::InvalidResponse)]
    #[case("SomethingNew", 503, false, ReadErrorKind::SourceUnavailable)]
    #[case("SomethingNew", 400, false, ReadErrorKind::InvalidResponse)]
    fn every_code_has_its_class(
        #[case] code: &str,
        #[case] status: u16,
        #[case] kms: bool,
        #[case] reason: ReadErrorKind,
    ) {
        assert_eq!(service_error(Some(code), Some(status), kms).0, reason);
    }

    #[test]
    fn only_what_looks_like_a_code_is_shown() {
        for text in ["hunter2 is the password", "hunter2", "Hunter2", "hunter", "Hünter", &"A".repeat(65), ""]
        {
            assert_eq!(shown_code(Some(text)), "an unknown error");
            let (_, told) = service_error(Some(text), Some(400), false);
            assert!(!told.contains("unter2"), "{told}");
        }
        assert_eq!(shown_code(Some("KMS.DisabledException")), "KMS.DisabledException");
        assert_eq!(bare_code("com.amazonaws.ssm#ThrottlingException:http://x"), "ThrottlingException");
    }
}
