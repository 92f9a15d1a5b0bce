//! `make demo`: the outage story on real parts, shown and checked step by step.
//!
//! It starts a real Redis, and moto as SSM, on free ports. The operator runs as pods of a real node if
//! `hack/e2e` could start one, otherwise beside a real API server, as the process that its pod would run,
//! with the permissions of its chart. `--keep` leaves everything running to experiment with.
#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "a demo that cannot go on says why and ends; main turns that into a verdict"
)]

mod kubernetes;
mod stage;
mod story;
mod tasks;

use std::panic::AssertUnwindSafe;
use std::process::ExitCode;

use futures::FutureExt;

use parameter_mirror_test_support::Screen;
use stage::Stage;

#[tokio::main]
async fn main() -> ExitCode {
    let keep = std::env::args().any(|argument| argument == "--keep");
    // A failure is reported once, by the verdict.
    std::panic::set_hook(Box::new(|_| {}));
    let mut screen = Screen::default();
    let mut stage = None;
    let outcome = AssertUnwindSafe(story::run(&mut screen, &mut stage)).catch_unwind().await;
    match outcome {
        Ok(()) => {
            println!(
                "\nAll {} checks passed.{}",
                screen.checks(),
                if keep { "" } else { " Keep it running to play with: make demo KEEP=1" }
            );
            if let (true, Some(stage)) = (keep, &stage) {
                println!("{}", stage.how_to_play());
                // Waits for Ctrl-C; the parts end with this process.
                let _ = tokio::signal::ctrl_c().await;
            }
            ExitCode::SUCCESS
        }
        Err(cause) => {
            let cause = cause.downcast_ref::<String>().cloned().unwrap_or_default();
            println!("\nFAILED in step {}\n{cause}", screen.step());
            if let Some(logs) = stage.as_ref().and_then(Stage::save_logs) {
                println!("\nThe logs of all parts: {}", logs.display());
            }
            ExitCode::FAILURE
        }
    }
}
