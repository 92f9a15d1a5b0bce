//! Real parts under test control.
//!
//! Tests run against a real API server, a real Redis and moto. Each is started by the test process itself on
//! a free port, and is gone when the test ends, however it ends. `hack/parts install` installs the programs
//! once. Stand-ins exist only for services of AWS.
//!
//! | module | what it holds |
//! |---|---|
//! | [`scratch`] | a temporary folder that is removed, with the processes in it, even after a SIGKILL of the tests |
//! | [`process`] | one child process: start, kill, terminate, freeze, thaw, log |
//! | [`port`] | TCP ports that no two tests take at once |
//! | [`programs`] | where the installed programs are |
//! | [`wait`] | waiting for a condition with a deadline |
//! | [`command`] | the output of a command that ran to its end |
//! | [`console`] | kubectl, helm and a client of a cluster |
//! | [`cluster`] | a Kubernetes control plane |
//! | [`node`] | a node with pods, where `hack/node` has started one |
//! | [`names`] | a DNS server that knows a single name |
//! | [`view`] | a client's view of the API server: watches that stall or restart |
//! | [`elasticache`] | ElastiCache with IAM users, in front of a real Redis; verifies each token independently |
//! | [`proxy`] | a TCP path that goes silent, refuses, resets, trickles, delays |
//! | [`redis`] | a Redis server |
//! | [`redis_cluster`] | a Redis Cluster |
//! | [`prometheus`] | a Prometheus that scrapes the addresses that a test names |
//! | [`installation`] | the operator's CRDs and chart in a cluster |
//! | [`endpoints`] | the operator's HTTP endpoints, and the content of `/metrics` |
//! | [`fleet`] | many mirrors at once |
//! | [`usage`] | the resource usage of a process and the machine |
//! | [`operator`] | the operator as a process, with the settings a pod would have |
//! | [`mirrored`] | a mirror as its users see it: conditions and both targets |
//! | [`screen`] | a story shown step by step, each with its checks and times |
//! | [`canary`] | values that are found wherever they appear |
//! | [`copies`] | the content of targets, decoded with the published layout |
//! | [`hash`] | a mirror in Redis without an operator |
//! | [`moto`] | moto, a stand-in for AWS |
//! | [`ssm`] | our own SSM inside the test process: counts every call, and fails as scripted |
//! | [`tls_front`] | TLS in front of a server that speaks none |
//! | [`ssm_client`] | calls SSM operations by name, to prepare and inspect what the operator reads |
#![allow(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_types,
    clippy::significant_drop_tightening,
    clippy::significant_drop_in_scrutinee,
    clippy::missing_panics_doc,
    reason = "a part that does not start or answer must fail the test loudly, there and then"
)]

mod authority;
pub mod canary;
pub mod cluster;
pub mod command;
pub mod console;
pub mod copies;
pub mod elasticache;
pub mod endpoints;
pub mod fleet;
pub mod hash;
pub mod installation;
pub mod memory;
pub mod mirrored;
pub mod moto;
pub mod names;
pub mod node;
pub mod operator;
pub mod port;
pub mod process;
pub mod programs;
pub mod prometheus;
pub mod proxy;
pub mod redis;
pub mod redis_cluster;
pub mod scratch;
pub mod screen;
pub mod ssm;
pub mod ssm_client;
pub mod tls_front;
pub mod usage;
pub mod view;
pub mod wait;

pub use canary::Canaries;
pub use cluster::Cluster;
pub use console::Console;
pub use elasticache::ElastiCache;
pub use endpoints::{Endpoints, Scrape};
pub use hash::MirrorHash;
pub use mirrored::{Held, Mirrored};
pub use moto::Moto;
pub use node::Node;
pub use operator::Operator;
pub use process::Process;
pub use prometheus::Prometheus;
pub use proxy::Proxy;
pub use redis::Redis;
pub use redis_cluster::RedisCluster;
pub use scratch::Scratch;
pub use screen::Screen;
pub use ssm::Ssm;
pub use ssm_client::SsmClient;
pub use tls_front::TlsFront;
pub use view::View;
pub use wait::eventually;
