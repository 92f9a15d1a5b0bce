//! One connection that signs in: it is renewed before it is ended, with a token of its own, and without credentials it fails at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use aws_credential_types::Credentials;
use jiff::{SignedDuration, Timestamp};
use parameter_mirror::process::redis_auth::IamAuth;
use parameter_mirror::targets::redis::token::{self, Service};
use parameter_mirror_clock::Clock;
use parameter_mirror_format::value::Value;
use parameter_mirror_redis::{Connection, ConnectionError, PasswordFuture, RedisSettings, Setting, SignIn};
use parameter_mirror_ssm::credentials::{CredentialsCache, Fetch};
use parameter_mirror_test_support::{ElastiCache, Redis};
use redis::aio::MultiplexedConnection;
use rstest::rstest;
use tokio::sync::watch;

use super::{CACHE, cache};
use crate::world::{SOON, eventually};

/// Credentials that never expire.
struct Static;

#[async_trait]
impl Fetch for Static {
    async fn fetch(&self) -> Result<Credentials, String> {
        Ok(Credentials::new("AKIDTEST", "test", None, None, "test"))
    }
}

pub(super) fn identity(clock: Clock) -> Arc<IamAuth> {
    let recoveries = watch::Sender::new(0);
    let principal = CredentialsCache::start(clock.clone(), "the test".to_owned(), Static, recoveries);
    let cache = token::Cache::new(Service::ElastiCache, CACHE.name, CACHE.region.to_owned()).unwrap();
    Arc::new(IamAuth::new(cache, principal, clock))
}

pub(super) fn settings(cache: &ElastiCache, sign_in: Arc<dyn SignIn>, lifetime: Duration) -> RedisSettings {
    let mut settings = RedisSettings::new(Setting::Value(Value::new(cache.url())));
    settings.ca = Some(Setting::File(cache.ca().to_owned()));
    settings.sign_in_with(sign_in, lifetime).unwrap();
    settings
}

fn link(cache: &ElastiCache, sign_in: Arc<dyn SignIn>, lifetime: Duration) -> Connection {
    Connection::new(settings(cache, sign_in, lifetime))
}

/// Writes. A write is never repeated.
async fn write(link: &Connection) -> Result<(), ConnectionError> {
    let incr = |mut connection: MultiplexedConnection| async move {
        redis::cmd("INCR").arg("x").exec_async(&mut connection).await
    };
    link.write(SOON, incr).await
}

#[tokio::test]
async fn a_connection_gives_way_before_it_is_ended_and_no_write_fails() {
    let redis = Redis::start().await;
    let cache = cache(CACHE, &redis).await;
    cache.end_after(Duration::from_secs(8));
    let renewed = link(&cache, identity(Clock::start()), Duration::from_millis(300));
    let mut writes = 0;
    let began = Instant::now();
    while cache.let_in() < 6 || began.elapsed() < Duration::from_secs(9) {
        assert_eq!(write(&renewed).await, Ok(()), "after {writes} writes");
        writes += 1;
    }
    assert!(writes > 100, "{writes}");
    assert_eq!(redis.cli(&["get", "x"]).await, writes.to_string());

    // The connection in use is kept if its successor is refused.
    cache.forget("AKIDTEST");
    let refused = || cache.attempts().iter().filter(|attempt| attempt.outcome.is_err()).count();
    let began = Instant::now();
    while refused() == 0 {
        assert!(began.elapsed() < SOON, "nobody tries to make a successor");
        assert_eq!(write(&renewed).await, Ok(()));
    }
    assert_eq!((write(&renewed).await, renewed.broken()), (Ok(()), None));
}

/// Control for the test above: without a successor, an operation meets the closed connection.
#[tokio::test]
async fn a_connection_that_is_kept_too_long_is_ended() {
    let redis = Redis::start().await;
    let cache = cache(CACHE, &redis).await;
    cache.end_after(Duration::from_secs(1));
    let kept = link(&cache, identity(Clock::start()), Duration::from_hours(11));
    eventually("a write fails", SOON, async || match write(&kept).await {
        Err(error) => Ok(error),
        Ok(()) => Err("it still serves"),
    })
    .await;
}

#[tokio::test]
async fn each_connection_has_a_token_of_its_own_signed_by_the_clock_of_that_moment() {
    let redis = Redis::start().await;
    let cache = cache(CACHE, &redis).await;
    let ahead = Arc::new(AtomicI64::new(0));
    let wall = Arc::clone(&ahead);
    let clock =
        Clock::with_wall(move || Timestamp::now() + SignedDuration::from_secs(wall.load(Ordering::Relaxed)));
    let link = link(&cache, identity(clock), Duration::from_hours(11));
    write(&link).await.unwrap();
    ahead.store(60, Ordering::Relaxed);
    cache.cut();
    eventually("another connection", SOON, async || write(&link).await).await;
    let tokens: Vec<_> = cache.attempts().into_iter().map(|attempt| attempt.token).collect();
    let dates: Vec<_> =
        tokens.iter().map(|token| token.split_once("X-Amz-Date=").unwrap().1[..16].to_owned()).collect();
    let now = Timestamp::now().strftime("%Y%m%dT%H%M%SZ").to_string();
    assert!(dates.len() == 2 && dates[0] <= now && now < dates[1], "{dates:?} at {now}");
    assert_ne!(tokens[0], tokens[1]);
}

/// A signer without credentials: it fails at once, or never answers.
#[derive(Debug)]
enum Nobody {
    Says(&'static str),
    Silent,
}

impl SignIn for Nobody {
    fn password<'a>(&'a self, _: &'a str) -> PasswordFuture<'a> {
        Box::pin(async {
            match self {
                Self::Says(why) => Err((*why).to_owned()),
                Self::Silent => std::future::pending().await,
            }
        })
    }

    fn refused(&self, _: &str) -> String {
        String::new()
    }
}

#[rstest]
#[case::none(Nobody::Says("no valid AWS credentials"), "no valid AWS credentials")]
#[case::too_late(Nobody::Silent, "the credentials were not there in time")]
#[tokio::test]
async fn without_credentials_redis_is_not_available_and_says_why(#[case] nobody: Nobody, #[case] why: &str) {
    let redis = Redis::start().await;
    let cache = cache(CACHE, &redis).await;
    let link = link(&cache, Arc::new(nobody), Duration::from_hours(11));
    let began = Instant::now();
    assert_eq!(write(&link).await, Err(ConnectionError::NothingToSignInWith(why.to_owned())));
    assert!(began.elapsed() < SOON, "it has a deadline");
    assert!(link.broken().is_some(), "everybody else hears it at once");
    assert!(cache.attempts().is_empty());
}
