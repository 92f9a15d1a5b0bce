//! Rehearsed outages: an annotation on a source makes its mirrors behave as if SSM were down, until the time that it names.

use std::collections::HashMap;

use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;
use parameter_mirror_format::humanize;
use tracing_mutex::parkinglot::Mutex;

use crate::api::{DRILL_UNTIL, ParameterSource};
use crate::kubernetes::events::EventDraft;

/// How far ahead a drill may end, so that a drill that somebody forgets soon ends by itself.
const LONGEST: SignedDuration = SignedDuration::from_hours(1);

/// The drills of all sources. Each annotation is judged once, when it is first seen. A drill that was refused as too long would
/// otherwise begin by surprise, an hour before its end.
#[derive(Default)]
pub struct Drills(Mutex<HashMap<String, (String, Option<Timestamp>)>>);

impl Drills {
    /// Returns when the drill of this source ends, even if that is over; `None` if the source requests no valid drill. An annotation
    /// that is seen for the first time is reported.
    pub fn until(
        &self,
        source: &ParameterSource,
        now: Timestamp,
        report: impl FnOnce(&EventDraft),
    ) -> Option<Timestamp> {
        let annotation = source.annotations().get(DRILL_UNTIL).map(String::as_str);
        self.judged(&source.name_any(), annotation, now, report)
    }

    /// Forgets a source that no longer exists.
    pub fn forget(&self, name: &str) {
        self.0.lock().remove(name);
    }

    fn judged(
        &self,
        source: &str,
        annotation: Option<&str>,
        now: Timestamp,
        report: impl FnOnce(&EventDraft),
    ) -> Option<Timestamp> {
        let Some(annotation) = annotation else {
            self.forget(source);
            return None;
        };
        let mut judged = self.0.lock();
        if let Some((_, until)) = judged.get(source).filter(|(known, _)| known == annotation) {
            return *until;
        }
        let until = judge(annotation, now);
        judged.insert(source.to_owned(), (annotation.to_owned(), until));
        drop(judged);
        if let Some(draft) = announce(source, annotation, until, now) {
            report(&draft);
        }
        until
    }
}

/// The event about an annotation that is new; `None` if its drill is over.
fn announce(source: &str, annotation: &str, until: Option<Timestamp>, now: Timestamp) -> Option<EventDraft> {
    match until {
        Some(until) if until <= now => None,
        Some(until) => {
            let note = format!(
                "An outage is rehearsed until {}: mirrors of this source serve what they hold. To end it: kubectl annotate psource \
                 {source} {DRILL_UNTIL}-",
                humanize::at(until, now)
            );
            Some(EventDraft::normal("DrillStarted", "Drill", note))
        }
        None => {
            let note = format!(
                "{DRILL_UNTIL} is {annotation}, which is no time within the next hour; no outage is rehearsed. Write one like {}.",
                (now + LONGEST / 2).strftime("%Y-%m-%dT%H:%M:%SZ")
            );
            Some(EventDraft::warning("DrillRefused", "Drill", note))
        }
    }
}

/// Parses the end of a drill, which may be at most one hour ahead. An end in the past is valid: that drill is over.
fn judge(annotation: &str, now: Timestamp) -> Option<Timestamp> {
    annotation.parse().ok().filter(|until: &Timestamp| until.duration_since(now) <= LONGEST)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::soon("2026-11-23T12:30:00Z", true)]
    #[case::in_another_zone("2026-11-23T13:30:00+01:00", true)]
    #[case::at_most_an_hour("2026-11-23T13:00:00Z", true)]
    #[case::longer("2026-11-23T13:00:01Z", false)]
    #[case::tomorrow("2026-11-24T12:00:00Z", false)]
    #[case::no_time("soon", false)]
    #[case::no_zone("2026-11-23T12:30:00", false)]
    fn a_drill_ends_within_an_hour(#[case] annotation: &str, #[case] is_one: bool) {
        let now = "2026-11-23T12:00:00Z".parse().unwrap();
        assert_eq!(judged(&Drills::default(), "default", Some(annotation), now).0.is_some(), is_one);
    }

    /// The end of the drill, and the reason of the event.
    fn judged(
        drills: &Drills,
        source: &str,
        annotation: Option<&str>,
        now: Timestamp,
    ) -> (Option<Timestamp>, Option<String>) {
        let mut reported = None;
        let until = drills.judged(source, annotation, now, |draft| reported = Some(draft.reason.clone()));
        (until, reported)
    }

    #[test]
    fn a_refused_drill_does_not_begin_later_and_a_new_one_is_judged() {
        let (drills, noon) = (Drills::default(), "2026-11-23T12:00:00Z".parse().unwrap());
        let reason = |reason: &str| Some(reason.to_owned());
        let late = Some("2026-11-23T15:00:00Z");
        assert_eq!(judged(&drills, "default", late, noon), (None, reason("DrillRefused")));
        let later = noon + SignedDuration::from_mins(150);
        assert_eq!(judged(&drills, "default", late, later), (None, None), "it is reported once");
        let soon = Some("2026-11-23T12:10:00Z");
        let (until, event) = judged(&drills, "default", soon, noon);
        assert_eq!((until.is_some(), event), (true, reason("DrillStarted")));
        assert!(judged(&drills, "other", soon, noon).0.is_some(), "each source has its own");
        assert_eq!(judged(&drills, "default", None, noon), (None, None));
        assert_eq!(judged(&drills, "third", soon, later).1, None, "a drill that is over is not announced");
    }
}
