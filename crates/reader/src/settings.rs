//! Converts the command line into the inputs of the other modules. It also reads the environment variables
//! with secrets, which have no flag, because the process list would show it, and those of the AWS SDKs.
#![expect(clippy::disallowed_methods, reason = "the sub-keys and the token that the reader was given")]

use std::net::SocketAddr;
use std::path::Path;

use hyper::Uri;
use parameter_mirror_format::crypto::subkey::SubKey;
use parameter_mirror_format::value::Value;
use parameter_mirror_redis::{Password, RedisClient, Setting};
use parameter_mirror_ssm::credentials::region_of_environment;
use parameter_mirror_ssm::{Endpoint, Region, check_ca_bundle};

use crate::cli::{FallbackArgs, MirrorArgs};
use crate::failure::Failure;
use crate::fallback::{Fallback, SsmSelection};
use crate::mirrors::Mirrors;
use crate::serve::is_loopback;
use crate::ssm::Ssm;

/// Returns the requested mirrors. Does not connect yet.
pub fn mirrors(args: MirrorArgs) -> Result<Mirrors, Failure> {
    let mut settings = args.redis.settings().ok_or_else(|| {
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
pub async fn order(args: FallbackArgs) -> Result<Fallback, Failure> {
    let asks = !args.ssm.ssm_paths.is_empty() || !args.ssm.ssm_names.is_empty();
    let ssm = if asks {
        let ssm = ssm(args.ssm.region, &[]).await?;
        Some(SsmSelection { ssm, paths: args.ssm.ssm_paths, names: args.ssm.ssm_names })
    } else {
        None
    };
    Ok(Fallback { source: args.source, max_stale: args.max_stale, ssm_budget: args.ssm_budget, ssm })
}

/// Creates a client for SSM in a region, with this process's own credentials. `own` is where this process listens.
pub async fn ssm(region: Option<String>, own: &[SocketAddr]) -> Result<Ssm, Failure> {
    let given = |name: &str| std::env::var(name).ok().filter(|text| !text.is_empty());
    let region = match region.filter(|region| !region.is_empty()).map(Region::new) {
        Some(region) => Some(region),
        // Reads the profile too, which most processes do not need.
        None => region_of_environment().await,
    };
    let region = region.ok_or_else(|| {
        Failure::Settings(
            "which AWS region? Give --region, set AWS_REGION, or name one in the profile".to_owned(),
        )
    })?;
    // It becomes part of a host name.
    if !region.as_ref().bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
        let what = "the AWS Region is not a Region's name such as eu-central-1";
        return Err(Failure::Settings(what.to_owned()));
    }
    check_ca_bundle().map_err(|error| Failure::Settings(error.to_string()))?;
    let configured = ["AWS_ENDPOINT_URL_SSM", "AWS_ENDPOINT_URL"].into_iter().filter_map(given);
    Ok(Ssm::new(region, endpoint(configured, own)?))
}

/// Returns where SSM is, from the endpoints that the environment configures. `AWS_ENDPOINT_URL_SSM` may be set for the
/// programs beside this one: an endpoint that leads to `own`, where this process listens, is not SSM.
fn endpoint(configured: impl Iterator<Item = String>, own: &[SocketAddr]) -> Result<Endpoint, Failure> {
    let mut leads_here = false;
    for url in configured {
        let parsed = web(&url).ok_or_else(|| {
            // It is not shown, because it may contain a password.
            let what = "the endpoint of SSM is not a URL such as https://ssm.eu-central-1.amazonaws.com";
            Failure::Settings(what.to_owned())
        })?;
        if own.iter().any(|own| leads_to(&parsed, *own)) {
            leads_here = true;
        } else if leads_here {
            return Ok(Endpoint::Url(url));
        } else {
            // Left to the SDK, which knows how these variables and the profile count.
            return Ok(Endpoint::Configured);
        }
    }
    Ok(if leads_here { Endpoint::OfTheRegion } else { Endpoint::Configured })
}

/// Parses the URL of an endpoint: a host without user and password, which no AWS endpoint has.
fn web(url: &str) -> Option<Uri> {
    let uri: Uri = url.parse().ok()?;
    let is_web = matches!(uri.scheme_str(), Some("http" | "https"));
    let has_host =
        uri.authority().is_some_and(|host| !host.host().is_empty() && !host.as_str().contains('@'));
    (is_web && has_host && uri.query().is_none()).then_some(uri)
}

fn leads_to(url: &Uri, address: SocketAddr) -> bool {
    url.host().is_some_and(is_loopback) && url.port_u16() == Some(address.port())
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

    fn chosen(configured: &[&str]) -> Result<Endpoint, Failure> {
        let own = ["127.0.0.1:2773", "[::1]:2773"].map(|own| own.parse().unwrap());
        endpoint(configured.iter().map(|&url| url.to_owned()), &own)
    }

    #[test]
    fn what_leads_to_ourselves_is_not_ssm() {
        for own in ["http://127.0.0.1:2773", "http://localhost:2773/", "http://[::1]:2773"] {
            assert_eq!(chosen(&[own]).unwrap(), Endpoint::OfTheRegion);
            let other = "http://127.0.0.1:4566";
            assert_eq!(chosen(&[own, other]).unwrap(), Endpoint::Url(other.to_owned()));
        }
        for other in ["http://127.0.0.1:4566", "https://ssm.us-east-1.amazonaws.com"] {
            assert_eq!(chosen(&[other]).unwrap(), Endpoint::Configured);
        }
        assert_eq!(chosen(&[]).unwrap(), Endpoint::Configured);
    }

    #[test]
    fn what_is_no_endpoint_is_refused_and_not_shown() {
        for url in ["ssm", "ftp://ssm", "http://", "https://user:hunter2@ssm", "https://ssm/?a=b"] {
            let refused = chosen(&[url]).unwrap_err();
            assert!(matches!(refused, Failure::Settings(_)), "{url}");
            assert!(!refused.to_string().contains("hunter2"));
        }
    }
}
