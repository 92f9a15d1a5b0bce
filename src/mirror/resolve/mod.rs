//! Resolves the outcome of a read and the last known good set into what is to be served.

pub mod bootstrap;
pub mod guard;

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use parameter_mirror_format::content::source::StoredSource;
use parameter_mirror_format::content::{Content, Signed};

use super::copies::Freshness;
use super::plan::Plan;
use crate::mirror::content;
use crate::mirror::resolve::bootstrap::BootstrapSet;
use crate::mirror::resolve::guard::{GuardError, GuardOutcome, GuardPolicy, Withheld, guard};
use crate::mirror::snapshot::{Parameter, ReadError, Snapshot};

/// What the targets should hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Desired {
    /// The set: unchanged, or new and still to be signed.
    pub set: DesiredSet,
    /// Whether it may replace what a target holds without a comparison of read times.
    pub freshness: Freshness,
    /// What is wrong with Secret keys. The Secret stays as it is until this is empty.
    pub key_problems: Vec<String>,
}

/// A set as it is, or new content that gets a new read time and MAC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DesiredSet {
    /// The last known good set, with its signature.
    AsItIs(Signed),
    /// New content, to be signed with the active key.
    New(Content),
}

impl DesiredSet {
    /// Returns the content, signed or not.
    #[must_use]
    pub fn content(&self) -> &Content {
        match self {
            Self::AsItIs(signed) => &signed.content,
            Self::New(content) => content,
        }
    }
}

/// What is wrong on the side of the source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SourceIssue {
    /// The last due read failed.
    Read(ReadError),
    /// SSM holds nothing that is selected.
    NoParameters,
    /// These paths select nothing, beside others that do.
    EmptyPaths(Vec<String>),
    /// Required names are absent in SSM.
    ParameterNotFound(Vec<String>),
    /// Removals wait for approval.
    SuspiciousShrink(Withheld),
}

impl SourceIssue {
    /// Whether SSM may hold the parameters but cannot return them.
    #[must_use]
    pub const fn is_outage(&self) -> bool {
        matches!(self, Self::Read(failure) if failure.reason.is_outage())
    }

    /// Returns the reason for conditions.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Read(failure) => failure.reason.as_str(),
            Self::NoParameters | Self::EmptyPaths(_) => "NoParameters",
            Self::ParameterNotFound(_) => "ParameterNotFound",
            Self::SuspiciousShrink(_) => "SuspiciousShrink",
        }
    }

    /// Whether the time since when there was `before` is true for this issue too: it has the same reason and names nothing new, or
    /// both are one outage of SSM.
    #[must_use]
    pub fn continues(&self, before: &Self) -> bool {
        match (self, before) {
            (Self::EmptyPaths(names), Self::EmptyPaths(before))
            | (Self::ParameterNotFound(names), Self::ParameterNotFound(before)) => {
                names.iter().all(|name| before.contains(name))
            }
            (Self::SuspiciousShrink(withheld), Self::SuspiciousShrink(before)) => withheld.id == before.id,
            (Self::NoParameters, Self::EmptyPaths(_)) | (Self::EmptyPaths(_), Self::NoParameters) => false,
            _ => self.continues_reason(before.reason()),
        }
    }

    /// The same, as far as a status that another process wrote shows it.
    #[must_use]
    pub fn continues_reason(&self, before: &str) -> bool {
        let is_one_outage =
            |error: &ReadError| before.parse().is_ok_and(|before| error.reason.continues(before));
        self.reason() == before || matches!(self, Self::Read(error) if is_one_outage(error))
    }
}

/// An issue on the side of the source, for as long as it lasts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Incident {
    /// What is wrong now.
    pub issue: SourceIssue,
    /// Since when.
    pub since: Timestamp,
    /// Failed reads in a row that it has cost so far.
    pub failed_reads: u32,
}

/// The outcome of resolving. A degraded mirror is a value here, not an error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resolution {
    /// The last due read was good, and this is its set, perhaps with something withheld.
    Fresh {
        /// What the targets should hold.
        desired: Desired,
        /// What was withheld or is missing.
        issue: Option<SourceIssue>,
        /// The removals beyond the limit that an annotation approved.
        approved: Option<Withheld>,
    },
    /// The last due read was good but lacks served parameters for the first time, as the answer of a lagging SSM
    /// replica does. The last known good set is served unchanged until the next read, which is due soon, confirms the absence.
    Awaiting {
        /// What the targets should hold.
        desired: Desired,
    },
    /// The last known good set is served; `issue` is `None` if this process has not read yet.
    Held {
        /// What the targets should hold.
        desired: Desired,
        /// Why it is held.
        issue: Option<SourceIssue>,
    },
    /// There has never been a good set.
    Unavailable {
        /// Why; `None` while the first read is under way.
        issue: Option<SourceIssue>,
    },
}

