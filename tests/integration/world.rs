//! What nearly every test needs: a namespace of its own, an SSM and a Redis of its own, and an operator that watches
//! only that namespace, with exactly the rights of the chart's service account.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams};
use parameter_mirror::api::{ParameterMirror, ParameterMirrorStatus, ParameterSource, SYNC_AT};
use parameter_mirror_test_support::cluster::{Cluster, Options};
use parameter_mirror_test_support::command::Output;
use parameter_mirror_test_support::copies;
pub use parameter_mirror_test_support::eventually;
use parameter_mirror_test_support::operator::{Operator, Settings};
use parameter_mirror_test_support::{Canaries, Redis, Scratch, Ssm};
use serde_json::json;
use tokio::sync::OnceCell;

/// How long something that happens at once may take on a busy machine.
pub const SOON: Duration = Duration::from_secs(20);
/// How long something may take that waits for the shortest interval, or for a read to fail on its deadline.
pub const LATER: Duration = Duration::from_mins(1);

/// The root of the repository.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The API server that tests share, with the CRDs applied.
pub async fn cluster() -> &'static Cluster {
    static CRDS: OnceCell<()> = OnceCell::const_new();
    let cluster = Cluster::shared().await;
    CRDS.get_or_init(|| apply_crds(cluster)).await;
    cluster
}

/// An API server for a test that would be a burden to the others. It ends with the process, as the shared one does.
pub async fn own_cluster() -> &'static Cluster {
    let cluster = Box::leak(Box::new(Cluster::start(Options::default()).await));
    apply_crds(cluster).await;
    cluster
}

async fn apply_crds(cluster: &Cluster) {
    cluster.kubectl(&["apply", "-f", root().join("crds").to_str().unwrap()]).await;
    let established = ["wait", "--for=condition=Established", "crd", "--all", "--timeout=30s"];
    cluster.kubectl(&established).await;
}

/// One test's world.
pub struct World {
    pub cluster: &'static Cluster,
    pub client: kube::Client,
    pub ssm: Ssm,
    pub redis: Redis,
    pub operator: Operator,
    /// Where mirrors live.
    pub namespace: String,
    /// Where the operator lives.
    pub home: String,
    /// Values that no output may hold, for whoever looks for them with `silence`.
    pub canaries: Canaries,
    /// The source that mirrors of this world use; grants `/app` to the namespace.
    pub source: String,
    /// Holds the operator's kubeconfig.
    _scratch: Scratch,
}

/// How a world differs from the usual one.
#[derive(Default)]
pub struct Setup {
    /// Another API server than the one that tests share.
    pub cluster: Option<&'static Cluster>,
    /// Another SSM than our own.
    pub ssm_endpoint: Option<String>,
    /// Another Redis than one that lets everybody in.
    pub redis: Option<Redis>,
    /// Another way to it than straight.
    pub redis_url: Option<String>,
    /// No Redis for the operator.
    pub without_redis: bool,
    /// Another namespace for the operator than one that nobody else knows.
    pub home: Option<String>,
    /// Further namespaces that the operator watches.
    pub neighbours: Vec<String>,
    /// Values of the chart that its rights follow.
    pub chart: Vec<String>,
    /// Further arguments of `run`.
    pub arguments: Vec<String>,
    /// Further environment of the operator.
    pub environment: Vec<(String, String)>,
}

impl World {
    pub async fn start() -> Self {
        Self::with(Setup::default()).await
    }

    pub async fn with(setup: Setup) -> Self {
        let cluster = match setup.cluster {
            Some(cluster) => cluster,
            None => cluster().await,
        };
        let ssm = Ssm::start();
        let redis = match setup.redis {
            Some(redis) => redis,
            None => Redis::start().await,
        };
        let namespace = cluster.namespace("shop").await;
        let home = match setup.home {
            Some(home) => home,
            None => cluster.namespace("operator").await,
        };
        let scratch = Scratch::new("world").unwrap();
        let mut watched: Vec<&str> = vec![&namespace];
        watched.extend(setup.neighbours.iter().map(String::as_str));
        let mut settings = service_account(cluster, &home, &watched, &setup.chart, scratch.path()).await;
        settings.ssm = setup.ssm_endpoint.unwrap_or_else(|| ssm.endpoint());
        let redis_url = setup.redis_url.unwrap_or_else(|| redis.url());
        settings.redis = (!setup.without_redis).then_some(redis_url);
        settings.arguments = setup.arguments;
        settings.environment.extend(setup.environment);
        let source = namespace.clone();
        let client = cluster.client().await;
        let operator = Operator::start(settings).await;
        let world = Self {
            cluster,
            client,
            ssm,
            redis,
            operator,
            namespace,
            home,
            canaries: Canaries::default(),
            source,
            _scratch: scratch,
        };
        world.grant(&["/app"]).await;
        world
    }

