//! The operator's key Secret: created once, watched for ever, never replaced by guesswork.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, ListParams, ObjectMeta, PostParams};
use kube::core::NamespaceResourceScope;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Client, Resource, ResourceExt};
use parameter_mirror_format::keys::{KeyId, KeyRing};
use parameter_mirror_format::secret as layout;
use tokio::sync::watch;

use crate::api::ParameterMirror;
use crate::mirror::target::{TargetReason, TargetTrouble};
use crate::targets::secret::{FIELD_MANAGER, KubeProblem, within};

use super::context::Keys;
use super::memory::AbortOnDrop;
use super::watches::Guarded;

const RETRY: Duration = Duration::from_secs(5);

/// Where the keys are.
#[derive(Clone, Debug)]
pub struct KeySecret {
    /// Namespace of the operator.
    pub namespace: String,
    /// Name of the Secret.
    pub name: String,
    /// Namespaces whose mirrors and Secrets tell whether keys were ever used; `None` is all.
    pub scopes: Vec<Option<String>>,
    /// Whether Secrets may be listed; else those that mirrors name are asked for one by one.
    pub may_list: bool,
}

impl KeySecret {
    /// Its name, if it is in this namespace.
    #[must_use]
    pub fn of(&self, namespace: &str) -> Option<&str> {
        (self.namespace == namespace).then_some(&self.name)
    }
}

/// Keeps the operator's keys up to date, as long as the task is not dropped. The first value is there when the Secret has
/// been read once.
pub async fn keep(client: Client, secret: KeySecret) -> (watch::Receiver<Keys>, AbortOnDrop) {
    let api: Api<Secret> = Api::namespaced(client.clone(), &secret.namespace);
    let first = loop {
        match first_keys(&client, &api, &secret).await {
            Ok(keys) => break keys,
            Err(problem) => {
                tracing::warn!(target: "parameter_mirror", secret = secret.name, %problem, "the key Secret cannot be read yet");
                tokio::time::sleep(RETRY).await;
            }
        }
    };
    if let Some(trouble) = &first.trouble {
        tracing::error!(target: "parameter_mirror", reason = %trouble.reason, "{}", trouble.detail);
    }
    let (sender, receiver) = watch::channel(first);
    (receiver, AbortOnDrop(tokio::spawn(follow(api, secret, sender))))
}

async fn follow(api: Api<Secret>, secret: KeySecret, sender: watch::Sender<Keys>) {
    let mut changes = std::pin::pin!(watcher::watch_object(api, &secret.name).default_backoff());
    while let Some(change) = changes.next().await {
        let Ok(found) = change else { continue };
        let next = read(found.as_ref(), &secret);
        sender.send_if_modified(|keys| {
            // A Secret that was deleted and restored may hold other bytes under the same id.
            let same = keys.resource_version == next.resource_version;
            if !same {
                let version = keys.version + 1;
                *keys = Keys { version, ..next };
            }
            !same
        });
    }
}

/// formats.md, "Keys": created at the first start only if nothing was ever signed.
async fn first_keys(client: &Client, api: &Api<Secret>, secret: &KeySecret) -> Result<Keys, KubeProblem> {
    if let Some(found) = within(api.get_opt(&secret.name)).await? {
        return Ok(Keys { version: 1, ..read(Some(&found), secret) });
    }
    if was_ever_used(client, secret).await? {
        return Ok(Keys { version: 1, ..read(None, secret) });
    }
    let Some(fresh) = manifest(&secret.namespace, &secret.name) else { return Err(KubeProblem::Unreachable) };
    let params = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
    match within(api.create(&params, &fresh)).await {
        Ok(created) => Ok(Keys { version: 1, ..read(Some(&created), secret) }),
        Err(problem) => Err(problem),
    }
}

