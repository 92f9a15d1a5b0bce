//! `make bench`: the cost of operator and reader, on a real API server, a real Redis and our own SSM, all on
//! this machine.
//!
//! | part | what it measures |
//! |---|---|
//! | `operator` | 200 and 1,000 mirrors without a request limit: medians of five rounds (`ROUNDS=1` for a quick look) |
//! | `outage` | 1,000 mirrors with a limit of 40 and an outage of two minutes |
//! | `eso` | External Secrets Operator with as many objects, parameters and seconds as `outage` |
//! | `fleet` | 5,000 mirrors with a limit of 40 and an outage of ten minutes; takes 40 minutes |
//! | `reader` | the start of a program, an answer of `serve`, a thousand starts at once |
//!
//! Without a part, all but `fleet` and `eso` are measured. `MIRRORS`, `INTERVAL`, `BUDGET` and `OUTAGE`
//! (seconds) shorten `outage`, `fleet` and `eso`, which has no budget. All parts share the machine's cores,
//! so the load is printed beside the figures.
#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "a measurement that cannot be taken ends the run with its reason"
)]

mod api_server;
mod eso;
mod reader;
mod round;
mod scenario;
mod table;

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use parameter_mirror_test_support::cluster::Options;
use parameter_mirror_test_support::usage::{load, processor};
use parameter_mirror_test_support::{Cluster, installation};

use round::{Round, Run};
use scenario::Scenario;
use table::line;

/// The number of rounds; `ROUNDS` overrides it.
const ROUNDS: usize = 5;
/// The number of mirrors, and the goals: seconds until all are served, MB afterwards.
const SIZES: [(usize, f64, f64); 2] = [(200, 3.0, 40.0), (1_000, 6.0, 80.0)];
/// The default quota of an AWS account in a region.
const ACCOUNT_QUOTA: u32 = 40;
/// A request limit that is never reached.
const NO_LIMIT: u32 = 100_000;
const PARTS: [&str; 5] = ["operator", "outage", "fleet", "eso", "reader"];

#[tokio::main]
async fn main() {
    let rounds = variable("ROUNDS", ROUNDS);
    println!("{}, load before: {}", processor(), load());
    let chosen = std::env::args().nth(1);
    assert!(
        chosen.as_deref().is_none_or(|part| PARTS.contains(&part)),
        "PART is one of {PARTS:?}, or nothing for all but fleet and eso"
    );
    // The fleet takes longer than all other parts together; the other operator is built only when asked for.
    let measures =
        |part: &str| chosen.as_deref().map_or(!["fleet", "eso"].contains(&part), |chosen| chosen == part);
    if ["operator", "outage", "fleet", "eso"].into_iter().any(measures) {
        let cluster = Cluster::start(Options::default()).await;
        installation::install(&cluster).await;
        if measures("operator") {
            head(rounds);
            for (mirrors, seconds, megabytes) in SIZES {
                measure(&cluster, rounds, mirrors, seconds, megabytes).await;
            }
        }
        for scenario in [outage(), fleet()].into_iter().filter(|scenario| measures(&scenario.name)) {
            scenario::measure(&cluster, &scenario).await;
        }
        if measures("eso") {
            eso::measure(&cluster, &outage()).await;
        }
    }
    if measures("reader") {
        head(rounds);
        reader::measure(rounds).await;
    }
    println!("load after: {}", load());
}

fn head(rounds: usize) {
    println!("{:<70}{:>10}{:>10}   all {rounds}", "", "median", "goal");
}

fn outage() -> Scenario {
    scenario("outage", 1_000, 30, 120)
}

fn fleet() -> Scenario {
    scenario("fleet", 5_000, 300, 600)
}

fn scenario(name: &str, mirrors: usize, interval: u64, outage: u64) -> Scenario {
    Scenario {
        name: name.to_owned(),
        mirrors: variable("MIRRORS", mirrors),
        interval: Duration::from_secs(variable("INTERVAL", interval)),
        budget: variable("BUDGET", ACCOUNT_QUOTA),
        outage: Duration::from_secs(variable("OUTAGE", outage)),
    }
}

/// Returns a program that `make bench` has built, optimised as for a release.
fn built(profile: &str, name: &str) -> PathBuf {
    let this = std::env::current_exe().expect("the path of this program");
    let release = this.parent().expect("its folder");
    release.with_file_name(profile).join(name)
}

/// Returns an environment variable or its default. An empty one counts as unset, because make passes
/// variables that are not set.
fn variable<T: FromStr>(name: &str, usual: T) -> T {
    let Some(text) = std::env::var(name).ok().filter(|text| !text.is_empty()) else { return usual };
    text.parse().unwrap_or_else(|_| panic!("{name}={text} cannot be used"))
}

async fn measure(cluster: &Cluster, rounds: usize, mirrors: usize, seconds: f64, megabytes: f64) {
    let (mut times, mut calls, mut memory) = (Vec::new(), Vec::new(), Vec::new());
    let (mut cpu, mut api, mut connections, mut decrypts) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for number in 0..rounds {
        let run = Run { mirrors, interval: Duration::from_secs(30), budget: NO_LIMIT };
        let mut round = Round::begin(cluster, run, number).await;
        let first = round.first_sync().await;
        times.push(first.seconds);
        calls.push(first.ssm_calls);
        let steady = round.steady().await;
        memory.push(steady.megabytes);
        cpu.push(steady.cpu_seconds_per_1000_reads);
        api.push(steady.api_reads);
        connections.push(steady.ssm_connections);
        decrypts.push(steady.decrypts);
        round.end().await;
    }
    let line = |what: &str, figures: &[f64], goal: &str| {
        line(&format!("{mirrors} mirrors x 10: {what}"), figures, goal);
    };
    line("seconds from nothing to all served", &times, &format!("< {seconds}"));
    line("SSM calls for that", &calls, &format!("{mirrors}"));
    line("MB resident after a steady cycle", &memory, &format!("< {megabytes}"));
    line("CPU seconds per 1,000 steady reads", &cpu, "< 0.5");
    line("reads of the API server in a steady cycle", &api, "0");
    line("new SSM connections in a steady cycle", &connections, "0");
    line("decrypts in a steady cycle", &decrypts, "0");
}
