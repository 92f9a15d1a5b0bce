//! A TCP path under test control: the network between a client and a server, which can fail while both are
//! healthy.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::sleep;

use crate::port::Port;

/// What the path does to traffic, in both directions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Path {
    /// Forwards everything.
    Passes,
    /// Accepts connections and keeps them open, but drops every byte, like a firewall that has lost its
    /// state. A connection that has lost bytes stays silent for ever; later connections are not affected.
    Silent,
    /// Holds traffic back without refusing anything, like a switch that is being replaced. Held traffic
    /// arrives when the path passes again, however late.
    Holds,
    /// Refuses new connections. Open ones pass.
    Refuses,
    /// Forwards one byte per second.
    Trickles,
    /// Delays each piece by this time.
    Delays(Duration),
    /// Once: forwards a request that contains these bytes, and resets the connection when the server answers
    /// it. Then everything passes.
    LosesAnswerTo(&'static [u8]),
}

/// A proxy on a port of 127.0.0.1. Dropping it closes its connections.
#[derive(Debug)]
pub struct Proxy {
    port: Port,
    road: Arc<Road>,
    listening: watch::Receiver<bool>,
    accepting: JoinHandle<()>,
}

#[derive(Debug)]
struct Road {
    path: watch::Sender<Path>,
    target: Mutex<SocketAddr>,
    /// Incremented to reset all connections.
    resets: watch::Sender<u64>,
    accepted: AtomicU64,
}

impl Proxy {
    /// Starts a proxy to `target`.
    pub async fn start(target: SocketAddr) -> Self {
        let port = Port::take();
        let road = Arc::new(Road {
            path: watch::Sender::new(Path::Passes),
            target: Mutex::new(target),
            resets: watch::Sender::new(0),
            accepted: AtomicU64::new(0),
        });
        let (listens, listening) = watch::channel(false);
        let accepting = tokio::spawn(accept(port.number(), Arc::clone(&road), listens));
        let proxy = Self { port, road, listening, accepting };
        proxy.set(Path::Passes).await;
        proxy
    }

