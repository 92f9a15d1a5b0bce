//! What stands between one incarnation of an operator and the world: every call at an edge passes here, has a name, and can
//! be refused, lost, delayed, or be the last thing that the process did.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use parameter_mirror::mirror::snapshot::ReadErrorKind;
use parameter_mirror_redis::ConnectionError;
use tokio::sync::watch;

/// What a call leaves the process for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Edge {
    Kubernetes,
    Redis,
    Ssm,
}

/// One call at an edge.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Call {
    /// Which incarnation makes it, counted from 0.
    pub operator: usize,
    pub edge: Edge,
    /// Verb and object, e.g. `replace secrets/checkout`.
    pub point: String,
}

/// How a call goes wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It never happens, and fails at once as if nobody were there.
    Refused,
    /// It never happens, and is never answered.
    Silent,
    /// It happens, and the connection breaks before the answer.
    Lost,
    /// It happens, and is never answered.
    Mute,
    /// It happens after so long.
    Slow(Duration),
    /// The code at the edge panics, with this text.
    Panics(String),
    /// It is never answered, and no deadline of the edge counts.
    Stuck,
    /// SSM answers this.
    Source(ReadErrorKind),
    /// Redis answers this.
    Redis(ConnectionError),
    /// The API server answers this HTTP status.
    Http(u16),
}

/// What the world does to calls; asked for each of them.
pub type FaultPolicy = Box<dyn FnMut(&Call) -> Option<Fault> + Send>;

/// The weather, shared by all incarnations.
#[derive(Clone, Default)]
pub struct FaultInjector(Arc<Mutex<Option<FaultPolicy>>>);

impl FaultInjector {
    /// From now on this is done to calls.
    pub fn set(&self, policy: impl FnMut(&Call) -> Option<Fault> + Send + 'static) {
        *self.lock() = Some(Box::new(policy));
    }

    /// From now on nothing is.
    pub fn clear(&self) {
        *self.lock() = None;
    }

    fn inject(&self, call: &Call) -> Option<Fault> {
        self.lock().as_mut().and_then(|policy| policy(call))
    }

    fn lock(&self) -> MutexGuard<'_, Option<FaultPolicy>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where in a call the process ends or stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Before,
    After,
}

/// What happens to the process at a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CrashMode {
    /// As after SIGKILL.
    Dies,
    /// As after SIGSTOP, until [`Line::resume`].
    Stops,
}

/// How a process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Running,
    Stopped,
    Dead,
}

/// The line of one incarnation.
#[derive(Clone)]
pub struct Line(Arc<Inner>);

struct Inner {
    operator: usize,
    faults: FaultInjector,
    state: watch::Sender<State>,
    calls: Mutex<Vec<Call>>,
    /// What happens to the process at which call, counted from 0.
    doom: Mutex<Option<(usize, Side, CrashMode)>>,
}

impl Line {
    pub fn new(operator: usize, faults: FaultInjector) -> Self {
        let state = watch::Sender::new(State::Running);
        Self(Arc::new(Inner { operator, faults, state, calls: Mutex::default(), doom: Mutex::default() }))
    }

    /// From this call on the process is dead or stopped.
    pub fn doom(&self, call: usize, side: Side, mode: CrashMode) {
        *self.0.doom.lock().unwrap() = Some((call, side, mode));
    }

    /// Nothing of the process ever does anything again.
    pub fn kill(&self) {
        self.0.state.send_replace(State::Dead);
    }

    /// Nothing of the process does anything for now.
    pub fn stop(&self) {
        self.0.state.send_replace(State::Stopped);
    }

    /// The process goes on where it stopped.
    pub fn resume(&self) {
        self.0.state.send_replace(State::Running);
    }

    pub fn state(&self) -> State {
        *self.0.state.borrow()
    }

    /// Waits until the process is in this state.
    pub async fn becomes(&self, state: State) {
        self.0.state.subscribe().wait_for(|is| *is == state).await.unwrap();
    }

    /// All calls so far.
    pub fn calls(&self) -> Vec<Call> {
        self.0.calls.lock().unwrap().clone()
    }

    /// One call: `act` is what it does to the world. The fault tells the edge what to answer instead.
    pub async fn call<T>(&self, edge: Edge, point: String, act: impl FnOnce() -> T) -> Result<T, Fault> {
        self.alive().await;
        let call = Call { operator: self.0.operator, edge, point };
        let number = {
            let mut calls = self.0.calls.lock().unwrap();
            calls.push(call.clone());
            calls.len() - 1
        };
        self.meet(number, Side::Before).await;
        let fault = self.0.faults.inject(&call);
        match &fault {
            Some(Fault::Silent) => std::future::pending().await,
            Some(Fault::Panics(text)) => panic!("as scripted: {text}"),
            Some(Fault::Slow(pause)) => tokio::time::sleep(*pause).await,
            Some(Fault::Lost | Fault::Mute) | None => tokio::time::sleep(Duration::from_millis(1)).await,
            Some(fault) => return Err(fault.clone()),
        }
        // It may have died or been stopped while the call was on its way.
        let done = act();
        self.meet(number, Side::After).await;
        self.alive().await;
        match fault {
            Some(Fault::Mute) => std::future::pending().await,
            Some(Fault::Lost) => Err(Fault::Lost),
            _ => Ok(done),
        }
    }

    /// Waits while the process is stopped; for ever if it is dead.
    pub async fn alive(&self) {
        if self.state() != State::Running {
            self.becomes(State::Running).await;
        }
    }

    async fn meet(&self, number: usize, side: Side) {
        let mode = self.0.doom.lock().unwrap().take_if(|(at, on, _)| (*at, *on) == (number, side));
        match mode {
            Some((_, _, CrashMode::Dies)) => self.kill(),
            Some((_, _, CrashMode::Stops)) => self.stop(),
            None => {}
        }
        self.alive().await;
    }
}
