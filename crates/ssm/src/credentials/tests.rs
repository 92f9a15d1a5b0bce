//! A credentials cache over a scripted source. Tokio's clock is paused, and the wall clock follows it.

use std::time::UNIX_EPOCH;

use futures::future::join_all;
use jiff::Timestamp;

use super::*;

/// What the source answers from now on.
#[derive(Clone, Copy)]
enum Script {
    /// Credentials that last this long.
    Lasting(Duration),
    /// Credentials without expiry.
    Static,
    /// A failure.
    Down,
    /// Credentials of an hour, after this delay.
    Slow(Duration),
}

struct Stage {
    principal: Arc<CredentialsCache>,
    script: Arc<Mutex<Script>>,
    fetches: Arc<AtomicU64>,
    recoveries: watch::Receiver<u64>,
    began: Instant,
}

struct Scripted {
    script: Arc<Mutex<Script>>,
    fetches: Arc<AtomicU64>,
    began: Instant,
}

#[async_trait]
impl Fetch for Scripted {
    async fn fetch(&self) -> Result<Credentials, String> {
        let number = self.fetches.fetch_add(1, Ordering::Relaxed) + 1;
        let script = *self.script.lock();
        let lasting = match script {
            Script::Down => return Err("STS answers HTTP 503".to_owned()),
            Script::Static => None,
            Script::Lasting(lasting) => Some(lasting),
            Script::Slow(pause) => {
                tokio::time::sleep(pause).await;
                Some(HOUR)
            }
        };
        let expires = lasting.map(|lasting| UNIX_EPOCH + self.began.elapsed() + lasting);
        Ok(Credentials::new(format!("key {number}"), "secret", None, expires, "script"))
    }
}

const HOUR: Duration = Duration::from_hours(1);

impl Stage {
    fn set(script: Script) -> Self {
        let (script, fetches, began) = (Arc::new(Mutex::new(script)), Arc::default(), Instant::now());
        let source = Scripted { script: Arc::clone(&script), fetches: Arc::clone(&fetches), began };
        let clock = Clock::with_wall(move || Timestamp::UNIX_EPOCH + began.elapsed());
        let (sender, recoveries) = watch::channel(0);
        let principal = CredentialsCache::start(clock, "role x".to_owned(), source, sender);
        Self { principal, script, fetches, recoveries, began }
    }

    fn turn(&self, script: Script) {
        *self.script.lock() = script;
    }

    fn fetches(&self) -> u64 {
        self.fetches.load(Ordering::Relaxed)
    }

    fn recoveries(&self) -> u64 {
        *self.recoveries.borrow()
    }

