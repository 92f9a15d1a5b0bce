//! The HTTP client below the SDK, with the proxies and the certificates that the environment names.

use std::path::PathBuf;
use std::time::Duration;

use aws_sdk_ssm::config::{RuntimeComponents, SharedHttpClient};
use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::tls::{self, TlsContext, TrustStore};
use aws_smithy_http_client::{Builder, ConnectorBuilder};
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
const END: &str = "-----END CERTIFICATE-----";

/// The file that `AWS_CA_BUNDLE` names cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("AWS_CA_BUNDLE: file {} {problem}", .path.display())]
pub struct CaBundleError {
    path: PathBuf,
    problem: String,
}

/// Checks the file that `AWS_CA_BUNDLE` names, if it is set.
pub fn check_ca_bundle() -> Result<(), CaBundleError> {
    ca_bundle().map(drop)
}

/// Returns the SDK's HTTP client, except that it trusts the certificates of `AWS_CA_BUNDLE`, which the SDK for Rust does
/// not read, in place of those of the system. `idle` is how long unused connections are kept.
pub(crate) async fn client(idle: Option<Duration>) -> SharedHttpClient {
    // The file may be on a slow disk.
    let bundle = tokio::task::spawn_blocking(ca_bundle).await.unwrap_or(Ok(None));
    let bundle = bundle.unwrap_or_else(|error| {
        tracing::warn!(%error, "the certificates of the system are trusted instead");
        None
    });
    let trusted = bundle.map(|pem| TrustStore::empty().with_pem_certificate(pem));
    let trusted = trusted.and_then(|store| TlsContext::builder().with_trust_store(store).build().ok());
    Builder::new().build_with_connector_fn(move |settings, components| {
        let mut connector = ConnectorBuilder::default()
            .tls_provider(tls::Provider::Rustls(tls::rustls_provider::CryptoMode::AwsLc))
            .proxy_config(ProxyConfig::from_env());
        if let Some(trusted) = &trusted {
            connector = connector.tls_context(trusted.clone());
        }
        connector.set_pool_idle_timeout(idle.map(Some));
        connector.set_connector_settings(settings.cloned());
        connector.set_sleep_impl(components.and_then(RuntimeComponents::sleep_impl));
        connector.build()
    })
}

/// Returns the certificates of `AWS_CA_BUNDLE`, PEM; `None` if it is not set.
fn ca_bundle() -> Result<Option<String>, CaBundleError> {
    let path = std::env::var_os("AWS_CA_BUNDLE").filter(|path| !path.is_empty());
    let Some(path) = path.map(PathBuf::from) else { return Ok(None) };
    let problem = |problem: String| CaBundleError { path: path.clone(), problem };
    let text = std::fs::read(&path).map_err(|error| problem(format!("is not readable: {error}")))?;
    let usable = usable(&String::from_utf8_lossy(&text));
    if usable.is_empty() {
        return Err(problem("holds no certificate in PEM".to_owned()));
    }
    Ok(Some(usable))
}

/// Returns the certificates of a bundle that the TLS library can use. It would panic at any other one, and the bundles of
/// systems hold some.
fn usable(bundle: &str) -> String {
    let usable = bundle.split_inclusive(END).filter_map(|block| {
        let block = &block[block.find(BEGIN)?..];
        let certificate = CertificateDer::from_pem_slice(block.as_bytes()).ok()?;
        RootCertStore::empty().add(certificate).ok()?;
        Some(format!("{block}\n"))
    });
    usable.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made with `openssl req -x509 -newkey ed25519 -nodes -days 36500 -subj /CN=test-ca`.
    const CERTIFICATE: &str = "\
-----BEGIN CERTIFICATE-----
MIIBOjCB7aADAgECAhQ3J7FSsRcFQwNHLC/eQvYIocPi6zAFBgMrZXAwEjEQMA4G
A1UEAwwHdGVzdC1jYTAgFw0yNjExMzAxMjIzNTFaGA8yMTI2MTEwNjEyMjM1MVow
EjEQMA4GA1UEAwwHdGVzdC1jYTAqMAUGAytlcAMhAPy/ni6G2558UkgWrAe3FegL
iHlv8nElcIhWWWYFEKcro1MwUTAdBgNVHQ4EFgQU1dHdejd3ymspvCTswmzMqkdY
aTIwHwYDVR0jBBgwFoAU1dHdejd3ymspvCTswmzMqkdYaTIwDwYDVR0TAQH/BAUw
AwEB/zAFBgMrZXADQQCYalrNL3hs+bhakP1mPmWJVrc8xFT0fNhcciVPhANOTW3t
OxYpTuQlWtmHKn46COdnnJoIqlIsxMZN2psVw2cB
-----END CERTIFICATE-----";

    #[test]
    fn what_the_tls_library_cannot_use_is_left_out() {
        let damaged = CERTIFICATE.replacen("MII", "MIJ", 1);
        let bundle = format!("# of the company\n{damaged}\n# another\n{CERTIFICATE}\n{BEGIN}\nrest");
        assert_eq!(usable(&bundle).trim(), CERTIFICATE.trim());
        for none in ["", "hunter2", &damaged, "-----BEGIN TRUSTED CERTIFICATE-----"] {
            assert_eq!(usable(none), "");
        }
    }
}
