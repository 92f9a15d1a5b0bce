//! Scripted faults: a condition on requests ([`When`]) and the effect ([`Fault`]).
//!
//! All faults whose condition holds apply, in the order they were set, so they compose: a slow answer can
//! also be throttled. If two faults replace the answer, the later one wins.

use std::collections::BTreeSet;
use std::time::Duration;

use super::coded::Coded;
use super::protocol::{Answer, Operation};
use super::store::{Place, Store};

/// The requests that a fault applies to. Starts as [`When::any`] and is narrowed; all parts must hold.
#[derive(Clone, Debug, Default)]
pub struct When {
    operations: BTreeSet<Operation>,
    page: Option<u64>,
    region: Option<String>,
    account: Option<String>,
    path: Option<String>,
    names: BTreeSet<String>,
    decrypting: bool,
    skip: u64,
    times: Option<u64>,
    chance: Option<Chance>,
}

/// A probability with its own reproducible sequence.
#[derive(Clone, Debug)]
struct Chance {
    probability: f64,
    state: u64,
}

impl When {
    /// Matches every request.
    #[must_use]
    pub fn any() -> Self {
        Self::default()
    }

    /// Matches requests for this operation. Called twice, it matches either.
    #[must_use]
    pub fn operation(mut self, operation: Operation) -> Self {
        self.operations.insert(operation);
        self
    }

    /// Matches this page of a listing, counted from 1.
    #[must_use]
    pub fn page(mut self, page: u64) -> Self {
        self.page = Some(page);
        self
    }

    /// Matches requests signed for this Region.
    #[must_use]
    pub fn region(mut self, region: &str) -> Self {
        self.region = Some(region.to_owned());
        self
    }

    /// Matches requests with credentials of this account.
    #[must_use]
    pub fn account(mut self, account: &str) -> Self {
        self.account = Some(account.to_owned());
        self
    }

    /// Matches listings of exactly this path.
    #[must_use]
    pub fn path(mut self, path: &str) -> Self {
        self.path = Some(path.to_owned());
        self
    }

    /// Matches requests for this parameter (or role), or whose answer contains it. Called twice, it matches
    /// either. Faults that change single parameters change only these.
    #[must_use]
    pub fn name(mut self, name: &str) -> Self {
        self.names.insert(name.to_owned());
        self
    }

    /// Matches answers for which a value must be decrypted (one of the names, if there are any). A `String`
    /// never is.
    #[must_use]
    pub fn decrypting(mut self) -> Self {
        self.decrypting = true;
        self
    }

    /// Skips this many matching requests first.
    #[must_use]
    pub fn skip(mut self, requests: u64) -> Self {
        self.skip = requests;
        self
    }

    /// Ends after this many hits.
    #[must_use]
    pub fn times(mut self, hits: u64) -> Self {
        self.times = Some(hits);
        self
    }

    /// Matches only this share of the requests (0 to 1), chosen by a seed.
    #[must_use]
    pub fn share(mut self, probability: f64, seed: u64) -> Self {
        self.chance = Some(Chance { probability, state: seed });
        self
    }

    pub(crate) fn holds(&self, facts: &Facts) -> bool {
        let set_or = |set: &BTreeSet<String>| self.names.is_empty() || !self.names.is_disjoint(set);
        (self.operations.is_empty() || self.operations.contains(&facts.operation))
            && self.page.is_none_or(|page| facts.page == Some(page))
            && self.region.as_ref().is_none_or(|region| *region == facts.place.region)
            && self.account.as_ref().is_none_or(|account| *account == facts.place.account)
            && self.path.as_ref().is_none_or(|path| facts.path.as_ref() == Some(path))
            && set_or(&facts.names)
            && (!self.decrypting || (!facts.decrypted.is_empty() && set_or(&facts.decrypted)))
    }

    /// Whether this fault affects a parameter with that name.
    pub(crate) fn aims_at(&self, name: &str) -> bool {
        self.names.is_empty() || self.names.contains(name)
    }

    pub(crate) fn aims(&self) -> &BTreeSet<String> {
        &self.names
    }
}

impl Chance {
    /// Draws the next number (`SplitMix64`).
    fn hit(&mut self) -> bool {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        let draw = u32::try_from(mixed >> 32).unwrap_or(u32::MAX);
        f64::from(draw) < self.probability * f64::from(u32::MAX)
    }
}

