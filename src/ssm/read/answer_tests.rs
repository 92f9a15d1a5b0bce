//! Answers that SSM gives when it is faulty or when parameters change during a read: they fail the read or are read
//! again, and nothing partial is ever returned.

use std::collections::VecDeque;
use std::sync::Arc;

use async_trait::async_trait;
use parameter_mirror_ssm::{Batch, Page};
use proptest::prelude::*;
use rstest::rstest;
use tracing_mutex::parkinglot::Mutex;

use super::tests::{InMemory, known_of, name, one, path, reading, reading_with, values};
use super::*;

/// Returns prepared answers in order, and fails when there are none left.
#[derive(Default)]
struct Prepared {
    pages: Mutex<VecDeque<Page>>,
    batches: Mutex<VecDeque<Batch>>,
}

impl Prepared {
    fn pages(pages: impl IntoIterator<Item = Page>) -> Self {
        Self { pages: Mutex::new(pages.into_iter().collect()), ..Self::default() }
    }

    fn batches(batches: impl IntoIterator<Item = Batch>) -> Self {
        Self { batches: Mutex::new(batches.into_iter().collect()), ..Self::default() }
    }
}

fn unavailable() -> ReadError {
    failure(ReadErrorKind::SourceUnavailable, "HTTP 500".to_owned())
}

#[async_trait]
impl ParameterApi for Prepared {
    async fn list(&self, _: ListPage<'_>) -> Result<Page, ReadError> {
        self.pages.lock().pop_front().ok_or_else(unavailable)
    }

    async fn get(&self, _: &[String], _: bool) -> Result<Batch, ReadError> {
        self.batches.lock().pop_front().ok_or_else(unavailable)
    }

    async fn probe(&self, _: &Selection) -> Result<(), ReadError> {
        unreachable!("a read does not probe")
    }
}

/// Answers like `within` until the operation that fails, counted from 1.
struct FailingAt<'a> {
    within: &'a InMemory,
    operation: usize,
}

impl FailingAt<'_> {
    fn check(&self) -> Result<(), ReadError> {
        if self.within.log().len() + 1 == self.operation { Err(unavailable()) } else { Ok(()) }
    }
}

#[async_trait]
impl ParameterApi for FailingAt<'_> {
    async fn list(&self, page: ListPage<'_>) -> Result<Page, ReadError> {
        self.check()?;
        self.within.list(page).await
    }

    async fn get(&self, names: &[String], decrypt: bool) -> Result<Batch, ReadError> {
        self.check()?;
        self.within.get(names, decrypt).await
    }

    async fn probe(&self, _: &Selection) -> Result<(), ReadError> {
        unreachable!("a read does not probe")
    }
}

fn page(names: &[&str], next: Option<&str>) -> Page {
    let parameters = names.iter().map(|name| one(name, 1, "v")).collect();
    Page { parameters, next: next.map(str::to_owned) }
}

fn batch(names: &[&str], invalid: &[&str]) -> Batch {
    let parameters = names.iter().map(|name| one(name, 1, "v")).collect();
    Batch { parameters, invalid: invalid.iter().map(|&name| name.to_owned()).collect() }
}

/// Which answers these are is decided, and tested, in crates/ssm.
#[tokio::test]
async fn an_answer_that_does_not_fit_its_request_fails_the_read() {
    let listing = Prepared::pages([page(&["/a/x"], Some("t")), page(&["/a/y"], Some("t"))]);
    let batch = Prepared::batches([batch(&["/n/x", "/n/other"], &[])]);
    for (ssm, selection, said) in [
        (listing, path("/a"), "repeats a page token"),
        (batch, name("/n/x"), "answers /n/other, which was not asked for"),
    ] {
        let failure = reading_with(&ssm, &[selection], BTreeMap::new()).await.unwrap_err();
        assert_eq!(failure.reason, ReadErrorKind::InvalidResponse);
        assert!(failure.detail.contains(said), "{failure}");
    }
}

#[tokio::test]
async fn an_empty_page_ends_nothing() {
    let pages =
        [page(&[], Some("t")), page(&["/a/x"], Some("u")), page(&[], Some("v")), page(&["/a/y"], None)];
    let ssm = Prepared::pages(pages.clone().into_iter().chain(pages));
    let reading = reading_with(&ssm, &[path("/a")], BTreeMap::new()).await.unwrap();
    assert_eq!(values(&reading), [("/a/x", "v"), ("/a/y", "v")]);
}

#[tokio::test]
async fn a_listing_without_end_is_given_up() {
    let pages = (0..=MAX_PAGES).map(|number| page(&[], Some(&number.to_string())));
    let failure = reading_with(&Prepared::pages(pages), &[path("/a")], BTreeMap::new()).await.unwrap_err();
    assert_eq!(failure.reason, ReadErrorKind::TooManyParameters);
}

/// Two pages, a batch of changed names, a batch of missing names and a scan to confirm: the read fails if any of them fails.
#[tokio::test]
async fn any_operation_that_fails_fails_the_read() {
    let before: Vec<_> = (0..15).map(|n| one(&format!("/a/{n:02}"), 1, "old")).collect();
    let mut now = before.clone();
    now[3] = one("/a/03", 2, "new");
    now.remove(7);
    now.push(one("/n/x", 1, "x"));
    let selections = [path("/a"), name("/n/x")];
    let whole = InMemory::new(now.clone());
    let cost = reading(&whole, &selections, &before).await.unwrap().cost;
    assert_eq!(cost.calls, 8);
    for operation in 1..=8 {
        let within = InMemory::new(now.clone());
        let ssm = FailingAt { within: &within, operation };
        let failure = reading_with(&ssm, &selections, known_of(&before)).await.unwrap_err();
        assert_eq!((failure, within.log().len()), (unavailable(), operation - 1));
    }
}

