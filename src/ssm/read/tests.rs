//! Reads against a scripted SSM in memory.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parameter_mirror_format::content::entry::ParameterType;
use parameter_mirror_format::value::Value;
use parameter_mirror_ssm::{Batch, PAGE, Page};
use rstest::rstest;
use tracing_mutex::parkinglot::Mutex;

use super::*;
use crate::mirror::selection::NameSelection;
use crate::mirror::snapshot::{Priority, QueueKey};
use crate::ssm::limiter::Limiter;
use crate::ssm::limiter::Slots;
use crate::ssm::limiter::rate_limiter::RateLimiter;

fn turn() -> QueueKey {
    QueueKey { namespace: "shop".into(), priority: Priority::Refresh, last_read: 0 }
}

fn request() -> ReadRequest {
    ReadRequest {
        selections: Vec::new(),
        known: BTreeMap::new(),
        known_account: Some("111122223333".to_owned()),
        last_failure: None,
        turn: turn(),
        coalesce: false,
        started: Arc::default(),
    }
}

/// One requested operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::ssm) enum Asked {
    List { path: String, decrypt: bool },
    Get { names: Vec<String>, decrypt: bool },
}

type Script = Box<dyn FnMut(usize, &mut BTreeMap<String, Listed>) + Send>;

/// Parameters by name (with selector), a log, and a script that runs before the n-th operation.
pub(in crate::ssm) struct InMemory {
    state: Mutex<State>,
}

struct State {
    parameters: BTreeMap<String, Listed>,
    log: Vec<Asked>,
    script: Script,
    /// The operation that never answers.
    silent: Option<usize>,
    /// What no listing shows, although lookups by name do.
    hidden: Option<&'static str>,
}

impl InMemory {
    pub(in crate::ssm) fn new(parameters: impl IntoIterator<Item = Listed>) -> Self {
        let key = |one: &Listed| format!("{}{}", one.name, one.selector.as_deref().unwrap_or_default());
        let parameters = parameters.into_iter().map(|one| (key(&one), one)).collect();
        let state =
            State { parameters, log: Vec::new(), script: Box::new(|_, _| {}), silent: None, hidden: None };
        Self { state: Mutex::new(state) }
    }

    /// Sets the script. It runs before each operation, with its number counted from 1.
    pub(super) fn before(
        self,
        script: impl FnMut(usize, &mut BTreeMap<String, Listed>) + Send + 'static,
    ) -> Self {
        self.state.lock().script = Box::new(script);
        self
    }

    /// Hides names that begin with this from listings.
    pub(super) fn hiding(self, hidden: &'static str) -> Self {
        self.state.lock().hidden = Some(hidden);
        self
    }

    /// Makes the n-th operation never answer.
    pub(in crate::ssm) fn silent_at(self, number: usize) -> Self {
        self.state.lock().silent = Some(number);
        self
    }

    pub(super) fn hide_nothing(&self) {
        self.state.lock().hidden = None;
    }

    pub(in crate::ssm) fn log(&self) -> Vec<Asked> {
        self.state.lock().log.clone()
    }

    async fn answer<T>(&self, asked: Asked, answer: impl FnOnce(&BTreeMap<String, Listed>) -> T) -> T {
        let silent = {
            let mut state = self.state.lock();
            state.log.push(asked);
            let number = state.log.len();
            let State { parameters, script, .. } = &mut *state;
            script(number, parameters);
            state.silent == Some(number)
        };
        // Other tasks go on meanwhile, as with a real one.
        tokio::task::yield_now().await;
        if silent {
            std::future::pending::<()>().await;
        }
        answer(&self.state.lock().parameters)
    }
}

fn sealed(one: &Listed, decrypt: bool) -> Listed {
    let hidden = one.kind == ParameterType::SecureString && !decrypt;
    Listed { value: one.value.clone().filter(|_| !hidden), ..one.clone() }
}

#[async_trait]
impl ParameterApi for InMemory {
    async fn list(&self, page: ListPage<'_>) -> Result<Page, ReadError> {
        let asked = Asked::List { path: page.path.to_owned(), decrypt: page.decrypt };
        let below = format!("{}/", page.path.trim_end_matches('/'));
        let (token, decrypt) = (page.token.map(str::to_owned), page.decrypt);
        let hidden = self.state.lock().hidden;
        let answer = |all: &BTreeMap<String, Listed>| {
            let left = all.values().filter(|one| {
                one.selector.is_none()
                    && one.name.starts_with(&below)
                    && hidden.is_none_or(|hidden| !one.name.starts_with(hidden))
                    && token.as_ref().is_none_or(|token| one.name > *token)
            });
            let mut left: Vec<_> = left.map(|one| sealed(one, decrypt)).collect();
            let more = left.len() > PAGE;
            left.truncate(PAGE);
            Page { next: left.last().filter(|_| more).map(|one| one.name.clone()), parameters: left }
        };
        Ok(self.answer(asked, answer).await)
    }

