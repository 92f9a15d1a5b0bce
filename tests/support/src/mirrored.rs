//! One mirror as its users see it: conditions, and the content of both targets.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

use crate::console::Console;
use crate::redis::Redis;
use crate::{copies, eventually};

/// The time for a read to fail at its deadlines, plus one more interval.
const PATIENCE: Duration = Duration::from_mins(1);

/// A mirror with a Secret and a hash.
#[derive(Clone, Debug)]
pub struct Mirrored {
    console: Console,
    /// Its namespace.
    pub namespace: &'static str,
    /// Its name.
    pub name: &'static str,
    /// Its Secret.
    pub secret: &'static str,
    /// The namespace of the operator.
    pub home: &'static str,
}

/// The content of both targets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// The data of the Secret.
    pub secret: BTreeMap<String, String>,
    /// The fields of the hash, with decrypted values.
    pub redis: BTreeMap<String, Vec<u8>>,
}

impl Mirrored {
    /// Describes a mirror, which need not exist yet.
    #[must_use]
    pub fn new(console: &Console, home: &'static str, [namespace, name, secret]: [&'static str; 3]) -> Self {
        Self { console: console.clone(), namespace, name, secret, home }
    }

    /// Returns the key of its hash.
    #[must_use]
    pub fn key(&self) -> String {
        format!("pm:{{{}/{}}}", self.namespace, self.name)
    }

    /// Returns `status`, `reason` and `message` of a condition; empty if it does not exist.
    pub async fn condition(&self, type_: &str) -> [String; 3] {
        let args = ["get", "pmirror", self.name, "-n", self.namespace, "-o", "json"];
        let mirror = self.console.kubectl(&args).await;
        let mirror: Value = serde_json::from_str(&mirror).expect("kubectl prints JSON");
        let conditions = mirror["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let condition = conditions.into_iter().find(|one| one["type"] == type_).unwrap_or_default();
        ["status", "reason", "message"].map(|name| condition[name].as_str().unwrap_or_default().to_owned())
    }

    /// Waits until a condition has this status and reason, and returns its message.
    pub async fn says(&self, type_: &str, status: &str, reason: &str) -> String {
        eventually(&format!("{type_} {status} {reason}"), PATIENCE, async || {
            let condition = self.condition(type_).await;
            let [is_status, is_reason, message] = &condition;
            if is_status == status && is_reason == reason {
                Ok(message.clone())
            } else {
                Err(condition.join(" "))
            }
        })
        .await
    }

    /// Returns the content of both targets; `None` while one of them is empty.
    pub async fn held(&self, redis: &Redis) -> Option<Held> {
        let client = self.console.client().await;
        let secret = copies::secret_data(&client, self.namespace, self.secret).await?;
        if redis.hash(&self.key()).await.is_empty() {
            return None;
        }
        let keys = copies::keys(&client, self.home).await;
        Some(Held { secret, redis: copies::redis_content(redis, &self.key(), &keys).await })
    }

    /// Waits until both targets contain these values, by their key and by their name as selected. Returns the
    /// content of both.
    pub async fn holds(&self, redis: &Redis, expected: &[(&str, &str, &str)]) -> Held {
        let keys: BTreeMap<String, String> =
            expected.iter().map(|&(key, _, value)| (key.to_owned(), value.to_owned())).collect();
        let what = format!("Secret {} and Redis {} hold {keys:#?}", self.secret, self.key());
        eventually(&what, PATIENCE, async || {
            let Some(held) = self.held(redis).await else { return Err("a target holds nothing".to_owned()) };
            let in_redis =
                |name: &str, value: &str| held.redis.get(name).is_some_and(|is| is == value.as_bytes());
            let redis = expected.iter().all(|&(_, name, value)| in_redis(name, value));
            if held.secret == keys && redis { Ok(held) } else { Err(format!("{:#?}", held.secret)) }
        })
        .await
    }

    /// Waits until both targets have exactly this content.
    pub async fn same(&self, redis: &Redis, whole: &Held) {
        eventually(&format!("{whole:#?}"), PATIENCE, async || {
            let held = self.held(redis).await;
            if held.as_ref() == Some(whole) { Ok(()) } else { Err(format!("{held:#?}")) }
        })
        .await;
    }

    /// Returns what a write would change: the version of the Secret, and the hash's counter of content
    /// writes.
    pub async fn versions(&self, redis: &Redis) -> [String; 2] {
        let version = [
            "get",
            "secret",
            self.secret,
            "-n",
            self.namespace,
            "-o",
            "jsonpath={.metadata.resourceVersion}",
        ];
        [self.console.kubectl(&version).await, redis.cli(&["hget", &self.key(), "@generation"]).await]
    }
}
