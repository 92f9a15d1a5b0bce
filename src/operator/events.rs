//! Events of the API server: the story of a mirror, one line per transition.

use std::time::Duration;

use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::{Client, Resource};

use crate::api::ParameterMirror;

/// Longest note that the API server takes.
const MAX_NOTE: usize = 1_024;
const DEADLINE: Duration = Duration::from_secs(10);

/// Records events; failing to do so never stops a pass.
#[derive(Clone)]
pub struct Events(Recorder);

/// One thing worth telling.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Story {
    /// Whether it is a Warning.
    pub warning: bool,
    /// `Synced`, `Degraded`, `Recovered`, `Healed`, ...
    pub reason: String,
    /// What happened, for people.
    pub note: String,
}

impl Story {
    /// Good news.
    #[must_use]
    pub fn normal(reason: impl Into<String>, note: impl Into<String>) -> Self {
        Self { warning: false, reason: reason.into(), note: note.into() }
    }

    /// Bad news.
    #[must_use]
    pub fn warning(reason: impl Into<String>, note: impl Into<String>) -> Self {
        Self { warning: true, reason: reason.into(), note: note.into() }
    }
}

impl Events {
    /// Events in the name of the operator.
    #[must_use]
    pub fn new(client: Client) -> Self {
        Self(Recorder::new(client, Reporter { controller: "parameter-mirror".to_owned(), instance: None }))
    }

    /// Tells a story about a mirror.
    pub async fn tell(&self, mirror: &ParameterMirror, story: &Story) {
        let mut note = story.note.clone();
        while note.len() > MAX_NOTE {
            note.pop();
        }
        let event = Event {
            type_: if story.warning { EventType::Warning } else { EventType::Normal },
            reason: story.reason.clone(),
            note: Some(note),
            action: "Mirror".to_owned(),
            secondary: None,
        };
        let told = tokio::time::timeout(DEADLINE, self.0.publish(&event, &mirror.object_ref(&()))).await;
        if !matches!(told, Ok(Ok(()))) {
            tracing::debug!(target: "parameter_mirror", reason = story.reason, "an event could not be recorded");
        }
    }
}
