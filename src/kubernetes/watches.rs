//! The watches, and how a change adds the mirrors it concerns to the work queue.
//!
//! Watches may lag and drop entries for a moment, so what they show is a hint. Nothing is refused or removed because of
//! a watch alone (docs/design/formats.md, "Grants").

use std::collections::{BTreeMap, HashSet};
use std::fmt::Debug;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::core::{DeserializeGuard, PartialObjectMeta};
use kube::runtime::reflector::{ObjectRef, Store, store::Writer};
use kube::runtime::{WatchStreamExt, reflector, watcher};
use kube::{Api, Client, Resource, ResourceExt};
use parameter_mirror_format::humanize;
use parameter_mirror_format::secret as layout;
use serde::de::DeserializeOwned;
use tokio_util::task::AbortOnDropHandle;

use crate::api::conditions;
use crate::api::{ACCEPT_SHRINK, DRILL_UNTIL, FINALIZER, ParameterMirror, ParameterSource, SYNC_AT};
use crate::kubernetes::changes::{self, on_news};
use crate::kubernetes::queue::{Queue, Urgency};
use crate::mirror::plan::{SourceIdentity, SourcePlan};

/// How long one watch lasts before it is restarted. A connection that falls silent is noticed only then, and a lost
/// Secret has to be back within a minute (docs/security/evidence.md, promise 2); the library's 290 s are too long for that.
pub const WATCH_TIMEOUT: Duration = Duration::from_secs(45);

/// How many objects one page of a list may hold. An object may have 1.5 MB, the limit of etcd, whatever bounds its spec
/// has: finalizers and labels have none. A decoded page takes several times the bytes of its text.
pub const PAGE: u32 = 10;

/// The watcher configuration: all objects, in watches that [last](WATCH_TIMEOUT) less than a minute.
#[must_use]
pub fn config() -> watcher::Config {
    watcher::Config::default().timeout(u32::try_from(WATCH_TIMEOUT.as_secs()).unwrap_or(45)).page_size(PAGE)
}

/// Maximum length of an annotation value that the operator keeps. Longer ones are cut, so that the status, which
/// repeats them, stays short.
const LONGEST_ANNOTATION: usize = 64;
/// Maximum length of an owner: cluster, namespace and mirror.
const LONGEST_OWNER: usize = 1_024;
/// Maximum length of the error of an object that does not decode, which may quote the object.
const LONGEST_ERROR: usize = 512;

/// The stores that the watches keep up to date. The guards keep an object that does not decode from stalling the others.
pub struct Watches {
    mirrors: Vec<Store<DeserializeGuard<ParameterMirror>>>,
    sources: Store<DeserializeGuard<ParameterSource>>,
    namespaces: Store<PartialObjectMeta<Namespace>>,
    /// `None` if Secrets are not watched.
    secrets: Option<Vec<Store<PartialObjectMeta<Secret>>>>,
    _tasks: Vec<AbortOnDropHandle<()>>,
}

/// The version of one of our Secrets, according to the watch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CachedVersion {
    /// Its version; `None` if the watch shows no such Secret.
    Known(Option<String>),
    /// Secrets are not watched (`--secret-watch false`): the caller has to ask the API server.
    NotWatched,
}

/// The conditions of one mirror.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MirrorConditions {
    /// Namespace of the mirror.
    pub namespace: String,
    /// Name of the mirror.
    pub mirror: String,
    /// Whether Ready is True.
    pub is_ready: bool,
    /// The reason of Degraded while it is True.
    pub degraded: Option<String>,
    /// Whether `spec.suspend` is true.
    pub is_suspended: bool,
}

/// The conditions of a source that metrics show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceConditions {
    /// Name of the source.
    pub source: String,
    /// Whether its condition Available is True.
    pub is_available: bool,
    /// Whether an outage is rehearsed.
    pub is_drill: bool,
}