    async fn get(&self, names: &[String], decrypt: bool) -> Result<Batch, ReadError> {
        let asked = Asked::Get { names: names.to_vec(), decrypt };
        let answer = |all: &BTreeMap<String, Listed>| {
            let mut batch = Batch { parameters: Vec::new(), invalid: Vec::new() };
            for name in names {
                match all.get(name) {
                    Some(one) => batch.parameters.push(sealed(one, decrypt)),
                    None => batch.invalid.push(name.clone()),
                }
            }
            batch
        };
        Ok(self.answer(asked, answer).await)
    }

    async fn probe(&self, _: &Selection) -> Result<(), ReadError> {
        unreachable!("a read does not probe")
    }
}

pub(in crate::ssm) fn one(name: &str, version: i64, value: &str) -> Listed {
    let (name, selector) =
        name.split_once(':').map_or((name, None), |(name, selector)| (name, Some(selector)));
    Listed {
        ciphertext: None,
        name: name.to_owned(),
        selector: selector.map(|selector| format!(":{selector}")),
        kind: ParameterType::SecureString,
        version,
        date: 1_000 + version,
        account: Some("111122223333".to_owned()),
        value: Some(Value::new(value.to_owned())),
    }
}

pub(super) fn path(path: &str) -> Selection {
    Selection::Path(PathSelection { path: path.to_owned(), recursive: true, exclude: BTreeSet::new() })
}

pub(super) fn name(requested: &str) -> Selection {
    Selection::Name(NameSelection { requested: requested.to_owned(), key: None, optional: false })
}

pub(super) fn known_of(listed: &[Listed]) -> BTreeMap<String, CachedParameter> {
    let known = |one: &Listed| {
        let (kind, version, date) = (one.kind, one.version, one.date);
        let parameter = Parameter { kind, version, date, value: one.value.clone().unwrap() };
        let name = format!("{}{}", one.name, one.selector.as_deref().unwrap_or_default());
        (name, CachedParameter { parameter, comparable: true })
    };
    listed.iter().map(known).collect()
}

pub(super) async fn reading(
    ssm: &InMemory,
    selections: &[Selection],
    known: &[Listed],
) -> Result<Snapshot, ReadError> {
    reading_with(ssm, selections, known_of(known)).await
}

pub(super) async fn reading_with(
    ssm: &dyn ParameterApi,
    selections: &[Selection],
    known: BTreeMap<String, CachedParameter>,
) -> Result<Snapshot, ReadError> {
    reading_after(ssm, selections, known, None).await
}

pub(super) async fn reading_after(
    ssm: &dyn ParameterApi,
    selections: &[Selection],
    known: BTreeMap<String, CachedParameter>,
    last_failure: Option<ReadError>,
) -> Result<Snapshot, ReadError> {
    let request = ReadRequest { selections: selections.to_vec(), known, last_failure, ..request() };
    let limiter = Limiter::new(RateLimiter::new(1_000), None, Slots::new(10), turn());
    read(ssm, (&limiter, &PendingRequests::default()), &request, &Clock::start()).await
}

pub(super) fn values(reading: &Snapshot) -> Vec<(&str, &str)> {
    reading.parameters.iter().map(|(name, one)| (name.as_str(), one.value.expose())).collect()
}

fn list(decrypt: bool) -> Asked {
    Asked::List { path: "/a".to_owned(), decrypt }
}

fn get(names: &[&str], decrypt: bool) -> Asked {
    Asked::Get { names: names.iter().map(|&name| name.to_owned()).collect(), decrypt }
}

#[tokio::test]
async fn a_first_read_of_one_page_is_one_decrypting_call() {
    let ssm = InMemory::new([one("/a/x", 1, "x"), one("/a/y", 3, "y")]);
    let reading = reading(&ssm, &[path("/a")], &[]).await.unwrap();
    assert_eq!(values(&reading), [("/a/x", "x"), ("/a/y", "y")]);
    assert_eq!(ssm.log(), [list(true)]);
    assert_eq!(reading.cost, Cost { calls: 1, decrypts: 2, ..Cost::default() });
    assert_eq!(reading.account.as_deref(), Some("111122223333"));
}

