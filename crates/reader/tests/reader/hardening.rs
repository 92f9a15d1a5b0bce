//! What other processes can see of the memory of the reader, and of the program it starts.

use std::process::Command;

use parameter_mirror_test_support::process::without_capabilities;
use parameter_mirror_test_support::{Canaries, Process};

use crate::world::{World, program};

/// Starts the reader, and returns the process it has become after it prints this.
async fn start(world: &World, arguments: &[&str], says: &str) -> Process {
    let mut command = Command::new(program());
    command.args(arguments).envs(world.settings());
    world.start_program(&without_capabilities(&command), says).await
}

#[tokio::test]
async fn nobody_looks_into_a_reader_that_serves_and_the_program_of_exec_is_as_open_as_ever() {
    let world = World::usual().await;
    let serves = start(&world, &["serve", "--listen", "127.0.0.1:0"], "2 parameters of shop/checkout").await;
    assert!(!serves.is_open_to_its_user());

    // Control, and the promise to the program: it may be debugged, and dump core as far as without the
    // reader.
    let script = "echo $0 may dump $(ulimit -S -c) of $(ulimit -H -c); exec tail -f /dev/null";
    let alone = without_capabilities(Command::new("sh").args(["-c", script, "alone"]));
    let alone = world.start_program(&alone, "alone may dump").await;
    let started = start(&world, &["exec", "--", "sh", "-c", script, "started"], "started may dump").await;
    let watching = start(&world, &["watch", "--", "sh", "-c", script, "watched"], "watched may dump").await;
    assert!(alone.is_open_to_its_user());
    assert!(started.is_open_to_its_user());
    assert!(!watching.is_open_to_its_user(), "`watch` itself goes on holding values");
    // All processes write to the same log.
    let log = alone.log();
    let limits = |name: &str| log.lines().find_map(|line| line.strip_prefix(name)).unwrap().to_owned();
    assert_eq!([limits("started"), limits("watched")], [limits("alone"), limits("alone")]);
}

/// The variable that holds the value, in the process that panics.
const VALUE: &str = "VALUE_IN_HAND";

/// One half of the test below, in its own process, because a panic hook is global to a process.
#[test]
#[ignore = "only with what the test below gives it"]
fn a_process_that_panics() {
    let value = std::env::var(VALUE).unwrap();
    parameter_mirror_reader::hardening::keep_panics_silent();
    let panicked = std::panic::catch_unwind(|| panic!("{value}"));
    assert!(panicked.is_err());
}

#[test]
fn a_panic_says_where_it_was_and_not_what_was_in_hand() {
    let canaries = Canaries::default();
    let mut process = Command::new(std::env::current_exe().unwrap());
    process.args(["hardening::a_process_that_panics", "--exact", "--ignored", "--nocapture"]);
    let output = process.env(VALUE, canaries.sealed()).env("RUST_BACKTRACE", "1").output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&said);
    assert!(output.status.success() && text.contains("hardening.rs"), "{text}");
    assert_eq!(canaries.found_in(&said), None);
}
