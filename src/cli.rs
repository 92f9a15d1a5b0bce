//! The command line: types only. Values are passed on as arguments, never through globals.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::builder::BoolishValueParser;
use clap::{Args, Parser, Subcommand, ValueEnum};
use parameter_mirror_format::hash::mirror_name::MirrorName;
use parameter_mirror_redis::RedisArgs;

use crate::kubernetes::client::Cluster;
use crate::targets::redis::token::Service;

/// Mirrors AWS SSM parameters into Kubernetes Secrets and Redis, and keeps serving them when SSM is down.
#[derive(Debug, Parser)]
#[command(name = "parameter-mirror", version)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Check that mirrors are ready for an SSM outage: grants, keys, Redis, clocks, the copies in both targets
    Verify(Box<VerifyArgs>),
    /// Print the CRDs as YAML
    Crd,
    /// Print a `ParameterSource` as YAML, ready for `kubectl apply -f -`
    Source(SourceArgs),
    /// Print a new key Secret as YAML: only if the old one is lost and there is no backup
    Keygen(KeygenArgs),
    /// Print the IAM policies that sources and grants need
    Iam(IamArgs),
    /// Print the sub-keys of one mirror: what a reader of its encrypted values in Redis needs
    Key(KeyArgs),
    /// Convert objects of External Secrets Operator to sources and mirrors that write the same Secrets
    Convert(ConvertArgs),
    /// Print a completion script for a shell
    Completion(CompletionArgs),
    /// Run the operator
    Run(Box<RunArgs>),
}

/// Arguments of `run`. AWS is configured by the standard environment (credentials chain, `AWS_ENDPOINT_URL_SSM`,
/// `HTTPS_PROXY`, `AWS_CA_BUNDLE`), Kubernetes by the pod's service account or a kubeconfig.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// Name of this cluster in the owner of every target; default: the UID of the namespace kube-system
    #[arg(long, env = "PARAMETER_MIRROR_CLUSTER_NAME")]
    pub cluster_name: Option<String>,

    /// Where the operator's keys are
    #[command(flatten)]
    pub keys: KeyPlace,

    /// Namespaces to watch for mirrors, comma separated; default: all
    #[arg(long, env = "PARAMETER_MIRROR_WATCH_NAMESPACES", value_delimiter = ',')]
    pub watch_namespaces: Vec<String>,

    /// Whether to watch the Secrets that mirrors write, which takes the right to list Secrets. `false`: each is asked for at each
    /// check, so that a lost one is back within 30 s instead of at once
    #[arg(long, env = "PARAMETER_MIRROR_SECRET_WATCH", default_value_t = true, action = clap::ArgAction::Set, value_parser = BoolishValueParser::new())]
    pub secret_watch: bool,

    /// Most requests per second to SSM for each AWS account and region (the account's own quota is 40, shared)
    #[arg(long, env = "PARAMETER_MIRROR_SSM_REQUESTS_PER_SECOND", default_value_t = 10)]
    pub ssm_requests_per_second: u32,

    /// Most MiB of values to hold in memory. Beyond that, what both targets of a mirror hold is read back from there when it
    /// is needed
    #[arg(long, env = "PARAMETER_MIRROR_MEMORY_VALUES", default_value_t = 256)]
    pub memory_values: usize,

    /// Whether to share the work with other replicas: one leads, the others wait. `false` only if there is no other operator
    #[arg(long, env = "PARAMETER_MIRROR_LEADER_ELECT", default_value_t = true, action = clap::ArgAction::Set, value_parser = BoolishValueParser::new())]
    pub leader_elect: bool,

    /// Name of the Lease that the leader holds, in the operator's namespace
    #[arg(long, env = "PARAMETER_MIRROR_LEASE", default_value = "parameter-mirror")]
    pub lease: String,

    /// Unique identity in the Lease, such as the pod's name [default: random]
    #[arg(long, env = "PARAMETER_MIRROR_IDENTITY")]
    pub identity: Option<String>,

    /// Address for /metrics. `[::]` is every address of IPv6 and IPv4, or of IPv4 alone where the machine has no IPv6
    #[arg(long, env = "PARAMETER_MIRROR_LISTEN", default_value = "[::]:8080")]
    pub listen: SocketAddr,

    /// Address for /livez and /readyz, written like that of --listen
    #[arg(long, env = "PARAMETER_MIRROR_PROBE_LISTEN", default_value = "[::]:8081")]
    pub probe_listen: SocketAddr,

    /// How log lines look
    #[arg(long, env = "PARAMETER_MIRROR_LOG_FORMAT", value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,

    /// What is logged, e.g. `info` or `parameter_mirror=debug`
    #[arg(long, env = "PARAMETER_MIRROR_LOG", default_value = "info")]
    pub log: String,

    /// Where the operator keeps its mirrors in Redis
    #[command(flatten)]
    pub redis: RedisArgs,

    /// How it signs in there, if not with a password
    #[command(flatten)]
    pub redis_iam: RedisIamArgs,
}

