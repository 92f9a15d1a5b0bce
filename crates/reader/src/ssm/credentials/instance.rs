//! The role of the EC2 instance, from `IMDSv2`
//! (<https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instance-metadata-security-credentials.html>).

use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::HeaderValue;
use hyper::{Method, Request};

use super::ask::{ask, ask_for_success, secret_header};
use super::environment::Environment;
use super::handed::{Handed, usable};
use crate::ssm::http::{Budget, Http};

const WHOM: &str = "the instance metadata service";
const ROLES: &str = "/latest/meta-data/iam/security-credentials/";
const TOKEN: &str = "x-aws-ec2-metadata-token";
/// How long expired credentials from the service are used.
const EXTENDED: Duration = Duration::from_mins(10);

/// The metadata service.
pub(super) struct Instance {
    endpoint: String,
}

impl Instance {
    /// Returns the service that the environment configures, unless the environment disables it.
    pub(super) fn configured(environment: &Environment) -> Option<Self> {
        let said = |name, word| environment.get(name).is_some_and(|said| said.eq_ignore_ascii_case(word));
        if said("AWS_EC2_METADATA_DISABLED", "true") {
            return None;
        }
        let v6 = said("AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE", "IPv6");
        let usual = if v6 { "http://[fd00:ec2::254]" } else { "http://169.254.169.254" };
        let endpoint = environment.get("AWS_EC2_METADATA_SERVICE_ENDPOINT");
        let endpoint = endpoint.unwrap_or_else(|| usual.to_owned());
        Some(Self { endpoint: endpoint.trim_end_matches('/').to_owned() })
    }

    pub(super) async fn fetch(self, http: &Http, budget: &mut Budget) -> Result<Credentials, String> {
        let token = self.token(http, budget).await?;
        let role = self.role(http, budget, &token).await?;
        let request = self.get(&format!("{ROLES}{role}"), &token)?;
        let answer = ask_for_success(http, budget, WHOM, &request).await?;
        let handed = Handed::parse(&answer.body).and_then(Handed::credentials);
        handed.and_then(extended).map_err(|what| format!("{WHOM}: {what}"))
    }

    async fn token(&self, http: &Http, budget: &mut Budget) -> Result<HeaderValue, String> {
        let request = Request::put(format!("{}/latest/api/token", self.endpoint))
            .header("x-aws-ec2-metadata-token-ttl-seconds", "21600")
            .body(Full::default())
            .map_err(|_| illegal())?;
        // In a container the answer may exceed the hop limit; then no answer arrives.
        let hint = |what| format!("{what} (in a container its hop limit must be 2)");
        let answer = ask_for_success(http, budget, WHOM, &request).await.map_err(hint)?;
        let token = std::str::from_utf8(&answer.body).ok().and_then(secret_header);
        token.ok_or_else(|| format!("{WHOM}: its token is no header"))
    }

    async fn role(&self, http: &Http, budget: &mut Budget, token: &HeaderValue) -> Result<String, String> {
        let answer = ask(http, budget, WHOM, &self.get(ROLES, token)?).await?;
        match answer.status.as_u16() {
            200 => {}
            404 => return Err("the instance has no role".to_owned()),
            status => return Err(format!("{WHOM} answers HTTP {status}")),
        }
        // The characters of an IAM name; any other could change the path.
        let is_name = |role: &&str| {
            let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"+=,.@_-".contains(&byte);
            !role.is_empty() && *role != ".." && role.bytes().all(legal)
        };
        let first = std::str::from_utf8(&answer.body).ok().and_then(|body| body.lines().next());
        let role = first.map(str::trim).filter(is_name);
        role.map(str::to_owned).ok_or_else(|| format!("{WHOM} names no role"))
    }

    fn get(&self, path: &str, token: &HeaderValue) -> Result<Request<Full<Bytes>>, String> {
        Request::builder()
            .method(Method::GET)
            .uri(format!("{}{path}", self.endpoint))
            .header(TOKEN, token)
            .body(Full::default())
            .map_err(|_| illegal())
    }
}

fn illegal() -> String {
    "AWS_EC2_METADATA_SERVICE_ENDPOINT is no URL".to_owned()
}

/// Extends expired credentials. When the service cannot renew them, it returns expired ones, and AWS still
/// accepts them. The SDKs use them, too
/// (aws-config, `imds/credentials.rs`: "credential expiration extension").
fn extended(credentials: Credentials) -> Result<Credentials, String> {
    let now = SystemTime::now();
    if credentials.expiry().is_none_or(|end| end > now) {
        return Ok(credentials);
    }
    let token = credentials.session_token().map(str::to_owned);
    let (id, secret) = (credentials.access_key_id(), credentials.secret_access_key());
    usable(id.to_owned(), secret.to_owned(), token, now.checked_add(EXTENDED))
}
