//! Measures every call to SSM and Redis, where it leaves the operator.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parameter_mirror_clock::Clock;
use parameter_mirror_format::hash::fields::Fields;
use parameter_mirror_redis::ConnectionError;
use parameter_mirror_ssm::credentials::CredentialsHealth;
use parameter_mirror_ssm::{Batch, ListPage, Page};
use tokio::sync::watch;

use crate::metrics::latency::Latencies;
use crate::mirror::plan::SourceIdentity;
use crate::mirror::selection::Selection;
use crate::mirror::snapshot::ReadError;
use crate::ssm::api::{Connect, ParameterApi};
use crate::targets::redis::{
    Check, Eviction, Guard, HashStore, Heartbeat, ObservedHash, RedisBackend, ScriptOutcome,
};

/// Something whose calls are measured.
pub struct Measured<T> {
    inner: T,
    latencies: Latencies,
    clock: Clock,
}

impl<T> Measured<T> {
    /// Measures the calls of `inner`.
    pub const fn new(inner: T, latencies: Latencies, clock: Clock) -> Self {
        Self { inner, latencies, clock }
    }
}

/// Returns a Redis whose commands are measured.
#[must_use]
pub fn redis(backend: RedisBackend, latencies: &Latencies, clock: &Clock) -> RedisBackend {
    match backend {
        RedisBackend::Configured(hashes) => {
            RedisBackend::Configured(Arc::new(Measured::new(hashes, latencies.clone(), clock.clone())))
        }
        none @ RedisBackend::NotConfigured(_) => none,
    }
}

#[async_trait]
impl Connect for Measured<Box<dyn Connect>> {
    async fn connect(&self, identity: &SourceIdentity) -> Arc<dyn ParameterApi> {
        let inner = self.inner.connect(identity).await;
        Arc::new(Measured::new(inner, self.latencies.clone(), self.clock.clone()))
    }

    fn recoveries(&self) -> watch::Sender<u64> {
        self.inner.recoveries()
    }

    fn credentials(&self, of: &HashSet<SourceIdentity>) -> Vec<CredentialsHealth> {
        self.inner.credentials(of)
    }
}

impl Measured<Arc<dyn ParameterApi>> {
    async fn request<T: Send>(
        &self,
        operation: &'static str,
        call: impl Future<Output = Result<T, ReadError>> + Send,
    ) -> Result<T, ReadError> {
        let began = self.clock.uptime();
        let outcome = call.await;
        self.latencies.request(operation, self.clock.uptime().saturating_sub(began), &outcome);
        outcome
    }
}

#[async_trait]
impl ParameterApi for Measured<Arc<dyn ParameterApi>> {
    async fn list(&self, page: ListPage<'_>) -> Result<Page, ReadError> {
        self.request("GetParametersByPath", self.inner.list(page)).await
    }

    async fn get(&self, names: &[String], decrypt: bool) -> Result<Batch, ReadError> {
        self.request("GetParameters", self.inner.get(names, decrypt)).await
    }

    async fn probe(&self, selection: &Selection) -> Result<(), ReadError> {
        let operation = match selection {
            Selection::Path(_) => "GetParametersByPath",
            Selection::Name(_) => "GetParameters",
        };
        self.request(operation, self.inner.probe(selection)).await
    }

    async fn ready(&self) -> Result<(), ReadError> {
        self.inner.ready().await
    }
}

impl Measured<Arc<dyn HashStore>> {
    async fn command<T: Send>(
        &self,
        command: &'static str,
        call: impl Future<Output = Result<T, ConnectionError>> + Send,
    ) -> Result<T, ConnectionError> {
        let began = self.clock.uptime();
        let outcome = call.await;
        let took = self.clock.uptime().saturating_sub(began);
        let is_up = outcome.as_ref().err().is_none_or(|error| !error.is_of_the_connection());
        self.latencies.command(command, took, outcome.is_err(), is_up);
        outcome
    }
}

#[async_trait]
impl HashStore for Measured<Arc<dyn HashStore>> {
    async fn check(&self, keys: &[&str], within: Duration) -> Result<Vec<Check>, ConnectionError> {
        self.command("check", self.inner.check(keys, within)).await
    }

    async fn observe(&self, key: &str, within: Duration) -> Result<ObservedHash, ConnectionError> {
        self.command("read", self.inner.observe(key, within)).await
    }

    async fn swap(
        &self,
        guard: Guard<'_>,
        fields: &Fields,
        consent: bool,
        within: Duration,
    ) -> Result<ScriptOutcome, ConnectionError> {
        self.command("write", self.inner.swap(guard, fields, consent, within)).await
    }

    async fn heartbeat(
        &self,
        guard: Guard<'_>,
        heartbeat: Heartbeat,
        checked_mac: Option<&str>,
        within: Duration,
    ) -> Result<ScriptOutcome, ConnectionError> {
        self.command("heartbeat", self.inner.heartbeat(guard, heartbeat, checked_mac, within)).await
    }

    async fn remove(&self, guard: Guard<'_>, within: Duration) -> Result<ScriptOutcome, ConnectionError> {
        self.command("remove", self.inner.remove(guard, within)).await
    }

    async fn eviction(&self, within: Duration) -> Result<Eviction, ConnectionError> {
        self.command("config", self.inner.eviction(within)).await
    }
}
