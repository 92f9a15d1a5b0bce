//! `--max-stale` of programs that keep running: reports a mirror that gets too old, once, and when it is young again.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;
use parameter_mirror_format::hash::mirror_name::MirrorName;
use parameter_mirror_format::humanize::span;

use crate::failure::Failure;
use crate::mirrors::{Mirror, Mirrors};

/// The limit, and the mirrors that are above it.
#[derive(Debug)]
pub struct AgeLimit {
    most: Option<Duration>,
    too_old: BTreeSet<MirrorName>,
}

impl AgeLimit {
    /// Creates a limit; without one, every age is accepted.
    #[must_use]
    pub fn new(most: Option<Duration>) -> Self {
        Self { most, too_old: BTreeSet::new() }
    }

    /// Compares the age of a mirror that is held in memory, and reports what has changed on standard error. The operator
    /// confirms a set without changing its generation, so the age is looked up in Redis if that `answers`.
    pub async fn check(&mut self, mirrors: &Mirrors, held: &mut Mirror, answers: bool) {
        let Some(most) = self.most else { return };
        if answers && held.age(Timestamp::now()) > most {
            // The caller that reads the mirror reports a failure.
            let _ = mirrors.confirm(held).await;
        }
        let age = held.age(Timestamp::now());
        if age <= most {
            if self.too_old.remove(&held.name) {
                eprintln!("parameter-mirror-reader: {}: read {} ago", held.name, span(age));
            }
        } else if self.too_old.insert(held.name.clone()) {
            let stale = Failure::Stale { mirror: held.name.clone(), age, most };
            eprintln!("parameter-mirror-reader: WARNING: {stale}. It goes on being used");
        }
    }
}
