//! Converts between a Secret object and a signed set: pure functions.
#![expect(clippy::disallowed_methods, reason = "renders the Secret")]

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ManagedFieldsEntry, ObjectMeta, OwnerReference};
use parameter_mirror_format::content::Signed;
use parameter_mirror_format::crypto::keys::KeyRing;
use parameter_mirror_format::humanize;
use parameter_mirror_format::secret::{self as layout, Parts};
use parameter_mirror_format::verdict::{Found, Verdict};

use crate::api::DeletionPolicy;
use crate::kubernetes::client::FIELD_MANAGER;
use crate::mirror::plan::SecretPlan;
use crate::mirror::target::{TargetIssue, TargetReason};

const OUR_PREFIX: &str = "parameter-mirror.dev/";
/// The label with the name of the mirror.
const MIRROR_LABEL: &str = "parameter-mirror.dev/mirror";
/// What precedes the owner of a Secret that another mirror owns.
const OWNED_BY_MIRROR: &str = "mirror ";
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// Maximum bytes of labels, annotations, finalizers and owner references that others may keep on a Secret of ours. The
/// operator holds them in memory to write them again, and Kubernetes allows 1.5 MB for each of thousands of Secrets.
pub(crate) const MOST_FOREIGN_BYTES: usize = 65_536;

/// A Secret as it was observed, without its data.
#[derive(Clone, Debug, Default)]
pub struct ObservedSecret {
    /// Metadata of the object, without the annotations of the layout and the managed fields; empty if there is no object.
    metadata: ObjectMeta,
    /// Labels and annotations that our own writes set for the user, according to managed fields.
    owned: Owned,
    /// Type of the object.
    pub type_: Option<String>,
    /// The mirror that the owner of a foreign Secret allows to take it over.
    pub adopt_by: Option<String>,
    /// The verdict on the object; `None` while the operator's keys are lost.
    pub found: Option<Found>,
    /// Bytes of foreign metadata, if they are too many to keep.
    too_much: Option<usize>,
    /// The field manager that wrote last besides this operator.
    pub other_writer: Option<String>,
}

/// Keys below `metadata.labels` and `metadata.annotations`, without those of the layout.
#[derive(Clone, Debug, Default)]
struct Owned {
    labels: BTreeSet<String>,
    annotations: BTreeSet<String>,
}

impl ObservedSecret {
    /// There is no Secret.
    #[must_use]
    pub fn missing() -> Self {
        Self::holding(Found::Missing)
    }

    /// An object of which only the verdict is known.
    pub(crate) fn holding(found: Found) -> Self {
        Self { found: Some(found), ..Self::default() }
    }

    /// A Secret that was just written: `signed`, as the API server returned it.
    #[must_use]
    pub fn written(signed: Signed, answer: Secret) -> Self {
        let found = Some(Found::Ours(Verdict::Verified(signed)));
        Self::of(answer.metadata, answer.type_, None, found)
    }

    /// Keeps what the next write needs. The metadata of an object weighs more than its values: managed fields, and the
    /// manifest, which is in `found` too.
    fn of(
        mut metadata: ObjectMeta,
        type_: Option<String>,
        adopt_by: Option<String>,
        found: Option<Found>,
    ) -> Self {
        let owned =
            Owned { labels: owned(&metadata, "f:labels"), annotations: owned(&metadata, "f:annotations") };
        let other_writer = other_writer(&metadata);
        metadata.managed_fields = None;
        if !matches!(found, Some(Found::Ours(_)) | None) {
            // Nothing of it stays on an object that is taken over.
            metadata.annotations = None;
            metadata.labels = None;
        }
        let annotations = metadata.annotations.take().map(|mut annotations| {
            annotations.retain(|key, _| !key.starts_with(OUR_PREFIX));
            // Only its presence matters.
            annotations.entry(LAST_APPLIED.to_owned()).and_modify(|value| *value = String::new());
            annotations
        });
        // An emptied map keeps its memory.
        metadata.annotations = annotations.filter(|annotations| !annotations.is_empty());
        let too_much = Some(foreign_bytes(&metadata)).filter(|bytes| *bytes > MOST_FOREIGN_BYTES);
        if too_much.is_some() {
            metadata = ObjectMeta { resource_version: metadata.resource_version, ..ObjectMeta::default() };
        }
        Self { metadata, owned, type_, adopt_by, found, too_much, other_writer }
    }