/// Eight reads of ten pages each run concurrently as long as they are small, then two at a time.
#[tokio::test]
async fn few_reads_hold_large_sets_at_once() {
    const READS: usize = 8;
    let value = "v".repeat(4_000);
    let all = (0..READS).flat_map(|read| (0..100).map(move |n| format!("/{read}/{n:02}")));
    let ssm = InMemory::new(all.map(|name| one(&name, 1, &value)).collect::<Vec<_>>());
    let large_reads = Slots::new(2);
    let waiting = PendingRequests::default();
    let clock = Clock::start();
    let reads = (0..READS).map(|number| {
        let (ssm, waiting, clock, large_reads) = (&ssm, &waiting, &clock, Arc::clone(&large_reads));
        async move {
            let request = ReadRequest { selections: vec![path(&format!("/{number}"))], ..request() };
            let limiter = Limiter::new(RateLimiter::new(1_000), None, Slots::new(10), turn())
                .with_large_reads(large_reads);
            read(ssm, (&limiter, waiting), &request, clock).await.unwrap().parameters.len()
        }
    });
    assert_eq!(futures::future::join_all(reads).await, [100; READS]);
    // Two pages are small. Each read scans twice.
    let (mut asked, mut most) = ([0; READS], 0);
    for question in ssm.log() {
        let Asked::List { path, .. } = question else { panic!("{question:?}") };
        asked[path[1..].parse::<usize>().unwrap()] += 1;
        most = most.max(asked.iter().filter(|pages| (3..20).contains(*pages)).count());
    }
    assert_eq!(most, 2, "{asked:?}");
}

#[tokio::test]
async fn a_quiet_read_decrypts_nothing_and_looks_once() {
    let all: Vec<_> = (0..25).map(|n| one(&format!("/a/{n:02}"), 1, "v")).collect();
    let ssm = InMemory::new(all.clone());
    let reading = reading(&ssm, &[path("/a")], &all).await.unwrap();
    assert_eq!((reading.parameters.len(), reading.cost), (25, Cost { calls: 3, ..Cost::default() }));
}

#[tokio::test]
async fn only_what_changed_is_decrypted_and_the_look_is_confirmed() {
    let known = [one("/a/x", 1, "old"), one("/a/y", 1, "same")];
    let ssm = InMemory::new([one("/a/x", 2, "new"), one("/a/y", 1, "same")]);
    let reading = reading(&ssm, &[path("/a")], &known).await.unwrap();
    assert_eq!(values(&reading), [("/a/x", "new"), ("/a/y", "same")]);
    assert_eq!(ssm.log(), [list(false), get(&["/a/x"], true), list(false)]);
}

#[tokio::test]
async fn names_are_asked_for_undecrypted_until_one_changes() {
    let known = [one("/n/x", 1, "x"), one("/n/y", 1, "y")];
    let names = [name("n/x"), name("/n/y")];
    let same = InMemory::new([Listed { name: "n/x".to_owned(), ..known[0].clone() }, known[1].clone()]);
    let quiet = reading(&same, &names, &known).await.unwrap();
    assert_eq!((values(&quiet), quiet.cost.decrypts), (vec![("/n/x", "x"), ("/n/y", "y")], 0));
    assert_eq!(same.log(), [get(&["n/x", "/n/y"], false)], "asked for as the user wrote it");

    let moved = InMemory::new([Listed { name: "n/x".to_owned(), ..one("/n/x", 2, "new") }, known[1].clone()]);
    let changed = reading(&moved, &names, &known).await.unwrap();
    assert_eq!((values(&changed), changed.cost.decrypts), (vec![("/n/x", "new"), ("/n/y", "y")], 1));
    let all = get(&["n/x", "/n/y"], false);
    assert_eq!(moved.log(), [all.clone(), get(&["n/x"], true), all]);
}

/// Values that need no decryption come with the listing.
#[tokio::test]
async fn plain_text_is_never_decrypted() {
    let plain = |version, value| Listed { kind: ParameterType::String, ..one("/a/x", version, value) };
    let ssm = InMemory::new([plain(2, "new")]);
    let reading = reading(&ssm, &[path("/a")], &[plain(1, "old")]).await.unwrap();
    assert_eq!((values(&reading), reading.cost.decrypts), (vec![("/a/x", "new")], 0));
    assert_eq!(ssm.log(), [list(false)], "one call is one moment");
}