    /// Another operator with the same keys and targets, but with another SSM, that takes no part in the election.
    pub async fn second_operator(&self, ssm: &str) -> Operator {
        let mut settings = self.operator.settings().clone();
        settings.arguments.extend(["--leader-elect".to_owned(), "false".to_owned()]);
        ssm.clone_into(&mut settings.ssm);
        Operator::start(settings).await
    }

    /// Another replica of the operator.
    pub async fn replica(&self) -> Operator {
        Operator::start(self.operator.settings().clone()).await
    }

    /// Makes the world's source grant exactly these paths to its namespace.
    pub async fn grant(&self, paths: &[&str]) {
        let grant = json!({"namespaces": {"names": [self.namespace]}, "paths": paths});
        self.source_with(json!({"region": "us-east-1", "grants": [grant]})).await;
    }

    /// Applies the world's source with this spec.
    pub async fn source_with(&self, spec: serde_json::Value) {
        let source = json!({
            "apiVersion": "parameter-mirror.dev/v1alpha1", "kind": "ParameterSource",
            "metadata": {"name": self.source}, "spec": spec,
        });
        self.cluster.kubectl_apply(&source.to_string()).await;
    }

    /// Applies a mirror; the interval is 10 s and the source the world's unless the spec says otherwise.
    pub async fn mirror(&self, name: &str, spec: serde_json::Value) {
        let output = self.try_mirror(name, spec).await;
        assert!(output.status.success(), "{}", output.stderr);
    }

    /// Applies a mirror that may be refused.
    pub async fn try_mirror(&self, name: &str, mut spec: serde_json::Value) -> Output {
        let members = spec.as_object_mut().unwrap();
        members.entry("interval").or_insert(json!("10s"));
        members.entry("source").or_insert(json!(self.source));
        let mirror = json!({
            "apiVersion": "parameter-mirror.dev/v1alpha1", "kind": "ParameterMirror",
            "metadata": {"name": name, "namespace": self.namespace}, "spec": spec,
        });
        self.cluster.try_kubectl_apply(&mirror.to_string()).await
    }

    /// A mirror of everything below `/app` into both targets, synced.
    pub async fn synced(&self, name: &str) {
        self.mirror(name, json!({"parameters": [{"path": "/app"}], "secret": {}, "redis": {}})).await;
        self.ready(name, "Synced").await;
    }

    pub fn mirrors(&self) -> Api<ParameterMirror> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    pub fn secrets(&self) -> Api<Secret> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    pub async fn status(&self, mirror: &str) -> ParameterMirrorStatus {
        self.mirrors().get(mirror).await.unwrap().status.unwrap_or_default()
    }

    /// Changes the mirror's spec by a merge patch.
    pub async fn change(&self, mirror: &str, spec: serde_json::Value) {
        let patch = Patch::Merge(json!({"spec": spec}));
        self.mirrors().patch(mirror, &PatchParams::default(), &patch).await.unwrap();
    }

    /// Sets an annotation of the mirror.
    pub async fn annotate(&self, mirror: &str, name: &str, value: &str) {
        let patch = Patch::Merge(json!({"metadata": {"annotations": {name: value}}}));
        self.mirrors().patch(mirror, &PatchParams::default(), &patch).await.unwrap();
    }

    /// Asks for a read now, without waiting for it. Returns what `status.lastHandledSyncAt` will be.
    pub async fn ask(&self, mirror: &str) -> String {
        static ASKED: AtomicU32 = AtomicU32::new(0);
        let token = format!("{}", ASKED.fetch_add(1, Ordering::Relaxed));
        self.annotate(mirror, SYNC_AT, &token).await;
        token
    }

