//! A mirror's hash in Redis, written without an operator in the operator's layout.

use std::time::{SystemTime, UNIX_EPOCH};

use parameter_mirror_format::content::Content;
use parameter_mirror_format::content::entry::Entries;
use parameter_mirror_format::content::source::{StoredSelection, StoredSource};
use parameter_mirror_format::crypto::keys::KeyRing;
use parameter_mirror_format::hash::fields::Fields;
use parameter_mirror_format::hash::{self, EncryptionMode, Status, Vitals};
use redis::AsyncCommands;

use crate::Redis;

/// A hash before it is written, and its sub-key as text.
#[derive(Debug)]
pub struct MirrorHash {
    /// The fields.
    pub fields: Fields,
    /// The sub-key that decrypts its values.
    pub sub_key: String,
    /// The Redis key.
    pub key: String,
}

impl MirrorHash {
    /// Creates the hash `pm:{mirror}` of everything below `path`, read just now, with its own key.
    #[must_use]
    pub fn of(mirror: &str, path: &str, entries: Entries, mode: EncryptionMode) -> Self {
        let key = format!("pm:{{{mirror}}}");
        let ring = KeyRing::generate("k-one".parse().expect("a key id")).expect("a key");
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970").as_millis();
        let now = i64::try_from(now).expect("a clock of this age");
        let selection = StoredSelection::Path { path: path.to_owned(), recursive: true, exclude: vec![] };
        let source = StoredSource {
            name: "default".to_owned(),
            region: "us-east-1".to_owned(),
            role_arn: String::new(),
            external_id: String::new(),
            account: "111122223333".to_owned(),
            selections: vec![selection],
        };
        let owner = format!("test/{mirror}");
        let content = Content { owner: owner.clone(), source: source.encode(), read_at: now, entries };
        let vitals = Vitals { checked_at: now, status: Status::Synced, status_at: now };
        let mut fields = hash::encode(&ring.sign(content), mode, &ring, &key, vitals).expect("a layout");
        // The script adds these fields.
        fields.insert(hash::OWNER, owner);
        fields.insert(hash::FENCE, "1");
        fields.insert(hash::GENERATION, "1");
        let sub_key = ring.sub_key(ring.active(), &key).expect("a sub-key").encode().expose().to_owned();
        Self { fields, sub_key, key }
    }

    /// Replaces the hash in Redis.
    pub async fn write(&self, redis: &Redis) {
        let mut connection = redis.connection().await.expect("Redis answers");
        let fields: Vec<(&[u8], &[u8])> = self.fields.iter().collect();
        connection.del::<_, ()>(&self.key).await.expect("it is deleted");
        if !fields.is_empty() {
            connection.hset_multiple::<_, _, _, ()>(&self.key, &fields).await.expect("it is written");
        }
    }
}
