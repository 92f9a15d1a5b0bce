//! Reports when Redis may evict what is served. The next check restores a mirror, but until then readers find nothing.

use std::sync::Arc;
use std::time::Duration;

use crate::metrics::registry::Metrics;
use crate::targets::redis::copy::OBSERVE;
use crate::targets::redis::{Eviction, HashStore};

/// How often Redis is asked: its policy seldom changes, but a failover may lead to a server with another one.
const EVERY: Duration = Duration::from_mins(10);
/// How often a Redis is asked that did not answer.
const RETRY: Duration = Duration::from_secs(30);

/// Asks for as long as it is polled, and logs one line each time the answer changes.
pub async fn watch(redis: Arc<dyn HashStore>, metrics: Arc<Metrics>) {
    let mut reported = Eviction::SparesOurs;
    loop {
        let pause = match redis.eviction(OBSERVE).await {
            Ok(eviction) => {
                if eviction != reported {
                    log(&eviction);
                }
                metrics.redis_evicts(eviction != Eviction::SparesOurs);
                reported = eviction;
                EVERY
            }
            // Redis denies the question: the policy is unknown, and that is not an issue.
            Err(error) if error.is_denied() => EVERY,
            Err(_) => RETRY,
        };
        tokio::time::sleep(pause).await;
    }
}

fn log(eviction: &Eviction) {
    match eviction {
        Eviction::TakesAny { policy } => {
            tracing::warn!(
                policy,
                "Redis evicts any key when its memory is full, mirrors too; what goes comes back at the next check. Set maxmemory-policy to noeviction or a volatile one"
            );
        }
        Eviction::SparesOurs => {
            tracing::info!("Redis no longer evicts keys without an end of life");
        }
    }
}
