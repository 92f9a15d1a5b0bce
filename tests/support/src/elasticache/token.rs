//! Verifies a token with the secret key, by the rules of Signature Version 4 ("Create a signed AWS API
//! request" in the IAM User Guide) and of ElastiCache ("Authenticating with IAM"). It shares no code with the
//! tested program.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use aws_lc_rs::{digest, hmac};
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

/// The longest lifetime of a token.
const LONGEST: Duration = Duration::from_mins(15);
/// How far ahead the signer's clock may be.
const SKEW: Duration = Duration::from_mins(5);

/// The cache to sign in to, which determines what must be signed.
#[derive(Clone, Debug)]
pub struct Cache {
    /// The name of the replication group, serverless cache or cluster.
    pub name: &'static str,
    /// `elasticache` or `memorydb`.
    pub service: &'static str,
    /// The region.
    pub region: &'static str,
    /// Whether it is an ElastiCache Serverless cache.
    pub serverless: bool,
}

/// An access key that AWS knows.
#[derive(Clone, Debug)]
pub struct Key {
    /// The secret access key.
    pub secret: String,
    /// The session token of temporary credentials.
    pub session: Option<String>,
}

/// Why a token is refused. The client only receives `WRONGPASS`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// It is not a signed request, or has other parameters.
    Form,
    /// It is for another cache.
    Cache,
    /// The action is not to connect, or not to this kind of cache.
    Action,
    /// It is for another user than the one that signs in.
    User,
    /// It is for another region, service or day.
    Scope,
    /// Its lifetime is too long.
    Lasts,
    /// It has expired, or is dated in the future.
    Time,
    /// The access key is unknown.
    Key,
    /// The session token does not belong to the access key.
    Session,
    /// The signature is wrong.
    Signature,
}

/// Checks whether this user may sign in with this token now.
pub fn judge(
    token: &str,
    user: &str,
    cache: &Cache,
    keys: &BTreeMap<String, Key>,
    now: Timestamp,
) -> Result<(), Refused> {
    let (host, query) = token.split_once("/?").ok_or(Refused::Form)?;
    let mut parameters = BTreeMap::new();
    for pair in query.split('&') {
        let (name, value) = pair.split_once('=').ok_or(Refused::Form)?;
        let value = decoded(value).ok_or(Refused::Form)?;
        if parameters.insert(name.to_owned(), value).is_some() {
            return Err(Refused::Form);
        }
    }
    let signature = parameters.remove("X-Amz-Signature").ok_or(Refused::Form)?;
    let of = |name: &str| parameters.get(name).map(String::as_str);
    if of("X-Amz-Algorithm") != Some("AWS4-HMAC-SHA256") || of("X-Amz-SignedHeaders") != Some("host") {
        return Err(Refused::Form);
    }
    require(host == cache.name, Refused::Cache)?;
    let kind = cache.serverless.then_some("ServerlessCache");
    require(of("Action") == Some("connect") && of("ResourceType") == kind, Refused::Action)?;
    require(of("User") == Some(user), Refused::User)?;

    let date = of("X-Amz-Date").ok_or(Refused::Form)?;
    let (access_key, scope) =
        of("X-Amz-Credential").and_then(|text| text.split_once('/')).ok_or(Refused::Form)?;
    let day = date.get(..8).ok_or(Refused::Form)?;
    let expected = format!("{day}/{}/{}/aws4_request", cache.region, cache.service);
    require(scope == expected, Refused::Scope)?;
    let seconds: u64 = of("X-Amz-Expires").and_then(|text| text.parse().ok()).ok_or(Refused::Form)?;
    let lasts = Duration::from_secs(seconds);
    require(lasts <= LONGEST, Refused::Lasts)?;
    let signed = moment(date).ok_or(Refused::Form)?;
    require(signed <= now + SKEW && now < signed + lasts, Refused::Time)?;

    let key = keys.get(access_key).ok_or(Refused::Key)?;
    require(of("X-Amz-Security-Token") == key.session.as_deref(), Refused::Session)?;
    let request = canonical(host, &parameters);
    let to_sign = format!("AWS4-HMAC-SHA256\n{date}\n{scope}\n{}", hex(&sha256(request.as_bytes())));
    let mut signing_key = format!("AWS4{}", key.secret).into_bytes();
    for part in scope.split('/') {
        signing_key = mac(&signing_key, part.as_bytes());
    }
    require(hex(&mac(&signing_key, to_sign.as_bytes())) == signature, Refused::Signature)
}

fn require(holds: bool, or: Refused) -> Result<(), Refused> {
    if holds { Ok(()) } else { Err(or) }
}

/// Parses `20260102T030405Z`.
fn moment(date: &str) -> Option<Timestamp> {
    let date = DateTime::strptime("%Y%m%dT%H%M%SZ", date).ok()?;
    Some(date.to_zoned(TimeZone::UTC).ok()?.timestamp())
}

/// Returns the canonical request. A map sorts the parameters by name, as required: no name needs escapes, and
/// each occurs once.
fn canonical(host: &str, parameters: &BTreeMap<String, String>) -> String {
    let query: Vec<_> = parameters.iter().map(|(name, value)| format!("{name}={}", encoded(value))).collect();
    let no_body = hex(&sha256(b""));
    format!("GET\n/\n{}\nhost:{host}\n\nhost\n{no_body}", query.join("&"))
}

