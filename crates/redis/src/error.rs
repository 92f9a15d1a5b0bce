//! The errors of Redis operations, classified by the reaction they need.

use redis::{ErrorKind, RedisError};

use crate::SettingsError;

const UNEXPECTED_FORM: &str = "an answer of an unexpected form";
const WITH_TLS: &str = "; if this port speaks TLS, write rediss:// instead of redis://";

/// Why an operation failed. No message contains a value, a password or a URL.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConnectionError {
    /// No connection.
    #[error("Redis is not available: {0}")]
    Unavailable(String),
    /// The server answers, but cannot serve at the moment. Holds the error code (loading, a cluster that
    /// fails over or moves a slot). Another connection would get the same answer.
    #[error("Redis does not serve just now: {0}")]
    Refused(String),
    /// Another node of the cluster serves the key, at this `host:port`. An empty host means the host that was
    /// asked.
    #[error("Redis is a cluster: another node serves this key")]
    Moved(String),
    /// No answer within the deadline. A write may have been executed, or may still be executed later.
    #[error("Redis did not answer in time")]
    Timeout,
    /// The server is a replica, as after a failover.
    #[error("Redis answered as a read-only replica")]
    ReadOnly,
    /// The server refuses writes because its memory is full. It keeps the data it has.
    #[error("Redis is out of memory")]
    OutOfMemory,
    /// The user or password is missing or wrong.
    #[error("Redis refused the user or password")]
    Unauthenticated,
    /// The server refused a password made for this one connection. Says whose identity it was, and what to
    /// check.
    #[error("Redis refused the sign-in {0}")]
    SignInRefused(String),
    /// The client has no credentials to sign in with, so it sent nothing.
    #[error("there is nothing to sign in to Redis with: {0}")]
    NothingToSignInWith(String),
    /// The user lacks a permission. Names it in the operator's own words.
    #[error("Redis denies it: {0}")]
    Forbidden(String),
    /// The key holds a type other than a hash.
    #[error("the Redis key holds something else than a hash")]
    WrongType,
    /// The settings are invalid; no connection was attempted.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// Any other error, without the server's own text, which may repeat arguments.
    #[error("Redis answered with an error: {0}")]
    Other(String),
}

impl ConnectionError {
    /// Whether the cause is the user, the password or a missing permission.
    #[must_use]
    pub fn is_denied(&self) -> bool {
        matches!(self, Self::Unauthenticated | Self::SignInRefused(_) | Self::Forbidden(_))
    }

    /// Whether the connection failed, and not the server on it: another connection may fare better.
    #[must_use]
    pub fn is_of_the_connection(&self) -> bool {
        matches!(self, Self::Unavailable(_) | Self::Timeout)
    }

    /// Adds what to try, if this is how a server with TLS answers a client without: it ends the connection, or sends an
    /// alert, which is no answer of Redis.
    pub(crate) fn of_a_first_answer_in_clear(self) -> Self {
        match self {
            Self::Unavailable(what) => Self::Unavailable(format!("{what}{WITH_TLS}")),
            Self::Other(what) if what == UNEXPECTED_FORM => Self::Unavailable(format!("{what}{WITH_TLS}")),
            other => other,
        }
    }

    /// Adds the server's address, if the message does not name the server otherwise.
    pub(crate) fn at(self, address: &str) -> Self {
        match self {
            Self::Unavailable(what) => Self::Unavailable(format!("{address}: {what}")),
            other => other,
        }
    }

    fn from_code(code: &str, detail: &str) -> Self {
        match code {
            "OOM" => Self::OutOfMemory,
            // The replica has lost its primary. A new connection is likely to reach another server, now or
            // soon.
            "READONLY" | "MASTERDOWN" => Self::ReadOnly,
            "NOAUTH" | "WRONGPASS" => Self::Unauthenticated,
            "NOPERM" => Self::Forbidden(missing_right(detail)),
            "WRONGTYPE" => Self::WrongType,
            "MOVED" => match detail.split_ascii_whitespace().nth(1) {
                Some(address) => Self::Moved(address.to_owned()),
                None => Self::Other(code.to_owned()),
            },
            // ASK: the cluster is migrating the slot to another node, key by key. This takes moments, and a
            // set cannot be written before all its keys have arrived.
            "LOADING" | "CLUSTERDOWN" | "TRYAGAIN" | "ASK" | "BUSY" => Self::Refused(code.to_owned()),
            // Error codes are upper-case. Any other first word is arbitrary text and may contain data.
            other
                if (1..=32).contains(&other.len()) && other.bytes().all(|byte| byte.is_ascii_uppercase()) =>
            {
                Self::Other(other.to_owned())
            }
            _ => Self::Other("one without a code".to_owned()),
        }
    }
}

/// Names the permission that the user lacks. The server's text may quote more, so only the name of a command
/// is repeated.
fn missing_right(words: &str) -> String {
    let quoted = words.split('\'').nth(1).unwrap_or_default();
    let is_a_command = (1..=32).contains(&quoted.len())
        && quoted.bytes().all(|byte| byte.is_ascii_lowercase() || matches!(byte, b'|' | b'-' | b'_'));
    let runs = words.contains("to run the") || words.contains("can't run");
    match () {
        () if runs && is_a_command => format!("this user may not run {}", quoted.to_ascii_uppercase()),
        () if runs => "this user may not run a command of the script".to_owned(),
        () if words.contains("key") => "this user may not use this key".to_owned(),
        () => "this user lacks a right".to_owned(),
    }
}