/// A path that is new in the spec is decrypted as it is listed; a known path beside it is not.
#[tokio::test]
async fn only_what_is_new_is_decrypted_in_the_listing() {
    let known = [one("/a/x", 1, "x")];
    let ssm = InMemory::new([known[0].clone(), one("/b/y", 1, "y")]);
    let reading = reading(&ssm, &[path("/b"), path("/a")], &known).await.unwrap();
    assert_eq!((values(&reading), reading.cost.decrypts), (vec![("/a/x", "x"), ("/b/y", "y")], 1));
    let list_b = |decrypt| Asked::List { path: "/b".to_owned(), decrypt };
    assert_eq!(ssm.log(), [list_b(true), list(false), list_b(false), list(false)]);
}

/// Dates of two operations may differ for one version, so the value is requested again.
#[tokio::test]
async fn what_another_operation_reported_is_decrypted_again() {
    let ssm = InMemory::new([one("/n/x", 1, "now")]);
    let mut known = known_of(&[one("/n/x", 1, "before")]);
    known.get_mut("/n/x").unwrap().comparable = false;
    let reading = reading_with(&ssm, &[name("/n/x")], known).await.unwrap();
    assert_eq!((values(&reading), ssm.log()), (vec![("/n/x", "now")], vec![get(&["/n/x"], true)]));
}

#[tokio::test]
async fn what_the_spec_leaves_out_is_not_read() {
    let ssm = InMemory::new(["/a/x", "/a/tmp/y", "/a/deep/z", "/a/tmpx"].map(|name| one(name, 1, "v")));
    let all = |recursive| {
        Selection::Path(PathSelection {
            path: "/a".to_owned(),
            recursive,
            exclude: ["tmp".to_owned()].into(),
        })
    };
    let names = |reading: Snapshot| reading.parameters.into_keys().collect::<Vec<_>>();
    assert_eq!(names(reading(&ssm, &[all(true)], &[]).await.unwrap()), ["/a/deep/z", "/a/tmpx", "/a/x"]);
    assert_eq!(names(reading(&ssm, &[all(false)], &[]).await.unwrap()), ["/a/tmpx", "/a/x"]);
}

#[tokio::test]
async fn what_moves_between_look_and_decryption_is_read_again() {
    let known = [one("/a/x", 1, "one")];
    let ssm = InMemory::new([one("/a/x", 2, "two")]).before(|number, all| {
        if number == 2 {
            all.insert("/a/x".to_owned(), one("/a/x", 3, "three"));
        }
    });
    let reading = reading(&ssm, &[path("/a")], &known).await.unwrap();
    assert_eq!(values(&reading), [("/a/x", "three")]);
}

#[tokio::test]
async fn what_moves_in_each_of_three_reads_is_not_published() {
    let known = [one("/a/x", 1, "old")];
    let ssm = InMemory::new(known.clone()).before(|number, all| {
        let version = i64::try_from(number).unwrap() + 1;
        all.insert("/a/x".to_owned(), one("/a/x", version, "moving"));
    });
    let failure = reading(&ssm, &[path("/a")], &known).await.unwrap_err();
    assert_eq!(failure.reason, ReadErrorKind::SourceChanging);
}

#[rstest]
#[case::older_is_refused("/a/x", one("/a/x", 3, "old"), Err(ReadErrorKind::SourceChanging))]
#[case::created_again_is_news("/a/x", Listed { date: 9_000, ..one("/a/x", 1, "reborn") }, Ok("reborn"))]
#[case::created_again_up_to_the_same("/a/x", Listed { date: 9_000, ..one("/a/x", 4, "reborn") }, Ok("reborn"))]
#[case::older_by_name_is_refused("/n/x", one("/n/x", 3, "old"), Err(ReadErrorKind::SourceChanging))]
#[case::a_label_may_move_back("/a/x:live", one("/a/x:live", 3, "rolled back"), Ok("rolled back"))]
#[tokio::test]
async fn versions_that_go_back(
    #[case] selected: &str,
    #[case] listed: Listed,
    #[case] expected: Result<&str, ReadErrorKind>,
) {
    let known = [one(selected, 4, "known")];
    let ssm = InMemory::new([listed]);
    let selection =
        if selected.starts_with("/a/") && !selected.contains(':') { path("/a") } else { name(selected) };
    let outcome = reading(&ssm, &[selection], &known).await;
    let value = outcome
        .as_ref()
        .map(|reading| reading.parameters[selected].value.expose())
        .map_err(|failure| failure.reason);
    assert_eq!(value, expected);
}