    /// Returns the address it listens on.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port.number()).into()
    }

    /// Changes the path, also for open connections. The change is in effect when this returns.
    pub async fn set(&self, path: Path) {
        let listens = path != Path::Refuses;
        self.road.path.send_replace(path);
        let mut listening = self.listening.clone();
        listening.wait_for(|is| *is == listens).await.expect("the proxy runs");
    }

    /// Resets every open connection.
    pub fn reset(&self) {
        self.road.resets.send_modify(|resets| *resets += 1);
    }

    /// Sends new connections to another target, like a DNS name after a failover.
    pub fn lead_to(&self, target: SocketAddr) {
        *self.road.target.lock().unwrap_or_else(PoisonError::into_inner) = target;
    }

    /// Returns the number of connections it has accepted.
    #[must_use]
    pub fn accepted(&self) -> u64 {
        self.road.accepted.load(Ordering::SeqCst)
    }

    /// Whether an answer was lost since [`Path::LosesAnswerTo`] was set.
    #[must_use]
    pub fn has_lost_the_answer(&self) -> bool {
        *self.road.path.borrow() == Path::Passes
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// Listens while the path does not refuse.
async fn accept(port: u16, road: Arc<Road>, listens: watch::Sender<bool>) {
    let mut connections = JoinSet::new();
    let mut path = road.path.subscribe();
    loop {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await.expect("the port is ours");
        listens.send_replace(true);
        while *path.borrow_and_update() != Path::Refuses {
            tokio::select! {
                _ = path.changed() => {}
                Some(_) = connections.join_next() => {}
                accepted = listener.accept() => if let Ok((client, _)) = accepted {
                    road.accepted.fetch_add(1, Ordering::SeqCst);
                    connections.spawn(Arc::clone(&road).carry(client));
                }
            }
        }
        drop(listener);
        listens.send_replace(false);
        let _ = path.wait_for(|path| *path != Path::Refuses).await;
    }
}

impl Road {
    /// Carries one connection, until either end closes it or it is reset.
    async fn carry(self: Arc<Self>, client: TcpStream) {
        let mut resets = self.resets.subscribe();
        self.until_released().await;
        let lost = AtomicBool::new(*self.path.borrow() == Path::Silent);
        // A client that connects while the path is silent gets no server, and its bytes are lost.
        let server = if lost.load(Ordering::SeqCst) {
            None
        } else {
            let target = *self.target.lock().unwrap_or_else(PoisonError::into_inner);
            let Ok(server) = TcpStream::connect(target).await else { return reset(&client) };
            Some(server)
        };
        let _ =
            client.set_nodelay(true).and_then(|()| server.as_ref().map_or(Ok(()), |s| s.set_nodelay(true)));
        let (mut from_client, mut to_client) = client.into_split();
        let (from_server, to_server) = server.map(TcpStream::into_split).unzip();
        let cut = AtomicBool::new(false);
        tokio::select! {
            _ = resets.changed() => cut.store(true, Ordering::SeqCst),
            () = self.requests(&mut from_client, to_server, &lost, &cut) => {}
            () = self.answers(from_server, &mut to_client, &lost, &cut) => {}
        }
        if cut.load(Ordering::SeqCst) {
            reset(to_client.as_ref());
            to_client.forget();
        }
    }

    /// Forwards what the client sends; ends when the client closes its end.
    async fn requests(
        &self,
        from: &mut OwnedReadHalf,
        mut to: Option<OwnedWriteHalf>,
        lost: &AtomicBool,
        cut: &AtomicBool,
    ) {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(read @ 1..) = from.read(&mut buffer).await {
            let bytes = &buffer[..read];
            let path = self.path.borrow().clone();
            if let Path::LosesAnswerTo(needle) = path
                && bytes.windows(needle.len()).any(|window| window == needle)
            {
                cut.store(true, Ordering::SeqCst);
            }
            if let Some(to) = &mut to
                && !self.forward(bytes, to, lost).await
            {
                return;
            }
        }
    }

    /// Forwards what the server sends. While the path is silent, the client does not notice that the server
    /// has gone.
    async fn answers(
        &self,
        from: Option<OwnedReadHalf>,
        to: &mut OwnedWriteHalf,
        lost: &AtomicBool,
        cut: &AtomicBool,
    ) {
        let Some(mut from) = from else { return std::future::pending().await };
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(read @ 1..) = from.read(&mut buffer).await {
            if cut.load(Ordering::SeqCst) {
                self.path.send_replace(Path::Passes);
                return;
            }
            if !self.forward(&buffer[..read], to, lost).await {
                return;
            }
        }
        self.until_released().await;
        if lost.load(Ordering::SeqCst) || *self.path.borrow() == Path::Silent {
            std::future::pending::<()>().await;
        }
    }

    /// Waits while the path holds traffic back.
    async fn until_released(&self) {
        let _ = self.path.subscribe().wait_for(|path| *path != Path::Holds).await;
    }

    /// Forwards bytes as the path allows. Returns `false` if the other end is gone.
    async fn forward(&self, mut bytes: &[u8], to: &mut OwnedWriteHalf, lost: &AtomicBool) -> bool {
        let mut path = self.path.subscribe();
        while !bytes.is_empty() {
            let now = path.borrow_and_update().clone();
            if now == Path::Silent {
                lost.store(true, Ordering::SeqCst);
            }
            if lost.load(Ordering::SeqCst) {
                return true;
            }
            if now == Path::Holds {
                self.until_released().await;
                continue;
            }
            let (pause, piece) = match now {
                Path::Trickles => (Duration::from_secs(1), 1),
                Path::Delays(pause) => (pause, bytes.len()),
                _ => (Duration::ZERO, bytes.len()),
            };
            if !pause.is_zero() {
                tokio::select! {
                    () = sleep(pause) => {}
                    // The new path may forward at once.
                    _ = path.changed() => continue,
                }
            }
            let (now, later) = bytes.split_at(piece);
            if to.write_all(now).await.is_err() {
                return false;
            }
            bytes = later;
        }
        true
    }
}

/// Makes the connection end with a reset instead of a FIN when it is dropped.
fn reset(stream: &TcpStream) {
    let _ = stream.set_zero_linger();
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;

    use tokio::time::{Instant, timeout};

    use super::*;

    /// Long enough for everything that must arrive.
    const SOON: Duration = Duration::from_secs(10);

    /// Starts an echo server, and a proxy in front of it.
    async fn before_an_echo() -> Proxy {
        Proxy::start(echo("").await).await
    }

    /// Starts a server that echoes each piece with a word in front of it.
    async fn echo(word: &'static str) -> SocketAddr {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut peer, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let mut buffer = [0; 64];
                    while let Ok(read @ 1..) = peer.read(&mut buffer).await {
                        let answer = [word.as_bytes(), &buffer[..read]].concat();
                        if peer.write_all(&answer).await.is_err() {
                            return;
                        }
                    }
                });
            }
        });
        address
    }

    async fn connect(proxy: &Proxy) -> TcpStream {
        TcpStream::connect(proxy.address()).await.unwrap()
    }

    async fn ask(stream: &mut TcpStream, text: &str) -> std::io::Result<String> {
        stream.write_all(text.as_bytes()).await?;
        let mut answer = [0; 64];
        let read = timeout(SOON, stream.read(&mut answer)).await.expect("an answer or an error")?;
        Ok(String::from_utf8_lossy(&answer[..read]).into_owned())
    }

    /// Sends something, and asserts that no answer arrives while others get theirs.
    async fn is_silent(stream: &mut TcpStream, others: &SocketAddr) {
        stream.write_all(b"anybody?").await.unwrap();
        let mut speaks = TcpStream::connect(others).await.unwrap();
        for _ in 0..20 {
            ask(&mut speaks, "x").await.unwrap();
        }
        assert_eq!(stream.try_read(&mut [0; 64]).unwrap_err().kind(), ErrorKind::WouldBlock);
    }

    #[tokio::test]
    async fn bytes_pass_and_connections_are_counted() {
        let proxy = before_an_echo().await;
        for connections in 1..=3 {
            assert_eq!(ask(&mut connect(&proxy).await, "hello").await.unwrap(), "hello");
            assert_eq!(proxy.accepted(), connections);
        }
    }

    #[tokio::test]
    async fn a_silent_path_swallows_what_comes_and_then_carries_only_what_is_new() {
        let server = echo("").await;
        let proxy = Proxy::start(server).await;
        let (mut spoke, mut idle) = (connect(&proxy).await, connect(&proxy).await);
        ask(&mut spoke, "hello").await.unwrap();
        ask(&mut idle, "hello").await.unwrap();
        proxy.set(Path::Silent).await;
        let mut new = connect(&proxy).await;
        is_silent(&mut spoke, &server).await;
        is_silent(&mut new, &server).await;
        proxy.set(Path::Passes).await;
        is_silent(&mut spoke, &server).await;
        is_silent(&mut new, &server).await;
        assert_eq!(ask(&mut idle, "still here").await.unwrap(), "still here");
        assert_eq!(ask(&mut connect(&proxy).await, "hello").await.unwrap(), "hello");
    }

    #[tokio::test]
    async fn nothing_is_lost_on_a_path_that_holds_everything_back() {
        let server = echo("").await;
        let proxy = Proxy::start(server).await;
        let mut open = connect(&proxy).await;
        ask(&mut open, "hello").await.unwrap();
        proxy.set(Path::Holds).await;
        let mut new = connect(&proxy).await;
        is_silent(&mut open, &server).await;
        is_silent(&mut new, &server).await;
        proxy.set(Path::Passes).await;
        for stream in [&mut open, &mut new] {
            let mut answer = [0; 8];
            timeout(SOON, stream.read_exact(&mut answer)).await.unwrap().unwrap();
            assert_eq!(&answer, b"anybody?");
        }
    }

    #[tokio::test]
    async fn a_refusing_path_keeps_what_is_open_and_a_reset_ends_it() {
        let proxy = before_an_echo().await;
        let mut open = connect(&proxy).await;
        ask(&mut open, "hello").await.unwrap();
        proxy.set(Path::Refuses).await;
        let refused = TcpStream::connect(proxy.address()).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
        assert_eq!(ask(&mut open, "hello").await.unwrap(), "hello");
        proxy.reset();
        let mut byte = [0];
        let ended = timeout(SOON, open.read(&mut byte)).await.unwrap();
        assert_eq!(ended.unwrap_err().kind(), ErrorKind::ConnectionReset);
        proxy.set(Path::Passes).await;
        assert_eq!(ask(&mut connect(&proxy).await, "hello").await.unwrap(), "hello");
    }

    #[tokio::test]
    async fn a_slow_path_is_slow_until_it_passes() {
        let proxy = before_an_echo().await;
        let mut stream = connect(&proxy).await;
        let pause = Duration::from_millis(20);
        proxy.set(Path::Delays(pause)).await;
        let began = Instant::now();
        assert_eq!(ask(&mut stream, "hello").await.unwrap(), "hello");
        assert!(began.elapsed() >= 2 * pause, "there and back: {:?}", began.elapsed());
        proxy.set(Path::Trickles).await;
        assert_eq!(ask(&mut stream, "h").await.unwrap(), "h");
        stream.write_all(b"and now at once").await.unwrap();
        proxy.set(Path::Passes).await;
        let mut answer = [0; 15];
        timeout(SOON, stream.read_exact(&mut answer)).await.unwrap().unwrap();
        assert_eq!(&answer, b"and now at once");
    }

    #[tokio::test]
    async fn the_answer_to_one_request_is_lost() {
        let proxy = before_an_echo().await;
        let mut stream = connect(&proxy).await;
        proxy.set(Path::LosesAnswerTo(b"write")).await;
        assert_eq!(ask(&mut stream, "read").await.unwrap(), "read");
        assert!(!proxy.has_lost_the_answer());
        assert_eq!(ask(&mut stream, "a write").await.unwrap_err().kind(), ErrorKind::ConnectionReset);
        assert!(proxy.has_lost_the_answer());
        assert_eq!(ask(&mut connect(&proxy).await, "a write").await.unwrap(), "a write");
    }

    #[tokio::test]
    async fn what_connects_later_may_lead_elsewhere() {
        let proxy = Proxy::start(echo("first ").await).await;
        let mut old = connect(&proxy).await;
        ask(&mut old, "hello").await.unwrap();
        proxy.lead_to(echo("second ").await);
        assert_eq!(ask(&mut old, "hello").await.unwrap(), "first hello");
        assert_eq!(ask(&mut connect(&proxy).await, "hello").await.unwrap(), "second hello");
    }
}
