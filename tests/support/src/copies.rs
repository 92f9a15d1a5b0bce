//! What the operator's targets hold, judged from outside with the published layout.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use parameter_mirror_format::fields::Fields;
use parameter_mirror_format::hash::decode_for_reader;
use parameter_mirror_format::keys::KeyRing;
use parameter_mirror_format::subkey::SubKey;

use crate::redis::Redis;

/// Fields that move while a hash is only looked after.
const MOVING: [&str; 5] = ["@fence", "@generation", "@checkedAt", "@status", "@statusAt"];

/// The keys of the operator in a namespace.
pub async fn keys(client: &kube::Client, namespace: &str) -> KeyRing {
    let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let data = secrets.get("parameter-mirror-keys").await.expect("the key Secret").data.unwrap_or_default();
    let data = data.iter().map(|(name, bytes)| (name.as_str(), bytes.0.as_slice()));
    KeyRing::from_data(data).expect("the operator's keys")
}

/// Everything in a mirror's hash that says what is served, values decrypted: a hash that was healed is the same,
/// although its ciphertext is not.
pub async fn redis_content(redis: &Redis, key: &str, keys: &KeyRing) -> BTreeMap<String, Vec<u8>> {
    let mut hash = redis.hash(key).await;
    let fields: Fields =
        hash.iter().map(|(name, bytes)| (name.clone().into_bytes(), bytes.clone())).collect();
    let sub_keys: Vec<SubKey> = keys.key_ids().filter_map(|id| keys.sub_key(id, key)).collect();
    let copy = decode_for_reader(&fields, key, &sub_keys).expect("a hash that a reader can read");
    hash.retain(|field, _| !MOVING.contains(&field.as_str()));
    let plain =
        copy.entries.into_iter().map(|(name, entry)| (name, entry.value.expose().as_bytes().to_vec()));
    hash.extend(plain);
    hash
}

/// The data of a Secret as text; `None` if there is no such Secret.
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
