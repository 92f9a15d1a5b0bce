//! Leader election: the operator whose name is in the Lease leads (docs/adr/0011-leadership.md).
//!
//! No clock of another machine is trusted: a lease has expired when it has not changed for its whole duration on our
//! own clock. Every write of the lease is a compare-and-set.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::{Api, ObjectMeta, PostParams};
use kube::{Client, ResourceExt};

use crate::kubernetes::client::{ApiError, FIELD_MANAGER};
use crate::kubernetes::leadership::Term;
use parameter_mirror_clock::Clock;

/// How long a lease lasts without a renewal. A killed leader is succeeded after this time.
const LEASE_DURATION: Duration = Duration::from_secs(15);
/// How often the leader renews the lease.
const RENEW_INTERVAL: Duration = Duration::from_secs(4);
/// How often a standby polls the lease, so that it acquires a released one at once; and how often a leader retries a failed renewal.
const POLL_INTERVAL: Duration = Duration::from_millis(500);
/// Deadline of one call: a renewal has to be tried more than once before the term ends.
const CALL_TIMEOUT: Duration = Duration::from_secs(4);

/// The lease, and the identity that competes for it.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// Namespace of the operator.
    pub namespace: String,
    /// Name of the lease.
    pub lease: String,
    /// Unlike that of any other live process: the name of the pod.
    pub identity: String,
}

/// A candidate in the election.
pub struct Election {
    api: Api<Lease>,
    candidate: Candidate,
    clock: Clock,
    /// The lease as last observed, and since when it has not changed.
    seen: Option<(Lease, Duration)>,
}

/// What to do about a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Move {
    /// It is free or expired, or an earlier run of ours holds it.
    Take,
    /// Another operator holds it.
    Wait,
}

impl Election {
    /// Creates the candidate. Nothing is requested yet.
    #[must_use]
    pub fn new(client: Client, candidate: Candidate, clock: Clock) -> Self {
        let api = Api::namespaced(client, &candidate.namespace);
        Self { api, candidate, clock, seen: None }
    }

