//! The operator's key Secret: the operator creates it once, watches it, and never replaces it on a guess.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::ByteString;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, ObjectMeta, PostParams};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Client, ResourceExt};
use parameter_mirror_format::crypto::keys::{KeyId, KeyRing};
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use crate::controller::state::keys::{KeySecret, KeyState};
use crate::kubernetes::client::{ApiError, FIELD_MANAGER, with_timeout};
use crate::mirror::target::{TargetIssue, TargetReason};

const RETRY: Duration = Duration::from_secs(5);
/// How long to wait before the Lease is marked again after a failure. It is short, because only a marked Lease reveals that the
/// keys were lost.
const MARK_AGAIN: Duration = Duration::from_millis(500);
/// Annotation of the Lease: the operator has had keys, in a Secret of this name.
const KEYS_MADE: &str = "parameter-mirror.dev/keys-made";

/// Keeps the operator's keys up to date until the returned task is dropped. Returns once the state of the keys is known.
pub async fn keep(client: Client, secret: KeySecret) -> (watch::Receiver<KeyState>, AbortOnDropHandle<()>) {
    let api: Api<Secret> = Api::namespaced(client.clone(), &secret.namespace);
    let first = loop {
        match first_keys(&client, &api, &secret).await {
            Ok(keys) => break keys,
            Err(problem) => {
                tracing::warn!(secret = secret.name, error = %problem, "the key Secret cannot be read yet");
                tokio::time::sleep(RETRY).await;
            }
        }
    };
    if let Some(issue) = &first.issue {
        tracing::error!(reason = %issue.reason, "{}", issue.detail);
    }
    let has_keys = first.ring.is_some();
    let (sender, receiver) = watch::channel(first);
    let task = async move {
        let remembered = async {
            if has_keys {
                remember(&client, &secret).await;
            }
        };
        tokio::join!(remembered, follow(api, &secret, sender));
    };
    (receiver, AbortOnDropHandle::new(tokio::spawn(task)))
}

async fn follow(api: Api<Secret>, secret: &KeySecret, sender: watch::Sender<KeyState>) {
    let mut changes = std::pin::pin!(watcher::watch_object(api, &secret.name).default_backoff());
    while let Some(change) = changes.next().await {
        let Ok(found) = change else { continue };
        let next = read(found.as_ref(), secret);
        sender.send_if_modified(|keys| {
            // A Secret that was deleted and restored may hold other bytes under the same key id.
            let same = keys.resource_version == next.resource_version;
            if !same {
                let version = keys.version + 1;
                *keys = KeyState { version, ..next };
            }
            !same
        });
    }
}

/// Creates keys at the first start only. New keys over targets that are signed with lost ones would make the sub-keys of readers
/// useless.
async fn first_keys(client: &Client, api: &Api<Secret>, secret: &KeySecret) -> Result<KeyState, ApiError> {
    if let Some(found) = with_timeout(api.get_opt(&secret.name)).await? {
        return Ok(KeyState { version: 1, ..read(Some(&found), secret) });
    }
    if were_ever_made(client, secret).await? {
        return Ok(KeyState { version: 1, ..read(None, secret) });
    }
    let Some(fresh) = manifest(&secret.namespace, &secret.name) else { return Err(ApiError::Unreachable) };
    let params = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
    match with_timeout(api.create(&params, &fresh)).await {
        Ok(created) => Ok(KeyState { version: 1, ..read(Some(&created), secret) }),
        Err(problem) => Err(problem),
    }
}

/// Whether the operator has had keys before, so that targets may be signed with keys that are now lost.
///
/// Only a mark that no tenant can write counts: the annotation of the Lease in the operator's own namespace. A tenant can make up
/// the status of a mirror and the signature on a Secret; if those counted, every mirror would report missing keys
/// (docs/adr/0020-reuse.md).
async fn were_ever_made(client: &Client, secret: &KeySecret) -> Result<bool, ApiError> {
    match with_timeout(leases(client, secret).get_opt(&secret.lease)).await {
        Ok(lease) => Ok(lease.is_some_and(|lease| is_marked(&lease))),
        // Without leader election, the operator may have no permission to read Leases. Then nothing is remembered.
        Err(ApiError::Refused { code: 403, .. }) => Ok(false),
        Err(problem) => Err(problem),
    }
}

/// Marks the Lease, once in its lifetime. A renewal in between makes the write a conflict, which is retried.
async fn remember(client: &Client, secret: &KeySecret) {
    while let Err(problem) = mark(client, secret).await {
        if let ApiError::Refused { code: 403, .. } = problem {
            return;
        }
        tracing::debug!(lease = secret.lease, error = %problem, "the Lease cannot be marked yet");
        tokio::time::sleep(MARK_AGAIN).await;
    }
}

async fn mark(client: &Client, secret: &KeySecret) -> Result<(), ApiError> {
    let api = leases(client, secret);
    let mut lease = with_timeout(api.get_opt(&secret.lease)).await?.unwrap_or_else(|| Lease {
        metadata: ObjectMeta { name: Some(secret.lease.clone()), ..ObjectMeta::default() },
        ..Lease::default()
    });
    if is_marked(&lease) {
        return Ok(());
    }
    lease.annotations_mut().insert(KEYS_MADE.to_owned(), secret.name.clone());
    let params = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
    let written = match lease.resource_version() {
        None => with_timeout(api.create(&params, &lease)).await,
        Some(_) => with_timeout(api.replace(&secret.lease, &params, &lease)).await,
    };
    written.map(|_| ())
}

fn leases(client: &Client, secret: &KeySecret) -> Api<Lease> {
    Api::namespaced(client.clone(), &secret.namespace)
}

fn is_marked(lease: &Lease) -> bool {
    lease.annotations().contains_key(KEYS_MADE)
}

fn read(found: Option<&Secret>, secret: &KeySecret) -> KeyState {
    let place = format!("Secret {}/{}", secret.namespace, secret.name);
    let resource_version = found.and_then(ResourceExt::resource_version);
    let lost = |detail: String| KeyState {
        version: 0,
        resource_version: resource_version.clone(),
        ring: None,
        issue: Some(TargetIssue::new(TargetReason::KeyMissing, detail)),
    };
    let Some(found) = found else {
        return lost(format!(
            "{place} with the operator's keys is gone, and targets are signed with them. Nothing is written meanwhile. Restore it from a \
             backup: kubectl apply -f BACKUP (docs/operations/keys.md, \"Restore the keys\")."
        ));
    };
    let data = found.data.iter().flatten().map(|(name, ByteString(bytes))| (name.as_str(), bytes.as_slice()));
    match KeyRing::from_data(data) {
        Ok(ring) => KeyState { version: 0, resource_version, ring: Some(Arc::new(ring)), issue: None },
        Err(error) => lost(format!("{place} cannot be used: {error}.")),
    }
}

/// Builds a new key Secret with one key; `None` if the machine provides no randomness.
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
