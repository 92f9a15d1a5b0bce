//! The service behind the port: parses a request, reads or changes the store, and applies the faults.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use super::disturb::Outcome;
use super::faults::{Facts, Fault, FaultId, Faults, When};
use super::ledger::{Call, Ledger};
use super::protocol::{self, Answer, Request};
use super::reply::Reply;
use super::store::{Place, Shelf, SsmRefusal, Store};
use super::sts::Sessions;
use super::wire::{Head, Service};
use super::{REGION, Region, sts};

/// Runs once, after the answer to a request was computed and before it is sent.
type Afterwards = Box<dyn FnOnce(&Region) + Send>;

/// The whole state of one SSM.
pub(crate) struct State {
    pub(crate) store: Store,
    pub(crate) ledger: Ledger,
    pub(crate) faults: Faults,
    pub(crate) sessions: Sessions,
    afterwards: Vec<(When, Afterwards)>,
    /// Text that invalid answers and errors quote.
    pub(crate) quotes: Option<String>,
    /// The account of callers whose access key does not determine one.
    account: String,
}

/// The state, shared between the port's thread and the test.
pub(crate) struct Core(Mutex<State>);

impl Core {
    pub(crate) fn new(account: &str) -> Self {
        Self(Mutex::new(State {
            store: Store::default(),
            ledger: Ledger::default(),
            faults: Faults::default(),
            sessions: Sessions::default(),
            afterwards: Vec::new(),
            quotes: None,
            account: account.to_owned(),
        }))
    }

    /// Locks the state, even after a test's closure panicked while it held the lock.
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Core {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Core").finish_non_exhaustive()
    }
}

impl Service for Core {
    fn connected(&self) {
        self.state().ledger.connection();
    }

    fn answer(self: &Arc<Self>, head: &Head, body: &[u8]) -> Reply {
        // The lock is released here, because the hook below acquires it.
        let answered = self.state().answer(head, body);
        match answered {
            Ok((reply, place, afterwards)) => {
                let here = Region::new(Arc::clone(self), place);
                for run in afterwards {
                    run(&here);
                }
                reply
            }
            Err(refusal) => refusal.into(),
        }
    }
}

impl State {
    pub(crate) fn fail(&mut self, when: When, fault: Fault) -> FaultId {
        self.faults.add(when, fault, &self.store)
    }

    pub(crate) fn after(&mut self, when: When, run: Afterwards) {
        self.afterwards.push((when, run));
    }

    fn answer(&mut self, head: &Head, body: &[u8]) -> Result<(Reply, Place, Vec<Afterwards>), SsmRefusal> {
        if let Some(request) = sts::Request::parse(body) {
            return Ok(self.session(&request, &head.authorization));
        }
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
        let (outcome, facts) =
            if request.reads() { self.read(&request, &place) } else { self.write(&request, &place) };
        if let Ok(answer) = &outcome.result
            && outcome.answers()
        {
            self.ledger.decrypts(answer.decrypted.len());
        }
        let due = self.afterwards.extract_if(.., |(when, _)| when.holds(&facts));
        let afterwards = due.map(|(_, run)| run).collect();
        let reply = Reply { quotes: self.quotes.clone(), ..outcome.into_reply() };
        Ok((reply, place, afterwards))
    }

    fn read(&mut self, request: &Request, place: &Place) -> (Outcome, Facts) {
        let answer = protocol::read(request, place, self.store.shelf(place).unwrap_or(&Shelf::default()));
        let mut facts = facts(request, place, answer.as_ref().ok());
        let mut outcome = Outcome::new(answer.map_err(Reply::from));
        for scripted in &mut self.faults.scripted {
            let stale = scripted.snapshot.as_ref().map(|earlier| {
                let then = earlier_shelf(&self.store, earlier, &scripted.when, place);
                protocol::read(request, place, &then)
            });
            if let Some(Ok(answer)) = &stale {
                facts.touch(answer);
            }
            if !scripted.strikes(&facts) {
                continue;
            }
            match stale {
                Some(answer) => outcome.result = answer.map_err(Reply::from),
                None => outcome.apply(&scripted.fault, &scripted.when, request.token()),
            }
        }
        (outcome, facts)
    }

