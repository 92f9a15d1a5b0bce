//! Converts the command line into the inputs of the other modules. It also reads the environment variables
//! with secrets, which have no flag, because the process list would show it, and those of the AWS SDKs.
#![expect(clippy::disallowed_methods, reason = "the sub-keys and the token that the reader was given")]

use std::net::SocketAddr;
use std::path::Path;

use hyper::Uri;
use parameter_mirror_format::crypto::subkey::SubKey;
use parameter_mirror_format::value::Value;
use parameter_mirror_redis::{Password, RedisClient, Setting};

use crate::cli::{FallbackArgs, MirrorArgs};
use crate::failure::Failure;
use crate::fallback::{Fallback, SsmSelection};
use crate::mirrors::Mirrors;
use crate::serve::is_loopback;
use crate::ssm::Ssm;
use crate::ssm::credentials::Environment;

/// Returns the requested mirrors. Does not connect yet.
pub fn mirrors(args: MirrorArgs) -> Result<Mirrors, Failure> {
    let settings = args.redis.settings()?;
    let mut settings = settings.ok_or_else(|| {
        Failure::Settings("where is Redis? Give --redis-url, or set PARAMETER_MIRROR_REDIS_URL".to_owned())
    })?;
    if settings.password.is_none() {
        settings.password =
            secret("PARAMETER_MIRROR_REDIS_PASSWORD").map(|text| Password::Given(Setting::Value(text)));
    }
    settings.connect_timeout = settings.connect_timeout.min(args.budget);
    settings.response_timeout = args.budget;
    Ok(Mirrors {
        servers: RedisClient::new(settings),
        prefix: args.redis.redis_prefix,
        names: args.mirrors,
        sub_keys: sub_keys(args.sub_key_file.as_deref())?,
        least: args.require_encryption,
        budget: args.budget,
    })
}

/// Returns the reading order, with SSM if it may be asked.
pub fn order(args: FallbackArgs) -> Result<Fallback, Failure> {
    let asks = !args.ssm.ssm_paths.is_empty() || !args.ssm.ssm_names.is_empty();
    let asked = asks.then(|| {
        let ssm = ssm(args.ssm.region, None)?;
        Ok::<_, Failure>(SsmSelection { ssm, paths: args.ssm.ssm_paths, names: args.ssm.ssm_names })
    });
    Ok(Fallback {
        source: args.source,
        max_stale: args.max_stale,
        ssm_budget: args.ssm_budget,
        ssm: asked.transpose()?,
    })
}

/// Creates a client for SSM in a region, with this process's own credentials. `AWS_ENDPOINT_URL_SSM` may be
/// set for the programs beside this one: an endpoint that points to `own`, the address this process listens
/// on, is not used as SSM.
pub fn ssm(region: Option<String>, own: Option<SocketAddr>) -> Result<Ssm, Failure> {
    let given = |name: &str| std::env::var(name).ok().filter(|text| !text.is_empty());
    let region = region.or_else(|| given("AWS_DEFAULT_REGION"));
    let region = region
        .ok_or_else(|| Failure::Settings("which AWS region? Give --region, or set AWS_REGION".to_owned()))?;
    let is_ssm = |url: &String| !own.is_some_and(|own| leads_to(url, own));
    let endpoint =
        given("AWS_ENDPOINT_URL_SSM").filter(is_ssm).or_else(|| given("AWS_ENDPOINT_URL").filter(is_ssm));
    Ssm::new(region, endpoint, Environment::new(given)).map_err(|error| Failure::Settings(error.to_string()))
}

fn leads_to(url: &str, address: SocketAddr) -> bool {
    let Ok(url) = url.parse::<Uri>() else { return false };
    let is_loopback = url.host().is_some_and(is_loopback);
    is_loopback && url.port_u16() == Some(address.port())
}

/// Returns the text of a file without its line break, or the value of the variable.
pub fn text_of(file: Option<&Path>, variable: &str) -> Result<Option<Value>, Failure> {
    let Some(path) = file else { return Ok(secret(variable)) };
    let unreadable =
        |why: &dyn std::fmt::Display| Failure::Settings(format!("file {}: {why}", path.display()));
    let bytes = std::fs::read(path).map_err(|error| unreadable(&error))?;
    let text = Value::from_utf8(bytes).ok_or_else(|| unreadable(&"it is not text"))?;
    Ok(Some(Value::from(text.expose().trim_end())))
}

fn secret(variable: &str) -> Option<Value> {
    std::env::var(variable).ok().filter(|text| !text.is_empty()).map(Value::new)
}

fn sub_keys(file: Option<&Path>) -> Result<Vec<SubKey>, Failure> {
    let Some(text) = text_of(file, "PARAMETER_MIRROR_SUB_KEYS")? else { return Ok(Vec::new()) };
    let keys = text.expose().split([',', '\n']).map(str::trim).filter(|line| !line.is_empty());
    let keys = keys.map(SubKey::parse).collect::<Result<Vec<_>, _>>();
    let keys = keys.map_err(|error| {
        Failure::Settings(format!("the sub-keys: {error}, as `parameter-mirror key` prints it"))
    })?;
    // Without a sub-key nothing would be verified, and nobody would notice.
    if keys.is_empty() {
        return Err(Failure::Settings("the sub-keys: the file, or the variable, holds none".to_owned()));
    }
    Ok(keys)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_leads_to_ourselves_is_not_ssm() {
        let own = "127.0.0.1:2773".parse().unwrap();
        for url in ["http://127.0.0.1:2773", "http://localhost:2773/"] {
            assert!(leads_to(url, own), "{url}");
        }
        for url in ["http://127.0.0.1:4566", "https://ssm.us-east-1.amazonaws.com", "nonsense"] {
            assert!(!leads_to(url, own), "{url}");
        }
    }
}
