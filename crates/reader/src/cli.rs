//! The command line: types only.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::BoolishValueParser;
use clap::{Args, Parser, Subcommand, ValueEnum};
use parameter_mirror_format::hash::EncryptionMode;
use parameter_mirror_redis::RedisArgs;

use parameter_mirror_format::hash::mirror_name::MirrorName;

/// Exit codes, at the end of the help.
const EXIT_CODES: &str = "\
Exit codes:
   0  done (exec: the program's own)
   2  the command line is wrong
   3  verify: a check failed
   4  verify: no check failed, but there are warnings
  10  there is no such mirror in Redis
  11  the mirror has a newer layout than this reader knows
  12  the sub-key for an encrypted value was not given
  13  the mirror is damaged, was tampered with, or does not fit the sub-key
  14  Redis does not answer, or refuses
  15  with --source mirror: the mirror is older than --max-stale
  16  a parameter has no usable name for a variable, two have the same, or a format cannot carry its value
  17  no such parameter in the mirror
  18  neither the mirror nor SSM could be read
  20  the mirror encrypts less than it has to (--require-encryption)
 125  the reader itself failed
 126  exec: the program cannot be executed
 127  exec: there is no such program";

/// Starts programs with parameters from their mirror in Redis, whether SSM answers or not.
#[derive(Debug, Parser)]
#[command(name = "parameter-mirror-reader", version, after_help = EXIT_CODES)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a program with the parameters as environment variables, in place of this process
    Exec(ExecArgs),
    /// Print one parameter
    Get(GetArgs),
    /// Print all parameters
    Export(ExportArgs),
    /// Print a line, or run a program, on every change of the mirrors
    Watch(WatchArgs),
    /// Check that programs can start from the mirrors in an SSM outage
    Verify(VerifyArgs),
    /// Serve an SSM-compatible endpoint on localhost
    Serve(ServeArgs),
    /// The same inside a Lambda function, as an extension
    LambdaExtension(ServeArgs),
}

/// Which mirrors, and how to reach them.
#[derive(Debug, Args)]
pub struct MirrorArgs {
    /// Mirror to read; may be given several times
    #[arg(
        long = "mirror",
        value_name = "NAMESPACE/NAME",
        env = "PARAMETER_MIRROR_MIRRORS",
        value_delimiter = ',',
        required = true
    )]
    pub mirrors: Vec<MirrorName>,

    /// File with the sub-keys, one a line, as `parameter-mirror key` prints them. They may stand in the variable
    /// `PARAMETER_MIRROR_SUB_KEYS` instead, separated by commas
    #[arg(long, env = "PARAMETER_MIRROR_SUB_KEY_FILE")]
    pub sub_key_file: Option<PathBuf>,

    /// What the mirror has to encrypt in Redis, as in `spec.redis.encryption`, or it is not read; default: with sub-keys `SecureStrings`,
    /// without any `None`
    #[arg(long, env = "PARAMETER_MIRROR_REQUIRE_ENCRYPTION", value_enum)]
    pub require_encryption: Option<EncryptionMode>,

    /// Longest time to wait for Redis, and for SSM after it
    #[arg(long, env = "PARAMETER_MIRROR_BUDGET", value_parser = duration, default_value = "2s")]
    pub budget: Duration,

    /// How to reach Redis
    #[command(flatten)]
    pub redis: RedisArgs,
}

/// Which of the two counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Source {
    /// The mirror; SSM if it cannot be used
    MirrorFirst,
    /// SSM; the mirror if SSM does not answer in time
    SsmFirst,
    /// The mirror and nothing else
    Mirror,
}

/// In which order to ask.
#[derive(Debug, Args)]
#[command(next_help_heading = "Reading order")]
pub struct FallbackArgs {
    /// Which one counts
    #[arg(long, env = "PARAMETER_MIRROR_SOURCE", value_enum, default_value = "mirror-first")]
    pub source: Source,

    /// Maximum acceptable age of the mirror, e.g. `1h`. An older one is used only if SSM cannot be read, with a warning; with
    /// `--source mirror` it is an error
    #[arg(long, env = "PARAMETER_MIRROR_MAX_STALE", value_parser = duration)]
    pub max_stale: Option<Duration>,

    /// Longest time to wait for SSM with `--source ssm-first`
    #[arg(long, env = "PARAMETER_MIRROR_SSM_BUDGET", value_parser = duration, default_value = "1s")]
    pub ssm_budget: Duration,

    /// SSM itself, if it may be asked
    #[command(flatten)]
    pub ssm: SsmArgs,
}

/// What to ask SSM for.
#[derive(Debug, Args)]
pub struct SsmArgs {
    /// Path to ask SSM for, with everything below; may be given several times. Without a path or name SSM is not asked
    #[arg(long = "ssm-path", value_name = "PATH", env = "PARAMETER_MIRROR_SSM_PATHS", value_delimiter = ',')]
    pub ssm_paths: Vec<String>,

    /// Name to ask SSM for, with its selector if it has one; may be given several times
    #[arg(long = "ssm-name", value_name = "NAME", env = "PARAMETER_MIRROR_SSM_NAMES", value_delimiter = ',')]
    pub ssm_names: Vec<String>,