fn sha256(bytes: &[u8]) -> Vec<u8> {
    digest::digest(&digest::SHA256, bytes).as_ref().to_vec()
}

fn mac(key: &[u8], bytes: &[u8]) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), bytes).as_ref().to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

fn encoded(text: &str) -> String {
    text.bytes().fold(String::new(), |mut encoded, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            let _ = write!(encoded, "%{byte:02X}");
        }
        encoded
    })
}

fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('%') {
        bytes.extend(before.bytes());
        bytes.push(u8::from_str_radix(after.get(..2)?, 16).ok()?);
        rest = &after[2..];
    }
    bytes.extend(rest.bytes());
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made by botocore.
    const TOKEN: &str = "shop-cache/?Action=connect&User=parameter-mirror&ResourceType=ServerlessCache&\
        X-Amz-Algorithm=AWS4-HMAC-SHA256&\
        X-Amz-Credential=AKIDEXAMPLE%2F20260102%2Feu-central-1%2Felasticache%2Faws4_request&X-Amz-Date=20260102T030405Z&\
        X-Amz-Expires=900&X-Amz-SignedHeaders=host&X-Amz-Security-Token=TOKEN%2F%2B%3D&\
        X-Amz-Signature=9e977ee27d705df46acf930e15dcb7cb735ad44cad0055444464d42980c225f8";

    const CACHE: Cache =
        Cache { name: "shop-cache", service: "elasticache", region: "eu-central-1", serverless: true };

    fn keys(secret: &str, session: Option<&str>) -> BTreeMap<String, Key> {
        let key = Key { secret: secret.to_owned(), session: session.map(str::to_owned) };
        BTreeMap::from([("AKIDEXAMPLE".to_owned(), key)])
    }

    fn right() -> BTreeMap<String, Key> {
        keys("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", Some("TOKEN/+="))
    }

    fn at(time: &str) -> Timestamp {
        format!("2026-01-02T{time}Z").parse().unwrap()
    }

    fn judged(token: &str) -> Result<(), Refused> {
        judge(token, "parameter-mirror", &CACHE, &right(), at("03:04:06"))
    }

    #[test]
    fn what_botocore_signs_is_let_in_as_long_as_it_lasts() {
        for time in ["03:00:00", "03:04:05", "03:19:04"] {
            assert_eq!(judge(TOKEN, "parameter-mirror", &CACHE, &right(), at(time)), Ok(()), "{time}");
        }
        for time in ["02:59:04", "03:19:05"] {
            let judged = judge(TOKEN, "parameter-mirror", &CACHE, &right(), at(time));
            assert_eq!(judged, Err(Refused::Time), "{time}");
        }
    }

    #[test]
    fn other_callers_and_other_requests_are_refused() {
        let now = at("03:04:06");
        let elsewhere = |cache: Cache| judge(TOKEN, "parameter-mirror", &cache, &right(), now);
        assert_eq!(elsewhere(Cache { name: "shop", ..CACHE }), Err(Refused::Cache));
        assert_eq!(elsewhere(Cache { serverless: false, ..CACHE }), Err(Refused::Action));
        assert_eq!(elsewhere(Cache { service: "memorydb", ..CACHE }), Err(Refused::Scope));
        assert_eq!(elsewhere(Cache { region: "eu-west-1", ..CACHE }), Err(Refused::Scope));
        assert_eq!(judge(TOKEN, "default", &CACHE, &right(), now), Err(Refused::User));
        let with = |keys| judge(TOKEN, "parameter-mirror", &CACHE, &keys, now);
        assert_eq!(with(BTreeMap::new()), Err(Refused::Key));
        assert_eq!(with(keys("another", Some("TOKEN/+="))), Err(Refused::Signature));
        assert_eq!(with(keys("another", None)), Err(Refused::Session));
    }

    #[test]
    fn nothing_in_a_token_can_be_changed() {
        assert_eq!(judged(TOKEN), Ok(()));
        for (part, other, refused) in [
            ("shop-cache/?", "shop-cache?", Refused::Form),
            ("host&", "host%3Bx&", Refused::Form),
            ("Action=connect", "Action=delete", Refused::Action),
            ("User=parameter-mirror", "User=default", Refused::User),
            ("Expires=900", "Expires=901", Refused::Lasts),
            ("Expires=900", "Expires=899", Refused::Signature),
            ("20260102T030405Z", "20260102T030406Z", Refused::Signature),
            ("AKIDEXAMPLE", "AKIDOTHER", Refused::Key),
            ("&X-Amz-Expires", "&More=1&X-Amz-Expires", Refused::Signature),
            ("25f8", "25f9", Refused::Signature),
        ] {
            assert_eq!(judged(&TOKEN.replace(part, other)), Err(refused), "{part} -> {other}");
        }
        assert_eq!(judged("hunter2"), Err(Refused::Form));
        assert_eq!(judged(&format!("{TOKEN}&Action=connect")), Err(Refused::Form));
    }
}
