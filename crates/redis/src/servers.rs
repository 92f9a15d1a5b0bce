//! Routes a key to the server that serves it: the only one, or a node of a cluster.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use crc::{CRC_16_XMODEM, Crc};
use redis::RedisResult;
use redis::aio::MultiplexedConnection;
use tokio::time::Instant;
use tracing_mutex::parkinglot::Mutex;

use crate::{Connection, ConnectionError, RedisSettings};
use parameter_mirror_format::hash::fields::Fields;

/// How many redirections one operation follows. Two are usual in the middle of a failover; more indicate a
/// loop.
const REDIRECTIONS: u32 = 4;
/// A node unused for this long has left the cluster, or serves none of our keys.
const FORGOTTEN_AFTER: Duration = Duration::from_mins(10);
/// The number of slots of a cluster (Redis cluster specification, "Key distribution model").
const SLOTS: u16 = 16_384;
const SLOT_OF: Crc<u16> = Crc::<u16>::new(&CRC_16_XMODEM);

/// One Redis: a single server, or the nodes of a cluster.
///
/// This needs no configuration: a node that does not serve a key names the one that does. Each node has its
/// own [`Connection`], so an unresponsive node delays only the keys it serves. Clones share everything.
#[derive(Clone, Debug)]
pub struct RedisClient(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    settings: RedisSettings,
    /// The server of the URL.
    first: Connection,
    cluster: Mutex<Cluster>,
}

/// What redirections have taught; empty until the first one.
#[derive(Debug, Default)]
struct Cluster {
    /// The node that serves each slot.
    owners: HashMap<u16, Node>,
    nodes: HashMap<Node, Known>,
}

/// `host:port`.
type Node = Arc<str>;

#[derive(Debug)]
struct Known {
    connection: Connection,
    used: Instant,
}

/// Whether an operation may be sent twice over one connection.
#[derive(Clone, Copy)]
enum Repeatable {
    Yes,
    No,
}

/// The destination of an operation.
#[derive(Debug)]
struct Route {
    /// `None` for the server of the URL.
    node: Option<Node>,
    connection: Connection,
}

impl RedisClient {
    /// Stores the settings; the first operation connects.
    #[must_use]
    pub fn new(settings: RedisSettings) -> Self {
        let first = Connection::new(settings.clone());
        Self(Arc::new(Inner { settings, first, cluster: Mutex::default() }))
    }

    /// Runs an idempotent operation on the server of `key` (see [`Connection::read`]).
    pub async fn read<T, F, Answer>(
        &self,
        key: &str,
        within: Duration,
        operation: F,
    ) -> Result<T, ConnectionError>
    where
        F: Fn(MultiplexedConnection) -> Answer,
        Answer: Future<Output = RedisResult<T>>,
    {
        self.on_its_server(key, within, Repeatable::Yes, operation).await
    }

    /// Runs an operation on the server of `key`. It is executed at most once, although it may be sent to
    /// nodes that refuse to execute it.
    pub async fn write<T, F, Answer>(
        &self,
        key: &str,
        within: Duration,
        operation: F,
    ) -> Result<T, ConnectionError>
    where
        F: Fn(MultiplexedConnection) -> Answer,
        Answer: Future<Output = RedisResult<T>>,
    {
        self.on_its_server(key, within, Repeatable::No, operation).await
    }

    /// Returns all fields of a hash; empty if the key does not exist.
    pub async fn fields(&self, key: &str, within: Duration) -> Result<Fields, ConnectionError> {
        let read = |mut connection: MultiplexedConnection| async move {
            redis::cmd("HGETALL").arg(key).query_async::<Vec<(Vec<u8>, Vec<u8>)>>(&mut connection).await
        };
        Ok(self.read(key, within, read).await?.into_iter().collect())
    }

    /// Returns the connections to all known servers.
    #[must_use]
    pub fn connections(&self) -> Vec<Connection> {
        let mut connections = self.0.cluster.lock().connections();
        connections.push(self.0.first.clone());
        connections
    }

    async fn on_its_server<T, F, Answer>(
        &self,
        key: &str,
        within: Duration,
        repeatable: Repeatable,
        operation: F,
    ) -> Result<T, ConnectionError>
    where
        F: Fn(MultiplexedConnection) -> Answer,
        Answer: Future<Output = RedisResult<T>>,
    {
        let deadline = Instant::now() + within;
        let slot = slot(key);
        let mut route = self.0.route(slot);
        for _ in 0..=REDIRECTIONS {
            let remaining = deadline.saturating_duration_since(Instant::now());
            let outcome = match repeatable {
                Repeatable::Yes => route.connection.read(remaining, &operation).await,
                Repeatable::No => route.connection.write(remaining, &operation).await,
            };
            match outcome {
                Err(ConnectionError::Moved(to)) => route = self.0.redirected(slot, &to, &route)?,
                Err(error) => {
                    self.0.failed(slot, &error);
                    return Err(error);
                }
                done => return done,
            }
        }
        Err(ConnectionError::Refused("its nodes send us from one to the other".to_owned()))
    }
}

