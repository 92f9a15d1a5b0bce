//! How to reach Redis.
#![expect(clippy::disallowed_methods, reason = "the URL, password and certificates of Redis")]

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use redis::{ConnectionAddr, ConnectionInfo, IntoConnectionInfo as _};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

use crate::password::{Password, SignIn};
use crate::stream::Transport;
use parameter_mirror_format::value::Value;

const URL: &str = "URL";
const USERNAME: &str = "username";
const PASSWORD: &str = "password";
const CA: &str = "CA certificate";
const CLIENT_CERT: &str = "client certificate";
const CLIENT_KEY: &str = "client key";

const TWO_WAYS: &str = "is given, and yet an identity is to sign in instead of it: leave one of the two out";

/// A setting: an inline value, or a file that is read at each connect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Setting {
    /// The value itself.
    Value(Value),
    /// A file that holds the value. One line break at the end of the file is ignored.
    File(PathBuf),
}

/// How to reach Redis. A user name or password here overrides the one in the URL.
#[derive(Debug, Clone)]
pub struct RedisSettings {
    /// `redis://host:port/db`, or `rediss://` for TLS; `valkey://` and `valkeys://` mean the same.
    pub url: Setting,
    /// The ACL user, if not the default one.
    pub username: Option<Setting>,
    /// The password.
    pub password: Option<Password>,
    /// The only CA certificates to trust, PEM; without them, those of the system.
    pub ca: Option<Setting>,
    /// The client certificate chain for mutual TLS, PEM.
    pub client_cert: Option<Setting>,
    /// The key of the client certificate, PEM.
    pub client_key: Option<Setting>,
    /// The time limit for the first answer on a new connection.
    pub connect_timeout: Duration,
    /// The time limit for the answer to each command, if the caller's deadline is not earlier.
    pub response_timeout: Duration,
    /// How long a connection is used before it is replaced; without it, as long as it works.
    pub lifetime: Option<Duration>,
}

/// A setting that cannot be used. Says which one and why, never its content.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the Redis {setting} {problem}")]
pub struct SettingsError {
    setting: &'static str,
    problem: String,
}

impl Setting {
    fn read(&self, setting: &'static str) -> Result<Value, SettingsError> {
        let path = match self {
            Self::Value(value) => return Ok(value.clone()),
            Self::File(path) => path,
        };
        let unreadable = |why: &str| SettingsError::new(setting, &format!("file {} {why}", path.display()));
        let bytes = std::fs::read(path).map_err(|error| unreadable(&format!("is not readable: {error}")))?;
        let text = Value::from_utf8(bytes).ok_or_else(|| unreadable("is not text"))?;
        let line = text.expose();
        let line = line.strip_suffix('\n').map_or(line, |line| line.strip_suffix('\r').unwrap_or(line));
        if line.is_empty() {
            return Err(unreadable("is empty"));
        }
        Ok(if line.len() == text.len() { text } else { Value::from(line) })
    }
}

impl SettingsError {
    fn new(setting: &'static str, problem: &str) -> Self {
        Self { setting, problem: problem.to_owned() }
    }
}

impl RedisSettings {
    /// Creates the settings of a server that needs only its URL.
    #[must_use]
    pub fn new(url: Setting) -> Self {
        Self {
            url,
            username: None,
            password: None,
            ca: None,
            client_cert: None,
            client_key: None,
            connect_timeout: Duration::from_secs(2),
            response_timeout: Duration::from_secs(5),
            lifetime: None,
        }
    }

    /// Makes a password for each connection, and limits the lifetime of connections. Fails if a fixed
    /// password is also configured, because one of the two is a mistake.
    pub fn sign_in_with(
        &mut self,
        sign_in: Arc<dyn SignIn>,
        lifetime: Duration,
    ) -> Result<(), SettingsError> {
        if self.password.is_some() {
            return Err(SettingsError::new(PASSWORD, TWO_WAYS));
        }
        self.password = Some(Password::Made(sign_in));
        self.lifetime = Some(lifetime);
        Ok(())
    }

