//! The password for ElastiCache and MemoryDB: a request to connect, signed with an AWS identity.
//!
//! "Authenticating with IAM" in the guides of both services: a presigned `GET` of the cache's name, valid for 15
//! minutes, without its scheme. Nobody sends it as a request: the service computes the signature itself and asks IAM.

use std::fmt::Write as _;
use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SignatureLocation, SigningSettings, sign};
use aws_sigv4::sign::v4::SigningParams;
use clap::ValueEnum;
use parameter_mirror_format::value::Value;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// The maximum that the services allow.
const EXPIRES: Duration = Duration::from_mins(15);
/// All but the unreserved characters of RFC 3986, as signatures require.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
const SIGNATURE: &str = "X-Amz-Signature";

/// An AWS service that provides Redis and supports IAM authentication.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Service {
    /// ElastiCache with nodes of its own
    #[value(name = "elasticache")]
    ElastiCache,
    /// ElastiCache Serverless
    #[value(name = "elasticache-serverless")]
    ElastiCacheServerless,
    /// MemoryDB
    #[value(name = "memorydb")]
    MemoryDb,
}

/// The cache to sign in to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cache {
    service: Service,
    name: String,
    region: String,
}

/// A name that no cache can have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no name of a cache, which has letters, digits and hyphens: give the id of the replication group, or the name of the \
     serverless cache or of the MemoryDB cluster, and not its endpoint"
)]
pub struct NotACache(String);

/// The request cannot be signed. The error says nothing about its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the request to connect cannot be signed")]
pub struct Unsignable;

impl Service {
    /// Returns the service name in signatures.
    const fn signing_name(self) -> &'static str {
        match self {
            Self::ElastiCache | Self::ElastiCacheServerless => "elasticache",
            Self::MemoryDb => "memorydb",
        }
    }

    /// Returns the action that IAM has to allow, on the cache and on the user.
    #[must_use]
    pub const fn action(self) -> &'static str {
        match self {
            Self::ElastiCache | Self::ElastiCacheServerless => "elasticache:Connect",
            Self::MemoryDb => "memorydb:Connect",
        }
    }
}

impl Cache {
    /// A cache by its name in a region.
    pub fn new(service: Service, name: &str, region: String) -> Result<Self, NotACache> {
        let is_name = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
        if !is_name {
            return Err(NotACache(name.to_owned()));
        }
        // The services store names in lower case, however they were created, and the name is signed.
        Ok(Self { service, name: name.to_ascii_lowercase(), region })
    }

    /// Returns the service of the cache.
    #[must_use]
    pub const fn service(&self) -> Service {
        self.service
    }

    /// For people: `elasticache shop-cache in us-east-1`.
    #[must_use]
    pub fn description(&self) -> String {
        format!("{} {} in {}", self.service.signing_name(), self.name, self.region)
    }

    /// Returns the token with which a user signs in now.
    pub fn token(&self, user: &str, credentials: &Credentials, now: SystemTime) -> Result<Value, Unsignable> {
        let mut request =
            format!("{}/?Action=connect&User={}", self.name, utf8_percent_encode(user, ESCAPED));
        if self.service == Service::ElastiCacheServerless {
            request.push_str("&ResourceType=ServerlessCache");
        }
        for (name, value) in self.signature(&format!("http://{request}"), credentials, now)? {
            write!(request, "&{name}={}", utf8_percent_encode(&value, ESCAPED)).map_err(|_| Unsignable)?;
        }
        Ok(Value::new(request))
    }

    /// Returns the parameters that make the URL a signed one, the signature last.
    fn signature(
        &self,
        url: &str,
        credentials: &Credentials,
        now: SystemTime,
    ) -> Result<Vec<(&'static str, String)>, Unsignable> {
        let mut settings = SigningSettings::default();
        settings.signature_location = SignatureLocation::QueryParams;
        settings.expires_in = Some(EXPIRES);
        let identity = credentials.clone().into();
        let params = SigningParams::builder()
            .identity(&identity)
            .region(&self.region)
            .name(self.service.signing_name())
            .time(now)
            .settings(settings)
            .build()
            .map_err(|_| Unsignable)?
            .into();
        let request = SignableRequest::new("GET", url, std::iter::empty(), SignableBody::Bytes(b""))
            .map_err(|_| Unsignable)?;
        let (_, signed) = sign(request, &params).map_err(|_| Unsignable)?.into_parts().0.into_parts();
        let mut signed: Vec<_> = signed.into_iter().map(|(name, value)| (name, value.into_owned())).collect();
        signed.sort_by_key(|(name, _)| *name == SIGNATURE);
        Ok(signed)
    }
}

#[cfg(test)]
mod tests;
