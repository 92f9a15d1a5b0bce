//! `ParameterMirror`: which parameters, how often, into which targets.

use std::collections::BTreeMap;

use jiff::{RoundMode, Timestamp, TimestampRound, Unit};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Which parameters to mirror, how often, and into which targets.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[kube(
    group = "parameter-mirror.dev",
    version = "v1alpha1",
    kind = "ParameterMirror",
    plural = "parametermirrors",
    shortname = "pmirror",
    category = "parameter-mirror",
    namespaced,
    status = "ParameterMirrorStatus",
    derive = "PartialEq",
    doc = "Mirrors AWS SSM parameters into a Kubernetes Secret and a Redis hash. When SSM cannot be read, the targets keep the last known good values, and targets that are lost or edited are restored: from memory and from each other. With both targets that also holds when the operator restarts in the outage; with one target it holds as long as the operator lives.",
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].status"#
    ),
    printcolumn(
        name = "Degraded",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Degraded")].status"#
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        description = "Why it is stalled or degraded, else why it is ready or not",
        json_path = ".status.reason"
    ),
    printcolumn(name = "Suspended", type_ = "boolean", json_path = ".spec.suspend"),
    printcolumn(name = "Parameters", type_ = "integer", json_path = ".status.parameterCount"),
    printcolumn(
        name = "Last Sync",
        type_ = "date",
        description = "Age of the last good read of SSM",
        json_path = ".status.lastSyncTime"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Source", type_ = "string", json_path = ".spec.sourceRef.name", priority = 1),
    printcolumn(name = "Interval", type_ = "string", json_path = ".spec.interval", priority = 1),
    printcolumn(name = "Secret", type_ = "string", json_path = ".status.secret.name", priority = 1),
    printcolumn(name = "Redis Key", type_ = "string", json_path = ".status.redis.key", priority = 1),
    printcolumn(name = "Revision", type_ = "string", json_path = ".status.revision", priority = 1)
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = ("has(self.secret) || has(self.redis)", "name at least one target: add `secret: {}` or `redis: {}`"),
    validation = ("!has(self.maxStaleness) || !self.maxStaleness.matches('^([0-9]{1,6}([.][0-9]{1,6})?(ms|s|m|h))+$') || !self.interval.matches('^([0-9]{1,6}([.][0-9]{1,6})?(ms|s|m|h))+$') || duration(self.maxStaleness) >= duration(self.interval)", "maxStaleness must be at least interval, or the mirror is stale between two reads")
)]
pub struct ParameterMirrorSpec {
    /// The `ParameterSource` (cluster-scoped) to read with.
    #[serde(default)]
    pub source_ref: SourceRef,
    /// How often SSM is read: a Go duration between 10s and 24h, e.g. `5m`.
    #[schemars(length(max = 16))]
    #[x_kube(
        validation = ("self.matches('^([0-9]{1,6}([.][0-9]{1,6})?(ms|s|m|h))+$')", "not a duration: write it like 30s, 5m or 1h30m"),
        validation = ("!self.matches('^([0-9]{1,6}([.][0-9]{1,6})?(ms|s|m|h))+$') || (duration(self) >= duration('10s') && duration(self) <= duration('24h'))", "must be between 10s and 24h")
    )]
    #[serde(default = "default_interval")]
    pub interval: String,
    /// `true` stops reads, writes and healing: the break-glass step in an outage.
    #[serde(default)]
    pub suspend: bool,
    /// What to mirror; the union of all selections, at most 2,000 parameters. Paths, names, keys and excludes together have at most
    /// 16,384 characters.
    #[schemars(length(min = 1, max = 100))]
    #[x_kube(
        validation = ("self.map(s, (has(s.path) ? size(s.path) : 0) + (has(s.name) ? size(s.name) : 0) + (has(s.key) ? size(s.key) : 0) + (has(s.exclude) ? s.exclude.map(e, size(e)).sum() : 0)).sum() <= 16384", "paths, names, keys and excludes have more than 16,384 characters in all; split them over several mirrors"),
        validation = ("self.map(s, has(s.exclude) ? size(s.exclude) : 0).sum() <= 200", "more than 200 excludes in all; split the selections over several mirrors")
    )]
    pub parameters: Vec<SelectionSpec>,
    /// Target 1: one Kubernetes Secret in the mirror's namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret: Option<SecretTargetSpec>,
    /// Target 2: one Redis hash, `<prefix>{<namespace>/<mirror>}`, in the Redis the operator is configured with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub redis: Option<RedisTargetSpec>,
    /// When removals in SSM are withheld.
    #[serde(default)]
    pub guard: GuardSpec,
    /// How old what is served may become until the mirror is Degraded with reason Stale: a Go duration of at least the
    /// interval, e.g. `24h`. It only reports; it never deletes anything.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    #[x_kube(
        validation = ("self.matches('^([0-9]{1,6}([.][0-9]{1,6})?(ms|s|m|h))+$')", "not a duration: write it like 30m, 24h or 1h30m")
    )]
    pub max_staleness: Option<String>,
}

