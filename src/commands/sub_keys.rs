//! `key`: prints the sub-keys with which a reader decrypts one mirror and no other.
#![expect(clippy::disallowed_methods, reason = "`key` prints sub-keys: it is what it is for")]

use anyhow::{Context as _, anyhow};
use k8s_openapi::api::core::v1::Secret;
use kube::core::PartialObjectMeta;
use kube::{Api, Client};
use parameter_mirror_format::crypto::keys::KeyRing;
use parameter_mirror_format::hash::mirror_name::MirrorName;

use crate::api::ParameterMirror;
use crate::cli::{KeyArgs, KeyPlace};
use crate::kubernetes::client::connect;
use crate::kubernetes::client::with_timeout;

/// Returns the sub-keys of a mirror, one a line, the active one first. Printing them is the purpose of this command. It
/// runs with the caller's permissions, so the caller must be able to read the key Secret.
pub async fn sub_keys(args: &KeyArgs) -> anyhow::Result<String> {
    let client = connect(&(&args.cluster).into()).await?;
    let secrets: Api<Secret> = Api::namespaced(client.clone(), &args.keys.namespace);
    let secret = with_timeout(secrets.get(&args.keys.key_secret)).await;
    let secret = secret.map_err(|problem| {
        let KeyPlace { namespace, key_secret } = &args.keys;
        anyhow!("Secret {namespace}/{key_secret}: {problem}. Is --namespace the operator's namespace?")
    })?;
    warn_if_absent(client, &args.mirror).await;
    let data = secret.data.unwrap_or_default();
    let keys = KeyRing::from_data(data.iter().map(|(name, bytes)| (name.as_str(), bytes.0.as_slice())))?;
    let active = keys.active();
    let ids = [active].into_iter().chain(keys.key_ids().filter(|id| *id != active));
    let redis_key = args.mirror.redis_key(&args.redis_prefix);
    let lines = ids.map(|id| {
        let sub_key = keys.sub_key(id, &redis_key).context("the crypto library failed")?;
        Ok(format!("{}\n", sub_key.encode().expose()))
    });
    lines.collect()
}

/// Warns about a mirror that does not exist, most often a typing error: its sub-key would decrypt nothing. A caller
/// without the right to read mirrors gets no warning.
async fn warn_if_absent(client: Client, mirror: &MirrorName) {
    let mirrors: Api<PartialObjectMeta<ParameterMirror>> = Api::namespaced(client, mirror.namespace());
    if let Ok(None) = with_timeout(mirrors.get_metadata_opt(mirror.name())).await {
        eprintln!("warning: there is no ParameterMirror {mirror} in this cluster");
    }
}
