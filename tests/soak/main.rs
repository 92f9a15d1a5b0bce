//! A thousand mirrors with both targets on an operator with several worker threads, while SSM and Redis fail
//! in turns, objects are created and deleted, and several clients scrape `/metrics` (`make soak`). It asserts
//! that work never stops, and that every mirror is correct once the faults end.
//!
//! The deadlock that it was written for (the locks of the breaker and of the token bucket, taken in both
//! orders) needs threads, load and scrapers at once. No other test has all three.
//!
//! | module | what it holds |
//! |---|---|
//! | [`settings`] | settings from the environment: program, request limits, time, seed |
//! | [`stage`] | API server, Redis behind a proxy, SSM |
//! | [`model`] | the mirrors, and what their targets must contain |
//! | [`faults`] | faults of SSM and Redis, a new one every few seconds |
//! | [`churn`] | parameters, mirrors and sources that change |
//! | [`monitor`] | what must hold at all times: endpoints, lease, progress, log |
//! | [`report`] | progress lines, and the description of a failure |
//! | [`settle`] | waits until every mirror is correct |
//! | [`phase`] | one request limit: a start, rounds of faults and calm, an end |
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on fails")]

mod churn;
mod faults;
mod model;
mod monitor;
mod phase;
mod report;
mod settings;
mod settle;
mod stage;

use std::time::Instant;

use parameter_mirror_test_support::usage;

use settings::Settings;
use stage::Stage;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_mirrors_survive_changing_faults() {
    let settings = Settings::from_environment();
    let began = Instant::now();
    println!("{settings}");
    println!("{}, load {}", usage::processor(), usage::load());
    let mut stage = Stage::start(&settings).await;
    println!("{:.0} s: {} mirrors are created", began.elapsed().as_secs_f64(), stage.model.len());
    for (number, &budget) in settings.budgets.iter().enumerate() {
        phase::run(&mut stage, &settings, number, budget).await;
    }
    println!("passed in {:.0} s, load {}", began.elapsed().as_secs_f64(), usage::load());
}
