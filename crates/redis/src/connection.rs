//! The connection to Redis.
//!
//! redis-rs's own connection manager keeps a connection that never answers, keeps one to a demoted primary,
//! and lets callers wait out its retries. [`Connection`] replaces a connection at the first failure, and no caller
//! waits longer than its own deadline. A server that fails repeatedly is retried only in the background;
//! callers get the error at once.
#![expect(clippy::disallowed_methods, reason = "the password that was made for a connection")]

use std::future::Future;
use std::sync::{Arc, Weak};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, RedisConnectionInfo, RedisResult};
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep, timeout_at};

use tracing_mutex::parkinglot::Mutex;

use crate::lifetime::until_successor;
use crate::{ConnectionError, Password, RedisSettings, SignIn};

/// The pause before the next attempt to connect after a failure. Each further failure doubles it.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest pause between attempts to connect.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// After this many consecutive connections have failed without one successful operation, the server counts as
/// broken. Without this limit, a path that lets only the first answer through would cost every caller its
/// deadline, and the server one connection each time.
const FAILURES: u32 = 3;

/// One shared connection to Redis. The first operation opens it, and a failure replaces it.
///
/// Clones share the connection. Every operation has a deadline. A failed operation may still have been
/// executed, and a write may land later, so every write must be guarded (see the script's fence).
#[derive(Clone)]
pub struct Connection(Arc<Inner>);

struct Inner {
    settings: RedisSettings,
    /// `host:port` of a node; `None` for the server of the URL.
    node: Option<Box<str>>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    phase: Phase,
    /// How many connections were opened. It distinguishes a failed connection from its successor.
    serial: u64,
    /// Connections that failed since an operation succeeded.
    failures: u32,
    /// The pause after the last failure; zero once an operation succeeds.
    pause: Duration,
    /// The task that opens the successor of the open connection, if its lifetime is limited.
    renewal: Option<AbortOnDrop>,
}

/// A connection and the task that drives its I/O. The task ends when the last clone is dropped, even if the
/// server is silent.
#[derive(Clone)]
struct Open {
    connection: MultiplexedConnection,
    driver: Arc<AbortOnDrop>,
}