    /// Carries out a write. Faults come first: a refused request writes nothing; a request whose answer is
    /// lost does write.
    fn write(&mut self, request: &Request, place: &Place) -> (Outcome, Facts) {
        let facts = facts(request, place, None);
        let mut outcome = Outcome::new(Ok(Answer::default()));
        for scripted in &mut self.faults.scripted {
            if scripted.strikes(&facts) {
                outcome.apply(&scripted.fault, &scripted.when, None);
            }
        }
        if outcome.result.is_ok() {
            let answer = protocol::write(request, self.store.shelf_mut(place), now_ms());
            outcome.result = answer.map_err(Reply::from);
        }
        (outcome, facts)
    }

    fn session(&mut self, request: &sts::Request, authorization: &str) -> (Reply, Place, Vec<Afterwards>) {
        let here = Place { account: self.account.clone(), region: REGION.to_owned() };
        let caller = match &request.token {
            Some(_) => Ok(here.clone()),
            None => self.place(authorization),
        };
        match caller {
            Ok(place) => (self.assume_role(request, &place), place, Vec::new()),
            Err(refusal) => (sts::refused_caller(&refusal), here, Vec::new()),
        }
    }

    fn assume_role(&mut self, request: &sts::Request, place: &Place) -> Reply {
        self.ledger.call(Call {
            operation: request.operation,
            place: place.clone(),
            path: None,
            names: vec![request.role.clone()],
            with_decryption: false,
            has_token: false,
        });
        let facts = Facts {
            operation: request.operation,
            place: place.clone(),
            path: None,
            page: None,
            names: BTreeSet::from([request.role.clone()]),
            decrypted: BTreeSet::new(),
        };
        let mut outcome = Outcome::new(Err(self.sessions.open(request, now_ms())));
        for scripted in &mut self.faults.scripted {
            if !scripted.strikes(&facts) {
                continue;
            }
            match &scripted.fault {
                Fault::Coded(coded) => outcome.result = Err(sts::error(coded)),
                fault => outcome.apply(fault, &scripted.when, None),
            }
        }
        Reply { quotes: self.quotes.clone(), ..outcome.into_reply() }
    }

    /// Returns the account and Region of a request, from the access key and the Region in the signature's
    /// credential scope.
    fn place(&self, authorization: &str) -> Result<Place, SsmRefusal> {
        let scope =
            authorization.split_once("Credential=").and_then(|(_, rest)| rest.split([',', ' ']).next());
        let mut parts = scope.unwrap_or_default().split('/');
        match (parts.next(), parts.next(), parts.next()) {
            (Some(access_key), Some(_date), Some(region)) => {
                let account = self.sessions.account(access_key, now_ms()).unwrap_or(Ok(&self.account))?;
                Ok(Place { account: account.to_owned(), region: region.to_owned() })
            }
            _ => Err(SsmRefusal::new("MissingAuthenticationTokenException", "Missing Authentication Token")),
        }
    }
}

/// Returns the content of a place at an earlier moment. If the fault names parameters, only these are from
/// earlier.
fn earlier_shelf<'a>(now: &Store, earlier: &'a Store, when: &When, place: &Place) -> Cow<'a, Shelf> {
    let then = earlier.shelf(place);
    if when.aims().is_empty() {
        return then.map_or_else(|| Cow::Owned(Shelf::default()), Cow::Borrowed);
    }
    let mut mixed = now.shelf(place).cloned().unwrap_or_default();
    for name in when.aims() {
        mixed.restore(name, then);
    }
    Cow::Owned(mixed)
}

fn facts(request: &Request, place: &Place, answer: Option<&Answer>) -> Facts {
    let mut facts = Facts {
        operation: request.operation,
        place: place.clone(),
        path: request.path().map(str::to_owned),
        page: None,
        names: request.bare_names(),
        decrypted: BTreeSet::new(),
    };
    if let Some(answer) = answer {
        facts.touch(answer);
    }
    facts
}

/// Returns the wall clock in Unix milliseconds.
pub(crate) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
