//! The content of the operator's targets, decoded from outside with the published layout.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use parameter_mirror_format::crypto::keys::KeyRing;
use parameter_mirror_format::crypto::subkey::SubKey;
use parameter_mirror_format::hash::fields::Fields;
use parameter_mirror_format::hash::{EncryptionMode, decode_for_reader};

use crate::redis::Redis;

/// Fields that change while the content of a hash stays the same.
const MOVING: [&str; 7] =
    ["@fence", "@generation", "@checkedAt", "@checkedMac", "@readerMac", "@status", "@statusAt"];

/// Returns the keys of the operator in a namespace.
///
/// # Panics
/// When it has none.
pub async fn keys(client: &kube::Client, namespace: &str) -> KeyRing {
    find_keys(client, namespace).await.expect("the key Secret")
}

/// Like [`keys`]; `None` until the operator has created its keys.
///
/// # Panics
/// When the API server does not answer, or the keys are invalid.
pub async fn find_keys(client: &kube::Client, namespace: &str) -> Option<KeyRing> {
    let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let secret = secrets.get_opt("parameter-mirror-keys").await.expect("the API server answers")?;
    let data = secret.data.unwrap_or_default();
    let data = data.iter().map(|(name, bytes)| (name.as_str(), bytes.0.as_slice()));
    Some(KeyRing::from_data(data).expect("the operator's keys"))
}

/// Returns the values that a hash serves by parameter name, decrypted; `None` if a reader cannot decode the
/// hash.
#[must_use]
pub fn redis_values(
    hash: &BTreeMap<String, Vec<u8>>,
    key: &str,
    keys: &KeyRing,
) -> Option<BTreeMap<String, String>> {
    let fields: Fields =
        hash.iter().map(|(name, bytes)| (name.clone().into_bytes(), bytes.clone())).collect();
    let sub_keys: Vec<SubKey> = keys.key_ids().filter_map(|id| keys.sub_key(id, key)).collect();
    let copy = decode_for_reader(&fields, key, &sub_keys, Some(EncryptionMode::None)).ok()?;
    Some(copy.entries.into_iter().map(|(name, entry)| (name, entry.value.expose().to_owned())).collect())
}

/// Returns the fields of a mirror's hash that determine what is served, with decrypted values. They are the
/// same for a healed hash, although its ciphertext differs.
pub async fn redis_content(redis: &Redis, key: &str, keys: &KeyRing) -> BTreeMap<String, Vec<u8>> {
    let mut hash = redis.hash(key).await;
    let values = redis_values(&hash, key, keys).expect("a hash that a reader can read");
    hash.retain(|field, _| !MOVING.contains(&field.as_str()));
    hash.extend(values.into_iter().map(|(name, value)| (name, value.into_bytes())));
    hash
}

/// Returns the data of a Secret as text; `None` if the Secret does not exist.
pub async fn secret_data(
    client: &kube::Client,
    namespace: &str,
    name: &str,
) -> Option<BTreeMap<String, String>> {
    let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let data = secrets.get_opt(name).await.expect("the API server answers")?.data.unwrap_or_default();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    Some(data.into_iter().map(|(key, value)| (key, text(value.0))).collect())
}
