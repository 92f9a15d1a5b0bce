//! The connection to Redis.
//!
//! redis-rs's own connection manager keeps a connection that never answers, keeps one to a demoted primary, and
//! lets callers wait out its retries. [`Link`] replaces a connection on the first sign of trouble, and nobody
//! waits longer than the deadline they gave. A server that fails again and again is tried in the background only:
//! everybody gets the error at once.

mod args;
mod error;
mod lifetime;
mod password;
mod servers;
mod settings;
mod stream;

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, RedisConnectionInfo, RedisResult};
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep, timeout_at};

pub use args::{PasswordInUrl, RedisArgs};
pub use error::LinkError;
pub use password::{Made, Password, SignIn};
pub use servers::Servers;
pub use settings::{RedisSettings, Setting, SettingsError};

use lifetime::until_successor;

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
pub struct Link(Arc<Inner>);

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
    Broken(LinkError),
}

impl Link {
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
    pub async fn read<T, F, Answer>(&self, within: Duration, operation: F) -> Result<T, LinkError>
    where
        F: Fn(MultiplexedConnection) -> Answer,
        Answer: Future<Output = RedisResult<T>>,
    {
        let deadline = Instant::now() + within;
        match self.run(deadline, &operation).await {
            Err(Failed { error: LinkError::Unavailable(_), on_connection: true }) => {
                self.run(deadline, &operation).await
            }
            other => other,
        }
        .map_err(|failed| failed.error)
    }

    /// Whether the server is known not to serve: every operation gets this error at once, until an attempt in the
    /// background succeeds.
    #[must_use]
    pub fn broken(&self) -> Option<LinkError> {
        match &self.0.lock().phase {
            Phase::Broken(error) => Some(error.clone()),
            Phase::Idle | Phase::Connecting(_) | Phase::Open(_) => None,
        }
    }

    /// Runs an operation once.
    pub async fn write<T, F, Answer>(&self, within: Duration, operation: F) -> Result<T, LinkError>
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
        let (serial, open) = connected.unwrap_or(Err(LinkError::Timeout)).map_err(Failed::before)?;
        let outcome = timeout_at(deadline, operation(open.connection)).await;
        drop(open.driver);
        let error = match outcome {
            Ok(Ok(answer)) => {
                self.0.lock().succeeded();
                return Ok(answer);
            }
            Ok(Err(error)) => LinkError::from(&error),
            Err(_) => LinkError::Timeout,
        };
        self.0.give_up(serial, &error);
        Err(Failed { error, on_connection: true })
    }

    /// The open connection and its serial, or the one that somebody's attempt makes.
    async fn connection(&self) -> Result<(u64, Open), LinkError> {
        loop {
            let mut attempt = {
                let mut state = self.0.lock();
                match &state.phase {
                    Phase::Open(open) => return Ok((state.serial, open.clone())),
                    Phase::Broken(error) => return Err(error.clone()),
                    // A closed channel here means that the attempt died without a word.
                    Phase::Connecting(attempt) if attempt.has_changed().is_ok() => attempt.clone(),
                    _ => {
                        let (ended, attempt) = watch::channel(());
                        state.phase = Phase::Connecting(attempt.clone());
                        tokio::spawn(connect(Arc::downgrade(&self.0), Duration::ZERO, Some(ended)));
                        attempt
                    }
                }
            };
            // Ends with an error when the channel closes, which is all that is awaited.
            let _ = attempt.changed().await;
        }
    }
}

/// An error, and whether it happened on a connection or before there was one.
struct Failed {
    error: LinkError,
    on_connection: bool,
}

impl Failed {
    fn before(error: LinkError) -> Self {
        Self { error, on_connection: false }
    }
}

impl Inner {
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        // The state is whole after every statement, so a panic elsewhere does not spoil it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection for everybody from now on, and if its lifetime is limited a task that makes its successor in time.
    fn take(self: &Arc<Self>, state: &mut State, open: Open) {
        state.serial += 1;
        state.phase = Phase::Open(open);
        state.renewal = self.settings.lifetime.map(|lifetime| {
            AbortOnDrop(tokio::spawn(renew(Arc::downgrade(self), state.serial, lifetime)).abort_handle())
        });
    }

    /// Drops a connection that is of no more use, unless another has taken its place already.
    fn give_up(self: &Arc<Self>, serial: u64, error: &LinkError) {
        let mut state = self.lock();
        if state.serial != serial || !matches!(state.phase, Phase::Open(_)) {
            return;
        }
        if let Some(pause) = state.failed(error) {
            tokio::spawn(connect(Arc::downgrade(self), pause, None));
        }
    }
}

