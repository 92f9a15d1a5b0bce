//! The data of an API server: objects with versions, and the log that watches follow. It has only the rules
//! that the operator can observe: optimistic concurrency, generations, the status subresource, finalizers.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value as Json, json};

/// The object or collection of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Target {
    /// `secrets`, `parametermirrors`, ...
    pub resource: String,
    pub namespace: Option<String>,
    pub name: Option<String>,
    pub subresource: Option<String>,
}

impl Target {
    /// Parses a path like `/apis/GROUP/VERSION/namespaces/NS/RESOURCE/NAME/status`.
    pub fn parse(path: &str) -> Self {
        let mut parts = path.trim_matches('/').split('/').map(str::to_owned).peekable();
        let skipped = if parts.next().as_deref() == Some("api") { 1 } else { 2 };
        let mut parts = parts.skip(skipped).peekable();
        let mut target = Self::default();
        let first = parts.next().unwrap_or_default();
        let mut rest: Vec<String> = parts.collect();
        if first == "namespaces" && rest.len() > 1 {
            target.namespace = Some(rest.remove(0));
            target.resource = rest.remove(0);
        } else {
            target.resource = first;
        }
        let mut rest = rest.into_iter();
        target.name = rest.next();
        target.subresource = rest.next();
        target
    }
}

/// An error of the API server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiRefusal {
    pub code: u16,
    pub reason: &'static str,
}

const NOT_FOUND: ApiRefusal = ApiRefusal { code: 404, reason: "NotFound" };
const CONFLICT: ApiRefusal = ApiRefusal { code: 409, reason: "Conflict" };
const EXISTS: ApiRefusal = ApiRefusal { code: 409, reason: "AlreadyExists" };

/// One change of one object, in the order of versions.
#[derive(Clone)]
pub struct Change {
    pub version: u64,
    pub resource: String,
    pub before: Option<Arc<Json>>,
    pub after: Option<Arc<Json>>,
}

/// The longest log. A watch that is further behind must list again, as after a compaction of etcd.
const LOG: usize = 2_000;

type Key = (String, String, String);
type OnWrite = Box<dyn Fn(&Json) + Send>;

#[derive(Default)]
pub struct Objects {
    pub version: u64,
    all: BTreeMap<Key, Arc<Json>>,
    log: Vec<Change>,
    compacted: u64,
    on_secret: Option<OnWrite>,
}

impl Objects {
    /// Sets a hook that is called with each Secret that is written.
    pub fn on_secret(&mut self, on_secret: impl Fn(&Json) + Send + 'static) {
        self.on_secret = Some(Box::new(on_secret));
    }

    pub fn get(&self, resource: &str, namespace: &str, name: &str) -> Option<Arc<Json>> {
        self.all.get(&key(resource, namespace, name)).cloned()
    }

    /// Returns the objects of a resource, in a namespace or in all, with these labels.
    pub fn list(&self, target: &Target, labels: &[(String, String)]) -> Vec<Arc<Json>> {
        let of_resource = self.all.iter().filter(|((resource, ..), _)| *resource == target.resource);
        of_resource
            .map(|(_, object)| object)
            .filter(|object| selects(target, labels, object))
            .cloned()
            .collect()
    }

    /// Returns the changes after `version`; `None` if the log does not go back that far.
    pub fn since(&self, version: u64) -> Option<impl Iterator<Item = &Change>> {
        let first = self.log.partition_point(|change| change.version <= version);
        (version >= self.compacted).then(|| self.log[first..].iter())
    }

    /// Clears the log, so that every watch must list again.
    pub fn compact(&mut self) {
        self.compacted = self.version;
        self.log.clear();
    }

    pub fn create(&mut self, target: &Target, mut object: Json) -> Result<Arc<Json>, ApiRefusal> {
        let namespace = target.namespace.clone().unwrap_or_default();
        let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        if self.get(&target.resource, &namespace, &name).is_some() {
            return Err(EXISTS);
        }
        object["metadata"]["uid"] = json!(format!("uid-{}", self.version + 1));
        object["metadata"]["generation"] = json!(1);
        if !namespace.is_empty() {
            object["metadata"]["namespace"] = json!(namespace);
        }
        Ok(self.store(&target.resource, &namespace, &name, Some(object)).unwrap())
    }

    pub fn replace(&mut self, target: &Target, object: Json) -> Result<Arc<Json>, ApiRefusal> {
        let before = self.of(target)?;
        let expected = &object["metadata"]["resourceVersion"];
        if !expected.is_null() && *expected != before["metadata"]["resourceVersion"] {
            return Err(CONFLICT);
        }
        Ok(self.change(target, &before, object))
    }

