//! A record of requests: counters, and a log of every request.

use std::collections::BTreeMap;

use super::protocol::Operation;
use super::store::Place;

/// One parsed request, whatever its answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// The operation.
    pub operation: Operation,
    /// The account and Region.
    pub place: Place,
    /// The path of a listing.
    pub path: Option<String>,
    /// The requested or written names, as sent, with selectors.
    pub names: Vec<String>,
    /// Whether it asks for decryption.
    pub with_decryption: bool,
    /// Whether it continues a listing.
    pub has_token: bool,
}

/// Counters at a moment, or the difference between two moments.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Calls {
    by_operation: BTreeMap<Operation, u64>,
    /// Decrypted values. On AWS, each is one KMS call.
    pub decrypts: u64,
    /// Accepted TCP connections.
    pub connections: u64,
}

impl Calls {
    /// Returns the number of requests for one operation.
    #[must_use]
    pub fn of(&self, operation: Operation) -> u64 {
        self.by_operation.get(&operation).copied().unwrap_or(0)
    }

    /// Returns the number of all requests.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.by_operation.values().sum()
    }

    /// Returns the difference to an earlier snapshot of the same ledger.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let by_operation =
            self.by_operation.iter().map(|(&operation, &count)| (operation, count - earlier.of(operation)));
        Self {
            by_operation: by_operation.filter(|&(_, count)| count > 0).collect(),
            decrypts: self.decrypts - earlier.decrypts,
            connections: self.connections - earlier.connections,
        }
    }
}

/// Counts and logs requests; never shrinks.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    calls: Calls,
    log: Vec<Call>,
}

impl Ledger {
    pub(crate) fn connection(&mut self) {
        self.calls.connections += 1;
    }

    pub(crate) fn call(&mut self, call: Call) {
        *self.calls.by_operation.entry(call.operation).or_default() += 1;
        self.log.push(call);
    }

    pub(crate) fn decrypts(&mut self, values: usize) {
        self.calls.decrypts += values as u64;
    }

    pub(crate) fn snapshot(&self) -> Calls {
        self.calls.clone()
    }

    pub(crate) fn log(&self) -> &[Call] {
        &self.log
    }
}
