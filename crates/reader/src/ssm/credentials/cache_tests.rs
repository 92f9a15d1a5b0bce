//! How cached credentials are used.

use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};

use super::super::testing::{LONG, SHORT};
use super::sources_tests::{Asked, HOUR, chain, handed, provide, source};
use super::*;

/// Cached credentials that expire in this time.
fn held(left: Duration) -> Held {
    let end = Some(SystemTime::now() + left);
    let token = Some("token".to_owned());
    Held { credentials: Some(Credentials::new("HELD", "secret", token, end, "test")), ..Held::default() }
}

/// Returns the decision on cached credentials as a word.
fn done_with(held: &Held) -> &'static str {
    match held.standing(SystemTime::now(), Instant::now()) {
        Standing::Use(_) => "use",
        Standing::Renew(_) => "renew",
        Standing::Fetch => "fetch",
    }
}

#[test]
fn credentials_are_renewed_five_minutes_before_their_end_and_not_used_beyond_it() {
    assert_eq!(done_with(&Held::default()), "fetch");
    assert_eq!(done_with(&held(Duration::from_mins(6))), "use");
    assert_eq!(done_with(&held(Duration::from_mins(4))), "renew");
    assert_eq!(done_with(&held(Duration::ZERO)), "fetch");
    assert_eq!(done_with(&Held { is_refused: true, ..held(HOUR) }), "renew");
    assert_eq!(done_with(&Held { not_before: pause(), ..held(Duration::from_mins(4)) }), "use");
    assert_eq!(done_with(&Held { not_before: pause(), ..held(Duration::ZERO) }), "fetch");
}

/// A chain for a container that already holds credentials.
async fn holding(
    left: Duration,
    asked: &Asked,
    answer: impl Fn(&str) -> Option<Response> + Clone + Send + Sync + 'static,
) -> Chain {
    let endpoint = source(asked, "host", answer).await;
    let chain = chain(&[("AWS_CONTAINER_CREDENTIALS_FULL_URI", &endpoint)]);
    *chain.held.lock() = held(left);
    chain
}

#[tokio::test]
async fn credentials_near_their_end_are_renewed() {
    let asked = Asked::default();
    let chain = holding(Duration::from_mins(4), &asked, |_| Some(handed("NEW", HOUR))).await;
    assert_eq!(provide(&chain, LONG).await.unwrap().access_key_id(), "NEW");
    assert_eq!(provide(&chain, LONG).await.unwrap().access_key_id(), "NEW");
    assert_eq!(asked.lines().len(), 1);
}

#[tokio::test]
async fn others_are_fetched_for_those_that_aws_refuses() {
    let asked = Asked::default();
    let chain = holding(HOUR, &asked, |_| Some(handed("NEW", HOUR))).await;
    let held = provide(&chain, LONG).await.unwrap();
    assert_eq!(held.access_key_id(), "HELD");
    chain.refused(&held);
    assert_eq!(provide(&chain, LONG).await.unwrap().access_key_id(), "NEW");
    // A late refusal of the old credentials, and an early one of the new ones, cause no further fetch.
    chain.refused(&held);
    assert_eq!(provide(&chain, LONG).await.unwrap().access_key_id(), "NEW");
    chain.refused(&provide(&chain, LONG).await.unwrap());
    provide(&chain, LONG).await.unwrap();
    assert_eq!(asked.lines().len(), 1);
}

#[tokio::test]
async fn credentials_near_their_end_are_used_when_their_source_fails_or_keeps_silent() {
    let failing = |_: &str| Some(StatusCode::INTERNAL_SERVER_ERROR.into_response());
    let silent = |_: &str| None;
    let asked = Asked::default();
    let chains = [
        holding(Duration::from_mins(4), &asked, failing).await,
        holding(Duration::from_mins(4), &asked, silent).await,
    ];
    for chain in chains {
        // Enough of the budget must be left for SSM itself.
        let mut budget = Budget::new(SHORT * 4);
        assert_eq!(chain.provide(&mut budget).await.unwrap().access_key_id(), "HELD");
        assert!(budget.ends() - Instant::now() > SHORT * 2, "half of the budget is left");
        let before = asked.lines().len();
        assert_eq!(provide(&chain, SHORT).await.unwrap().access_key_id(), "HELD");
        assert_eq!(asked.lines().len(), before, "it is not asked again at once");
    }
}

#[tokio::test]
async fn callers_share_one_fetch() {
    let asked = Asked::default();
    let endpoint = source(&asked, "host", |_| Some(handed("AKID", HOUR))).await;
    let chain = chain(&[("AWS_CONTAINER_CREDENTIALS_FULL_URI", &endpoint)]);
    let (one, other, third) =
        tokio::join!(provide(&chain, LONG), provide(&chain, LONG), provide(&chain, LONG));
    assert!([one, other, third].iter().all(Result::is_ok));
    assert_eq!(asked.lines().len(), 1);
}