impl Watches {
    /// Starts the watches; they end when this is dropped. Every change adds the mirrors it concerns to `queue`. Secrets
    /// are watched only `with_secrets`.
    #[must_use]
    pub fn start(client: &Client, scopes: &[Option<String>], queue: &Arc<Queue>, with_secrets: bool) -> Self {
        let mut tasks = Vec::new();
        let mut begin = |scope: &Option<String>| {
            let (mirrors, task) = watch_mirrors(scoped(client, scope.as_deref()), Arc::clone(queue));
            tasks.push(task);
            mirrors
        };
        let mirrors: Vec<_> = scopes.iter().map(&mut begin).collect();

        let (sources, source_writer) = reflector::store();
        let wake = add_by(&mirrors, queue, |mirror, source: &DeserializeGuard<ParameterSource>| {
            mirror.spec.source_ref.name == source.name_any()
        });
        let wake = on_news(sources.clone(), changes::of_source, wake);
        let slim = |source: &mut DeserializeGuard<ParameterSource>| {
            keep_annotations(source, &[DRILL_UNTIL]);
            cut_error(source);
        };
        tasks.push(spawn(Api::all(client.clone()), config(), source_writer, slim, wake));

        let (namespaces, namespace_writer) = reflector::store();
        let wake = add_by(&mirrors, queue, |mirror, namespace: &PartialObjectMeta<Namespace>| {
            mirror.namespace().as_deref() == Some(&namespace.name_any())
        });
        let wake = on_news(namespaces.clone(), changes::of_namespace, wake);
        let slim = |namespace: &mut PartialObjectMeta<Namespace>| keep_annotations(namespace, &[]);
        tasks.push(spawn(Api::all(client.clone()), config(), namespace_writer, slim, wake));

        let secrets = with_secrets.then(|| {
            let begin = |scope: &Option<String>| {
                let (secrets, task) = watch_secrets(scoped(client, scope.as_deref()), Arc::clone(queue));
                tasks.push(task);
                secrets
            };
            scopes.iter().map(begin).collect()
        });
        Self { mirrors, sources, namespaces, secrets, _tasks: tasks }
    }

    /// Waits until the stores hold the initial lists. Only one task may wait for a store: a second one loses the
    /// wake-up of the first.
    pub async fn ready(&self) -> bool {
        let mirrors = join_all(self.mirrors.iter().map(Store::wait_until_ready));
        let secrets = join_all(self.secrets.iter().flatten().map(Store::wait_until_ready));
        let (mirrors, secrets, sources, namespaces) = tokio::join!(
            mirrors,
            secrets,
            self.sources.wait_until_ready(),
            self.namespaces.wait_until_ready()
        );
        sources.is_ok() && namespaces.is_ok() && mirrors.iter().chain(&secrets).all(Result::is_ok)
    }

    /// Returns a mirror, if the watch shows it.
    #[must_use]
    pub fn mirror(
        &self,
        mirror: &ObjectRef<ParameterMirror>,
    ) -> Option<Arc<DeserializeGuard<ParameterMirror>>> {
        let mut key = ObjectRef::new(&mirror.name);
        key.namespace.clone_from(&mirror.namespace);
        self.mirrors.iter().find_map(|store| store.get(&key))
    }

    /// Returns a source by name. One that does not decode counts as absent, which is an outage and not a withdrawal.
    #[must_use]
    pub fn source(&self, name: &str) -> Option<ParameterSource> {
        let found = self.sources.get(&ObjectRef::new(name))?;
        found.0.as_ref().ok().cloned()
    }

    /// Returns every source that decodes, as a namespace sees it.
    #[must_use]
    pub fn sources_for(&self, namespace: &str) -> Vec<(String, SourcePlan)> {
        let labels = self.namespace_labels(namespace).unwrap_or_default();
        let sources = self.sources.state();
        let decoded = sources.iter().filter_map(|source| source.0.as_ref().ok());
        decoded
            .map(|source| (source.name_any(), SourcePlan::new(&source.spec, namespace, &labels, None)))
            .collect()
    }

    /// Returns the identities that all sources read with.
    #[must_use]
    pub fn identities(&self) -> HashSet<SourceIdentity> {
        let sources = self.sources.state();
        let specs = sources.iter().filter_map(|source| source.0.as_ref().ok()).map(|source| &source.spec);
        specs.map(SourceIdentity::from).collect()
    }

    /// Returns the labels of a namespace, if the watch shows it.
    #[must_use]
    pub fn namespace_labels(&self, name: &str) -> Option<BTreeMap<String, String>> {
        self.namespaces.get(&ObjectRef::new(name)).map(|namespace| namespace.labels().clone())
    }

    /// Whether a namespace is being deleted, according to the watch.
    #[must_use]
    pub fn is_terminating(&self, name: &str) -> bool {
        self.namespaces
            .get(&ObjectRef::new(name))
            .is_some_and(|namespace| namespace.metadata.deletion_timestamp.is_some())
    }

    /// Whether Secrets are watched at all.
    #[must_use]
    pub const fn shows_secrets(&self) -> bool {
        self.secrets.is_some()
    }