    /// Asks each second until this time since the beginning, and counts the good answers. An answer after a second or
    /// more does not count.
    async fn ask_until(&self, end: Duration) -> u64 {
        let mut good = 0;
        while self.began.elapsed() < end {
            let at_once = tokio::time::timeout(Duration::from_millis(999), self.principal.ready());
            good += u64::from(at_once.await.is_ok_and(|answer| answer.is_ok()));
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        good
    }

    async fn key(&self) -> Option<String> {
        let credentials = self.principal.provide_credentials().await.ok()?;
        Some(credentials.access_key_id().to_owned())
    }
}

#[tokio::test(start_paused = true)]
async fn credentials_are_fetched_at_half_of_their_life_and_no_call_waits_for_it() {
    let stage = Stage::set(Script::Slow(Duration::from_secs(5)));
    stage.principal.ready().await.unwrap();
    assert_eq!(stage.ask_until(Duration::from_hours(10)).await, 10 * 3_600 - 5);
    assert!((17..26).contains(&stage.fetches()), "{}", stage.fetches());
}

#[tokio::test(start_paused = true)]
async fn when_sts_is_down_they_are_used_to_their_end_and_sts_is_left_in_peace() {
    let stage = Stage::set(Script::Lasting(HOUR));
    stage.principal.ready().await.unwrap();
    stage.turn(Script::Down);
    let good = stage.ask_until(2 * HOUR).await;
    assert!((3_599..=3_600).contains(&good), "good for {good} s of 3600");
    // About 20 until they expire, afterwards one each 20 to 30 s.
    assert!(stage.fetches() < 220, "{}", stage.fetches());
    let none = stage.principal.ready().await.unwrap_err();
    assert_eq!(none.to_string(), "no valid AWS credentials for role x: STS answers HTTP 503");
    assert_eq!(stage.key().await, None);
    assert!(stage.principal.health().unwrap().is_failing);

    stage.turn(Script::Lasting(HOUR));
    assert_eq!(stage.recoveries(), 0);
    let good = stage.ask_until(2 * HOUR + Duration::from_mins(1)).await;
    assert!(good >= 29, "{good}");
    assert_eq!(stage.recoveries(), 1, "callers that had to do without are notified once");
    assert!(!stage.principal.health().unwrap().is_failing);
}

#[tokio::test(start_paused = true)]
async fn an_sts_that_comes_back_in_time_is_not_noticed() {
    let stage = Stage::set(Script::Lasting(HOUR));
    stage.principal.ready().await.unwrap();
    stage.turn(Script::Down);
    stage.ask_until(Duration::from_mins(50)).await;
    assert!(stage.principal.health().unwrap().is_failing);
    stage.turn(Script::Lasting(HOUR));
    assert_eq!(stage.ask_until(2 * HOUR).await, 70 * 60);
    assert_eq!(stage.recoveries(), 0);
}

#[tokio::test(start_paused = true)]
async fn all_callers_share_one_fetch_and_its_failure() {
    let stage = Stage::set(Script::Slow(Duration::from_secs(3)));
    assert!(join_all((0..100).map(|_| stage.principal.ready())).await.iter().all(Result::is_ok));
    assert_eq!(stage.fetches(), 1);

    let stage = Stage::set(Script::Down);
    assert!(join_all((0..100).map(|_| stage.principal.ready())).await.iter().all(Result::is_err));
    assert_eq!(stage.ask_until(Duration::from_secs(9)).await, 0);
    assert_eq!(stage.fetches(), 1);
    stage.ask_until(Duration::from_mins(10)).await;
    assert!((20..32).contains(&stage.fetches()), "{}", stage.fetches());
}

#[tokio::test(start_paused = true)]
async fn refused_credentials_are_replaced_but_used_until_then() {
    let stage = Stage::set(Script::Lasting(HOUR));
    let first = stage.principal.ready().await.unwrap();
    stage.ask_until(Duration::from_mins(1)).await;
    stage.principal.rejected(first);
    assert_eq!(stage.key().await.as_deref(), Some("key 1"));
    stage.ask_until(Duration::from_secs(62)).await;
    assert_eq!(stage.key().await.as_deref(), Some("key 2"));
    // A late rejection of the old ones.
    stage.principal.rejected(first);
    stage.ask_until(Duration::from_mins(2)).await;
    assert_eq!(stage.fetches(), 2);
}

#[tokio::test(start_paused = true)]
async fn credentials_that_are_always_refused_are_fetched_a_few_times_a_minute() {
    for script in [Script::Static, Script::Down] {
        let stage = Stage::set(Script::Static);
        stage.principal.ready().await.unwrap();
        stage.turn(script);
        while stage.began.elapsed() < Duration::from_mins(10) {
            stage.principal.rejected(stage.principal.ready().await.unwrap());
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        assert!((20..62).contains(&stage.fetches()), "{}", stage.fetches());
    }
}

#[tokio::test(start_paused = true)]
async fn credentials_without_an_end_are_looked_up_each_hour() {
    let stage = Stage::set(Script::Static);
    stage.principal.ready().await.unwrap();
    assert_eq!(stage.ask_until(10 * HOUR).await, 36_000);
    assert!((8..14).contains(&stage.fetches()), "{}", stage.fetches());
    stage.turn(Script::Down);
    assert_eq!(stage.ask_until(20 * HOUR).await, 36_000);
    assert_eq!(stage.principal.health().unwrap(), CredentialsHealth { is_failing: true, expires: None });
}

#[tokio::test(start_paused = true)]
async fn a_principal_that_nobody_uses_rests_and_comes_back() {
    let stage = Stage::set(Script::Lasting(HOUR));
    stage.principal.ready().await.unwrap();
    tokio::time::sleep(Duration::from_hours(30)).await;
    let rested = stage.fetches();
    tokio::time::sleep(Duration::from_hours(100)).await;
    assert_eq!(stage.fetches(), rested);
    assert_eq!(stage.principal.health(), None);
    stage.principal.ready().await.unwrap();
    assert_eq!(stage.fetches(), rested + 1);
    assert_eq!(stage.ask_until(Duration::from_hours(132)).await, 7_200);
}

#[tokio::test(start_paused = true)]
async fn credentials_that_have_ended_when_they_come_are_none() {
    let stage = Stage::set(Script::Lasting(Duration::ZERO));
    let none = stage.principal.ready().await.unwrap_err();
    assert!(none.what.contains("clock"), "{none}");
}

#[tokio::test(start_paused = true)]
async fn nothing_is_fetched_for_a_principal_that_is_gone() {
    let stage = Stage::set(Script::Lasting(HOUR));
    stage.principal.ready().await.unwrap();
    drop(stage.principal);
    tokio::time::sleep(10 * HOUR).await;
    assert_eq!(stage.fetches.load(Ordering::Relaxed), 1);
}
