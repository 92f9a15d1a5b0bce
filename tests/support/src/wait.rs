//! Waiting for a condition instead of sleeping.

use std::fmt::Display;
use std::time::{Duration, Instant};

/// The pause between two looks: short beside everything that is waited for, long beside the cost of a look.
const PAUSE: Duration = Duration::from_millis(25);

/// Looks until `look` says `Ok`, and returns what it said.
///
/// The deadline is one of wall-clock time even where the tokio clock is paused: what tests wait for here are other
/// processes, and these do not share that clock.
///
/// # Panics
/// When `deadline` passes first, with `what` was expected and what the last look saw instead. A look that never
/// ends counts as well.
pub async fn eventually<T, E: Display>(
    what: &str,
    deadline: Duration,
    mut look: impl AsyncFnMut() -> Result<T, E>,
) -> T {
    let start = Instant::now();
    let mut seen = String::from("nothing, the first look did not end");
    while let Some(left) = deadline.checked_sub(start.elapsed()) {
        match tokio::time::timeout(left.max(PAUSE), look()).await {
            Ok(Ok(found)) => return found,
            Ok(Err(error)) => seen = error.to_string(),
            // Under a paused clock the timeout can come early; only the wall clock ends the loop.
            Err(_) => {}
        }
        tokio::time::sleep(PAUSE).await;
    }
    panic!("expected within {deadline:?}: {what}; last seen: {seen}");
}
