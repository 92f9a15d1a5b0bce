//! The connection to Redis.
//!
//! redis-rs's own connection manager keeps a connection that never answers, keeps one to a demoted primary, and
//! lets callers wait out its retries. [`Connection`] replaces a connection on the first sign of trouble, and nobody
//! waits longer than the deadline they gave. A server that fails again and again is tried in the background only:
//! everybody gets the error at once.

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

/// After a failure, the next attempt to connect waits this long; each further failure doubles it.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest pause between attempts to connect.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// So many connections may fail one after the other, with no operation that succeeds between them, until the server
/// counts as broken. A path that lets a first answer through and then no other would else cost every caller its
/// deadline, and the server a connection each time.
const FAILURES: u32 = 3;

/// One shared connection to Redis that is made when it is first needed and made anew when it fails.
///
/// Clones share the connection. Every operation has a deadline. One that fails does not say whether the server
/// executed it: a write may land later, so what is written must be guarded (see the script's fence).
#[derive(Clone)]
pub struct Connection(Arc<Inner>);

struct Inner {
    settings: RedisSettings,
    /// `host:port` of a node, if not where the URL leads.
    node: Option<Box<str>>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    phase: Phase,
    /// How many connections were made, to tell a failed one from its successor.
    serial: u64,
    /// Connections that failed since an operation succeeded.
    failures: u32,
    /// The pause after the last failure; zero once an operation succeeds.
    pause: Duration,
    /// Makes the successor of the open connection, if its lifetime is limited.
    renewal: Option<AbortOnDrop>,
}

/// A connection, and the task that moves its bytes: it ends with the last who holds it, silent server or not.
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
    /// A first attempt is under way for everybody; the channel closes when it ends.
    Connecting(watch::Receiver<()>),
    Open(Open),
    /// Everybody gets the error at once, while further attempts go on in the background.
    Broken(ConnectionError),
}

impl Connection {
    /// Remembers how to connect; the first operation connects. Files are read anew at each connect, so that a
    /// rotated password or certificate is picked up.
    #[must_use]
    pub fn new(settings: RedisSettings) -> Self {
        Self::to(settings, None)
    }

    /// The same to a node of a cluster, `host:port`: all nodes have the settings of the URL but for their address.
    #[must_use]
    pub fn to_node(settings: RedisSettings, node: &str) -> Self {
        Self::to(settings, Some(node.into()))
    }

    fn to(settings: RedisSettings, node: Option<Box<str>>) -> Self {
        // Fails only if a provider is installed already, and then that one serves.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let state = State::default();
        Self(Arc::new(Inner { settings, node, state: Mutex::new(state) }))
    }

    /// Runs an operation that may be repeated: once more if the connection turns out to be closed, which is how
    /// an idle one ends.
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

    /// Whether the server is known not to serve: every operation gets this error at once, until an attempt in the
    /// background succeeds.
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

    /// The open connection and its serial, or the one that somebody's attempt makes.
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
            // Ends with an error when the channel closes, which is all that is awaited.
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

/// What a new connection takes the place of, and the task that would have made its successor. Dropped outside the lock.
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
    /// A new connection was made to replace `old`, or the first one. From now on it serves all operations; if its lifetime is
    /// limited, a task makes its successor in time. It is dropped if another one has replaced `old` by now.
    fn take(self: &Arc<Self>, old: Option<u64>, open: Open) {
        let taken = self.state.lock().take(old, open);
        let Some((serial, replaced)) = taken else { return };
        // Outside the lock: this ends the task that moved its bytes.
        drop(replaced);
        if let Some(lifetime) = self.settings.lifetime {
            let renewal = tokio::spawn(renew(Arc::downgrade(self), serial, lifetime)).abort_handle();
            let refused = self.state.lock().renewed_by(serial, AbortOnDrop(renewal));
            drop(refused);
        }
    }

    /// Drops a connection that is of no more use, unless another has taken its place already.
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

    /// What an operation can use now. A caller that gets a new attempt has to begin it.
    fn usable(&mut self) -> Usable {
        match &self.phase {
            Phase::Open(open) => Usable::Open(self.serial, open.clone()),
            Phase::Broken(error) => Usable::Broken(error.clone()),
            // A closed channel here means that the attempt died without a word.
            Phase::Connecting(attempt) if attempt.has_changed().is_ok() => Usable::Attempt(attempt.clone()),
            _ => {
                let (ended, attempt) = watch::channel(());
                self.phase = Phase::Connecting(attempt.clone());
                Usable::NewAttempt(ended, attempt)
            }
        }
    }

    /// Puts a new connection in the place of the one with the serial `old`, if that is still the one in use; any may take the place
    /// of none. Returns its serial and what it replaces.
    fn take(&mut self, old: Option<u64>, open: Open) -> Option<(u64, Replaced)> {
        if old.is_some_and(|old| !self.uses(old)) {
            return None;
        }
        self.serial += 1;
        let phase = std::mem::replace(&mut self.phase, Phase::Open(open));
        Some((self.serial, (phase, self.renewal.take())))
    }

    /// The task that makes the successor of this connection. Gives it back if that is not the one in use any more.
    fn renewed_by(&mut self, serial: u64, renewal: AbortOnDrop) -> Option<AbortOnDrop> {
        if self.uses(serial) { self.renewal.replace(renewal) } else { Some(renewal) }
    }

    fn uses(&self, serial: u64) -> bool {
        self.serial == serial && matches!(self.phase, Phase::Open(_))
    }