    /// AWS region; default: that of the environment or the profile
    #[arg(long, env = "AWS_REGION")]
    pub region: Option<String>,
}

/// Arguments of `exec`.
#[derive(Debug, Args)]
pub struct ExecArgs {
    /// Keep variables that are set already, instead of giving them the mirror's value
    #[arg(long, env = "PARAMETER_MIRROR_KEEP_EXISTING", value_parser = BoolishValueParser::new())]
    pub keep_existing: bool,

    /// Program and arguments
    #[arg(last = true, required = true, value_name = "CMD")]
    pub command: Vec<std::ffi::OsString>,

    /// Which mirrors.
    #[command(flatten)]
    pub mirrors: MirrorArgs,

    /// In which order.
    #[command(flatten)]
    pub order: FallbackArgs,
}

/// Arguments of `get`.
#[derive(Debug, Args)]
pub struct GetArgs {
    /// Name in SSM (`/prod/checkout/db/host`), or the variable's (`DB_HOST`)
    pub name: String,

    /// Print nothing after the value
    #[arg(long, short)]
    pub no_newline: bool,

    /// Which mirrors.
    #[command(flatten)]
    pub mirrors: MirrorArgs,

    /// In which order.
    #[command(flatten)]
    pub order: FallbackArgs,
}

/// How `export` prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// `KEY='value'`, quoted so that Node.js, dotenv of npm, python-dotenv and Docker Compose read the same
    Dotenv,
    /// `KEY=value` without any quotes, for `docker run --env-file`
    Docker,
    /// One object
    Json,
    /// One mapping
    Yaml,
    /// `export KEY='value'`, for `eval` in any POSIX shell
    Shell,
}

/// Arguments of `export`.
#[derive(Debug, Args)]
pub struct ExportArgs {
    /// How to print
    #[arg(long, value_enum, default_value = "shell")]
    pub format: Format,

    /// Which mirrors.
    #[command(flatten)]
    pub mirrors: MirrorArgs,

    /// In which order.
    #[command(flatten)]
    pub order: FallbackArgs,
}

/// Arguments of `watch`.
#[derive(Debug, Args)]
pub struct WatchArgs {
    /// How often to look
    #[arg(long, env = "PARAMETER_MIRROR_REFRESH", value_parser = duration, default_value = "5s")]
    pub refresh: Duration,

    /// Oldest mirror to go on with in silence, e.g. `1h`. An older one is reported on standard error
    #[arg(long, env = "PARAMETER_MIRROR_MAX_STALE", value_parser = duration)]
    pub max_stale: Option<Duration>,

    /// Program to run at each change, with the parameters as environment variables; without one, a line is printed
    #[arg(last = true, value_name = "CMD")]
    pub command: Vec<std::ffi::OsString>,

    /// Which mirrors.
    #[command(flatten)]
    pub mirrors: MirrorArgs,
}

/// Arguments of `verify`.
#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// Age that needs attention
    #[arg(long, env = "PARAMETER_MIRROR_MAX_STALE", value_parser = duration, default_value = "15m")]
    pub max_stale: Duration,

    /// Which mirrors.
    #[command(flatten)]
    pub mirrors: MirrorArgs,
}

/// Arguments of `serve`.
#[derive(Debug, Args)]
pub struct ServeArgs {
    /// Where to listen: addresses of the loopback, and no others; default: `127.0.0.1` and `[::1]`, on the port of --port
    #[arg(long, env = "PARAMETER_MIRROR_LISTEN", value_delimiter = ',')]
    pub listen: Vec<SocketAddr>,

    /// Port to listen on, unless --listen says more. The variable and the default are those of AWS's own extension
    #[arg(long, env = "PARAMETERS_SECRETS_EXTENSION_HTTP_PORT", default_value_t = 2773)]
    pub port: u16,

    /// How often to look for a change
    #[arg(long, env = "PARAMETER_MIRROR_REFRESH", value_parser = duration, default_value = "5s")]
    pub refresh: Duration,

    /// Oldest mirror to go on with in silence, e.g. `1h`. An older one is reported on standard error
    #[arg(long, env = "PARAMETER_MIRROR_MAX_STALE", value_parser = duration)]
    pub max_stale: Option<Duration>,

    /// File with the token that `X-Aws-Parameters-Secrets-Token` must hold; default: what `AWS_SESSION_TOKEN` is
    #[arg(long, env = "PARAMETER_MIRROR_TOKEN_FILE")]
    pub token_file: Option<PathBuf>,

    /// Send on to SSM what no mirror covers, signed with this process's own credentials, instead of answering 503
    #[arg(long, env = "PARAMETER_MIRROR_FORWARD", value_parser = BoolishValueParser::new())]
    pub forward: bool,

    /// AWS region to send on to; default: that of the environment or the profile
    #[arg(long, env = "AWS_REGION")]
    pub region: Option<String>,

    /// Which mirrors.
    #[command(flatten)]
    pub mirrors: MirrorArgs,
}

/// `2s`, `500ms`, `1h30m`.
fn duration(text: &str) -> Result<Duration, String> {
    let parsed = text.parse::<jiff::SignedDuration>().ok();
    parsed
        .and_then(|parsed| Duration::try_from(parsed).ok())
        .ok_or("write it like 2s, 500ms or 1h30m".to_owned())
}
