//! Kubernetes events: the history of a mirror, one event per transition.

use std::sync::Arc;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use parameter_mirror_clock::Clock;
use parameter_mirror_format::humanize;
use tokio::sync::Notify;
use tokio_util::task::AbortOnDropHandle;
use tracing_mutex::parkinglot::Mutex;

use crate::fair_queue::FairQueue;
pub use crate::kubernetes::event_recorder::EventDraft;
use crate::kubernetes::event_recorder::EventRecorder;

/// Maximum length of a note that the API server accepts.
const MAX_NOTE: usize = 1_024;

/// Maximum events of one namespace that wait to be recorded; further ones are dropped. An outage is one event per mirror.
const WAITING: usize = 2_000;

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

impl Events {
    /// Starts to record events in the name of the operator.
    #[must_use]
    pub fn new(client: Client, clock: Clock) -> Self {
        let waiting = Arc::new(PendingEvents::default());
        let events = Arc::clone(&waiting);
        let task = tokio::spawn(async move {
            let mut recorder = EventRecorder::new(client, clock);
            loop {
                let (about, draft) = events.next().await;
                let reason = draft.reason.clone();
                if let Err(error) = recorder.record(&about, draft).await {
                    tracing::debug!(reason, %error, "an event could not be recorded");
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
