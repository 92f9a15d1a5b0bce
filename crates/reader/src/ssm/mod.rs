//! An SSM client without an SDK: signed requests, complete answers only, and a deadline for every call.
//!
//! The reader starts tasks while SSM may be down, so a call ends at the caller's deadline, whatever the
//! server does.

mod answers;
pub mod credentials;
pub mod error;
mod http;
mod read;
mod sealed;
mod sign;
#[cfg(test)]
mod testing;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use hyper::body::Bytes;
use hyper::{StatusCode, Uri};
use parameter_mirror_format::content::entry::ParameterType;
use parameter_mirror_format::value::Value;

use self::credentials::{Chain, Environment};
pub use self::error::{SetupError, SsmError};
use self::error::{invalid, refuses_credentials, unanswered};
use self::http::{Answer, Budget, Http};
use self::read::Read;
use self::sign::signed;

/// A client for the parameters of one account in one Region. Clones share connections and credentials.
#[derive(Clone)]
pub struct Ssm(Arc<Shared>);

struct Shared {
    region: String,
    endpoint: Uri,
    http: Http,
    credentials: Chain,
}

/// The operations that are forwarded for callers. No other operation can be signed for them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// One name.
    GetParameter,
    /// Up to ten names.
    GetParameters,
    /// One page of the parameters below a path.
    GetParametersByPath,
}

impl Operation {
    /// Parses the header `x-amz-target`, which must match exactly.
    #[must_use]
    pub fn of(target: &str) -> Option<Self> {
        [Self::GetParameter, Self::GetParameters, Self::GetParametersByPath]
            .into_iter()
            .find(|operation| operation.target() == target)
    }

    /// Returns the header `x-amz-target`.
    #[must_use]
    pub fn target(self) -> &'static str {
        match self {
            Self::GetParameter => "AmazonSSM.GetParameter",
            Self::GetParameters => "AmazonSSM.GetParameters",
            Self::GetParametersByPath => "AmazonSSM.GetParametersByPath",
        }
    }
}

/// A parameter, without its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parameter {
    /// The type in SSM.
    pub kind: ParameterType,
    /// The version in SSM.
    pub version: i64,
    /// When SSM last modified the parameter, Unix milliseconds.
    pub date: i64,
    /// The decrypted value.
    pub value: Value,
}

impl Ssm {
    /// Creates a client for a Region, with the credentials that the environment configures. The endpoint is
    /// `AWS_ENDPOINT_URL_SSM` or `AWS_ENDPOINT_URL`, and the endpoint of the Region without either. FIPS and
    /// dual-stack endpoints must be set explicitly. Sends nothing yet.
    pub fn new(
        region: String,
        endpoint: Option<String>,
        environment: Environment,
    ) -> Result<Self, SetupError> {
        if region.is_empty() || !region.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
            return Err(SetupError::Region);
        }
        let endpoint = endpoint.unwrap_or_else(|| regional("ssm", &region));
        let endpoint = base(&endpoint).ok_or(SetupError::Endpoint)?;
        let http = Http::new();
        let credentials = Chain::new(environment, region.clone(), http.clone());
        Ok(Self(Arc::new(Shared { region, endpoint, http, credentials })))
    }

    /// Reads all selections, completely or not at all: everything below the paths, on every level, and the
    /// names, which may have selectors. All values are decrypted.
    ///
    /// The keys are *names as selected* (docs/design/formats.md): they begin with `/` and keep their
    /// selector. A name without selector replaces the same entry of a path. An absent name is an error, and
    /// so is a path with nothing below it.
    pub async fn read(
        &self,
        paths: &[String],
        names: &[String],
        within: Duration,
    ) -> Result<BTreeMap<String, Parameter>, SsmError> {
        Read::new(&self.0, within).all(paths, names).await
    }

    /// Forwards a request that no mirror covers, with the reader's own signature and headers. Returns the
    /// answer as it is, including errors.
    ///
    /// There is no retry, because the caller is an SDK that retries itself.
    pub async fn forward(
        &self,
        operation: Operation,
        body: Bytes,
        within: Duration,
    ) -> Result<(StatusCode, Bytes), SsmError> {
        let answer = self.0.exchange(operation.target(), body, &mut Budget::new(within)).await?;
        Ok((answer.status, answer.body))
    }
}

