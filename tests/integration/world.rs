//! What nearly every test needs: its own namespace, SSM and Redis, and an operator that watches only that
//! namespace, with exactly the permissions of the chart's service account.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use k8s_openapi::api::core::v1::Event;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams};
use parameter_mirror::api::{ParameterMirror, ParameterMirrorStatus, ParameterSource, SYNC_AT};
use parameter_mirror_test_support::cluster::{Cluster, Options};
use parameter_mirror_test_support::command::Output;
use parameter_mirror_test_support::copies;
pub use parameter_mirror_test_support::eventually;
use parameter_mirror_test_support::installation::IMAGE;
use parameter_mirror_test_support::operator::{Operator, Settings};
use parameter_mirror_test_support::{Canaries, Redis, Scratch, Ssm};
use serde_json::json;
use tokio::sync::OnceCell;

/// The time limit for immediate reactions on a busy machine.
pub const SOON: Duration = Duration::from_secs(20);
/// The time limit for reactions that wait for the shortest interval, or for a read to fail at its deadline.
pub const LATER: Duration = Duration::from_mins(1);

/// The root of the repository.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Returns the API server that tests share, with the CRDs applied.
pub async fn cluster() -> &'static Cluster {
    static CRDS: OnceCell<()> = OnceCell::const_new();
    let cluster = Cluster::shared().await;
    CRDS.get_or_init(|| apply_crds(cluster)).await;
    cluster
}

/// Returns an API server for a test that would disturb the others. It ends with the process, like the shared
/// one.
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

/// The world of one test.
pub struct World {
    pub cluster: &'static Cluster,
    pub client: kube::Client,
    pub ssm: Ssm,
    pub redis: Redis,
    pub operator: Operator,
    /// The namespace of mirrors.
    pub namespace: String,
    /// The namespace of the operator.
    pub home: String,
    /// Values that no output may contain, for tests that search with `silence`.
    pub canaries: Canaries,
    /// The source of this world's mirrors. It grants `/app` to the namespace.
    pub source: String,
    /// Holds the operator's kubeconfig.
    _scratch: Scratch,
}

/// How a world differs from the default.
#[derive(Default)]
pub struct Setup {
    /// Another API server than the shared one.
    pub cluster: Option<&'static Cluster>,
    /// Another SSM than our own.
    pub ssm_endpoint: Option<String>,
    /// Another Redis than one without a password.
    pub redis: Option<Redis>,
    /// Another URL than the direct one.
    pub redis_url: Option<String>,
    /// Whether the operator has no Redis.
    pub without_redis: bool,
    /// Another namespace for the operator than a unique one.
    pub home: Option<String>,
    /// Further namespaces that the operator watches.
    pub neighbours: Vec<String>,
    /// Chart values that determine its permissions.
    pub chart: Vec<String>,
    /// Additional arguments of `run`.
    pub arguments: Vec<String>,
    /// Additional environment of the operator.
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

    /// Starts another operator with the same keys and targets but another SSM, outside of the leader
    /// election.
    pub async fn second_operator(&self, ssm: &str) -> Operator {
        let mut settings = self.operator.settings().clone();
        settings.arguments.extend(["--leader-elect".to_owned(), "false".to_owned()]);
        ssm.clone_into(&mut settings.ssm);
        Operator::start(settings).await
    }

    /// Starts another replica of the operator.
    pub async fn replica(&self) -> Operator {
        Operator::start(self.operator.settings().clone()).await
    }