impl Inner {
    /// Returns the known node of the slot, or any node that answers: it can name the right one.
    fn route(&self, slot: u16) -> Route {
        let owner = self.cluster.lock().owner(slot);
        if let Some(route) = owner {
            return route;
        }
        let unused = self.cluster.lock().forget_the_unused();
        // Dropped outside the lock, because this closes their connections.
        drop(unused);
        let first = || Route { node: None, connection: self.first.clone() };
        if self.first.broken().is_none() {
            return first();
        }
        let routes = self.cluster.lock().routes();
        routes.into_iter().find(|route| route.connection.broken().is_none()).unwrap_or_else(first)
    }

    /// Returns the route to the node that another node named as the owner of the slot.
    fn redirected(&self, slot: u16, to: &str, from: &Route) -> Result<Route, ConnectionError> {
        let node: Node = match to.strip_prefix(':') {
            // A cluster that does not know its own addresses leaves the host empty: use the host that was
            // asked.
            Some(port) => format!("{}:{port}", self.host_of(from)?).into(),
            None => to.into(),
        };
        // The connection connects on first use.
        let connection = Connection::to_node(self.settings.clone(), &node);
        let (route, superfluous) = self.cluster.lock().learn(slot, node, connection);
        drop(superfluous);
        Ok(route)
    }

    fn host_of(&self, route: &Route) -> Result<String, ConnectionError> {
        match &route.node {
            Some(node) => Ok(node.rsplit_once(':').map_or(&**node, |(host, _)| host).to_owned()),
            None => Ok(self.settings.host()?),
        }
    }

    /// Forgets the node of a slot after a failure, because it may no longer serve the slot. The next
    /// operation asks other nodes.
    fn failed(&self, slot: u16, error: &ConnectionError) {
        let about_the_server = matches!(
            error,
            ConnectionError::Timeout
                | ConnectionError::Unavailable(_)
                | ConnectionError::ReadOnly
                | ConnectionError::Refused(_)
        );
        if about_the_server {
            self.cluster.lock().owners.remove(&slot);
        }
    }
}

impl Cluster {
    fn owner(&mut self, slot: u16) -> Option<Route> {
        let node = self.owners.get(&slot)?;
        let known = self.nodes.get_mut(node)?;
        known.used = Instant::now();
        Some(Route { node: Some(Arc::clone(node)), connection: known.connection.clone() })
    }

    /// Records that `node` serves the slot. `connection` leads there; it is returned if the node has a connection
    /// already.
    fn learn(&mut self, slot: u16, node: Node, connection: Connection) -> (Route, Option<Connection>) {
        self.owners.insert(slot, Arc::clone(&node));
        let (known, superfluous) = match self.nodes.entry(Arc::clone(&node)) {
            Entry::Occupied(known) => (known.into_mut(), Some(connection)),
            Entry::Vacant(vacant) => (vacant.insert(Known { connection, used: Instant::now() }), None),
        };
        known.used = Instant::now();
        (Route { node: Some(node), connection: known.connection.clone() }, superfluous)
    }

    fn connections(&self) -> Vec<Connection> {
        self.nodes.values().map(|known| known.connection.clone()).collect()
    }

    fn routes(&self) -> Vec<Route> {
        let route = |(node, known): (&Node, &Known)| Route {
            node: Some(Arc::clone(node)),
            connection: known.connection.clone(),
        };
        self.nodes.iter().map(route).collect()
    }

    /// Removes the nodes that have been unused for [`FORGOTTEN_AFTER`].
    fn forget_the_unused(&mut self) -> Vec<(Node, Known)> {
        let Self { owners, nodes } = self;
        let unused = nodes.extract_if(|_, known| known.used.elapsed() >= FORGOTTEN_AFTER).collect();
        owners.retain(|_, node| nodes.contains_key(node));
        unused
    }
}

/// Returns the slot of a key, computed from the text in its first braces, if there is any.
fn slot(key: &str) -> u16 {
    let tag = key
        .split_once('{')
        .and_then(|(_, rest)| rest.split_once('}'))
        .map(|(tag, _)| tag)
        .filter(|tag| !tag.is_empty());
    SLOT_OF.checksum(tag.unwrap_or(key).as_bytes()) % SLOTS
}

#[cfg(test)]
mod tests;
