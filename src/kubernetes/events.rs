//! Kubernetes events: the history of a mirror, one event per transition.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use parameter_mirror_format::humanize;
use tokio::sync::Notify;
use tokio_util::task::AbortOnDropHandle;
use tracing_mutex::parkinglot::Mutex;

use crate::fair_queue::FairQueue;

/// Maximum length of a note that the API server accepts.
const MAX_NOTE: usize = 1_024;
const DEADLINE: Duration = Duration::from_secs(10);

/// Maximum events of one namespace that wait to be recorded; further ones are dropped. An outage is one event per mirror.
const WAITING: usize = 2_000;

/// How many events a recorder records before it is replaced. A recorder remembers them to count repeats and never frees
/// the memory: 2.4 KB a mirror after a first start. After a replacement, a repeat is a new event.
const REMEMBERED: usize = 256;

/// Records events one at a time, so that they do not crowd out the writes that serve readers. Namespaces take turns.
#[derive(Clone)]
pub struct Events(Arc<Recording>);

struct Recording {
    waiting: Arc<PendingEvents>,
    _task: AbortOnDropHandle<()>,
}

#[derive(Default)]
struct PendingEvents {
    stories: Mutex<FairQueue<(), (ObjectReference, EventDraft)>>,
    added: Notify,
}

impl PendingEvents {
    /// Adds an event, unless too many events of its namespace wait. Returns whether it did.
    fn add(&self, about: ObjectReference, story: EventDraft) -> bool {
        let namespace: Arc<str> = about.namespace.as_deref().unwrap_or_default().into();
        let mut stories = self.stories.lock();
        let has_room = stories.waiting(&namespace) < WAITING;
        if has_room {
            stories.push(&namespace, (), 0, (about, story));
        }
        drop(stories);
        self.added.notify_one();
        has_room
    }

    async fn next(&self) -> (ObjectReference, EventDraft) {
        loop {
            let next = self.stories.lock().pop(|_| true);
            if let Some((_, next)) = next {
                return next;
            }
            self.added.notified().await;
        }
    }
}

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

impl Events {
    /// Starts to record events in the name of the operator.
    #[must_use]
    pub fn new(client: Client) -> Self {
        let recorder = move || {
            let reporter = Reporter { controller: "parameter-mirror".to_owned(), instance: None };
            Recorder::new(client.clone(), reporter)
        };
        let waiting = Arc::new(PendingEvents::default());
        let events = Arc::clone(&waiting);
        let task = tokio::spawn(async move {
            let (mut current, mut count) = (recorder(), 0);
            loop {
                let (about, story) = events.next().await;
                publish(&current, &about, story).await;
                count += 1;
                if count == REMEMBERED {
                    (current, count) = (recorder(), 0);
                }
            }
        });
        Self(Arc::new(Recording { waiting, _task: AbortOnDropHandle::new(task) }))
    }

    /// Queues an event about an object. The reconcile does not wait for it.
    pub fn emit(&self, about: ObjectReference, story: &EventDraft) {
        let story = EventDraft { note: humanize::cut(&story.note, MAX_NOTE), ..story.clone() };
        let reason = story.reason.clone();
        if !self.0.waiting.add(about, story) {
            tracing::debug!(reason, "too many events at once; this one is left out");
        }
    }
}

async fn publish(recorder: &Recorder, about: &ObjectReference, story: EventDraft) {
    let event = Event {
        type_: if story.warning { EventType::Warning } else { EventType::Normal },
        reason: story.reason.clone(),
        note: Some(story.note),
        // The recorder counts repeats by reason and action and keeps their first note: what differs must differ here.
        action: story.action,
        secondary: None,
    };
    let published = tokio::time::timeout(DEADLINE, recorder.publish(&event, about)).await;
    if !matches!(published, Ok(Ok(()))) {
        tracing::debug!(reason = story.reason, "an event could not be recorded");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn about(namespace: &str) -> ObjectReference {
        ObjectReference { namespace: Some(namespace.to_owned()), ..ObjectReference::default() }
    }

    /// A tenant whose mirrors raise events without end neither delays the events of others nor takes their room.
    #[tokio::test]
    async fn namespaces_take_turns_and_each_has_its_room() {
        let waiting = PendingEvents::default();
        let story = || EventDraft::normal("Synced", "Sync", String::new());
        let taken = (0..3 * WAITING).filter(|_| waiting.add(about("many"), story())).count();
        assert_eq!(taken, WAITING);
        assert!(waiting.add(about("one"), story()));
        let first = [waiting.next().await.0.namespace, waiting.next().await.0.namespace];
        assert!(first.contains(&Some("one".to_owned())), "{first:?}");
    }
}
