//! How a read passes the limiter of its account, the limit of its source, and the slots.

use super::*;
use crate::mirror::snapshot::{Priority, ReadErrorKind};

fn turn() -> QueueKey {
    QueueKey { namespace: "shop".into(), priority: Priority::Refresh, last_read: 0 }
}

fn limiter(account: &Arc<RateLimiter>, cap: Option<Arc<RateLimiter>>, slots: usize) -> Limiter {
    Limiter::new(Arc::clone(account), cap, Slots::new(slots), turn())
}

#[tokio::test(start_paused = true)]
async fn a_source_can_be_held_below_its_account() {
    let limiter = limiter(&RateLimiter::new(100), Some(RateLimiter::new(2)), 10);
    let began = Instant::now();
    for _ in 0..6 {
        limiter.acquire().await.unwrap();
    }
    let took = began.elapsed().as_secs_f64();
    assert!((1.9..2.2).contains(&took), "{took}");
    assert!(limiter.waited() >= Duration::from_millis(1_900));
}

/// Opens the breaker: twenty requests fail one after the other.
fn open(account: &RateLimiter) {
    let failure = ReadError::new(ReadErrorKind::Timeout, "");
    let sent_in = account.admit().unwrap();
    for _ in 0..20 {
        account.record(sent_in, Err(&failure));
    }
    assert!(account.admit().is_err());
}

#[tokio::test(start_paused = true)]
async fn a_request_that_waits_when_the_breaker_opens_fails_at_once() {
    let account = RateLimiter::new(100);
    let limiter = limiter(&account, None, 1);
    let held = limiter.acquire().await.unwrap();
    let waiting = async { limiter.acquire().await.err().map(|failure| failure.reason) };
    let opening = async {
        open(&account);
        drop(held);
    };
    let (reason, ()) = tokio::join!(waiting, opening);
    assert_eq!(reason, Some(ReadErrorKind::Timeout));
    assert!(account.claim_probe() && !account.claim_probe(), "exactly one has to probe");
    assert!(limiter.acquire().await.is_err());
}

/// A permit keeps the generation in which it was granted.
#[tokio::test(start_paused = true)]
async fn a_request_that_ends_after_a_transition_counts_for_nothing() {
    let account = RateLimiter::new(100);
    let limiter = limiter(&account, None, 100);
    let failure = ReadError::new(ReadErrorKind::Timeout, "");
    let mut before = Vec::new();
    for _ in 0..20 {
        before.push(limiter.acquire().await.unwrap());
    }
    open(&account);
    assert!(account.record_probe(Ok(())));
    tokio::time::advance(Duration::from_secs(12)).await;
    for permit in before {
        permit.record(Err(&failure));
    }
    assert!(account.admit().is_ok(), "failures from before the outage ended opened the breaker again");
}

#[tokio::test(start_paused = true)]
async fn requests_begin_slowly_after_a_probe_was_answered() {
    let account = RateLimiter::new(100);
    let limiter = limiter(&account, None, 100);
    open(&account);
    assert!(account.record_probe(Ok(())));
    let began = Instant::now();
    let mut sent = [0; 20];
    while began.elapsed() < Duration::from_secs(14) {
        limiter.acquire().await.unwrap().record(Ok(()));
        if let Some(second) = sent.get_mut(usize::try_from(began.elapsed().as_secs()).unwrap()) {
            *second += 1;
        }
    }
    assert!(sent[2..5].iter().all(|&sent| sent <= 2), "{sent:?}");
    assert!(sent[11..14].iter().all(|&sent| (3..=5).contains(&sent)), "{sent:?}");
}

/// When SSM answers again, all overdue reads wait at once: after the ramp they go at the full rate.
#[tokio::test(start_paused = true)]
async fn requests_that_wait_since_the_first_second_go_faster_too() {
    let account = RateLimiter::new(10);
    open(&account);
    assert!(account.record_probe(Ok(())));
    let began = Instant::now();
    let waiting = (0..200).map(|_| {
        let limiter = limiter(&account, None, 10);
        async move { drop(limiter.acquire().await.unwrap()) }
    });
    futures::future::join_all(waiting).await;
    // 35 requests in the first fifteen seconds, five each at 1, 2 and 4 per second, then ten per second.
    let took = began.elapsed().as_secs();
    assert!((28..34).contains(&took), "{took} s");
}

/// Every test relies on this: a debug build detects two locks that are taken in two orders, even without another thread.
#[test]
fn two_orders_of_two_locks_are_noticed() {
    let (one, other) = (Mutex::new(()), Mutex::new(()));
    let take = |first: &Mutex<()>, second: &Mutex<()>| {
        let _first = first.lock();
        drop(second.lock());
    };
    take(&one, &other);
    let inverted = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| take(&other, &one)));
    assert!(inverted.is_err());
}
