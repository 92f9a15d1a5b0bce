//! Step 4: what a read, or none, means for what the targets are to hold. Pure.

use std::collections::BTreeSet;

use crate::mirror::resolve::{Resolution, ResolveInput, SourceIssue};
use crate::mirror::snapshot::{ReadError, Snapshot};

/// What the targets are to hold, and what the read says about the reads to come.
pub struct Resolved {
    /// What the targets are to hold.
    pub resolution: Resolution,
    /// What has changed for the reads of the mirror, if anything has.
    pub change: Option<ReadChange>,
}

/// What has changed for the reads of a mirror.
pub enum ReadChange {
    /// A due read has waited too long for the budget of requests.
    Starved(ReadError),
    /// A read failed.
    Failed(ReadError),
    /// A read was complete.
    Complete {
        /// When it began, Unix ms.
        started_at: i64,
        /// What it lacked of what is served.
        absent: BTreeSet<String>,
        /// Whether it is published now.
        is_fresh: bool,
        /// Whether it waits for the next read to confirm it.
        is_awaiting: bool,
        /// What is wrong with the set.
        issue: Option<SourceIssue>,
    },
}

/// Resolves one reconcile. `issue` is what was wrong before; `starved` is set if a due read waits too long for the budget.
#[must_use]
pub fn resolve(
    input: &ResolveInput<'_>,
    outcome: Option<&Result<Snapshot, ReadError>>,
    issue: Option<&SourceIssue>,
    starved: Option<ReadError>,
) -> Resolved {
    match outcome {
        None => {
            let issue = issue.cloned().or_else(|| starved.clone().map(SourceIssue::Read));
            Resolved { resolution: input.hold(issue), change: starved.map(ReadChange::Starved) }
        }
        Some(Err(error)) => Resolved {
            resolution: input.hold(Some(SourceIssue::Read(error.clone()))),
            change: Some(ReadChange::Failed(error.clone())),
        },
        Some(Ok(snapshot)) => {
            let resolution = input.after_reading(snapshot);
            let is_awaiting = matches!(resolution, Resolution::Awaiting { .. });
            // What was wrong with the set stays wrong with it while the set stays.
            let lasting = issue.filter(|issue| is_awaiting && !matches!(issue, SourceIssue::Read(_)));
            let change = ReadChange::Complete {
                started_at: snapshot.started_at,
                absent: input.absent(snapshot),
                is_fresh: matches!(resolution, Resolution::Fresh { .. }),
                is_awaiting,
                issue: resolution.issue().or(lasting).cloned(),
            };
            Resolved { resolution, change: Some(change) }
        }
    }
}
