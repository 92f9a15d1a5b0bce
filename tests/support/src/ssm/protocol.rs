//! The AWS JSON 1.1 protocol of Parameter Store: parses requests, writes answers and errors.
//!
//! Pure: an answer is computed from a [`Shelf`] and lists the names it touched, so that faults can be applied
//! to it before anything is sent.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Value, json};

use super::paging::{self, Position};
use super::store::{Kind, Parameter, Place, Shelf, SsmRefusal, Version, Write, arn};

/// The most names of one batch, and the most parameters of one page.
const BATCH: usize = 10;

/// The supported operations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs, reason = "the names are those of the API reference")]
pub enum Operation {
    GetParametersByPath,
    GetParameters,
    GetParameter,
    PutParameter,
    DeleteParameter,
    DeleteParameters,
    LabelParameterVersion,
    /// An operation of STS, on the same port.
    AssumeRole,
    /// An operation of STS, on the same port; not signed.
    AssumeRoleWithWebIdentity,
}

impl Operation {
    /// Returns the name in the protocol.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::GetParametersByPath => "GetParametersByPath",
            Self::GetParameters => "GetParameters",
            Self::GetParameter => "GetParameter",
            Self::PutParameter => "PutParameter",
            Self::DeleteParameter => "DeleteParameter",
            Self::DeleteParameters => "DeleteParameters",
            Self::LabelParameterVersion => "LabelParameterVersion",
            Self::AssumeRole => "AssumeRole",
            Self::AssumeRoleWithWebIdentity => "AssumeRoleWithWebIdentity",
        }
    }

    fn parse(target: &str) -> Option<Self> {
        let name = target.strip_prefix("AmazonSSM.")?;
        [
            Self::GetParametersByPath,
            Self::GetParameters,
            Self::GetParameter,
            Self::PutParameter,
            Self::DeleteParameter,
            Self::DeleteParameters,
            Self::LabelParameterVersion,
        ]
        .into_iter()
        .find(|operation| operation.as_str() == name)
    }
}

/// A request as sent, with the members of all operations; each operation reads its own.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Members {
    name: Option<String>,
    names: Option<Vec<String>>,
    path: Option<String>,
    recursive: bool,
    with_decryption: bool,
    max_results: Option<usize>,
    next_token: Option<String>,
    parameter_filters: Option<Value>,
    value: Option<String>,
    #[serde(rename = "Type")]
    kind: Option<String>,
    overwrite: bool,
    tier: Option<String>,
    data_type: Option<String>,
    parameter_version: Option<u64>,
    labels: Vec<String>,
}

/// A parsed request.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) operation: Operation,
    members: Members,
}

impl Request {
    /// Parses the target header and the body.
    pub(crate) fn parse(target: &str, body: &[u8]) -> Result<Self, SsmRefusal> {
        let operation =
            Operation::parse(target).ok_or_else(|| SsmRefusal::new("UnknownOperationException", ""))?;
        let members =
            serde_json::from_slice(body).map_err(|_| SsmRefusal::new("SerializationException", ""))?;
        Ok(Self { operation, members })
    }

    pub(crate) fn path(&self) -> Option<&str> {
        self.members.path.as_deref()
    }

    /// Returns the requested or written names, as sent.
    pub(crate) fn names(&self) -> Vec<String> {
        self.members.name.iter().chain(self.members.names.iter().flatten()).cloned().collect()
    }

    /// Returns the same names without ARN prefix and selector.
    pub(crate) fn bare_names(&self) -> BTreeSet<String> {
        let bare = |name: &String| {
            let name = name.split_once(":parameter").map_or(name.as_str(), |(_, name)| name);
            name.split(':').next().unwrap_or(name).to_owned()
        };
        self.names().iter().map(bare).collect()
    }

    pub(crate) fn with_decryption(&self) -> bool {
        self.members.with_decryption
    }

    pub(crate) fn token(&self) -> Option<&str> {
        self.members.next_token.as_deref()
    }

    /// Whether it only reads.
    pub(crate) fn reads(&self) -> bool {
        use Operation::{GetParameter, GetParameters, GetParametersByPath};
        matches!(self.operation, GetParametersByPath | GetParameters | GetParameter)
    }
}

/// An answer to a request.
#[derive(Clone, Debug, Default)]
pub(crate) struct Answer {
    /// The body.
    pub(crate) body: Value,
    /// The names of its parameters.
    pub(crate) names: Vec<String>,
    /// Those among them whose values were decrypted.
    pub(crate) decrypted: Vec<String>,
    /// The number of the page, from 1.
    pub(crate) page: Option<u64>,
    /// A token with which the next page would begin where this one began.
    pub(crate) again: Option<String>,
}

impl Answer {
    fn plain(body: Value) -> Self {
        Self { body, ..Self::default() }
    }
}