    /// Returns the version for the compare-and-set; `None` if there is no object.
    #[must_use]
    pub fn resource_version(&self) -> Option<&str> {
        self.metadata.resource_version.as_deref()
    }

    /// Whether the owner of a foreign Secret lets `mirror` take it over. An object of a controller is never taken over.
    #[must_use]
    pub fn consents_to(&self, mirror: &str) -> bool {
        self.adopt_by.as_deref() == Some(mirror) && self.can_be_handed_over()
    }

    /// Whether consent can count at all: a controller would restore or delete the object, and foreign metadata beyond the bound would
    /// be lost.
    #[must_use]
    pub fn can_be_handed_over(&self) -> bool {
        let mut references = self.metadata.owner_references.iter().flatten();
        !references.any(|reference| reference.controller == Some(true)) && self.too_much.is_none()
    }

    /// Returns the owner that the annotations of a foreign Secret name, if it is a mirror.
    #[must_use]
    pub fn owning_mirror(&self) -> Option<&str> {
        match &self.found {
            Some(Found::NotOurs { owner: Some(owner) }) => owner.strip_prefix(OWNED_BY_MIRROR),
            _ => None,
        }
    }
}

/// The mirror, as an owner reference needs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// Name of the mirror.
    pub name: String,
    /// UID of the mirror.
    pub uid: String,
}

/// Judges an object; `keys` is `None` while the operator's keys are lost.
#[must_use]
pub fn observe(secret: Option<Secret>, owner: &str, keys: Option<&KeyRing>) -> ObservedSecret {
    let Some(mut secret) = secret else {
        return ObservedSecret::missing();
    };
    let annotations = secret.metadata.annotations.clone().unwrap_or_default();
    let data = secret.data.take().unwrap_or_default();
    let judge = |keys| {
        let data = data.iter().map(|(key, ByteString(bytes))| (key.as_str(), bytes.as_slice()));
        layout::decode(Some(&annotations), data, owner, keys)
    };
    let found = keys.map(judge).map(name_foreign_owner(&secret.metadata));
    ObservedSecret::of(secret.metadata, secret.type_, annotations.get(layout::ADOPT_BY).cloned(), found)
}

fn foreign_bytes(metadata: &ObjectMeta) -> usize {
    let maps = [&metadata.labels, &metadata.annotations].into_iter().flatten().flatten();
    let maps: usize = maps.map(|(key, value)| key.len() + value.len()).sum();
    let finalizers: usize =
        metadata.finalizers.iter().flatten().map(|finalizer| finalizer.len() + size_of::<String>()).sum();
    let owners = metadata.owner_references.iter().flatten();
    let owners: usize = owners
        .map(|owner| {
            owner.name.len()
                + owner.uid.len()
                + owner.kind.len()
                + owner.api_version.len()
                + size_of::<OwnerReference>()
        })
        .sum();
    maps + finalizers + owners
}

/// Names the owner of a foreign Secret in the words that the owner would use.
fn name_foreign_owner(metadata: &ObjectMeta) -> impl Fn(Found) -> Found + '_ {
    |found| match found {
        Found::NotOurs { owner: None } => Found::NotOurs { owner: apparent_owner(metadata) },
        Found::NotOurs { owner: Some(owner) } => {
            Found::NotOurs { owner: Some(format!("{OWNED_BY_MIRROR}{owner}")) }
        }
        other => other,
    }
}

fn apparent_owner(metadata: &ObjectMeta) -> Option<String> {
    let controller =
        metadata.owner_references.iter().flatten().find(|reference| reference.controller == Some(true));
    let annotation = |name: &str| metadata.annotations.as_ref()?.get(name).cloned();
    let label = |name: &str| metadata.labels.as_ref()?.get(name).cloned();
    controller
        .map(|reference| format!("{} {}", reference.kind, reference.name))
        .or_else(|| annotation("meta.helm.sh/release-name").map(|release| format!("Helm release {release}")))
        .or_else(|| label("app.kubernetes.io/managed-by"))
}