    /// Has the mirror read now and waits until the pass with the answer has ended, whatever it was.
    pub async fn sync(&self, mirror: &str) {
        let token = self.ask(mirror).await;
        eventually(&format!("the read of {mirror} ends"), LATER, async || {
            let handled = self.status(mirror).await.last_handled_sync_at;
            if handled.as_ref() == Some(&token) { Ok(()) } else { Err(self.seen(&handled)) }
        })
        .await;
    }

    /// Waits until the source's status says this of its breaker.
    pub async fn source_breaker_is(&self, expected: &str) {
        let sources: Api<ParameterSource> = Api::all(self.client.clone());
        eventually(&format!("the source's breaker is {expected}"), LATER, async || {
            let status = sources.get(&self.source).await.unwrap().status.unwrap_or_default();
            if status.breaker.as_deref() == Some(expected) { Ok(()) } else { Err(self.seen(&status)) }
        })
        .await;
    }

    /// Waits until a condition has this status and reason, and returns it.
    pub async fn condition(&self, mirror: &str, type_: &str, status: &str, reason: &str) -> Condition {
        eventually(&format!("{mirror}: {type_} {status} {reason}"), LATER, async || {
            let found = self.status(mirror).await.conditions;
            let is = found.iter().find(|condition| condition.type_ == type_);
            match is {
                Some(is) if is.status == status && is.reason == reason => Ok(is.clone()),
                _ => Err(self.seen(&found)),
            }
        })
        .await
    }

    /// Waits until Ready is True with this reason.
    pub async fn ready(&self, mirror: &str, reason: &str) -> Condition {
        self.condition(mirror, "Ready", "True", reason).await
    }

    /// Waits until Degraded is True with this reason.
    pub async fn degraded(&self, mirror: &str, reason: &str) -> Condition {
        self.condition(mirror, "Degraded", "True", reason).await
    }

    /// Waits until Degraded is False.
    pub async fn healthy(&self, mirror: &str) {
        self.condition(mirror, "Degraded", "False", "Synced").await;
    }

    /// Data of a Secret as text; `None` if there is no such Secret.
    pub async fn data(&self, name: &str) -> Option<BTreeMap<String, String>> {
        copies::secret_data(&self.client, &self.namespace, name).await
    }

    /// Waits until a Secret holds exactly this.
    pub async fn holds(&self, name: &str, expected: &[(&str, &str)]) {
        let expected: BTreeMap<String, String> =
            expected.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect();
        eventually(&format!("Secret {name} holds {expected:?}"), LATER, async || {
            let found = self.data(name).await;
            if found.as_ref() == Some(&expected) { Ok(()) } else { Err(self.seen(&found)) }
        })
        .await;
    }

    pub async fn resource_version(&self, secret: &str) -> String {
        self.secrets().get(secret).await.unwrap().metadata.resource_version.unwrap()
    }

