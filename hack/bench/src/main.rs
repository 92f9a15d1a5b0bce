//! `make bench`: what operator and reader cost, on a real API server, a real Redis and our own SSM, all on this machine.
//!
//! Medians of five rounds (`ROUNDS=1` for a glance). Everything shares the machine's cores, so the load is printed beside the figures.
#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "a measurement that cannot be taken ends the run with its reason"
)]

mod meter;
mod reader;
mod round;

use parameter_mirror_test_support::{Cluster, cluster::Options};

use meter::{line, load};
use round::Round;

/// Rounds, unless `ROUNDS` says otherwise.
const ROUNDS: usize = 5;
/// Mirrors, and the goals: seconds until all are served, MB afterwards.
const SIZES: [(usize, f64, f64); 2] = [(200, 3.0, 40.0), (1_000, 6.0, 80.0)];

#[tokio::main]
async fn main() {
    let rounds = std::env::var("ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(ROUNDS);
    println!("load before: {}", load());
    let part = std::env::args().nth(1).unwrap_or_default();
    println!("{:<70}{:>10}{:>10}   all {rounds}", "", "median", "goal");
    if part != "reader" {
        let cluster = Cluster::start(Options::default()).await;
        round::prepare(&cluster).await;
        for (mirrors, seconds, megabytes) in SIZES {
            measure(&cluster, rounds, mirrors, seconds, megabytes).await;
        }
    }
    if part != "operator" {
        reader::measure(rounds).await;
    }
    println!("load after: {}", load());
}

async fn measure(cluster: &Cluster, rounds: usize, mirrors: usize, seconds: f64, megabytes: f64) {
    let (mut times, mut calls, mut memory) = (Vec::new(), Vec::new(), Vec::new());
    let (mut cpu, mut api, mut connections, mut decrypts) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for number in 0..rounds {
        let mut round = Round::begin(cluster, mirrors, number).await;
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
