//! Step 4: resolve the outcome of a read, if one has ended, to what the targets are to hold. Pure.

use std::collections::BTreeSet;

use crate::mirror::resolve::{Resolution, ResolveInput, SourceIssue};
use crate::mirror::snapshot::{ReadError, Snapshot};

/// What the targets are to hold, and what changes for the next reads.
pub struct Resolved {
    /// What the targets are to hold.
    pub resolution: Resolution,
    /// What changes for the reads of the mirror; `None` if no read has ended and no read starves.
    pub change: Option<ReadChange>,
}

/// What changes for the reads of a mirror.
pub enum ReadChange {
    /// A due read has waited too long for the budget of requests.
    Starved(ReadError),
    /// A read failed.
    Failed(ReadError),
    /// A read was complete.
    Complete {
        /// When the read began, Unix ms.
        started_at: i64,
        /// Served parameters that the read lacked.
        absent: BTreeSet<String>,
        /// Whether the set is published now.
        is_fresh: bool,
        /// Whether the set waits for the next read to confirm it.
        is_awaiting: bool,
        /// What is wrong with the set; `None` if it is in order.
        issue: Option<SourceIssue>,
    },
}

/// Resolves one reconcile. `issue` is the issue from before; `starved` is set if a due read has waited too long for the request
/// budget.
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
            // The set stays as it is until the next read, and so does its issue.
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
