//! What can go wrong, each with its exit code (`parameter-mirror-reader --help` lists them).

use std::ffi::OsString;
use std::time::Duration;

use parameter_mirror_format::hash::ReaderError;
use parameter_mirror_format::humanize::span;
use parameter_mirror_redis::{ConnectionError, PasswordInUrl};

use crate::ssm::SsmError;
use crate::variables::KeyProblem;
use parameter_mirror_format::hash::mirror_name::MirrorName;

/// Why the reader did not do what it was asked. One line for people; no value appears in it.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// A setting is missing or contradicts another.
    #[error("{0}")]
    Settings(String),
    /// The URL was given with a password.
    #[error(transparent)]
    PasswordInUrl(#[from] PasswordInUrl),
    /// A mirror cannot be used.
    #[error("{mirror}: {}", told(.error))]
    Mirror {
        /// Which one.
        mirror: MirrorName,
        /// Why not.
        error: ReaderError,
    },
    /// A mirror that holds nothing: an environment is never empty by mistake.
    #[error("{0}: the mirror holds no parameter")]
    Empty(MirrorName),
    /// Redis.
    #[error("{0}. Nothing was started; check --redis-url, the network, and the rights of the Redis user")]
    Redis(#[from] ConnectionError),
    /// Older than is accepted, and nothing else may be asked.
    #[error("{mirror}: read {} ago, --max-stale is {}", span(*age), span(*most))]
    Stale {
        /// Which one.
        mirror: MirrorName,
        /// How old it is.
        age: Duration,
        /// How old it may be.
        most: Duration,
    },
    /// What is held is newer.
    #[error(
        "{mirror}: Redis holds the set of {}, and the one of {} goes on being used. Redis was restored, or somebody put the old set back; a \
         working operator replaces it",
        moment(*found),
        moment(*held)
    )]
    PutBack {
        /// Which one.
        mirror: MirrorName,
        /// When the set in Redis was read, Unix milliseconds.
        found: i64,
        /// When the one that is held was.
        held: i64,
    },
    /// Variables.
    #[error(transparent)]
    Keys(#[from] KeyProblem),
    /// `get` of something that is not there.
    #[error("{0} is in none of the mirrors")]
    NoSuchParameter(String),
    /// Both.
    #[error("{ssm}. {mirror}")]
    Both {
        /// What SSM said.
        ssm: SsmError,
        /// What is wrong with the mirror.
        mirror: Box<Failure>,
    },
    /// `verify` found something.
    #[error("{0} of the checks need attention")]
    Attention(usize),
    /// The program of `exec` or `watch` cannot be executed.
    #[error("{}: {error}", .program.to_string_lossy())]
    Program {
        /// What was to be executed.
        program: OsString,
        /// Why it cannot be.
        error: std::io::Error,
    },
    /// Anything of the system around.
    #[error("{0}")]
    System(String),
}

impl Failure {
    /// The exit code.
    #[must_use]
    pub fn code(&self) -> u8 {
        match self {
            Self::Settings(_) | Self::PasswordInUrl(_) | Self::Redis(ConnectionError::Settings(_)) => 2,
            Self::Mirror { error, .. } => match error {
                ReaderError::Missing => 10,
                ReaderError::NewerLayout(_) => 11,
                ReaderError::KeyMissing { .. } => 12,
                ReaderError::Broken(_) => 13,
                ReaderError::NotEncrypted { .. } => 20,
            },
            Self::Empty(_) | Self::PutBack { .. } | Self::Redis(ConnectionError::WrongType) => 13,
            Self::Redis(_) => 14,
            Self::Stale { .. } => 15,
            Self::Keys(_) => 16,
            Self::NoSuchParameter(_) => 17,
            Self::Both { .. } => 18,
            Self::Attention(_) => 19,
            Self::System(_) => 125,
            Self::Program { error, .. } if error.kind() == std::io::ErrorKind::NotFound => 127,
            Self::Program { .. } => 126,
        }
    }
}

fn moment(milliseconds: i64) -> String {
    jiff::Timestamp::from_millisecond(milliseconds)
        .map_or_else(|_| milliseconds.to_string(), |time| time.to_string())
}

/// With what to do about it.
fn told(error: &ReaderError) -> String {
    match error {
        ReaderError::Missing => "there is no such mirror in Redis. Check namespace/name and --redis-prefix; \
                                 `kubectl get pmirror` tells whether it was ever read"
            .to_owned(),
        ReaderError::NewerLayout(_) => format!("{error}. Upgrade the reader"),
        ReaderError::KeyMissing { .. } => {
            format!("{error}. `parameter-mirror key namespace/mirror` prints it: give it with --sub-key-file")
        }
        ReaderError::NotEncrypted { .. } => {
            format!(
                "{error}. Set spec.redis.encryption of the mirror; if it is set and this goes on, somebody else writes to Redis"
            )
        }
        ReaderError::Broken(cause) => {
            format!("the mirror cannot be used: {cause}. The operator repairs it at its next read")
        }
    }
}
