//! Checks that a request comes from this machine and is addressed to it.

use std::net::IpAddr;

use axum::extract::Request;
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

/// Headers with which proxies name the original client, in lower case and with hyphens. `*` at the end makes
/// a name a prefix.
const OF_PROXIES: [&str; 13] = [
    "forwarded",
    "via",
    "x-forwarded*",
    "x-original-*",
    "x-real-ip",
    "x-client-ip",
    "x-cluster-client-ip",
    "x-proxyuser-ip",
    "true-client-ip",
    "cf-connecting-ip",
    "fastly-client-ip",
    "x-envoy-external-address",
    "x-rewrite-url",
];

/// Refuses requests that a proxy forwards, and host names that point here from a browser (DNS rebinding).
/// Both would let someone else in.
pub(super) async fn only_from_here(request: Request, next: Next) -> Response {
    match refusal(&request) {
        Some(refusal) => refusal.into_response(),
        None => next.run(request).await,
    }
}

fn refusal(request: &Request) -> Option<(StatusCode, &'static str)> {
    let headers = request.headers();
    if headers.keys().any(is_of_a_proxy) {
        return Some((StatusCode::BAD_REQUEST, "requests that a proxy passes on are not answered"));
    }
    // A request may contain several Host headers, and the host again in its target (RFC 9112, 3.2).
    let named = request.uri().authority().map(axum::http::uri::Authority::as_str);
    match single(headers, &header::HOST) {
        Some(host) if is_loopback(host) && named.is_none_or(is_loopback) => None,
        _ => Some((StatusCode::FORBIDDEN, "the Host is not the loopback")),
    }
}

/// Whether a header is one of [`OF_PROXIES`]. Some programs treat `X_Forwarded_For` as the same header.
fn is_of_a_proxy(name: &HeaderName) -> bool {
    let name = name.as_str().replace('_', "-");
    OF_PROXIES.iter().any(|pattern| match pattern.strip_suffix('*') {
        Some(beginning) => name.starts_with(beginning),
        None => name == *pattern,
    })
}

/// Returns the text of a header that occurs exactly once.
pub(super) fn single<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h str> {
    let mut all = headers.get_all(name).iter();
    let (first, second) = (all.next()?, all.next());
    if second.is_some() { None } else { first.to_str().ok() }
}

/// Whether a host name, with or without a port, is the loopback.
#[must_use]
pub fn is_loopback(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    name.eq_ignore_ascii_case("localhost")
        || name.parse().is_ok_and(|ip: IpAddr| ip.to_canonical().is_loopback())
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;

    #[test]
    fn only_names_of_the_loopback_lead_here() {
        for host in [
            "127.0.0.1:2773",
            "localhost",
            "LOCALHOST:1",
            "[::1]:2773",
            "[::1]",
            "[::ffff:127.0.0.1]:1",
            "127.1.2.3",
        ] {
            assert!(is_loopback(host), "{host}");
        }
        for host in [
            "",
            "example.com",
            "10.0.0.1:2773",
            "localhost.example.com",
            "[::2]:1",
            "::1",
            "127.0.0.1.example.com",
        ] {
            assert!(!is_loopback(host), "{host}");
        }
    }

    fn is_answered(uri: &str, headers: &[(&str, &str)]) -> bool {
        let mut request = Request::builder().uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        refusal(&request.body(Body::empty()).unwrap()).is_none()
    }

    #[test]
    fn what_a_proxy_passes_on_is_refused_in_every_spelling() {
        let host = ("Host", "localhost");
        assert!(is_answered("/", &[host, ("X-Amz-Target", "AmazonSSM.GetParameter"), ("X-Trace", "1")]));
        for name in [
            "X-Forwarded-For",
            "x-forwarded-for",
            "X-FORWARDED-FOR",
            "X_Forwarded_For",
            "X-Forwarded",
            "X-Forwarded-Host",
            "X-Forwarded-Proto",
            "Forwarded",
            "Via",
            "X-Real-IP",
            "X-Original-Host",
            "True-Client-IP",
        ] {
            assert!(!is_answered("/", &[host, (name, "")]), "{name}");
        }
    }

    #[test]
    fn a_host_that_is_named_twice_or_in_the_target_is_the_loopback_each_time() {
        let host = ("Host", "localhost");
        assert!(is_answered("http://127.0.0.1:2773/", &[host]));
        assert!(!is_answered("/", &[]));
        assert!(!is_answered("/", &[host, ("host", "example.com")]));
        assert!(!is_answered("/", &[("host", "example.com"), host]));
        assert!(!is_answered("http://example.com/", &[host]));
    }
}
