//! A read's outcome and the last known good in, what is to be served out.

use parameter_mirror_format::content::{Content, Signed};
use parameter_mirror_format::source::StoredSource;

use super::copies::Authority;
use super::guard::{Guarded, Rule, Unpublishable, Withheld, guard};
use super::plan::Plan;
use super::reading::{ReadFailure, Reading};
use super::snapshot;

/// What the targets are to hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The set: unchanged, or new and still to be signed.
    pub set: WantedSet,
    /// Whether it may replace what a target holds without asking who is newer.
    pub authority: Authority,
    /// What is wrong with Secret keys; the Secret is held while there is anything.
    pub key_problems: Vec<String>,
}

/// A set as it is, or one that differs and gets a new read time and MAC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WantedSet {
    /// The last known good, signed as it is.
    AsItIs(Signed),
    /// New content, to be signed with the active key.
    New(Content),
}

impl WantedSet {
    /// The content, signed or not.
    #[must_use]
    pub const fn content(&self) -> &Content {
        match self {
            Self::AsItIs(signed) => &signed.content,
            Self::New(content) => content,
        }
    }
}

/// What stands between a mirror and a clean bill of health, on the side of the source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SourceTrouble {
    /// The last due read failed.
    Read(ReadFailure),
    /// Nothing is selected by what SSM holds.
    NoParameters,
    /// Required names are absent in SSM.
    ParameterNotFound(Vec<String>),
    /// Removals wait for approval.
    SuspiciousShrink(Withheld),
}

/// The outcome of resolving: degraded is a value here, not an error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resolution {
    /// The last due read was good, and this is it; perhaps with something withheld.
    Fresh {
        /// What the targets are to hold.
        wanted: Wanted,
        /// What was withheld or is missing.
        trouble: Option<SourceTrouble>,
    },
    /// The last known good is served; `None` if nothing has been read by this process yet.
    Held {
        /// What the targets are to hold.
        wanted: Wanted,
        /// Why it is held.
        trouble: Option<SourceTrouble>,
    },
    /// There never was a good set.
    Unavailable {
        /// Why; `None` while the first read is under way.
        trouble: Option<SourceTrouble>,
    },
}

impl Resolution {
    /// What stands in the way on the side of the source.
    #[must_use]
    pub const fn trouble(&self) -> Option<&SourceTrouble> {
        match self {
            Self::Fresh { trouble, .. } | Self::Held { trouble, .. } | Self::Unavailable { trouble } => {
                trouble.as_ref()
            }
        }
    }
}

/// What is known when a resolution is due.
#[derive(Clone, Copy, Debug)]
pub struct Situation<'a> {
    /// The mirror.
    pub plan: &'a Plan,
    /// The newest verified set.
    pub last_known_good: Option<&'a Signed>,
    /// Latest verified read time of this mirror ever seen, Unix ms.
    pub latest_read_at: i64,
    /// Wall clock, Unix ms.
    pub now: i64,
    /// Value of the annotation `accept-shrink`.
    pub accepted_shrink: Option<&'a str>,
}

