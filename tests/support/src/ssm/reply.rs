//! The reply to the caller, and how it is delivered.

use std::time::Duration;

use serde_json::{Value, json};

use super::store::SsmRefusal;

/// The content of the body.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Content {
    /// JSON 1.1.
    Json(Value),
    /// Text that claims to be JSON.
    Broken(String),
    /// XML, the format of STS.
    Xml(String),
    /// The page of a load balancer instead of the service.
    Html,
    /// Nothing.
    Empty,
}

/// How the answer is delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Delivery {
    /// Completely, at once.
    Whole,
    /// This many bytes of the body per second.
    Trickle(u32),
    /// Half of the body, then silence on an open connection.
    Stall,
    /// Half of the body, then the end of the connection.
    Truncated,
    /// A TCP reset instead of an answer.
    Reset,
    /// No answer on an open connection.
    Silence,
}

/// One answer.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    /// The header `x-amzn-errortype`.
    pub(crate) error_type: Option<String>,
    pub(crate) content: Content,
    /// The delay before anything is sent.
    pub(crate) delay: Duration,
    pub(crate) delivery: Delivery,
    /// Text that an invalid answer quotes, as failing services quote requests and values.
    pub(crate) quotes: Option<String>,
}

impl Reply {
    /// Creates an answer that is delivered completely.
    pub(crate) fn new(status: u16, content: Content) -> Self {
        Self {
            status,
            error_type: None,
            content,
            delay: Duration::ZERO,
            delivery: Delivery::Whole,
            quotes: None,
        }
    }

    /// Creates the error of a JSON 1.1 service with a code; without a message, it has no message member.
    pub(crate) fn error(status: u16, code: &str, message: &str) -> Self {
        let mut body = json!({ "__type": code });
        if !message.is_empty() {
            body["message"] = message.into();
        }
        let error_type = Some(code.rsplit('#').next().unwrap_or(code).to_owned());
        Self { error_type, ..Self::new(status, Content::Json(body)) }
    }

    /// Returns the media type and the bytes of the body.
    pub(crate) fn body(&self) -> (&'static str, Vec<u8>) {
        let quoted = self.quotes.as_deref().unwrap_or_default();
        match &self.content {
            Content::Json(body) if self.status != 200 && !quoted.is_empty() => {
                let mut body = body.clone();
                body["message"] = format!("{} {quoted}", body["message"].as_str().unwrap_or_default()).into();
                body["detail"] = json!({ "value": quoted });
                ("application/x-amz-json-1.1", body.to_string().into_bytes())
            }
            Content::Json(body) => ("application/x-amz-json-1.1", body.to_string().into_bytes()),
            Content::Broken(text) => ("application/x-amz-json-1.1", text.clone().into_bytes()),
            Content::Xml(text) if self.status != 200 && !quoted.is_empty() => {
                let quoting = format!("<Message>{} ", quoted.replace('&', "&amp;").replace('<', "&lt;"));
                ("text/xml", text.replace("<Message>", &quoting).into_bytes())
            }
            Content::Xml(text) => ("text/xml", text.clone().into_bytes()),
            Content::Html => ("text/html", format!("{HTML}{quoted}").into_bytes()),
            Content::Empty => ("text/plain", Vec::new()),
        }
    }
}

const HTML: &str =
    "<html><head><title>Service Unavailable</title></head><body><h1>Service Unavailable</h1></body></html>";

impl From<SsmRefusal> for Reply {
    fn from(refusal: SsmRefusal) -> Self {
        Self::error(400, refusal.code, &refusal.message)
    }
}
