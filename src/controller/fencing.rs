//! Fences every write by the term of leadership: reads always go through, and writes fail once the term is over. This is the one
//! place that checks the term before a write, so that no write can forget the check.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use http::{Method, Request};
use kube::Client;
use kube::client::Body;
use parameter_mirror_format::hash::fields::Fields;
use parameter_mirror_redis::ConnectionError;

use crate::kubernetes::leadership::Term;
use crate::targets::redis::RedisBackend;
use crate::targets::redis::{Check, Eviction, Guard, HashStore, Heartbeat, ObservedHash, ScriptOutcome};

const OVER: &str = "the term of this leader is over";

/// Returns a client that writes only during this term.
#[must_use]
pub fn client(client: Client, term: &Term) -> Client {
    let namespace = client.default_namespace().to_owned();
    let term = term.clone();
    let service = tower::service_fn(move |request: Request<Body>| {
        let (client, term) = (client.clone(), term.clone());
        async move {
            if *request.method() == Method::GET || term.is_valid() {
                client.send(request).await
            } else {
                Err(kube::Error::Service(OVER.into()))
            }
        }
    });
    Client::new(service, namespace)
}

/// Returns a Redis that is written only during this term.
#[must_use]
pub fn redis(edge: &RedisBackend, term: &Term) -> RedisBackend {
    match edge {
        RedisBackend::Configured(hashes) => {
            let (hashes, term) = (Arc::clone(hashes), term.clone());
            RedisBackend::Configured(Arc::new(FencedHashes { hashes, term }))
        }
        RedisBackend::NotConfigured(why) => RedisBackend::NotConfigured(why.clone()),
    }
}

struct FencedHashes {
    hashes: Arc<dyn HashStore>,
    term: Term,
}

impl FencedHashes {
    fn may_write(&self) -> Result<(), ConnectionError> {
        if self.term.is_valid() { Ok(()) } else { Err(ConnectionError::Unavailable(OVER.to_owned())) }
    }
}

#[async_trait]
impl HashStore for FencedHashes {
    async fn check(&self, keys: &[&str], within: Duration) -> Result<Vec<Check>, ConnectionError> {
        self.hashes.check(keys, within).await
    }

    async fn observe(&self, key: &str, within: Duration) -> Result<ObservedHash, ConnectionError> {
        self.hashes.observe(key, within).await
    }

    async fn swap(
        &self,
        guard: Guard<'_>,
        fields: &Fields,
        consent: bool,
        within: Duration,
    ) -> Result<ScriptOutcome, ConnectionError> {
        self.may_write()?;
        self.hashes.swap(guard, fields, consent, within).await
    }

    async fn heartbeat(
        &self,
        guard: Guard<'_>,
        heartbeat: Heartbeat,
        checked_mac: Option<&str>,
        within: Duration,
    ) -> Result<ScriptOutcome, ConnectionError> {
        self.may_write()?;
        self.hashes.heartbeat(guard, heartbeat, checked_mac, within).await
    }

    async fn remove(&self, guard: Guard<'_>, within: Duration) -> Result<ScriptOutcome, ConnectionError> {
        self.may_write()?;
        self.hashes.remove(guard, within).await
    }

    async fn eviction(&self, within: Duration) -> Result<Eviction, ConnectionError> {
        self.hashes.eviction(within).await
    }
}
