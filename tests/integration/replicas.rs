//! Two replicas: one leads, the other is ready and silent, and takes over in time (promise 6). *Real time*; every point at
//! which a leader can be stopped is gone through in virtual time, in `simulation::two_leaders`.

use std::time::{Duration, Instant};

use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;
use parameter_mirror_test_support::Operator;
use parameter_mirror_test_support::ssm::{Fault, When};
use serde_json::json;

use crate::world::{LATER, SOON, World, eventually};

const LEADS: &str = "parameter_mirror_leader";

/// A world with a mirror that is served, and a second replica.
async fn two() -> (World, Operator) {
    let world = World::start().await;
    world.ssm.put("/app/a", "1");
    world.ssm.put("/app/b", "1");
    world.synced("app").await;
    let standby = world.replica().await;
    (world, standby)
}

async fn holder(world: &World) -> Option<String> {
    let leases: Api<Lease> = Api::namespaced(world.client.clone(), &world.home);
    let name = format!("{}-parameter-mirror", world.home);
    leases.get_opt(&name).await.unwrap()?.spec?.holder_identity
}

async fn takes_over(world: &World, operator: &Operator, within: Duration) {
    let began = Instant::now();
    eventually("the other replica holds the lease", LATER, async || {
        let holder = holder(world).await;
        if holder.as_deref() == Some(operator.identity()) { Ok(()) } else { Err(world.seen(&holder)) }
    })
    .await;
    let took = began.elapsed();
    assert!(took <= within, "taken over after {took:?}");
}

#[tokio::test]
async fn a_standby_is_ready_and_silent_and_follows_a_leader_that_was_stopped() {
    let (world, standby) = two().await;
    assert_eq!(holder(&world).await.as_deref(), Some(world.operator.identity()));
    assert_eq!((world.operator.metric(LEADS).await, standby.metric(LEADS).await), (1, 0));
    assert_eq!(standby.get("/readyz").await.unwrap().0, 200);
    assert_eq!(standby.get("/livez").await.unwrap().0, 200);
    world.next_cycle("app").await;
    assert_eq!(standby.metric(r#"parameter_mirror_ssm_reads_total{result="good"}"#).await, 0);
    assert_eq!(standby.metric("parameter_mirror_status_writes_total").await, 0);

    let began = Instant::now();
    let (status, ()) = tokio::join!(
        world.operator.terminate(),
        // The measured time includes the end of the leader; the promise counts from the signal.
        takes_over(&world, &standby, Duration::from_secs(2) + slack()),
    );
    assert!(status.success(), "{status}");
    assert!(began.elapsed() < Duration::from_secs(10));
    world.ssm.put("/app/a", "2");
    world.sync("app").await;
    world.holds("app", &[("A", "2"), ("B", "1")]).await;
    assert_eq!(standby.metric(LEADS).await, 1);
}

/// For a machine that computes simulated days meanwhile; far from the 15 s after which a lease would have ended by itself.
fn slack() -> Duration {
    Duration::from_secs(6)
}

#[tokio::test]
async fn a_leader_that_was_killed_is_succeeded_within_20_seconds() {
    let (world, standby) = two().await;
    world.operator.kill();
    takes_over(&world, &standby, Duration::from_secs(20)).await;
    // Served on, and healed: the new leader knows what the targets hold.
    world.ssm.fail(When::any(), Fault::internal());
    world.delete_secret("app").await;
    world.holds("app", &[("A", "1"), ("B", "1")]).await;
}

/// Stopped at rest, past its lease; meanwhile values change and go. When it runs again it has nothing to say.
#[tokio::test]
async fn a_leader_that_slept_through_its_lease_writes_nothing_when_it_wakes() {
    let (world, standby) = two().await;
    world.operator.process().freeze();
    takes_over(&world, &standby, Duration::from_secs(20)).await;
    world.ssm.put("/app/a", "2");
    world.ssm.delete("/app/b");
    world.ssm.put("/app/c", "2");
    world.sync("app").await;
    let current = [("A", "2"), ("C", "2")];
    world.holds("app", &current).await;
    let (version, generation) =
        (world.resource_version("app").await, world.number("app", "@generation").await);

    world.operator.process().thaw();
    eventually("the old leader notices", SOON, async || {
        let leads = world.operator.metric(LEADS).await;
        if leads == 0 { Ok(()) } else { Err(world.seen(&leads)) }
    })
    .await;
    world.next_cycle("app").await;
    world.holds("app", &current).await;
    assert_eq!(world.resource_version("app").await, version, "the Secret was not written");
    assert_eq!(world.number("app", "@generation").await, generation, "nor the hash");

    // It is a standby like any other: when the new leader goes, it works again.
    standby.terminate().await;
    world.ssm.put("/app/a", "3");
    world.sync("app").await;
    world.holds("app", &[("A", "3"), ("C", "2")]).await;
}

/// Two live operators never both write: whoever has not the lease changes nothing, whatever it sees.
#[tokio::test]
async fn a_leader_whose_lease_is_taken_gives_up_and_comes_back_when_it_is_free() {
    let world = World::start().await;
    world.ssm.put("/app/a", "1");
    world.synced("app").await;
    // Somebody else takes the lease by force, as after a partition.
    let leases: Api<Lease> = Api::namespaced(world.client.clone(), &world.home);
    let name = format!("{}-parameter-mirror", world.home);
    let forced = json!({"spec": {"holderIdentity": "somebody", "leaseDurationSeconds": 5}});
    let params = kube::api::PatchParams::default();
    leases.patch(&name, &params, &kube::api::Patch::Merge(forced)).await.unwrap();
    eventually("it notices", SOON, async || {
        let leads = world.operator.metric(LEADS).await;
        if leads == 0 { Ok(()) } else { Err(world.seen(&leads)) }
    })
    .await;
    takes_over(&world, &world.operator, Duration::from_secs(20)).await;
    world.ssm.put("/app/a", "2");
    world.sync("app").await;
    world.holds("app", &[("A", "2")]).await;
}
