//! A stand-in for ElastiCache with IAM users, as a client sees it: TLS, and a signed request instead of a
//! password. Behind it is a real Redis, which clients can only reach as the user of this cache.
//!
//! It implements the documentation; undocumented behaviour of AWS is unknown.

mod token;

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::authority;
use crate::redis::Redis;
use crate::scratch::Scratch;

pub use token::{Cache, Key, Refused, judge};

/// The user's password on the Redis behind. No client knows it.
const INNER: &str = "known-to-the-stand-in-only";

/// A cache with one user.
#[derive(Debug)]
pub struct ElastiCache {
    /// The addresses of its nodes.
    pub nodes: Vec<SocketAddr>,
    ca: PathBuf,
    shared: Arc<Shared>,
    _accepting: JoinSet<()>,
    _scratch: Scratch,
}

/// An attempt to sign in.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// The index of the node.
    pub node: usize,
    /// The user name.
    pub user: String,
    /// The token.
    pub token: String,
    /// The result.
    pub outcome: Result<(), Refused>,
}

#[derive(Debug)]
struct Shared {
    cache: Cache,
    user: String,
    state: Mutex<State>,
    /// Incremented to close all connections.
    cuts: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct State {
    keys: BTreeMap<String, Key>,
    ahead: SignedDuration,
    lasts: Option<Duration>,
    attempts: Vec<Attempt>,
}

impl ElastiCache {
    /// Starts a cache in front of these servers, with one user and no valid key.
    ///
    /// # Panics
    /// When it cannot start.
    pub async fn start(cache: Cache, user: &str, servers: &[&Redis]) -> Self {
        let scratch = Scratch::new("elasticache").expect("a temporary folder");
        let ca = authority::found(scratch.path()).await;
        let certificate = authority::certify(scratch.path(), "cache", "IP:127.0.0.1").await;
        let acceptor = TlsAcceptor::from(Arc::new(authority::server(&certificate)));
        let shared = Arc::new(Shared {
            cache,
            user: user.to_owned(),
            state: Mutex::default(),
            cuts: watch::Sender::new(0),
        });
        let (mut nodes, mut accepting) = (Vec::new(), JoinSet::new());
        for (node, server) in servers.iter().enumerate() {
            let password = format!(">{INNER}");
            server.cli(&["acl", "setuser", user, "on", &password, "~*", "&*", "+@all"]).await;
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
            nodes.push(listener.local_addr().expect("its address"));
            let door = Door { node, server: server.address(), shared: Arc::clone(&shared) };
            accepting.spawn(door.open(listener, acceptor.clone()));
        }
        Self { nodes, ca, shared, _accepting: accepting, _scratch: scratch }
    }

    /// Returns the URL of the first node, `rediss://user@127.0.0.1:port`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("rediss://{}@{}", self.shared.user, self.nodes[0])
    }

    /// Returns the certificate (PEM) of its authority.
    #[must_use]
    pub fn ca(&self) -> &Path {
        &self.ca
    }

    /// Accepts tokens signed with this key.
    pub fn know(&self, access_key: &str, secret: &str, session: Option<&str>) {
        let key = Key { secret: secret.to_owned(), session: session.map(str::to_owned) };
        self.shared.state().keys.insert(access_key.to_owned(), key);
    }

    /// Refuses tokens signed with this key from now on. Open connections stay open.
    pub fn forget(&self, access_key: &str) {
        self.shared.state().keys.remove(access_key);
    }

    /// Sets its clock forward or back.
    pub fn set_clock(&self, ahead: SignedDuration) {
        self.shared.state().ahead = ahead;
    }

    /// Closes connections opened from now on this long after their sign-in. AWS does so after 12 h.
    pub fn end_after(&self, lasts: Duration) {
        self.shared.state().lasts = Some(lasts);
    }