    /// Reads and checks all settings without connecting.
    pub fn check(&self) -> Result<(), SettingsError> {
        self.transport(None).map(drop)
    }

    /// Returns the host that the URL names.
    pub(crate) fn host(&self) -> Result<String, SettingsError> {
        match self.connection_info()?.addr() {
            ConnectionAddr::Tcp(host, _) | ConnectionAddr::TcpTls { host, .. } => Ok(host.clone()),
            _ => Err(SettingsError::new(URL, "names no host")),
        }
    }

    /// Returns what to connect with, from the current content of the files; `node` (`host:port`) replaces the
    /// address of the URL.
    pub(crate) fn transport(&self, node: Option<&str>) -> Result<Transport, SettingsError> {
        let info = self.connection_info()?;
        let (host, port, tls) = match info.addr() {
            ConnectionAddr::Tcp(host, port) => (host.clone(), *port, None),
            ConnectionAddr::TcpTls { host, port, .. } => (host.clone(), *port, Some(self.tls()?)),
            _ => return Err(SettingsError::new(URL, "names no host")),
        };
        let given = [(&self.ca, CA), (&self.client_cert, CLIENT_CERT), (&self.client_key, CLIENT_KEY)];
        if let Some((_, setting)) = given.iter().find(|(given, _)| given.is_some())
            && tls.is_none()
        {
            return Err(SettingsError::new(setting, "is given, but the URL is not rediss://"));
        }
        if let Some(Password::Made(_)) = &self.password {
            may_sign_in(&info, tls.is_some())?;
        }
        let (host, port) = match node {
            Some(node) => address(node).ok_or_else(|| {
                SettingsError::new(URL, "leads to a cluster whose nodes have no usable addresses")
            })?,
            None => (host, port),
        };
        Ok(Transport { host, port, tls, login: info.redis_settings().clone() })
    }

    fn connection_info(&self) -> Result<ConnectionInfo, SettingsError> {
        let url = self.url.read(URL)?;
        let Some(("redis" | "rediss" | "valkey" | "valkeys", rest)) = url.expose().split_once("://") else {
            return Err(SettingsError::new(
                URL,
                "does not begin with redis://, rediss://, valkey:// or valkeys://",
            ));
        };
        let after_the_host = rest.find(['/', '?', '#']).map_or("", |end| &rest[end..]);
        if after_the_host.contains('@') {
            return Err(SettingsError::new(
                URL,
                "has / ? or # before an @: in a user or a password, percent-encode them as %2F, %3F and %23",
            ));
        }
        if after_the_host.contains('#') {
            return Err(SettingsError::new(URL, "has a fragment (#...), which could only turn checks off"));
        }
        // The library's error is left out: it may repeat the URL, which may contain a password.
        let info = url.expose().into_connection_info();
        let info = info.map_err(|_| SettingsError::new(URL, "is not of the form redis://host:port/db"))?;
        let mut redis = info.redis_settings().clone().set_skip_set_lib_name();
        if let Some(username) = &self.username {
            redis = redis.set_username(username.read(USERNAME)?.expose());
        }
        if let Some(Password::Given(password)) = &self.password {
            redis = redis.set_password(password.read(PASSWORD)?.expose());
        }
        Ok(info.set_redis_settings(redis))
    }

