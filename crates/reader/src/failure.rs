//! The failures of the reader, each with its exit code (`parameter-mirror-reader --help` lists them).

use std::ffi::OsString;
use std::time::Duration;

use parameter_mirror_format::crypto::envelope::OpenError;
use parameter_mirror_format::hash::ReaderError;
use parameter_mirror_format::verdict::BrokenCause;
use parameter_mirror_redis::ConnectionError;

use crate::ssm::SsmReadError;
use crate::variables::KeyProblem;
use parameter_mirror_format::content::environment::EnvironmentProblem;
use parameter_mirror_format::hash::mirror_name::MirrorName;
use parameter_mirror_format::humanize::span;
use parameter_mirror_format::level::Level;

/// Why the reader failed. One line for people; it contains no value.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// A setting is missing or contradicts another.
    #[error("{0}")]
    Settings(String),
    /// A mirror cannot be used.
    #[error("{mirror}: {}", with_hint(.mirror, .error))]
    Mirror {
        /// The mirror.
        mirror: MirrorName,
        /// The reason.
        error: ReaderError,
    },
    /// A mirror without parameters. It is an error, because an environment must never be empty by mistake.
    #[error("{0}: the mirror holds no parameter")]
    Empty(MirrorName),
    /// A Redis operation failed.
    #[error("{}{}", .0, what_to_check(.0))]
    Redis(#[from] ConnectionError),
    /// The mirror is older than `--max-stale`, and no other source may be asked.
    #[error("{mirror}: read {} ago, --max-stale is {}", span(*age), span(*most))]
    Stale {
        /// The mirror.
        mirror: MirrorName,
        /// Its age.
        age: Duration,
        /// The accepted age.
        most: Duration,
    },
    /// The set in Redis is older than the one in use.
    #[error(
        "{mirror}: Redis holds the set of {}, and the one of {} goes on being used. Redis was restored, or somebody put the old set back; a \
         working operator replaces it",
        moment(*found),
        moment(*held)
    )]
    PutBack {
        /// The mirror.
        mirror: MirrorName,
        /// When the set in Redis was read, Unix milliseconds.
        found: i64,
        /// When the set in use was read.
        held: i64,
    },
    /// The parameters cannot become variables.
    #[error(transparent)]
    Keys(#[from] KeyProblem),
    /// `get` of a parameter that no mirror contains.
    #[error("{0} is in none of the mirrors")]
    NoSuchParameter(String),
    /// Both sources failed.
    #[error("{ssm}. {mirror}")]
    Both {
        /// The error of SSM.
        ssm: SsmReadError,
        /// The failure of the mirror.
        mirror: Box<Failure>,
    },
    /// `verify` found issues; the worst of them.
    #[error("{}", if *.0 == Level::Fail { "a check failed" } else { "there are warnings" })]
    Findings(Level),
    /// The program of `exec` or `watch` cannot be executed.
    #[error("{}: {error}", .program.to_string_lossy())]
    Program {
        /// The program.
        program: OsString,
        /// The reason.
        error: std::io::Error,
    },
    /// A failure of the operating system.
    #[error("{0}")]
    System(String),
}

impl Failure {
    /// Returns the exit code.
    #[must_use]
    pub fn code(&self) -> u8 {
        match self {
            Self::Settings(_) | Self::Redis(ConnectionError::Settings(_)) => 2,
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
            Self::Findings(worst) => worst.exit_code(),
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

/// Returns what to do about an error of Redis. A setting that is wrong has been named.
fn what_to_check(error: &ConnectionError) -> &'static str {
    match error {
        _ if error.is_denied() => {
            ". Check the Redis user, its password and its permissions (docs/reference/reader.md, \"Permissions\")"
        }
        _ if error.is_of_the_connection() => ". Check --redis-url and the network",
        _ => "",
    }
}

/// Adds what to do about an error.
fn with_hint(mirror: &MirrorName, error: &ReaderError) -> String {
    match error {
        ReaderError::Missing => "there is no such mirror in Redis. Check namespace/name and --redis-prefix; \
                                 `kubectl get pmirror` shows whether it was ever read"
            .to_owned(),
        ReaderError::NewerLayout(_) => format!("{error}. Upgrade the reader"),
        ReaderError::KeyMissing { .. } => {
            format!("{error}. `parameter-mirror key {mirror}` prints it: give it with --sub-key-file")
        }
        ReaderError::Broken(BrokenCause::ValueUnreadable { name, why: OpenError::Refused(key_id) }) => {
            format!(
                "cannot decrypt {name} with the given sub-key {key_id}: it is the sub-key of another mirror, or the data was tampered with. Get \
             the right one: parameter-mirror key {mirror}"
            )
        }
        ReaderError::Broken(cause @ BrokenCause::ReaderMac) => {
            format!("{cause}. Get the right one: parameter-mirror key {mirror}")
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

impl From<EnvironmentProblem> for Failure {
    fn from(problem: EnvironmentProblem) -> Self {
        Self::Keys(problem.into())
    }
}
