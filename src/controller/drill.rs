//! Rehearsed outages: an annotation on a source makes its mirrors behave as if SSM were down, until the time that it names.

use std::collections::HashMap;

use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;
use tracing_mutex::parkinglot::Mutex;

use crate::api::{DRILL_UNTIL, ParameterSource};

/// How far ahead a drill may end, so that a drill that somebody forgets soon ends by itself.
const LONGEST: SignedDuration = SignedDuration::from_hours(1);

/// The drills of all sources. Each annotation is judged once, when it is first seen. A drill that was refused as too long would
/// otherwise begin by surprise, an hour before its end.
#[derive(Default)]
pub struct Drills(Mutex<HashMap<String, (String, Option<Timestamp>)>>);

impl Drills {
    /// Returns when the drill of this source ends, even if that is over; `None` if the source requests no valid drill.
    pub fn until(&self, name: &str, source: Option<&ParameterSource>, now: Timestamp) -> Option<Timestamp> {
        self.judged(name, source?.annotations().get(DRILL_UNTIL).map(String::as_str), now)
    }

    fn judged(&self, source: &str, annotation: Option<&str>, now: Timestamp) -> Option<Timestamp> {
        let Some(annotation) = annotation else {
            self.0.lock().remove(source);
            return None;
        };
        let known = self.0.lock().get(source).cloned();
        if let Some((_, until)) = known.filter(|(known, _)| known == annotation) {
            return until;
        }
        let until = judge(annotation, now);
        match until {
            Some(until) => {
                tracing::info!(source, %until, "an outage of the source is rehearsed");
            }
            None => {
                tracing::warn!(
                    source,
                    annotation,
                    "no drill: write a time within the next hour, like {}",
                    now + LONGEST
                );
            }
        }
        self.0.lock().insert(source.to_owned(), (annotation.to_owned(), until));
        until
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
        assert_eq!(Drills::default().judged("default", Some(annotation), now).is_some(), is_one);
    }

    #[test]
    fn a_refused_drill_does_not_begin_later_and_a_new_one_is_judged() {
        let (drills, noon) = (Drills::default(), "2026-11-23T12:00:00Z".parse().unwrap());
        let late = Some("2026-11-23T15:00:00Z");
        assert_eq!(drills.judged("default", late, noon), None);
        assert_eq!(drills.judged("default", late, noon + SignedDuration::from_mins(150)), None);
        assert!(drills.judged("default", Some("2026-11-23T12:10:00Z"), noon).is_some());
        assert!(
            drills.judged("other", Some("2026-11-23T12:10:00Z"), noon).is_some(),
            "each source has its own"
        );
        assert_eq!(drills.judged("default", None, noon), None);
    }
}
