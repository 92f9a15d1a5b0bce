//! The parts: an API server, a Redis behind a proxy, an SSM.

use std::time::Duration;

use parameter_mirror_test_support::cluster::Options;
use parameter_mirror_test_support::operator::Settings as OperatorSettings;
use parameter_mirror_test_support::{Cluster, Operator, Proxy, Redis, Scratch, Ssm, fleet, installation};
use tokio::sync::Mutex;

use crate::model::{MAIN, Model, OTHER};
use crate::settings::Settings;

/// The operator's worker threads, on any machine: with two, fewer interleavings happen.
const THREADS: &str = "4";
/// The number of namespaces that take turns in the token bucket.
const NAMESPACES: usize = 4;

/// All parts except the operator.
pub struct Stage {
    _cluster: Cluster,
    pub client: kube::Client,
    pub ssm: Ssm,
    /// A restart needs it exclusively.
    pub redis: Mutex<Redis>,
    /// The operator's path to Redis.
    pub proxy: Proxy,
    pub model: Model,
    settings: OperatorSettings,
    _scratch: Scratch,
}

impl Stage {
    /// Starts the parts and creates all mirrors. No operator runs yet.
    pub async fn start(settings: &Settings) -> Self {
        let cluster = Cluster::start(Options::default()).await;
        installation::install(&cluster).await;
        let (client, ssm, redis) = (cluster.client().await, Ssm::start(), Redis::start().await);
        let proxy = Proxy::start(redis.address()).await;
        let mut namespaces = Vec::new();
        for _ in 0..NAMESPACES {
            namespaces.push(cluster.namespace("soak").await);
        }
        let model = Model::new(settings.mirrors, namespaces);
        model.write_parameters(&ssm);
        for name in [MAIN, OTHER] {
            fleet::create(&fleet::sources(&client), &model.source(name)).await.unwrap();
        }
        fleet::create_mirrors(&client, &model.objects()).await;
        let scratch = Scratch::new("soak").unwrap();
        let mut operator = installation::settings(&cluster, scratch.path(), settings.program.clone()).await;
        operator.ssm = ssm.endpoint();
        operator.redis = Some(redis.url_through(&proxy));
        operator.environment = vec![("TOKIO_WORKER_THREADS".to_owned(), THREADS.to_owned())];
        let redis = Mutex::new(redis);
        Self { _cluster: cluster, client, ssm, redis, proxy, model, settings: operator, _scratch: scratch }
    }

    /// Starts an operator with this request limit.
    pub async fn operator(&self, budget: u32) -> Operator {
        let mut settings = self.settings.clone();
        settings.arguments.push(format!("--ssm-requests-per-second={budget}"));
        Operator::start(settings).await
    }

    /// Returns how long after the last fault every mirror must be correct, at the latest.
    ///
    /// A probe that started during a silence ends after 20 s, the next one comes within 36 s, and then
    /// requests start slowly for 15 s. A mirror whose read fails is read again within its interval. Within
    /// two cycles all mirrors have had their turn. The rest is for a busy machine.
    pub fn deadline(&self, budget: u32) -> Duration {
        let (probe, ramp, busy) = (20.0 + 36.0, 15.0, 30.0);
        let cycle = self.model.requests_per_cycle() / f64::from(budget);
        Duration::from_secs_f64(probe + ramp + Model::LONGEST_INTERVAL.as_secs_f64() + 2.0 * cycle + busy)
    }
}