/// The cluster that a command talks to.
#[derive(Clone, Debug, Args)]
pub struct ClusterArgs {
    /// Kubeconfig file [default: $KUBECONFIG, else ~/.kube/config]
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,

    /// Context of the kubeconfig [default: the current one]
    #[arg(long, value_name = "NAME")]
    pub context: Option<String>,
}

impl From<&ClusterArgs> for Cluster {
    fn from(args: &ClusterArgs) -> Self {
        Self { kubeconfig: args.kubeconfig.clone(), context: args.context.clone() }
    }
}

/// The operator's home.
#[derive(Debug, Args)]
pub struct KeyPlace {
    /// Namespace the operator runs in; its key Secret lives there
    #[arg(long, short, env = "PARAMETER_MIRROR_NAMESPACE", default_value = "parameter-mirror")]
    pub namespace: String,

    /// Name of the Secret with the operator's keys
    #[arg(long, env = "PARAMETER_MIRROR_KEY_SECRET", default_value = "parameter-mirror-keys")]
    pub key_secret: String,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people
    Text,
    /// One JSON object a line
    Json,
}

/// Arguments of `source`.
#[derive(Debug, Args)]
pub struct SourceArgs {
    /// Name of the source; mirrors use `default` unless they name another
    #[arg(long, default_value = "default")]
    pub name: String,

    /// AWS region, e.g. us-east-1
    #[arg(long)]
    pub region: String,

    /// Role to assume with the operator's own identity
    #[arg(long)]
    pub role_arn: Option<String>,

    /// External ID for that role
    #[arg(long, requires = "role_arn")]
    pub external_id: Option<String>,

    /// Lets a namespace read paths: `namespace:/path[,/path...]`; may be given several times
    #[arg(long = "grant", value_name = "NAMESPACE:PATHS", value_parser = parse_grant, required = true)]
    pub grants: Vec<(String, Vec<String>)>,
}

/// Arguments of `iam`. It allows nothing by itself: it prints JSON.
#[derive(Debug, Args)]
pub struct IamArgs {
    /// The cluster to take the sources from
    #[command(flatten)]
    pub cluster: ClusterArgs,

    /// File with `ParameterSource` objects as YAML, `-` is standard input; default: those of the cluster
    #[arg(long, short)]
    pub file: Option<PathBuf>,

    /// Print the policy document of this identity alone: `operator`, or the ARN of a role
    #[arg(long)]
    pub identity: Option<String>,

    /// AWS account of the operator's own identity
    #[arg(long, default_value = "*")]
    pub account: String,

    /// ARN of a KMS key of your own that encrypts `SecureStrings`; may be given several times
    #[arg(long = "kms-key", value_name = "ARN")]
    pub kms_keys: Vec<String>,

    /// ARN of the cache that the operator signs in to (--redis-iam-cache of `run`), and another of its user there
    #[arg(long = "redis-arn", value_name = "ARN")]
    pub redis_arns: Vec<String>,
}

/// Arguments of `completion`.
#[derive(Debug, Args)]
pub struct CompletionArgs {
    /// The shell
    pub shell: clap_complete::Shell,
}

/// Arguments of `keygen`.
#[derive(Debug, Args)]
pub struct KeygenArgs {
    /// Namespace the operator runs in
    #[arg(long, default_value = "parameter-mirror")]
    pub namespace: String,

    /// Name of the Secret
    #[arg(long, default_value = "parameter-mirror-keys")]
    pub name: String,
}

/// Arguments of `key`.
#[derive(Debug, Args)]
pub struct KeyArgs {
    /// The mirror
    #[arg(value_name = "NAMESPACE/NAME")]
    pub mirror: MirrorName,

    /// The cluster that the operator runs in
    #[command(flatten)]
    pub cluster: ClusterArgs,

    /// Where the operator's keys are
    #[command(flatten)]
    pub keys: KeyPlace,

