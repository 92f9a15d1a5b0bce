//! SSM Parameter Store in the test's own process, over real HTTP, with faults on demand.
//!
//! It follows the documented service in everything a reader can observe: page sizes, selectors, error bodies,
//! dates, ciphertext. It has only the operations in [`Operation`].
#![allow(clippy::must_use_candidate, reason = "tests seldom need the version written")]

pub mod coded;
mod core;
mod disturb;
pub mod faults;
pub mod ledger;
mod paging;
mod protocol;
mod reply;
pub mod store;
mod sts;
#[cfg(test)]
mod tests;
mod wire;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

pub use faults::{Body, Fault, FaultId, When};
pub use ledger::{Call, Calls};
pub use protocol::Operation;
pub use store::Kind;

use self::core::{Core, now_ms};
use self::store::{Place, Shelf, SsmRefusal, Write};
use self::wire::Port;

/// The account of callers whose access key does not determine one.
pub const ACCOUNT: &str = "111122223333";
/// The Region of [`Ssm`]'s own methods.
pub const REGION: &str = "us-east-1";

/// A running service; dropping it stops it.
#[derive(Debug)]
pub struct Ssm {
    core: Arc<Core>,
    port: Port,
    home: Region,
}

/// Direct access to the parameters of one account in one Region, without HTTP, to prepare a test.
#[derive(Clone, Debug)]
pub struct Region {
    core: Arc<Core>,
    place: Place,
}

impl Ssm {
    /// Starts a service on a free port of [`crate::port::address`].
    #[must_use]
    pub fn start() -> Self {
        let core = Arc::new(Core::new(ACCOUNT));
        let port = Port::open("ssm", Arc::clone(&core));
        let place = Place { account: ACCOUNT.to_owned(), region: REGION.to_owned() };
        Self { home: Region::new(Arc::clone(&core), place), core, port }
    }

    /// Returns the base URL.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.port.address())
    }

    /// Returns the address it listens on.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.port.address()
    }

    /// Returns the same account in another Region.
    #[must_use]
    pub fn region(&self, region: &str) -> Region {
        self.home.region(region)
    }

    /// Returns another account in the default Region.
    #[must_use]
    pub fn account(&self, account: &str) -> Region {
        let place = Place { account: account.to_owned(), region: REGION.to_owned() };
        Region::new(Arc::clone(&self.core), place)
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

    /// Returns the counters so far.
    #[must_use]
    pub fn calls(&self) -> Calls {
        self.core.state().ledger.snapshot()
    }

    /// Returns every request so far, in the order of arrival.
    #[must_use]
    pub fn log(&self) -> Vec<Call> {
        self.core.state().ledger.log().to_vec()
    }

    /// Sets the lifetime of new role sessions, in whole seconds; the default is an hour.
    pub fn sessions_last(&self, lifetime: Duration) {
        self.core.state().sessions.lifetime = lifetime;
    }

    /// Sets the secret keys and tokens of new sessions: letters and digits that must not appear in any log.
    pub fn sessions_hold(&self, secret: &str) {
        secret.clone_into(&mut self.core.state().sessions.secret);
    }

    /// Expires all role sessions: their access keys are refused.
    pub fn end_sessions(&self) {
        self.core.state().sessions.end();
    }

    /// Returns the tokens of all web identities so far, in order.
    #[must_use]
    pub fn web_identity_tokens(&self) -> Vec<String> {
        self.core.state().sessions.tokens.clone()
    }

    /// Applies a fault to the requests that match the condition, until it is cleared.
    pub fn fail(&self, when: When, fault: Fault) -> FaultId {
        self.core.state().fail(when, fault)
    }

    /// Makes errors, and HTML pages sent as answers, quote this text. It must not appear in any log.
    pub fn quotes(&self, text: &str) {
        self.core.state().quotes = Some(text.to_owned());
    }

    /// Removes a fault. Requests it has silenced stay silent.
    pub fn clear(&self, id: FaultId) {
        self.core.state().faults.clear(id);
    }

    /// Removes all faults.
    pub fn clear_all(&self) {
        self.core.state().faults.clear_all();
    }

    /// Returns how many requests a fault has hit; 0 once it is cleared.
    pub fn hits(&self, id: FaultId) -> u64 {
        self.core.state().faults.hits(id)
    }

    /// Runs a hook once, after the answer to the first matching request was computed and before it is sent.
    pub fn after(&self, when: When, run: impl FnOnce(&Region) + Send + 'static) {
        self.core.state().after(when, Box::new(run));
    }

    /// [`Self::after`] this page of the next listing that has so many pages.
    pub fn after_page(&self, page: u64, run: impl FnOnce(&Region) + Send + 'static) {
        self.after(When::any().operation(Operation::GetParametersByPath).page(page), run);
    }

    /// Accepts every request and answers none, until [`Self::thaw`], like a black hole.
    pub fn freeze(&self) {
        self.fail(When::any(), Fault::Silent);
    }

    /// Removes all faults, including [`Self::freeze`]. Earlier requests stay unanswered.
    pub fn thaw(&self) {
        self.clear_all();
    }

    /// Closes all connections and refuses new ones. The port stays reserved.
    pub fn refuse(&self) {
        self.port.refuse();
    }

    /// Reverts [`Self::refuse`], on the same port.
    pub fn listen_again(&self) {
        self.port.listen_again();
    }
}

impl Region {
    fn new(core: Arc<Core>, place: Place) -> Self {
        Self { core, place }
    }

    /// Returns the same account in another Region.
    #[must_use]
    pub fn region(&self, region: &str) -> Self {
        let place = Place { region: region.to_owned(), ..self.place.clone() };
        Self::new(Arc::clone(&self.core), place)
    }

    /// Writes a `String`, new or existing; returns the version.
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

    /// Deletes a parameter, which must exist.
    pub fn delete(&self, name: &str) {
        assert!(self.change(|shelf| shelf.delete(name)), "{name} is not there to be deleted");
    }

    /// Moves a label to a version.
    pub fn label(&self, name: &str, version: u64, label: &str) {
        let (_, illegal) =
            legal(name, self.change(|shelf| shelf.label(name, Some(version), &[label.to_owned()])));
        assert!(illegal.is_empty(), "{label} is not a legal label");
    }

    /// Changes parameters atomically: no request sees half of the change.
    pub fn change<T>(&self, change: impl FnOnce(&mut Shelf) -> T) -> T {
        change(self.core.state().store.shelf_mut(&self.place))
    }
}

fn legal<T>(name: &str, outcome: Result<T, SsmRefusal>) -> T {
    outcome.unwrap_or_else(|SsmRefusal { code, message }| panic!("{name}: {code}: {message}"))
}
