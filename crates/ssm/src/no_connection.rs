//! Why there is no connection, for people.
//!
//! The cause is deep below the SDK's error. Only texts of the operating system, the resolver, the proxy's tunnel and the
//! TLS library are shown, which hold no values; a URL of a proxy may hold a password, and is not among them.

use std::error::Error;
use std::io;

use rustls::CertificateError;

/// What the resolver's errors begin with, which the standard library gives no kind of their own.
const RESOLVER: &str = "failed to lookup address information";
/// What the errors of a tunnel through a proxy begin with. Their type is private.
const TUNNEL: &str = "tunnel error: ";

/// Returns the reason, as far as it is known.
pub(crate) fn why(error: &(dyn Error + 'static)) -> String {
    if let Some(error) = causes(error).find_map(|cause| cause.downcast_ref::<rustls::Error>()) {
        return of_tls(error);
    }
    let texts = || causes(error).map(ToString::to_string);
    let why = texts().find(|text| text.starts_with(RESOLVER)).map_or_else(
        || deepest_kind(error).map(|kind| kind.to_string()),
        |text| Some(format!("no such host ({text})")),
    );
    match (texts().find_map(|text| text.strip_prefix(TUNNEL).map(str::to_owned)), why) {
        (None, why) => why.unwrap_or_else(|| "for an unknown reason".to_owned()),
        (Some(tunnel), None) => format!("the proxy (HTTPS_PROXY) does not lead there: {tunnel}"),
        (Some(tunnel), Some(why)) => {
            format!("the proxy (HTTPS_PROXY) does not lead there: {tunnel}, {why}")
        }
    }
}

fn deepest_kind(error: &(dyn Error + 'static)) -> Option<io::ErrorKind> {
    let kinds = causes(error).filter_map(|cause| cause.downcast_ref::<io::Error>()).map(io::Error::kind);
    kinds.filter(|kind| *kind != io::ErrorKind::Other).last()
}

fn of_tls(error: &rustls::Error) -> String {
    match error {
        rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer) => {
            "its certificate is of an authority that is not trusted (UnknownIssuer). Name the file with the authority's certificate in \
             AWS_CA_BUNDLE"
                .to_owned()
        }
        rustls::Error::InvalidCertificate(_) => format!("its certificate is not accepted ({error})"),
        rustls::Error::InvalidMessage(_) => format!("it does not speak TLS ({error})"),
        _ => format!("no TLS ({error})"),
    }
}

/// Returns an error and its causes, also those inside of errors of the operating system, which hide one in each.
fn causes<'e>(error: &'e (dyn Error + 'static)) -> impl Iterator<Item = &'e (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&cause| {
        let inner = cause.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        inner.map(|inner| inner as &(dyn Error + 'static)).or_else(|| cause.source())
    })
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("https://me:hunter2@proxy")]
    struct Outer(#[source] io::Error);

    #[rstest]
    #[case::refused(io::ErrorKind::ConnectionRefused.into(), "connection refused")]
    #[case::deep(io::Error::other(io::Error::from(io::ErrorKind::ConnectionReset)), "connection reset")]
    #[case::unknown(io::Error::other("hunter2"), "for an unknown reason")]
    #[case::not_trusted(
        io::Error::new(
            io::ErrorKind::InvalidData,
            rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer)
        ),
        "AWS_CA_BUNDLE"
    )]
    #[case::expired(
        io::Error::other(rustls::Error::InvalidCertificate(CertificateError::Expired)),
        "its certificate is not accepted"
    )]
    #[case::tunnel(
        io::Error::other("tunnel error: unsuccessful"),
        "HTTPS_PROXY) does not lead there: unsuccessful"
    )]
    fn the_deepest_known_cause_is_named(#[case] error: io::Error, #[case] says: &str) {
        let why = why(&Outer(error));
        assert!(why.contains(says) && !why.contains("hunter2"), "{why}");
    }
}
