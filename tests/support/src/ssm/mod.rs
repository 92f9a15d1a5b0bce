//! SSM Parameter Store in the test's own process, over real HTTP, with faults on demand.
//!
//! It follows the documented service where a reader can tell the difference: page sizes, selectors,
//! error bodies, dates, ciphertext. It has the operations in [`Operation`] and no others.
#![allow(clippy::must_use_candidate, reason = "whoever arranges a test seldom needs the version written")]

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
use self::store::{Place, PlanError, Shelf, Write};
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
    /// Starts one on a free port of [`crate::port::address`].
    #[must_use]
    pub fn start() -> Self {
        let core = Arc::new(Core::new(ACCOUNT));
        let port = Port::open("ssm", Arc::clone(&core));
        let place = Place { account: ACCOUNT.to_owned(), region: REGION.to_owned() };
        Self { home: Region::new(Arc::clone(&core), place), core, port }
    }

    /// The base URL.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.port.address())
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.port.address()
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

    /// Sessions of roles last so long from now on, in whole seconds; an hour if nothing is said.
    pub fn sessions_last(&self, lifetime: Duration) {
        self.core.state().sessions.lifetime = lifetime;
    }

    /// The secret keys and tokens of sessions are this from now on: letters and digits, for nobody's log.
    pub fn sessions_hold(&self, secret: &str) {
        secret.clone_into(&mut self.core.state().sessions.secret);
    }

    /// Ends all sessions of roles before their time: their access keys are refused as expired.
    pub fn end_sessions(&self) {
        self.core.state().sessions.end();
    }

    /// The tokens that web identities have shown so far, in order.
    #[must_use]
    pub fn web_identity_tokens(&self) -> Vec<String> {
        self.core.state().sessions.tokens.clone()
    }

    /// Lets a fault loose on the requests for which the condition holds, until it is cleared.
    pub fn fail(&self, when: When, fault: Fault) -> FaultId {
        self.core.state().fail(when, fault)
    }

    /// From now on errors, and pages of HTML in place of an answer, quote this text: it is for nobody's log.
    pub fn quotes(&self, text: &str) {
        self.core.state().quotes = Some(text.to_owned());
    }

    /// Ends a fault. Requests it has silenced stay silent.
    pub fn clear(&self, id: FaultId) {
        self.core.state().faults.clear(id);
    }

    /// Ends all faults.
    pub fn clear_all(&self) {
        self.core.state().faults.clear_all();
    }

    /// How many requests a fault has struck; 0 once it is cleared.
    pub fn hits(&self, id: FaultId) -> u64 {
        self.core.state().faults.hits(id)
    }

    /// Runs something once, after the answer to the first such request was made up and before it is sent.
    pub fn after(&self, when: When, run: impl FnOnce(&Region) + Send + 'static) {
        self.core.state().after(when, Box::new(run));
    }

    /// [`Self::after`] this page of the next listing that gets so far.
    pub fn after_page(&self, page: u64, run: impl FnOnce(&Region) + Send + 'static) {
        self.after(When::any().operation(Operation::GetParametersByPath).page(page), run);
    }

    /// Takes every request and answers none, until [`Self::thaw`]: the black hole.
    pub fn freeze(&self) {
        self.fail(When::any(), Fault::Silent);
    }

    /// Ends all faults, and with them [`Self::freeze`]. Requests that came before stay unanswered.
    pub fn thaw(&self) {
        self.clear_all();
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
    fn new(core: Arc<Core>, place: Place) -> Self {
        Self { core, place }
    }

    /// The same account in another Region.
    #[must_use]
    pub fn region(&self, region: &str) -> Self {
        let place = Place { region: region.to_owned(), ..self.place.clone() };
        Self::new(Arc::clone(&self.core), place)
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

fn legal<T>(name: &str, outcome: Result<T, PlanError>) -> T {
    outcome.unwrap_or_else(|PlanError { code, message }| panic!("{name}: {code}: {message}"))
}
