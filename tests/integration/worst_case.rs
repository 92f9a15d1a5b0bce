//! The largest valid objects of each kind, and the worst clients, under the memory limit of the chart.

use std::fmt::Write as _;
use std::time::Duration;

use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, PostParams};
use parameter_mirror::api::ParameterMirror;
use parameter_mirror::process::listener::MOST_CONNECTIONS;
use parameter_mirror_test_support::memory::{MemoryLimit, resident};
use parameter_mirror_test_support::{Operator, Scratch};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::world::{Setup, World, eventually, own_cluster, root};

const MIB: usize = 1 << 20;
/// The time limit: a debug build on a busy machine reads a hundred megabytes of objects.
const WHILE_BUSY: Duration = Duration::from_mins(5);
const REFUSED: usize = 40;
const GRANTED: usize = 5;
const SECRETS: usize = 20;

/// Returns the memory limit in the values of the chart, in MiB.
fn chart_limit() -> usize {
    let values = std::fs::read_to_string(root().join("charts/parameter-mirror/values.yaml")).unwrap();
    let values: Value = serde_yaml::from_str(&values).unwrap();
    values["resources"]["limits"]["memory"].as_str().unwrap().trim_end_matches("Mi").parse().unwrap()
}

/// Metadata of more than a megabyte: as much as Kubernetes allows in annotations, and labels, which have no
/// limit.
fn heavy(name: &str, annotation: &str, labels: &Value) -> Value {
    let mut all = labels.clone();
    for number in 0..900 {
        all[format!("{}/{number:063}", "x".repeat(253))] = json!("y".repeat(63));
    }
    json!({"name": name, "labels": all, "annotations": {annotation: "z".repeat(250_000)}})
}

/// The largest spec that the schema accepts.
fn spec(source: &str, path: &str) -> Value {
    let excludes =
        |number: usize| (0..4).map(|exclude| format!("{number:010}-{exclude}")).collect::<Vec<_>>();
    let mut parameters: Vec<_> = (0..50)
        .map(|number| json!({"path": format!("{path}/{number:0100}"), "exclude": excludes(number)}))
        .collect();
    parameters.extend(
        (0..50)
            .map(|number| json!({"name": format!("{path}/n{number:0100}"), "key": format!("{number:020}")})),
    );
    let label = |number: usize| (format!("{}/{number:063}", "l".repeat(253)), json!("v".repeat(63)));
    let annotation = |number: usize| (format!("{}/{number:063}", "a".repeat(253)), json!("v".repeat(150)));
    json!({
        "sourceRef": {"name": source}, "interval": "10s", "parameters": parameters, "redis": {},
        "secret": {
            "labels": (0..32).map(label).collect::<serde_json::Map<_, _>>(),
            "annotations": (0..32).map(annotation).collect::<serde_json::Map<_, _>>(),
        },
    })
}

fn mirror(name: &str, spec: &Value) -> ParameterMirror {
    let metadata = heavy(name, "parameter-mirror.dev/sync-at", &json!({}));
    let object = json!({
        "apiVersion": "parameter-mirror.dev/v1alpha1", "kind": "ParameterMirror", "metadata": metadata, "spec": spec,
    });
    serde_json::from_value(object).unwrap()
}

/// A Secret that claims to belong to the operator.
fn secret(name: &str, owner: &str) -> Secret {
    let mut metadata =
        heavy(name, "example.com/note", &json!({"app.kubernetes.io/managed-by": "parameter-mirror"}));
    metadata["annotations"]["parameter-mirror.dev/owner"] = json!(owner);
    serde_json::from_value(json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata})).unwrap()
}

