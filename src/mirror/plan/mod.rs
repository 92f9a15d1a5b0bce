//! Turns spec and grants into a [`Plan`], or into the reason why there is none.

mod error;
pub mod grants;
pub mod permission;
mod selections;

pub use error::PlanError;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;
use parameter_mirror_format::content::source::{StoredSelection, StoredSource};
use parameter_mirror_format::humanize;

use super::selection::Selection;
use super::target::TargetKind;
use crate::api::{
    DeletionPolicy, KeyFormat, ParameterMirrorSpec, ParameterSourceSpec, RedisEncryption, SecretTargetSpec,
    SecretType,
};
use crate::mirror::plan::error::invalid;
use crate::mirror::plan::selections::{optional_paths, selections};

/// Everything that a mirror has to do, validated and normalised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// `<cluster>/<namespace>/<mirror>`: the owner of the targets.
    pub owner: String,
    /// Namespace of the mirror and its Secret.
    pub namespace: String,
    /// Name of the mirror.
    pub mirror: String,
    /// Name of the source, as the spec gives it.
    pub source_name: String,
    /// The source; `None` while it does not exist, which is an outage and not a withdrawal.
    pub source: Option<SourcePlan>,
    /// Time from one read to the next.
    pub interval: Duration,
    /// The age beyond which what is served is reported as stale.
    pub max_staleness: Option<Duration>,
    /// Whether reads, writes and healing are suspended.
    pub suspend: bool,
    /// What to read, in the order of the spec.
    pub selections: Vec<Selection>,
    /// The paths that may be empty.
    pub optional_paths: BTreeSet<String>,
    /// How Secret keys are made; also for `@params` when there is no Secret.
    pub key_format: KeyFormat,
    /// The targets to write, in the order in which they are written.
    pub targets: Vec<TargetPlan>,
    /// Percentage of removals beyond which they are withheld.
    pub max_removed_percent: u32,
}

/// A source, as one namespace sees it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SourcePlan {
    /// AWS region.
    pub region: String,
    /// Role to assume.
    pub role_arn: Option<String>,
    /// External ID for that role.
    pub external_id: Option<String>,
    /// Rate limit of this source, requests per second.
    pub requests_per_second: Option<u32>,
    /// Until when its mirrors behave as in an outage, for a drill.
    pub drill_until: Option<Timestamp>,
    /// Path prefixes that the mirror's namespace is granted.
    pub granted: Vec<String>,
    /// The minimum encryption in Redis that it requires.
    pub redis_encryption: RedisEncryption,
}

/// One target to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TargetPlan {
    /// A Secret.
    Secret(SecretPlan),
    /// A hash in Redis.
    Redis(RedisPlan),
}

impl TargetPlan {
    /// Returns its kind. A mirror has at most one target of each.
    #[must_use]
    pub const fn kind(&self) -> TargetKind {
        match self {
            Self::Secret(_) => TargetKind::Secret,
            Self::Redis(_) => TargetKind::Redis,
        }
    }

    /// Returns the name of the Secret, or the key of the hash.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Secret(secret) => &secret.name,
            Self::Redis(redis) => &redis.key,
        }
    }

    /// Returns what happens to it when it is no longer wanted.
    #[must_use]
    pub const fn deletion_policy(&self) -> DeletionPolicy {
        match self {
            Self::Secret(secret) => secret.deletion_policy,
            Self::Redis(redis) => redis.deletion_policy,
        }
    }
}

/// The Secret to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretPlan {
    /// Name of the Secret.
    pub name: String,
    /// Type of the Secret.
    pub type_: SecretType,
    /// Labels from the spec.
    pub labels: BTreeMap<String, String>,
    /// Annotations from the spec.
    pub annotations: BTreeMap<String, String>,
    /// What happens when the Secret is no longer wanted.
    pub deletion_policy: DeletionPolicy,
}

/// The Redis hash to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedisPlan {
    /// The Redis key.
    pub key: String,
    /// Which values are encrypted.
    pub encryption: RedisEncryption,
    /// What happens when the hash is no longer wanted.
    pub deletion_policy: DeletionPolicy,
}

