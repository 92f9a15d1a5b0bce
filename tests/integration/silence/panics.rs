//! A bug in the program while it handles values: a panic reports its position, and never its message.

use std::process::Command;
use std::time::Duration;

use parameter_mirror::cli::LogFormat;
use parameter_mirror::process::telemetry;
use parameter_mirror_test_support::Canaries;

use crate::simulation::line::{Edge, Fault};
use crate::simulation::world::{NAMESPACE, World};

/// The variable that holds the value, in the process that panics.
const VALUE: &str = "VALUE_IN_HAND";

/// One half of the test below, in its own process, because the log and the panic hook are global to a
/// process.
#[tokio::test(start_paused = true)]
#[ignore = "only with what the test below gives it"]
async fn a_process_that_panics() {
    let value = std::env::var(VALUE).unwrap();
    telemetry::start(LogFormat::Text, "trace").unwrap();
    let world = World::new();
    world.ssm.put("/app/value", &value, world.now());
    world.mirror("config", "10s");
    let _operator = world.operator();
    world.becomes("config", "Ready", "True", "Synced", Duration::from_secs(20)).await;
    let panics = move |edge: Edge| Some(Fault::Panics(value.clone())).filter(|_| edge != Edge::Kubernetes);
    world.faults.set(move |call| panics(call.edge));
    world.pass(Duration::from_mins(2)).await;
    world.faults.clear();
    world.pass(Duration::from_mins(2)).await;
    let mirror = world.api.objects(|objects| objects.get("parametermirrors", NAMESPACE, "config")).unwrap();
    println!("in the end: {mirror}, {:?}", world.events("config"));
}

#[test]
fn a_panic_says_where_it_was_and_not_what_was_in_hand() {
    let canaries = Canaries::default();
    let mut process = Command::new(std::env::current_exe().unwrap());
    process.args(["silence::panics::a_process_that_panics", "--exact", "--ignored", "--nocapture"]);
    let output = process.env(VALUE, canaries.plain()).env("RUST_BACKTRACE", "1").output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&said);
    assert!(output.status.success(), "{text}");
    for part in
        ["panic; this is a fault of the operator", "line.rs", "the reconcile panicked", "in the end: {"]
    {
        assert!(text.contains(part), "{part} is missing in\n{text}");
    }
    assert_eq!(canaries.found_in(&said), None);
}