    /// Builds the TLS configuration: trusted roots and the client certificate.
    fn tls(&self) -> Result<Arc<ClientConfig>, SettingsError> {
        let read = |setting: &Option<Setting>, name| setting.as_ref().map(|s| s.read(name)).transpose();
        let trusted = match read(&self.ca, CA)? {
            Some(pem) => roots(certificates(&pem, CA)?)?,
            None => roots(rustls_native_certs::load_native_certs().certs)?,
        };
        if trusted.is_empty() {
            return Err(SettingsError::new(CA, "is missing, and this machine trusts no authority"));
        }
        let config = ClientConfig::builder().with_root_certificates(trusted);
        let config = match (read(&self.client_cert, CLIENT_CERT)?, read(&self.client_key, CLIENT_KEY)?) {
            (None, None) => config.with_no_client_auth(),
            (Some(_), None) => return Err(SettingsError::new(CLIENT_KEY, "is missing")),
            (None, Some(_)) => return Err(SettingsError::new(CLIENT_CERT, "is missing")),
            (Some(cert), Some(key)) => {
                let chain = certificates(&cert, CLIENT_CERT)?;
                let key = PrivateKeyDer::from_pem_slice(key.expose().as_bytes())
                    .map_err(|_| SettingsError::new(CLIENT_KEY, "is not a private key in PEM"))?;
                let config = config.with_client_auth_cert(chain, key);
                config.map_err(|_| SettingsError::new(CLIENT_KEY, "is not that of the client certificate"))?
            }
        };
        Ok(Arc::new(config))
    }
}

/// Checks that a made password is only sent encrypted. It is valid for other connections until it expires, so
/// nobody may see it in transit.
fn may_sign_in(info: &ConnectionInfo, tls: bool) -> Result<(), SettingsError> {
    if !tls {
        return Err(SettingsError::new(URL, "is not rediss://, and an identity signs in over TLS only"));
    }
    let login = info.redis_settings();
    if login.password().is_some() {
        return Err(SettingsError::new(PASSWORD, TWO_WAYS));
    }
    if login.username().is_none_or(str::is_empty) {
        return Err(SettingsError::new(USERNAME, "is missing, and an identity signs in as a user"));
    }
    Ok(())
}

/// Parses the address of a cluster node.
fn address(node: &str) -> Option<(String, u16)> {
    // An IPv6 address contains colons.
    let (host, port) = node.rsplit_once(':')?;
    Some((host.to_owned(), port.parse().ok()?))
}

/// Parses the certificates of a PEM text. There must be at least one, and each must be readable.
fn certificates(pem: &Value, setting: &'static str) -> Result<Vec<CertificateDer<'static>>, SettingsError> {
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.expose().as_bytes()).collect();
    match certificates {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        _ => Err(SettingsError::new(setting, "is not a certificate in PEM")),
    }
}