/// What planning needs besides the spec.
#[derive(Clone, Copy, Debug)]
pub struct PlanInput<'a> {
    /// Name of this cluster in owners.
    pub cluster: &'a str,
    /// Namespace of the mirror.
    pub namespace: &'a str,
    /// Labels of that namespace.
    pub namespace_labels: &'a BTreeMap<String, String>,
    /// Name of the mirror.
    pub mirror: &'a str,
    /// The source, if it exists.
    pub source: Option<&'a ParameterSourceSpec>,
    /// Until when a drill of the source lasts.
    pub drill_until: Option<Timestamp>,
    /// Prefix of every Redis key.
    pub redis_prefix: &'a str,
    /// Name of the Secret with the operator's keys, if this is the operator's namespace.
    pub key_secret: Option<&'a str>,
}

impl Plan {
    /// Plans `spec`. It repeats every check of the schema, because admission may be older or switched off.
    pub fn new(spec: &ParameterMirrorSpec, input: &PlanInput<'_>) -> Result<Self, PlanError> {
        let selections = selections(&spec.parameters)?;
        let source_name = &spec.source_ref.name;
        if !is_object_name(source_name) {
            return Err(invalid(
                "spec.sourceRef.name must be the name of a ParameterSource: a lower-case DNS name",
            ));
        }
        let targets = targets(spec, input)?;
        let interval = interval(&spec.interval)?;
        let max_staleness =
            spec.max_staleness.as_deref().map(|text| max_staleness(text, interval)).transpose()?;
        // Last, because no grant makes an invalid spec valid (docs/design/formats.md, "Reasons").
        let source = match input.source {
            Some(source) => Some(source_plan(source, input, source_name, &selections)?),
            None => None,
        };
        Ok(Self {
            owner: format!("{}/{}/{}", input.cluster, input.namespace, input.mirror),
            namespace: input.namespace.to_owned(),
            mirror: input.mirror.to_owned(),
            source_name: source_name.clone(),
            source,
            interval,
            max_staleness,
            suspend: spec.suspend,
            selections,
            optional_paths: optional_paths(&spec.parameters),
            key_format: spec.secret.as_ref().map_or(KeyFormat::EnvVar, |secret| secret.key_format),
            targets,
            max_removed_percent: u32::try_from(spec.guard.max_removed_percent.clamp(0, 100))
                .unwrap_or_default(),
        })
    }

    /// Returns the target of a kind, if the spec has it.
    #[must_use]
    pub fn target(&self, kind: TargetKind) -> Option<&TargetPlan> {
        self.targets.iter().find(|target| target.kind() == kind)
    }

    /// Returns the source as targets store it. `account` is used unless the role names the account.
    #[must_use]
    pub fn stored_source(&self, account: &str) -> Option<StoredSource> {
        let source = self.source.as_ref()?;
        let place = source.place(&self.source_name, source.account().unwrap_or(account));
        Some(StoredSource { selections: self.selections.iter().map(stored_selection).collect(), ..place })
    }

    /// Whether a copy with this stored source holds what the spec asks for (docs/design/formats.md, "Copies", rule 5).
    #[must_use]
    pub fn is_covered_by(&self, stored: &StoredSource) -> bool {
        let is_same_place = match &self.source {
            Some(source) => {
                source.place(&self.source_name, source.account().unwrap_or_default()).is_same_place(stored)
            }
            // While the source does not exist, only its name says where the copy is from.
            None => self.source_name == stored.name,
        };
        is_same_place && same_selections(&self.selections, &stored.selections)
    }
}

/// Where and with which identity to read. Sources that differ in one of these need separate clients.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SourceIdentity {
    /// AWS region.
    pub region: String,
    /// The role to assume with the operator's own identity, if any.
    pub role_arn: Option<String>,
    /// The external ID that the role's trust policy requires.
    pub external_id: Option<String>,
}

impl From<&ParameterSourceSpec> for SourceIdentity {
    fn from(source: &ParameterSourceSpec) -> Self {
        Self {
            region: source.region.clone(),
            role_arn: source.role_arn.clone(),
            external_id: source.external_id.clone(),
        }
    }
}

