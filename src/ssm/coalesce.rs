//! Coalesces requests that wait for the limiter at the same moment: equal requests are sent once, and the names of
//! several mirrors share a batch.
//!
//! The requests of a flight share the answer of the one that is granted first, so none waits longer than alone. All of
//! them began to wait before that request was sent, so the answer is as fresh for each of them as one of its own.

use std::sync::{Arc, Weak};
use std::time::Duration;

use async_trait::async_trait;
use parameter_mirror_format::content::entry::ParameterType;
use tokio::sync::oneshot;
use tracing_mutex::parkinglot::Mutex;

use crate::mirror::selection::normalised;
use crate::mirror::snapshot::ReadError;

use parameter_mirror_ssm::{Batch, ListPage, Listed, PAGE, Page};

use super::api::ParameterApi;

/// A request that several reads can share.
#[async_trait]
pub trait SharedRequest: Clone + PartialEq + Send + Sync + Sized {
    /// What SSM answers.
    type Answer: Clone + Send;

    /// Returns the flights of this kind of request.
    fn waiting(of: &PendingRequests) -> &Flights<Self>;

    /// Extends this request to ask for `other` too; `false` if one request cannot.
    fn take_in(&mut self, other: &Self) -> bool;

    /// Returns the part of the answer to `whole` that answers this request.
    fn own_part(&self, whole: &Self, answer: &Self::Answer) -> Self::Answer;

    /// Returns how many `SecureString` values of the answer AWS has decrypted.
    fn decrypts(&self, answer: &Self::Answer) -> u32;

    /// Sends the request.
    async fn send(&self, api: &dyn ParameterApi) -> Result<Self::Answer, ReadError>;
}

/// The requests that wait at one client.
#[derive(Default)]
pub struct PendingRequests {
    pages: Flights<PageRequest>,
    names: Flights<NamesRequest>,
}

/// The flights of one kind of request.
pub struct Flights<Q: SharedRequest>(Mutex<Vec<Weak<Flight<Q>>>>);

impl<Q: SharedRequest> Default for Flights<Q> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

/// Requests that one request answers. A flight is open until one of its members is granted and sends for all.
struct Flight<Q: SharedRequest>(Mutex<Option<Open<Q>>>);

struct Open<Q: SharedRequest> {
    whole: Q,
    members: Vec<Member<Q>>,
}

impl<Q: SharedRequest> Open<Q> {
    fn admit(&mut self, member: Member<Q>) -> Option<Member<Q>> {
        if !self.whole.take_in(&member.asked) {
            return Some(member);
        }
        self.members.push(member);
        None
    }
}

struct Member<Q: SharedRequest> {
    asked: Q,
    respond: oneshot::Sender<Response<Q::Answer>>,
}

/// What the leader of a flight sends to each member.
pub struct Response<A> {
    /// When the request was sent, Unix ms.
    pub sent_at: i64,
    /// The answer; `None` if the request failed, perhaps because of the names of others: the member sends its own.
    pub outcome: Option<Result<A, ReadError>>,
}

/// A place in a flight.
pub struct Ticket<Q: SharedRequest> {
    group: Arc<Flight<Q>>,
    asked: Q,
    /// The response, if another member leads. An error means that the leader was stopped before the answer came.
    pub response: oneshot::Receiver<Response<Q::Answer>>,
}

/// The member that has to send for its flight.
pub struct FlightLeader<Q: SharedRequest> {
    asked: Q,
    open: Open<Q>,
}

impl<Q: SharedRequest> Flights<Q> {
    /// Joins a flight that waits, or starts a new one.
    pub fn join(&self, asked: Q) -> Ticket<Q> {
        let (respond, response) = oneshot::channel();
        let mut member = Member { asked: asked.clone(), respond };
        // Held while each flight is checked, so that two equal requests do not both start one. The two locks are always
        // taken in this order (docs/design/locks.md).
        let mut groups = self.0.lock();
        groups.retain(|group| group.upgrade().is_some_and(|group| group.is_open()));
        for group in groups.iter().filter_map(Weak::upgrade) {
            match group.admit(member) {
                None => return Ticket { group, asked, response },
                Some(refused) => member = refused,
            }
        }
        let group = Arc::new(Flight::of(member));
        groups.push(Arc::downgrade(&group));
        drop(groups);
        Ticket { group, asked, response }
    }
}

impl<Q: SharedRequest> Flight<Q> {
    fn of(member: Member<Q>) -> Self {
        Self(Mutex::new(Some(Open { whole: member.asked.clone(), members: vec![member] })))
    }

    /// Admits a member, or gives it back.
    fn admit(&self, member: Member<Q>) -> Option<Member<Q>> {
        let mut open = self.0.lock();
        match open.as_mut() {
            Some(open) => open.admit(member),
            None => Some(member),
        }
    }

    fn is_open(&self) -> bool {
        self.0.lock().is_some()
    }

    fn close(&self) -> Option<Open<Q>> {
        self.0.lock().take()
    }
}

impl<Q: SharedRequest> Ticket<Q> {
    /// Closes the flight, to send for it. `None` if another member has closed it and sends.
    pub fn send_for_all(&self) -> Option<FlightLeader<Q>> {
        self.group.close().map(|open| FlightLeader { asked: self.asked.clone(), open })
    }
}

impl<Q: SharedRequest> FlightLeader<Q> {
    /// Returns the request to send.
    pub const fn whole(&self) -> &Q {
        &self.open.whole
    }

