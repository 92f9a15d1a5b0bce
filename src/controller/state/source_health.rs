//! The availability of a source, from the latest reads of all its mirrors. Failed reads of one tenant do not make a source
//! unavailable as long as SSM answers the reads of others.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use kube::runtime::reflector::ObjectRef;
use tracing_mutex::parkinglot::Mutex;

use crate::api::ParameterMirror;
use crate::mirror::snapshot::ReadErrorKind;

/// How long a source has to be available before failed reads may make it unavailable. A source that comes and goes more often is
/// not worth a write each time.
const STEADY: Duration = Duration::from_mins(1);

/// The latest reads through each source.
#[derive(Default)]
pub struct SourceHealth(Mutex<HashMap<String, Reads>>);

/// One read that has ended.
#[derive(Clone, Copy, Debug)]
pub struct Outcome<'a> {
    /// Why it failed; `None` if SSM answered it.
    pub failed: Option<ReadErrorKind>,
    /// Whether the breaker of its account and region is open.
    pub is_open: bool,
    /// The mirror that was read.
    pub mirror: &'a ObjectRef<ParameterMirror>,
    /// The interval of that mirror.
    pub interval: Duration,
    /// Generation of the source. Reads of an earlier generation do not count.
    pub generation: Option<i64>,
    /// Whether the status of the source says that it is available. A new process starts from it.
    pub was_available: bool,
}

#[derive(Default)]
struct Reads {
    /// The latest read of each mirror: whether it was good, and the uptime until which it counts.
    latest: HashMap<Arc<str>, (bool, Duration)>,
    /// The good reads among them, by the uptime until which they count.
    good: BTreeSet<(Duration, Arc<str>)>,
    /// Uptime since when the source has been available; `None` while it is not.
    available_since: Option<Duration>,
    /// How reads have failed since the last good one, and the uptime at which each kind of failure was first seen.
    failing: BTreeMap<ReadErrorKind, Duration>,
    /// Whether a read of this process was good.
    was_good: bool,
    generation: Option<i64>,
}

impl SourceHealth {
    /// Records how a read ended. Returns whether its source is available.
    pub fn note(&self, source: &str, outcome: &Outcome<'_>, now: Duration) -> bool {
        let mirror: Arc<str> = outcome.mirror.to_string().into();
        let mut sources = self.0.lock();
        if !sources.contains_key(source) {
            sources.insert(source.to_owned(), Reads::default());
        }
        sources.get_mut(source).is_none_or(|reads| reads.note(mirror, outcome, now))
    }

    /// Returns how many mirrors' latest reads failed, and how many mirrors' latest reads are known.
    #[must_use]
    pub fn failing(&self, source: &str, now: Duration) -> (usize, usize) {
        self.0.lock().get_mut(source).map_or((0, 0), |reads| reads.failing(now))
    }

    /// Returns the uptime since when the reads of a source fail as the last one did; `None` if no read of this process was good, so
    /// that the beginning is not known.
    #[must_use]
    pub fn failing_since(&self, source: &str, failed: ReadErrorKind) -> Option<Duration> {
        self.0.lock().get(source)?.failing_since(failed)
    }

    /// Forgets a mirror that no longer exists.
    pub fn forget(&self, mirror: &ObjectRef<ParameterMirror>) {
        let mirror = mirror.to_string();
        self.0.lock().retain(|_, reads| {
            reads.forget(&mirror);
            !reads.latest.is_empty()
        });
    }
}

impl Reads {
    fn failing_since(&self, failed: ReadErrorKind) -> Option<Duration> {
        let alike = self.failing.iter().filter(|(before, _)| failed.continues(**before));
        alike.map(|(_, since)| *since).min().filter(|_| self.was_good)
    }

    fn note(&mut self, mirror: Arc<str>, outcome: &Outcome<'_>, now: Duration) -> bool {
        if self.generation != outcome.generation {
            let is_first = self.generation.is_none();
            let available_since = (is_first && outcome.was_available).then_some(now);
            *self = Self { generation: outcome.generation, available_since, ..Self::default() };
        }
        // The latest read of a mirror that is no longer read, because it is suspended or refused, still counts for a while.
        let until = now + 2 * outcome.interval + STEADY;
        let is_good = outcome.failed.is_none();
        self.forget(&mirror);
        if is_good {
            self.good.insert((until, Arc::clone(&mirror)));
        }
        self.latest.insert(mirror, (is_good, until));
        self.was_good |= is_good;
        match outcome.failed {
            Some(failed) => {
                self.failing.entry(failed).or_insert(now);
            }
            None => self.failing.clear(),
        }
        self.end(now);
        let was_steady = self.available_since.is_none_or(|since| now >= since + STEADY);
        let is_available = match outcome.failed {
            // Both concern all mirrors of the source, so they count at once.
            _ if outcome.is_open => false,
            Some(ReadErrorKind::Drill) => false,
            None => true,
            // The identity belongs to the source, and all its mirrors read with it.
            Some(ReadErrorKind::CredentialsUnavailable) => !was_steady,
            Some(_) => !self.good.is_empty() || !was_steady,
        };
        self.available_since = is_available.then(|| self.available_since.unwrap_or(now));
        is_available
    }

    /// Drops good reads that no longer count.
    fn end(&mut self, now: Duration) {
        while self.good.first().is_some_and(|(until, _)| *until <= now) {
            self.good.pop_first();
        }
    }

    fn failing(&mut self, now: Duration) -> (usize, usize) {
        self.latest.retain(|_, (_, until)| *until > now);
        self.end(now);
        (self.latest.len().saturating_sub(self.good.len()), self.latest.len())
    }