impl SourcePlan {
    /// Returns where and with which identity to read.
    #[must_use]
    pub fn identity(&self) -> SourceIdentity {
        SourceIdentity {
            region: self.region.clone(),
            role_arn: self.role_arn.clone(),
            external_id: self.external_id.clone(),
        }
    }

    /// Returns the source as the mirrors of a namespace see it.
    #[must_use]
    pub fn new(
        source: &ParameterSourceSpec,
        namespace: &str,
        namespace_labels: &BTreeMap<String, String>,
        drill_until: Option<Timestamp>,
    ) -> Self {
        Self {
            region: source.region.clone(),
            role_arn: source.role_arn.clone(),
            external_id: source.external_id.clone(),
            requests_per_second: source
                .requests_per_second
                .and_then(|rate| u32::try_from(rate).ok())
                .filter(|&rate| rate > 0),
            drill_until,
            granted: grants::granted_paths(source, namespace, namespace_labels),
            redis_encryption: source.redis_encryption,
        }
    }

    /// Returns identity and account as targets store them, without selections.
    #[must_use]
    pub fn place(&self, name: &str, account: &str) -> StoredSource {
        StoredSource {
            name: name.to_owned(),
            region: self.region.clone(),
            role_arn: self.role_arn.clone().unwrap_or_default(),
            external_id: self.external_id.clone().unwrap_or_default(),
            account: account.to_owned(),
            selections: Vec::new(),
        }
    }

    /// Whether a drill is under way.
    #[must_use]
    pub fn is_drill(&self, now: Timestamp) -> bool {
        self.drill_until.is_some_and(|until| now < until)
    }

    /// Returns the account of `roleArn`. Without a role, only the ARNs of what is read show the account.
    #[must_use]
    pub fn account(&self) -> Option<&str> {
        self.role_arn.as_deref().and_then(|arn| arn.split(':').nth(4))
    }
}

fn same_selections(selections: &[Selection], stored: &[StoredSelection]) -> bool {
    let sorted = |mut selections: Vec<String>| {
        selections.sort_unstable();
        selections
    };
    sorted(selections.iter().map(|selection| stored_selection(selection).encode()).collect())
        == sorted(stored.iter().map(StoredSelection::encode).collect())
}

/// Converts a selection to its stored form: keys and `optional` do not affect what was read.
fn stored_selection(selection: &Selection) -> StoredSelection {
    match selection {
        Selection::Path(path) => StoredSelection::Path {
            path: path.path.clone(),
            recursive: path.recursive,
            exclude: path.exclude.iter().cloned().collect(),
        },
        Selection::Name(name) => StoredSelection::Name { name: name.name() },
    }
}

fn source_plan(
    source: &ParameterSourceSpec,
    input: &PlanInput<'_>,
    source_name: &str,
    selections: &[Selection],
) -> Result<SourcePlan, PlanError> {
    let plan = SourcePlan::new(source, input.namespace, input.namespace_labels, input.drill_until);
    let to_grant = |selection: &Selection| match selection {
        Selection::Path(path) => path.path.clone(),
        Selection::Name(name) => name.bare_name(),
    };
    let denied = selections
        .iter()
        .map(|one| (one, to_grant(one)))
        .find(|(_, path)| !grants::covers(&plan.granted, path));
    if let Some((denied, path)) = denied {
        let granted =
            if plan.granted.is_empty() { "nothing".to_owned() } else { humanize::few(&plan.granted) };
        return Err(PlanError::NotGranted(format!(
            "ParameterSource {source_name} does not allow namespace {} to read {denied} (allowed: {granted}). Ask its owner for a \
             grant: {{namespaces: [{}], paths: [{path}]}}.",
            input.namespace, input.namespace
        )));
    }
    Ok(plan)
}

/// Whether `name` can name an object at all. Names become parts of the API server's paths, so no other name is ever requested.
#[must_use]
pub fn is_object_name(name: &str) -> bool {
    let ends_well = |c: Option<char>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '.');
    name.len() <= 253
        && name.chars().all(legal)
        && ends_well(name.chars().next())
        && ends_well(name.chars().next_back())
}