/// With the default page size of clients, a few hundred such objects made the kernel kill the operator at
/// each start.
#[tokio::test]
async fn the_worst_legal_objects_fit_into_the_memory_limit_of_the_chart() {
    let world = World::with(Setup {
        cluster: Some(own_cluster().await),
        arguments: ["--memory-values", "128", "--ssm-requests-per-second", "1000"].map(str::to_owned).into(),
        ..Setup::default()
    })
    .await;
    world.operator.terminate().await;
    let (refused, granted) = (spec(&world.source, "/not-granted"), spec(&world.source, "/app"));
    let secrets: Api<Secret> = world.secrets();
    for number in 0..SECRETS {
        let name = format!("s{number}");
        secrets.create(&PostParams::default(), &secret(&name, &"o".repeat(9_000))).await.unwrap();
    }
    let mirrors = world.mirrors();
    for number in 0..REFUSED {
        mirrors.create(&PostParams::default(), &mirror(&format!("r{number}"), &refused)).await.unwrap();
    }
    for number in 0..GRANTED {
        mirrors.create(&PostParams::default(), &mirror(&format!("g{number}"), &granted)).await.unwrap();
    }
    world.ssm.put("/app/a", "1");
    world.mirror("calm", json!({"parameters": [{"name": "/app/a"}], "secret": {}, "redis": {}})).await;

    let scratch = Scratch::new("worst").unwrap();
    let mut settings = world.operator.settings().clone();
    let limit = MemoryLimit::new(chart_limit() * MIB);
    if let Some(limit) = &limit {
        settings.program = limit.around(&settings.program, scratch.path());
    }
    let operator = Operator::start(settings).await;
    let all_are_judged = async || {
        let listed = mirrors.list(&kube::api::ListParams::default().limit(10)).await.unwrap();
        let mut judged = 0;
        let mut page = listed;
        loop {
            let reason = |mirror: &ParameterMirror| {
                let conditions = mirror.status.as_ref()?.conditions.iter();
                conditions
                    .filter(|condition| condition.status != "Unknown")
                    .map(|condition| condition.reason.clone())
                    .next()
            };
            judged += page.items.iter().filter(|mirror| reason(mirror).is_some()).count();
            let Some(next) = page.metadata.continue_.clone().filter(|next| !next.is_empty()) else { break };
            page = mirrors
                .list(&kube::api::ListParams::default().limit(10).continue_token(&next))
                .await
                .unwrap();
        }
        if judged == REFUSED + GRANTED + 1 {
            Ok(())
        } else {
            Err(format!("{judged}; {:?}", operator.process().exited()))
        }
    };
    eventually("every mirror has its condition", WHILE_BUSY, all_are_judged).await;
    world.ready("calm", "Synced").await;

    // While it runs, each object changes once more, and clients keep connections open.
    for number in 0..REFUSED {
        world.annotate(&format!("r{number}"), "parameter-mirror.dev/sync-at", &"w".repeat(250_000)).await;
    }
    let mut stuck = Vec::new();
    for address in [operator.address(), operator.probe_address()] {
        for _ in 0..50 * MOST_CONNECTIONS {
            let mut stream = TcpStream::connect(address).await.unwrap();
            let mut head = String::from("GET /metrics HTTP/1.1\r\n");
            for number in 0..50 {
                let _ = write!(head, "X-{number}: {}\r\n", "h".repeat(100));
            }
            // The operator may have closed it in favour of a newer one.
            let _ = stream.write_all(head.as_bytes()).await;
            stuck.push(stream);
        }
        assert!(operator.get("/livez").await.is_some_and(|(code, _)| code == 200));
    }
    world.ssm.put("/app/a", "2");
    world.sync("calm").await;
    assert_eq!(operator.process().exited(), None);
    let [now, peak] = resident(operator.process().pid());
    println!(
        "resident: {} MiB at most, {} MiB now; limited by the kernel: {}",
        peak / MIB,
        now / MIB,
        limit.is_some()
    );
    // Pages of 500 objects would need 120 MiB for these few.
    assert!(peak < chart_limit() * MIB / 4, "{} MiB", peak / MIB);
    operator.terminate().await;
}
