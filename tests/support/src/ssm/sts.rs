//! `AssumeRole` of STS, on the same port: a form in, XML out. The access key it hands out says whose account it is.

use super::coded::Coded;
use super::reply::{Content, Reply};

/// First part of an access key that was handed out here; the account follows.
const KEY: &str = "ASIAROLE";

/// The role of a request body that asks for `AssumeRole`; `None` if it asks for something else.
pub(crate) fn role(body: &[u8]) -> Option<String> {
    let body = std::str::from_utf8(body).ok()?;
    let member = |name: &str| {
        body.split('&')
            .find_map(|pair| pair.split_once('=').filter(|(key, _)| *key == name))
            .map(|(_, value)| value)
    };
    (member("Action") == Some("AssumeRole")).then(|| unescaped(member("RoleArn").unwrap_or_default()))
}

/// The account that a role belongs to.
pub(crate) fn account(role: &str) -> Option<&str> {
    role.split(':').nth(4).filter(|account| !account.is_empty())
}

/// The account that an access key of ours stands for.
pub(crate) fn account_of_key(access_key: &str) -> Option<&str> {
    access_key.strip_prefix(KEY)
}

/// Credentials of a role, good for an hour; a refusal if the text names no account to give them for.
pub(crate) fn credentials(role: &str, now_ms: u64) -> Reply {
    let Some(account) = account(role) else {
        return refusal(400, "ValidationError", &format!("{role} is invalid"));
    };
    let expires = i64::try_from(now_ms / 1_000 + 3_600).unwrap_or(i64::MAX);
    let expires = jiff::Timestamp::from_second(expires).unwrap_or(jiff::Timestamp::MAX);
    Reply::new(
        200,
        Content::Xml(format!(
            "<AssumeRoleResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><AssumeRoleResult>\
             <AssumedRoleUser><Arn>{role}/session</Arn><AssumedRoleId>AROA:session</AssumedRoleId></AssumedRoleUser>\
             <Credentials><AccessKeyId>{KEY}{account}</AccessKeyId><SecretAccessKey>secret</SecretAccessKey>\
             <SessionToken>token</SessionToken><Expiration>{expires}</Expiration></Credentials>\
             </AssumeRoleResult></AssumeRoleResponse>"
        )),
    )
}

/// An error as STS words it.
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

/// Percent-decoding of what a role ARN can hold.
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
