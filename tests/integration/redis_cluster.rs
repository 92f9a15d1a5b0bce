//! A real Redis Cluster of three nodes: mirrors are spread over all of them, and a failure of one node
//! affects only its own mirrors.

use parameter_mirror_test_support::RedisCluster;
use serde_json::json;

use crate::world::{LATER, Setup, World, eventually};

const NODES: usize = 3;
/// The number of mirrors on each node.
const EACH: usize = 7;

/// A world with mirrors on every node of a cluster.
struct Spread {
    world: World,
    cluster: RedisCluster,
    /// The names of mirrors, by the node that serves them.
    mirrors: Vec<Vec<String>>,
}

impl Spread {
    async fn start() -> Self {
        let cluster = RedisCluster::start(NODES).await;
        let redis_url = Some(cluster.nodes[0].url());
        let world = World::with(Setup { redis_url, ..Setup::default() }).await;
        world.ssm.put("/app/a", "1");
        let mut mirrors = vec![Vec::new(); NODES];
        for number in 0.. {
            let name = format!("m{number}");
            let home = &mut mirrors[cluster.home_of(&world.key(&name)).await];
            if home.len() < EACH {
                home.push(name);
            }
            if mirrors.iter().all(|home| home.len() == EACH) {
                break;
            }
        }
        let spread = Self { world, cluster, mirrors };
        for name in spread.mirrors.iter().flatten() {
            let spec = json!({"parameters": [{"path": "/app"}], "secret": {}, "redis": {}});
            spread.world.mirror(name, spec).await;
        }
        for node in 0..NODES {
            spread.all_serve(node, "1").await;
        }
        spread
    }

    /// Reads one field of a mirror's hash from the node that should serve it.
    async fn field(&self, node: usize, mirror: &str, field: &str) -> String {
        self.cluster.nodes[node].cli(&["hget", &self.world.key(mirror), field]).await
    }

    /// Waits until all mirrors of a node have this value there and are healthy.
    async fn all_serve(&self, node: usize, value: &str) {
        for mirror in &self.mirrors[node] {
            self.serves(node, mirror, value).await;
            self.world.healthy(mirror).await;
        }
    }

    async fn serves(&self, node: usize, mirror: &str, value: &str) {
        eventually(&format!("node {node} serves {mirror} = {value}"), LATER, async || {
            // A node that has just restarted reports for a moment that the cluster is down.
            let found = self.cluster.nodes[node].try_cli(&["hget", &self.world.key(mirror), "/app/a"]).await;
            if found.as_deref() == Ok(value) { Ok(()) } else { Err(self.world.seen(&found)) }
        })
        .await;
    }
}

#[tokio::test]
async fn mirrors_are_spread_and_a_frozen_node_holds_up_its_own_alone() {
    let spread = Spread::start().await;
    let Spread { world, cluster, mirrors } = &spread;
    cluster.nodes[1].freeze();
    world.ssm.put("/app/a", "2");
    // The node stays frozen until all others are served.
    for node in [0, 2] {
        world.sync(&mirrors[node][0]).await;
        spread.serves(node, &mirrors[node][0], "2").await;
    }
    world.sync(&mirrors[1][0]).await;
    world.holds(&mirrors[1][0], &[("A", "2")]).await;
    world.degraded(&mirrors[1][0], "RedisUnavailable").await;
    spread.all_serve(0, "2").await;
    spread.all_serve(2, "2").await;
    cluster.nodes[1].thaw();
    spread.all_serve(1, "2").await;
    for node in &cluster.nodes {
        let connections = node.connections().await;
        assert!(connections < 60, "a storm of connections: {connections}");
    }
}

/// The killed node is the one in the URL: the operator finds the others from earlier redirections.
#[tokio::test]
async fn a_killed_node_comes_back_empty_and_is_filled_while_ssm_is_down() {
    let mut spread = Spread::start().await;
    spread.world.ssm.refuse();
    spread.cluster.nodes[0].kill();
    let (mine, other) = (spread.mirrors[0][0].clone(), spread.mirrors[1][0].clone());
    spread.world.degraded(&mine, "SourceUnavailable").await;
    spread.world.sync(&other).await;
    assert_eq!(spread.field(1, &other, "@status").await, "Degraded", "the other nodes are still written");
    spread.cluster.nodes[0].restart().await;
    for mirror in &spread.mirrors[0] {
        spread.serves(0, mirror, "1").await;
    }
}

#[tokio::test]
async fn a_slot_that_moves_is_followed() {
    let spread = Spread::start().await;
    let Spread { world, cluster, mirrors } = &spread;
    let (mirror, key) = (&mirrors[0][0], world.key(&mirrors[0][0]));
    let generation = spread.field(0, mirror, "@generation").await;
    cluster.begin_to_move(&key, 0, 2).await;
    world.ssm.put("/app/a", "2");
    world.sync(mirror).await;
    world.holds(mirror, &[("A", "2")]).await;
    let degraded = world.degraded(mirror, "RedisUnavailable").await;
    assert!(degraded.message.contains("ASK"), "{}", degraded.message);
    cluster.end_move(&key, 2).await;
    assert_eq!(spread.field(2, mirror, "@generation").await, generation, "the hash came along as it was");
    spread.serves(2, mirror, "2").await;
    world.healthy(mirror).await;
    // The other mirrors of the old node stay there.
    spread.serves(0, &mirrors[0][1], "2").await;
}