/// Answers a request that only reads.
pub(crate) fn read(request: &Request, place: &Place, shelf: &Shelf) -> Result<Answer, SsmRefusal> {
    let members = &request.members;
    match request.operation {
        Operation::GetParametersByPath => by_path(members, place, shelf),
        Operation::GetParameters => batch(members, place, shelf),
        _ => one(members, place, shelf),
    }
}

/// Carries out a request that writes.
pub(crate) fn write(request: &Request, shelf: &mut Shelf, now_ms: u64) -> Result<Answer, SsmRefusal> {
    let members = &request.members;
    match request.operation {
        Operation::PutParameter => put(members, shelf, now_ms),
        Operation::LabelParameterVersion => label(members, shelf),
        Operation::DeleteParameters => delete_many(members, shelf),
        _ => delete_one(members, shelf),
    }
}

fn by_path(members: &Members, place: &Place, shelf: &Shelf) -> Result<Answer, SsmRefusal> {
    let path = required(members.path.as_deref(), "path")?;
    if !path.starts_with('/') {
        return Err(SsmRefusal::validation(
            "The parameter doesn't meet the parameter name requirements. The parameter name must begin with a \
             forward slash \"/\".",
        ));
    }
    if members.parameter_filters.is_some() {
        return Err(SsmRefusal::validation("ParameterFilters are not part of this service for tests."));
    }
    let size = members.max_results.unwrap_or(BATCH);
    bounded("maxResults", size)?;
    let position = match members.next_token.as_deref() {
        Some(token) => paging::open(token, path, members.recursive)
            .ok_or_else(|| SsmRefusal::new("InvalidNextToken", "The specified token is not valid."))?,
        None => Position::start(),
    };
    let mut rest = shelf.below(path, members.recursive, position.after.as_deref()).peekable();
    let mut answer = Answer { page: Some(position.page), ..Answer::default() };
    let mut items = Vec::new();
    let mut last = None;
    for parameter in rest.by_ref().take(size) {
        let read = Read { parameter, version: parameter.latest(), selector: None };
        items.push(read.show(members.with_decryption, place, &mut answer));
        last = Some(parameter.name.clone());
    }
    answer.body = json!({ "Parameters": items });
    if rest.peek().is_some() {
        answer.body["NextToken"] = paging::seal(&position.next(last), path, members.recursive).into();
    }
    answer.again = Some(paging::seal(&position.next(position.after.clone()), path, members.recursive));
    Ok(answer)
}

fn batch(members: &Members, place: &Place, shelf: &Shelf) -> Result<Answer, SsmRefusal> {
    let names = members.names.as_deref().unwrap_or_default();
    bounded("names", names.len())?;
    let mut answer = Answer::default();
    let (mut found, mut invalid) = (Vec::new(), Vec::new());
    for name in names.iter().collect::<BTreeSet<_>>() {
        match Read::find(name, place, shelf) {
            Ok(read) => found.push(read),
            Err(_) => invalid.push(name),
        }
    }
    found.sort_by(|a, b| (&a.parameter.name, a.selector).cmp(&(&b.parameter.name, b.selector)));
    let items: Vec<_> =
        found.iter().map(|read| read.show(members.with_decryption, place, &mut answer)).collect();
    answer.body = json!({ "Parameters": items, "InvalidParameters": invalid });
    Ok(answer)
}

fn one(members: &Members, place: &Place, shelf: &Shelf) -> Result<Answer, SsmRefusal> {
    let read = Read::find(required(members.name.as_deref(), "name")?, place, shelf)?;
    let mut answer = Answer::default();
    answer.body = json!({ "Parameter": read.show(members.with_decryption, place, &mut answer) });
    Ok(answer)
}

fn put(members: &Members, shelf: &mut Shelf, now_ms: u64) -> Result<Answer, SsmRefusal> {
    let kind = match members.kind.as_deref() {
        Some(text) => Some(Kind::parse(text).ok_or_else(|| {
            SsmRefusal::validation(format!("Value '{text}' at 'type' failed to satisfy constraint: Member must satisfy enum value set: [SecureString, StringList, String]"))
        })?),
        None => None,
    };
    let advanced = members.tier.as_deref() == Some("Advanced");
    let version = shelf.put(&Write {
        name: required(members.name.as_deref(), "name")?,
        value: required(members.value.as_deref(), "value")?,
        kind,
        overwrite: members.overwrite,
        advanced,
        data_type: members.data_type.as_deref(),
        now_ms,
    })?;
    let tier = if advanced { "Advanced" } else { "Standard" };
    Ok(Answer::plain(json!({ "Version": version, "Tier": tier })))
}

