//! Events of the API server: the story of a mirror, one line per transition.

use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::{Client, Resource};
use tokio::sync::mpsc;

use crate::api::ParameterMirror;
use crate::mirror::words;

/// Longest note that the API server takes.
const MAX_NOTE: usize = 1_024;
const DEADLINE: Duration = Duration::from_secs(10);

/// Stories that wait to be told; what is more is not told. An outage of everything is one story per mirror.
const WAITING: usize = 10_000;

/// A recorder keeps what it recorded, to count repeats, and gives the memory back never: 2.4 KB a mirror after a first start. So it is
/// replaced after so many; a repeat of an event before that is a new event.
const REMEMBERED: usize = 256;

/// Records events, one after the other: they must not crowd out the writes that serve somebody.
#[derive(Clone)]
pub struct Events(mpsc::Sender<(ObjectReference, Story)>);

/// One thing worth telling.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Story {
    /// Whether it is a Warning.
    pub warning: bool,
    /// `Synced`, `Degraded`, `Recovered`, `Healed`, ...
    pub reason: String,
    /// What happened, for people.
    pub note: String,
    /// To which part of the mirror.
    pub action: &'static str,
}

impl Story {
    /// Good news.
    #[must_use]
    pub fn normal(reason: impl Into<String>, note: impl Into<String>) -> Self {
        Self { warning: false, reason: reason.into(), note: note.into(), action: "Mirror" }
    }

    /// The same story of one part of the mirror.
    #[must_use]
    pub fn of(self, action: &'static str) -> Self {
        Self { action, ..self }
    }

    /// Bad news.
    #[must_use]
    pub fn warning(reason: impl Into<String>, note: impl Into<String>) -> Self {
        Self { warning: true, reason: reason.into(), note: note.into(), action: "Mirror" }
    }
}

impl Events {
    /// Events in the name of the operator.
    #[must_use]
    pub fn new(client: Client) -> Self {
        let recorder = move || {
            let reporter = Reporter { controller: "parameter-mirror".to_owned(), instance: None };
            Recorder::new(client.clone(), reporter)
        };
        let (events, mut stories) = mpsc::channel(WAITING);
        tokio::spawn(async move {
            let (mut current, mut count) = (recorder(), 0);
            while let Some((about, story)) = stories.recv().await {
                publish(&current, &about, story).await;
                count += 1;
                if count == REMEMBERED {
                    (current, count) = (recorder(), 0);
                }
            }
        });
        Self(events)
    }

    /// Tells a story about a mirror, beside the pass: an event is never worth waiting for.
    pub fn tell(&self, mirror: &ParameterMirror, story: &Story) {
        if self.0.try_send((mirror.object_ref(&()), story.clone())).is_err() {
            tracing::debug!(target: "parameter_mirror", reason = story.reason, "too many events at once; this one is left out");
        }
    }
}

async fn publish(recorder: &Recorder, about: &ObjectReference, story: Story) {
    let note = words::cut(&story.note, MAX_NOTE);
    let event = Event {
        type_: if story.warning { EventType::Warning } else { EventType::Normal },
        reason: story.reason.clone(),
        note: Some(note),
        // Repeats are counted by reason and action, and keep their first note: what differs must differ here.
        action: story.action.to_owned(),
        secondary: None,
    };
    let told = tokio::time::timeout(DEADLINE, recorder.publish(&event, about)).await;
    if !matches!(told, Ok(Ok(()))) {
        tracing::debug!(target: "parameter_mirror", reason = story.reason, "an event could not be recorded");
    }
}