/// Names a `ParameterSource`.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SourceRef {
    /// Name of the `ParameterSource`.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = ("self.matches('^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$')", "not the name of a ParameterSource: a lower-case DNS name"))]
    #[serde(default = "default_source")]
    pub name: String,
}

impl Default for SourceRef {
    fn default() -> Self {
        Self { name: default_source() }
    }
}

fn default_source() -> String {
    "default".to_owned()
}

fn default_interval() -> String {
    "5m".to_owned()
}

const fn default_max_removed_percent() -> i32 {
    20
}

const fn unseen() -> i64 {
    -1
}

impl Default for ParameterMirrorSpec {
    fn default() -> Self {
        Self {
            source_ref: SourceRef::default(),
            interval: default_interval(),
            suspend: false,
            parameters: Vec::new(),
            secret: None,
            redis: None,
            guard: GuardSpec::default(),
            max_staleness: None,
        }
    }
}

/// One selection: either a path, or one parameter by name.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = ("has(self.path) != has(self.name)", "a selection has either `path` or `name`: split it into two entries"),
    validation = ("has(self.name) || !has(self.key)", "`key` goes with `name` only"),
    validation = ("has(self.path) || (!has(self.recursive) && !has(self.exclude))", "`recursive` and `exclude` go with `path` only")
)]
pub struct SelectionSpec {
    /// Everything below this path, e.g. `/prod/checkout`. A trailing slash means the same path.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1011))]
    #[x_kube(
        validation = ("!self.startsWith('arn:')", "ARNs are not accepted: write the path itself; to read another account set roleArn on the ParameterSource"),
        validation = ("self.startsWith('arn:') || self == '/' || self.matches('^(/[A-Za-z0-9_.-]+){1,15}/?$')", "a path starts with / and has at most 15 levels, each of letters, digits, _ . -, e.g. /prod/checkout"),
        validation = ("!self.matches('/[.][.]?(/|$)')", "a path has no . or .. segments"),
        validation = ("!self.matches('(?i)^/aws/reference/secretsmanager(/|$)')", "references to Secrets Manager are not supported: copy the secret into a parameter, or mirror it with a tool for Secrets Manager")
    )]
    pub path: Option<String>,
    /// Whether levels below the first count too. Default true.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recursive: Option<bool>,
    /// Relative paths to leave out, each with everything below it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 50), inner(length(min = 1, max = 1011)))]
    #[x_kube(validation = (r"self.all(e, e.matches('^[\\w./-]+$') && !e.contains('..'))", "an exclude is a relative path of letters, digits, _ . - without .., e.g. legacy/db"))]
    pub exclude: Option<Vec<String>>,
    /// One parameter, e.g. `/prod/shared/stripe`, or pinned: `name:version`, `name:label`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1112))]
    #[x_kube(
        validation = ("!self.startsWith('arn:')", "ARNs are not accepted: write the name itself; to read another account set roleArn on the ParameterSource"),
        validation = ("self.startsWith('arn:') || self.matches('^(([A-Za-z0-9_.-]+)|((/[A-Za-z0-9_.-]+){1,15}))(:.*)?$')", "a name has only letters, digits, _ . - in at most 15 levels, and begins with / if it has one, e.g. /prod/shared/stripe"),
        validation = ("!self.contains(':') || self.startsWith('arn:') || self.matches('^[^:]*:([0-9]{1,19}|[A-Za-z_.-][A-Za-z0-9_.-]{0,99})$')", "what follows the colon is a version (a number) or a label, e.g. /prod/shared/stripe:live"),
        validation = ("!self.matches('(?i)^/?aws/reference/secretsmanager(/|:|$)')", "references to Secrets Manager are not supported: copy the secret into a parameter, or mirror it with a tool for Secrets Manager")
    )]
    pub name: Option<String>,
    /// The key in the Secret for this parameter, instead of the one that `keyFormat` makes.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = ("self.matches('^[-._a-zA-Z0-9]+$') && self != '.' && !self.startsWith('..')", "a Secret key has only letters, digits, - _ . and does not start with .."))]
    pub key: Option<String>,
    /// Whether SSM may lack the parameter, or hold nothing below the path. Default false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub optional: Option<bool>,
}