    /// Waits until this operator is the leader.
    pub async fn acquire(&mut self) -> Term {
        let mut logged = None;
        loop {
            match self.poll().await {
                Ok(Move::Take) => {
                    let asked = self.clock.boottime();
                    match self.claim().await {
                        Ok(()) => return Term::limited(asked, LEASE_DURATION, self.clock.clone()),
                        Err(problem) => {
                            log_once(&mut logged, format!("the lease cannot be taken: {problem}"));
                        }
                    }
                }
                Ok(Move::Wait) => {
                    log_once(&mut logged, format!("{} leads; waiting to take over", self.holder()));
                }
                Err(problem) => log_once(&mut logged, format!("the lease cannot be read: {problem}")),
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }

    /// Renews the lease for as long as it can; returns when the term is lost.
    pub async fn renew_until_lost(&mut self, term: &Term) {
        let mut pause = RENEW_INTERVAL;
        while term.is_valid() {
            tokio::select! {
                () = term.lost() => break,
                () = tokio::time::sleep(pause) => {}
            }
            let asked = self.clock.boottime();
            pause = match self.renew().await {
                Ok(true) => {
                    term.renew(asked);
                    RENEW_INTERVAL
                }
                Ok(false) => {
                    tracing::warn!(leader = self.holder(), "another operator has taken the lease");
                    break;
                }
                Err(problem) => {
                    tracing::warn!(error = %problem, "the lease cannot be renewed");
                    POLL_INTERVAL
                }
            };
        }
        term.revoke();
    }

    /// Releases the lease if it is ours, so that nobody has to wait for its expiry. The work has ended before.
    ///
    /// The last observation is not enough: an abandoned call may have acquired or renewed the lease since, or may still
    /// do so during this call.
    pub async fn release(&mut self) {
        for _ in 0..2 {
            if !matches!(self.vacate().await, Err(ApiError::Conflict)) {
                return;
            }
        }
    }

    async fn vacate(&mut self) -> Result<(), ApiError> {
        self.poll().await?;
        let Some((lease, _)) = self.seen.as_ref().filter(|_| self.holder() == self.candidate.identity) else {
            return Ok(());
        };
        let mut lease = lease.clone();
        lease.spec.get_or_insert_default().holder_identity = None;
        self.write(&lease).await
    }

    async fn poll(&mut self) -> Result<Move, ApiError> {
        let found = in_time(self.api.get_opt(&self.candidate.lease)).await?;
        self.note(found);
        let seen = self.seen.as_ref().map(|(lease, since)| (lease.spec.as_ref(), *since));
        Ok(decide(&self.candidate.identity, seen, self.clock.boottime()))
    }

    async fn claim(&mut self) -> Result<(), ApiError> {
        let before = self.seen.as_ref().map(|(lease, _)| lease.clone());
        let transitions = before.as_ref().and_then(|lease| lease.spec.as_ref()?.lease_transitions);
        let mut lease = before.unwrap_or_else(|| Lease {
            metadata: ObjectMeta { name: Some(self.candidate.lease.clone()), ..ObjectMeta::default() },
            ..Lease::default()
        });
        let now = MicroTime(self.clock.now());
        lease.spec = Some(LeaseSpec {
            holder_identity: Some(self.candidate.identity.clone()),
            lease_duration_seconds: i32::try_from(LEASE_DURATION.as_secs()).ok(),
            acquire_time: Some(now.clone()),
            renew_time: Some(now),
            lease_transitions: Some(transitions.map_or(0, |transitions| transitions.saturating_add(1))),
            ..LeaseSpec::default()
        });
        self.write(&lease).await
    }

    /// Returns `false` if another operator holds the lease by now.
    async fn renew(&mut self) -> Result<bool, ApiError> {
        for _ in 0..2 {
            let Some((lease, _)) = &self.seen else { return Ok(false) };
            let mut lease = lease.clone();
            lease.spec.get_or_insert_default().renew_time = Some(MicroTime(self.clock.now()));
            match self.write(&lease).await {
                Ok(()) => return Ok(true),
                Err(ApiError::Conflict | ApiError::NotFound) => {
                    // Somebody changed the lease: perhaps only its annotations, as the operator itself does once.
                    let found = in_time(self.api.get_opt(&self.candidate.lease)).await?;
                    self.note(found);
                    if self.holder() != self.candidate.identity {
                        return Ok(false);
                    }
                }
                Err(problem) => return Err(problem),
            }
        }
        Err(ApiError::Conflict)
    }

    /// Creates the lease if it has no version, otherwise replaces exactly that version.
    async fn write(&mut self, lease: &Lease) -> Result<(), ApiError> {
        let params = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
        let written = match lease.resource_version() {
            None => in_time(self.api.create(&params, lease)).await?,
            Some(_) => in_time(self.api.replace(&lease.name_any(), &params, lease)).await?,
        };
        self.note(Some(written));
        Ok(())
    }

    fn note(&mut self, found: Option<Lease>) {
        let version = |lease: &Lease| lease.metadata.resource_version.clone();
        let same = match (&self.seen, &found) {
            (Some((seen, _)), Some(found)) => version(seen) == version(found),
            _ => false,
        };
        if !same {
            let now = self.clock.boottime();
            self.seen = found.map(|lease| (lease, now));
        }
    }

    fn holder(&self) -> &str {
        let spec = self.seen.as_ref().and_then(|(lease, _)| lease.spec.as_ref());
        spec.and_then(|spec| spec.holder_identity.as_deref()).unwrap_or("nobody")
    }
}

/// Pure: `seen` is the lease and since when it has not changed, on the clock of `now`.
fn decide(identity: &str, seen: Option<(Option<&LeaseSpec>, Duration)>, now: Duration) -> Move {
    let Some((Some(spec), since)) = seen else { return Move::Take };
    let lasts = spec.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok());
    let lasts = lasts.map_or(LEASE_DURATION, Duration::from_secs);
    match spec.holder_identity.as_deref() {
        None | Some("") => Move::Take,
        Some(holder) if holder == identity => Move::Take,
        Some(_) if now.saturating_sub(since) >= lasts => Move::Take,
        Some(_) => Move::Wait,
    }
}

/// Logs a message unless it repeats the last one.
fn log_once(logged: &mut Option<String>, what: String) {
    if logged.as_ref() != Some(&what) {
        tracing::info!("{what}");
        *logged = Some(what);
    }
}

async fn in_time<T>(call: impl Future<Output = kube::Result<T>>) -> Result<T, ApiError> {
    match tokio::time::timeout(CALL_TIMEOUT, call).await {
        Ok(answer) => answer.map_err(|error| ApiError::of(&error)),
        Err(_) => Err(ApiError::Timeout),
    }
}

/// Returns an identity that no other process has, for a process that is not a pod.
#[must_use]
pub fn generated_identity() -> String {
    format!("process-{}-{}", std::process::id(), Timestamp::now().as_nanosecond())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use http::{Method, Request, Response};
    use http_body_util::Full;
    use hyper::body::Bytes;
    use kube::client::Body;
    use rstest::rstest;
    use serde_json::{Value as Json, json};
    use tokio::sync::Notify;
    use tracing_mutex::parkinglot::Mutex;

    use super::*;

    const fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    fn held_by(holder: Option<&str>, seconds: Option<i32>) -> LeaseSpec {
        LeaseSpec {
            holder_identity: holder.map(str::to_owned),
            lease_duration_seconds: seconds,
            // The clock of the holder does not matter.
            renew_time: Some(MicroTime(Timestamp::UNIX_EPOCH)),
            ..LeaseSpec::default()
        }
    }

    #[rstest]
    #[case::given_up(held_by(None, Some(15)), 0, Move::Take)]
    #[case::given_up_by_another_client(held_by(Some(""), Some(1)), 0, Move::Take)]
    #[case::ours_from_before(held_by(Some("me"), Some(15)), 0, Move::Take)]
    #[case::just_seen(held_by(Some("other"), Some(15)), 0, Move::Wait)]
    #[case::not_for_long_enough(held_by(Some("other"), Some(15)), 14, Move::Wait)]
    #[case::for_long_enough(held_by(Some("other"), Some(15)), 15, Move::Take)]
    #[case::a_longer_one(held_by(Some("other"), Some(60)), 59, Move::Wait)]
    #[case::without_a_duration(held_by(Some("other"), None), 14, Move::Wait)]
    #[case::with_a_nonsensical_one(held_by(Some("other"), Some(-1)), 14, Move::Wait)]
    fn a_lease_is_taken_when_it_is_free(
        #[case] spec: LeaseSpec,
        #[case] unchanged: u64,
        #[case] expected: Move,
    ) {
        assert_eq!(decide("me", Some((Some(&spec), secs(100))), secs(100 + unchanged)), expected);
    }

    #[test]
    fn where_there_is_no_lease_there_is_no_leader() {
        assert_eq!(decide("me", None, secs(1)), Move::Take);
        assert_eq!(decide("me", Some((None, secs(1))), secs(1)), Move::Take);
    }

    /// An API server with one lease.
    #[derive(Clone, Default)]
    struct Server {
        lease: Arc<Mutex<Option<Json>>>,
        /// The next write is applied, and never answered.
        keeps_silent: Arc<Mutex<bool>>,
        has_kept_silent: Arc<Notify>,
    }

    impl Server {
        fn election(&self) -> Election {
            let server = self.clone();
            let service = tower::service_fn(move |request| server.clone().serve(request));
            let candidate = Candidate {
                namespace: "operator".to_owned(),
                lease: "parameter-mirror".to_owned(),
                identity: "me".to_owned(),
            };
            let clock = Clock::with_wall(|| Timestamp::UNIX_EPOCH);
            Election::new(Client::new(service, "operator"), candidate, clock)
        }

        async fn serve(self, request: Request<Body>) -> Result<Response<Full<Bytes>>, tower::BoxError> {
            let (head, body) = request.into_parts();
            let body = body.collect_bytes().await?;
            let (code, answer) = self.act(&head.method, &body)?;
            if head.method != Method::GET && std::mem::take(&mut *self.keeps_silent.lock()) {
                self.has_kept_silent.notify_one();
                std::future::pending::<()>().await;
            }
            Ok(Response::builder().status(code).body(Full::new(answer.to_string().into()))?)
        }

        fn act(&self, method: &Method, body: &[u8]) -> serde_json::Result<(u16, Json)> {
            let mut lease = self.lease.lock();
            let version =
                |lease: Option<&Json>| lease.map(|lease| lease["metadata"]["resourceVersion"].clone());
            let refusal = |code: u16, reason: &str| {
                (code, json!({"kind": "Status", "status": "Failure", "code": code, "reason": reason}))
            };
            if *method == Method::GET {
                return Ok(lease.clone().map_or_else(|| refusal(404, "NotFound"), |lease| (200, lease)));
            }
            let mut next: Json = serde_json::from_slice(body)?;
            let before = version(lease.as_ref());
            if before.clone().unwrap_or_default() != next["metadata"]["resourceVersion"] {
                return Ok(refusal(409, "Conflict"));
            }
            let number = before.and_then(|before| before.as_str()?.parse().ok()).unwrap_or(0_u64);
            next["metadata"]["resourceVersion"] = json!((number + 1).to_string());
            *lease = Some(next.clone());
            Ok((200, next))
        }

        fn keep_silent(&self) {
            *self.keeps_silent.lock() = true;
        }

        fn holder(&self) -> Option<String> {
            let lease = self.lease.lock();
            Some(lease.as_ref()?["spec"]["holderIdentity"].as_str()?.to_owned())
        }
    }

    /// The leader stops while a renewal is under way, and nobody waits for the answer.
    #[tokio::test(start_paused = true)]
    async fn a_leader_gives_up_its_lease_whatever_became_of_its_last_renewal() {
        let server = Server::default();
        let mut election = server.election();
        let term = election.acquire().await;
        assert_eq!(server.holder().as_deref(), Some("me"));
        server.keep_silent();
        tokio::select! {
            () = election.renew_until_lost(&term) => panic!("the term is lost"),
            () = server.has_kept_silent.notified() => {}
        }
        election.release().await;
        assert_eq!(server.holder(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_candidate_that_stops_in_the_moment_of_its_election_gives_up_too() {
        let server = Server::default();
        let mut election = server.election();
        server.keep_silent();
        tokio::select! {
            _ = election.acquire() => panic!("it does not know that it has won"),
            () = server.has_kept_silent.notified() => {}
        }
        assert_eq!(server.holder().as_deref(), Some("me"));
        election.release().await;
        assert_eq!(server.holder(), None);
    }

    /// After an annotation by an administrator or the operator itself, the leader renews the lease and keeps the annotation.
    #[tokio::test(start_paused = true)]
    async fn a_lease_that_somebody_annotated_is_renewed_at_once() {
        let server = Server::default();
        let mut election = server.election();
        let term = election.acquire().await;
        let touched = || {
            let mut lease = server.lease.lock();
            let lease = lease.as_mut().unwrap();
            lease["metadata"]["annotations"] = json!({"note": "mine"});
            lease["metadata"]["resourceVersion"] = json!("41");
        };
        touched();
        assert_eq!(election.renew().await, Ok(true));
        let lease = server.lease.lock().clone().unwrap();
        assert_eq!(lease["metadata"]["annotations"]["note"], "mine");
        assert_eq!(lease["metadata"]["resourceVersion"], "42");
        assert!(term.is_valid());
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_gives_up_the_lease_of_somebody_else() {
        let server = Server::default();
        let mut election = server.election();
        let _term = election.acquire().await;
        let taken = json!({
            "metadata": {"name": "parameter-mirror", "resourceVersion": "7"}, "spec": {"holderIdentity": "other"},
        });
        *server.lease.lock() = Some(taken);
        election.release().await;
        assert_eq!(server.holder().as_deref(), Some("other"));
    }
}