/// Builds the trusted roots. Certificates that this library cannot use are skipped, because the system store
/// may contain some; it is an error if none is left.
fn roots(certificates: Vec<CertificateDer<'static>>) -> Result<RootCertStore, SettingsError> {
    let mut roots = RootCertStore::empty();
    let (_, unusable) = roots.add_parsable_certificates(certificates);
    if roots.is_empty() && unusable > 0 {
        return Err(SettingsError::new(CA, "is not usable"));
    }
    Ok(roots)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_url(url: &str) -> RedisSettings {
        RedisSettings::new(given(url))
    }

    fn given(text: &str) -> Setting {
        Setting::Value(Value::from(text))
    }

    #[test]
    fn a_wrong_url_is_not_repeated() {
        for url in [
            "",
            "hunter2",
            "http://:hunter2@host",
            "redis://:hunter2@",
            "rediss://:hunter2@host:6379/#insecure",
            "redis://:hunter2@host:6379/hunter2",
            "redis://0.0.0.0/hunter2",
            "unix:///run/hunter2.sock",
        ] {
            let error = with_url(url).check().unwrap_err();
            assert_eq!(error.setting, URL, "{url}");
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn addresses_of_ipv6_are_in_brackets_in_urls_and_bare_in_redirections() {
        let settings = with_url("redis://[2001:db8::1]:7000");
        let address = |node| settings.transport(node).unwrap().address();
        assert_eq!(address(None), "[2001:db8::1]:7000");
        assert_eq!(address(Some("2001:db8::2:7001")), "[2001:db8::2]:7001");
        assert_eq!(settings.host().unwrap(), "2001:db8::1");
    }

    #[test]
    fn the_schemes_of_valkey_mean_the_same() {
        let is_tls = |url: &str| with_url(url).transport(None).unwrap().tls.is_some();
        assert!(!is_tls("valkey://me:hunter2@host:6379/1"));
        assert!(is_tls("valkeys://host"));
    }

    #[test]
    fn a_password_that_must_be_encoded_is_named_as_the_problem() {
        for password in ["hunter#2", "hunter/2", "hunter?2", "1/hunter2", "1?hunter2", "1#@hunter2"] {
            let error = with_url(&format!("redis://me:{password}@host:6379/0")).check().unwrap_err();
            assert!(error.to_string().contains("percent-encode"), "{error}");
            assert!(!error.to_string().contains("hunter"), "{error}");
        }
        for (written, meant) in
            [("a%23%2F%3F%40b", "a#/?@b"), ("a@b:c", "a@b:c"), ("100%", "100%"), ("\"'$`", "\"'$`")]
        {
            let info = with_url(&format!("redis://me:{written}@host/0")).connection_info().unwrap();
            assert_eq!(info.redis_settings().password(), Some(meant));
            assert_eq!(info.redis_settings().username(), Some("me"));
        }
    }

    #[test]
    fn certificates_need_tls_and_each_other() {
        let mut settings = with_url("redis://host");
        settings.ca = Some(given("x"));
        assert_eq!(settings.check().unwrap_err().setting, CA);
        let mut settings = with_url("rediss://host");
        settings.client_key = Some(given("hunter2"));
        assert_eq!(settings.check().unwrap_err().to_string(), "the Redis client certificate is missing");
        settings.client_key = None;
        settings.ca = Some(given("hunter2"));
        assert_eq!(
            settings.check().unwrap_err().to_string(),
            "the Redis CA certificate is not a certificate in PEM"
        );
    }

    /// A signer that is never asked.
    #[derive(Debug)]
    struct Nobody;

    impl SignIn for Nobody {
        fn password<'a>(&'a self, _: &'a str) -> crate::PasswordFuture<'a> {
            Box::pin(async { Err("nobody".to_owned()) })
        }

        fn refused(&self, _: &str) -> String {
            String::new()
        }
    }

    #[test]
    fn an_identity_signs_in_over_tls_as_a_user_and_without_a_password() {
        let signed = |url: &str, password: Option<&str>| {
            let mut settings = with_url(url);
            settings.password = password.map(|password| Password::Given(given(password)));
            settings.sign_in_with(Arc::new(Nobody), Duration::from_secs(1)).and_then(|()| settings.check())
        };
        let refused = |url, password| signed(url, password).unwrap_err().to_string();
        assert_eq!(
            refused("redis://me@host", None),
            "the Redis URL is not rediss://, and an identity signs in over TLS only"
        );
        assert_eq!(
            refused("rediss://host", None),
            "the Redis username is missing, and an identity signs in as a user"
        );
        let two_ways = format!("the Redis password {TWO_WAYS}");
        assert_eq!(refused("rediss://me:hunter2@host", None), two_ways);
        assert_eq!(refused("rediss://me@host", Some("hunter2")), two_ways);
        assert_eq!(signed("rediss://me@host", None), Ok(()));
    }

    #[test]
    fn a_file_may_end_with_a_line_end_but_not_be_empty() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("password");
        let mut settings = with_url("redis://:old@host");
        settings.password = Some(Password::Given(Setting::File(path.clone())));
        let missing = settings.check().unwrap_err();
        assert!(missing.to_string().contains("password file"), "{missing}");
        std::fs::write(&path, "\n").unwrap();
        assert!(settings.check().unwrap_err().to_string().ends_with("is empty"));
        std::fs::write(&path, "hunter2 \r\n").unwrap();
        let info = settings.connection_info().unwrap();
        assert_eq!(info.redis_settings().password(), Some("hunter2 "));
        assert!(!format!("{settings:?}").contains("old@"));
    }
}
