//! The service's own errors, worded as seen in public reports.

use super::faults::Fault;
use super::reply::{Content, Reply};

/// The position of the code in an error; SDKs read all three.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// `"__type": "X"` and the header.
    Plain,
    /// `"__type": "com.amazonaws.ssm#X"` and no header.
    Namespaced,
    /// `x-amzn-errortype: X:http://...` and no `__type`.
    HeaderOnly,
}

/// An error with a code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Coded {
    /// HTTP status.
    pub status: u16,
    /// The code, without namespace.
    pub code: String,
    /// The message; empty for none.
    pub message: String,
    /// The position of the code.
    pub style: Style,
}

impl Coded {
    pub(crate) fn reply(&self) -> Reply {
        let Self { status, code, message, style } = self;
        match style {
            Style::Plain => Reply::error(*status, code, message),
            Style::Namespaced => {
                let reply = Reply::error(*status, &format!("com.amazonaws.ssm#{code}"), message);
                Reply { error_type: None, ..reply }
            }
            Style::HeaderOnly => Reply {
                error_type: Some(format!("{code}:http://internal.amazon.com/coral/com.amazonaws.ssm/")),
                ..Reply::new(*status, Content::Json(serde_json::json!({ "message": message })))
            },
        }
    }
}

impl Fault {
    /// Any error with a code.
    #[must_use]
    pub fn coded(status: u16, code: &str, message: &str) -> Self {
        Self::styled(status, code, message, Style::Plain)
    }

    fn styled(status: u16, code: &str, message: &str, style: Style) -> Self {
        Self::Coded(Coded { status, code: code.to_owned(), message: message.to_owned(), style })
    }

    /// The account exceeds its quota of requests.
    #[must_use]
    pub fn throttling() -> Self {
        Self::coded(400, "ThrottlingException", "Rate exceeded")
    }

    /// [`Self::throttling`] with a namespaced code.
    #[must_use]
    pub fn throttling_namespaced() -> Self {
        Self::styled(400, "ThrottlingException", "Rate exceeded", Style::Namespaced)
    }

    /// [`Self::throttling`] with the code in the header alone.
    #[must_use]
    pub fn throttling_header_only() -> Self {
        Self::styled(400, "ThrottlingException", "Rate exceeded", Style::HeaderOnly)
    }

    /// Throttling with the status 429.
    #[must_use]
    pub fn too_many_requests() -> Self {
        Self::coded(429, "TooManyRequestsException", "Rate exceeded")
    }

    /// IAM does not allow the operation, for example `ssm:GetParameters`.
    #[must_use]
    pub fn access_denied_iam(operation: &str) -> Self {
        let message = format!(
            "User: arn:aws:sts::111122223333:assumed-role/reader/session is not authorized to perform: {operation} \
             on resource: arn:aws:ssm:us-east-1:111122223333:parameter/x because no identity-based policy allows \
             the {operation} action"
        );
        Self::coded(400, "AccessDeniedException", &message)
    }

    /// The key's policy does not allow the caller to decrypt.
    #[must_use]
    pub fn access_denied_kms() -> Self {
        let message = "The ciphertext refers to a customer master key that does not exist, does not exist in this \
                       region, or you are not allowed to access. (Service: AWSKMS; Status Code: 400; Error Code: \
                       AccessDeniedException; Request ID: 00000000-0000-4000-8000-000000000000; Proxy: null)";
        Self::coded(400, "AccessDeniedException", message)
    }

    /// The key is disabled.
    #[must_use]
    pub fn invalid_key_id() -> Self {
        let message = "arn:aws:kms:us-east-1:111122223333:key/00000000-0000-4000-8000-000000000000 is disabled. \
                       (Service: AWSKMS; Status Code: 400; Error Code: DisabledException; Request ID: \
                       00000000-0000-4000-8000-000000000000; Proxy: null)";
        Self::coded(400, "InvalidKeyId", message)
    }

    /// KMS throttles, and SSM passes the error on.
    #[must_use]
    pub fn kms_throttled() -> Self {
        let message = "You have exceeded the rate at which you may call KMS. Reduce the frequency of your calls. \
                       (Service: AWSKMS; Status Code: 400; Error Code: ThrottlingException; Request ID: \
                       00000000-0000-4000-8000-000000000000; Proxy: null)";
        Self::coded(400, "ThrottlingException", message)
    }

    /// The session of the credentials has expired.
    #[must_use]
    pub fn expired_token() -> Self {
        let message = "The security token included in the request is expired";
        Self::coded(400, "ExpiredTokenException", message)
    }

    /// The access key is unknown.
    #[must_use]
    pub fn unrecognized_client() -> Self {
        let message = "The security token included in the request is invalid.";
        Self::coded(400, "UnrecognizedClientException", message)
    }

    /// The signature is wrong, as with a wrong clock.
    #[must_use]
    pub fn invalid_signature() -> Self {
        let message = "Signature expired: 20260101T000000Z is now earlier than 20260101T001000Z \
                       (20260101T001500Z - 5 min.)";
        Self::coded(400, "InvalidSignatureException", message)
    }

    /// HTTP 500 from SSM itself.
    #[must_use]
    pub fn internal() -> Self {
        Self::coded(500, "InternalServerError", "An error occurred on the server side.")
    }

    /// HTTP 503 from SSM itself.
    #[must_use]
    pub fn unavailable() -> Self {
        Self::coded(503, "ServiceUnavailable", "Service is currently unavailable")
    }

    /// The request is invalid.
    #[must_use]
    pub fn validation() -> Self {
        let message = "1 validation error detected: Value at 'path' failed to satisfy constraint";
        Self::coded(400, "ValidationException", message)
    }

    /// The token does not belong to this listing.
    #[must_use]
    pub fn invalid_next_token() -> Self {
        Self::coded(400, "InvalidNextToken", "The specified token is not valid.")
    }
}
