//! Readers beside a writer never see a mix of two sets.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use parameter_mirror_format::content::entry::ParameterType::String as Plain;
use redis::AsyncCommands as _;

use crate::world::{KEY, Set, World, set};

const PUBLISHES: usize = 1_000;
const READERS: usize = 3;
const PARAMETERS: usize = 20;

fn generation(number: usize) -> Set {
    let names: Vec<String> = (0..PARAMETERS).map(|n| format!("/app/n{n:02}")).collect();
    let text = number.to_string();
    set(&names.iter().map(|name| (name.as_str(), Plain, text.as_str())).collect::<Vec<_>>())
}

/// Publishes beside readers. Returns how many sets they read, and how many of them were torn.
async fn beside<F: Future<Output = Vec<String>>>(world: &World, read: impl Fn() -> F) -> (usize, usize) {
    world.publish(&generation(0)).await;
    let (seen, torn, over) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicBool::new(false));
    let writer = async {
        for number in 1..=PUBLISHES {
            world.publish(&generation(number)).await;
        }
        over.store(true, Ordering::Relaxed);
    };
    let reader = || async {
        while !over.load(Ordering::Relaxed) {
            let values = read().await;
            seen.fetch_add(1, Ordering::Relaxed);
            let is_whole = values.len() == PARAMETERS && values.iter().all(|value| *value == values[0]);
            torn.fetch_add(usize::from(!is_whole), Ordering::Relaxed);
        }
    };
    let readers = futures::future::join_all((0..READERS).map(|_| reader()));
    tokio::join!(writer, readers);
    (seen.into_inner(), torn.into_inner())
}

#[tokio::test]
async fn a_set_is_of_one_moment() {
    let world = World::start().await;
    let mirrors = world.mirrors();
    let read = async || {
        let mirrors = mirrors.read().await.unwrap();
        mirrors[0].copy.entries.values().map(|entry| entry.value.expose().to_owned()).collect()
    };
    let (seen, torn) = beside(&world, read).await;
    assert!(seen > 100, "{seen} sets are too few to prove anything");
    assert_eq!(torn, 0, "of {seen}");
}

/// Control: a reader that reads field by field does see torn sets, so the test above can fail.
#[tokio::test]
async fn a_naive_reader_sees_torn_sets() {
    let world = World::start().await;
    let connection = world.redis.connection().await.unwrap();
    let read = || {
        let mut connection = connection.clone();
        async move {
            let mut values = Vec::new();
            for n in 0..PARAMETERS {
                values.push(connection.hget::<_, _, String>(KEY, format!("/app/n{n:02}")).await.unwrap());
            }
            values
        }
    };
    let (seen, torn) = beside(&world, read).await;
    assert!(torn > 0, "{seen} sets, and none was torn: the test proves nothing");
}