    /// Closes all connections.
    pub fn cut(&self) {
        self.shared.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// Returns all attempts to sign in, in order.
    #[must_use]
    pub fn attempts(&self) -> Vec<Attempt> {
        self.shared.state().attempts.clone()
    }

    /// Returns the number of successful attempts.
    #[must_use]
    pub fn let_in(&self) -> usize {
        self.shared.state().attempts.iter().filter(|attempt| attempt.outcome.is_ok()).count()
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lets_in(&self, node: usize, user: &str, token: &str) -> bool {
        let mut state = self.state();
        let now = Timestamp::now() + state.ahead;
        let outcome = if user == self.user {
            judge(token, user, &self.cache, &state.keys, now)
        } else {
            Err(Refused::User)
        };
        state.attempts.push(Attempt { node, user: user.to_owned(), token: token.to_owned(), outcome });
        outcome.is_ok()
    }
}

/// One node.
#[derive(Clone)]
struct Door {
    node: usize,
    server: SocketAddr,
    shared: Arc<Shared>,
}

impl Door {
    async fn open(self, listener: TcpListener, acceptor: TlsAcceptor) {
        let mut guests = JoinSet::new();
        while let Ok((client, _)) = listener.accept().await {
            let (door, acceptor) = (self.clone(), acceptor.clone());
            guests.spawn(async move {
                let client = acceptor.accept(client).await?;
                door.receive(client).await
            });
            while guests.try_join_next().is_some() {}
        }
    }

    /// Serves one connection. Nothing reaches the server before the client has signed in.
    async fn receive(&self, mut client: TlsStream<TcpStream>) -> io::Result<()> {
        let mut cuts = self.shared.cuts.subscribe();
        let mut bytes = Vec::new();
        loop {
            while let Some(command) = take_command(&mut bytes) {
                let Some(sign_in) = SignIn::of(&command) else {
                    client.write_all(b"-NOAUTH Authentication required.\r\n").await?;
                    continue;
                };
                if !self.shared.lets_in(self.node, &sign_in.user, &sign_in.token) {
                    let wrong = b"-WRONGPASS invalid username-password pair or user is disabled.\r\n";
                    client.write_all(wrong).await?;
                    continue;
                }
                let lasts = self.shared.state().lasts.unwrap_or(Duration::MAX);
                let mut server = self.let_through(&mut client, &sign_in, &bytes).await?;
                tokio::select! {
                    ended = copy_bidirectional(&mut client, &mut server) => return ended.map(|_| ()),
                    () = tokio::time::sleep(lasts) => return Ok(()),
                    _ = cuts.changed() => return Ok(()),
                }
            }
            if client.read_buf(&mut bytes).await? == 0 {
                return Ok(());
            }
        }
    }

    /// Connects to the server as the user, and forwards what the client has sent since it signed in.
    async fn let_through(
        &self,
        client: &mut TlsStream<TcpStream>,
        sign_in: &SignIn,
        said: &[u8],
    ) -> io::Result<TcpStream> {
        let mut server = TcpStream::connect(self.server).await?;
        let user = &self.shared.user;
        server.write_all(command(&["AUTH", user, INNER]).as_bytes()).await?;
        let mut ok = [0; 5];
        server.read_exact(&mut ok).await?;
        assert_eq!(&ok, b"+OK\r\n", "the Redis behind lets its user in");
        match &sign_in.protocol {
            Some(version) => server.write_all(command(&["HELLO", version]).as_bytes()).await?,
            None => client.write_all(&ok).await?,
        }
        server.write_all(said).await?;
        Ok(server)
    }
}

/// `AUTH user token`, or `HELLO version AUTH user token`.
struct SignIn {
    user: String,
    token: String,
    protocol: Option<String>,
}

impl SignIn {
    fn of(command: &[String]) -> Option<Self> {
        let words: Vec<&str> = command.iter().map(String::as_str).collect();
        let (protocol, user, token) = match words.as_slice() {
            [auth, user, token] if auth.eq_ignore_ascii_case("AUTH") => (None, user, token),
            [hello, version, auth, user, token, ..]
                if hello.eq_ignore_ascii_case("HELLO") && auth.eq_ignore_ascii_case("AUTH") =>
            {
                (Some((*version).to_owned()), user, token)
            }
            _ => return None,
        };
        Some(Self { user: (*user).to_owned(), token: (*token).to_owned(), protocol })
    }
}

/// Encodes a command as clients send it.
fn command(words: &[&str]) -> String {
    let bulk: Vec<_> = words.iter().map(|word| format!("${}\r\n{word}\r\n", word.len())).collect();
    format!("*{}\r\n{}", words.len(), bulk.concat())
}

/// Removes and returns the first command of the received bytes, if it is complete.
fn take_command(bytes: &mut Vec<u8>) -> Option<Vec<String>> {
    let mut rest = bytes.as_slice();
    let count = number(&mut rest, b'*')?;
    let mut words = Vec::new();
    for _ in 0..count {
        let length = number(&mut rest, b'$')?;
        let (word, after) = rest.split_at_checked(length)?;
        rest = after.strip_prefix(b"\r\n")?;
        words.push(String::from_utf8_lossy(word).into_owned());
    }
    let used = bytes.len() - rest.len();
    bytes.drain(..used);
    Some(words)
}

/// Parses `*3\r\n`.
fn number(rest: &mut &[u8], sigil: u8) -> Option<usize> {
    let end = rest.windows(2).position(|pair| pair == b"\r\n")?;
    let (line, after) = rest.split_at(end);
    let digits = line.strip_prefix(&[sigil])?;
    *rest = &after[2..];
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_taken_one_by_one_and_only_whole() {
        let mut bytes = (command(&["AUTH", "me", "to ken"]) + &command(&["PING"])).into_bytes();
        let half = bytes.split_off(bytes.len() - 3);
        assert_eq!(take_command(&mut bytes).unwrap(), ["AUTH", "me", "to ken"]);
        assert_eq!(take_command(&mut bytes), None);
        bytes.extend(half);
        assert_eq!(take_command(&mut bytes).unwrap(), ["PING"]);
        assert!(bytes.is_empty());
    }
}
