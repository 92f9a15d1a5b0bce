//! The service behind the port: understands a request, looks at the store, lets the faults at it.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use super::ledger::{Call, Ledger};
use super::protocol::{self, Answer, Request};
use super::reply::{Content, Reply};
use super::store::{Place, Refusal, Store};
use super::wire::{Head, Service};

/// All that one SSM knows.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) store: Store,
    pub(crate) ledger: Ledger,
    /// The account of callers whose access key says nothing else.
    account: String,
}

/// The state, shared between the port's thread and the test.
#[derive(Debug)]
pub(crate) struct Core(Mutex<State>);

impl Core {
    pub(crate) fn new(account: &str) -> Self {
        let state = State { store: Store::default(), ledger: Ledger::default(), account: account.to_owned() };
        Self(Mutex::new(state))
    }

    /// The state; also after a test's closure panicked while it had it.
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Service for Core {
    fn connected(&self) {
        self.state().ledger.connection();
    }

    fn answer(&self, head: &Head, body: &[u8]) -> Reply {
        self.state().answer(head, body).unwrap_or_else(Reply::from)
    }
}

impl State {
    fn answer(&mut self, head: &Head, body: &[u8]) -> Result<Reply, Refusal> {
        let request = Request::parse(&head.target, body)?;
        let place = self.place(&head.authorization)?;
        self.ledger.call(Call {
            operation: request.operation,
            place: place.clone(),
            path: request.path().map(str::to_owned),
            names: request.names(),
            with_decryption: request.with_decryption(),
            has_token: request.token().is_some(),
        });
        let answer = self.look(&request, &place)?;
        self.ledger.decrypts(answer.decrypted.len());
        Ok(Reply::new(200, Content::Json(answer.body)))
    }

    fn look(&mut self, request: &Request, place: &Place) -> Result<Answer, Refusal> {
        let here = self.store.shelf_mut(place);
        if request.reads() {
            protocol::read(request, place, here)
        } else {
            protocol::write(request, here, now_ms())
        }
    }

    /// Whose parameters, and where: the access key and the Region of the signature's credential scope.
    fn place(&self, authorization: &str) -> Result<Place, Refusal> {
        let scope =
            authorization.split_once("Credential=").and_then(|(_, rest)| rest.split([',', ' ']).next());
        let mut parts = scope.unwrap_or_default().split('/');
        match (parts.next(), parts.next(), parts.next()) {
            (Some(_access_key), Some(_date), Some(region)) => {
                Ok(Place { account: self.account.clone(), region: region.to_owned() })
            }
            _ => Err(Refusal::new("MissingAuthenticationTokenException", "Missing Authentication Token")),
        }
    }
}

/// The wall clock, Unix milliseconds.
pub(crate) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