/// Returns the whole object for `parts`, on top of what others keep on the existing one.
#[must_use]
pub fn render(
    plan: &SecretPlan,
    namespace: &str,
    owner: &Owner,
    parts: Parts,
    existing: &ObservedSecret,
) -> Secret {
    let Parts { annotations: ours, data } = parts;
    let held = existing.metadata.annotations.as_ref();
    let mut annotations = foreign(existing, &existing.owned.annotations, held);
    annotations.retain(|key, _| key != LAST_APPLIED);
    annotations.extend(plan.annotations.clone());
    annotations.extend(ours);
    Secret {
        metadata: ObjectMeta {
            name: Some(plan.name.clone()),
            namespace: Some(namespace.to_owned()),
            resource_version: existing.metadata.resource_version.clone(),
            labels: Some(wanted_labels(plan, owner, existing)),
            annotations: Some(annotations),
            owner_references: wanted_owner_references(plan, owner, existing),
            finalizers: existing.metadata.finalizers.clone(),
            ..ObjectMeta::default()
        },
        type_: Some(plan.type_.as_str().to_owned()),
        data: Some(
            data.into_iter()
                .map(|(key, value)| (key, ByteString(value.expose().as_bytes().to_vec())))
                .collect(),
        ),
        ..Secret::default()
    }
}

/// Whether labels, annotations and owner references are as `plan` wants them. The data is right already.
#[must_use]
pub fn is_in_sync(plan: &SecretPlan, owner: &Owner, existing: &ObservedSecret) -> bool {
    let metadata = &existing.metadata;
    let held = |key: &str| metadata.annotations.as_ref().and_then(|all| all.get(key));
    let mut ours = existing.owned.annotations.iter();
    let stale_annotation = ours.any(|key| !plan.annotations.contains_key(key) && held(key).is_some());
    metadata.labels.clone().unwrap_or_default() == wanted_labels(plan, owner, existing)
        && plan.annotations.iter().all(|(key, value)| held(key) == Some(value))
        && !stale_annotation
        && held(LAST_APPLIED).is_none()
        && metadata.owner_references == wanted_owner_references(plan, owner, existing)
}

/// Encodes `signed`, or returns what keeps it from being a Secret, before anything is written.
pub fn fits(
    plan: &SecretPlan,
    signed: &Signed,
    key_problems: &[String],
    existing: &ObservedSecret,
) -> Result<Parts, TargetIssue> {
    let invalid = |detail| Err(TargetIssue::new(TargetReason::SecretKeyInvalid, detail));
    let parts = match layout::encode(signed) {
        Ok(parts) => parts,
        Err(layout::EncodeError::NoKey(names)) => {
            let problem = key_problems
                .first()
                .cloned()
                .unwrap_or_else(|| format!("no key of its own for {}", humanize::few(&names)));
            return invalid(format!(
                "{problem}. Nothing of the new set is written to the Secret until then. Give one of them a `key`, exclude it, or choose another keyFormat."
            ));
        }
        Err(error @ layout::EncodeError::ManifestTooLarge(_)) => {
            return Err(TargetIssue::new(
                TargetReason::SecretTooLarge,
                format!("{error}. Split the selections over several mirrors."),
            ));
        }
    };
    if let Some(absent) = plan.type_.required_keys().iter().find(|key| !parts.data.contains_key(**key)) {
        return invalid(format!(
            "a Secret of type {} needs the key {absent}; no parameter has it. Use keyFormat Basename or Dotted, or a selection with `key`.",
            plan.type_.as_str()
        ));
    }
    if existing.type_.as_deref().is_some_and(|held| held != plan.type_.as_str()) {
        return Err(TargetIssue::new(
            TargetReason::SecretConflict,
            format!(
                "it exists with type {}, which cannot be changed to {}. It was not touched. Delete it, or choose another spec.secret.name or \
                 spec.secret.type.",
                existing.type_.as_deref().unwrap_or_default(),
                plan.type_.as_str()
            ),
        ));
    }
    if let Some(bytes) = existing.too_much {
        return Err(TargetIssue::new(
            TargetReason::SecretConflict,
            format!(
                "its labels, annotations, finalizers and owner references that others set have {bytes} bytes, more than the \
                 {MOST_FOREIGN_BYTES} that are kept. It was not touched. Remove those that are not needed."
            ),
        ));
    }
    let data_size = parts.data_bytes();
    if data_size > layout::MAX_DATA_BYTES {
        return Err(TargetIssue::new(
            TargetReason::SecretTooLarge,
            format!(
                "{data_size} bytes in {} are more than the {} a Secret can hold. Split the selections over several mirrors.",
                humanize::parameters(signed.content.entries.len()),
                layout::MAX_DATA_BYTES
            ),
        ));
    }
    let mut all = plan.annotations.clone();
    all.extend(parts.annotations.clone());
    let annotation_size = layout::annotation_bytes(&all);
    if annotation_size > layout::MAX_ANNOTATION_BYTES {
        return Err(TargetIssue::new(
            TargetReason::SecretTooLarge,
            format!(
                "its annotations would take {annotation_size} bytes of the {} that Kubernetes allows. Split the selections over \
                 several mirrors, or shorten spec.secret.annotations.",
                layout::MAX_ANNOTATION_BYTES
            ),
        ));
    }
    Ok(parts)
}

