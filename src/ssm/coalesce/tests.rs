//! Reads of several mirrors that wait for one limiter.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;

use futures::future::join_all;
use rstest::rstest;
use tokio::time::Instant;

use super::*;
use crate::mirror::selection::{NameSelection, PathSelection, Selection};
use crate::mirror::snapshot::{Priority, QueueKey, ReadErrorKind, ReadRequest, Snapshot};
use crate::ssm::limiter::Limiter;
use crate::ssm::limiter::Slots;
use crate::ssm::limiter::rate_limiter::RateLimiter;
use crate::ssm::read::read;
use crate::ssm::read::tests::{Asked, InMemory, one};
use parameter_mirror_clock::Clock;

/// One client whose limit of one request per second is used up.
struct Client {
    account: Arc<RateLimiter>,
    waiting: PendingRequests,
    slots: Arc<Slots>,
}

impl Client {
    async fn busy() -> Self {
        let client =
            Self { account: RateLimiter::new(1), waiting: PendingRequests::default(), slots: Slots::new(10) };
        drop(client.limiter(Priority::Refresh).acquire().await.unwrap());
        client
    }

    fn limiter(&self, priority: Priority) -> Limiter {
        let turn = QueueKey { namespace: "shop".into(), priority, last_read: 0 };
        Limiter::new(Arc::clone(&self.account), None, Arc::clone(&self.slots), turn)
    }

    async fn read(&self, api: &dyn ParameterApi, selection: Selection) -> Result<Snapshot, ReadError> {
        self.read_as(api, selection, Priority::Refresh).await
    }

    async fn read_as(
        &self,
        api: &dyn ParameterApi,
        selection: Selection,
        priority: Priority,
    ) -> Result<Snapshot, ReadError> {
        let request = ReadRequest {
            selections: vec![selection],
            known: BTreeMap::new(),
            known_account: None,
            last_failure: None,
            turn: QueueKey { namespace: "shop".into(), priority, last_read: 0 },
            coalesce: false,
            started: Arc::new(AtomicBool::default()),
        };
        read(api, (&self.limiter(priority), &self.waiting), &request, &Clock::start()).await
    }
}

fn path(path: &str) -> Selection {
    Selection::Path(PathSelection { path: path.to_owned(), recursive: true, exclude: [].into() })
}

fn name(requested: &str) -> Selection {
    Selection::Name(NameSelection { requested: requested.to_owned(), key: None, optional: true })
}

fn names(reading: &Result<Snapshot, ReadError>) -> Vec<&str> {
    reading.as_ref().unwrap().parameters.keys().map(String::as_str).collect()
}