impl ConnectionError {
    /// Returns the class of an error raised by a command inside a script, where the script's own code hides
    /// it.
    fn from_script(detail: &str) -> Option<Self> {
        // Redis 7 describes the missing permission in words, before the position in the script.
        if ["The user executing the script can't", "ACL failure in script"]
            .iter()
            .any(|way| detail.starts_with(way))
        {
            return Some(Self::Forbidden(missing_right(detail)));
        }
        // Before Redis 7: `Error running script (call to ...): @user_script:1: -OOM command not ...`.
        let (_, inner) = detail.starts_with("Error running script").then(|| detail.split_once(": -"))??;
        let (code, words) = inner.split_once(' ')?;
        Some(Self::from_code(code, words))
    }
}

impl From<&RedisError> for ConnectionError {
    fn from(error: &RedisError) -> Self {
        if error.is_timeout() {
            return Self::Timeout;
        }
        match error.kind() {
            ErrorKind::AuthenticationFailed => Self::Unauthenticated,
            // Texts of the operating system and the TLS library, which contain no values.
            ErrorKind::Io | ErrorKind::Client => Self::Unavailable(error.to_string()),
            ErrorKind::Parse | ErrorKind::UnexpectedReturnType => Self::Other(UNEXPECTED_FORM.to_owned()),
            _ => {
                let detail = error.detail().unwrap_or_default();
                match error.code() {
                    Some("ERR") => Self::from_script(detail).unwrap_or_else(|| Self::from_code("ERR", "")),
                    Some(code) => Self::from_code(code, detail),
                    None => Self::Other(error.category().to_owned()),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(answer: &[u8]) -> ConnectionError {
        ConnectionError::from(&redis::parse_redis_value(answer).unwrap().extract_error().unwrap_err())
    }

    #[test]
    fn answers_of_the_server_have_their_class() {
        assert_eq!(
            class(b"-OOM command not allowed when used memory > 'maxmemory'.\r\n"),
            ConnectionError::OutOfMemory
        );
        assert_eq!(
            class(b"-READONLY You can't write against a read only replica.\r\n"),
            ConnectionError::ReadOnly
        );
        assert_eq!(class(b"-NOAUTH Authentication required.\r\n"), ConnectionError::Unauthenticated);
        assert_eq!(class(b"-WRONGPASS invalid username-password pair\r\n"), ConnectionError::Unauthenticated);
        assert_eq!(class(b"-WRONGTYPE Operation against a key\r\n"), ConnectionError::WrongType);
        for (answer, text) in [
            (
                b"-NOPERM this user has no permissions to run the 'hset' command\r\n".as_slice(),
                "this user may not run HSET",
            ),
            (
                b"-NOPERM User mirror has no permissions to run the 'script|load' command\r\n",
                "this user may not run SCRIPT|LOAD",
            ),
            (b"-NOPERM No permissions to access a key\r\n", "this user may not use this key"),
        ] {
            assert_eq!(class(answer), ConnectionError::Forbidden(text.to_owned()));
        }
        assert_eq!(class(b"-MASTERDOWN Link with MASTER is down\r\n"), ConnectionError::ReadOnly);
        for (answer, code) in [
            (b"-LOADING Redis is loading the dataset in memory\r\n".as_slice(), "LOADING"),
            (b"-BUSY Redis is busy running a script.\r\n", "BUSY"),
            (b"-CLUSTERDOWN The cluster is down\r\n", "CLUSTERDOWN"),
            (b"-TRYAGAIN Multiple keys request during rehashing of slot\r\n", "TRYAGAIN"),
            (b"-ASK 3999 127.0.0.1:6381\r\n", "ASK"),
        ] {
            assert_eq!(class(answer), ConnectionError::Refused(code.to_owned()));
        }
        assert_eq!(
            class(b"-MOVED 3999 127.0.0.1:6381\r\n"),
            ConnectionError::Moved("127.0.0.1:6381".to_owned())
        );
        assert_eq!(class(b"-MOVED 3999 :6381\r\n"), ConnectionError::Moved(":6381".to_owned()));
    }

    #[test]
    fn an_error_inside_a_script_has_its_class() {
        let answer = b"-ERR The user executing the script can't run this command or subcommand script: 08be, on @user_script:1.\r\n";
        assert_eq!(
            class(answer),
            ConnectionError::Forbidden("this user may not run a command of the script".to_owned())
        );
        let answer =
            b"-ERR Error running script (call to f_c0de): @user_script:1: -OOM command not allowed\r\n";
        assert_eq!(class(answer), ConnectionError::OutOfMemory);
    }

    #[test]
    fn words_that_may_repeat_arguments_are_left_out() {
        let shown =
            class(b"-ERR unknown command 'HSETX', with args beginning with: 'hunter2'\r\n").to_string();
        assert_eq!(shown, "Redis answered with an error: ERR");
        let codes = "ERR NOPERM NOAUTH WRONGPASS OOM READONLY MASTERDOWN WRONGTYPE MOVED ASK LOADING BUSY EXECABORT MISCONF hunter2";
        for code in codes.split(' ') {
            for words in [
                "hunter2",
                "User hunter2 has no permissions to run the 'hunter2' command",
                "User x has no permissions to access the 'hunter2' key",
                "The user executing the script can't run hunter2 script: hunter2",
                "Error running script (call to hunter2): @user_script:1: -hunter2 hunter2",
            ] {
                let text = class(format!("-{code} {words}\r\n").as_bytes()).to_string();
                assert!(!text.contains("unter2"), "{code} {words}: {text}");
            }
        }
    }
}
