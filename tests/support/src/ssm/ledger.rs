//! What was asked: counters and a log of every request.

use std::collections::BTreeMap;

use super::protocol::Operation;
use super::store::Place;

/// One request that was understood, whatever it was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// What was asked.
    pub operation: Operation,
    /// Whose parameters, and where.
    pub place: Place,
    /// The path of a listing.
    pub path: Option<String>,
    /// The names asked for or written, as sent, selectors included.
    pub names: Vec<String>,
    /// Were values to be decrypted?
    pub with_decryption: bool,
    /// Did it go on from an earlier page?
    pub has_token: bool,
}

/// Counters at one moment, or between two.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Calls {
    by_operation: BTreeMap<Operation, u64>,
    /// Values decrypted, one KMS call each on the real service.
    pub decrypts: u64,
    /// TCP connections accepted.
    pub connections: u64,
}

impl Calls {
    /// Requests for one operation.
    #[must_use]
    pub fn of(&self, operation: Operation) -> u64 {
        self.by_operation.get(&operation).copied().unwrap_or(0)
    }

    /// Requests for all operations.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.by_operation.values().sum()
    }

    /// What happened since an earlier snapshot of the same ledger.
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

/// Counts and remembers; only grows.
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
