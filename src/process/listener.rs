//! Serves HTTP to clients that may be hostile: every pod of the cluster reaches the ports of the operator unless a
//! `NetworkPolicy` keeps it out. Nothing that a client sends, or does not send, holds more than a bounded amount of memory.

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use rustix::io::Errno;
use rustix::net::sockopt::set_ipv6_v6only;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio_util::task::AbortOnDropHandle;

/// How long a client may take to send the head of a request. A connection without a request is closed after this time too.
pub const HEAD_WITHIN: Duration = Duration::from_secs(5);
/// Maximum connections of one listener. A new connection closes the oldest one: the kubelet and Prometheus need theirs
/// for milliseconds, and clients that hold on to connections lose them.
pub const MOST_CONNECTIONS: usize = 32;
/// Maximum bytes of the head of a request, the least that hyper accepts.
const HEAD_BYTES: usize = 8_192;
/// Pause after a failed accept: while the process has no file descriptors left, every accept fails.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// Connections that the kernel holds until they are accepted.
const BACKLOG: u32 = 1_024;

/// Opens a listener. `[::]` accepts IPv4 too, and becomes `0.0.0.0` where the machine has no IPv6.
pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    in_either_family(address, open)
}

fn in_either_family<T>(address: SocketAddr, open: impl Fn(SocketAddr) -> io::Result<T>) -> io::Result<T> {
    match open(address) {
        Err(error) if is_every_address(address) && lacks_ipv6(&error) => {
            open((Ipv4Addr::UNSPECIFIED, address.port()).into())
        }
        opened => opened,
    }
}

fn open(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    if is_every_address(address) {
        // Where `net.ipv6.bindv6only` is set, the default would be IPv6 alone.
        set_ipv6_v6only(&socket, false)?;
    }
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

fn is_every_address(address: SocketAddr) -> bool {
    matches!(address.ip(), IpAddr::V6(ip) if ip.is_unspecified())
}

/// Whether the kernel has no IPv6, or no interface has an address of it.
fn lacks_ipv6(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::AFNOSUPPORT | Errno::ADDRNOTAVAIL))
}

/// Serves `router` until it is dropped.
pub async fn serve(listener: TcpListener, router: Router) {
    let mut open: VecDeque<AbortOnDropHandle<()>> = VecDeque::with_capacity(MOST_CONNECTIONS);
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                open.retain(|connection| !connection.is_finished());
                if open.len() == MOST_CONNECTIONS {
                    open.pop_front();
                }
                open.push_back(AbortOnDropHandle::new(tokio::spawn(connection(stream, router.clone()))));
            }
            Err(error) => {
                tracing::debug!(%error, "a connection was not accepted");
                tokio::time::sleep(ACCEPT_AGAIN).await;
            }
        }
    }
}

async fn connection(stream: TcpStream, router: Router) {
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_WITHIN)
        .max_buf_size(HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router))
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "a connection ended early");
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv6Addr;

    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n";

    fn listening() -> (SocketAddr, AbortOnDropHandle<()>) {
        listening_on((Ipv4Addr::LOCALHOST, 0).into())
    }

    fn listening_on(address: SocketAddr) -> (SocketAddr, AbortOnDropHandle<()>) {
        let listener = bind(address).unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new().route("/", get(|| async { "ok\n" }));
        (address, AbortOnDropHandle::new(tokio::spawn(serve(listener, router))))
    }

    async fn sending(address: SocketAddr, bytes: &[u8]) -> TcpStream {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        stream
    }

    /// Returns what a connection receives until it is closed, by a response, by the end or by a reset.
    async fn rest(mut stream: TcpStream) -> String {
        let mut all = Vec::new();
        let _ = stream.read_to_end(&mut all).await;
        String::from_utf8(all).unwrap()
    }

    #[tokio::test]
    async fn every_address_is_of_both_families() {
        let (address, _serving) = listening_on((Ipv6Addr::UNSPECIFIED, 0).into());
        for host in [IpAddr::from(Ipv4Addr::LOCALHOST), Ipv6Addr::LOCALHOST.into()] {
            let mut client = sending((host, address.port()).into(), GET).await;
            let mut head = [0; 15];
            client.read_exact(&mut head).await.unwrap();
            assert_eq!(&head, b"HTTP/1.1 200 OK", "{host}");
        }
    }

    #[test]
    fn a_machine_without_ipv6_listens_on_ipv4() {
        for errno in [Errno::AFNOSUPPORT, Errno::ADDRNOTAVAIL] {
            let open = |address: SocketAddr| if address.is_ipv4() { Ok(address) } else { Err(errno.into()) };
            let any = (Ipv6Addr::UNSPECIFIED, 8080).into();
            assert_eq!(in_either_family(any, open).unwrap(), "0.0.0.0:8080".parse().unwrap());
            // One address that was asked for is never replaced by another one.
            assert!(in_either_family((Ipv6Addr::LOCALHOST, 8080).into(), open).is_err());
        }
        let taken = |_| Err::<SocketAddr, _>(Errno::ADDRINUSE.into());
        assert!(in_either_family((Ipv6Addr::UNSPECIFIED, 8080).into(), taken).is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn half_a_request_and_an_idle_connection_are_closed() {
        let (address, _serving) = listening();
        let began = tokio::time::Instant::now();
        for bytes in [&GET[..10], b"", GET] {
            let stream = sending(address, bytes).await;
            let said = rest(stream).await;
            assert_eq!(said.starts_with("HTTP/1.1 200"), bytes == GET, "{said}");
        }
        assert!(began.elapsed() >= 3 * HEAD_WITHIN, "{:?}", began.elapsed());
    }

    /// Ten times as many clients as there may be connections send half a request each.
    #[tokio::test]
    async fn a_new_client_is_served_however_many_hold_on() {
        let (address, _serving) = listening();
        let mut stuck = Vec::new();
        for _ in 0..10 * MOST_CONNECTIONS {
            stuck.push(sending(address, &GET[..10]).await);
        }
        let mut client = sending(address, GET).await;
        let mut head = [0; 15];
        client.read_exact(&mut head).await.unwrap();
        assert_eq!(&head, b"HTTP/1.1 200 OK");
        // The oldest connections are closed for newer ones, and not for their own silence.
        let began = std::time::Instant::now();
        for stream in stuck.drain(..9 * MOST_CONNECTIONS) {
            assert_eq!(rest(stream).await, "");
        }
        assert!(began.elapsed() < HEAD_WITHIN / 2, "{:?}", began.elapsed());
    }

    #[tokio::test]
    async fn a_head_that_is_too_long_is_refused() {
        let (address, _serving) = listening();
        let mut stream = sending(address, b"GET / HTTP/1.1\r\nX: ").await;
        let _ = stream.write_all(&vec![b'x'; 2 * HEAD_BYTES]).await;
        let said = rest(stream).await;
        assert!(said.is_empty() || said.starts_with("HTTP/1.1 431"), "{said}");
    }
}