fn label(members: &Members, shelf: &mut Shelf) -> Result<Answer, SsmRefusal> {
    bounded("labels", members.labels.len())?;
    let name = required(members.name.as_deref(), "name")?;
    let (version, invalid) = shelf.label(name, members.parameter_version, &members.labels)?;
    Ok(Answer::plain(json!({ "InvalidLabels": invalid, "ParameterVersion": version })))
}

fn delete_one(members: &Members, shelf: &mut Shelf) -> Result<Answer, SsmRefusal> {
    let name = required(members.name.as_deref(), "name")?;
    if shelf.delete(name) { Ok(Answer::plain(json!({}))) } else { Err(SsmRefusal::not_found()) }
}

fn delete_many(members: &Members, shelf: &mut Shelf) -> Result<Answer, SsmRefusal> {
    let names = members.names.clone().unwrap_or_default();
    bounded("names", names.len())?;
    let (deleted, invalid): (Vec<_>, Vec<_>) = names.into_iter().partition(|name| shelf.delete(name));
    Ok(Answer::plain(json!({ "DeletedParameters": deleted, "InvalidParameters": invalid })))
}

/// A version to return, and how it was requested.
struct Read<'a> {
    parameter: &'a Parameter,
    version: &'a Version,
    /// With its colon, as SSM returns it.
    selector: Option<&'a str>,
}

impl<'a> Read<'a> {
    /// Finds the version for `wanted` (a name or an ARN, with or without selector).
    fn find(wanted: &'a str, place: &Place, shelf: &'a Shelf) -> Result<Self, SsmRefusal> {
        let prefix = format!("arn:aws:ssm:{}:{}:parameter", place.region, place.account);
        let local = wanted.strip_prefix(prefix.as_str()).unwrap_or(wanted);
        let (name, selector) = match local.find(':') {
            Some(colon) => (&local[..colon], Some(&local[colon..])),
            None => (local, None),
        };
        let parameter = shelf.get(name).ok_or_else(SsmRefusal::not_found)?;
        let version = match selector {
            Some(selector) => parameter.select(&selector[1..]).ok_or_else(|| {
                SsmRefusal::new(
                    "ParameterVersionNotFound",
                    format!("Systems Manager could not find version {} of {name}. Verify the version and try again.", &selector[1..]),
                )
            })?,
            None => parameter.latest(),
        };
        Ok(Self { parameter, version, selector })
    }

    /// Returns the parameter in the protocol's form, and records it in the answer.
    fn show(&self, with_decryption: bool, place: &Place, answer: &mut Answer) -> Value {
        let Self { parameter, version, selector } = self;
        let arn = arn(&place.region, &place.account, &parameter.name);
        let secret = parameter.kind == Kind::SecureString;
        answer.names.push(parameter.name.clone());
        if secret && with_decryption {
            answer.decrypted.push(parameter.name.clone());
        }
        #[allow(clippy::cast_precision_loss, reason = "milliseconds since 1970 fit 53 bits")]
        let modified = version.modified_ms as f64 / 1000.0;
        let mut shown = json!({
            "Name": parameter.name,
            "Type": parameter.kind.as_str(),
            "Value": version.value,
            "Version": version.number,
            "LastModifiedDate": modified,
            "ARN": arn,
            "DataType": parameter.data_type,
        });
        if secret && !with_decryption {
            shown["Value"] = ciphertext(&shown).into();
        }
        if let Some(selector) = selector {
            shown["Selector"] = (*selector).into();
        }
        shown
    }
}

/// Returns a stand-in for the KMS ciphertext of a parameter: a distinct text per ARN, version and date, not
/// derived from the value.
pub(crate) fn ciphertext(shown: &Value) -> String {
    let of = [&shown["ARN"], &shown["Version"], &shown["LastModifiedDate"]].map(Value::to_string);
    let blocks = (0u64..18).flat_map(|block| paging::digest(&(&of, block)).to_be_bytes());
    let bytes: Vec<u8> = [1, 2, 2, 0, 0x78].into_iter().chain(blocks).collect();
    STANDARD.encode(bytes)
}

fn required<'a>(member: Option<&'a str>, name: &str) -> Result<&'a str, SsmRefusal> {
    member.ok_or_else(|| {
        SsmRefusal::validation(format!(
            "1 validation error detected: Value null at '{name}' failed to satisfy constraint: Member must not be null"
        ))
    })
}

/// Checks the size of a batch or page: 1 to [`BATCH`].
fn bounded(name: &str, size: usize) -> Result<(), SsmRefusal> {
    let word = match size {
        0 => "greater than or equal to 1",
        1..=BATCH => return Ok(()),
        _ => "less than or equal to 10",
    };
    Err(SsmRefusal::validation(format!(
        "1 validation error detected: Value at '{name}' failed to satisfy constraint: Member must have length {word}"
    )))
}