/// The listing lags behind: SSM itself still has the name, so it is not removed.
#[rstest]
#[case::it_comes_back(Some(3), Ok(2))]
#[case::it_never_does(None, Err(ReadErrorKind::SourceChanging))]
#[tokio::test]
async fn what_ssm_still_has_is_not_removed(
    #[case] listed_from: Option<usize>,
    #[case] expected: Result<usize, ReadErrorKind>,
) {
    let known = [one("/a/lags", 1, "l"), one("/a/x", 1, "x")];
    let ssm = InMemory::new(known.clone()).hiding("/a/lags");
    let ssm = Lagging { within: ssm, listed_from };
    let outcome = reading_with(&ssm, &[path("/a")], known_of(&known)).await;
    let outcome = outcome.map(|reading| reading.parameters.len()).map_err(|failure| failure.reason);
    assert_eq!(outcome, expected);
}

/// Hides nothing from listings from this operation on.
struct Lagging {
    within: InMemory,
    listed_from: Option<usize>,
}

#[async_trait]
impl ParameterApi for Lagging {
    async fn list(&self, page: ListPage<'_>) -> Result<Page, ReadError> {
        if self.listed_from.is_some_and(|from| self.within.log().len() + 1 >= from) {
            self.within.hide_nothing();
        }
        self.within.list(page).await
    }

    async fn get(&self, names: &[String], decrypt: bool) -> Result<Batch, ReadError> {
        self.within.get(names, decrypt).await
    }

    async fn probe(&self, _: &Selection) -> Result<(), ReadError> {
        unreachable!("a read does not probe")
    }
}

/// One change of what SSM holds, before an operation.
#[derive(Clone, Debug)]
enum Move {
    Put(usize),
    Delete(usize),
}

fn moves() -> impl Strategy<Value = Vec<(usize, Move)>> {
    let one = prop_oneof![2 => (0..25_usize).prop_map(Move::Put), 1 => (0..25_usize).prop_map(Move::Delete)];
    prop::collection::vec((1..14_usize, one), 0..8)
}

type Held = BTreeMap<String, Listed>;

/// Each put has a later date and another value; after a deletion versions start at 1 again.
fn apply(change: &Move, date: i64, all: &mut Held) {
    match change {
        Move::Put(n) => {
            let name = format!("/a/{n:02}");
            let version = all.get(&name).map_or(1, |before| before.version + 1);
            all.insert(name.clone(), Listed { date, ..one(&name, version, &date.to_string()) });
        }
        Move::Delete(n) => drop(all.remove(&format!("/a/{n:02}"))),
    }
}

fn published(all: &Held) -> Vec<(String, i64, String)> {
    let value = |one: &Listed| one.value.as_ref().unwrap().expose().to_owned();
    all.iter().map(|(name, one)| (name.clone(), one.version, value(one))).collect()
}

fn read_out(reading: &Snapshot) -> Vec<(String, i64, String)> {
    let parameters = reading.parameters.iter();
    parameters.map(|(name, one)| (name.clone(), one.version, one.value.expose().to_owned())).collect()
}

proptest! {
    /// For any changes before any operations: what a read returns was true at one moment, and without changes it is what SSM holds.
    #[test]
    fn what_is_read_was_true_at_one_moment(
        moves in moves(),
        at_first in 0..26_usize,
        was_read in any::<bool>(),
        by_name in prop::collection::btree_set(0..25_usize, 0..3),
    ) {
        let start: Vec<_> = (0..at_first).map(|n| one(&format!("/a/{n:02}"), 1, "start")).collect();
        let known = if was_read { start.clone() } else { Vec::new() };
        let first: Held = start.iter().map(|one| (one.name.clone(), one.clone())).collect();
        let history = Arc::new(Mutex::new(vec![first]));
        let ssm = InMemory::new(start).before({
            let (moves, history) = (moves.clone(), Arc::clone(&history));
            move |number, all| {
                for (n, (_, change)) in moves.iter().enumerate().filter(|(_, (at, _))| *at == number) {
                    apply(change, 5_000 + 100 * i64::try_from(number).unwrap() + i64::try_from(n).unwrap(), all);
                    history.lock().push(all.clone());
                }
            }
        });
        let names = by_name.iter().map(|n| name(&format!("/a/{n:02}")));
        let selections: Vec<_> = [path("/a")].into_iter().chain(names).collect();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let outcome = runtime.block_on(reading(&ssm, &selections, &known));
        let history = history.lock();
        match outcome {
            Ok(reading) => {
                let read = read_out(&reading);
                prop_assert!(history.iter().any(|state| published(state) == read), "{read:?}");
                if moves.is_empty() {
                    prop_assert_eq!(&read, &published(&history[0]));
                }
                prop_assert!(reading.absent.iter().all(|name| !reading.parameters.contains_key(name)));
            }
            Err(failure) => {
                prop_assert_eq!(failure.reason, ReadErrorKind::SourceChanging);
                prop_assert!(history.len() > 1, "nothing moved");
            }
        }
    }
}
