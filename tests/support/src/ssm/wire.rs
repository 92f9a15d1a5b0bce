//! HTTP/1.1 on its own thread and runtime: it outlives the runtime of the test that started it, and a test
//! that pauses its clock does not pause this one.
//!
//! It has its own accept loop, because the faults reach below HTTP: resets, refused connections, silence.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use futures::{Stream, StreamExt as _, stream};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinSet;

use super::reply::{Delivery, Reply};

/// The headers of a request that a service uses.
#[derive(Clone, Debug, Default)]
pub(crate) struct Head {
    /// The header `x-amz-target`.
    pub(crate) target: String,
    /// The header `authorization`.
    pub(crate) authorization: String,
}

/// A service behind a port.
pub(crate) trait Service: Send + Sync + 'static {
    /// Called when a connection was accepted.
    fn connected(&self);
    /// Answers a complete request.
    fn answer(self: &Arc<Self>, head: &Head, body: &[u8]) -> Reply;
}

enum Command {
    Refuse,
    Listen,
}

/// An open port with its service; dropping it closes the port.
#[derive(Debug)]
pub(crate) struct Port {
    address: SocketAddr,
    commands: Option<UnboundedSender<(Command, SyncSender<()>)>>,
    thread: Option<JoinHandle<()>>,
}

impl Port {
    /// Listens on a free port.
    pub(crate) fn open(name: &str, service: Arc<impl Service>) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let (commands, inbox) = unbounded_channel();
        let (ready, address) = sync_channel(1);
        let serve = move || {
            runtime.block_on(async move {
                let door = Door::open();
                ready.send(door.address).expect("someone waits for the address");
                door.run(inbox, service).await;
            });
        };
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(serve).expect("a thread");
        let address = address.recv().expect("the port opens");
        Self { address, commands: Some(commands), thread: Some(thread) }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Closes all connections and refuses new ones.
    pub(crate) fn refuse(&self) {
        self.order(Command::Refuse);
    }

    /// Accepts connections again, on the same port.
    pub(crate) fn listen_again(&self) {
        self.order(Command::Listen);
    }

    fn order(&self, command: Command) {
        let (done, wait) = sync_channel(1);
        let commands = self.commands.as_ref().expect("open until dropped");
        commands.send((command, done)).expect("the port's thread lives");
        wait.recv().expect("the port's thread lives");
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        self.commands = None;
        if let Some(thread) = self.thread.take() {
            // A panic on that thread has already been printed, and a second one here would abort the test
            // run.
            let _ = thread.join();
        }
    }
}

/// The listening socket.
struct Door {
    address: SocketAddr,
    listener: Option<TcpListener>,
    /// Bound but never listening: reserves the port while connections are refused.
    _hold: TcpSocket,
}

impl Door {
    fn open() -> Self {
        let hold = bind(SocketAddr::from((crate::port::address(), 0)));
        let address = hold.local_addr().expect("a bound socket has an address");
        Self { address, listener: Some(listen(address)), _hold: hold }
    }

    async fn run(
        mut self,
        mut inbox: UnboundedReceiver<(Command, SyncSender<()>)>,
        service: Arc<impl Service>,
    ) {
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                order = inbox.recv() => {
                    let Some((command, done)) = order else { return };
                    match command {
                        Command::Refuse => {
                            self.listener = None;
                            connections.shutdown().await;
                        }
                        Command::Listen => self.listener = Some(listen(self.address)),
                    }
                    // The sender of the command may have gone.
                    let _ = done.send(());
                }
                stream = self.accept() => {
                    service.connected();
                    connections.spawn(converse(stream, Arc::clone(&service)));
                }
                Some(_) = connections.join_next() => {}
            }
        }
    }

    async fn accept(&self) -> TcpStream {
        let Some(listener) = &self.listener else { return std::future::pending().await };
        loop {
            if let Ok((stream, _)) = listener.accept().await {
                return stream;
            }
        }
    }
}

fn bind(address: SocketAddr) -> TcpSocket {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_reuseaddr(true).expect("a fresh socket takes options");
    socket.set_reuseport(true).expect("a fresh socket takes options");
    socket.bind(address).expect("the port is ours");
    socket
}