/// The Secret to write.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = ("self.type == oldSelf.type", "type is immutable: choose another spec.secret.name together with a new mirror"),
    validation = ("self.labels.all(k, !k.startsWith('parameter-mirror.dev/') && k != 'app.kubernetes.io/managed-by')", "labels: app.kubernetes.io/managed-by and parameter-mirror.dev/* are set by the operator"),
    validation = ("self.labels.all(k, size(k) <= 317)", "labels: a key is longer than Kubernetes allows (a prefix of 253 characters and a name of 63)"),
    validation = ("self.annotations.map(k, size(k) + size(self.annotations[k])).sum() <= 16384", "annotations: more than 16,384 characters in all"),
    validation = ("self.annotations.all(k, !k.startsWith('parameter-mirror.dev/') && !k.matches('^([a-z0-9.-]*[.])?(kubernetes|k8s)[.]io/'))", "annotations: parameter-mirror.dev/* and *.kubernetes.io/* are reserved")
)]
pub struct SecretTargetSpec {
    /// Name of the Secret. Default: the mirror's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = ("self.matches('^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$')", "must be a lower-case DNS name"))]
    pub name: Option<String>,
    /// Type of the Secret; immutable.
    #[serde(rename = "type")]
    #[serde(default)]
    pub type_: SecretType,
    /// How the keys are made from the part of the parameter's name below its path.
    #[serde(default)]
    pub key_format: KeyFormat,
    /// Labels to set on the Secret.
    #[schemars(extend("maxProperties" = 32), inner(length(max = 63)))]
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Annotations to set on the Secret, at most 16,384 characters in all.
    #[schemars(extend("maxProperties" = 32), inner(length(max = 4096)))]
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
    /// What happens to the Secret when the mirror is deleted or no longer names it.
    #[serde(default)]
    pub deletion_policy: DeletionPolicy,
}

/// The Redis hash to write.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RedisTargetSpec {
    /// Which values are encrypted in Redis. The source may demand more, never less.
    #[serde(default)]
    pub encryption: RedisEncryption,
    /// What happens to the hash when the mirror is deleted or no longer names it.
    #[serde(default)]
    pub deletion_policy: DeletionPolicy,
}

impl SecretTargetSpec {
    /// Returns the name of the Secret, for a mirror of this name.
    #[must_use]
    pub fn name_for<'spec>(&'spec self, mirror: &'spec str) -> &'spec str {
        self.name.as_deref().unwrap_or(mirror)
    }
}

/// The brake on removals.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GuardSpec {
    /// Removals beyond this share of the published parameters (and more than one) are withheld until approved.
    #[schemars(range(min = 0, max = 100))]
    #[serde(default = "default_max_removed_percent")]
    pub max_removed_percent: i32,
}

impl Default for GuardSpec {
    fn default() -> Self {
        Self { max_removed_percent: default_max_removed_percent() }
    }
}

/// Secret types that a mirror may write.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum SecretType {
    /// Any keys.
    #[default]
    Opaque,
    /// `tls.crt` and `tls.key`.
    #[serde(rename = "kubernetes.io/tls")]
    Tls,
    /// `.dockerconfigjson`.
    #[serde(rename = "kubernetes.io/dockerconfigjson")]
    DockerConfigJson,
    /// `username` and/or `password`.
    #[serde(rename = "kubernetes.io/basic-auth")]
    BasicAuth,
    /// `ssh-privatekey`.
    #[serde(rename = "kubernetes.io/ssh-auth")]
    SshAuth,
}

impl SecretType {
    /// Returns the type as the Secret carries it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Opaque => "Opaque",
            Self::Tls => "kubernetes.io/tls",
            Self::DockerConfigJson => "kubernetes.io/dockerconfigjson",
            Self::BasicAuth => "kubernetes.io/basic-auth",
            Self::SshAuth => "kubernetes.io/ssh-auth",
        }
    }

    /// Returns the keys without which the API server refuses a Secret of this type.
    #[must_use]
    pub const fn required_keys(self) -> &'static [&'static str] {
        match self {
            Self::Tls => &["tls.crt", "tls.key"],
            Self::DockerConfigJson => &[".dockerconfigjson"],
            Self::SshAuth => &["ssh-privatekey"],
            Self::Opaque | Self::BasicAuth => &[],
        }
    }
}

