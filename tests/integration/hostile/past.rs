//! The past of a tenant: everything was granted, and every name had a mirror of foreign values. Then the
//! grant was withdrawn.

use std::collections::BTreeMap;

use futures::future::join_all;
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, DynamicObject, ListParams, PostParams};
use serde_json::json;

use super::attempts::{Attempt, End};
use super::{apply_source, mirror, still};
use crate::world::World;

/// The remains: the mirrors, and their hashes by key.
#[derive(Default)]
pub struct Past {
    mirrors: Vec<String>,
    hashes: BTreeMap<String, BTreeMap<String, Vec<u8>>>,
}

impl Past {
    /// Creates a mirror of everything, in both targets, for each attempt with a legitimate name.
    pub async fn lived(world: &World, source: &str, attempts: &[Attempt]) -> Self {
        let all = json!([{"namespaces": [world.namespace], "paths": ["/"]}]);
        apply_source(world, source, "us-east-1", all).await;
        let spec = json!({
            "sourceRef": {"name": source}, "interval": "10s", "secret": {}, "redis": {}, "parameters": [{"path": "/victim"}],
        });
        let mut past = Self::default();
        // A mirror that changes its source keeps the old set until someone approves the change, so it would
        // not end as expected.
        let had_a_mirror = |attempt: &&Attempt| match attempt.end {
            End::Refused(_) => false,
            End::Own => attempt.spec["sourceRef"]["name"] == source,
            End::Denied(_) | End::NeverHad(_) => true,
        };
        for attempt in attempts.iter().filter(had_a_mirror) {
            let made = serde_json::from_value(json!(mirror(&attempt.name, &spec))).unwrap();
            world.mirrors().create(&PostParams::default(), &made).await.unwrap();
            past.mirrors.push(attempt.name.clone());
        }
        join_all(past.mirrors.iter().map(|name| world.ready(name, "Synced"))).await;
        for name in &past.mirrors {
            let key = world.key(name);
            past.hashes.insert(key.clone(), still(world, &key).await);
        }
        past
    }

    /// Waits until every mirror has noticed the withdrawal. The tenant deletes all Secrets, to provoke their
    /// restoration, and every second mirror, whose hash stays.
    pub async fn ends(&self, world: &World) {
        join_all(self.mirrors.iter().map(|name| world.condition(name, "Stalled", "True", "NotGranted")))
            .await;
        for name in &self.mirrors {
            world.secrets().delete(name, &DeleteParams::default()).await.unwrap();
        }
        let gone: Vec<_> = self.mirrors.iter().step_by(2).map(String::as_str).collect();
        let namespace = world.namespace.as_str();
        world
            .cluster
            .kubectl(&[&["delete", "pmirror", "-n", namespace, "--timeout=30s"], gone.as_slice()].concat())
            .await;
        let left = world.secrets().list(&ListParams::default()).await.unwrap();
        let left: Vec<_> =
            left.iter().map(ResourceExt::name_any).filter(|name| self.mirrors.contains(name)).collect();
        assert!(left.is_empty(), "healed though it is not granted: {left:?}");
    }

    /// Creates a mirror, or replaces the spec of an existing one.
    pub async fn apply(
        &self,
        mirrors: &Api<DynamicObject>,
        mut mirror: DynamicObject,
    ) -> kube::Result<DynamicObject> {
        let name = mirror.name_any();
        let known = if self.mirrors.contains(&name) { mirrors.get_opt(&name).await? } else { None };
        match known {
            None => mirrors.create(&PostParams::default(), &mirror).await,
            Some(known) => {
                mirror.metadata.resource_version = known.metadata.resource_version;
                mirrors.replace(&name, &PostParams::default(), &mirror).await
            }
        }
    }

    /// Whether a hash is unchanged, or still absent.
    pub async fn is_unchanged(&self, world: &World, key: &str) -> bool {
        still(world, key).await == self.hashes.get(key).cloned().unwrap_or_default()
    }

    /// Returns the unchanged hashes.
    pub async fn unchanged(&self, world: &World) -> Vec<String> {
        let judged =
            join_all(self.hashes.keys().map(async |key| (key, self.is_unchanged(world, key).await))).await;
        judged.into_iter().filter(|(_, unchanged)| *unchanged).map(|(key, _)| key.clone()).collect()
    }
}