/// 25 parameters are three pages and, because they are new, a second scan of three.
#[tokio::test(start_paused = true)]
async fn a_path_that_ten_mirrors_wait_for_is_listed_once() {
    let ssm = InMemory::new((0..25).map(|n| one(&format!("/a/{n:02}"), 1, "v")));
    let client = Client::busy().await;
    let began = Instant::now();
    let readings = join_all((0..10).map(|_| client.read(&ssm, path("/a")))).await;
    assert!(readings.iter().all(|reading| names(reading).len() == 25));
    assert_eq!(ssm.log().len(), 6);
    let costs: Vec<_> = readings.iter().map(|reading| reading.as_ref().unwrap().cost).collect();
    assert!(costs.iter().all(|cost| cost.calls == 6), "{costs:?}");
    assert_eq!(costs.iter().map(|cost| cost.calls - cost.shared).sum::<u32>(), 6, "each is counted once");
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn names_of_many_mirrors_go_ten_in_a_batch_and_each_gets_its_own() {
    let ssm = InMemory::new((0..20).map(|n| one(&format!("/a/{n:02}"), 1, "v")));
    let client = Client::busy().await;
    // Half of them do not exist.
    let wanted: Vec<String> = (0..40).map(|n| format!("/a/{n:02}")).collect();
    let readings = join_all(wanted.iter().map(|wanted| client.read(&ssm, name(wanted)))).await;
    for (wanted, reading) in wanted.iter().zip(&readings) {
        let reading = reading.as_ref().unwrap();
        let exists = wanted.as_str() < "/a/20";
        assert_eq!(
            (reading.parameters.contains_key(wanted), reading.absent.contains(wanted)),
            (exists, !exists)
        );
        assert_eq!(reading.parameters.len() + reading.absent.len(), 1);
    }
    assert_eq!(ssm.log().len(), 4);
}

/// SSM refuses a batch that has the same parameter twice; with and without decryption are two requests.
#[rstest]
#[case::others(&["/b"], true, true)]
#[case::the_same(&["/a"], true, true)]
#[case::another_version(&["/a:3"], true, false)]
#[case::another_spelling(&["a"], true, false)]
#[case::undecrypted(&["/b"], false, false)]
#[case::too_many(&["1", "2", "3", "4", "5", "6", "7", "8", "9", "10"], true, false)]
#[case::just_as_many(&["/a", "2", "3", "4", "5", "6", "7", "8", "9", "10"], true, true)]
fn what_fits_into_one_batch(#[case] others: &[&str], #[case] decrypt: bool, #[case] fits: bool) {
    let mut batch = NamesRequest { names: vec!["/a".to_owned()], decrypt: true };
    let other = NamesRequest { names: others.iter().map(|&name| name.to_owned()).collect(), decrypt };
    assert_eq!(batch.take_in(&other), fits);
    let before = if fits { others.len() + usize::from(!others.contains(&"/a")) } else { 1 };
    assert_eq!(batch.names.len(), before);
}

/// What no member requested makes the answer invalid for all; what only another member requested concerns only that one.
#[test]
fn an_answer_is_shared_out_by_name() {
    let question = |names: &[&str]| NamesRequest {
        names: names.iter().map(|&name| name.to_owned()).collect(),
        decrypt: true,
    };
    let pinned = Listed { selector: Some(":3".to_owned()), ..one("/b", 3, "b") };
    let whole = question(&["/a", "b:3", "/gone", "/also"]);
    let answer = Batch {
        parameters: vec![one("/a", 1, "a"), pinned, one("/stray", 1, "s")],
        invalid: vec!["/gone".to_owned(), "/also".to_owned()],
    };
    let own = |names: &[&str]| {
        let Batch { parameters, invalid } = question(names).own_part(&whole, &answer);
        (parameters.into_iter().map(|one| one.name).collect::<Vec<_>>(), invalid)
    };
    assert_eq!(own(&["/a"]), (vec!["/a".to_owned(), "/stray".to_owned()], vec![]));
    assert_eq!(
        own(&["b:3", "/gone"]),
        (vec!["/b".to_owned(), "/stray".to_owned()], vec!["/gone".to_owned()])
    );
}

/// Refuses a batch that holds `/denied`.
struct Guarded(InMemory);

#[async_trait]
impl ParameterApi for Guarded {
    async fn list(&self, page: ListPage<'_>) -> Result<Page, ReadError> {
        self.0.list(page).await
    }
    async fn get(&self, names: &[String], decrypt: bool) -> Result<Batch, ReadError> {
        let answer = self.0.get(names, decrypt).await;
        if names.iter().any(|name| name == "/denied") {
            return Err(ReadError::new(ReadErrorKind::AccessDenied, "no"));
        }
        answer
    }
    async fn probe(&self, _: &Selection) -> Result<(), ReadError> {
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn a_name_that_is_denied_fails_its_own_mirror_only() {
    let ssm = Guarded(InMemory::new(["/a", "/b", "/denied"].map(|name| one(name, 1, "v"))));
    let client = Client::busy().await;
    let [a, b, denied] = ["/a", "/b", "/denied"].map(|wanted| client.read(&ssm, name(wanted)));
    let (a, b, denied) = tokio::join!(a, b, denied);
    assert_eq!((names(&a), names(&b)), (vec!["/a"], vec!["/b"]));
    assert_eq!(denied.unwrap_err().reason, ReadErrorKind::AccessDenied);
}

/// The breaker records one failed request, not one per mirror that waited for it.
#[tokio::test(start_paused = true)]
async fn an_outage_is_everybodys_and_counts_once() {
    struct Down;
    #[async_trait]
    impl ParameterApi for Down {
        async fn list(&self, _: ListPage<'_>) -> Result<Page, ReadError> {
            Err(ReadError::new(ReadErrorKind::Timeout, "silent"))
        }
        async fn get(&self, _: &[String], _: bool) -> Result<Batch, ReadError> {
            Err(ReadError::new(ReadErrorKind::Timeout, "silent"))
        }
        async fn probe(&self, _: &Selection) -> Result<(), ReadError> {
            Ok(())
        }
    }
    let client = Client::busy().await;
    let (pages, batches) = (
        join_all((0..10).map(|_| client.read(&Down, path("/a")))).await,
        join_all((0..10).map(|n| client.read(&Down, name(&format!("/a/{n}"))))).await,
    );
    for failed in pages.into_iter().chain(batches) {
        assert_eq!(failed.unwrap_err().reason, ReadErrorKind::Timeout);
    }
    assert!(!client.account.claim_probe(), "two failures do not open the breaker");
}

/// The member that is granted first sends; if it is stopped before the answer, the others send their own requests.
#[tokio::test(start_paused = true)]
async fn members_of_a_stopped_flight_ask_again() {
    let ssm = Arc::new(InMemory::new([one("/a/x", 1, "x")]).silent_at(1));
    let client = Arc::new(Client::busy().await);
    let reading = || {
        let (ssm, client) = (Arc::clone(&ssm), Arc::clone(&client));
        tokio::spawn(async move { client.read(ssm.as_ref(), path("/a")).await })
    };
    let (first, second) = (reading(), reading());
    while ssm.log().is_empty() {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    first.abort();
    assert_eq!(names(&second.await.unwrap()), ["/a/x"]);
}

/// No member waits longer than alone: the one whose turn comes first sends.
#[tokio::test(start_paused = true)]
async fn who_is_in_a_hurry_takes_the_others_along() {
    let ssm = InMemory::new((0..10).map(|n| one(&format!("/a{n}/x"), 1, "x")));
    let client = Client::busy().await;
    let refreshes: Vec<_> = (0..10).map(|n| client.read(&ssm, path(&format!("/a{n}")))).collect();
    let asked = client.read_as(&ssm, path("/a9"), Priority::Requested);
    let (_, asked) = tokio::join!(join_all(refreshes), asked);
    assert_eq!(names(&asked), ["/a9/x"]);
    let listed: Vec<_> = ssm
        .log()
        .into_iter()
        .filter_map(|asked| match asked {
            Asked::List { path, .. } => Some(path),
            Asked::Get { .. } => None,
        })
        .collect();
    assert_eq!((listed.len(), listed[0].as_str()), (10, "/a9"));
}
