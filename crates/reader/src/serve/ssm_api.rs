//! The protocol of the SDKs: AWS JSON 1.1, one operation per request
//! (<https://docs.aws.amazon.com/systems-manager/latest/APIReference/API_GetParameter.html>).
#![expect(clippy::disallowed_methods, reason = "answers programs on the loopback")]

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use parameter_mirror_format::content::coverage::is_of_aws;
use parameter_mirror_ssm::Partition;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};

use crate::mirrors::Mirror;
use crate::ssm::Operation;

use crate::serve::lookup::{self, Hit, NotOurs, below, find};

/// The content type of every answer.
pub const CONTENT_TYPE: &str = "application/x-amz-json-1.1";

/// The most names in one `GetParameters`, and the most parameters on one page.
const MOST: usize = 10;

/// An answer. Its body may hold values, so it has no `Debug`.
pub struct Reply {
    /// The HTTP status.
    pub status: StatusCode,
    /// The body to send.
    pub body: Json,
}

impl Reply {
    /// Creates an error in SSM's format.
    #[must_use]
    pub fn error(kind: &str, message: &str) -> Self {
        Self { status: StatusCode::BAD_REQUEST, body: json!({"__type": kind, "message": message}) }
    }

    /// Creates the error for an invalid request, or one that this endpoint never serves.
    #[must_use]
    pub fn invalid(message: &str) -> Self {
        Self::error("ValidationException", message)
    }

    /// Creates the error for a request that cannot be answered at the moment. SDKs retry it and then report
    /// that SSM is unavailable, which is true.
    #[must_use]
    pub fn unavailable(message: &str) -> Self {
        Self { status: StatusCode::SERVICE_UNAVAILABLE, ..Self::error("ServiceUnavailable", message) }
    }

    fn not_found(name: &str) -> Self {
        Self::error("ParameterNotFound", &format!("{name} is mirrored here, and SSM has no such parameter"))
    }

    fn good(body: Json) -> Self {
        Self { status: StatusCode::OK, body }
    }
}

impl IntoResponse for Reply {
    fn into_response(self) -> Response {
        (self.status, [(header::CONTENT_TYPE, CONTENT_TYPE)], self.body.to_string()).into_response()
    }
}

/// A parsed request. Only its fields are forwarded to SSM, whatever else the caller sent.
pub struct Call(Input);

enum Input {
    One(GetParameter),
    Many(GetParameters),
    Page(GetParametersByPath),
}

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
struct GetParameter {
    name: String,
    #[serde(default)]
    with_decryption: bool,
}

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
struct GetParameters {
    names: Vec<String>,
    #[serde(default)]
    with_decryption: bool,
}

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
struct GetParametersByPath {
    path: String,
    #[serde(default)]
    recursive: bool,
    #[serde(default)]
    with_decryption: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_results: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_token: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    parameter_filters: Vec<Json>,
}

impl Call {
    /// Parses the operation and its input. Refuses everything but the three read operations.
    pub fn read(target: &str, body: &[u8]) -> Result<Self, Reply> {
        let Some(operation) = Operation::of(target) else {
            let shown = target.strip_prefix("AmazonSSM.").unwrap_or(target);
            let shown = if shown.is_empty() { "no operation" } else { shown };
            return Err(Reply::error("AccessDeniedException", &format!("{shown} is not offered here")));
        };
        Ok(Self(match operation {
            Operation::GetParameter => Input::One(parsed(body)?),
            Operation::GetParameters => Input::Many(parsed(body)?),
            Operation::GetParametersByPath => Input::Page(parsed(body)?),
        }))
    }

    /// Creates a request for one name.
    #[must_use]
    pub fn one(name: String, with_decryption: bool) -> Self {
        Self(Input::One(GetParameter { name, with_decryption }))
    }

    /// Returns the requested operation.
    #[must_use]
    pub fn operation(&self) -> Operation {
        match self.0 {
            Input::One(_) => Operation::GetParameter,
            Input::Many(_) => Operation::GetParameters,
            Input::Page(_) => Operation::GetParametersByPath,
        }
    }

    /// Returns the input in SSM's format.
    #[must_use]
    pub fn body(&self) -> String {
        match &self.0 {
            Input::One(input) => json!(input),
            Input::Many(input) => json!(input),
            Input::Page(input) => json!(input),
        }
        .to_string()
    }

    /// Answers from the mirrors in memory.
    pub fn answer(&self, mirrors: &[Mirror]) -> Result<Reply, NotOurs> {
        match &self.0 {
            Input::One(input) => one(mirrors, &input.name, input.with_decryption),
            Input::Many(input) => many(mirrors, input),
            Input::Page(input) => page(mirrors, input),
        }
    }
}

fn parsed<T: DeserializeOwned>(body: &[u8]) -> Result<T, Reply> {
    serde_json::from_slice(body)
        .map_err(|_| Reply::error("SerializationException", "the request is not the JSON of this operation"))
}

fn one(mirrors: &[Mirror], name: &str, decrypts: bool) -> Result<Reply, NotOurs> {
    let asked = lookup::Requested::parse(name);
    let hit = find(mirrors, &asked, decrypts)?;
    Ok(hit.map_or_else(
        || Reply::not_found(name),
        |hit| Reply::good(json!({"Parameter": parameter(&asked.name, asked.selector.as_deref(), hit)})),
    ))
}