/// Labels for the user, and those by which the operator and people find what it wrote: that it is ours, and of which mirror. A label
/// holds 63 characters; the annotation with the owner has the name of a mirror with more.
fn wanted_labels(plan: &SecretPlan, owner: &Owner, existing: &ObservedSecret) -> BTreeMap<String, String> {
    let mut labels = foreign(existing, &existing.owned.labels, existing.metadata.labels.as_ref());
    labels.extend(plan.labels.clone());
    let (label, value) = layout::LABEL;
    labels.insert(label.to_owned(), value.to_owned());
    if owner.name.len() <= 63 {
        labels.insert(MIRROR_LABEL.to_owned(), owner.name.clone());
    }
    labels
}

/// Sets an owner reference only under `Delete`: garbage collection bypasses every guard that we write.
fn wanted_owner_references(
    plan: &SecretPlan,
    owner: &Owner,
    existing: &ObservedSecret,
) -> Option<Vec<OwnerReference>> {
    let is_ours = |reference: &OwnerReference| {
        reference.kind == "ParameterMirror" && reference.api_version.starts_with(crate::api::GROUP)
    };
    let mut references: Vec<_> = existing
        .metadata
        .owner_references
        .iter()
        .flatten()
        .filter(|reference| !is_ours(reference))
        .cloned()
        .collect();
    if plan.deletion_policy == DeletionPolicy::Delete {
        references.push(OwnerReference {
            api_version: format!("{}/v1alpha1", crate::api::GROUP),
            kind: "ParameterMirror".to_owned(),
            name: owner.name.clone(),
            uid: owner.uid.clone(),
            controller: Some(true),
            block_owner_deletion: None,
        });
    }
    (!references.is_empty()).then_some(references)
}

/// Returns what others put on an object of ours: everything that our earlier writes did not. Nothing stays on an object
/// that is taken over (docs/design/formats.md, "Consent").
fn foreign(
    existing: &ObservedSecret,
    ours: &BTreeSet<String>,
    held: Option<&BTreeMap<String, String>>,
) -> BTreeMap<String, String> {
    if !matches!(existing.found, Some(Found::Ours(_))) {
        return BTreeMap::new();
    }
    held.into_iter()
        .flatten()
        .filter(|(key, _)| !ours.contains(*key))
        .map(|(k, v)| (k.clone(), v.clone()))
        .collect()
}

/// Returns the field manager that wrote last besides this operator.
fn other_writer(metadata: &ObjectMeta) -> Option<String> {
    let others = metadata.managed_fields.iter().flatten();
    let others = others.filter(|entry| entry.manager.as_deref() != Some(FIELD_MANAGER));
    others.max_by_key(|entry| entry.time.as_ref().map(|time| time.0))?.manager.clone()
}

/// Returns the keys below `metadata.<field>` that our own writes set beside those of the layout, according to managed fields.
fn owned(metadata: &ObjectMeta, field: &str) -> BTreeSet<String> {
    let by_us = |entry: &&ManagedFieldsEntry| entry.manager.as_deref() == Some(FIELD_MANAGER);
    metadata
        .managed_fields
        .iter()
        .flatten()
        .filter(by_us)
        .filter_map(|entry| entry.fields_v1.as_ref()?.0.get("f:metadata")?.get(field)?.as_object())
        .flat_map(|fields| fields.keys().filter_map(|key| key.strip_prefix("f:")))
        .filter(|key| !key.starts_with(OUR_PREFIX) && *key != layout::LABEL.0)
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests;