impl Resolution {
    /// Returns what the targets should hold, if there is a set.
    #[must_use]
    pub const fn desired(&self) -> Option<&Desired> {
        match self {
            Self::Fresh { desired, .. } | Self::Awaiting { desired } | Self::Held { desired, .. } => {
                Some(desired)
            }
            Self::Unavailable { .. } => None,
        }
    }

    /// Returns the removals that an annotation approved.
    #[must_use]
    pub const fn approved_removals(&self) -> Option<&Withheld> {
        match self {
            Self::Fresh { approved, .. } => approved.as_ref(),
            Self::Awaiting { .. } | Self::Held { .. } | Self::Unavailable { .. } => None,
        }
    }

    /// Returns the issue on the side of the source, if there is one.
    #[must_use]
    pub const fn issue(&self) -> Option<&SourceIssue> {
        match self {
            Self::Fresh { issue, .. } | Self::Held { issue, .. } | Self::Unavailable { issue } => {
                issue.as_ref()
            }
            Self::Awaiting { .. } => None,
        }
    }
}

/// The input of a resolution.
#[derive(Clone, Copy, Debug)]
pub struct ResolveInput<'a> {
    /// The plan of the mirror.
    pub plan: &'a Plan,
    /// The newest verified set.
    pub last_known_good: Option<&'a Signed>,
    /// Latest verified read time of this mirror ever seen, Unix ms.
    pub latest_read_at: i64,
    /// Wall clock, Unix ms.
    pub now: i64,
    /// Value of the annotation `accept-shrink`.
    pub accepted_shrink: Option<&'a str>,
    /// Whether a target has ever held a set. A set that was never published protects nobody, so nothing is withheld for it.
    pub is_published: bool,
    /// What peers hold of what this mirror selects, if it has no set itself.
    pub bootstrap: Option<&'a BootstrapSet>,
    /// What the previous complete read lacked, as [`ResolveInput::absent`] returned it; `None`: absences need no more confirmation.
    pub absent_before: Option<&'a BTreeSet<String>>,
}

