//! The credentials endpoint of a container: ECS tasks, and EKS Pod Identity
//! (<https://docs.aws.amazon.com/sdkref/latest/guide/feature-container-credentials.html>).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use aws_credential_types::Credentials;
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::AUTHORIZATION;
use hyper::{Request, Uri};

use super::ask::{ask_for_success, secret_header, token_file};
use super::environment::Environment;
use super::handed::Handed;
use crate::ssm::http::{Budget, Http};

const WHOM: &str = "the container's credentials endpoint";
/// The host to which a relative URI refers on ECS.
const ECS: &str = "http://169.254.170.2";
/// Hosts besides the loopback that plain HTTP is allowed for: ECS and EKS Pod Identity.
const LINK_LOCAL: [IpAddr; 3] = [
    IpAddr::V4(Ipv4Addr::new(169, 254, 170, 2)),
    IpAddr::V4(Ipv4Addr::new(169, 254, 170, 23)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23)),
];

/// A credentials endpoint and its authorization token.
pub(super) struct Container {
    uri: Uri,
    token: Option<String>,
    token_file: Option<String>,
}

impl Container {
    /// Returns the endpoint that the environment configures, if any.
    pub(super) fn configured(environment: &Environment) -> Option<Result<Self, String>> {
        let uri = match environment.get("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI") {
            Some(relative) => relative_uri(&relative),
            None => full_uri(&environment.get("AWS_CONTAINER_CREDENTIALS_FULL_URI")?),
        };
        let token = environment.get("AWS_CONTAINER_AUTHORIZATION_TOKEN");
        let token_file = environment.get("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE");
        Some(uri.map(|uri| Self { uri, token, token_file }))
    }

    /// Fetches credentials. The token file takes precedence and is read each time, because Pod Identity
    /// rotates its token.
    pub(super) async fn fetch(self, http: &Http, budget: &mut Budget) -> Result<Credentials, String> {
        let token = match self.token_file {
            Some(path) => Some(token_file(path, budget).await?),
            None => self.token,
        };
        let mut request = Request::get(self.uri).header("accept", "application/json");
        if let Some(token) = token {
            let token =
                secret_header(&token).ok_or("the authorization token of the container is no header")?;
            request = request.header(AUTHORIZATION, token);
        }
        let request = request.body(Full::<Bytes>::default());
        let request = request.map_err(|_| format!("{WHOM} has no legal URL"))?;
        let answer = ask_for_success(http, budget, WHOM, &request).await?;
        let handed = Handed::parse(&answer.body).and_then(Handed::credentials);
        handed.map_err(|what| format!("{WHOM}: {what}"))
    }
}

fn relative_uri(relative: &str) -> Result<Uri, String> {
    let uri = relative.starts_with('/').then(|| format!("{ECS}{relative}").parse().ok()).flatten();
    uri.ok_or_else(|| "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI is no path".to_owned())
}

/// Parses a full URI. Plain HTTP is only allowed to this machine's own hosts, because the host receives the
/// token.
fn full_uri(full: &str) -> Result<Uri, String> {
    let uri: Uri = full.parse().map_err(|_| "AWS_CONTAINER_CREDENTIALS_FULL_URI is no URL")?;
    let host = uri.host().unwrap_or_default();
    let ip = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    let is_own = ip.map_or(host == "localhost", |ip| ip.is_loopback() || LINK_LOCAL.contains(&ip));
    match uri.scheme_str() {
        Some("https") if !host.is_empty() => Ok(uri),
        Some("http") if is_own => Ok(uri),
        _ => Err(
            "AWS_CONTAINER_CREDENTIALS_FULL_URI is neither https nor the address of this machine, of ECS or \
                  of EKS Pod Identity"
                .to_owned(),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_relative_uri_is_a_path_of_the_ecs_agent() {
        assert_eq!(relative_uri("/v2/x?id=1").unwrap(), "http://169.254.170.2/v2/x?id=1");
        for not_one in [".evil.example/", "@evil.example/", "v2"] {
            relative_uri(not_one).unwrap_err();
        }
    }

    #[test]
    fn a_token_goes_to_this_machine_or_over_tls() {
        let own = [
            "https://example.com/x",
            "http://127.0.0.1:80/x",
            "http://127.9.9.9/x",
            "http://localhost/x",
            "http://[::1]/x",
            "http://169.254.170.2/x",
            "http://169.254.170.23/v1/credentials",
            "http://[fd00:ec2::23]/v1/credentials",
        ];
        for uri in own {
            full_uri(uri).unwrap();
        }
        let foreign = [
            "http://example.com/",
            "http://127.0.0.1@example.com/",
            "http://127.0.0.1.example.com/",
            "http://169.254.169.254/",
            "http://[fd00:ec2::24]/",
            "ftp://127.0.0.1/",
            "/x",
            "",
        ];
        for uri in foreign {
            full_uri(uri).unwrap_err();
        }
    }
}