/// The identity of the operator may move to another account, whose versions and dates have a history of their own.
#[rstest]
#[case::older_there(one("/a/x", 1, "other"))]
#[case::the_same_there(one("/a/x", 4, "other"))]
#[tokio::test]
async fn another_account_is_neither_older_nor_known(#[case] there: Listed) {
    let ssm = InMemory::new([Listed { account: Some("444455556666".to_owned()), ..there }]);
    let reading = reading(&ssm, &[path("/a")], &[one("/a/x", 4, "known")]).await.unwrap();
    assert_eq!(values(&reading), [("/a/x", "other")]);
    assert_eq!(reading.account.as_deref(), Some("444455556666"));
}

#[tokio::test]
async fn a_name_leaves_a_path_only_on_the_word_of_get_parameters() {
    let known = [one("/a/gone", 1, "g"), one("/a/stays", 1, "s")];
    let ssm = InMemory::new([one("/a/stays", 1, "s")]);
    let reading = reading(&ssm, &[path("/a")], &known).await.unwrap();
    assert_eq!(values(&reading), [("/a/stays", "s")]);
    assert_eq!(reading.absent.into_iter().collect::<Vec<_>>(), ["/a/gone"]);
    assert_eq!(ssm.log(), [list(false), get(&["/a/gone"], false), list(false)]);
}

/// A parameter that was pinned by name before is not a parameter of the path: SSM would go on answering it by name, and
/// no listing would ever hold it.
#[rstest]
#[case::pinned("/a/x:1", "/a")]
#[case::public("/aws/service/x", "/")]
#[tokio::test]
async fn a_name_that_no_listing_shows_does_not_stop_a_path(#[case] before: &str, #[case] now: &str) {
    let ssm = InMemory::new([one("/a/x", 2, "x"), one(before, 1, "before")]);
    let mut known = known_of(&[one(before, 1, "before")]);
    known.get_mut(before).unwrap().comparable = false;
    let ssm = ssm.hiding("/aws/");
    let reading = reading_with(&ssm, &[path(now)], known).await.unwrap();
    assert_eq!(values(&reading), [("/a/x", "x")]);
}

#[tokio::test]
async fn names_go_by_tens_without_twins_in_one_batch() {
    let mut all: Vec<_> = (0..11).map(|n| one(&format!("/n/{n:02}"), 1, "v")).collect();
    all.push(one("/n/00:1", 1, "first"));
    let ssm = InMemory::new(all);
    let mut selections: Vec<_> = (0..11).map(|n| name(&format!("/n/{n:02}"))).collect();
    selections.insert(1, name("/n/00:1"));
    let reading = reading(&ssm, &selections, &[]).await.unwrap();
    assert_eq!(reading.parameters.len(), 12);
    let batches: Vec<usize> = ssm
        .log()
        .iter()
        .map(|asked| match asked {
            Asked::Get { names, .. } => names.len(),
            Asked::List { .. } => 0,
        })
        .collect();
    assert_eq!(batches, [10, 2, 10, 2], "two batches, and once more to confirm");
}

#[tokio::test]
async fn a_name_beside_a_path_replaces_its_entry_and_an_absent_one_is_said_so() {
    let ssm = InMemory::new([one("/a/x", 1, "x"), one("/a/y", 1, "y")]);
    let reading = reading(&ssm, &[path("/a"), name("/a/x"), name("/b/none")], &[]).await.unwrap();
    assert_eq!(values(&reading), [("/a/x", "x"), ("/a/y", "y")]);
    assert!(reading.absent.contains("/b/none"));
}

#[tokio::test]
async fn more_than_two_thousand_are_too_many() {
    let ssm = InMemory::new((0..=MAX_PARAMETERS).map(|n| one(&format!("/a/{n:04}"), 1, "v")));
    let failure = reading(&ssm, &[path("/a")], &[]).await.unwrap_err();
    assert_eq!(failure.reason, ReadErrorKind::TooManyParameters);
}

#[tokio::test(start_paused = true)]
async fn a_read_that_hangs_ends_at_its_deadline() {
    let ssm = InMemory::new([one("/a/x", 1, "x")]).silent_at(1);
    let began = Instant::now();
    let failure = reading(&ssm, &[path("/a")], &[]).await.unwrap_err();
    assert_eq!(failure.reason, ReadErrorKind::Timeout);
    assert!(began.elapsed() < ask::BASE_DEADLINE + Duration::from_secs(5), "{:?}", began.elapsed());
}