    /// Responds to the members. Returns the leader's own part, and whether any other member received a response.
    pub fn respond(
        self,
        sent_at: i64,
        outcome: &Result<Q::Answer, ReadError>,
    ) -> (Option<Result<Q::Answer, ReadError>>, bool) {
        let Open { whole, members } = self.open;
        let response = |asked: &Q| match outcome {
            Ok(answer) => Some(Ok(asked.own_part(&whole, answer))),
            Err(failure) if *asked == whole || !may_be_about_names(failure) => Some(Err(failure.clone())),
            Err(_) => None,
        };
        let others = members.into_iter().filter(|member| {
            let Member { respond, .. } = member;
            !respond.is_closed()
        });
        let mut heard = 0;
        for Member { asked, respond } in others {
            let outcome = response(&asked);
            heard += usize::from(respond.send(Response { sent_at, outcome }).is_ok());
        }
        // The leader is a member too, and receives its own response.
        (response(&self.asked), heard > 1)
    }
}

/// Whether one name in a batch can be the reason for the failure of all.
const fn may_be_about_names(failure: &ReadError) -> bool {
    use crate::mirror::snapshot::ReadErrorKind as Reason;
    matches!(failure.reason, Reason::AccessDenied | Reason::KmsUnavailable | Reason::InvalidResponse)
}

/// The request for a page of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageRequest {
    path: String,
    recursive: bool,
    decrypt: bool,
    token: Option<String>,
}

impl From<&ListPage<'_>> for PageRequest {
    fn from(page: &ListPage<'_>) -> Self {
        Self {
            path: page.path.to_owned(),
            recursive: page.recursive,
            decrypt: page.decrypt,
            token: page.token.map(str::to_owned),
        }
    }
}

#[async_trait]
impl SharedRequest for PageRequest {
    type Answer = Page;

    fn waiting(of: &PendingRequests) -> &Flights<Self> {
        &of.pages
    }

    fn take_in(&mut self, other: &Self) -> bool {
        self == other
    }

    fn own_part(&self, _: &Self, answer: &Page) -> Page {
        answer.clone()
    }

    fn decrypts(&self, answer: &Page) -> u32 {
        if self.decrypt { secrets(&answer.parameters) } else { 0 }
    }

    async fn send(&self, api: &dyn ParameterApi) -> Result<Page, ReadError> {
        let Self { path, recursive, decrypt, token } = self;
        let page = ListPage { path, recursive: *recursive, decrypt: *decrypt, token: token.as_deref() };
        api.list(page).await
    }
}

/// The request for a batch of names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamesRequest {
    /// Names as the users wrote them, with selectors; at most [`PAGE`].
    pub names: Vec<String>,
    /// Whether values are decrypted.
    pub decrypt: bool,
}

#[async_trait]
impl SharedRequest for NamesRequest {
    type Answer = Batch;

    fn waiting(of: &PendingRequests) -> &Flights<Self> {
        &of.names
    }

    /// SSM refuses a batch that has the same parameter twice, whatever the selectors.
    fn take_in(&mut self, other: &Self) -> bool {
        let new: Vec<&String> = other.names.iter().filter(|name| !self.names.contains(name)).collect();
        let clashes = |name: &&String| self.names.iter().any(|own| bare(own) == bare(name));
        let fits =
            self.decrypt == other.decrypt && self.names.len() + new.len() <= PAGE && !new.iter().any(clashes);
        if fits {
            let new: Vec<String> = new.into_iter().cloned().collect();
            self.names.extend(new);
        }
        fits
    }

    /// Drops what only others requested. What nobody requested stays, and is an issue for every member.
    fn own_part(&self, whole: &Self, answer: &Batch) -> Batch {
        let of_others: Vec<String> = whole
            .names
            .iter()
            .filter(|name| !self.names.contains(name))
            .map(|name| normalised(name))
            .collect();
        let is_own = |name: String| !of_others.contains(&name);
        Batch {
            parameters: answer.parameters.iter().filter(|one| is_own(selected(one))).cloned().collect(),
            invalid: answer.invalid.iter().filter(|name| is_own(normalised(name))).cloned().collect(),
        }
    }

    fn decrypts(&self, answer: &Batch) -> u32 {
        if self.decrypt { secrets(&answer.parameters) } else { 0 }
    }

    async fn send(&self, api: &dyn ParameterApi) -> Result<Batch, ReadError> {
        api.get(&self.names, self.decrypt).await
    }
}

fn secrets(parameters: &[Listed]) -> u32 {
    let secrets = parameters.iter().filter(|one| one.kind == ParameterType::SecureString).count();
    u32::try_from(secrets).unwrap_or(u32::MAX)
}

fn bare(requested: &str) -> String {
    let name = normalised(requested);
    name.split_once(':').map_or_else(|| name.clone(), |(bare, _)| bare.to_owned())
}

/// Returns the name as selected of a parameter in an answer.
fn selected(one: &Listed) -> String {
    let selector = one.selector.as_deref().map(|selector| selector.trim_start_matches(':'));
    let name = normalised(&one.name);
    selector.map_or_else(|| name.clone(), |selector| format!("{name}:{selector}"))
}

/// How long a request waits for peers that are about to request the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peers {
    /// There are none.
    None,
    /// Other mirrors were triggered: they observe their targets first.
    Called,
    /// The previous request was shared: the peers are as far as this read.
    Present,
}

impl Peers {
    /// Returns the time to wait.
    #[must_use]
    pub const fn pause(self) -> Duration {
        match self {
            Self::None => Duration::ZERO,
            Self::Called => Duration::from_millis(200),
            Self::Present => Duration::from_millis(10),
        }
    }
}

#[cfg(test)]
mod tests;
