//! Two replicas: one leads, the other is ready and idle, and takes over in time (promise 6). *Real time*.
//! `simulation::two_leaders` stops a leader at every possible point, in virtual time.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use kube::Api;
use parameter_mirror_test_support::proxy::Path;
use parameter_mirror_test_support::ssm::{Fault, Operation, When};
use parameter_mirror_test_support::{Operator, Proxy, Scratch, Ssm};
use rstest::rstest;
use serde_json::json;
use tokio::task::JoinHandle;

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

async fn lease(world: &World) -> LeaseSpec {
    let leases: Api<Lease> = Api::namespaced(world.client.clone(), &world.home);
    let name = format!("{}-parameter-mirror", world.home);
    leases.get_opt(&name).await.unwrap().and_then(|lease| lease.spec).unwrap_or_default()
}

async fn holder(world: &World) -> Option<String> {
    lease(world).await.holder_identity
}

/// Waits until an operator holds the lease, which it must take within this time of the last renewal. The times
/// are those in the Lease: they use one clock, and observing takes time on a busy machine.
async fn takes_over(world: &World, operator: &Operator, within: Duration) {
    let renewed = lease(world).await.renew_time.unwrap().0;
    eventually("the other replica holds the lease", LATER, async || {
        let holder = holder(world).await;
        if holder.as_deref() == Some(operator.identity()) { Ok(()) } else { Err(world.seen(&holder)) }
    })
    .await;
    taken(world, renewed, within).await;
}

/// The holder of the lease has taken it within this time.
async fn taken(world: &World, since: Timestamp, within: Duration) {
    let acquired = lease(world).await.acquire_time.unwrap().0;
    let rested = acquired.duration_since(since);
    assert!(rested <= SignedDuration::try_from(within).unwrap(), "nobody led for {rested:?}");
}

/// Waits until an operator reports that it leads, or that it does not.
async fn says(operator: &Operator, leads: bool, deadline: Duration) {
    eventually(&format!("it leads: {leads}"), deadline, async || match operator.metric(LEADS).await {
        found if found == u64::from(leads) => Ok(()),
        _ => Err(operator.log()),
    })
    .await;
}

