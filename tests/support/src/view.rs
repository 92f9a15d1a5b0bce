//! A client's view of an API server, under test control: watches that stall, proceed one event at a time, or
//! must restart. Lists, reads and writes stay current, as on a real API server.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use futures::{StreamExt, stream};
use http_body_util::BodyExt;
use kube::config::{KubeConfigOptions, Kubeconfig};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// An HTTP proxy to an API server, with the credentials of a kubeconfig. It stops when it is dropped.
#[derive(Debug)]
pub struct View {
    address: SocketAddr,
    held: Arc<Held>,
    serving: JoinHandle<()>,
}

/// The held watches, by the plural name of their resource.
#[derive(Debug, Default)]
struct Held {
    by_resource: Mutex<HashMap<String, Hold>>,
    changes: watch::Sender<u64>,
    lists: Mutex<Vec<String>>,
}

/// How many more events may pass, and how often such watches had to restart.
#[derive(Clone, Copy, Debug, Default)]
struct Hold {
    may_pass: Option<usize>,
    renewals: u64,
}

impl View {
    /// Creates a view for the user of this kubeconfig.
    ///
    /// # Panics
    /// When the kubeconfig is unusable, or there is no port to listen on.
    pub async fn of(kubeconfig: &Path) -> Self {
        let kubeconfig = Kubeconfig::read_from(kubeconfig).expect("a kubeconfig");
        let config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await;
        let client = kube::Client::try_from(config.expect("a usable kubeconfig")).expect("a client");
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let address = listener.local_addr().expect("a bound port has an address");
        let held = Arc::<Held>::default();
        let router = Router::new().fallback(pass_on).with_state((client, Arc::clone(&held)));
        let serving = tokio::spawn(async move { axum::serve(listener, router).await.expect("it serves") });
        Self { address, held, serving }
    }

    /// Writes a kubeconfig that refers to this view, and needs no credentials.
    ///
    /// # Panics
    /// When the folder cannot be written.
    #[must_use]
    pub fn kubeconfig(&self, folder: &Path) -> PathBuf {
        let path = folder.join("view.kubeconfig");
        let server = format!("http://{}", self.address);
        let text = format!(
            "{{apiVersion: v1, kind: Config, current-context: view, clusters: [{{name: view, cluster: {{server: '{server}'}}}}], \
             users: [{{name: view, user: {{}}}}], contexts: [{{name: view, context: {{cluster: view, user: view}}}}]}}\n"
        );
        std::fs::write(&path, text).expect("the kubeconfig is written");
        path
    }

    /// Holds the watches of a resource (`secrets`), also new ones.
    pub fn hold(&self, resource: &str) {
        self.held.set(resource, |hold| hold.may_pass = Some(0));
    }

    /// Lets one more event of a held resource pass.
    pub fn pass_one(&self, resource: &str) {
        self.held.set(resource, |hold| hold.may_pass = hold.may_pass.map(|more| more + 1));
    }

    /// Releases the watches of a resource: they catch up, with every event in order.
    pub fn release(&self, resource: &str) {
        self.held.set(resource, |hold| hold.may_pass = None);
    }

    /// Makes the watches of a resource fail with 410 Gone, so that they list again and see only the final
    /// state.
    pub fn begin_again(&self, resource: &str) {
        self.held.set(resource, |hold| {
            hold.may_pass = None;
            hold.renewals += 1;
        });
    }