/// Plans the targets, in the order in which they are written: the Secret first.
fn targets(spec: &ParameterMirrorSpec, input: &PlanInput<'_>) -> Result<Vec<TargetPlan>, PlanError> {
    let secret = spec.secret.as_ref().map(|secret| secret_plan(secret, input)).transpose()?;
    let redis = spec.redis.as_ref().map(|redis| RedisPlan {
        key: parameter_mirror_format::hash::redis_key(input.redis_prefix, input.namespace, input.mirror),
        encryption: redis.encryption,
        deletion_policy: redis.deletion_policy,
    });
    if let (Some(redis), Some(source)) = (&redis, input.source)
        && redis.encryption < source.redis_encryption
    {
        return Err(invalid(format!(
            "spec.redis.encryption is {:?}, but ParameterSource {} demands at least {:?}: set it to that",
            redis.encryption, spec.source_ref.name, source.redis_encryption
        )));
    }
    let targets: Vec<_> =
        [secret.map(TargetPlan::Secret), redis.map(TargetPlan::Redis)].into_iter().flatten().collect();
    if targets.is_empty() {
        return Err(invalid("spec: name at least one target: add `secret: {}` or `redis: {}`"));
    }
    Ok(targets)
}

fn secret_plan(secret: &SecretTargetSpec, input: &PlanInput<'_>) -> Result<SecretPlan, PlanError> {
    let name = secret.name_for(input.mirror);
    if !is_object_name(name) {
        return Err(invalid("spec.secret.name must be a lower-case DNS name"));
    }
    // Also while that Secret is lost: a tenant who could write it would choose the keys that everything is signed with.
    if input.key_secret == Some(name) {
        return Err(invalid(format!(
            "spec.secret.name: Secret {name} holds the operator's own keys and is never a target; choose another name"
        )));
    }
    let reserved = |key: &str| key.starts_with("parameter-mirror.dev/");
    if let Some(key) =
        secret.labels.keys().find(|key| reserved(key) || *key == "app.kubernetes.io/managed-by")
    {
        return Err(invalid(format!("spec.secret.labels: {key} is set by the operator; remove it")));
    }
    let of_kubernetes = |key: &str| {
        key.split_once('/').is_some_and(|(domain, _)| {
            ["kubernetes.io", "k8s.io"].iter().any(|owned| {
                domain == *owned || domain.strip_suffix(owned).is_some_and(|rest| rest.ends_with('.'))
            })
        })
    };
    if let Some(key) = secret.annotations.keys().find(|key| reserved(key) || of_kubernetes(key)) {
        return Err(invalid(format!("spec.secret.annotations: {key} is reserved; remove it")));
    }
    Ok(SecretPlan {
        name: name.to_owned(),
        type_: secret.type_,
        labels: secret.labels.clone(),
        annotations: secret.annotations.clone(),
        deletion_policy: secret.deletion_policy,
    })
}

/// Parses Go's notation, as `metav1.Duration` reads it; `None` if it is invalid. A negative duration becomes zero.
fn duration(text: &str) -> Option<Duration> {
    let parsed: kube::core::Duration = text.parse().ok()?;
    Some(if parsed.is_negative() { Duration::ZERO } else { parsed.into() })
}

fn interval(text: &str) -> Result<Duration, PlanError> {
    let interval = duration(text)
        .ok_or_else(|| invalid("spec.interval is not a duration: write it like 30s, 5m or 1h30m"))?;
    let allowed = Duration::from_secs(10)..=Duration::from_hours(24);
    if !allowed.contains(&interval) {
        return Err(invalid("spec.interval must be between 10s and 24h"));
    }
    Ok(interval)
}

fn max_staleness(text: &str, interval: Duration) -> Result<Duration, PlanError> {
    let most = duration(text)
        .ok_or_else(|| invalid("spec.maxStaleness is not a duration: write it like 30m, 24h or 1h30m"))?;
    if most < interval {
        return Err(invalid(
            "spec.maxStaleness must be at least spec.interval, or the mirror is stale between two reads",
        ));
    }
    Ok(most)
}

#[cfg(test)]
mod tests;
