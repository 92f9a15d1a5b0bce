//! Writes events of Kubernetes. A repeated event is counted and gets the newest note, as with client-go: the recorder of kube keeps
//! the first note, because the API `events.k8s.io` lets nobody change it, and would describe an incident in the words of the one
//! before. The core API allows it.

use std::collections::HashMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::Client;
use kube::api::{Api, Patch, PatchParams, PostParams};
use parameter_mirror_clock::Clock;
use serde_json::json;

use crate::kubernetes::client::{ApiError, with_timeout};

const COMPONENT: &str = "parameter-mirror";
/// How long after its last occurrence an event still counts as the same one.
const REPEATS_WITHIN: Duration = Duration::from_mins(10);
/// How many events are remembered to count repeats, so that a first start of thousands of mirrors does not stay in memory.
const REMEMBERED: usize = 256;
/// The longest name of an object in the name of its event, whose limit is 253.
const LONGEST_NAME: usize = 220;

/// An event to record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventDraft {
    /// Whether its type is Warning.
    pub warning: bool,
    /// The reason of the condition that changed, or what was done: `Timeout`, `Recovered`, `Healed`, ...
    pub reason: String,
    /// The part that it concerns: `ReadSource`, `WriteSecret`, ...
    pub action: String,
    /// What happened, for people.
    pub note: String,
}

impl EventDraft {
    /// An event of type Normal.
    #[must_use]
    pub fn normal(reason: &str, action: &str, note: String) -> Self {
        Self { warning: false, reason: reason.to_owned(), action: action.to_owned(), note }
    }

    /// An event of type Warning.
    #[must_use]
    pub fn warning(reason: &str, action: &str, note: String) -> Self {
        Self { warning: true, ..Self::normal(reason, action, note) }
    }

    /// Writes a log line with the same text.
    pub fn log(&self) {
        let Self { reason, action, note, .. } = self;
        if self.warning {
            tracing::warn!(reason, action, "{note}");
        } else {
            tracing::info!(reason, action, "{note}");
        }
    }
}

/// Records events, and remembers the latest ones.
pub struct EventRecorder {
    client: Client,
    clock: Clock,
    recorded: u64,
    latest: HashMap<Key, Recorded>,
}

/// What makes two events the same.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Key {
    uid: Option<String>,
    warning: bool,
    reason: String,
    action: String,
}

/// An event that exists.
#[derive(Clone)]
struct Recorded {
    name: String,
    count: i32,
    last: Duration,
}

impl EventRecorder {
    /// A recorder that remembers nothing yet.
    #[must_use]
    pub fn new(client: Client, clock: Clock) -> Self {
        Self { client, clock, recorded: 0, latest: HashMap::new() }
    }

    /// Creates the event, or counts it if it repeats. Kubernetes keeps the events of cluster-scoped objects in the namespace `default`.
    pub async fn record(&mut self, about: &ObjectReference, draft: EventDraft) -> Result<(), ApiError> {
        let events: Api<Event> =
            Api::namespaced(self.client.clone(), about.namespace.as_deref().unwrap_or("default"));
        let now = self.clock.uptime();
        self.latest.retain(|_, recorded| now <= recorded.last + REPEATS_WITHIN);
        let key = Key {
            uid: about.uid.clone(),
            warning: draft.warning,
            reason: draft.reason.clone(),
            action: draft.action.clone(),
        };
        let repeated = match self.latest.get(&key) {
            Some(known) => self.repeat(&events, known, &draft.note).await?,
            None => None,
        };
        let recorded = match repeated {
            Some(recorded) => recorded,
            None => self.create(&events, about, draft).await?,
        };
        if self.latest.len() >= REMEMBERED {
            self.latest.clear();
        }
        self.latest.insert(key, recorded);
        Ok(())
    }

    /// Counts an event once more, with its newest note. Returns `None` if it no longer exists.
    async fn repeat(
        &self,
        events: &Api<Event>,
        known: &Recorded,
        note: &str,
    ) -> Result<Option<Recorded>, ApiError> {
        let count = known.count.saturating_add(1);
        let patch = json!({ "count": count, "lastTimestamp": Time(self.clock.now()), "message": note });
        let (params, patch) = (PatchParams::default(), Patch::Merge(patch));
        match with_timeout(events.patch(&known.name, &params, &patch)).await {
            Ok(_) => Ok(Some(Recorded { count, last: self.clock.uptime(), ..known.clone() })),
            Err(ApiError::NotFound) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn create(
        &mut self,
        events: &Api<Event>,
        about: &ObjectReference,
        draft: EventDraft,
    ) -> Result<Recorded, ApiError> {
        let now = self.clock.now();
        self.recorded += 1;
        let object: String = about.name.iter().flat_map(|name| name.chars()).take(LONGEST_NAME).collect();
        let object = object.trim_end_matches(['.', '-']);
        let name = format!("{object}.{:x}.{:x}", now.as_millisecond(), self.recorded);
        let event = Event {
            metadata: ObjectMeta {
                name: Some(name.clone()),
                namespace: Some(about.namespace.clone().unwrap_or_else(|| "default".to_owned())),
                ..ObjectMeta::default()
            },
            type_: Some(if draft.warning { "Warning" } else { "Normal" }.to_owned()),
            reason: Some(draft.reason),
            action: Some(draft.action),
            message: Some(draft.note),
            involved_object: about.clone(),
            source: Some(EventSource { component: Some(COMPONENT.to_owned()), host: None }),
            reporting_component: Some(COMPONENT.to_owned()),
            count: Some(1),
            first_timestamp: Some(Time(now)),
            last_timestamp: Some(Time(now)),
            ..Event::default()
        };
        with_timeout(events.create(&PostParams::default(), &event)).await?;
        Ok(Recorded { name, count: 1, last: self.clock.uptime() })
    }
}
