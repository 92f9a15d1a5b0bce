//! An API server in memory: serves the content of [`objects`](super::objects) to a Kubernetes client.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::{Stream, StreamExt, stream};
use http::header::ACCEPT;
use http::{HeaderMap, Request, Response};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Bytes, Frame};
use kube::Client;
use kube::client::{Body, ClientBuilder};
use parameter_mirror::kubernetes::client::response_timeout;
use serde_json::{Value as Json, json};
use tokio::sync::watch;
use tokio::time::Instant;

use super::line::{Edge, Fault, Line};
use super::objects::{ApiRefusal, Objects, Target};

/// The default duration of a watch.
const WATCH: Duration = Duration::from_secs(290);
type Answer = Response<BoxBody<Bytes, Infallible>>;

#[derive(Clone)]
pub struct ApiServer(Arc<Inner>);

struct Inner {
    objects: Mutex<Objects>,
    version: watch::Sender<u64>,
    /// The version at which watches stall, and of which resource (all if none is named).
    lag: Mutex<Option<(u64, Option<String>)>>,
}

impl Default for ApiServer {
    fn default() -> Self {
        Self(Arc::new(Inner {
            objects: Mutex::default(),
            version: watch::Sender::new(0),
            lag: Mutex::default(),
        }))
    }
}

impl Inner {
    /// Returns the last version that watches of a resource may show.
    fn limit(&self, resource: &str) -> u64 {
        match &*self.lag.lock().unwrap() {
            Some((version, of)) if of.as_ref().is_none_or(|of| of == resource) => *version,
            _ => u64::MAX,
        }
    }
}

impl ApiServer {
    /// Creates a client for one incarnation of the operator.
    pub fn client(&self, line: &Line) -> Client {
        let (server, line) = (self.clone(), line.clone());
        let service = tower::service_fn(move |request: Request<Body>| {
            let (server, line) = (server.clone(), line.clone());
            async move { server.serve(request, line).await }
        });
        ClientBuilder::new(service, "default").with_layer(&response_timeout()).build()
    }

    /// Reads or changes the objects, as a user with all permissions would.
    pub fn objects<T>(&self, look: impl FnOnce(&mut Objects) -> T) -> T {
        let looked = look(&mut self.lock());
        self.announce();
        looked
    }

    /// Stalls all watches at the current version until [`ApiServer::catch_up`]; reads stay current.
    pub fn lag(&self) {
        let version = self.lock().version;
        *self.0.lag.lock().unwrap() = Some((version, None));
    }

    /// Lets watches proceed to this version, and stalls them there.
    pub fn lag_at(&self, version: u64) {
        *self.0.lag.lock().unwrap() = Some((version, None));
        self.announce();
    }

    /// Returns the version of the last change.
    pub fn version(&self) -> u64 {
        self.lock().version
    }

    /// Stalls the watches of one resource at the current version.
    pub fn lag_of(&self, resource: &str) {
        let version = self.lock().version;
        *self.0.lag.lock().unwrap() = Some((version, Some(resource.to_owned())));
    }

    /// Resumes all watches.
    pub fn catch_up(&self) {
        *self.0.lag.lock().unwrap() = None;
        self.announce();
    }

    fn lock(&self) -> MutexGuard<'_, Objects> {
        self.0.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn announce(&self) {
        let version = self.lock().version;
        self.0.version.send_replace(version);
    }

    async fn serve(self, request: Request<Body>, line: Line) -> Result<Answer, tower::BoxError> {
        let (head, body) = request.into_parts();
        let mut target = Target::parse(head.uri.path());
        let query = Query::parse(head.uri.query().unwrap_or_default());
        let verb = match (head.method.as_str(), &target.name) {
            ("GET", _) if query.watch => "watch",
            ("GET", None) => "list",
            ("GET", Some(_)) if wants_metadata(&head.headers) => "metadata",
            ("GET", Some(_)) => "get",
            ("POST", _) => "create",
            ("PUT", _) => "replace",
            ("PATCH", _) => "patch",
            _ => "delete",
        };
        // A watch of one object.
        target.name = target.name.or_else(|| query.name.clone());
        let body = body.collect_bytes().await?;
        let body: Json = serde_json::from_slice(&body).unwrap_or_default();
        let name = target.name.as_deref().or_else(|| body["metadata"]["name"].as_str()).unwrap_or_default();
        let point =
            [verb, " ", &target.resource, "/", name, target.subresource.as_deref().map_or("", |_| "/status")];
        let act = || self.act(verb, &target, &query, body.clone());
        match line.call(Edge::Kubernetes, point.concat(), act).await {
            Ok(Ok(Some(answer))) => Ok(whole(200, &answer)),
            Ok(Ok(None)) => {
                Ok(Response::new(BodyExt::boxed(StreamBody::new(self.watch(target, query, line)))))
            }
            Ok(Err(refusal)) => Ok(status(refusal.code, refusal.reason)),
            Err(Fault::Http(code)) => Ok(status(code, "AsScripted")),
            Err(_) => Err("connection reset".into()),
        }
    }

