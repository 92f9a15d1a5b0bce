//! Promise 6: a leader is stopped at one of its calls for longer than its lease, another one changes and
//! deletes, then the first one resumes. Their clocks differ by up to two minutes.

use std::time::Duration;

use super::line::{CrashMode, Side, State};
use super::world::{Part, World, in_virtual_time};

/// The number of trials.
const TRIALS: u64 = 200;

#[test]
fn an_operator_that_was_stopped_brings_nothing_old_back() {
    let mut stopped_in = std::collections::BTreeMap::<String, u32>::new();
    for seed in 0..TRIALS {
        println!("trial {seed}");
        let point = in_virtual_time(trial(fastrand::Rng::with_seed(seed)));
        *stopped_in.entry(point).or_default() += 1;
    }
    // The trials covered every kind of write.
    for verb in ["replace secrets/app", "create secrets/app", "swap", "beat", "patch parametermirrors"] {
        assert!(
            stopped_in.keys().any(|point| point.starts_with(verb)),
            "{verb} is missing in {stopped_in:?}"
        );
    }
}

/// Returns the call at which the first operator was stopped.
async fn trial(mut rng: fastrand::Rng) -> String {
    let world = World::new();
    world.mirror("app", "10s");
    let clock = Duration::from_secs(rng.u64(0..120));
    let (ahead, behind) = if rng.bool() { (clock, Duration::ZERO) } else { (Duration::ZERO, clock) };
    let first = world.operator_with(ahead);
    world.both_serve("app", 1, Duration::from_secs(30)).await;

    // Work for the first operator, and a stop at one of its next calls.
    let side = if rng.bool() { Side::Before } else { Side::After };
    let next = first.line.calls().len() + rng.usize(0..30);
    first.line.doom(next, side, CrashMode::Stops);
    match rng.u8(0..3) {
        0 => world.release(2),
        1 => world.delete("secrets", super::world::NAMESPACE, "app"),
        _ => world.redis.flush(),
    }
    first.line.becomes(State::Stopped).await;
    let point = first.line.calls().last().unwrap().clone();

    let second = world.operator_with(behind);
    world.both_serve("app", world.released(), Duration::from_mins(1)).await;
    let latest = world.release_next();
    world.both_serve("app", latest, Duration::from_mins(1)).await;
    world.pass(Duration::from_secs(rng.u64(0..40))).await;

    let resumed = world.elapsed();
    first.line.resume();
    world.pass(Duration::from_mins(1)).await;
    assert_eq!([Part::Secret, Part::Redis].map(|part| world.serves("app", part)), [Some(latest); 2]);
    for written in world.history().iter().filter(|written| written.at >= resumed) {
        assert_eq!(written.release, Ok(latest), "old over new: {written:?}");
    }
    drop(second);
    point.point
}
