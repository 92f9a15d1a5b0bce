//! The connection to Redis.
//!
//! redis-rs's own connection manager keeps a connection that never answers, keeps one to a demoted primary, and
//! lets callers wait out its retries. [`Link`] replaces a connection on the first sign of trouble, and nobody
//! waits longer than the deadline they gave.

mod error;
mod settings;

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, RedisResult};
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

pub use error::LinkError;
pub use settings::{RedisSettings, Setting, SettingsError};

use crate::fields::Fields;

/// After a failure, the next attempt to connect waits this long; each further failure doubles it.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest pause between attempts to connect.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// One shared connection to Redis that is made when it is first needed and made anew when it fails.
///
/// Clones share the connection. Every operation has a deadline. One that fails does not say whether the server
/// executed it: a write may land later, so what is written must be guarded (see the script's fence).
#[derive(Clone)]
pub struct Link(Arc<Inner>);

struct Inner {
    settings: RedisSettings,
    state: Mutex<State>,
}

struct State {
    phase: Phase,
    /// How many connections were made, to tell a failed one from its successor.
    serial: u64,
    /// The pause after the last failure; zero once an operation succeeds.
    pause: Duration,
}

enum Phase {
    Idle,
    /// One attempt is under way for everybody; the channel closes when it ends.
    Connecting(watch::Receiver<()>),
    Open(MultiplexedConnection),
    /// Nobody tries before `until`; everybody gets the error at once.
    Pausing {
        error: LinkError,
        until: Instant,
    },
}

impl Link {
    /// Remembers how to connect; the first operation connects. Files are read anew at each connect, so that a
    /// rotated password or certificate is picked up.
    #[must_use]
    pub fn new(settings: RedisSettings) -> Self {
        // Fails only if a provider is installed already, and then that one serves.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let state = State { phase: Phase::Idle, serial: 0, pause: Duration::ZERO };
        Self(Arc::new(Inner { settings, state: Mutex::new(state) }))
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

    /// Runs an operation once.
    pub async fn write<T, F, Answer>(&self, within: Duration, operation: F) -> Result<T, LinkError>
    where
        F: FnOnce(MultiplexedConnection) -> Answer,
        Answer: Future<Output = RedisResult<T>>,
    {
        self.run(Instant::now() + within, operation).await.map_err(|failed| failed.error)
    }

    /// All fields of a hash; none if the key does not exist.
    pub async fn fields(&self, key: &str, within: Duration) -> Result<Fields, LinkError> {
        let read = |mut connection: MultiplexedConnection| async move {
            redis::cmd("HGETALL").arg(key).query_async::<Vec<(Vec<u8>, Vec<u8>)>>(&mut connection).await
        };
        Ok(self.read(within, read).await?.into_iter().collect())
    }

    async fn run<T, F, Answer>(&self, deadline: Instant, operation: F) -> Result<T, Failed>
    where
        F: FnOnce(MultiplexedConnection) -> Answer,
        Answer: Future<Output = RedisResult<T>>,
    {
        let connected = timeout_at(deadline, self.connection()).await;
        let (serial, connection) = connected.unwrap_or(Err(LinkError::Timeout)).map_err(Failed::before)?;
        let error = match timeout_at(deadline, operation(connection)).await {
            Ok(Ok(answer)) => {
                self.0.lock().pause = Duration::ZERO;
                return Ok(answer);
            }
            Ok(Err(error)) => LinkError::from(&error),
            Err(_) => LinkError::Timeout,
        };
        self.0.give_up(serial, &error);
        Err(Failed { error, on_connection: true })
    }

    /// The open connection and its serial, or the one that somebody's attempt makes.
    async fn connection(&self) -> Result<(u64, MultiplexedConnection), LinkError> {
        loop {
            let mut attempt = {
                let mut state = self.0.lock();
                match &state.phase {
                    Phase::Open(connection) => return Ok((state.serial, connection.clone())),
                    Phase::Pausing { error, until } if Instant::now() < *until => return Err(error.clone()),
                    // A closed channel here means that the attempt died without a word.
                    Phase::Connecting(attempt) if attempt.has_changed().is_ok() => attempt.clone(),
                    _ => {
                        let (ended, attempt) = watch::channel(());
                        state.phase = Phase::Connecting(attempt.clone());
                        tokio::spawn(Arc::clone(&self.0).connect(ended));
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

    /// One attempt, in a task of its own: it goes on when the caller who began it gives up waiting.
    async fn connect(self: Arc<Self>, ended: watch::Sender<()>) {
        let settings = self.settings.clone();
        let made = match tokio::spawn(open(settings)).await {
            Ok(made) => made,
            Err(_) => Err(LinkError::Unavailable("connecting ended unexpectedly".to_owned())),
        };
        let mut state = self.lock();
        match made {
            Ok(connection) => {
                state.serial += 1;
                state.phase = Phase::Open(connection);
            }
            Err(error) => state.pause_for(error),
        }
        drop(state);
        drop(ended);
    }

    /// Drops a connection that is of no more use, unless another has taken its place already.
    fn give_up(&self, serial: u64, error: &LinkError) {
        let mut state = self.lock();
        if state.serial != serial || !matches!(state.phase, Phase::Open(_)) {
            return;
        }
        match error {
            LinkError::Timeout | LinkError::Unavailable(_) => state.phase = Phase::Idle,
            // A new connection is likely to meet the same refusal: not for every operation.
            LinkError::ReadOnly | LinkError::Unauthenticated => state.pause_for(error.clone()),
            LinkError::OutOfMemory
            | LinkError::Forbidden(_)
            | LinkError::WrongType
            | LinkError::Settings(_)
            | LinkError::Other(_) => {}
        }
    }
}

impl State {
    fn pause_for(&mut self, error: LinkError) {
        self.pause = (self.pause * 2).clamp(FIRST_PAUSE, LONGEST_PAUSE);
        self.phase = Phase::Pausing { error, until: Instant::now() + self.pause };
    }
}

/// Connects and waits for a first answer: a frozen server still accepts connections.
async fn open(settings: RedisSettings) -> Result<MultiplexedConnection, LinkError> {
    let deadline = Instant::now() + settings.connect_timeout;
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(settings.connect_timeout))
        .set_response_timeout(Some(settings.response_timeout));
    let attempt = async {
        // Files may lie on a slow disk.
        let client = tokio::task::spawn_blocking(move || settings.client());
        let client =
            client.await.map_err(|_| LinkError::Unavailable("reading the settings ended".to_owned()))??;
        let address = client.get_connection_info().addr().to_string();
        let failed = |error| LinkError::from(&error).at(&address);
        let mut connection =
            client.get_multiplexed_async_connection_with_config(&config).await.map_err(failed)?;
        match redis::cmd("PING").exec_async(&mut connection).await.map_err(|error| LinkError::from(&error)) {
            // A user who may not ping was answered, too.
            Ok(()) | Err(LinkError::Forbidden(_)) => Ok(connection),
            Err(error) => Err(error.at(&address)),
        }
    };
    timeout_at(deadline, attempt).await.unwrap_or(Err(LinkError::Timeout))
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Link").field("settings", &self.0.settings).finish_non_exhaustive()
    }
}

#[cfg(test)]
#[path = "connection_tests.rs"]
mod tests;