/// The body of an answer of which only the status matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    /// `{"__type":"InternalServerError"}`.
    Json,
    /// The error page of a load balancer.
    Html,
    /// Nothing.
    Empty,
}

/// The effect of a fault.
#[derive(Clone, Debug)]
pub enum Fault {
    /// A status without a meaningful body.
    Status {
        /// HTTP status.
        code: u16,
        /// The body.
        body: Body,
    },
    /// An error of SSM; [`Fault`] has a constructor for each common one.
    Coded(Coded),
    /// The request is accepted and never answered.
    Silent,
    /// The answer is delayed.
    Slow(Duration),
    /// The body arrives at this speed (at least 10 bytes per second).
    SlowBody {
        /// Speed.
        bytes_per_second: u32,
    },
    /// Half of the body arrives, then nothing, on an open connection.
    StallBody,
    /// Half of the body arrives, then the connection ends.
    Truncated,
    /// The connection is reset instead of an answer.
    Reset,
    /// HTTP 200 with HTML.
    GarbageOk,
    /// HTTP 200 with the first half of the right JSON as a complete body; it may contain plain values.
    BrokenJson,
    /// HTTP 200 with `{}`.
    EmptyObject,
    /// HTTP 200 with `"Parameters": null`.
    NullParameters,
    /// Parameters without `Value`.
    MissingValue,
    /// Parameters without `Version`.
    MissingVersion,
    /// Parameters whose `Version` and `LastModifiedDate` are strings.
    WrongTypes,
    /// `SecureString` values stay encrypted although the request asks for decryption.
    CiphertextAsValue,
    /// The first affected parameter occurs twice.
    DuplicateName,
    /// The next page's token is the one just sent. The first page had none, so it has no error.
    RepeatedToken,
    /// An endless listing: each page has a new token, and this many parameters below a path that nobody ever
    /// wrote.
    Endless {
        /// The path.
        below: String,
        /// The number of parameters of a page.
        per_page: u32,
    },
    /// A page without parameters whose token leads to the next page; no parameter is lost.
    EmptyPage,
    /// Parameters are left out silently.
    Drop,
    /// Answers are as of the moment this fault was set.
    Stale,
}

/// Identifies a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FaultId(u64);

/// The properties of a request that conditions check.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    pub(crate) operation: Operation,
    pub(crate) place: Place,
    pub(crate) path: Option<String>,
    pub(crate) page: Option<u64>,
    pub(crate) names: BTreeSet<String>,
    pub(crate) decrypted: BTreeSet<String>,
}

impl Facts {
    /// Adds the properties of an answer.
    pub(crate) fn touch(&mut self, answer: &Answer) {
        self.page = self.page.or(answer.page);
        self.names.extend(answer.names.iter().cloned());
        self.decrypted.extend(answer.decrypted.iter().cloned());
    }
}

/// An active fault.
#[derive(Clone, Debug)]
pub(crate) struct Scripted {
    id: FaultId,
    pub(crate) when: When,
    pub(crate) fault: Fault,
    /// The store at the time a [`Fault::Stale`] was set.
    pub(crate) snapshot: Option<Store>,
    seen: u64,
    hits: u64,
}

impl Scripted {
    /// Whether the fault applies to this request. Counts the hits.
    pub(crate) fn strikes(&mut self, facts: &Facts) -> bool {
        if !self.when.holds(facts) || self.when.times.is_some_and(|times| self.hits >= times) {
            return false;
        }
        self.seen += 1;
        let hit = self.seen > self.when.skip && self.when.chance.as_mut().is_none_or(Chance::hit);
        self.hits += u64::from(hit);
        hit
    }
}

/// The active faults, in order.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    pub(crate) scripted: Vec<Scripted>,
    given: u64,
}

impl Faults {
    pub(crate) fn add(&mut self, when: When, fault: Fault, store: &Store) -> FaultId {
        self.given += 1;
        let id = FaultId(self.given);
        let snapshot = matches!(fault, Fault::Stale).then(|| store.clone());
        self.scripted.push(Scripted { id, when, fault, snapshot, seen: 0, hits: 0 });
        id
    }

    pub(crate) fn clear(&mut self, id: FaultId) {
        self.scripted.retain(|scripted| scripted.id != id);
    }

    pub(crate) fn clear_all(&mut self) {
        self.scripted.clear();
    }

    pub(crate) fn hits(&self, id: FaultId) -> u64 {
        self.scripted.iter().find(|scripted| scripted.id == id).map_or(0, |scripted| scripted.hits)
    }
}