struct AbortOnDrop(AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[derive(Default)]
enum Phase {
    #[default]
    Idle,
    /// A first attempt is in progress, and all callers wait for it. The channel closes when the attempt ends.
    Connecting(watch::Receiver<()>),
    Open(Open),
    /// Callers get this error at once, while further attempts run in the background.
    Broken(ConnectionError),
}

impl Connection {
    /// Stores the settings; the first operation connects. Files are read again at each connect, so that a
    /// rotated password or certificate is picked up.
    #[must_use]
    pub fn new(settings: RedisSettings) -> Self {
        Self::to(settings, None)
    }

    /// Like [`Connection::new`], but connects to the cluster node `host:port`. All nodes share the settings of the
    /// URL except for its address.
    #[must_use]
    pub fn to_node(settings: RedisSettings, node: &str) -> Self {
        Self::to(settings, Some(node.into()))
    }

    fn to(settings: RedisSettings, node: Option<Box<str>>) -> Self {
        // Fails only if a provider is already installed; rustls then uses that one.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let state = State::default();
        Self(Arc::new(Inner { settings, node, state: Mutex::new(state) }))
    }

    /// Runs an idempotent operation. Repeats it once if the connection turns out to be closed, as an idle one
    /// may be.
    pub async fn read<T, F, Answer>(&self, within: Duration, operation: F) -> Result<T, ConnectionError>
    where
        F: Fn(MultiplexedConnection) -> Answer,
        Answer: Future<Output = RedisResult<T>>,
    {
        let deadline = Instant::now() + within;
        match self.run(deadline, &operation).await {
            Err(Failed { error: ConnectionError::Unavailable(_), on_connection: true }) => {
                self.run(deadline, &operation).await
            }
            other => other,
        }
        .map_err(|failed| failed.error)
    }

    /// Returns the error of a server that is known to be down. Every operation gets this error at once until
    /// an attempt in the background succeeds.
    #[must_use]
    pub fn broken(&self) -> Option<ConnectionError> {
        self.0.state.lock().broken()
    }

    /// Runs an operation once.
    pub async fn write<T, F, Answer>(&self, within: Duration, operation: F) -> Result<T, ConnectionError>
    where
        F: FnOnce(MultiplexedConnection) -> Answer,
        Answer: Future<Output = RedisResult<T>>,
    {
        self.run(Instant::now() + within, operation).await.map_err(|failed| failed.error)
    }

    async fn run<T, F, Answer>(&self, deadline: Instant, operation: F) -> Result<T, Failed>
    where
        F: FnOnce(MultiplexedConnection) -> Answer,
        Answer: Future<Output = RedisResult<T>>,
    {
        let connected = timeout_at(deadline, self.connection()).await;
        let (serial, open) = connected.unwrap_or(Err(ConnectionError::Timeout)).map_err(Failed::before)?;
        let outcome = timeout_at(deadline, operation(open.connection)).await;
        drop(open.driver);
        let error = match outcome {
            Ok(Ok(answer)) => {
                self.0.state.lock().succeeded();
                return Ok(answer);
            }
            Ok(Err(error)) => ConnectionError::from(&error),
            Err(_) => ConnectionError::Timeout,
        };
        self.0.give_up(serial, &error);
        Err(Failed { error, on_connection: true })
    }

    /// Returns the open connection and its serial, or waits for the attempt in progress.
    async fn connection(&self) -> Result<(u64, Open), ConnectionError> {
        loop {
            let usable = self.0.state.lock().usable();
            let mut attempt = match usable {
                Usable::Open(serial, open) => return Ok((serial, open)),
                Usable::Broken(error) => return Err(error),
                Usable::Attempt(attempt) => attempt,
                Usable::NewAttempt(ended, attempt) => {
                    tokio::spawn(connect(Arc::downgrade(&self.0), Duration::ZERO, Some(ended)));
                    attempt
                }
            };
            // Returns an error when the channel closes; that is the signal this waits for.
            let _ = attempt.changed().await;
        }
    }
}

/// What an operation can use.
enum Usable {
    Open(u64, Open),
    Broken(ConnectionError),
    Attempt(watch::Receiver<()>),
    NewAttempt(watch::Sender<()>, watch::Receiver<()>),
}

/// The phase that a new connection replaces, and the renewal task of the old connection. Drop it outside the
/// lock.
type Replaced = (Phase, Option<AbortOnDrop>);

/// An error, and whether it happened on a connection or before there was one.
struct Failed {
    error: ConnectionError,
    on_connection: bool,
}

impl Failed {
    fn before(error: ConnectionError) -> Self {
        Self { error, on_connection: false }
    }
}

impl Inner {
    /// Installs a new connection, which replaces `old` or is the first one. All operations use it from now
    /// on. If its lifetime is limited, a task opens its successor in time. If another connection has replaced
    /// `old` in the meantime, the new one is dropped.
    fn take(self: &Arc<Self>, old: Option<u64>, open: Open) {
        let taken = self.state.lock().take(old, open);
        let Some((serial, replaced)) = taken else { return };
        // Dropped outside the lock, because this ends the task that drives the connection.
        drop(replaced);
        if let Some(lifetime) = self.settings.lifetime {
            let renewal = tokio::spawn(renew(Arc::downgrade(self), serial, lifetime)).abort_handle();
            let refused = self.state.lock().renewed_by(serial, AbortOnDrop(renewal));
            drop(refused);
        }
    }

    /// Drops a connection that is no longer usable, unless another one has replaced it already.
    fn give_up(self: &Arc<Self>, serial: u64, error: &ConnectionError) {
        let (pause, dropped) = self.state.lock().failed(serial, error);
        drop(dropped);
        if let Some(pause) = pause {
            tokio::spawn(connect(Arc::downgrade(self), pause, None));
        }
    }
}

impl State {
    fn succeeded(&mut self) {
        self.failures = 0;
        self.pause = Duration::ZERO;
    }

    fn broken(&self) -> Option<ConnectionError> {
        match &self.phase {
            Phase::Broken(error) => Some(error.clone()),
            Phase::Idle | Phase::Connecting(_) | Phase::Open(_) => None,
        }
    }

    /// Returns what an operation can use now. The caller that gets `NewAttempt` must start the attempt.
    fn usable(&mut self) -> Usable {
        match &self.phase {
            Phase::Open(open) => Usable::Open(self.serial, open.clone()),
            Phase::Broken(error) => Usable::Broken(error.clone()),
            // The channel is closed if the attempt died without a result.
            Phase::Connecting(attempt) if attempt.has_changed().is_ok() => Usable::Attempt(attempt.clone()),
            _ => {
                let (ended, attempt) = watch::channel(());
                self.phase = Phase::Connecting(attempt.clone());
                Usable::NewAttempt(ended, attempt)
            }
        }
    }

    /// Replaces the connection with the serial `old`, if it is still in use; `None` installs the new one in
    /// any case. Returns the new serial and what was replaced.
    fn take(&mut self, old: Option<u64>, open: Open) -> Option<(u64, Replaced)> {
        if old.is_some_and(|old| !self.uses(old)) {
            return None;
        }
        self.serial += 1;
        let phase = std::mem::replace(&mut self.phase, Phase::Open(open));
        Some((self.serial, (phase, self.renewal.take())))
    }

    /// Stores the task that opens the successor of this connection. Returns the task if the connection is no
    /// longer in use.
    fn renewed_by(&mut self, serial: u64, renewal: AbortOnDrop) -> Option<AbortOnDrop> {
        if self.uses(serial) { self.renewal.replace(renewal) } else { Some(renewal) }
    }

    fn uses(&self, serial: u64) -> bool {
        self.serial == serial && matches!(self.phase, Phase::Open(_))
    }

    /// Applies an error of the open connection with this serial. A returned pause means that the server
    /// counts as broken and that the next attempt is due after it. Also returns the connection, if it is no
    /// longer usable.
    fn failed(&mut self, serial: u64, error: &ConnectionError) -> (Option<Duration>, Option<Phase>) {
        if !self.uses(serial) {
            return (None, None);
        }
        match error {
            ConnectionError::Timeout | ConnectionError::Unavailable(_) => {
                self.failures += 1;
                if self.failures >= FAILURES {
                    let (pause, dropped) = self.break_off(error.clone());
                    return (Some(pause), Some(dropped));
                }
                (None, Some(std::mem::take(&mut self.phase)))
            }
            // A new connection is likely to meet the same refusal, so do not open one for every operation.
            ConnectionError::ReadOnly
            | ConnectionError::Unauthenticated
            | ConnectionError::SignInRefused(_)
            | ConnectionError::NothingToSignInWith(_) => {
                let (pause, dropped) = self.break_off(error.clone());
                (Some(pause), Some(dropped))
            }
            // The server answered; another connection would get the same answer.
            ConnectionError::Refused(_)
            | ConnectionError::Moved(_)
            | ConnectionError::OutOfMemory
            | ConnectionError::Forbidden(_)
            | ConnectionError::WrongType
            | ConnectionError::Settings(_)
            | ConnectionError::Other(_) => (None, None),
        }
    }

    /// Marks the server as broken: every operation gets this error until an attempt succeeds. Returns the
    /// pause before the next attempt, and the replaced phase.
    fn break_off(&mut self, error: ConnectionError) -> (Duration, Phase) {
        let dropped = std::mem::replace(&mut self.phase, Phase::Broken(error));
        self.pause = (self.pause * 2).clamp(FIRST_PAUSE, LONGEST_PAUSE);
        (self.pause, dropped)
    }
}

/// Attempts to connect, the first time after `pause`, until one attempt succeeds or the last [`Connection`] is
/// dropped. It runs as its own task, so it continues when the caller that started it stops waiting. `ended`
/// closes after the first attempt.
async fn connect(connection: Weak<Inner>, mut pause: Duration, mut ended: Option<watch::Sender<()>>) {
    loop {
        if !pause.is_zero() {
            sleep(pause).await;
        }
        let Some((connection, made)) = try_once(&connection).await else { return };
        match made {
            Ok(open) => return connection.take(None, open),
            Err(error) => {
                let (next, dropped) = connection.state.lock().break_off(error);
                drop(dropped);
                pause = next;
            }
        }
        // This wakes the callers that wait for the first attempt.
        drop(ended.take());
    }
}

/// Opens the successor of a connection while the old one still serves, so that no operation meets a closed
/// connection. Operations in progress finish on the old connection.
async fn renew(connection: Weak<Inner>, serial: u64, lifetime: Duration) {
    let since = Instant::now();
    loop {
        sleep(until_successor(since.elapsed(), lifetime)).await;
        let Some((connection, made)) = try_once(&connection).await else { return };
        let is_replaced = !connection.state.lock().uses(serial);
        if is_replaced {
            return;
        }
        if let Ok(open) = made {
            return connection.take(Some(serial), open);
        }
    }
}

/// Makes one attempt, as its own task. Returns `None` once the last [`Connection`] is dropped; the attempt itself
/// does not hold one.
async fn try_once(connection: &Weak<Inner>) -> Option<(Arc<Inner>, Result<Open, ConnectionError>)> {
    let (settings, node) =
        connection.upgrade().map(|connection| (connection.settings.clone(), connection.node.clone()))?;
    let made = tokio::spawn(open(settings, node)).await;
    let made = made
        .unwrap_or_else(|_| Err(ConnectionError::Unavailable("connecting ended unexpectedly".to_owned())));
    Some((connection.upgrade()?, made))
}

/// Connects and waits for a first answer: a frozen server still accepts connections.
async fn open(settings: RedisSettings, node: Option<Box<str>>) -> Result<Open, ConnectionError> {
    let deadline = Instant::now() + settings.connect_timeout;
    // What comes first has to be ready earlier, so that a timeout is attributed to the step that caused it.
    let sign_by = Instant::now() + settings.connect_timeout * 3 / 4;
    let handshake_by = Instant::now() + settings.connect_timeout * 7 / 8;
    let config = AsyncConnectionConfig::new().set_response_timeout(Some(settings.response_timeout));
    let sign_in = match &settings.password {
        Some(Password::Made(sign_in)) => Some(Arc::clone(sign_in)),
        Some(Password::Given(_)) | None => None,
    };
    let attempt = async {
        // The files may be on a slow disk.
        let transport = tokio::task::spawn_blocking(move || settings.transport(node.as_deref()));
        let mut transport = transport
            .await
            .map_err(|_| ConnectionError::Unavailable("reading the settings ended".to_owned()))??;
        if let Some(sign_in) = &sign_in {
            transport.login = signed(transport.login, sign_in.as_ref(), sign_by).await?;
        }
        let at = |error: ConnectionError| error.at(&transport.address());
        let at_first = |error: ConnectionError| {
            at(if transport.tls.is_none() { error.of_a_first_answer_in_clear() } else { error })
        };
        let stream = transport.connect(handshake_by).await;
        let stream = stream.map_err(|error| at(ConnectionError::Unavailable(error.to_string())))?;
        let made = MultiplexedConnection::new_with_config(&transport.login, stream, config).await;
        let (mut connection, driver) =
            made.map_err(|error| match (ConnectionError::from(&error), &sign_in) {
                (ConnectionError::Unauthenticated, Some(sign_in)) => ConnectionError::SignInRefused(
                    sign_in.refused(transport.login.username().unwrap_or_default()),
                ),
                (error, _) => at_first(error),
            })?;
        let driver = Arc::new(AbortOnDrop(tokio::spawn(driver).abort_handle()));
        match redis::cmd("PING")
            .exec_async(&mut connection)
            .await
            .map_err(|error| ConnectionError::from(&error))
        {
            // A user without the right to PING has been authenticated and answered, too.
            Ok(()) | Err(ConnectionError::Forbidden(_)) => Ok(Open { connection, driver }),
            Err(error) => Err(at_first(error)),
        }
    };
    timeout_at(deadline, attempt).await.unwrap_or(Err(ConnectionError::Timeout))
}

/// Adds a password made for this login. A password that comes too late is reported as the signer's failure,
/// because the server has not been contacted yet.
async fn signed(
    login: RedisConnectionInfo,
    sign_in: &dyn SignIn,
    deadline: Instant,
) -> Result<RedisConnectionInfo, ConnectionError> {
    let made = timeout_at(deadline, sign_in.password(login.username().unwrap_or_default())).await;
    let made = made.unwrap_or_else(|_| Err("the credentials were not there in time".to_owned()));
    let password = made.map_err(ConnectionError::NothingToSignInWith)?;
    Ok(login.set_password(password.expose()))
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Link").field("settings", &self.0.settings).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
