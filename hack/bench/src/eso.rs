//! The same for External Secrets Operator: as many objects, parameters and seconds, on the same machine, and
//! the same SSM, with one Secret each and no Redis.

use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::{StreamExt, stream};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, ApiResource, DynamicObject, ListParams, PostParams};
use kube::core::GroupVersionKind;
use parameter_mirror_test_support::port::Port;
use parameter_mirror_test_support::process::Process;
use parameter_mirror_test_support::proxy::Path;
use parameter_mirror_test_support::ssm::{Fault, When};
use parameter_mirror_test_support::{Cluster, Proxy, Scratch, Ssm, programs, usage};
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::api_server;
use crate::round::PARAMETERS;
use crate::scenario::{LOOK, NEVER, Quiet, SILENCE, Scenario, count, restore_secrets};
use crate::table::Table;

const PROGRAM: &str = "external-secrets";
const GROUP: &str = "external-secrets.io";
/// It does not start without these kinds.
const CRDS: [&str; 4] = [
    "external-secrets.io_externalsecrets.yaml",
    "external-secrets.io_secretstores.yaml",
    "external-secrets.io_clustersecretstores.yaml",
    "generators.external-secrets.io_generatorstates.yaml",
];
/// Ten workers and a client that does not wait: its defaults of one worker and 50 requests a second do not
/// reach a thousand objects in their interval. What these objects do not need is off.
const ARGUMENTS: [&str; 8] = [
    "--concurrent=10",
    "--client-qps=200",
    "--client-burst=400",
    "--loglevel=error",
    "--enable-cluster-store-reconciler=false",
    "--enable-cluster-external-secret-reconciler=false",
    "--enable-push-secret-reconciler=false",
    "--enable-cluster-push-secret-reconciler=false",
];
/// The objects that are created at once.
const AT_ONCE: usize = 16;
/// What is not there after this time counts as never.
const PATIENCE: Duration = Duration::from_mins(5);

/// Its parts.
struct Eso {
    secrets: Api<Secret>,
    objects: Api<DynamicObject>,
    ssm: Ssm,
    /// Its path to SSM.
    path: Proxy,
    process: Process,
    _ports: [Port; 2],
}

/// Runs all measurements that have a counterpart.
pub async fn measure(cluster: &Cluster, scenario: &Scenario) {
    let part = format!(
        "eso: {} objects x {PARAMETERS}, interval {} s, outage {} s",
        scenario.mirrors,
        scenario.interval.as_secs(),
        scenario.outage.as_secs()
    );
    let load = usage::load();
    let mut table = Table::new(&part);
    let began = Instant::now();
    let eso = Eso::start(cluster, scenario).await;
    let all = async || eso.secrets.list_metadata(&ListParams::default()).await.expect("Secrets").items.len();
    let cold = eso.reached(began, async || all().await >= scenario.mirrors).await;
    table.figure("cold_seconds", "seconds from the first object to all served", cold);
    table.figure("cold_ssm_calls", "SSM calls for that", count(eso.ssm.calls().total()));
    eso.steady(cluster, scenario, &mut table).await;

    let (calls, began) = (eso.ssm.calls(), Instant::now());
    let fault = eso.ssm.fail(When::any(), Fault::internal());
    sleep(scenario.outage / 2).await;
    restore_secrets(&eso.secrets, scenario.mirrors, began + scenario.outage, &mut table).await;
    sleep((began + scenario.outage).saturating_duration_since(Instant::now())).await;
    table.figure(
        "outage_ssm_calls",
        "SSM: calls in the outage",
        count(eso.ssm.calls().since(&calls).total()),
    );
    eso.ssm.clear(fault);
    eso.recover("outage", &mut table).await;

    eso.path.set(Path::Silent).await;
    sleep(SILENCE.min(scenario.outage)).await;
    eso.path.set(Path::Passes).await;
    eso.recover("silence", &mut table).await;
    table.end(&json!({"processor": usage::processor(), "load_before": load, "load_after": usage::load()}));
}