    /// Applies a merge patch, to the status only if the target says so.
    pub fn patch(&mut self, target: &Target, patch: &Json) -> Result<Arc<Json>, ApiRefusal> {
        let before = self.of(target)?;
        let expected = &patch["metadata"]["resourceVersion"];
        if !expected.is_null() && *expected != before["metadata"]["resourceVersion"] {
            return Err(CONFLICT);
        }
        let mut object = (*before).clone();
        if target.subresource.as_deref() == Some("status") {
            merge(&mut object["status"], &patch["status"]);
        } else {
            let status = object["status"].clone();
            merge(&mut object, patch);
            if !status.is_null() {
                object["status"] = status;
            }
        }
        Ok(self.change(target, &before, object))
    }

    pub fn delete(&mut self, target: &Target, options: &Json) -> Result<Arc<Json>, ApiRefusal> {
        let before = self.of(target)?;
        let expected = &options["preconditions"]["resourceVersion"];
        if !expected.is_null() && *expected != before["metadata"]["resourceVersion"] {
            return Err(CONFLICT);
        }
        let mut object = (*before).clone();
        object["metadata"]["deletionTimestamp"] = json!("2026-11-23T00:00:00Z");
        Ok(self.change(target, &before, object))
    }

    fn of(&self, target: &Target) -> Result<Arc<Json>, ApiRefusal> {
        let namespace = target.namespace.as_deref().unwrap_or_default();
        self.get(&target.resource, namespace, target.name.as_deref().unwrap_or_default()).ok_or(NOT_FOUND)
    }

    /// Stores the differences. An object that is being deleted is removed with its last finalizer.
    fn change(&mut self, target: &Target, before: &Arc<Json>, mut after: Json) -> Arc<Json> {
        for member in ["uid", "resourceVersion", "generation", "namespace"] {
            after["metadata"][member] = before["metadata"][member].clone();
        }
        if after == **before {
            return Arc::clone(before);
        }
        let is_deletion = after["metadata"]["deletionTimestamp"] != before["metadata"]["deletionTimestamp"];
        if after["spec"] != before["spec"] || after["data"] != before["data"] || is_deletion {
            after["metadata"]["generation"] =
                json!(before["metadata"]["generation"].as_u64().unwrap_or_default() + 1);
        }
        let is_held = after["metadata"]["finalizers"].as_array().is_some_and(|held| !held.is_empty());
        let is_gone = !after["metadata"]["deletionTimestamp"].is_null() && !is_held;
        let namespace = target.namespace.clone().unwrap_or_default();
        let name = target.name.clone().unwrap_or_default();
        let stored = self.store(&target.resource, &namespace, &name, (!is_gone).then_some(after));
        stored.unwrap_or_else(|| Arc::clone(before))
    }

    fn store(
        &mut self,
        resource: &str,
        namespace: &str,
        name: &str,
        object: Option<Json>,
    ) -> Option<Arc<Json>> {
        self.version += 1;
        let key = key(resource, namespace, name);
        let before = self.all.remove(&key);
        let after = object.map(|mut object| {
            object["metadata"]["resourceVersion"] = json!(self.version.to_string());
            Arc::new(object)
        });
        if let Some(after) = &after {
            if let (Some(on_secret), "secrets") = (&self.on_secret, resource) {
                on_secret(after);
            }
            self.all.insert(key, Arc::clone(after));
        }
        self.log.push(Change {
            version: self.version,
            resource: resource.to_owned(),
            before,
            after: after.clone(),
        });
        if self.log.len() > 2 * LOG {
            self.compacted = self.log[LOG - 1].version;
            self.log.drain(..LOG);
        }
        after
    }
}

impl Change {
    /// Returns the event for a watch of this target, if there is one.
    pub fn seen_by(&self, target: &Target, labels: &[(String, String)]) -> Option<Json> {
        if self.resource != target.resource {
            return None;
        }
        let seen = |object: &Option<Arc<Json>>| {
            object.as_ref().filter(|object| selects(target, labels, object)).map(|object| (**object).clone())
        };
        let (kind, mut object) = match (seen(&self.before), seen(&self.after)) {
            (None, None) => return None,
            (None, Some(object)) => ("ADDED", object),
            (Some(_), Some(object)) => ("MODIFIED", object),
            (Some(object), None) => ("DELETED", object),
        };
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        Some(json!({"type": kind, "object": object}))
    }
}

fn key(resource: &str, namespace: &str, name: &str) -> Key {
    (resource.to_owned(), namespace.to_owned(), name.to_owned())
}

fn selects(target: &Target, labels: &[(String, String)], object: &Json) -> bool {
    let metadata = &object["metadata"];
    let named = |name: &String| metadata["name"] == json!(name);
    target.namespace.as_ref().is_none_or(|namespace| metadata["namespace"] == json!(namespace))
        && target.name.as_ref().is_none_or(named)
        && labels.iter().all(|(label, value)| metadata["labels"][label] == json!(value))
}

/// Applies a merge patch (RFC 7396).
fn merge(target: &mut Json, patch: &Json) {
    let Json::Object(members) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    for (name, value) in members {
        if value.is_null() {
            target.as_object_mut().unwrap().remove(name);
        } else {
            merge(&mut target[name], value);
        }
    }
}
