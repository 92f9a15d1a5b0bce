//! The copy in memory, and its refresh. A set that was read once is served for the lifetime of the process,
//! whatever happens to Redis.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use parameter_mirror_format::humanize::{parameters, span};
use tokio::sync::{Notify, watch};
use tokio::time::timeout;

use parameter_mirror_format::hash::mirror_name::MirrorName;

use crate::age_limit::AgeLimit;
use crate::mirrors::{Mirror, Mirrors};

/// The mirrors held, in the order of the command line; mirrors that were never read are absent.
pub type Held = Arc<[Mirror]>;

/// Mirrors in memory. Clones share them.
#[derive(Debug, Clone)]
pub struct Cache(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    mirrors: Mirrors,
    refresh: Duration,
    max_stale: Option<Duration>,
    /// `None` until the first attempt has ended.
    held: watch::Sender<Option<Held>>,
    wake: Notify,
}

impl Cache {
    /// Creates an empty memory. A mirror older than `max_stale` is reported.
    #[must_use]
    pub fn new(mirrors: Mirrors, refresh: Duration, max_stale: Option<Duration>) -> Self {
        let (held, wake) = (watch::Sender::new(None), Notify::new());
        Self(Arc::new(Inner { mirrors, refresh, max_stale, held, wake }))
    }

    /// Returns the names of the mirrors that are not among those held: they could not be read yet.
    #[must_use]
    pub fn unread(&self, held: &[Mirror]) -> Vec<String> {
        let unread = |name: &&MirrorName| held.iter().all(|mirror| mirror.name != **name);
        self.0.mirrors.names.iter().filter(unread).map(ToString::to_string).collect()
    }

    /// Returns the mirrors held now.
    #[must_use]
    pub fn now(&self) -> Held {
        self.0.held.borrow().clone().unwrap_or_default()
    }

    /// Returns the mirrors held after the first attempt to read. Waits for that attempt, at most for the
    /// budget.
    pub async fn ready(&self) -> Held {
        if let Some(held) = &*self.0.held.borrow() {
            return Arc::clone(held);
        }
        let mut held = self.0.held.subscribe();
        // Whether the wait succeeded or timed out, the result is what is held.
        let _ = timeout(self.0.mirrors.budget, held.wait_for(Option::is_some)).await;
        self.now()
    }

    /// Triggers a refresh if the interval has passed. For callers that know that the process was frozen.
    pub fn wake_if_due(&self, last: &mut Timestamp) {
        let now = Timestamp::now();
        if now.duration_since(*last).unsigned_abs() >= self.0.refresh {
            *last = now;
            self.0.wake.notify_one();
        }
    }

    /// Refreshes at once, and then once per interval for ever.
    pub async fn keep_fresh(&self) {
        let mut failures = vec![None; self.0.mirrors.names.len()];
        let mut limit = AgeLimit::new(self.0.max_stale);
        loop {
            self.refresh(&mut failures, &mut limit).await;
            // A frozen process (Lambda) does not notice that time passes, so it is woken.
            let _ = timeout(self.0.refresh, self.0.wake.notified()).await;
        }
    }

    /// Refreshes once. A mirror that cannot be read keeps the set that is held.
    async fn refresh(&self, failures: &mut [Option<String>], limit: &mut AgeLimit) {
        let before = self.now();
        let known = |name: &MirrorName| before.iter().find(|mirror| mirror.name == *name);
        let looks = self.0.mirrors.names.iter().map(|name| self.0.mirrors.news(name, known(name)));
        let news = futures::future::join_all(looks).await;
        let mut held = Vec::new();
        for ((name, news), trouble) in self.0.mirrors.names.iter().zip(news).zip(failures) {
            let fresh = match news {
                Ok(fresh) => {
                    *trouble = None;
                    fresh
                }
                Err(failure) => {
                    let message = failure.to_string();
                    // Logged once, not at every refresh.
                    if trouble.as_ref() != Some(&message) {
                        let held = known(name)
                            .map_or("nothing is held of it", |_| "what is held goes on being served");
                        eprintln!("parameter-mirror-reader: {message} ({name}: {held})");
                        *trouble = Some(message);
                    }
                    None
                }
            };
            if let Some(fresh) = &fresh {
                let count = parameters(fresh.copy.entries.len());
                eprintln!(
                    "parameter-mirror-reader: {count} of {name}, read {} ago",
                    span(fresh.age(Timestamp::now()))
                );
            }
            let answers = trouble.is_none();
            if let Some(mut mirror) = fresh.or_else(|| known(name).cloned()) {
                limit.check(&self.0.mirrors, &mut mirror, answers).await;
                held.push(mirror);
            }
        }
        self.0.held.send_replace(Some(held.into()));
    }
}
