//! Limits on connections: how many are open, and how long each may take for what.
//!
//! Everything else in the container can reach the loopback. A client that opens connections and sends nothing
//! or half a request, or does not read the answer, must not cut the application off from its parameters.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::http::StatusCode;
use futures::future::join_all;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use rustix::net::sockopt::set_tcp_user_timeout;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{sleep, timeout};

/// The most open connections. Another one waits in the socket's backlog until a slot is free.
const CONNECTIONS: u32 = 128;
/// The time limit for the head of a request. It starts as soon as a request may come, so it also closes idle
/// connections. On the loopback an SDK needs milliseconds, and it reconnects when necessary.
const HEAD_WITHIN: Duration = Duration::from_secs(5);
/// The largest head. The largest header an SDK sends is the session token of a role, up to 8 KiB.
const MAX_HEAD: usize = 32 * 1024;
/// The time limit for the body, after the head.
const BODY_WITHIN: Duration = Duration::from_secs(5);
/// The largest body. Ten names of 2,048 characters, the most that SSM accepts, are 21 KiB.
const MAX_BODY: usize = 64 * 1024;
/// The time limit for the peer to read what was sent (`TCP_USER_TIMEOUT`, tcp(7)). It also covers a zero
/// window.
const READ_WITHIN_MS: u32 = 10_000;
/// The time limit for requests in progress at shutdown.
const GRACE: Duration = Duration::from_secs(5);
/// The pause after a failed accept, for example when no file descriptor is free.
const PAUSE: Duration = Duration::from_millis(100);

/// Serves until `end`, then lets requests in progress finish.
pub(super) async fn serve(listeners: Vec<TcpListener>, routes: Router, end: impl Future<Output = ()>) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS as usize));
    let (ending, _) = watch::channel(false);
    // The slots are handed out in turn, so that a flood on one address leaves some to the other.
    let accepting = listeners.iter().map(async |listener| {
        loop {
            let (slot, stream) = accept(listener, &slots).await;
            tokio::spawn(answer(stream, routes.clone(), ending.subscribe(), slot));
        }
    });
    let accepting = join_all(accepting);
    tokio::select! {
        () = end => {}
        _ = accepting => {}
    }
    drop(listeners);
    ending.send_replace(true);
    // Requests that take longer are dropped, because the process ends.
    let _ = timeout(GRACE, slots.acquire_many(CONNECTIONS)).await;
}

/// Accepts the next connection once a slot is free.
async fn accept(listener: &TcpListener, slots: &Arc<Semaphore>) -> (OwnedSemaphorePermit, TcpStream) {
    loop {
        let Ok(slot) = Arc::clone(slots).acquire_owned().await else { std::future::pending().await };
        match listener.accept().await {
            Ok((stream, _)) => return (slot, stream),
            Err(_) => sleep(PAUSE).await,
        }
    }
}

async fn answer(
    stream: TcpStream,
    routes: Router,
    mut ending: watch::Receiver<bool>,
    _slot: OwnedSemaphorePermit,
) {
    // Best effort: the other limits hold without it.
    let _ = set_tcp_user_timeout(&stream, READ_WITHIN_MS);
    let _ = stream.set_nodelay(true);
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD_WITHIN).max_buf_size(MAX_HEAD);
    let mut connection = pin!(http.serve_connection(TokioIo::new(stream), TowerToHyperService::new(routes)));
    // Connection errors are ignored: only the peer can act on them.
    tokio::select! {
        _ = connection.as_mut() => return,
        _ = ending.wait_for(|ending| *ending) => connection.as_mut().graceful_shutdown(),
    }
    let _ = connection.await;
}

/// Reads the whole body of a request, within the limits of size and time.
pub(super) async fn body(body: Body) -> Result<Bytes, StatusCode> {
    match timeout(BODY_WITHIN, to_bytes(body, MAX_BODY)).await {
        Ok(Ok(body)) => Ok(body),
        Ok(Err(_)) => Err(StatusCode::PAYLOAD_TOO_LARGE),
        Err(_) => Err(StatusCode::REQUEST_TIMEOUT),
    }
}