impl State {
    fn succeeded(&mut self) {
        self.failures = 0;
        self.pause = Duration::ZERO;
    }

    /// What an error means for the open connection. `Some` if the server counts as broken from now on: the next
    /// attempt is due after this pause.
    fn failed(&mut self, error: &LinkError) -> Option<Duration> {
        match error {
            LinkError::Timeout | LinkError::Unavailable(_) => {
                self.failures += 1;
                if self.failures >= FAILURES {
                    return Some(self.break_off(error.clone()));
                }
                self.phase = Phase::Idle;
                None
            }
            // A new connection is likely to meet the same refusal: not for every operation.
            LinkError::ReadOnly
            | LinkError::Unauthenticated
            | LinkError::SignInRefused(_)
            | LinkError::NothingToSignInWith(_) => Some(self.break_off(error.clone())),
            // Answers, which come over any other connection too.
            LinkError::Refused(_)
            | LinkError::Moved(_)
            | LinkError::OutOfMemory
            | LinkError::Forbidden(_)
            | LinkError::WrongType
            | LinkError::Settings(_)
            | LinkError::Other(_) => None,
        }
    }

    /// Everybody gets this error until an attempt succeeds. Returns the pause before it.
    fn break_off(&mut self, error: LinkError) -> Duration {
        self.phase = Phase::Broken(error);
        self.pause = (self.pause * 2).clamp(FIRST_PAUSE, LONGEST_PAUSE);
        self.pause
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
        let mut state = link.lock();
        match made {
            Ok(open) => return link.take(&mut state, open),
            Err(error) => pause = state.break_off(error),
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
        let mut state = link.lock();
        if state.serial != serial || !matches!(state.phase, Phase::Open(_)) {
            return;
        }
        if let Ok(open) = made {
            return link.take(&mut state, open);
        }
    }
}

/// One attempt, as a task of its own. `None` once nobody holds the link any more, which the attempt does not do.
async fn try_once(link: &Weak<Inner>) -> Option<(Arc<Inner>, Result<Open, LinkError>)> {
    let (settings, node) = link.upgrade().map(|link| (link.settings.clone(), link.node.clone()))?;
    let made = tokio::spawn(open(settings, node)).await;
    let made =
        made.unwrap_or_else(|_| Err(LinkError::Unavailable("connecting ended unexpectedly".to_owned())));
    Some((link.upgrade()?, made))
}

/// Connects and waits for a first answer: a frozen server still accepts connections.
async fn open(settings: RedisSettings, node: Option<Box<str>>) -> Result<Open, LinkError> {
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
        let way = tokio::task::spawn_blocking(move || settings.way(node.as_deref()));
        let mut way =
            way.await.map_err(|_| LinkError::Unavailable("reading the settings ended".to_owned()))??;
        if let Some(sign_in) = &sign_in {
            way.login = signed(way.login, sign_in.as_ref(), sign_by).await?;
        }
        let at = |error: LinkError| error.at(&way.address());
        let stream = way.connect().await.map_err(|error| at(LinkError::Unavailable(error.to_string())))?;
        let made = MultiplexedConnection::new_with_config(&way.login, stream, config).await;
        let (mut connection, driver) = made.map_err(|error| match (LinkError::from(&error), &sign_in) {
            (LinkError::Unauthenticated, Some(sign_in)) => {
                LinkError::SignInRefused(sign_in.refused(way.login.username().unwrap_or_default()))
            }
            (error, _) => at(error),
        })?;
        let driver = Arc::new(AbortOnDrop(tokio::spawn(driver).abort_handle()));
        match redis::cmd("PING").exec_async(&mut connection).await.map_err(|error| LinkError::from(&error)) {
            // A user who may not ping was answered, too.
            Ok(()) | Err(LinkError::Forbidden(_)) => Ok(Open { connection, driver }),
            Err(error) => Err(at(error)),
        }
    };
    timeout_at(deadline, attempt).await.unwrap_or(Err(LinkError::Timeout))
}

/// A login with a password made for it. One that comes too late is a matter of whoever makes it, and said so: the server has not even
/// been asked.
async fn signed(
    login: RedisConnectionInfo,
    sign_in: &dyn SignIn,
    deadline: Instant,
) -> Result<RedisConnectionInfo, LinkError> {
    let made = timeout_at(deadline, sign_in.password(login.username().unwrap_or_default())).await;
    let made = made.unwrap_or_else(|_| Err("the credentials were not there in time".to_owned()));
    let password = made.map_err(LinkError::NothingToSignInWith)?;
    Ok(login.set_password(password.expose()))
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Link").field("settings", &self.0.settings).finish_non_exhaustive()
    }
}

#[cfg(test)]
#[path = "connection_tests.rs"]
mod tests;