impl Eso {
    /// Creates its objects and starts it.
    async fn start(cluster: &Cluster, scenario: &Scenario) -> Self {
        // `hack/parts install-eso` has built it.
        let program = programs::path(PROGRAM);
        for crd in CRDS {
            let file = program.with_file_name("external-secrets-crds").join(crd);
            cluster.kubectl(&["apply", "--server-side", "-f", &file.display().to_string()]).await;
        }
        cluster.kubectl(&["wait", "--for=condition=Established", "crd", "--all", "--timeout=60s"]).await;
        let namespace = cluster.namespace("eso").await;
        let ssm = Ssm::start();
        for object in 0..scenario.mirrors {
            for n in 1..PARAMETERS {
                ssm.put(&format!("/bench/m{object}/n{n}"), "value");
            }
            ssm.put_secure(&format!("/bench/m{object}/secret"), "value");
        }
        let store = json!({
            "apiVersion": format!("{GROUP}/v1"), "kind": "SecretStore",
            "metadata": {"name": "ssm", "namespace": namespace},
            "spec": {"provider": {"aws": {"service": "ParameterStore", "region": "us-east-1"}}},
        });
        cluster.kubectl_apply(&store.to_string()).await;
        let client = cluster.client().await;
        let kind = GroupVersionKind::gvk(GROUP, "v1", "ExternalSecret");
        let kind = ApiResource::from_gvk_with_plural(&kind, "externalsecrets");
        let objects: Api<DynamicObject> = Api::namespaced_with(client.clone(), &namespace, &kind);
        stream::iter(0..scenario.mirrors)
            .map(|object| create(&objects, external_secret(object, scenario.interval)))
            .buffer_unordered(AT_ONCE)
            .collect::<Vec<()>>()
            .await;
        let path = Proxy::start(ssm.address()).await;
        let ports = [Port::take(), Port::take()];
        let [metrics, live] = [ports[0].number(), ports[1].number()];
        let mut command = Command::new(program);
        command
            .args(ARGUMENTS)
            .args([format!("--metrics-addr=127.0.0.1:{metrics}"), format!("--live-addr=127.0.0.1:{live}")])
            .envs([("AWS_ACCESS_KEY_ID", "AKIDTEST"), ("AWS_SECRET_ACCESS_KEY", "test")])
            .env("AWS_SSM_ENDPOINT", format!("http://{}", path.address()))
            .env("KUBECONFIG", cluster.kubeconfig());
        let scratch = Arc::new(Scratch::new("eso").expect("a temporary folder"));
        let process = Process::start(&scratch, PROGRAM, &command).expect("it starts");
        Self { secrets: Api::namespaced(client, &namespace), objects, ssm, path, process, _ports: ports }
    }

    /// Measures two quiet intervals, after the first one.
    async fn steady(&self, cluster: &Cluster, scenario: &Scenario, table: &mut Table) {
        sleep(scenario.interval).await;
        let pid = self.process.pid();
        let cpu = usage::cpu_seconds(pid);
        let (calls, api) = (self.ssm.calls(), api_server::requests(cluster).await);
        sleep(2 * scenario.interval).await;
        let calls = self.ssm.calls().since(&calls);
        let quiet = Quiet {
            // All of an object's parameters are on one page.
            reads: count(calls.total()),
            cpu_seconds: usage::cpu_seconds(pid) - cpu,
            calls,
            api: api_server::requests(cluster).await.since(&api),
            megabytes: count(self.process.resident_bytes()) / 1e6,
        };
        quiet.print(table);
    }

    /// Measures the time from now, when SSM has returned, until every object is read again.
    async fn recover(&self, what: &str, table: &mut Table) {
        let (began, returned) = (Instant::now(), Timestamp::now());
        let read_again = async || {
            let list = self.objects.list(&ListParams::default()).await.expect("ExternalSecrets");
            list.items.iter().all(|object| refreshed(object).is_some_and(|at| at >= returned))
        };
        let seconds = self.reached(began, read_again).await;
        let text = format!("seconds from SSM's return until every object is read again, after the {what}");
        table.figure(&format!("{what}_recovery_seconds"), &text, seconds);
    }

    /// Returns the seconds since `began` when this is so.
    async fn reached(&self, began: Instant, mut is_reached: impl AsyncFnMut() -> bool) -> f64 {
        while !is_reached().await {
            assert!(self.process.exited().is_none(), "it ended:\n{}", self.process.last_lines());
            if began.elapsed() > PATIENCE {
                return NEVER;
            }
            sleep(LOOK / 2).await;
        }
        began.elapsed().as_secs_f64()
    }
}

/// Reads ten parameters of a path into a Secret.
fn external_secret(object: usize, interval: Duration) -> Value {
    let name = format!("m{object}");
    let find = json!({"path": format!("/bench/{name}"), "name": {"regexp": ".*"}});
    json!({
        "apiVersion": format!("{GROUP}/v1"), "kind": "ExternalSecret", "metadata": {"name": name},
        "spec": {
            "refreshInterval": format!("{}s", interval.as_secs()),
            "secretStoreRef": {"name": "ssm", "kind": "SecretStore"},
            "dataFrom": [{"find": find}],
        },
    })
}

async fn create(objects: &Api<DynamicObject>, object: Value) {
    let object = serde_json::from_value(object).expect("an object of Kubernetes");
    objects.create(&PostParams::default(), &object).await.expect("the API server takes it");
}

/// Returns when it was last read, in whole seconds.
fn refreshed(object: &DynamicObject) -> Option<Timestamp> {
    object.data["status"]["refreshTime"].as_str()?.parse().ok()
}
