//! A network cable between one part and another, that can be pulled out and put in again.

use std::net::{Ipv4Addr, SocketAddr};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// How much is carried at once.
const PIECE: usize = 64 * 1024;

/// Carries TCP connections to a server. While it is cut nothing passes and nothing is refused, as behind a broken switch;
/// what was sent meanwhile arrives when it is mended, however late that is.
///
/// It ends with the runtime that it was laid in, and when it is dropped.
#[derive(Debug)]
pub struct Cable {
    address: SocketAddr,
    whole: watch::Sender<bool>,
    _carriers: JoinSet<()>,
}

impl Cable {
    /// Lays a cable to `server`, a `host:port`.
    ///
    /// # Panics
    /// When there is no port to listen on.
    pub async fn to(server: &str) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let address = listener.local_addr().expect("a bound port has an address");
        let (whole, state) = watch::channel(true);
        let mut carriers = JoinSet::new();
        carriers.spawn(listen(listener, server.to_owned(), state));
        Self { address, whole, _carriers: carriers }
    }

    /// Where its near end is: `127.0.0.1:port`.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Nothing passes any more.
    pub fn cut(&self) {
        self.whole.send_replace(false);
    }

    /// Everything passes again, also what was sent meanwhile.
    pub fn mend(&self) {
        self.whole.send_replace(true);
    }
}

async fn listen(listener: TcpListener, server: String, whole: watch::Receiver<bool>) {
    // Dropped with this task, and the connections with it.
    let mut connections = JoinSet::new();
    while let Ok((near, _)) = listener.accept().await {
        while connections.try_join_next().is_some() {}
        connections.spawn(connect(near, server.clone(), whole.clone()));
    }
}

async fn connect(near: TcpStream, server: String, mut whole: watch::Receiver<bool>) {
    if whole.wait_for(|whole| *whole).await.is_err() {
        return;
    }
    let Ok(far) = TcpStream::connect(server).await else { return };
    let ((near_reader, near_writer), (far_reader, far_writer)) = (near.into_split(), far.into_split());
    tokio::join!(carry(near_reader, far_writer, whole.clone()), carry(far_reader, near_writer, whole));
}

/// One direction, until its sender ends it.
async fn carry(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut whole: watch::Receiver<bool>) {
    let mut piece = vec![0; PIECE];
    while let Ok(length @ 1..) = from.read(&mut piece).await {
        if whole.wait_for(|whole| *whole).await.is_err() || to.write_all(&piece[..length]).await.is_err() {
            return;
        }
    }
    let _ = to.shutdown().await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wait::eventually;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    /// A server that counts the bytes it gets and answers each piece with `!`.
    async fn server() -> (String, Arc<AtomicUsize>) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let (address, counted) = (listener.local_addr().unwrap().to_string(), Arc::new(AtomicUsize::new(0)));
        let count = Arc::clone(&counted);
        tokio::spawn(async move {
            let (mut client, _) = listener.accept().await.unwrap();
            let mut piece = [0; 16];
            while let Ok(length @ 1..) = client.read(&mut piece).await {
                count.fetch_add(length, Ordering::SeqCst);
                client.write_all(b"!").await.unwrap();
            }
        });
        (address, counted)
    }

    #[tokio::test]
    async fn nothing_passes_a_cut_cable_and_nothing_is_lost_in_it() {
        let (address, arrived) = server().await;
        let cable = Cable::to(&address).await;
        let mut client = TcpStream::connect(cable.address()).await.unwrap();
        let mut answer = [0];
        client.write_all(b"a").await.unwrap();
        client.read_exact(&mut answer).await.unwrap();

        cable.cut();
        client.write_all(b"bc").await.unwrap();
        let silent = tokio::time::timeout(Duration::from_millis(300), client.read_exact(&mut answer)).await;
        assert!(silent.is_err(), "an answer came through");
        assert_eq!(arrived.load(Ordering::SeqCst), 1);
        // A new connection is taken, and silent too.
        let late = TcpStream::connect(cable.address()).await.unwrap();

        cable.mend();
        client.read_exact(&mut answer).await.unwrap();
        eventually("what was sent meanwhile arrives", Duration::from_secs(5), async || {
            let count = arrived.load(Ordering::SeqCst);
            if count == 3 { Ok(()) } else { Err(count) }
        })
        .await;
        drop(late);
    }
}
