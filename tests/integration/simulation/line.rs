//! The line between one incarnation of an operator and the world. Every call at an edge goes through it, has
//! a name, and can be refused, lost, delayed, or the last thing that the process does.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use parameter_mirror::mirror::snapshot::ReadErrorKind;
use parameter_mirror_redis::ConnectionError;
use tokio::sync::watch;

/// The system that a call goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Edge {
    Kubernetes,
    Redis,
    Ssm,
}

/// One call at an edge.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Call {
    /// The incarnation that makes the call, counted from 0.
    pub operator: usize,
    pub edge: Edge,
    /// Verb and object, e.g. `replace secrets/checkout`.
    pub point: String,
}

/// How a call fails.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It is not executed, and fails at once as if there were no server.
    Refused,
    /// It is not executed, and never answered.
    Silent,
    /// It is executed, and the connection breaks before the answer.
    Lost,
    /// It is executed, and never answered.
    Mute,
    /// It is executed after this delay.
    Slow(Duration),
    /// The code at the edge panics with this message.
    Panics(String),
    /// It is never answered, and the deadlines of the edge do not apply.
    Stuck,
    /// SSM answers with this error.
    Source(ReadErrorKind),
    /// Redis answers with this error.
    Redis(ConnectionError),
    /// The API server answers with this HTTP status.
    Http(u16),
}

/// Decides the fault of each call.
pub type FaultPolicy = Box<dyn FnMut(&Call) -> Option<Fault> + Send>;

/// The fault policy, shared by all incarnations.
#[derive(Clone, Default)]
pub struct FaultInjector(Arc<Mutex<Option<FaultPolicy>>>);

impl FaultInjector {
    /// Sets the policy.
    pub fn set(&self, policy: impl FnMut(&Call) -> Option<Fault> + Send + 'static) {
        *self.lock() = Some(Box::new(policy));
    }

    /// Removes the policy: no call fails.
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

/// The side of a call on which the process ends or stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Before,
    After,
}

/// What happens to the process at a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CrashMode {
    /// It dies, as after SIGKILL.
    Dies,
    /// It stops, as after SIGSTOP, until [`Line::resume`].
    Stops,
}

/// The state of a process.
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
    /// What happens to the process, and at which call, counted from 0.
    doom: Mutex<Option<(usize, Side, CrashMode)>>,
}

impl Line {
    pub fn new(operator: usize, faults: FaultInjector) -> Self {
        let state = watch::Sender::new(State::Running);
        Self(Arc::new(Inner { operator, faults, state, calls: Mutex::default(), doom: Mutex::default() }))
    }

    /// Kills or stops the process at this call.
    pub fn doom(&self, call: usize, side: Side, mode: CrashMode) {
        *self.0.doom.lock().unwrap() = Some((call, side, mode));
    }

    /// Kills the process: it has no effect any more.
    pub fn kill(&self) {
        self.0.state.send_replace(State::Dead);
    }

    /// Stops the process: it has no effect until it resumes.
    pub fn stop(&self) {
        self.0.state.send_replace(State::Stopped);
    }

    /// Resumes a stopped process.
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

    /// Returns all calls so far.
    pub fn calls(&self) -> Vec<Call> {
        self.0.calls.lock().unwrap().clone()
    }

    /// Executes one call; `act` is its effect on the world. A fault determines the edge's answer instead.
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
        // The process may have died or stopped during the call.
        let done = act();
        self.meet(number, Side::After).await;
        self.alive().await;
        match fault {
            Some(Fault::Mute) => std::future::pending().await,
            Some(Fault::Lost) => Err(Fault::Lost),
            _ => Ok(done),
        }
    }

    /// Waits while the process is stopped, and for ever if it is dead.
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
