//! The flags that say how to reach Redis: the same for operator and reader.

use std::path::{Path, PathBuf};

use crate::{Password, RedisSettings, Setting};
use parameter_mirror_format::value::Value;

/// How to reach Redis. Nothing secret is taken from the command line, where the process list would show it.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Redis")]
pub struct RedisArgs {
    /// `redis://host:port/db` or `rediss://…` for TLS, without a password
    #[arg(long, env = "PARAMETER_MIRROR_REDIS_URL", conflicts_with = "redis_url_file")]
    pub redis_url: Option<String>,

    /// File with the URL, which may hold user and password
    #[arg(long, env = "PARAMETER_MIRROR_REDIS_URL_FILE")]
    pub redis_url_file: Option<PathBuf>,

    /// ACL user
    #[arg(long, env = "PARAMETER_MIRROR_REDIS_USERNAME")]
    pub redis_username: Option<String>,

    /// File with the password
    #[arg(long, env = "PARAMETER_MIRROR_REDIS_PASSWORD_FILE")]
    pub redis_password_file: Option<PathBuf>,

    /// File with the CA certificates (PEM) to trust instead of the public ones
    #[arg(long, env = "PARAMETER_MIRROR_REDIS_CA_FILE")]
    pub redis_ca_file: Option<PathBuf>,

    /// File with the client certificate (PEM)
    #[arg(long, env = "PARAMETER_MIRROR_REDIS_CERT_FILE", requires = "redis_key_file")]
    pub redis_cert_file: Option<PathBuf>,

    /// File with the client key (PEM)
    #[arg(long, env = "PARAMETER_MIRROR_REDIS_KEY_FILE", requires = "redis_cert_file")]
    pub redis_key_file: Option<PathBuf>,

    /// First part of every key
    #[arg(long, env = "PARAMETER_MIRROR_REDIS_PREFIX", default_value = "pm:")]
    pub redis_prefix: String,
}

/// The URL was given with a password in it. It is not repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a password in --redis-url would be visible in the process list.\n       Put the URL into a file and give \
     --redis-url-file, or set PARAMETER_MIRROR_REDIS_URL_FILE."
)]
pub struct PasswordInUrl;

impl RedisArgs {
    /// The settings that the flags mean; `None` if there is no URL. Files are not read yet.
    pub fn settings(&self) -> Result<Option<RedisSettings>, PasswordInUrl> {
        let file = |path: &Path| Setting::File(path.to_owned());
        let url = match (&self.redis_url, &self.redis_url_file) {
            (Some(url), _) if has_password(url) => return Err(PasswordInUrl),
            (Some(url), _) => Setting::Value(Value::new(url.clone())),
            (None, Some(path)) => file(path),
            (None, None) => return Ok(None),
        };
        let mut settings = RedisSettings::new(url);
        settings.username = self.redis_username.clone().map(|username| Setting::Value(Value::new(username)));
        settings.password = self.redis_password_file.as_deref().map(file).map(Password::Given);
        settings.ca = self.redis_ca_file.as_deref().map(file);
        settings.client_cert = self.redis_cert_file.as_deref().map(file);
        settings.client_key = self.redis_key_file.as_deref().map(file);
        Ok(Some(settings))
    }
}

fn has_password(url: &str) -> bool {
    url.split_once("://")
        .and_then(|(_, rest)| rest.split('/').next()?.rsplit_once('@'))
        .is_some_and(|(credentials, _)| credentials.contains(':'))
}
