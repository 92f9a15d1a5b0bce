//! Credentials in the formats of their sources.

use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use serde::Deserialize;

use crate::ssm::error::shown_code;

/// The JSON of container endpoints and the metadata service, and the innermost member of an STS answer. It
/// holds keys, so it has no `Debug`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Handed {
    /// `Success`, or why there are no credentials. Only the metadata service sends it.
    code: Option<String>,
    access_key_id: Option<String>,
    secret_access_key: Option<String>,
    #[serde(alias = "SessionToken")]
    token: Option<String>,
    expiration: Option<Expiration>,
}

/// STS sends JSON dates in seconds, all other sources as text.
#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum Expiration {
    Seconds(f64),
    Text(String),
}

impl Handed {
    pub(super) fn parse(body: &[u8]) -> Result<Self, String> {
        // A `serde_json` error quotes its input.
        serde_json::from_slice(body).map_err(|_| "its answer is not the expected JSON".to_owned())
    }

    /// Parses XML, which STS answers by default or when it ignores the Accept header. Keys, tokens and dates
    /// contain no characters that XML escapes.
    pub(super) fn of_xml(body: &[u8]) -> Result<Self, String> {
        let text = std::str::from_utf8(body).unwrap_or_default();
        let credentials = element(text, "Credentials").ok_or("its answer holds no credentials")?;
        let member = |name| element(credentials, name).map(str::to_owned);
        Ok(Self {
            code: None,
            access_key_id: member("AccessKeyId"),
            secret_access_key: member("SecretAccessKey"),
            token: member("SessionToken"),
            expiration: member("Expiration").map(Expiration::Text),
        })
    }

    /// Returns the credentials if all fields are present. All sources here send an expiration, so an answer
    /// without one is invalid.
    pub(super) fn credentials(self) -> Result<Credentials, String> {
        if let Some(code) = self.code.filter(|code| code != "Success") {
            let code = shown_code(&code).unwrap_or_else(|| "a code that is none".to_owned());
            return Err(format!("its answer says {code}"));
        }
        let missing = |name: &str| format!("its answer has no {name}");
        let id = self.access_key_id.ok_or_else(|| missing("AccessKeyId"))?;
        let secret = self.secret_access_key.ok_or_else(|| missing("SecretAccessKey"))?;
        let token = self.token.ok_or_else(|| missing("session token"))?;
        let end = self.expiration.and_then(Expiration::time).ok_or_else(|| missing("legal Expiration"))?;
        usable(id, secret, Some(token), Some(end))
    }
}

impl Expiration {
    fn time(self) -> Option<SystemTime> {
        match self {
            Self::Seconds(seconds) => {
                SystemTime::UNIX_EPOCH.checked_add(Duration::try_from_secs_f64(seconds).ok()?)
            }
            Self::Text(text) => Some(text.parse::<jiff::Timestamp>().ok()?.into()),
        }
    }
}

/// Checks that credentials fit into a header. A line break at the end of a mounted key is a common mistake.
pub(super) fn usable(
    id: String,
    secret: String,
    token: Option<String>,
    end: Option<SystemTime>,
) -> Result<Credentials, String> {
    let is_legal = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
    for (name, text) in [("access key ID", &id), ("secret access key", &secret)]
        .into_iter()
        .chain(token.as_ref().map(|token| ("session token", token)))
    {
        if !is_legal(text) {
            return Err(format!(
                "the {name} is empty or holds blanks, line breaks or other foreign characters"
            ));
        }
    }
    Ok(Credentials::new(id, secret, token, end, "parameter-mirror-reader"))
}

/// Returns the content of the first element with this name.
pub(super) fn element<'t>(text: &'t str, name: &str) -> Option<&'t str> {
    let (_, rest) = text.split_once(&format!("<{name}>"))?;
    Some(rest.split_once(&format!("</{name}>"))?.0)
}