impl Situation<'_> {
    /// A read brought a complete answer.
    #[must_use]
    pub fn after_reading(&self, reading: &Reading) -> Resolution {
        let published = self
            .last_known_good
            .map(|good| snapshot::still_selected(&good.content, self.plan))
            .unwrap_or_default();
        let rule = Rule {
            selections: &self.plan.selections,
            max_removed_percent: self.plan.max_removed_percent,
            accepted: self.accepted_shrink,
        };
        match guard(reading, &published, rule) {
            Ok(guarded) => self.publishable(reading, guarded),
            Err(Unpublishable::Empty) => self.hold(Some(SourceTrouble::NoParameters)),
            Err(Unpublishable::Missing(names)) => self.hold(Some(SourceTrouble::ParameterNotFound(names))),
        }
    }

    /// No fresh answer: the last known good is served, if there is one.
    #[must_use]
    pub fn hold(&self, trouble: Option<SourceTrouble>) -> Resolution {
        match self.last_known_good {
            Some(good) => Resolution::Held { wanted: self.keep(good), trouble },
            None => Resolution::Unavailable { trouble },
        }
    }

    fn publishable(&self, reading: &Reading, guarded: Guarded) -> Resolution {
        let trouble = match guarded.withheld {
            _ if !guarded.missing.is_empty() => Some(SourceTrouble::ParameterNotFound(guarded.missing)),
            Some(withheld) => Some(SourceTrouble::SuspiciousShrink(withheld)),
            None => None,
        };
        let account = reading.account.clone().or_else(|| self.known_account()).unwrap_or_default();
        let Some(source) = self.plan.stored_source(&account) else { return self.hold(trouble) };
        let stamp = self.stamp(reading.started_at);
        let (content, key_problems) = snapshot::content(self.plan, &source, &guarded.parameters, stamp);
        let set = match self.last_known_good {
            Some(good) if good.content.same_as(&content) => WantedSet::AsItIs(good.clone()),
            _ => WantedSet::New(content),
        };
        Resolution::Fresh { wanted: Wanted { set, authority: Authority::FreshRead, key_problems }, trouble }
    }

    /// The last known good, with the keys that the spec asks for now if it covers the spec.
    fn keep(&self, good: &Signed) -> Wanted {
        let as_it_is = |key_problems| Wanted {
            set: WantedSet::AsItIs(good.clone()),
            authority: Authority::LastKnownGood,
            key_problems,
        };
        let covering =
            StoredSource::decode(&good.content.source).ok().filter(|stored| self.plan.is_covered_by(stored));
        let Some(stored) = covering else { return as_it_is(Vec::new()) };
        let parameters = snapshot::still_selected(&good.content, self.plan);
        let (content, key_problems) =
            snapshot::content(self.plan, &stored, &parameters, self.stamp(self.now));
        if good.content.same_as(&content) || parameters.len() != good.content.entries.len() {
            return as_it_is(key_problems);
        }
        Wanted { set: WantedSet::New(content), authority: Authority::LastKnownGood, key_problems }
    }

    /// formats.md, "Copies": read times grow with each new content, whatever the clock does.
    fn stamp(&self, wall: i64) -> i64 {
        wall.max(self.latest_read_at.saturating_add(1))
    }

    fn known_account(&self) -> Option<String> {
        let stored = StoredSource::decode(&self.last_known_good?.content.source).ok()?;
        self.plan.is_covered_by(&stored).then_some(stored.account)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mirror::reading::SourceReason;
    use crate::mirror::samples::{self, name, path, plan, reading, signed};

    const ALL: [(&str, &str); 4] = [("/app/a", "1"), ("/app/b", "2"), ("/app/c", "3"), ("/app/d", "4")];

    fn after<'a>(plan: &'a Plan, good: Option<&'a Signed>) -> Situation<'a> {
        let latest_read_at = good.map_or(0, |good| good.content.read_at);
        Situation { plan, last_known_good: good, latest_read_at, now: 9_000, accepted_shrink: None }
    }

    /// What a fresh resolution publishes, and what it withholds or misses.
    fn fresh(resolution: Resolution) -> (Content, Option<SourceTrouble>) {
        match resolution {
            Resolution::Fresh { wanted, trouble } => {
                assert_eq!(wanted.authority, Authority::FreshRead);
                (wanted.set.content().clone(), trouble)
            }
            other => panic!("{other:?}"),
        }
    }

    fn names(content: &Content) -> Vec<&str> {
        content.entries.keys().map(String::as_str).collect()
    }

    #[test]
    fn a_first_good_read_is_published_with_its_own_time() {
        let plan = plan(&[path("/app")]);
        let (content, trouble) = fresh(after(&plan, None).after_reading(&reading(&ALL, 5_000)));
        assert_eq!((content.entries.len(), content.read_at, trouble), (4, 5_000, None));
    }

    #[test]
    fn equal_content_keeps_its_read_time_and_mac() {
        let plan = plan(&[path("/app")]);
        let good = signed(&plan, &ALL, 1_000);
        let resolution = after(&plan, Some(&good)).after_reading(&reading(&ALL, 5_000));
        let Resolution::Fresh { wanted, .. } = resolution else { panic!("{resolution:?}") };
        assert_eq!(wanted.set, WantedSet::AsItIs(good));
    }

    /// A clock that was set back must not make new content older than what targets hold.
    #[test]
    fn read_times_grow_whatever_the_clock_does() {
        let plan = plan(&[path("/app")]);
        let good = signed(&plan, &ALL, 8_000);
        let changed = [("/app/a", "new"), ALL[1], ALL[2], ALL[3]];
        let (content, _) = fresh(after(&plan, Some(&good)).after_reading(&reading(&changed, 5_000)));
        assert_eq!(content.read_at, 8_001);
    }

    #[test]
    fn a_failed_read_holds_what_there_is_and_nothing_is_unavailable() {
        let plan = plan(&[path("/app")]);
        let good = signed(&plan, &ALL, 1_000);
        let failure = ReadFailure { reason: SourceReason::Timeout, detail: String::new() };
        let trouble = Some(SourceTrouble::Read(failure));
        let held = after(&plan, Some(&good)).hold(trouble.clone());
        let Resolution::Held { wanted, .. } = &held else { panic!("{held:?}") };
        assert_eq!((&wanted.set, wanted.authority), (&WantedSet::AsItIs(good), Authority::LastKnownGood));
        assert_eq!(after(&plan, None).hold(trouble.clone()), Resolution::Unavailable { trouble });
    }

    #[test]
    fn empty_never_replaces_anything() {
        let plan = plan(&[path("/app")]);
        let good = signed(&plan, &ALL, 1_000);
        let empty = reading(&[], 5_000);
        let held = after(&plan, Some(&good)).after_reading(&empty);
        assert!(
            matches!(held, Resolution::Held { trouble: Some(SourceTrouble::NoParameters), .. }),
            "{held:?}"
        );
        let nothing = after(&plan, None).after_reading(&empty);
        assert_eq!(nothing, Resolution::Unavailable { trouble: Some(SourceTrouble::NoParameters) });
    }

    #[test]
    fn a_missing_required_name_keeps_its_old_entry_beside_what_is_new() {
        let plan = plan(&[name("/app/a"), name("/app/b")]);
        let good = signed(&plan, &ALL[..2], 1_000);
        let (content, trouble) =
            fresh(after(&plan, Some(&good)).after_reading(&reading(&[("/app/a", "new")], 5_000)));
        assert_eq!(names(&content), ["/app/a", "/app/b"]);
        assert_eq!(trouble, Some(SourceTrouble::ParameterNotFound(vec!["/app/b".to_owned()])));
    }

    #[test]
    fn removals_beyond_the_guard_wait_for_their_own_id() {
        let plan = plan(&[path("/app")]);
        let good = signed(&plan, &ALL, 1_000);
        let less = reading(&ALL[..2], 5_000);
        let situation = after(&plan, Some(&good));
        let (content, trouble) = fresh(situation.after_reading(&less));
        let Some(SourceTrouble::SuspiciousShrink(withheld)) = trouble else { panic!("{trouble:?}") };
        assert_eq!((content.entries.len(), withheld.removed, withheld.of), (4, 2, 4));
        let approved = Situation { accepted_shrink: Some(&withheld.id), ..situation };
        let (content, trouble) = fresh(approved.after_reading(&less));
        assert_eq!((names(&content), trouble), (vec!["/app/a", "/app/b"], None));
    }

    /// The selection is the user's own word, but nothing of the old set goes before the new one is there.
    #[test]
    fn a_changed_selection_is_not_guarded_and_held_while_it_cannot_be_read() {
        let (old, new) = (plan(&[path("/app")]), plan(&[path("/app/sub")]));
        let good = signed(&old, &ALL, 1_000);
        let situation = after(&new, Some(&good));
        let held = situation.hold(None);
        let Resolution::Held { wanted, .. } = &held else { panic!("{held:?}") };
        assert_eq!(wanted.set, WantedSet::AsItIs(good.clone()));
        let (content, trouble) = fresh(situation.after_reading(&reading(&[("/app/sub/x", "9")], 5_000)));
        assert_eq!((names(&content), trouble), (vec!["/app/sub/x"], None));
    }

    /// Another key format needs no read: the values are there.
    #[test]
    fn held_values_get_the_keys_that_the_spec_asks_for_now() {
        let old = plan(&[path("/app")]);
        let good = signed(&old, &[("/app/db/host", "h")], 1_000);
        let mut spec = samples::spec(&[path("/app")]);
        spec.secret.as_mut().unwrap().key_format = crate::api::KeyFormat::Dotted;
        let new = samples::judge(&spec, Some(&samples::source())).unwrap();
        let held = after(&new, Some(&good)).hold(None);
        let Resolution::Held { wanted, .. } = &held else { panic!("{held:?}") };
        assert_eq!(wanted.set.content().entries["/app/db/host"].key.as_deref(), Some("db.host"));
        assert_eq!(wanted.authority, Authority::LastKnownGood);
    }
}
