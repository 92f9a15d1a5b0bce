//! The flags that say how to reach Redis: the same for operator and reader.
#![expect(clippy::disallowed_methods, reason = "looks for a password in the URL")]

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use clap::builder::{StringValueParser, TypedValueParser};
use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{Arg, Command, Error};

use crate::{Password, RedisSettings, Setting};
use parameter_mirror_format::value::Value;

/// How to reach Redis. Nothing secret is taken from the command line, where the process list would show it.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Redis")]
pub struct RedisArgs {
    /// `redis://host:port/db` or `rediss://…` for TLS; `valkey://` and `valkeys://` mean the same. The variable may hold user and
    /// password, the flag may not
    #[arg(
        long,
        env = "PARAMETER_MIRROR_REDIS_URL",
        hide_env_values = true,
        conflicts_with = "redis_url_file",
        value_parser = UrlParser
    )]
    pub redis_url: Option<Value>,

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

/// Accepts a password in the variable, where nobody else sees it, and not in the flag. The error does not repeat it.
#[derive(Clone)]
struct UrlParser;

impl TypedValueParser for UrlParser {
    type Value = Value;

    fn parse_ref(&self, command: &Command, argument: Option<&Arg>, value: &OsStr) -> Result<Value, Error> {
        StringValueParser::new().parse_ref(command, argument, value).map(Value::new)
    }

    fn parse_ref_(
        &self,
        command: &Command,
        argument: Option<&Arg>,
        value: &OsStr,
        source: ValueSource,
    ) -> Result<Value, Error> {
        let url = self.parse_ref(command, argument, value)?;
        if source == ValueSource::CommandLine && has_password(url.expose()) {
            let message = "a password in --redis-url would be visible in the process list.\n       Put the URL into a file and give \
                           --redis-url-file, or set PARAMETER_MIRROR_REDIS_URL.";
            return Err(Error::raw(ErrorKind::ValueValidation, message).with_cmd(command));
        }
        Ok(url)
    }
}

impl RedisArgs {
    /// The settings that the flags mean; `None` if there is no URL. Files are not read yet.
    #[must_use]
    pub fn settings(&self) -> Option<RedisSettings> {
        let file = |path: &Path| Setting::File(path.to_owned());
        let url = match (&self.redis_url, &self.redis_url_file) {
            (Some(url), _) => Setting::Value(url.clone()),
            (None, Some(path)) => file(path),
            (None, None) => return None,
        };
        let mut settings = RedisSettings::new(url);
        settings.username = self.redis_username.clone().map(|username| Setting::Value(Value::new(username)));
        settings.password = self.redis_password_file.as_deref().map(file).map(Password::Given);
        settings.ca = self.redis_ca_file.as_deref().map(file);
        settings.client_cert = self.redis_cert_file.as_deref().map(file);
        settings.client_key = self.redis_key_file.as_deref().map(file);
        Some(settings)
    }
}

/// Whether a URL holds a password. The password may hold characters that should have been percent-encoded.
fn has_password(url: &str) -> bool {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    rest.rsplit_once('@').is_some_and(|(credentials, _)| credentials.contains(':'))
}
