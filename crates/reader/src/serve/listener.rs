//! Connections: how many there may be, and how long each may take for what.
//!
//! Everything else in the container can reach the loopback. Somebody who opens connections and says nothing, or half of a request, or
//! does not read the answer, must not keep the program beside us from its parameters.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::http::StatusCode;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use rustix::net::sockopt::set_tcp_user_timeout;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{sleep, timeout};

/// Connections at the same time. A later one waits in the queue of the socket until one is free.
const CONNECTIONS: u32 = 128;
/// For the head of a request, from the first moment at which one may come: an idle connection is closed after it too. On the loopback
/// an SDK needs milliseconds, and opens another one.
const HEAD_WITHIN: Duration = Duration::from_secs(5);
/// Largest head. The session token of a role is the largest header that an SDK sends, with up to 8 KiB.
const MAX_HEAD: usize = 32 * 1024;
/// For the body after the head.
const BODY_WITHIN: Duration = Duration::from_secs(5);
/// Largest body. Ten names of 2,048 characters, the most that SSM takes, are 21 KiB.
const MAX_BODY: usize = 64 * 1024;
/// For what was sent until the other side has read it (`TCP_USER_TIMEOUT`, tcp(7)), which covers a window of zero too.
const READ_WITHIN_MS: u32 = 10_000;
/// For requests under way, at the end.
const GRACE: Duration = Duration::from_secs(5);
/// After a failed accept: no file descriptor is free, for example.
const PAUSE: Duration = Duration::from_millis(100);

/// Answers until `end`, and lets requests under way finish.
pub(super) async fn serve(listener: TcpListener, routes: Router, end: impl Future<Output = ()>) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS as usize));
    let (ending, _) = watch::channel(false);
    let mut end = pin!(end);
    loop {
        let (slot, stream) = tokio::select! {
            () = &mut end => break,
            accepted = accept(&listener, &slots) => accepted,
        };
        tokio::spawn(answer(stream, routes.clone(), ending.subscribe(), slot));
    }
    drop(listener);
    ending.send_replace(true);
    // What takes longer is given up: the process ends.
    let _ = timeout(GRACE, slots.acquire_many(CONNECTIONS)).await;
}

/// The next connection, once there may be one more.
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
    // Where it cannot be set, the other limits hold.
    let _ = set_tcp_user_timeout(&stream, READ_WITHIN_MS);
    let _ = stream.set_nodelay(true);
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD_WITHIN).max_buf_size(MAX_HEAD);
    let mut connection = pin!(http.serve_connection(TokioIo::new(stream), TowerToHyperService::new(routes)));
    // How a connection ends is for its other side to know.
    tokio::select! {
        _ = connection.as_mut() => return,
        _ = ending.wait_for(|ending| *ending) => connection.as_mut().graceful_shutdown(),
    }
    let _ = connection.await;
}

/// The whole body of a request, if it is neither too large nor too slow.
pub(super) async fn body(body: Body) -> Result<Bytes, StatusCode> {
    match timeout(BODY_WITHIN, to_bytes(body, MAX_BODY)).await {
        Ok(Ok(body)) => Ok(body),
        Ok(Err(_)) => Err(StatusCode::PAYLOAD_TOO_LARGE),
        Err(_) => Err(StatusCode::REQUEST_TIMEOUT),
    }
}