    /// Makes the world's source grant exactly these paths to its namespace.
    pub async fn grant(&self, paths: &[&str]) {
        let grant = json!({"namespaces": [self.namespace], "paths": paths});
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

    /// Applies a mirror; unless the spec says otherwise, the interval is 10 s and the source is the world's.
    pub async fn mirror(&self, name: &str, spec: serde_json::Value) {
        let output = self.try_mirror(name, spec).await;
        assert!(output.status.success(), "{}", output.stderr);
    }

    /// Applies a mirror, which may be refused.
    pub async fn try_mirror(&self, name: &str, mut spec: serde_json::Value) -> Output {
        let members = spec.as_object_mut().unwrap();
        members.entry("interval").or_insert(json!("10s"));
        members.entry("sourceRef").or_insert(json!({"name": self.source}));
        let mirror = json!({
            "apiVersion": "parameter-mirror.dev/v1alpha1", "kind": "ParameterMirror",
            "metadata": {"name": name, "namespace": self.namespace}, "spec": spec,
        });
        self.cluster.try_kubectl_apply(&mirror.to_string()).await
    }

    /// Applies a mirror of everything below `/app` with both targets, and waits until it is synced.
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

    /// Changes the mirror's spec with a merge patch.
    pub async fn change(&self, mirror: &str, spec: serde_json::Value) {
        let patch = Patch::Merge(json!({"spec": spec}));
        self.mirrors().patch(mirror, &PatchParams::default(), &patch).await.unwrap();
    }

    /// Sets an annotation of the mirror.
    pub async fn annotate(&self, mirror: &str, name: &str, value: &str) {
        let patch = Patch::Merge(json!({"metadata": {"annotations": {name: value}}}));
        self.mirrors().patch(mirror, &PatchParams::default(), &patch).await.unwrap();
    }

    /// Triggers a read, without waiting for it. Returns the expected `status.lastHandledSyncAt`.
    pub async fn ask(&self, mirror: &str) -> String {
        static ASKED: AtomicU32 = AtomicU32::new(0);
        let token = format!("{}", ASKED.fetch_add(1, Ordering::Relaxed));
        self.annotate(mirror, SYNC_AT, &token).await;
        token
    }

    /// Triggers a read and waits until the reconcile with its result has ended, whatever the result.
    pub async fn sync(&self, mirror: &str) {
        let token = self.ask(mirror).await;
        self.handled(mirror, &token).await;
    }

    /// Waits until the read that was asked for with this token has ended.
    pub async fn handled(&self, mirror: &str, token: &str) {
        eventually(&format!("the read of {mirror} ends"), LATER, async || {
            let handled = self.status(mirror).await.last_handled_sync_at;
            if handled.as_deref() == Some(token) { Ok(()) } else { Err(self.seen(&handled)) }
        })
        .await;
    }

    /// Waits until the source's status has this breaker state.
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

    /// Returns the data of a Secret as text; `None` if the Secret does not exist.
    pub async fn data(&self, name: &str) -> Option<BTreeMap<String, String>> {
        copies::secret_data(&self.client, &self.namespace, name).await
    }

    /// Waits until a Secret has exactly this data.
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

    /// Changes a Secret with a merge patch, as a user would.
    pub async fn edit_secret(&self, name: &str, patch: serde_json::Value) {
        self.secrets().patch(name, &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
    }

    pub async fn delete_secret(&self, name: &str) {
        self.secrets().delete(name, &DeleteParams::default()).await.unwrap();
    }

    /// Returns the Redis key of a mirror.
    pub fn key(&self, mirror: &str) -> String {
        format!("pm:{{{}/{mirror}}}", self.namespace)
    }

    /// Returns one field of a mirror's hash as text.
    pub async fn field(&self, mirror: &str, field: &str) -> Option<String> {
        let hash = self.redis.hash(&self.key(mirror)).await;
        hash.get(field).map(|bytes| String::from_utf8_lossy(bytes).into_owned())
    }

    /// Returns one field of a mirror's hash as a number.
    pub async fn number(&self, mirror: &str, field: &str) -> u64 {
        self.field(mirror, field).await.unwrap().parse().unwrap()
    }

    /// Waits until a scheduled cycle has ended, which is shown by a heartbeat in Redis.
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

    /// Returns the fields of a mirror's hash that stay the same while its content does, with decrypted
    /// values. They are the same for a healed hash, although its ciphertext differs.
    pub async fn content(&self, mirror: &str) -> BTreeMap<String, Vec<u8>> {
        copies::redis_content(&self.redis, &self.key(mirror), &copies::keys(&self.client, &self.home).await)
            .await
    }

    /// Returns the values in a mirror's hash as a reader with the keys gets them.
    pub async fn values(&self, mirror: &str) -> BTreeMap<String, String> {
        let content = self.content(mirror).await.into_iter();
        let values = content.filter(|(field, _)| !field.starts_with('@'));
        values.map(|(name, bytes)| (name, String::from_utf8(bytes).unwrap())).collect()
    }

    /// Describes what was found instead, with the operator's log.
    pub fn seen(&self, found: &dyn Debug) -> String {
        format!("{found:#?}\noperator:\n{}", self.operator.log())
    }

    /// Returns the notes of all events of a mirror, by reason, oldest first.
    pub async fn events(&self, mirror: &str) -> Vec<(String, String)> {
        let events: Api<Event> = Api::namespaced(self.client.clone(), &self.namespace);
        let about = ListParams::default().fields(&format!("involvedObject.name={mirror}"));
        let mut found = events.list(&about).await.unwrap().items;
        found.sort_by_key(|event| event.last_timestamp.clone());
        let story = |event: Event| (event.reason.unwrap_or_default(), event.message.unwrap_or_default());
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

/// Creates the chart's service account with its RBAC in `home`, and returns settings to run the operator with
/// it. The operator watches these namespaces and has no permissions in others; none means all. `set` are
/// additional values of the chart.
pub async fn service_account(
    cluster: &Cluster,
    home: &str,
    watch: &[&str],
    set: &[String],
    folder: &Path,
) -> Settings {
    let chart = root().join("charts/parameter-mirror");
    let templates = ["templates/rbac.yaml", "templates/serviceaccount.yaml"];
    let mut arguments = vec!["template", home, chart.to_str().unwrap(), "--namespace", home, "--set", IMAGE];
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

/// Returns settings to run the operator with an existing service account of the namespace `home`.
pub async fn operator_settings(cluster: &Cluster, home: &str, account: &str, folder: &Path) -> Settings {
    Settings {
        program: PathBuf::from(env!("CARGO_BIN_EXE_parameter-mirror")),
        kubeconfig: cluster.service_account_kubeconfig(home, account, folder).await,
        namespace: home.to_owned(),
        watch: Vec::new(),
        ssm: String::new(),
        redis: None,
        arguments: Vec::new(),
        // The chart names the Lease after the release.
        environment: vec![("PARAMETER_MIRROR_LEASE".to_owned(), account.to_owned())],
    }
}
