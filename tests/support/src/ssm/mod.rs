//! SSM Parameter Store in the test's own process, over real HTTP, with faults on demand.
//!
//! It follows the documented service where a reader can tell the difference: page sizes, selectors,
//! error bodies, dates, ciphertext. It has the operations in [`Operation`] and no others.
#![allow(clippy::must_use_candidate, reason = "whoever arranges a test seldom needs the version written")]

mod core;
pub mod ledger;
mod paging;
mod protocol;
mod reply;
pub mod store;
#[cfg(test)]
mod tests;
mod wire;

use std::sync::Arc;

pub use ledger::{Call, Calls};
pub use protocol::Operation;
pub use store::Kind;

use self::core::{Core, now_ms};
use self::store::{Place, Refusal, Shelf, Write};
use self::wire::Port;

/// The account of callers whose access key says nothing else.
pub const ACCOUNT: &str = "111122223333";
/// The Region of [`Ssm`]'s own methods.
pub const REGION: &str = "us-east-1";

/// A running service; gone on drop.
#[derive(Debug)]
pub struct Ssm {
    core: Arc<Core>,
    port: Port,
    home: Region,
}

/// The parameters of one account in one Region, past HTTP: for arranging a test.
#[derive(Clone, Debug)]
pub struct Region {
    core: Arc<Core>,
    place: Place,
}

impl Ssm {
    /// Starts one on a free port of 127.0.0.1.
    #[must_use]
    pub fn start() -> Self {
        let core = Arc::new(Core::new(ACCOUNT));
        let port = Port::open("ssm", Arc::clone(&core));
        let place = Place { account: ACCOUNT.to_owned(), region: REGION.to_owned() };
        Self { home: Region { core: Arc::clone(&core), place }, core, port }
    }

    /// The base URL.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.port.address())
    }

    /// The same account in another Region.
    #[must_use]
    pub fn region(&self, region: &str) -> Region {
        self.home.region(region)
    }

    /// Another account in the default Region.
    #[must_use]
    pub fn account(&self, account: &str) -> Region {
        let place = Place { account: account.to_owned(), region: REGION.to_owned() };
        Region { core: Arc::clone(&self.core), place }
    }

    /// [`Region::put`] in [`REGION`].
    pub fn put(&self, name: &str, value: &str) -> u64 {
        self.home.put(name, value)
    }

    /// [`Region::put_list`] in [`REGION`].
    pub fn put_list(&self, name: &str, value: &str) -> u64 {
        self.home.put_list(name, value)
    }

    /// [`Region::put_secure`] in [`REGION`].
    pub fn put_secure(&self, name: &str, value: &str) -> u64 {
        self.home.put_secure(name, value)
    }

    /// [`Region::delete`] in [`REGION`].
    pub fn delete(&self, name: &str) {
        self.home.delete(name);
    }

    /// [`Region::label`] in [`REGION`].
    pub fn label(&self, name: &str, version: u64, label: &str) {
        self.home.label(name, version, label);
    }

    /// What was asked so far.
    #[must_use]
    pub fn calls(&self) -> Calls {
        self.core.state().ledger.snapshot()
    }

    /// Every request so far, in the order they came.
    #[must_use]
    pub fn log(&self) -> Vec<Call> {
        self.core.state().ledger.log().to_vec()
    }

    /// Closes all connections and refuses new ones, on a port that stays ours.
    pub fn refuse(&self) {
        self.port.refuse();
    }

    /// Ends [`Self::refuse`], on the same port.
    pub fn listen_again(&self) {
        self.port.listen_again();
    }
}

impl Region {
    /// The same account in another Region.
    #[must_use]
    pub fn region(&self, region: &str) -> Self {
        let place = Place { region: region.to_owned(), ..self.place.clone() };
        Self { core: Arc::clone(&self.core), place }
    }

    /// Writes a `String`, new or over an old one; returns the version.
    pub fn put(&self, name: &str, value: &str) -> u64 {
        self.put_kind(name, value, Kind::String)
    }

    /// Writes a `StringList`; the items are joined with commas.
    pub fn put_list(&self, name: &str, value: &str) -> u64 {
        self.put_kind(name, value, Kind::StringList)
    }

    /// Writes a `SecureString`.
    pub fn put_secure(&self, name: &str, value: &str) -> u64 {
        self.put_kind(name, value, Kind::SecureString)
    }

    /// Writes a parameter dated now.
    pub fn put_kind(&self, name: &str, value: &str, kind: Kind) -> u64 {
        self.put_at(name, value, kind, now_ms())
    }

    /// Writes a parameter with a date, Unix milliseconds.
    pub fn put_at(&self, name: &str, value: &str, kind: Kind, now_ms: u64) -> u64 {
        let write =
            Write { name, value, kind: Some(kind), overwrite: true, advanced: true, data_type: None, now_ms };
        legal(name, self.change(|shelf| shelf.put(&write)))
    }

    /// Removes a parameter, which must exist.
    pub fn delete(&self, name: &str) {
        assert!(self.change(|shelf| shelf.delete(name)), "{name} is not there to be deleted");
    }

    /// Moves a label to a version.
    pub fn label(&self, name: &str, version: u64, label: &str) {
        let (_, illegal) =
            legal(name, self.change(|shelf| shelf.label(name, Some(version), &[label.to_owned()])));
        assert!(illegal.is_empty(), "{label} is not a legal label");
    }

    /// Changes parameters in one step: no request sees half of it.
    pub fn change<T>(&self, change: impl FnOnce(&mut Shelf) -> T) -> T {
        change(self.core.state().store.shelf_mut(&self.place))
    }
}

fn legal<T>(name: &str, outcome: Result<T, Refusal>) -> T {
    outcome.unwrap_or_else(|Refusal { code, message }| panic!("{name}: {code}: {message}"))
}