    /// Changes a Secret by a merge patch, as a person would.
    pub async fn edit_secret(&self, name: &str, patch: serde_json::Value) {
        self.secrets().patch(name, &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
    }

    pub async fn delete_secret(&self, name: &str) {
        self.secrets().delete(name, &DeleteParams::default()).await.unwrap();
    }

    /// The Redis key of a mirror.
    pub fn key(&self, mirror: &str) -> String {
        format!("pm:{{{}/{mirror}}}", self.namespace)
    }

    /// One field of a mirror's hash as text.
    pub async fn field(&self, mirror: &str, field: &str) -> Option<String> {
        let hash = self.redis.hash(&self.key(mirror)).await;
        hash.get(field).map(|bytes| String::from_utf8_lossy(bytes).into_owned())
    }

    /// One field of a mirror's hash as a number.
    pub async fn number(&self, mirror: &str, field: &str) -> u64 {
        self.field(mirror, field).await.unwrap().parse().unwrap()
    }

    /// Waits until a cycle of its own accord has ended: it ends with a beat in Redis.
    pub async fn next_cycle(&self, mirror: &str) {
        let before = self.number(mirror, "@fence").await;
        eventually("a cycle ends", LATER, async || {
            let now = self.number(mirror, "@fence").await;
            if now > before { Ok(()) } else { Err(self.seen(&now)) }
        })
        .await;
    }

    /// Waits until a field of a mirror's hash has this value.
    pub async fn field_is(&self, mirror: &str, field: &str, expected: &str) {
        eventually(&format!("Redis field {field} is {expected}"), LATER, async || {
            let found = self.field(mirror, field).await;
            if found.as_deref() == Some(expected) { Ok(()) } else { Err(self.seen(&found)) }
        })
        .await;
    }

    /// Everything that stays as it is while a mirror's hash is only looked after, with values decrypted: a hash that
    /// was healed is the same, although its ciphertext is not.
    pub async fn content(&self, mirror: &str) -> BTreeMap<String, Vec<u8>> {
        copies::redis_content(&self.redis, &self.key(mirror), &copies::keys(&self.client, &self.home).await)
            .await
    }

    /// The values in a mirror's hash as a reader with the keys gets them.
    pub async fn values(&self, mirror: &str) -> BTreeMap<String, String> {
        let content = self.content(mirror).await.into_iter();
        let values = content.filter(|(field, _)| !field.starts_with('@'));
        values.map(|(name, bytes)| (name, String::from_utf8(bytes).unwrap())).collect()
    }

    /// What was seen instead, and what the operator says.
    pub fn seen(&self, found: &dyn Debug) -> String {
        format!("{found:#?}\noperator:\n{}", self.operator.log())
    }

    /// Notes of all events of a mirror, by reason, oldest first.
    pub async fn events(&self, mirror: &str) -> Vec<(String, String)> {
        let events: Api<Event> = Api::namespaced(self.client.clone(), &self.namespace);
        let about = ListParams::default().fields(&format!("regarding.name={mirror}"));
        let mut found = events.list(&about).await.unwrap().items;
        found.sort_by_key(|event| event.event_time.clone());
        let story = |event: Event| (event.reason.unwrap_or_default(), event.note.unwrap_or_default());
        found.into_iter().map(story).collect()
    }

    /// Waits until a mirror has an event with this reason, and returns its note.
    pub async fn event(&self, mirror: &str, reason: &str) -> String {
        eventually(&format!("an event {reason}"), SOON, async || {
            let events = self.events(mirror).await;
            let found = events.iter().find(|(is, _)| is == reason).map(|(_, note)| note.clone());
            found.ok_or_else(|| self.seen(&events))
        })
        .await
    }
}

/// Creates the chart's service account with its RBAC in `home`, and settings to run the operator as it. It watches these
/// namespaces and has no rights in others; none: all of them. `set` are further values of the chart.
pub async fn service_account(
    cluster: &Cluster,
    home: &str,
    watch: &[&str],
    set: &[String],
    folder: &Path,
) -> Settings {
    let chart = root().join("charts/parameter-mirror");
    let templates = ["templates/rbac.yaml", "templates/serviceaccount.yaml"];
    let mut arguments = vec!["template", home, chart.to_str().unwrap(), "--namespace", home];
    arguments.extend(templates.iter().flat_map(|template| ["--show-only", template]));
    let watched = format!("watchNamespaces={{{}}}", watch.join(","));
    if !watch.is_empty() {
        arguments.extend(["--set", &watched]);
    }
    arguments.extend(set.iter().flat_map(|value| ["--set", value]));
    let rendered = cluster.helm(&arguments).await;
    cluster.kubectl_apply(&rendered).await;
    let mut settings = operator_settings(cluster, home, &format!("{home}-parameter-mirror"), folder).await;
    settings.watch = watch.iter().map(|&namespace| namespace.to_owned()).collect();
    settings
}

/// Settings to run the operator as an existing service account of the namespace `home`.
pub async fn operator_settings(cluster: &Cluster, home: &str, account: &str, folder: &Path) -> Settings {
    Settings {
        program: PathBuf::from(env!("CARGO_BIN_EXE_parameter-mirror")),
        kubeconfig: cluster.service_account_kubeconfig(home, account, folder).await,
        namespace: home.to_owned(),
        watch: Vec::new(),
        ssm: String::new(),
        redis: None,
        arguments: Vec::new(),
        // As the chart names it after the release.
        environment: vec![("PARAMETER_MIRROR_LEASE".to_owned(), account.to_owned())],
    }
}