impl ResolveInput<'_> {
    /// Returns what is served and still selected but lacking in this read; nothing if the read used another identity.
    /// It is removed only when two complete reads in a row lack it. A change of source or selection is the user's decision.
    #[must_use]
    pub fn absent(&self, reading: &Snapshot) -> BTreeSet<String> {
        let is_same_place =
            self.plan.stored_source(&self.account(reading)).is_some_and(|one| self.is_from(&one));
        let published = if is_same_place { self.published() } else { BTreeMap::new() };
        published.into_keys().filter(|name| !reading.parameters.contains_key(name)).collect()
    }

    /// Resolves a complete read.
    #[must_use]
    pub fn after_reading(&self, reading: &Snapshot) -> Resolution {
        if let (Some(before), Some(good)) = (self.absent_before, self.last_known_good)
            && !self.absent(reading).is_subset(before)
        {
            return Resolution::Awaiting { desired: self.keep(good) };
        }
        let published = self.published();
        let rule = GuardPolicy {
            selections: &self.plan.selections,
            optional_paths: &self.plan.optional_paths,
            max_removed_percent: self.plan.max_removed_percent,
            accepted: self.accepted_shrink,
        };
        match guard(reading, &published, rule) {
            Ok(guarded) => self.publishable(reading, guarded),
            Err(GuardError::Empty) => self.hold(Some(SourceIssue::NoParameters)),
            Err(GuardError::Missing(names)) => self.hold(Some(SourceIssue::ParameterNotFound(names))),
        }
    }

    /// Resolves without a fresh snapshot: the last known good set is served, if there is one.
    #[must_use]
    pub fn hold(&self, issue: Option<SourceIssue>) -> Resolution {
        let is_outage = issue.as_ref().is_some_and(SourceIssue::is_outage);
        match (self.last_known_good, self.bootstrap.filter(|_| is_outage)) {
            (Some(good), _) => Resolution::Held { desired: self.keep(good), issue },
            (None, Some(bootstrap)) => Resolution::Held { desired: self.take(bootstrap), issue },
            (None, None) => Resolution::Unavailable { issue },
        }
    }

    /// Takes the set of peers with their read time, so that its age is the real one.
    fn take(&self, bootstrap: &BootstrapSet) -> Desired {
        let BootstrapSet { source, parameters, read_at } = bootstrap;
        let (content, key_problems) =
            content::content(self.plan, source, parameters, self.next_read_time(*read_at));
        Desired { set: DesiredSet::New(content), freshness: Freshness::LastKnownGood, key_problems }
    }

    fn publishable(&self, reading: &Snapshot, guarded: GuardOutcome) -> Resolution {
        let source = self.plan.stored_source(&self.account(reading));
        let of_another_source = !source.as_ref().is_some_and(|source| self.is_from(source));
        let issue = match guarded.withheld {
            _ if !guarded.missing.is_empty() => Some(SourceIssue::ParameterNotFound(guarded.missing)),
            Some(withheld) => Some(SourceIssue::SuspiciousShrink(Withheld { of_another_source, ..withheld })),
            None if !guarded.empty.is_empty() => Some(SourceIssue::EmptyPaths(guarded.empty)),
            None => None,
        };
        let is_incomplete =
            matches!(issue, Some(SourceIssue::ParameterNotFound(_) | SourceIssue::SuspiciousShrink(_)));
        let Some(source) = source else { return self.hold(issue) };
        if is_incomplete && of_another_source {
            // Kept entries and read entries would be from two sources.
            return self.hold(issue);
        }
        let stamp = self.next_read_time(reading.started_at);
        let (content, key_problems) = content::content(self.plan, &source, &guarded.parameters, stamp);
        let set = match self.last_known_good {
            Some(good) if good.content.same_as(&content) => DesiredSet::AsItIs(good.clone()),
            _ => DesiredSet::New(content),
        };
        let desired = Desired { set, freshness: Freshness::FreshRead, key_problems };
        Resolution::Fresh { desired, issue, approved: guarded.approved }
    }

    /// Keeps the last known good set. If it covers the spec, it gets the keys that the spec asks for now.
    fn keep(&self, good: &Signed) -> Desired {
        let as_it_is = |key_problems| Desired {
            set: DesiredSet::AsItIs(good.clone()),
            freshness: Freshness::LastKnownGood,
            key_problems,
        };
        let covering =
            StoredSource::decode(&good.content.source).ok().filter(|stored| self.plan.is_covered_by(stored));
        let Some(stored) = covering else { return as_it_is(Vec::new()) };
        let parameters = content::still_selected(&good.content, self.plan);
        let (content, key_problems) =
            content::content(self.plan, &stored, &parameters, self.next_read_time(self.now));
        if good.content.same_as(&content) || parameters.len() != good.content.entries.len() {
            return as_it_is(key_problems);
        }
        Desired { set: DesiredSet::New(content), freshness: Freshness::LastKnownGood, key_problems }
    }

    /// docs/design/formats.md, "Copies": read times grow with each new content, whatever the clock does.
    fn next_read_time(&self, wall: i64) -> i64 {
        wall.max(self.latest_read_at.saturating_add(1))
    }

    /// Whether the last known good set was read from `source`.
    fn is_from(&self, source: &StoredSource) -> bool {
        self.last_known_good.is_some_and(|good| {
            StoredSource::decode(&good.content.source).is_ok_and(|stored| stored.is_same_place(source))
        })
    }

    /// Returns what is served and still selected.
    fn published(&self) -> BTreeMap<String, Parameter> {
        let good = self.last_known_good.filter(|_| self.is_published);
        good.map(|good| content::still_selected(&good.content, self.plan)).unwrap_or_default()
    }

    /// Returns the account that was read from, `""` while it is unknown.
    fn account(&self, reading: &Snapshot) -> String {
        reading.account.clone().or_else(|| self.known_account()).unwrap_or_default()
    }

    fn known_account(&self) -> Option<String> {
        let stored = StoredSource::decode(&self.last_known_good?.content.source).ok()?;
        self.plan.is_covered_by(&stored).then_some(stored.account)
    }
}

#[cfg(test)]
mod tests;
