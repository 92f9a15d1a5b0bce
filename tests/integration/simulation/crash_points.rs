//! The operator crashes before or after any of its calls, and another one starts: the result is the same as
//! without a crash, and no reader ever sees half a set.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::json;

use super::line::{Call, CrashMode, Side, State};
use super::world::{NAMESPACE, Part, World, in_virtual_time};

#[test]
fn a_crash_at_any_call_changes_nothing_in_the_end() {
    let calls = in_virtual_time(live(None));
    let points: BTreeSet<&str> = calls.iter().map(|call| call.point.split(' ').next().unwrap()).collect();
    let of_kubernetes = ["create", "delete", "get", "list", "metadata", "patch", "replace", "watch"];
    let of_redis = ["beat", "check", "observe", "swap"];
    let all = of_kubernetes.into_iter().chain(of_redis).collect();
    assert_eq!(points, all, "every kind of call is among the points");
    for (number, call) in calls.iter().enumerate() {
        for side in [Side::Before, Side::After] {
            println!("dies {side:?} call {number}: {call:?}");
            in_virtual_time(live(Some((number, side))));
        }
    }
}

/// A short run in which the operator does everything that it can do to targets. Returns its calls.
async fn live(doom: Option<(usize, Side)>) -> Vec<Call> {
    let world = World::new();
    let secret = json!({"name": "app", "deletionPolicy": "Delete"});
    let parameters = json!([{"path": "/app"}]);
    world.mirror_with("app", json!({"interval": "10s", "parameters": parameters, "secret": secret}));
    let mut operator = world.operator();
    if let Some((call, side)) = doom {
        operator.line.doom(call, side, CrashMode::Dies);
    }
    for second in 0..60 {
        match second {
            12 => world.release(2),
            24 => world.delete("secrets", NAMESPACE, "app"),
            30 => world.redis.flush(),
            36 => {
                let renamed = json!({"spec": {"secret": {"name": "renamed"}}});
                world.patch("parametermirrors", Some(NAMESPACE), "app", &renamed);
            }
            _ => {}
        }
        world.pass(Duration::from_secs(1)).await;
        if operator.line.state() == State::Dead {
            operator.kill();
            operator = world.operator();
        }
    }
    world.assert_whole_and_forward();
    assert_eq!(world.serves("renamed", Part::Secret), Some(2));
    assert_eq!(world.serves("app", Part::Redis), Some(2));
    assert_eq!(world.values("app", Part::Secret), None, "the old Secret went by its policy");
    assert_eq!(world.condition("app", "Ready"), ("True".to_owned(), "Synced".to_owned()));
    operator.line.calls()
}