/// Returns the number of an operator's writes so far: Secrets, hashes, status.
async fn writes(operator: &Operator) -> [u64; 3] {
    [
        operator.metric(r#"parameter_mirror_target_writes_total{target="secret"}"#).await,
        operator.metric(r#"parameter_mirror_target_writes_total{target="redis"}"#).await,
        operator.metric("parameter_mirror_status_writes_total").await,
    ]
}

#[tokio::test]
async fn a_standby_is_ready_and_does_nothing() {
    let world = World::start().await;
    world.ssm.put("/app/a", "1");
    world.synced("app").await;
    // Its own SSM, to see the first call.
    let unasked = Ssm::start();
    let mut settings = world.operator.settings().clone();
    settings.ssm = unasked.endpoint();
    let standby = Operator::start(settings).await;
    assert_eq!(holder(&world).await.as_deref(), Some(world.operator.identity()));
    assert_eq!((world.operator.metric(LEADS).await, standby.metric(LEADS).await), (1, 0));
    assert_eq!(standby.get("/readyz").await.unwrap().0, 200);
    assert_eq!(standby.get("/livez").await.unwrap().0, 200);

    // Everything that would cause work for an operator.
    world.mirror("other", json!({"parameters": [{"path": "/app"}], "secret": {}})).await;
    world.ready("other", "Synced").await;
    world.delete_secret("app").await;
    world.redis.flush_all().await;
    world.holds("app", &[("A", "1")]).await;
    world.field_is("app", "/app/a", "1").await;
    world.sync("app").await;
    world.next_cycle("app").await;
    assert_eq!(unasked.calls().total(), 0, "a standby asked SSM");
    assert_eq!(writes(&standby).await, [0, 0, 0]);
}

#[tokio::test]
async fn a_leader_that_is_terminated_is_succeeded_within_2_seconds() {
    let (world, standby) = two().await;
    let since = Timestamp::now();
    let status = world.operator.terminate().await;
    assert!(status.success(), "{status}");
    says(&standby, true, SOON).await;
    assert_eq!(holder(&world).await.as_deref(), Some(standby.identity()));
    taken(&world, since, Duration::from_secs(2)).await;
    world.ssm.put("/app/a", "2");
    world.sync("app").await;
    world.holds("app", &[("A", "2"), ("B", "1")]).await;

    // The last replica releases the lease, so that the next one need not wait.
    assert!(standby.terminate().await.success());
    assert_eq!(holder(&world).await.unwrap_or_default(), "");
}

#[tokio::test]
async fn a_leader_that_was_killed_is_succeeded_within_20_seconds() {
    let (world, standby) = two().await;
    world.operator.kill();
    takes_over(&world, &standby, Duration::from_secs(20)).await;
    // The new leader continues to serve, and heals: it knows what the targets hold.
    world.ssm.fail(When::any(), Fault::internal());
    world.delete_secret("app").await;
    world.holds("app", &[("A", "1"), ("B", "1")]).await;
}

/// The leader is stopped while idle, beyond its lease. Meanwhile values change and are deleted. When it
/// resumes, it writes nothing.
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

    // It is a normal standby now: when the new leader ends, it leads again.
    standby.terminate().await;
    world.ssm.put("/app/a", "3");
    world.sync("app").await;
    world.holds("app", &[("A", "3"), ("C", "2")]).await;
}

/// Two running operators never both write: the one without the lease changes nothing, whatever it observes.
#[tokio::test]
async fn a_leader_whose_lease_is_taken_gives_up_and_comes_back_when_it_is_free() {
    let world = World::start().await;
    world.ssm.put("/app/a", "1");
    world.synced("app").await;
    // Another process takes the lease by force, as after a partition.
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

/// Reads both targets as fast as possible, and records everything it has ever seen in them.
struct Witness {
    seen: Arc<Mutex<BTreeSet<String>>>,
    task: JoinHandle<()>,
}

impl Witness {
    async fn of(world: &World, mirror: &str) -> Self {
        let seen: Arc<Mutex<BTreeSet<String>>> = Arc::default();
        let (note, secrets, name) = (Arc::clone(&seen), world.secrets(), mirror.to_owned());
        let (key, mut redis) = (world.key(mirror), world.redis.connection().await.unwrap());
        let task = tokio::spawn(async move {
            loop {
                let secret = secrets.get_opt(&name).await.unwrap().unwrap_or_default();
                let data = secret.data.unwrap_or_default().into_iter();
                let data = data.map(|(key, value)| format!("{key}={}", String::from_utf8(value.0).unwrap()));
                let hash: Vec<(String, String)> =
                    redis::cmd("HGETALL").arg(&key).query_async(&mut redis).await.unwrap();
                let fields = hash.into_iter().filter(|(name, _)| !name.starts_with('@'));
                note.lock()
                    .unwrap()
                    .extend(data.chain(fields.map(|(name, value)| format!("{name}={value}"))));
            }
        });
        Self { seen, task }
    }

    /// Stops it; returns what it has seen.
    async fn end(self) -> BTreeSet<String> {
        assert!(!self.task.is_finished(), "the witness gave up: {:?}", self.task.await);
        self.task.abort();
        self.seen.lock().unwrap().clone()
    }
}

/// What a leader is doing when it is stopped.
#[derive(Clone, Copy)]
enum Doing {
    /// It has called SSM; the answer is ready when it resumes.
    Reads,
    /// SSM is down.
    Holds,
}

/// Like above, with work in progress, whose answer is outdated by then.
#[rstest]
#[case::in_a_read(Doing::Reads)]
#[case::in_an_outage(Doing::Holds)]
#[tokio::test]
async fn a_leader_that_slept_in_its_work_brings_nothing_old_back(#[case] doing: Doing) {
    let (world, standby) = two().await;
    match doing {
        Doing::Reads => {
            // The answer must contain something new.
            world.ssm.put("/app/a", "older");
            let listing = When::any().operation(Operation::GetParametersByPath).times(1);
            let slow = world.ssm.fail(listing, Fault::Slow(Duration::from_secs(2)));
            world.ask("app").await;
            eventually("SSM is asked", SOON, async || match world.ssm.hits(slow) {
                0 => Err(world.operator.log()),
                _ => Ok(()),
            })
            .await;
        }
        Doing::Holds => {
            world.ssm.refuse();
            world.degraded("app", "SourceUnavailable").await;
        }
    }
    let [secrets, hashes, _] = writes(&world.operator).await;
    world.operator.process().freeze();
    says(&standby, true, Duration::from_secs(20)).await;
    world.ssm.clear_all();
    world.ssm.listen_again();
    world.ssm.put("/app/a", "new");
    world.ssm.delete("/app/b");
    world.ssm.put("/app/c", "new");
    world.sync("app").await;
    world.holds("app", &[("A", "new"), ("C", "new")]).await;
    world.field_is("app", "/app/a", "new").await;
    assert_eq!(world.field("app", "/app/b").await, None);

    let witness = Witness::of(&world, "app").await;
    world.operator.process().thaw();
    says(&world.operator, false, SOON).await;
    world.next_cycle("app").await;
    world.next_cycle("app").await;
    let current = ["/app/a=new", "/app/c=new", "A=new", "C=new"].map(str::to_owned);
    assert_eq!(witness.end().await, BTreeSet::from(current), "{}", world.operator.log());
    assert_eq!(writes(&world.operator).await[..2], [secrets, hashes], "{}", world.operator.log());
    world.healthy("app").await;
}

/// Replaces the operator of the world by one that reaches the API server through a controlled path.
async fn leader_on_a_path(world: &World, ssm: &Ssm, scratch: &Scratch) -> (Operator, Proxy) {
    let server = world.cluster.server().trim_start_matches("https://").parse().unwrap();
    let path = Proxy::start(server).await;
    let mut settings = world.operator.settings().clone();
    let kubeconfig = std::fs::read_to_string(&settings.kubeconfig).unwrap();
    let through = kubeconfig.replace(world.cluster.server(), &format!("https://{}", path.address()));
    assert_ne!(through, kubeconfig);
    settings.kubeconfig = scratch.path().join("kubeconfig");
    std::fs::write(&settings.kubeconfig, through).unwrap();
    settings.ssm = ssm.endpoint();
    let operator = Operator::start(settings).await;
    assert!(world.operator.terminate().await.success(), "{}", world.operator.log());
    says(&operator, true, SOON).await;
    (operator, path)
}

/// The old leader can still reach SSM and Redis, and must not use them, because another one leads by then.
#[tokio::test]
async fn a_leader_that_is_cut_off_from_the_api_server_stops_working() {
    let (mut world, standby) = two().await;
    drop(standby);
    let (far, scratch) = (Ssm::start(), Scratch::new("cut-off").unwrap());
    for name in ["/app/a", "/app/b"] {
        far.put(name, "1");
    }
    let (cut_off, path) = leader_on_a_path(&world, &far, &scratch).await;
    world.sync("app").await;
    world.operator.restart().await;
    path.set(Path::Holds).await;
    says(&world.operator, true, Duration::from_secs(20)).await;
    says(&cut_off, false, SOON).await;
    let (asked, written) = (far.calls().total(), writes(&cut_off).await);
    far.put("/app/a", "far");
    world.ssm.put("/app/a", "near");
    world.sync("app").await;
    world.holds("app", &[("A", "near"), ("B", "1")]).await;
    world.field_is("app", "/app/a", "near").await;

    let witness = Witness::of(&world, "app").await;
    world.redis.flush_all().await;
    world.field_is("app", "/app/a", "near").await;
    world.next_cycle("app").await;
    // Its delayed requests arrive now.
    path.set(Path::Passes).await;
    eventually("it sees who leads", LATER, async || {
        let log = cut_off.log();
        if log.contains(&format!("{} leads", world.operator.identity())) { Ok(()) } else { Err(log) }
    })
    .await;
    world.next_cycle("app").await;
    let current = ["/app/a=near", "/app/b=1", "A=near", "B=1"].map(str::to_owned);
    assert_eq!(witness.end().await, BTreeSet::from(current), "{}", cut_off.log());
    assert_eq!(far.calls().total(), asked, "it asked SSM");
    assert_eq!(writes(&cut_off).await, written);
}

/// There is no other replica: when the API server is back, the operator leads again, based on the targets'
/// current content.
#[tokio::test]
async fn an_operator_that_lost_its_term_works_on_without_a_restart() {
    let world = World::start().await;
    let scratch = Scratch::new("cut-off").unwrap();
    world.ssm.put("/app/a", "1");
    world.synced("app").await;
    let (operator, path) = leader_on_a_path(&world, &world.ssm, &scratch).await;
    world.sync("app").await;
    path.set(Path::Holds).await;
    says(&operator, false, LATER).await;
    world.ssm.put("/app/a", "2");
    world.delete_secret("app").await;
    path.set(Path::Passes).await;
    world.holds("app", &[("A", "2")]).await;
    world.field_is("app", "/app/a", "2").await;
    world.healthy("app").await;
    assert_eq!((operator.metric(LEADS).await, operator.process().exited()), (1, None));
}