    /// What an error means for the open connection with this serial. The server counts as broken from now on if there is a pause, after
    /// which the next attempt is due. Also returns the connection if it is of no more use.
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
            // A new connection is likely to meet the same refusal: not for every operation.
            ConnectionError::ReadOnly
            | ConnectionError::Unauthenticated
            | ConnectionError::SignInRefused(_)
            | ConnectionError::NothingToSignInWith(_) => {
                let (pause, dropped) = self.break_off(error.clone());
                (Some(pause), Some(dropped))
            }
            // Answers, which come over any other connection too.
            ConnectionError::Refused(_)
            | ConnectionError::Moved(_)
            | ConnectionError::OutOfMemory
            | ConnectionError::Forbidden(_)
            | ConnectionError::WrongType
            | ConnectionError::Settings(_)
            | ConnectionError::Other(_) => (None, None),
        }
    }

    /// Every operation gets this error until an attempt succeeds. Returns the pause before it, and what was there.
    fn break_off(&mut self, error: ConnectionError) -> (Duration, Phase) {
        let dropped = std::mem::replace(&mut self.phase, Phase::Broken(error));
        self.pause = (self.pause * 2).clamp(FIRST_PAUSE, LONGEST_PAUSE);
        (self.pause, dropped)
    }
}

/// Attempts to connect, the first after `pause`, until one succeeds or nobody holds the link any more. A task of its
/// own: it goes on when the caller who began it gives up waiting. `ended` closes with the first attempt.
async fn connect(link: Weak<Inner>, mut pause: Duration, mut ended: Option<watch::Sender<()>>) {
    loop {
        if !pause.is_zero() {
            sleep(pause).await;
        }
        let Some((link, made)) = try_once(&link).await else { return };
        match made {
            Ok(open) => return link.take(None, open),
            Err(error) => {
                let (next, dropped) = link.state.lock().break_off(error);
                drop(dropped);
                pause = next;
            }
        }
        // Those who wait for the first attempt are answered.
        drop(ended.take());
    }
}

/// Makes the successor of a connection while that one still serves, so that no operation meets its end. What is under way on the old
/// one ends there.
async fn renew(link: Weak<Inner>, serial: u64, lifetime: Duration) {
    let since = Instant::now();
    loop {
        sleep(until_successor(since.elapsed(), lifetime)).await;
        let Some((link, made)) = try_once(&link).await else { return };
        let is_replaced = !link.state.lock().uses(serial);
        if is_replaced {
            return;
        }
        if let Ok(open) = made {
            return link.take(Some(serial), open);
        }
    }
}

/// One attempt, as a task of its own. `None` once nobody holds the link any more, which the attempt does not do.
async fn try_once(link: &Weak<Inner>) -> Option<(Arc<Inner>, Result<Open, ConnectionError>)> {
    let (settings, node) = link.upgrade().map(|link| (link.settings.clone(), link.node.clone()))?;
    let made = tokio::spawn(open(settings, node)).await;
    let made = made
        .unwrap_or_else(|_| Err(ConnectionError::Unavailable("connecting ended unexpectedly".to_owned())));
    Some((link.upgrade()?, made))
}

/// Connects and waits for a first answer: a frozen server still accepts connections.
async fn open(settings: RedisSettings, node: Option<Box<str>>) -> Result<Open, ConnectionError> {
    let deadline = Instant::now() + settings.connect_timeout;
    // The rest is for the server, so that each of them is blamed for what it did itself.
    let sign_by = Instant::now() + settings.connect_timeout * 3 / 4;
    let config = AsyncConnectionConfig::new().set_response_timeout(Some(settings.response_timeout));
    let sign_in = match &settings.password {
        Some(Password::Made(sign_in)) => Some(Arc::clone(sign_in)),
        Some(Password::Given(_)) | None => None,
    };
    let attempt = async {
        // Files may lie on a slow disk.
        let transport = tokio::task::spawn_blocking(move || settings.transport(node.as_deref()));
        let mut transport = transport
            .await
            .map_err(|_| ConnectionError::Unavailable("reading the settings ended".to_owned()))??;
        if let Some(sign_in) = &sign_in {
            transport.login = signed(transport.login, sign_in.as_ref(), sign_by).await?;
        }
        let at = |error: ConnectionError| error.at(&transport.address());
        let stream =
            transport.connect().await.map_err(|error| at(ConnectionError::Unavailable(error.to_string())))?;
        let made = MultiplexedConnection::new_with_config(&transport.login, stream, config).await;
        let (mut connection, driver) =
            made.map_err(|error| match (ConnectionError::from(&error), &sign_in) {
                (ConnectionError::Unauthenticated, Some(sign_in)) => ConnectionError::SignInRefused(
                    sign_in.refused(transport.login.username().unwrap_or_default()),
                ),
                (error, _) => at(error),
            })?;
        let driver = Arc::new(AbortOnDrop(tokio::spawn(driver).abort_handle()));
        match redis::cmd("PING")
            .exec_async(&mut connection)
            .await
            .map_err(|error| ConnectionError::from(&error))
        {
            // A user who may not ping was answered, too.
            Ok(()) | Err(ConnectionError::Forbidden(_)) => Ok(Open { connection, driver }),
            Err(error) => Err(at(error)),
        }
    };
    timeout_at(deadline, attempt).await.unwrap_or(Err(ConnectionError::Timeout))
}

/// A login with a password made for it. One that comes too late is a matter of whoever makes it, and said so: the server has not even
/// been asked.
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
