//! Waits for a condition instead of sleeping.

use std::fmt::Display;
use std::time::{Duration, Instant};

/// The pause between two checks: short compared with everything that tests wait for, long compared with the
/// cost of a check.
const PAUSE: Duration = Duration::from_millis(25);

/// Calls `look` until it returns `Ok`, and returns the result.
///
/// The deadline is in wall-clock time even if the tokio clock is paused: tests wait for other processes,
/// which do not share that clock.
///
/// # Panics
/// When `deadline` passes first; the message contains `what` was expected and the last error. A call that
/// never ends counts, too.
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
            // Under a paused clock the timeout can fire early; only the wall clock ends the loop.
            Err(_) => {}
        }
        tokio::time::sleep(PAUSE).await;
    }
    panic!("expected within {deadline:?}: {what}; last seen: {seen}");
}
