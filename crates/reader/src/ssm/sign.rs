//! Signs a request with AWS Signature Version 4.

use std::time::SystemTime;

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4::SigningParams;
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{CONTENT_TYPE, HOST, HeaderValue, USER_AGENT};
use hyper::{Request, Uri};

/// The request cannot be built. Contains nothing of the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Unsignable;

/// Returns a request to `endpoint`, signed for its Region at a given time.
pub(super) fn signed(
    (endpoint, region): (&Uri, &str),
    target: &str,
    body: Bytes,
    credentials: &Credentials,
    now: SystemTime,
) -> Result<Request<Full<Bytes>>, Unsignable> {
    let authority = endpoint.authority().ok_or(Unsignable)?;
    // Set here, so that the signed host and the sent host cannot differ.
    let host = match authority.port() {
        Some(port) => format!("{}:{port}", authority.host()),
        None => authority.host().to_owned(),
    };
    let headers = [(HOST.as_str(), host.as_str()), (CONTENT_TYPE.as_str(), MEDIA), ("x-amz-target", target)];
    let instructions = {
        let request = SignableRequest::new(
            "POST",
            endpoint.to_string(),
            headers.into_iter(),
            SignableBody::Bytes(&body),
        );
        let identity = credentials.clone().into();
        let params = SigningParams::builder()
            .identity(&identity)
            .region(region)
            .name("ssm")
            .time(now)
            .settings(SigningSettings::default())
            .build()
            .map_err(|_| Unsignable)?
            .into();
        sign(request.map_err(|_| Unsignable)?, &params).map_err(|_| Unsignable)?.into_parts().0
    };
    let mut request =
        Request::post(endpoint).header(USER_AGENT, AGENT).body(Full::new(body)).map_err(|_| Unsignable)?;
    for (name, value) in headers {
        let value = HeaderValue::from_str(value).map_err(|_| Unsignable)?;
        request.headers_mut().insert(name, value);
    }
    // Not `apply_to_request_http1x`, which panics on an invalid header value.
    for header in instructions.into_parts().0 {
        let mut value = HeaderValue::from_str(header.value()).map_err(|_| Unsignable)?;
        value.set_sensitive(header.sensitive());
        request.headers_mut().insert(header.name(), value);
    }
    Ok(request)
}

/// The content type of SSM requests.
const MEDIA: &str = "application/x-amz-json-1.1";
/// For readers of `CloudTrail`. It is not signed, as with the SDKs, because proxies change it.
const AGENT: &str = concat!("parameter-mirror-reader/", env!("CARGO_PKG_VERSION"));

#[cfg(test)]
#[path = "sign_tests.rs"]
mod tests;