/// Whether a mirror has published something, or a Secret of ours carries a MAC.
async fn was_ever_used(client: &Client, secret: &KeySecret) -> Result<bool, KubeProblem> {
    for scope in &secret.scopes {
        let mirrors: Api<Guarded<ParameterMirror>> = in_scope(client, scope.as_deref());
        let mirrors = within(mirrors.list(&ListParams::default())).await?.items;
        let mirrors: Vec<_> = mirrors.iter().filter_map(|mirror| mirror.0.as_ref().ok()).collect();
        let published = |mirror: &&ParameterMirror| {
            mirror.status.as_ref().is_some_and(|status| status.revision.is_some())
        };
        if mirrors.iter().any(published) {
            return Ok(true);
        }
        let is_signed = if secret.may_list {
            is_any_signed(client, scope.as_deref()).await?
        } else {
            is_target_signed(client, &mirrors).await?
        };
        if is_signed {
            return Ok(true);
        }
    }
    Ok(false)
}

fn in_scope<K>(client: &Client, scope: Option<&str>) -> Api<K>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
{
    match scope {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    }
}

async fn is_any_signed(client: &Client, scope: Option<&str>) -> Result<bool, KubeProblem> {
    let (label, value) = layout::LABEL;
    let ours = ListParams::default().labels(&format!("{label}={value}"));
    let secrets: Api<Secret> = in_scope(client, scope);
    let found = within(secrets.list_metadata(&ours)).await?;
    Ok(found.items.iter().any(|found| found.annotations().contains_key(layout::MAC)))
}

/// The same without the right to list Secrets. Signed ones that no mirror names are of no use to anybody.
async fn is_target_signed(client: &Client, mirrors: &[&ParameterMirror]) -> Result<bool, KubeProblem> {
    for mirror in mirrors {
        let Some(target) = &mirror.spec.secret else { continue };
        let secrets: Api<Secret> = Api::namespaced(client.clone(), &mirror.namespace().unwrap_or_default());
        let found = within(secrets.get_metadata_opt(target.name_for(&mirror.name_any()))).await?;
        if found.is_some_and(|found| found.annotations().contains_key(layout::MAC)) {
            return Ok(true);
        }
    }
    Ok(false)
}

fn read(found: Option<&Secret>, secret: &KeySecret) -> Keys {
    let place = format!("Secret {}/{}", secret.namespace, secret.name);
    let resource_version = found.and_then(ResourceExt::resource_version);
    let lost = |detail: String| Keys {
        version: 0,
        resource_version: resource_version.clone(),
        ring: None,
        trouble: Some(TargetTrouble::new(TargetReason::KeyMissing, detail)),
    };
    let Some(found) = found else {
        return lost(format!(
            "{place} with the operator's keys is gone, but targets are signed with them. Restore it from a backup; if it is \
             really lost: parameter-mirror keygen | kubectl apply -f -."
        ));
    };
    let data = found.data.iter().flatten().map(|(name, ByteString(bytes))| (name.as_str(), bytes.as_slice()));
    match KeyRing::from_data(data) {
        Ok(ring) => Keys { version: 0, resource_version, ring: Some(Arc::new(ring)), trouble: None },
        Err(error) => lost(format!("{place} cannot be used: {error}.")),
    }
}

/// A new key Secret with one key. `None` if the machine has no randomness to give.
#[must_use]
pub fn manifest(namespace: &str, name: &str) -> Option<Secret> {
    let key_id: KeyId = format!("k{}", jiff::Timestamp::now().strftime("%Y%m%d%H%M%S")).parse().ok()?;
    let ring = KeyRing::generate(key_id).ok()?;
    let data: BTreeMap<String, ByteString> =
        ring.to_data().into_iter().map(|(name, bytes)| (name, ByteString(bytes))).collect();
    Some(Secret {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            namespace: Some(namespace.to_owned()),
            ..ObjectMeta::default()
        },
        type_: Some("Opaque".to_owned()),
        data: Some(data),
        ..Secret::default()
    })
}