    /// Executes a request; `None` opens a watch.
    fn act(
        &self,
        verb: &str,
        target: &Target,
        query: &Query,
        body: Json,
    ) -> Result<Option<Json>, ApiRefusal> {
        let mut objects = self.lock();
        let done = match verb {
            "watch" => return Ok(None),
            "list" => {
                let items: Vec<Json> =
                    objects.list(target, &query.labels).iter().map(|object| (**object).clone()).collect();
                let version = objects.version.to_string();
                return Ok(Some(json!({
                    "apiVersion": "v1", "kind": "List", "metadata": {"resourceVersion": version}, "items": items,
                })));
            }
            "get" | "metadata" => {
                let (namespace, name) = (target.namespace.as_deref(), target.name.as_deref());
                let found =
                    objects.get(&target.resource, namespace.unwrap_or_default(), name.unwrap_or_default());
                found.ok_or(ApiRefusal { code: 404, reason: "NotFound" })
            }
            "create" => objects.create(target, body),
            "replace" => objects.replace(target, body),
            "patch" => objects.patch(target, &body),
            _ => objects.delete(target, &body),
        };
        drop(objects);
        self.announce();
        done.map(|object| Some((*object).clone()))
    }

    fn watch(
        self,
        target: Target,
        query: Query,
        line: Line,
    ) -> impl Stream<Item = Result<Frame<Bytes>, Infallible>> + Send {
        let ends = Instant::now() + query.timeout.unwrap_or(WATCH);
        let view = View { changes: self.0.version.subscribe(), server: self, target, query, line, ends };
        stream::unfold(view, View::next).map(|bytes| Ok(Frame::data(bytes)))
    }
}

struct View {
    server: ApiServer,
    target: Target,
    query: Query,
    line: Line,
    ends: Instant,
    changes: watch::Receiver<u64>,
}

impl View {
    async fn next(mut self) -> Option<(Bytes, Self)> {
        loop {
            self.line.alive().await;
            let lines = self.news();
            if !lines.is_empty() {
                return Some((Bytes::from(lines), self));
            }
            tokio::select! {
                changed = self.changes.changed() => changed.ok()?,
                () = tokio::time::sleep_until(self.ends) => return None,
            }
        }
    }

    /// Returns all events since the last call, one JSON per line.
    fn news(&mut self) -> String {
        let limit = self.server.0.limit(&self.target.resource);
        let objects = self.server.lock();
        let Some(changes) = objects.since(self.query.version) else {
            self.query.version = objects.version;
            let gone = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "Expired", "code": 410});
            return format!("{}\n", json!({"type": "ERROR", "object": gone}));
        };
        let mut lines = String::new();
        for change in changes.take_while(|change| change.version <= limit) {
            self.query.version = change.version;
            if let Some(event) = change.seen_by(&self.target, &self.query.labels) {
                lines.push_str(&event.to_string());
                lines.push('\n');
            }
        }
        lines
    }
}

/// The query parameters that the operator's requests use.
#[derive(Default)]
struct Query {
    watch: bool,
    version: u64,
    timeout: Option<Duration>,
    labels: Vec<(String, String)>,
    name: Option<String>,
}

impl Query {
    fn parse(query: &str) -> Self {
        let mut parsed = Self::default();
        for (name, value) in query.split('&').filter_map(|pair| pair.split_once('=')) {
            match name {
                "watch" => parsed.watch = value == "true",
                "resourceVersion" => parsed.version = value.parse().unwrap_or_default(),
                "timeoutSeconds" => parsed.timeout = value.parse().ok().map(Duration::from_secs),
                "labelSelector" => {
                    let text = value.replace("%3D", "=").replace("%2F", "/");
                    let pairs = text.split("%2C").filter_map(|pair| pair.split_once('='));
                    parsed.labels =
                        pairs.map(|(label, value)| (label.to_owned(), value.to_owned())).collect();
                }
                "fieldSelector" => parsed.name = value.strip_prefix("metadata.name%3D").map(str::to_owned),
                _ => {}
            }
        }
        parsed
    }
}

/// Whether a caller asks for metadata only. It gets the whole object, as from a server without this feature.
fn wants_metadata(headers: &HeaderMap) -> bool {
    let accepted = headers.get(ACCEPT).and_then(|value| value.to_str().ok());
    accepted.is_some_and(|accepted| accepted.contains("PartialObjectMetadata"))
}

fn whole(code: u16, body: &Json) -> Answer {
    let bytes = Full::new(Bytes::from(body.to_string()));
    Response::builder().status(code).body(BodyExt::boxed(bytes)).unwrap()
}

fn status(code: u16, reason: &str) -> Answer {
    whole(
        code,
        &json!({
            "kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, "code": code,
            "message": reason, "metadata": {},
        }),
    )
}
