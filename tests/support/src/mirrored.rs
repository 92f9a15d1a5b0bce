//! One mirror as its users see it: conditions, and what both targets hold.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

use crate::console::Console;
use crate::redis::Redis;
use crate::{copies, eventually};

/// A read that fails on its deadlines, and one more interval.
const PATIENCE: Duration = Duration::from_mins(1);

/// A mirror with a Secret and a hash.
#[derive(Clone, Debug)]
pub struct Mirrored {
    console: Console,
    /// Where it lives.
    pub namespace: &'static str,
    /// Its name.
    pub name: &'static str,
    /// Its Secret.
    pub secret: &'static str,
    /// Where the operator lives.
    pub home: &'static str,
}

/// What both targets hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// Data of the Secret.
    pub secret: BTreeMap<String, String>,
    /// What the hash serves, values decrypted.
    pub redis: BTreeMap<String, Vec<u8>>,
}

impl Mirrored {
    /// Whether it exists yet does not matter.
    #[must_use]
    pub fn new(console: &Console, home: &'static str, [namespace, name, secret]: [&'static str; 3]) -> Self {
        Self { console: console.clone(), namespace, name, secret, home }
    }

    /// The key of its hash.
    #[must_use]
    pub fn key(&self) -> String {
        format!("pm:{{{}/{}}}", self.namespace, self.name)
    }

    /// `status`, `reason` and `message` of a condition; empty while there is none.
    pub async fn condition(&self, type_: &str) -> [String; 3] {
        let args = ["get", "pmirror", self.name, "-n", self.namespace, "-o", "json"];
        let mirror = self.console.kubectl(&args).await;
        let mirror: Value = serde_json::from_str(&mirror).expect("kubectl prints JSON");
        let conditions = mirror["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let condition = conditions.into_iter().find(|one| one["type"] == type_).unwrap_or_default();
        ["status", "reason", "message"].map(|name| condition[name].as_str().unwrap_or_default().to_owned())
    }

    /// Waits until a condition says this, and returns its message.
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

    /// What both targets hold; `None` while one of them holds nothing.
    pub async fn held(&self, redis: &Redis) -> Option<Held> {
        let client = self.console.client().await;
        let secret = copies::secret_data(&client, self.namespace, self.secret).await?;
        if redis.hash(&self.key()).await.is_empty() {
            return None;
        }
        let keys = copies::keys(&client, self.home).await;
        Some(Held { secret, redis: copies::redis_content(redis, &self.key(), &keys).await })
    }

    /// Waits until both targets hold these values, by their key and by their name as selected, and returns all that they hold.
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

    /// Waits until both targets hold exactly what they held.
    pub async fn same(&self, redis: &Redis, whole: &Held) {
        eventually(&format!("{whole:#?}"), PATIENCE, async || {
            let held = self.held(redis).await;
            if held.as_ref() == Some(whole) { Ok(()) } else { Err(format!("{held:#?}")) }
        })
        .await;
    }

    /// What a write would move: the version of the Secret, and the hash's counter of content writes.
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
