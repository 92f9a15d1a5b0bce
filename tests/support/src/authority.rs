//! A certificate authority for one test, created by `openssl` in a folder.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::command;
use crate::process::clean_environment;

/// Creates an authority, valid for a day.
const AUTHORITY: &str =
    "openssl req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=test-ca -keyout ca.key -out ca.crt";

/// Creates a certificate of that authority with a name, for a host, valid for a day.
const CERTIFICATE: &str = r#"
openssl req -newkey rsa:2048 -nodes -subj "/CN=$1" -keyout "$1.key" -out "$1.csr"
printf 'subjectAltName=%s' "$2" > "$1.ext"
openssl x509 -req -in "$1.csr" -CA ca.crt -CAkey ca.key -CAcreateserial -days 1 -extfile "$1.ext" -out "$1.crt"
"#;

/// Creates an authority in a folder; returns its certificate (PEM).
pub(crate) async fn found(folder: &Path) -> PathBuf {
    openssl(folder, &[AUTHORITY]).await;
    folder.join("ca.crt")
}

/// Issues a certificate of a folder's authority for this host (`IP:...` or `DNS:...`); returns certificate
/// and key (PEM).
pub(crate) async fn certify(folder: &Path, name: &str, host: &str) -> [PathBuf; 2] {
    openssl(folder, &[CERTIFICATE, "certificate", name, host]).await;
    ["crt", "key"].map(|kind| folder.join(format!("{name}.{kind}")))
}

/// Returns the configuration of a server that presents a certificate.
pub(crate) fn server([certificate, key]: &[PathBuf; 2]) -> ServerConfig {
    let chain = CertificateDer::pem_file_iter(certificate).expect("a certificate");
    let chain = chain.collect::<Result<Vec<_>, _>>().expect("a certificate in PEM");
    let key = PrivateKeyDer::from_pem_file(key).expect("a key");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.expect("versions of TLS").with_no_client_auth();
    config.with_single_cert(chain, key).expect("the key of the certificate")
}

/// Runs a script of `openssl` commands, with arguments.
async fn openssl(folder: &Path, script: &[&str]) {
    let mut command = Command::new("sh");
    clean_environment(&mut command, folder);
    command.arg("-ec").args(script).current_dir(folder);
    let output = command::run(command, None).await;
    assert!(output.status.success(), "certificates: {}", output.stderr);
}