    /// Returns the version of one of our Secrets, according to the watch.
    #[must_use]
    pub fn secret_version(&self, namespace: &str, name: &str) -> CachedVersion {
        let Some(secrets) = &self.secrets else { return CachedVersion::NotWatched };
        let key = ObjectRef::new(name).within(namespace);
        let found = secrets.iter().find_map(|store| store.get(&key));
        CachedVersion::Known(found.and_then(|secret| secret.resource_version()))
    }

    /// Returns the number of mirrors on a source.
    #[must_use]
    pub fn mirrors_on(&self, source: &str) -> usize {
        self.mirrors.iter().flat_map(Store::state).filter(|mirror| is_on(mirror, source)).count()
    }

    /// Returns all mirrors that decode.
    #[must_use]
    pub fn every_mirror(&self) -> Vec<ObjectRef<ParameterMirror>> {
        let mirrors = self.mirrors.iter().flat_map(Store::state);
        mirrors.filter_map(|mirror| mirror.0.as_ref().ok().map(ObjectRef::from_obj)).collect()
    }

    /// Returns the conditions of every mirror that decodes.
    #[must_use]
    pub fn states(&self) -> Vec<MirrorConditions> {
        let mirrors = self.mirrors.iter().flat_map(Store::state);
        mirrors.filter_map(|mirror| mirror.0.as_ref().ok().map(state)).collect()
    }

    /// Returns the conditions of every source that decodes and has been read.
    #[must_use]
    pub fn source_states(&self) -> Vec<SourceConditions> {
        let sources = self.sources.state();
        let state = |source: &ParameterSource| {
            let status = source.status.as_ref()?;
            Some(SourceConditions {
                source: source.name_any(),
                is_available: conditions::find(&status.conditions, conditions::AVAILABLE)?.status == "True",
                is_drill: status.breaker.as_deref() == Some("Drill"),
            })
        };
        sources.iter().filter_map(|source| state(source.0.as_ref().ok()?)).collect()
    }

    /// Returns the number of namespaces that have mirrors.
    #[must_use]
    pub fn namespaces_with_mirrors(&self) -> usize {
        let mirrors = self.mirrors.iter().flat_map(Store::state);
        mirrors.filter_map(|mirror| mirror.meta().namespace.clone()).collect::<HashSet<_>>().len()
    }

    /// Returns the number of mirrors.
    #[must_use]
    pub fn mirrors(&self) -> usize {
        self.mirrors.iter().map(Store::len).sum()
    }
}

fn scoped<K>(client: &Client, scope: Option<&str>) -> Api<K>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
{
    match scope {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    }
}

/// Drops the annotations that are not for us, and cuts the others: a tenant may put 256 KiB of them on each of
/// thousands of objects.
fn keep_annotations(object: &mut impl ResourceExt, ours: &[&str]) {
    let annotations = object.annotations_mut();
    annotations.retain(|name, _| ours.contains(&name.as_str()));
    for value in annotations.values_mut().filter(|value| value.len() > LONGEST_ANNOTATION) {
        *value = humanize::cut(value, LONGEST_ANNOTATION);
    }
}

fn cut_error<K>(object: &mut DeserializeGuard<K>) {
    if let Err(invalid) = &mut object.0 {
        invalid.error = humanize::cut(&invalid.error, LONGEST_ERROR);
    }
}

fn watch_mirrors(
    api: Api<DeserializeGuard<ParameterMirror>>,
    queue: Arc<Queue>,
) -> (Store<DeserializeGuard<ParameterMirror>>, AbortOnDropHandle<()>) {
    let (mirrors, writer) = reflector::store();
    let slim = |mirror: &mut DeserializeGuard<ParameterMirror>| {
        keep_annotations(mirror, &[SYNC_AT, ACCEPT_SHRINK]);
        mirror.finalizers_mut().retain(|finalizer| finalizer == FINALIZER);
        mirror.labels_mut().clear();
        cut_error(mirror);
    };
    let add = move |mirror: DeserializeGuard<ParameterMirror>| {
        let mut key = ObjectRef::new(&mirror.name_any());
        key.namespace = mirror.namespace();
        queue.add(&key, Urgency::Routine);
    };
    (mirrors, spawn(api, config(), writer, slim, add))
}