impl Shared {
    /// Runs one signed exchange, whatever the status of the answer.
    async fn exchange(&self, target: &str, body: Bytes, budget: &mut Budget) -> Result<Answer, SsmError> {
        let credentials = self.credentials.provide(budget).await.map_err(SsmError::CredentialsUnavailable)?;
        let now = SystemTime::now();
        let request = signed((&self.endpoint, &self.region), target, body, &credentials, now)
            .map_err(|_| invalid("the request", "it cannot be built of what was given"))?;
        let operation = target.rsplit('.').next().unwrap_or_default();
        let sent = self.http.send(request, budget.ends()).await;
        let answer = sent.map_err(|failure| unanswered(operation, &failure))?;
        if refuses_credentials(&answer) {
            self.credentials.refused(&credentials);
        }
        Ok(answer)
    }
}

/// Returns the endpoint of a service in a Region. Regions in China have their own domain
/// (<https://docs.aws.amazon.com/general/latest/gr/rande.html>); endpoints of other partitions must be set
/// explicitly.
fn regional(service: &str, region: &str) -> String {
    let domain = if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
    format!("https://{service}.{region}.{domain}")
}

/// Parses an endpoint as the URI that requests are sent to.
fn base(endpoint: &str) -> Option<Uri> {
    let uri: Uri = format!("{}/", endpoint.trim_end_matches('/')).parse().ok()?;
    let is_web = matches!(uri.scheme_str(), Some("http" | "https"));
    // A `user:password@` would have to be signed or dropped; no AWS endpoint has one.
    let has_host =
        uri.authority().is_some_and(|host| !host.host().is_empty() && !host.as_str().contains('@'));
    (is_web && has_host && uri.query().is_none()).then_some(uri)
}

impl std::fmt::Debug for Ssm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ssm").field("region", &self.0.region).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_those_of_the_partition() {
        assert_eq!(regional("ssm", "eu-central-1"), "https://ssm.eu-central-1.amazonaws.com");
        assert_eq!(regional("ssm", "cn-north-1"), "https://ssm.cn-north-1.amazonaws.com.cn");
        assert_eq!(regional("sts", "us-gov-west-1"), "https://sts.us-gov-west-1.amazonaws.com");
    }

    #[test]
    fn what_is_no_endpoint_is_refused_and_not_shown() {
        for endpoint in ["", "ssm", "ftp://ssm", "http://", "https://user:hunter2@ssm", "https://ssm/?a=b"] {
            let ssm = Ssm::new("eu-central-1".into(), Some(endpoint.into()), Environment::new(|_| None));
            let error = ssm.unwrap_err();
            assert_eq!(error, SetupError::Endpoint, "{endpoint}");
            assert!(!error.to_string().contains("hunter2"));
        }
    }

    /// A server answers many calls at once, each on any free thread.
    #[test]
    fn calls_can_move_between_threads() {
        fn is_send(_: impl Send) {}
        let ssm = Ssm::new("eu-central-1".into(), None, Environment::new(|_| None)).unwrap();
        is_send(ssm.read(&[], &[], Duration::ZERO));
        is_send(ssm.forward(Operation::GetParameter, Bytes::new(), Duration::ZERO));
    }

    #[test]
    fn a_region_stays_in_its_host_name() {
        for region in ["", "eu.evil.example/", "eu central"] {
            let ssm = Ssm::new(region.into(), None, Environment::new(|_| None));
            assert_eq!(ssm.unwrap_err(), SetupError::Region, "{region}");
        }
    }
}