fn many(mirrors: &[Mirror], request: &GetParameters) -> Result<Reply, NotOurs> {
    if request.names.is_empty() || request.names.len() > MOST {
        return Ok(Reply::invalid("1 to 10 names"));
    }
    let (mut found, mut invalid) = (Vec::new(), Vec::new());
    for name in &request.names {
        let asked = lookup::Requested::parse(name);
        match find(mirrors, &asked, request.with_decryption)? {
            Some(hit) => found.push(parameter(&asked.name, asked.selector.as_deref(), hit)),
            None => invalid.push(name),
        }
    }
    Ok(Reply::good(json!({"Parameters": found, "InvalidParameters": invalid})))
}

fn page(mirrors: &[Mirror], request: &GetParametersByPath) -> Result<Reply, NotOurs> {
    let per_page = request.max_results.unwrap_or(MOST);
    if !request.path.starts_with('/') || !(1..=MOST).contains(&per_page) {
        return Ok(Reply::invalid("a path begins with /, and a page has 1 to 10 parameters"));
    }
    if !request.parameter_filters.is_empty() {
        return Err(NotOurs::Operation("GetParametersByPath with ParameterFilters".to_owned()));
    }
    let all = below(mirrors, &request.path, request.recursive, request.with_decryption)?;
    // The token holds the last name of the previous page, so it stays valid when the set changes between two
    // pages.
    let after = request.next_token.as_deref().map(|token| token.strip_prefix(TOKEN));
    let Some(after) = after.map_or(Some(""), |after| after) else {
        return Ok(Reply::error("InvalidNextToken", "the token is not one of ours"));
    };
    let mut rest = all.range::<str, _>((std::ops::Bound::Excluded(after), std::ops::Bound::Unbounded));
    let page: Vec<_> = rest.by_ref().take(per_page).collect();
    let mut body = json!({"Parameters": page.iter().map(|(name, hit)| parameter(name, None, **hit)).collect::<Vec<_>>()});
    if let (Some((last, _)), Some(_)) = (page.last(), rest.next()) {
        body["NextToken"] = format!("{TOKEN}{last}").into();
    }
    Ok(Reply::good(body))
}

const TOKEN: &str = "after:";

fn parameter(name: &str, selector: Option<&str>, Hit { entry, source }: Hit<'_>) -> Json {
    let partition = Partition::of(&source.region).name;
    let path = name.trim_start_matches('/');
    // Public parameters belong to no account.
    let account = if is_of_aws(name) { "" } else { source.account.as_str() };
    let mut parameter = json!({
        "Name": name,
        "Type": entry.kind.as_str(),
        "Value": entry.value.expose(),
        "Version": entry.version,
        "LastModifiedDate": seconds(entry.date),
        "ARN": format!("arn:{partition}:ssm:{}:{account}:parameter/{path}", source.region),
        "DataType": "text",
    });
    if let Some(selector) = selector {
        parameter["Selector"] = format!(":{selector}").into();
    }
    parameter
}

/// Converts to seconds with three decimals, as SSM writes them.
#[allow(clippy::cast_precision_loss, reason = "milliseconds of our times fit into 53 bits")]
fn seconds(milliseconds: i64) -> f64 {
    milliseconds as f64 / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_but_three_reads_is_an_operation() {
        for name in ["GetParameter", "GetParameters", "GetParametersByPath"] {
            let body = br#"{"Name": "/x", "Names": ["/x"], "Path": "/x"}"#;
            let asked = Call::read(&format!("AmazonSSM.{name}"), body).ok().unwrap();
            assert_eq!(asked.operation().target(), format!("AmazonSSM.{name}"));
        }
        for target in [
            "",
            "GetParameter",
            "AmazonSSM.",
            "AmazonSSM.PutParameter",
            "AmazonSSM.SendCommand",
            "AmazonSSM.GetParameterHistory",
            "amazonssm.GetParameter",
            "AmazonSSM.getparameter",
            "AmazonSSM.GetParameter ",
            "AmazonSSM.GetParameter,AmazonSSM.PutParameter",
            "AmazonEC2ContainerServiceV20141113.RunTask",
            "secretsmanager.GetSecretValue",
        ] {
            let refused = Call::read(target, br#"{"Name": "/x"}"#).err().unwrap();
            assert_eq!(refused.status, StatusCode::BAD_REQUEST, "{target}");
            assert_eq!(refused.body["__type"], "AccessDeniedException", "{target}");
        }
    }

    #[test]
    fn only_what_was_read_goes_on_to_ssm() {
        let body = |name: &str, input: Json| {
            let target = format!("AmazonSSM.{name}");
            let asked = Call::read(&target, input.to_string().as_bytes()).ok().unwrap();
            serde_json::from_str::<Json>(&asked.body()).unwrap()
        };
        let one = json!({"Name": "/x", "WithDecryption": true, "Value": "y", "Overwrite": true});
        assert_eq!(body("GetParameter", one), json!({"Name": "/x", "WithDecryption": true}));
        let many = json!({"Names": ["/x", "/y"], "Action": "PutParameter"});
        assert_eq!(body("GetParameters", many), json!({"Names": ["/x", "/y"], "WithDecryption": false}));
        let page = json!({"Path": "/", "Recursive": true, "MaxResults": 3, "NextToken": "t", "ParameterFilters": [{"Key": "Type"}]});
        let mut expected = page.clone();
        expected["WithDecryption"] = false.into();
        assert_eq!(body("GetParametersByPath", page), expected);
        let twice = Call::read("AmazonSSM.GetParameter", br#"{"Name": "/x", "Name": "/y"}"#);
        assert_eq!(twice.err().unwrap().body["__type"], "SerializationException");
    }
}