    fn forget(&mut self, mirror: &str) {
        if let Some((name, (true, until))) = self.latest.remove_entry(mirror) {
            self.good.remove(&(until, name));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_secs(10);

    const fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    fn outcome(mirror: &ObjectRef<ParameterMirror>, failed: Option<ReadErrorKind>) -> Outcome<'_> {
        Outcome {
            failed,
            is_open: false,
            mirror,
            interval: INTERVAL,
            generation: Some(1),
            was_available: false,
        }
    }

    fn read(health: &SourceHealth, mirror: &str, failed: Option<ReadErrorKind>, now: u64) -> bool {
        let mirror = ObjectRef::new(mirror).within("shop");
        health.note("default", &outcome(&mirror, failed), secs(now))
    }

    const DENIED: Option<ReadErrorKind> = Some(ReadErrorKind::AccessDenied);

    #[test]
    fn one_of_many_that_fails_says_nothing_about_the_source() {
        let health = SourceHealth::default();
        for now in (0..600).step_by(5) {
            assert!(read(&health, "good", None, now));
            assert!(read(&health, "bad", DENIED, now + 1));
            assert!(read(&health, "worse", Some(ReadErrorKind::Timeout), now + 2));
        }
        assert_eq!(health.failing("default", secs(600)), (2, 3));
        assert_eq!(health.failing("default", secs(10_000)), (0, 0));
    }

    #[test]
    fn when_no_read_is_good_it_is_not_available_and_the_first_good_one_ends_that() {
        let health = SourceHealth::default();
        assert!(!read(&health, "a", DENIED, 0), "the first read of all");
        assert!(read(&health, "a", None, 1));
        assert!(read(&health, "b", None, 2));
        assert!(read(&health, "a", DENIED, 70), "the other one was good a moment ago");
        assert!(!read(&health, "b", DENIED, 71));
        assert!(read(&health, "a", None, 72));
    }

    /// SSM answers every second read of the only mirror of a source: the status flips once a minute at most.
    #[test]
    fn what_comes_and_goes_is_not_reported_each_time() {
        let health = SourceHealth::default();
        let availability: Vec<bool> = (0..120)
            .map(|second| read(&health, "only", DENIED.filter(|_| second % 2 == 1), second))
            .collect();
        let flips = availability.windows(2).filter(|pair| pair[0] != pair[1]).count();
        assert!(flips <= 3, "{flips} flips in two minutes");
    }

    #[test]
    fn a_mirror_that_is_gone_or_is_not_read_any_more_does_not_speak_for_it() {
        let health = SourceHealth::default();
        assert!(read(&health, "good", None, 0));
        assert!(read(&health, "bad", DENIED, 61));
        health.forget(&ObjectRef::new("good").within("shop"));
        assert!(!read(&health, "bad", DENIED, 62));
        let health = SourceHealth::default();
        assert!(read(&health, "good", None, 0));
        assert!(read(&health, "bad", DENIED, 79));
        assert!(!read(&health, "bad", DENIED, 80), "two intervals and a minute later");
    }

    /// After a restart, a mirror whose reads fail may be the first to report. A changed spec begins without history.
    #[test]
    fn a_restart_changes_nothing_and_another_spec_everything() {
        let health = SourceHealth::default();
        let mirror = ObjectRef::new("bad").within("shop");
        let first = Outcome { was_available: true, ..outcome(&mirror, DENIED) };
        assert!(health.note("default", &first, secs(0)));
        assert!(read(&health, "good", None, 30));
        assert!(health.note("default", &first, secs(90)));
        let changed = Outcome { generation: Some(2), ..first };
        assert!(!health.note("default", &changed, secs(91)), "nobody has read the new one");
    }

    /// A source reports the beginning of an outage, not the moment at which it counted as unavailable.
    #[test]
    fn an_outage_begins_with_its_first_failed_read() {
        let health = SourceHealth::default();
        let (timeout, down) = (ReadErrorKind::Timeout, ReadErrorKind::SourceUnavailable);
        let since = |failed| health.failing_since("default", failed).map(|since| since.as_secs());
        assert!(!read(&health, "a", DENIED, 0));
        assert_eq!(since(ReadErrorKind::AccessDenied), None, "it may have begun before this process");
        assert!(read(&health, "a", None, 10));
        assert!(read(&health, "b", None, 10));
        assert!(read(&health, "a", Some(timeout), 75));
        assert!(!read(&health, "b", Some(down), 90));
        assert_eq!((since(timeout), since(down)), (Some(75), Some(75)), "one outage");
        assert!(!read(&health, "a", Some(ReadErrorKind::Drill), 95));
        assert_eq!(since(ReadErrorKind::Drill), Some(95), "a drill is another thing");
        assert!(read(&health, "a", None, 100));
        assert_eq!(since(timeout), None);
    }

    #[test]
    fn what_concerns_all_mirrors_counts_at_once() {
        let health = SourceHealth::default();
        assert!(read(&health, "a", None, 0));
        assert!(!read(&health, "b", Some(ReadErrorKind::Drill), 1));
        assert!(read(&health, "a", None, 2));
        assert!(!read(&health, "b", Some(ReadErrorKind::CredentialsUnavailable), 62));
        let mirror = ObjectRef::new("a").within("shop");
        let open = Outcome { is_open: true, ..outcome(&mirror, None) };
        assert!(read(&health, "a", None, 63));
        assert!(!health.note("default", &open, secs(64)), "answered just before the breaker opened");
    }
}