/// Watches the metadata of the Secrets that mirrors write.
fn watch_secrets(
    api: Api<PartialObjectMeta<Secret>>,
    queue: Arc<Queue>,
) -> (Store<PartialObjectMeta<Secret>>, AbortOnDropHandle<()>) {
    let (label, value) = layout::LABEL;
    let ours = config().labels(&format!("{label}={value}"));
    let (secrets, writer) = reflector::store();
    // Only its version and its owner are used here, and its manifest is as large as the rest.
    let slim = |secret: &mut PartialObjectMeta<Secret>| {
        let is_owner = |name: &str, value: &str| name == layout::OWNER && value.len() <= LONGEST_OWNER;
        secret.annotations_mut().retain(|name, value| is_owner(name, value));
        secret.finalizers_mut().clear();
        secret.labels_mut().clear();
    };
    let add = move |secret: PartialObjectMeta<Secret>| {
        if let Some(mirror) = mirror_of(&secret) {
            queue.add(&mirror, Urgency::TargetChanged);
        }
    };
    (secrets, spawn(api, ours, writer, slim, add))
}

fn state(mirror: &ParameterMirror) -> MirrorConditions {
    let is_true = |type_: &str| {
        let condition = mirror.status.as_ref().and_then(|status| conditions::find(&status.conditions, type_));
        condition.filter(|condition| condition.status == "True")
    };
    MirrorConditions {
        namespace: mirror.namespace().unwrap_or_default(),
        mirror: mirror.name_any(),
        is_ready: is_true("Ready").is_some(),
        degraded: is_true("Degraded").map(|degraded| degraded.reason.clone()),
        is_suspended: mirror.spec.suspend,
    }
}

fn is_on(mirror: &DeserializeGuard<ParameterMirror>, source: &str) -> bool {
    mirror.0.as_ref().is_ok_and(|mirror| mirror.spec.source_ref.name == source)
}

/// Returns the mirror that a Secret names as its owner.
fn mirror_of(secret: &PartialObjectMeta<Secret>) -> Option<ObjectRef<ParameterMirror>> {
    let mut owner = secret.annotations().get(layout::OWNER)?.rsplitn(3, '/');
    let (mirror, namespace) = (owner.next()?, owner.next()?);
    Some(ObjectRef::new(mirror).within(namespace))
}

/// Adds every mirror that the changed object concerns, according to `concerns`.
fn add_by<K>(
    mirrors: &[Store<DeserializeGuard<ParameterMirror>>],
    queue: &Arc<Queue>,
    concerns: impl Fn(&ParameterMirror, &K) -> bool + Send + 'static,
) -> impl Fn(K) + Send + 'static {
    let (mirrors, queue) = (mirrors.to_vec(), Arc::clone(queue));
    move |changed: K| {
        for mirror in mirrors.iter().flat_map(Store::state) {
            if let Ok(mirror) = &mirror.0
                && concerns(mirror, &changed)
            {
                queue.add(&ObjectRef::from_obj(mirror), Urgency::Routine);
            }
        }
    }
}

fn spawn<K>(
    api: Api<K>,
    config: watcher::Config,
    writer: Writer<K>,
    slim: impl Fn(&mut K) + Send + 'static,
    mut on_change: impl FnMut(K) + Send + 'static,
) -> AbortOnDropHandle<()>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
    K::DynamicType: Hash + Eq + Clone,
{
    // Managed fields are not used here, and are half of what a small object weighs.
    let objects = watcher(api, config).modify(move |object| {
        let metadata = object.meta_mut();
        metadata.managed_fields = None;
        metadata.owner_references = None;
        slim(object);
        // An emptied map or list keeps its memory.
        let metadata = object.meta_mut();
        metadata.annotations.take_if(|annotations| annotations.is_empty());
        metadata.labels.take_if(|labels| labels.is_empty());
        metadata.finalizers.take_if(|finalizers| finalizers.is_empty());
    });
    let changes = reflector(writer, objects).default_backoff().touched_objects();
    AbortOnDropHandle::new(tokio::spawn(async move {
        let mut changes = std::pin::pin!(changes.into_stream());
        while let Some(change) = changes.next().await {
            match change {
                Ok(object) => on_change(object),
                Err(error) => {
                    tracing::debug!(kind = %K::kind(&()), error = watch_problem(&error), "watch interrupted");
                }
            }
        }
    }))
}

/// Classifies a watch error; its text can quote objects.
fn watch_problem(error: &watcher::Error) -> &'static str {
    match error {
        watcher::Error::InitialListFailed(_) => "list failed",
        watcher::Error::WatchStartFailed(_) => "watch did not start",
        watcher::Error::WatchError(_) => "the API server ended the watch",
        watcher::Error::WatchFailed(_) => "watch broke off",
        watcher::Error::NoResourceVersion => "no resource version",
    }
}
