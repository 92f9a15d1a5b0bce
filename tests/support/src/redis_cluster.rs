//! A real Redis Cluster: primaries that share the slots, without replicas.

use std::time::Duration;

use crate::eventually;
use crate::redis::Redis;

const FORMED: Duration = Duration::from_mins(1);
/// The number of slots of every cluster.
const SLOTS: usize = 16_384;

/// Nodes that share the slots in equal parts, in order. A node that is down affects only its own keys.
#[derive(Debug)]
pub struct RedisCluster {
    /// The nodes.
    pub nodes: Vec<Redis>,
}

impl RedisCluster {
    /// Starts this many nodes and waits until all of them serve.
    pub async fn start(count: usize) -> Self {
        let mut nodes = Vec::new();
        for _ in 0..count {
            nodes.push(Redis::cluster_node().await);
        }
        for (index, node) in nodes.iter().enumerate() {
            let (first, last) = (index * SLOTS / count, (index + 1) * SLOTS / count - 1);
            node.cli(&["cluster", "addslotsrange", &first.to_string(), &last.to_string()]).await;
            node.cli(&["cluster", "set-config-epoch", &(index + 1).to_string()]).await;
        }
        for node in &nodes[1..] {
            nodes[0].meet(node).await;
        }
        let cluster = Self { nodes };
        for node in &cluster.nodes {
            cluster.is_whole(node).await;
        }
        cluster
    }

    /// Waits until a node knows all others and the owners of all slots.
    pub async fn is_whole(&self, node: &Redis) {
        let whole = format!("cluster_size:{}", self.nodes.len());
        eventually("the cluster is whole", FORMED, async || {
            let info = node.cli(&["cluster", "info"]).await;
            let serves = ["cluster_state:ok", "cluster_slots_ok:16384", &whole];
            if serves.iter().all(|line| info.contains(line)) { Ok(()) } else { Err(info) }
        })
        .await;
    }

    /// Returns the index of the node that got the slot of this key when the cluster was created.
    pub async fn home_of(&self, key: &str) -> usize {
        let (slot, count) = (slot(&self.nodes[0], key).await, self.nodes.len());
        (0..count).rfind(|index| index * SLOTS / count <= slot).expect("the first node begins at 0")
    }

    /// Starts moving the slot of `key` between two nodes: its keys have moved, and the nodes answer ASK and
    /// TRYAGAIN.
    pub async fn begin_to_move(&self, key: &str, from: usize, to: usize) {
        let slot = slot(&self.nodes[from], key).await.to_string();
        let (source, target) = (&self.nodes[from], &self.nodes[to]);
        let (source_id, target_id) =
            (source.cli(&["cluster", "myid"]).await, target.cli(&["cluster", "myid"]).await);
        target.cli(&["cluster", "setslot", &slot, "importing", &source_id]).await;
        source.cli(&["cluster", "setslot", &slot, "migrating", &target_id]).await;
        let port = target.address().port().to_string();
        source.cli(&["migrate", "127.0.0.1", &port, key, "0", "5000"]).await;
    }

    /// Completes the move that [`begin_to_move`](Self::begin_to_move) started: the slot has its new owner.
    pub async fn end_move(&self, key: &str, to: usize) {
        let slot = slot(&self.nodes[to], key).await.to_string();
        let id = self.nodes[to].cli(&["cluster", "myid"]).await;
        // The new owner first, as the documentation of the command requires.
        let others = self.nodes.iter().enumerate().filter(|(index, _)| *index != to).map(|(_, node)| node);
        for node in [&self.nodes[to]].into_iter().chain(others) {
            node.cli(&["cluster", "setslot", &slot, "node", &id]).await;
        }
    }
}

async fn slot(node: &Redis, key: &str) -> usize {
    node.cli(&["cluster", "keyslot", key]).await.parse().expect("a slot")
}