fn listen(address: SocketAddr) -> TcpListener {
    bind(address).listen(1024).expect("the port is ours")
}

/// Serves one connection until it ends.
async fn converse(stream: TcpStream, service: Arc<impl Service>) {
    // Small answers must not wait for the client's delayed acknowledgement.
    let _ = stream.set_nodelay(true);
    let respond = service_fn(move |request| {
        let service = Arc::clone(&service);
        Box::pin(async move { respond(request, &service).await })
    });
    let mut connection = hyper::server::conn::http1::Builder::new()
        .timer(hyper_util::rt::TokioTimer::new())
        .serve_connection(TokioIo::new(stream), respond);
    let end = std::future::poll_fn(|context| connection.poll_without_shutdown(context)).await;
    let stream = connection.into_parts().io.into_inner();
    if end.is_err_and(|error| is_reset(&error)) {
        let _ = stream.set_zero_linger();
    }
}

/// The error with which the service requests a reset of the connection.
#[derive(Debug)]
struct ResetWanted;

impl std::fmt::Display for ResetWanted {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("reset wanted")
    }
}

impl std::error::Error for ResetWanted {}

fn is_reset(error: &hyper::Error) -> bool {
    std::error::Error::source(error).is_some_and(<dyn std::error::Error>::is::<ResetWanted>)
}

type Body = UnsyncBoxBody<Bytes, io::Error>;

async fn respond(
    request: Request<Incoming>,
    service: &Arc<impl Service>,
) -> Result<Response<Body>, ResetWanted> {
    let header = |name| request.headers().get(name).and_then(|value| value.to_str().ok());
    let head = Head {
        target: header("x-amz-target").unwrap_or_default().to_owned(),
        authorization: header(AUTHORIZATION.as_str()).unwrap_or_default().to_owned(),
    };
    // A client that disconnected during its request gets no answer anyway.
    let body = request.into_body().collect().await.map_err(|_| ResetWanted)?.to_bytes();
    let reply = service.answer(&head, &body);
    tokio::time::sleep(reply.delay).await;
    match reply.delivery {
        Delivery::Reset => Err(ResetWanted),
        Delivery::Silence => std::future::pending().await,
        _ => Ok(response(&reply)),
    }
}

fn response(reply: &Reply) -> Response<Body> {
    let (media, bytes) = reply.body();
    let mut response = Response::builder()
        .status(reply.status)
        .header(CONTENT_TYPE, media)
        .header(CONTENT_LENGTH, bytes.len())
        .header("x-amzn-requestid", "00000000-0000-4000-8000-000000000000");
    if let Some(error_type) = &reply.error_type {
        response = response.header("x-amzn-errortype", error_type);
    }
    let bytes = Bytes::from(bytes);
    let half = bytes.slice(..bytes.len() / 2);
    let body = match reply.delivery {
        Delivery::Trickle(bytes_per_second) => framed(trickle(bytes, bytes_per_second)),
        Delivery::Stall => framed(stream::iter([Ok(half)]).chain(stream::pending())),
        Delivery::Truncated => framed(stream::iter([Ok(half)]).chain(stream::once(hang_up()))),
        _ => framed(stream::iter([Ok(bytes)])),
    };
    response.body(body).expect("the headers are legal")
}

fn framed(chunks: impl Stream<Item = io::Result<Bytes>> + Send + 'static) -> Body {
    StreamBody::new(chunks.map(|chunk| chunk.map(Frame::data))).boxed_unsync()
}

/// Ends the connection within the body, after the earlier part has been sent.
async fn hang_up() -> io::Result<Bytes> {
    tokio::time::sleep(Duration::from_millis(5)).await;
    Err(io::ErrorKind::ConnectionAborted.into())
}

/// Sends ten chunks per second, each of at least one byte.
fn trickle(bytes: Bytes, bytes_per_second: u32) -> impl Stream<Item = io::Result<Bytes>> {
    let chunk = usize::try_from(bytes_per_second / 10).unwrap_or(usize::MAX).max(1);
    stream::unfold(bytes, move |mut rest| async move {
        if rest.is_empty() {
            return None;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        let sent = rest.split_to(chunk.min(rest.len()));
        Some((Ok(sent), rest))
    })
}
