//! `AssumeRole` and `AssumeRoleWithWebIdentity` of STS, on the same port: a form in, XML out. The session of
//! an access key determines its account and its expiration.

use std::time::Duration;

use super::coded::Coded;
use super::protocol::Operation;
use super::reply::{Content, Reply};
use super::store::SsmRefusal;

/// The prefix of access keys issued here; the number of the session follows.
const KEY: &str = "ASIAROLE";

/// A request for a session.
#[derive(Debug)]
pub(crate) struct Request {
    /// The operation.
    pub(crate) operation: Operation,
    /// The requested role.
    pub(crate) role: String,
    /// The token of a web identity, which replaces a signature.
    pub(crate) token: Option<String>,
}

impl Request {
    /// Parses a body; `None` if it is another request.
    pub(crate) fn parse(body: &[u8]) -> Option<Self> {
        let body = std::str::from_utf8(body).ok()?;
        let member = |name: &str| {
            body.split('&')
                .find_map(|pair| pair.split_once('=').filter(|(key, _)| *key == name))
                .map(|(_, value)| unescaped(value))
        };
        let role = member("RoleArn").unwrap_or_default();
        match member("Action")?.as_str() {
            "AssumeRole" => Some(Self { operation: Operation::AssumeRole, role, token: None }),
            "AssumeRoleWithWebIdentity" => {
                let token = Some(member("WebIdentityToken").unwrap_or_default());
                Some(Self { operation: Operation::AssumeRoleWithWebIdentity, role, token })
            }
            _ => None,
        }
    }
}

/// The sessions issued so far.
#[derive(Debug)]
pub(crate) struct Sessions {
    /// The lifetime of new sessions.
    pub(crate) lifetime: Duration,
    /// The secret key and the token of new sessions.
    pub(crate) secret: String,
    given: Vec<Session>,
    /// The tokens of all web identities, in order of the requests.
    pub(crate) tokens: Vec<String>,
}

#[derive(Debug)]
struct Session {
    account: String,
    ends_ms: u64,
}

impl Default for Sessions {
    fn default() -> Self {
        let (lifetime, secret) = (Duration::from_hours(1), "secret".to_owned());
        Self { lifetime, secret, given: Vec::new(), tokens: Vec::new() }
    }
}

impl Sessions {
    /// Answers a request with credentials, or with an error if the role has no account.
    pub(crate) fn open(&mut self, request: &Request, now_ms: u64) -> Reply {
        self.tokens.extend(request.token.clone());
        let role = &request.role;
        let Some(account) = role.split(':').nth(4).filter(|account| !account.is_empty()) else {
            return refusal(400, "ValidationError", &format!("{role} is invalid"));
        };
        let number = self.given.len();
        // Whole seconds, because STS dates sessions in seconds.
        let ends = now_ms / 1_000 + self.lifetime.as_secs();
        self.given.push(Session { account: account.to_owned(), ends_ms: ends * 1_000 });
        let ends = i64::try_from(ends).ok().and_then(|ends| jiff::Timestamp::from_second(ends).ok());
        let ends = ends.unwrap_or(jiff::Timestamp::MAX);
        let (operation, secret) = (request.operation.as_str(), &self.secret);
        Reply::new(
            200,
            Content::Xml(format!(
                "<{operation}Response xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><{operation}Result>\
                 <AssumedRoleUser><Arn>{role}/session</Arn><AssumedRoleId>AROA:session</AssumedRoleId></AssumedRoleUser>\
                 <Credentials><AccessKeyId>{KEY}{number}</AccessKeyId><SecretAccessKey>{secret}</SecretAccessKey>\
                 <SessionToken>{secret}</SessionToken><Expiration>{ends}</Expiration></Credentials>\
                 </{operation}Result></{operation}Response>"
            )),
        )
    }

    /// Returns the account of an access key issued here, or an error if its session has expired; `None` for
    /// other keys.
    pub(crate) fn account(&self, access_key: &str, now_ms: u64) -> Option<Result<&str, SsmRefusal>> {
        let session = self.given.get(access_key.strip_prefix(KEY)?.parse::<usize>().ok()?)?;
        Some(if now_ms < session.ends_ms { Ok(&session.account) } else { Err(expired()) })
    }

    /// Expires all sessions.
    pub(crate) fn end(&mut self) {
        for session in &mut self.given {
            session.ends_ms = 0;
        }
    }
}

fn expired() -> SsmRefusal {
    SsmRefusal::new("ExpiredTokenException", "The security token included in the request is expired")
}

/// The error of STS for a caller whose own credentials are refused.
pub(crate) fn refused_caller(refusal_of_ssm: &SsmRefusal) -> Reply {
    let code = refusal_of_ssm.code.trim_end_matches("Exception");
    refusal(403, code, &refusal_of_ssm.message)
}

/// An error in the format of STS.
pub(crate) fn error(Coded { status, code, message, .. }: &Coded) -> Reply {
    refusal(*status, code, message)
}

fn refusal(status: u16, code: &str, message: &str) -> Reply {
    Reply::new(
        status,
        Content::Xml(format!(
            "<ErrorResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><Error><Type>Sender</Type>\
             <Code>{code}</Code><Message>{message}</Message></Error></ErrorResponse>"
        )),
    )
}

/// Percent-decodes the characters of a role ARN or a token.
fn unescaped(text: &str) -> String {
    let mut plain = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('%') {
        plain.push_str(before);
        let byte = after.get(..2).and_then(|hex| u8::from_str_radix(hex, 16).ok());
        plain.push(char::from(byte.unwrap_or(b'%')));
        rest = after.get(2..).unwrap_or_default();
    }
    plain + rest
}