    /// Returns path and query of every list so far.
    #[must_use]
    pub fn lists(&self) -> Vec<String> {
        self.held.lists.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for View {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Held {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Hold>> {
        self.by_resource.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, resource: &str, change: impl FnOnce(&mut Hold)) {
        change(self.lock().entry(resource.to_owned()).or_default());
        self.changes.send_modify(|changes| *changes += 1);
    }

    fn of(&self, resource: &str) -> Hold {
        self.lock().get(resource).copied().unwrap_or_default()
    }

    /// Claims the permission for one event.
    fn may_pass(&self, resource: &str) -> bool {
        let mut held = self.lock();
        match held.entry(resource.to_owned()).or_default().may_pass.as_mut() {
            None => true,
            Some(0) => false,
            Some(more) => {
                *more -= 1;
                true
            }
        }
    }
}

async fn pass_on(State((client, held)): State<(kube::Client, Arc<Held>)>, request: Request) -> Response {
    let (asked, body) = request.into_parts();
    let path = asked.uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
    let resource = resource_of(asked.uri.path());
    let is_watch = asked.uri.query().is_some_and(|query| query.split('&').any(|one| one == "watch=true"));
    if asked.method == "GET" && !is_watch {
        held.lists.lock().unwrap_or_else(PoisonError::into_inner).push(path.clone());
    }
    let Ok(body) = body.collect().await else { return StatusCode::BAD_REQUEST.into_response() };
    let mut onward = axum::http::Request::builder().method(asked.method).uri(path);
    for (name, value) in
        asked.headers.iter().filter(|(name, _)| !matches!(name.as_str(), "host" | "content-length"))
    {
        onward = onward.header(name, value);
    }
    let onward = onward.body(kube::client::Body::from(body.to_bytes().to_vec())).expect("a request");
    match client.send(onward).await {
        Ok(answer) if is_watch && answer.status().is_success() => {
            let (said, body) = answer.into_parts();
            let lines = Lines { body: body.into_data_stream().boxed(), buffer: Vec::new() };
            let events = stream::unfold(Watched::new(lines, held, resource), Watched::next);
            Response::from_parts(said, Body::from_stream(events))
        }
        Ok(answer) => {
            let (said, body) = answer.into_parts();
            Response::from_parts(said, Body::new(body))
        }
        Err(error) => (StatusCode::BAD_GATEWAY, error.to_string()).into_response(),
    }
}

/// Returns the last part of a path to a collection: `secrets` in `/api/v1/namespaces/shop/secrets`.
fn resource_of(path: &str) -> String {
    path.trim_end_matches('/').rsplit('/').next().unwrap_or_default().to_owned()
}

/// The events of a watch, one JSON per line.
struct Lines<E> {
    body: stream::BoxStream<'static, Result<Bytes, E>>,
    buffer: Vec<u8>,
}

impl<E> Lines<E> {
    /// Returns the next line with its line break; `None` at the end of the watch.
    async fn next(&mut self) -> Option<Vec<u8>> {
        loop {
            if let Some(end) = self.buffer.iter().position(|&byte| byte == b'\n') {
                return Some(self.buffer.drain(..=end).collect());
            }
            self.buffer.extend_from_slice(&self.body.next().await?.ok()?);
        }
    }
}

/// One watch, limited to the events that may pass.
struct Watched<E> {
    lines: Lines<E>,
    held: Arc<Held>,
    resource: String,
    renewals: u64,
    changes: watch::Receiver<u64>,
    /// An event that may not pass yet.
    waiting: Option<Vec<u8>>,
    is_over: bool,
}

/// The event of a watch that cannot resume.
const GONE: &str = concat!(
    r#"{"type":"ERROR","object":{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","#,
    r#""reason":"Expired","message":"too old resource version","code":410}}"#,
    "\n"
);

impl<E> Watched<E> {
    fn new(lines: Lines<E>, held: Arc<Held>, resource: String) -> Self {
        let (renewals, changes) = (held.of(&resource).renewals, held.changes.subscribe());
        Self { lines, held, resource, renewals, changes, waiting: None, is_over: false }
    }

    async fn next(mut self) -> Option<(Result<Bytes, Infallible>, Self)> {
        while !self.is_over {
            let Hold { may_pass, renewals } = self.held.of(&self.resource);
            if renewals != self.renewals {
                self.is_over = true;
                return Some((Ok(Bytes::from_static(GONE.as_bytes())), self));
            }
            match self.waiting.take() {
                // A bookmark would make the client believe that it has seen the held events.
                Some(line) if may_pass.is_some() && is_bookmark(&line) => {}
                Some(line) if self.held.may_pass(&self.resource) => {
                    return Some((Ok(Bytes::from(line)), self));
                }
                Some(line) => {
                    self.waiting = Some(line);
                    self.changes.changed().await.ok()?;
                }
                None => tokio::select! {
                    line = self.lines.next() => self.waiting = Some(line?),
                    changed = self.changes.changed() => changed.ok()?,
                },
            }
        }
        None
    }
}

fn is_bookmark(line: &[u8]) -> bool {
    line.starts_with(br#"{"type":"BOOKMARK""#)
}