    /// First part of every key in Redis
    #[arg(long, env = "PARAMETER_MIRROR_REDIS_PREFIX", default_value = "pm:")]
    pub redis_prefix: String,
}

/// Arguments of `verify`. It changes nothing and prints no value.
#[derive(Debug, Args)]
#[command(after_help = VERIFY_CODES)]
pub struct VerifyArgs {
    /// The mirrors [default: all]
    #[arg(value_name = "NAMESPACE/NAME")]
    pub mirrors: Vec<MirrorName>,

    /// The cluster that the operator runs in
    #[command(flatten)]
    pub cluster: ClusterArgs,

    /// How the report looks
    #[arg(long, short, value_enum, default_value_t = OutputFormat::Text)]
    pub output: OutputFormat,

    /// Exit with 0 also when there are warnings
    #[arg(long)]
    pub allow_warnings: bool,

    /// Also read every mirror from SSM once, with the AWS identity of this process and the role of its source, to test IAM and
    /// KMS. The values are decrypted and dropped
    #[arg(long)]
    pub read_ssm: bool,

    /// Name of this cluster in the owner of every target; default: the UID of the namespace kube-system
    #[arg(long, env = "PARAMETER_MIRROR_CLUSTER_NAME")]
    pub cluster_name: Option<String>,

    /// Where the operator's keys are
    #[command(flatten)]
    pub keys: KeyPlace,

    /// Name of the Lease that the leader holds
    #[arg(long, env = "PARAMETER_MIRROR_LEASE", default_value = "parameter-mirror")]
    pub lease: String,

    /// Namespaces to look for mirrors in, comma separated; default: all
    #[arg(long, env = "PARAMETER_MIRROR_WATCH_NAMESPACES", value_delimiter = ',')]
    pub watch_namespaces: Vec<String>,

    /// Where the operator keeps its mirrors in Redis
    #[command(flatten)]
    pub redis: RedisArgs,

    /// How it signs in there, if not with a password
    #[command(flatten)]
    pub redis_iam: RedisIamArgs,
}

/// How the operator signs in to a Redis of AWS: with its own identity instead of a password. Takes `rediss://` and a user.
#[derive(Debug, Args)]
#[command(next_help_heading = "Redis of AWS")]
pub struct RedisIamArgs {
    /// Sign in with the operator's own AWS identity instead of a password, to the replication group with this id, or to the serverless
    /// cache or MemoryDB cluster with this name
    #[arg(long, env = "PARAMETER_MIRROR_REDIS_IAM_CACHE")]
    pub redis_iam_cache: Option<String>,

    /// Type of the cache
    #[arg(long, env = "PARAMETER_MIRROR_REDIS_IAM_SERVICE", value_enum, default_value_t = Service::ElastiCache)]
    pub redis_iam_service: Service,

    /// Its AWS region; default: that of the environment or the profile
    #[arg(long, env = "PARAMETER_MIRROR_REDIS_IAM_REGION")]
    pub redis_iam_region: Option<String>,
}

const VERIFY_CODES: &str = "Exit codes: 0 all is well; 1 nothing could be checked; 2 wrong arguments; 3 something failed; \
                            4 nothing failed, but there are warnings.";

/// How a report looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum OutputFormat {
    /// One line per check, for people
    Text,
    /// One JSON object
    Json,
}

/// Arguments of `convert`.
#[derive(Debug, Args)]
#[command(after_help = CONVERT_CODES)]
pub struct ConvertArgs {
    /// File with the objects as YAML, any number of documents; `-` is standard input
    #[arg(long, short, default_value = "-")]
    pub file: PathBuf,

    /// Namespace of objects that name none
    #[arg(long, default_value = "default")]
    pub namespace: String,

    /// Exit with 0 also when not everything can be carried over
    #[arg(long)]
    pub allow_partial: bool,
}

const CONVERT_CODES: &str = "Exit codes: 0 everything was carried over; 1 the objects could not be read; 2 wrong arguments; 3 something \
                             could not be carried over: it is named on standard error and in comments of the YAML.";

fn parse_grant(text: &str) -> Result<(String, Vec<String>), String> {
    let (namespace, paths) = text.split_once(':').ok_or("write it like shop:/prod/checkout/")?;
    let paths: Vec<String> = paths.split(',').map(str::to_owned).collect();
    if namespace.is_empty() || !paths.iter().all(|path| path.starts_with('/')) {
        return Err("write it like shop:/prod/checkout/,/prod/shared/ (every path starts with /)".to_owned());
    }
    Ok((namespace.to_owned(), paths))
}