/// How Secret keys are made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum KeyFormat {
    /// `db/host` becomes `DB_HOST`.
    #[default]
    EnvVar,
    /// `db/host` becomes `db.host`.
    Dotted,
    /// `db/host` becomes `host`.
    Basename,
}

/// What happens to a target that is no longer wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DeletionPolicy {
    /// It stays as it is.
    #[default]
    Retain,
    /// It is deleted.
    Delete,
}

/// Which values are encrypted in Redis, from least to most.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
pub enum RedisEncryption {
    /// Nothing.
    None,
    /// Values of type `SecureString`.
    #[default]
    SecureStrings,
    /// Every value.
    All,
}

/// What the operator last found and did.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ParameterMirrorStatus {
    /// Generation of the spec that the conditions speak of; -1 before the first reconcile.
    #[serde(default = "unseen")]
    pub observed_generation: i64,
    /// Why the mirror is stalled or degraded, else why it is ready or not: the reason of the condition that matters most.
    #[schemars(length(max = 64))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Stalled, Degraded, Ready; and Suspended while `spec.suspend` is true.
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".to_owned()]))]
    #[serde(default)]
    pub conditions: Vec<Condition>,
    /// What is wrong now, on the side of the source and with each target, and since when.
    #[x_kube(merge_strategy = ListMerge::Map(vec!["about".to_owned()]))]
    #[schemars(length(max = 8))]
    #[serde(default)]
    pub issues: Vec<MirrorIssue>,
    /// Last good read of SSM; stands still while degraded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_sync_time: Option<Time>,
    /// Last attempt to read SSM, good or not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_attempt_time: Option<Time>,
    /// Value of the annotation `parameter-mirror.dev/sync-at` whose read has ended, well or not.
    #[schemars(length(max = 64))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_handled_sync_at: Option<String>,
    /// Number of parameters in the last known good set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parameter_count: Option<i32>,
    /// Short hash over names, types, versions and dates of the last known good set; never over values.
    #[schemars(length(max = 64))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// The Secret that was written last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret: Option<MirrorSecretStatus>,
    /// The Redis hash that was written last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub redis: Option<MirrorRedisStatus>,
}

impl Default for ParameterMirrorStatus {
    fn default() -> Self {
        Self {
            observed_generation: unseen(),
            reason: None,
            conditions: Vec::new(),
            issues: Vec::new(),
            last_sync_time: None,
            last_attempt_time: None,
            last_handled_sync_at: None,
            parameter_count: None,
            revision: None,
            secret: None,
            redis: None,
        }
    }
}

/// Something that is wrong with a mirror.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MirrorIssue {
    /// `Source`, or the target: `Secret checkout`, `Redis pm:{shop/checkout}`.
    #[schemars(length(max = 1040))]
    pub about: String,
    /// The reason, as in conditions.
    #[schemars(length(max = 64))]
    pub reason: String,
    /// Since when.
    pub since: Time,
}

impl MirrorIssue {
    /// What an issue on the side of the source is about.
    pub const SOURCE: &str = "Source";

    /// An issue since a time, in whole seconds as the API server keeps it: a status is written only when it differs.
    #[must_use]
    pub fn new(about: &str, reason: &str, since: Timestamp) -> Self {
        let seconds = TimestampRound::new().smallest(Unit::Second).mode(RoundMode::Trunc);
        let since = Time(since.round(seconds).unwrap_or(since));
        Self { about: about.to_owned(), reason: reason.to_owned(), since }
    }
}

/// The Secret as last written, and the policy it falls under when its name leaves the spec.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct MirrorSecretStatus {
    /// Name of the Secret.
    #[schemars(length(max = 253))]
    pub name: String,
    /// Revision it holds.
    #[schemars(length(max = 64))]
    pub revision: String,
    /// Policy last applied.
    pub deletion_policy: DeletionPolicy,
}

/// The hash as last written, and the policy it falls under when the target leaves the spec.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct MirrorRedisStatus {
    /// The Redis key.
    #[schemars(length(max = 1024))]
    pub key: String,
    /// Revision it holds.
    #[schemars(length(max = 64))]
    pub revision: String,
    /// Policy last applied.
    pub deletion_policy: DeletionPolicy,
}
