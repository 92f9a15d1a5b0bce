//! The language of the SDKs: JSON 1.1, one operation a request
//! (<https://docs.aws.amazon.com/systems-manager/latest/APIReference/API_GetParameter.html>).

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value as Json, json};

use crate::mirrors::Mirror;

use super::shelf::{Asked, Hit, NotOurs, below, find};

/// The type of every answer.
pub const CONTENT_TYPE: &str = "application/x-amz-json-1.1";

/// The most names in one `GetParameters`, and parameters on one page.
const MOST: usize = 10;

/// An answer. Its body may hold values, so it cannot be printed.
pub struct Reply {
    /// The HTTP status.
    pub status: StatusCode,
    /// What is sent.
    pub body: Json,
}

impl Reply {
    /// An error as SSM tells it.
    #[must_use]
    pub fn error(kind: &str, message: &str) -> Self {
        Self { status: StatusCode::BAD_REQUEST, body: json!({"__type": kind, "message": message}) }
    }

    /// The request makes no sense, or never will here.
    #[must_use]
    pub fn invalid(message: &str) -> Self {
        Self::error("ValidationException", message)
    }

    /// Nobody can tell just now: SDKs try again, and then tell the program that SSM is down, which is true.
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

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct GetParameter {
    name: String,
    #[serde(default)]
    with_decryption: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct GetParameters {
    names: Vec<String>,
    #[serde(default)]
    with_decryption: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct GetParametersByPath {
    path: String,
    #[serde(default)]
    recursive: bool,
    #[serde(default)]
    with_decryption: bool,
    max_results: Option<usize>,
    next_token: Option<String>,
    #[serde(default)]
    parameter_filters: Vec<Json>,
}

/// The answer to an operation, from what is in memory.
pub fn answer(mirrors: &[Mirror], target: &str, body: &[u8]) -> Result<Reply, NotOurs> {
    let operation = target.strip_prefix("AmazonSSM.").unwrap_or(target);
    let reply = match operation {
        "GetParameter" => {
            parsed(body).map(|request: GetParameter| one(mirrors, &request.name, request.with_decryption))
        }
        "GetParameters" => parsed(body).map(|request| many(mirrors, &request)),
        "GetParametersByPath" => parsed(body).map(|request| page(mirrors, &request)),
        _ => {
            return Err(NotOurs::Operation(if operation.is_empty() {
                "no operation".to_owned()
            } else {
                operation.to_owned()
            }));
        }
    };
    reply.unwrap_or_else(Ok)
}

fn parsed<T: DeserializeOwned>(body: &[u8]) -> Result<T, Reply> {
    serde_json::from_slice(body)
        .map_err(|_| Reply::error("SerializationException", "the request is not the JSON of this operation"))
}

/// The answer to one name.
pub fn one(mirrors: &[Mirror], name: &str, decrypts: bool) -> Result<Reply, NotOurs> {
    let asked = Asked::parse(name);
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
        let asked = Asked::parse(name);
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
    // The name after which the next page begins: it fits whatever has changed between two pages.
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
    let partition = match source.region.split('-').next() {
        Some("cn") => "aws-cn",
        Some("us") if source.region.starts_with("us-gov-") => "aws-us-gov",
        _ => "aws",
    };
    let path = name.trim_start_matches('/');
    let mut parameter = json!({
        "Name": name,
        "Type": entry.kind.as_str(),
        "Value": entry.value.expose(),
        "Version": entry.version,
        "LastModifiedDate": seconds(entry.date),
        "ARN": format!("arn:{partition}:ssm:{}:{}:parameter/{path}", source.region, source.account),
        "DataType": "text",
    });
    if let Some(selector) = selector {
        parameter["Selector"] = format!(":{selector}").into();
    }
    parameter
}

/// Seconds with three decimals, as SSM writes them.
#[allow(clippy::cast_precision_loss, reason = "milliseconds of our times fit into 53 bits")]
fn seconds(milliseconds: i64) -> f64 {
    milliseconds as f64 / 1000.0
}
