//! One read of one mirror: all pages and all values of one moment, or nothing.
//!
//! 1. List the paths and look up the names. What is known is requested without decryption: versions and dates cost no
//!    KMS call. What is not known yet is decrypted at once: one call per ten.
//! 2. Decrypt what changed, ten at a time.
//! 3. Ask for known names that a listing no longer holds: only SSM's own answer removes a parameter.
//! 4. If several calls were needed and something changed, scan once more. Two scans that agree are one moment.

mod ask;
mod bisect;
mod ciphertext_check;

use std::collections::{BTreeMap, BTreeSet};

use parameter_mirror_format::humanize;
use parameter_mirror_format::value::Value;
use tokio::time::Instant;

use crate::mirror::secret_keys;
use crate::mirror::selection::{PathSelection, Selection};
use crate::mirror::snapshot::{
    CachedParameter, Cost, MAX_PARAMETERS, Parameter, ReadError, ReadErrorKind, ReadRequest, Snapshot,
};
use parameter_mirror_clock::Clock;

use parameter_mirror_ssm::{CheckedPage, ListPage, Listed, Listing, LookedUp, NameBatch, batches};

use super::api::ParameterApi;
use super::coalesce::{PageRequest, Peers, PendingRequests};
use super::limiter::{Limiter, Slot};

/// Maximum pages of one read.
const MAX_PAGES: u32 = 1_000;
/// Bytes of values from which on a set is large. A tenant may have thousands of mirrors, whose reads run concurrently:
/// each may hold this much, and only a few may hold more.
pub(super) const LARGE: usize = 65_536;
/// How often a set that changes is read before the read fails.
const ROUNDS: usize = 3;

/// Reads what `request` selects. Each operation waits for the limiter, and is coalesced with equal requests that wait.
pub async fn read(
    api: &dyn ParameterApi,
    (limiter, waiting): (&Limiter, &PendingRequests),
    request: &ReadRequest,
    clock: &Clock,
) -> Result<Snapshot, ReadError> {
    let mut read = Read {
        api,
        limiter,
        waiting,
        peers: if request.coalesce { Peers::Called } else { Peers::None },
        request,
        clock,
        cost: Cost::default(),
        started_at: None,
        began: Instant::now(),
        account: None,
        known: request.known.clone(),
        fetched: 0,
        large: None,
    };
    for _ in 0..ROUNDS {
        let scan = read.scan(Decrypt::Unknown).await?;
        let Some(parameters) = read.values(&scan).await? else { continue };
        read.check_ciphertext(&parameters).await?;
        let Some(absent) = read.confirm_absence(&scan).await? else { continue };
        let reading = read.reading(parameters, absent);
        if read.cost.calls == 1 || !differs(&reading, request) {
            return Ok(reading);
        }
        let second = read.scan(Decrypt::Nothing).await?;
        if second.tuples() == scan.tuples() && second.absent == scan.absent {
            return Ok(Snapshot { cost: read.cost, ..reading });
        }
        read.learn(&reading);
    }
    Err(failure(
        ReadErrorKind::SourceChanging,
        format!("the parameters changed during each of {ROUNDS} reads"),
    ))
}

/// Whether a read returned anything that is not published yet.
fn differs(reading: &Snapshot, request: &ReadRequest) -> bool {
    let same = |(name, parameter): (&String, &Parameter)| {
        request.known.get(name).is_some_and(|known| known.comparable && known.parameter == *parameter)
    };
    reading.parameters.len() != request.known.len() || !reading.parameters.iter().all(same)
}

/// What a scan decrypts.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Decrypt {
    /// Selections of which nothing comparable is known.
    Unknown,
    /// Nothing.
    Nothing,
}

/// What one scan of SSM found, by name as selected.
#[derive(Default)]
struct Scan {
    found: BTreeMap<String, Listed>,
    absent: BTreeSet<String>,
}

impl Scan {
    fn tuples(&self) -> BTreeMap<&str, (parameter_mirror_format::content::entry::ParameterType, i64, i64)> {
        self.found.iter().map(|(name, one)| (name.as_str(), (one.kind, one.version, one.date))).collect()
    }
}

struct Read<'a> {
    api: &'a dyn ParameterApi,
    limiter: &'a Limiter,
    waiting: &'a PendingRequests,
    peers: Peers,
    request: &'a ReadRequest,
    clock: &'a Clock,
    cost: Cost,
    started_at: Option<i64>,
    began: Instant,
    account: Option<String>,
    known: BTreeMap<String, CachedParameter>,
    /// Bytes of fetched values.
    fetched: usize,
    /// Held once the values are large.
    large: Option<Slot>,
}

impl Read<'_> {
    /// Lists every path to its end, and looks up every name.
    async fn scan(&mut self, decrypt: Decrypt) -> Result<Scan, ReadError> {
        let mut scan = Scan::default();
        let selections = &self.request.selections;
        for selection in selections {
            if let Selection::Path(path) = selection {
                // A listing decrypts what is excluded too: it costs KMS calls, and a key that is disabled would fail the read.
                let is_whole = path.exclude.is_empty();
                let decrypt = decrypt == Decrypt::Unknown && is_whole && !self.knows_some_of(path);
                let listed = self.list(path, decrypt, &mut scan).await;
                listed.map_err(|failure| self.name_selection(failure, &path.path))?;
            }
        }
        let names = selections.iter().filter_map(|selection| match selection {
            Selection::Name(name) => Some(name.requested.as_str()),
            Selection::Path(_) => None,
        });
        for batch in batches(names) {
            let unknown = batch.names().all(|name| !self.is_comparable(name));
            let looked_up = self.look_up(&batch, decrypt == Decrypt::Unknown && unknown, &mut scan).await;
            looked_up.map_err(|failure| self.name_selection(failure, &humanize::few(&batch.requested())))?;
        }
        Ok(scan)
    }

    /// Names the selection that a failure is about, if there are several and no single parameter is named yet. An outage is about all
    /// of them.
    fn name_selection(&self, failure: ReadError, selection: &str) -> ReadError {
        let is_of_one = matches!(
            failure.reason,
            ReadErrorKind::AccessDenied | ReadErrorKind::KmsUnavailable | ReadErrorKind::InvalidResponse
        );
        if !is_of_one || failure.culprit.is_some() || self.request.selections.len() < 2 {
            return failure;
        }
        ReadError {
            detail: format!("{}. It is about the selection of {selection}", failure.detail),
            ..failure
        }
    }

    /// Lists all pages of a path. Only a missing token ends a listing.
    async fn list(
        &mut self,
        selection: &PathSelection,
        decrypt: bool,
        scan: &mut Scan,
    ) -> Result<(), ReadError> {
        let mut listing = Listing::of(&selection.path);
        let mut token: Option<String> = None;
        loop {
            let page = ListPage {
                path: &selection.path,
                recursive: selection.recursive,
                decrypt,
                token: token.as_deref(),
            };
            let answered = match self.ask(PageRequest::from(&page)).await {
                Ok(answered) => answered,
                Err(failure) => return Err(self.bisect_page(page, failure).await),
            };
            let CheckedPage { parameters, next } = listing.check(answered)?;
            for (name, one) in parameters {
                if selection.relative(&name).is_some() {
                    self.take(name, one, scan)?;
                }
            }
            match next {
                None => return Ok(()),
                Some(_) if self.cost.calls >= MAX_PAGES => {
                    return Err(failure(
                        ReadErrorKind::TooManyParameters,
                        format!("the listing of {} has no end after {MAX_PAGES} pages", selection.path),
                    ));
                }
                next => token = next,
            }
        }
    }

    /// Looks up a batch of names; each answer belongs to exactly one of them.
    async fn look_up(&mut self, batch: &NameBatch, decrypt: bool, scan: &mut Scan) -> Result<(), ReadError> {
        let LookedUp { found, absent } = batch.assign(self.get(&batch.requested(), decrypt).await?)?;
        // A name without selector replaces the same entry of a path (docs/design/formats.md, "Encodings").
        for (name, one) in found {
            scan.found.remove(&name);
            self.take(name, one, scan)?;
        }
        for name in absent {
            scan.found.remove(&name);
            scan.absent.insert(name);
        }
        Ok(())
    }

    /// Accepts one parameter into a scan. Two selections may show the same one; either the answers agree, or the scan
    /// fails its confirmation.
    fn take(&mut self, name: String, one: Listed, scan: &mut Scan) -> Result<(), ReadError> {
        self.learn_account(&one);
        self.refuse_older(&name, &one)?;
        self.fetched += one.value.as_ref().map_or(0, Value::len);
        let known_value = scan.found.get(&name).is_some_and(|before| before.value.is_some());
        if !(known_value && one.value.is_none()) {
            scan.found.insert(name, one);
        }
        if scan.found.len() > MAX_PARAMETERS {
            return Err(failure(
                ReadErrorKind::TooManyParameters,
                format!(
                    "more than {MAX_PARAMETERS} parameters are selected; split them over several mirrors"
                ),
            ));
        }
        Ok(())
    }

    /// Learns the account from the first ARN. Versions and values of another account are not comparable.
    fn learn_account(&mut self, one: &Listed) {
        if self.account.is_some() || one.account.is_none() {
            return;
        }
        self.account.clone_from(&one.account);
        if self.request.known_account.is_some() && self.request.known_account != self.account {
            self.known.values_mut().for_each(|known| known.comparable = false);
        }
    }

    /// Refuses an answer that is older than what is known. A lower version with a later date is a parameter that was
    /// deleted and created again; a selector may point back: that is the rollback.
    fn refuse_older(&self, name: &str, one: &Listed) -> Result<(), ReadError> {
        let Some(known) = self.known.get(name).filter(|known| known.comparable) else { return Ok(()) };
        let known = &known.parameter;
        if one.selector.is_none() && one.version < known.version && one.date <= known.date {
            return Err(failure(
                ReadErrorKind::SourceChanging,
                format!(
                    "SSM answers version {} of {name}, older than the known {}",
                    one.version, known.version
                ),
            ));
        }
        Ok(())
    }

    /// Returns the value of everything found: fetched already, known and unchanged, or decrypted now. `None` if
    /// something changed between the scan and the decryption.
    async fn values(&mut self, scan: &Scan) -> Result<Option<BTreeMap<String, Parameter>>, ReadError> {
        let mut parameters = BTreeMap::new();
        let mut changed: Vec<String> = Vec::new();
        for (name, one) in &scan.found {
            let known =
                self.known.get(name).filter(|known| known.comparable && is_unchanged(&known.parameter, one));
            let value = one.value.clone().or_else(|| known.map(|known| known.parameter.value.clone()));
            match value {
                Some(value) => drop(parameters.insert(
                    name.clone(),
                    Parameter { kind: one.kind, version: one.version, date: one.date, value },
                )),
                None => changed.push(self.requested(name, &one.name)),
            }
        }
        for batch in batches(changed.iter().map(String::as_str)) {
            let mut decrypted = Scan::default();
            self.look_up(&batch, true, &mut decrypted).await?;
            for name in batch.names() {
                let (Some(listed), Some(one)) = (scan.found.get(name), decrypted.found.remove(name)) else {
                    return Ok(None);
                };
                let (true, Some(value)) =
                    ((listed.kind, listed.version) == (one.kind, one.version), one.value)
                else {
                    return Ok(None);
                };
                let parameter =
                    Parameter { kind: listed.kind, version: listed.version, date: listed.date, value };
                // What was decrypted once is not decrypted again in a second round.
                self.known.insert(
                    name.to_owned(),
                    CachedParameter { parameter: parameter.clone(), comparable: true },
                );
                parameters.insert(name.to_owned(), parameter);
            }
        }
        Ok(Some(parameters))
    }

    /// Asks SSM whether known names below the paths are gone if no listing holds them. `None` if one of them still
    /// exists, so that the listing was of another moment.
    async fn confirm_absence(&mut self, scan: &Scan) -> Result<Option<BTreeSet<String>>, ReadError> {
        let missing = self
            .known
            .keys()
            .filter(|name| !scan.found.contains_key(*name) && !scan.absent.contains(*name))
            .filter(|name| {
                matches!(secret_keys::most_specific(name, &self.request.selections), Some(Selection::Path(_)))
            });
        let mut absent = scan.absent.clone();
        for batch in batches(missing.map(String::as_str)) {
            let mut asked = Scan::default();
            self.look_up(&batch, false, &mut asked).await?;
            if !asked.found.is_empty() {
                return Ok(None);
            }
            absent.append(&mut asked.absent);
        }
        Ok(Some(absent))
    }

    fn reading(&self, parameters: BTreeMap<String, Parameter>, absent: BTreeSet<String>) -> Snapshot {
        Snapshot {
            started_at: self.started_at.unwrap_or_default(),
            account: self.account.clone(),
            parameters,
            absent,
            cost: self.cost,
        }
    }

    /// Makes what one round read known in the next.
    fn learn(&mut self, reading: &Snapshot) {
        for (name, parameter) in &reading.parameters {
            self.known
                .insert(name.clone(), CachedParameter { parameter: parameter.clone(), comparable: true });
        }
    }

    fn knows_some_of(&self, path: &PathSelection) -> bool {
        self.known.iter().any(|(name, known)| known.comparable && path.relative(name).is_some())
    }

    fn is_comparable(&self, name: &str) -> bool {
        self.known.get(name).is_some_and(|known| known.comparable)
    }

    /// Returns the name to request a parameter by: as the user wrote it, or as the listing named it.
    fn requested(&self, name: &str, listed: &str) -> String {
        let by_name = self.request.selections.iter().find_map(|selection| match selection {
            Selection::Name(selection) if selection.name() == name => Some(selection.requested.clone()),
            _ => None,
        });
        by_name.unwrap_or_else(|| listed.to_owned())
    }
}

fn is_unchanged(known: &Parameter, one: &Listed) -> bool {
    (known.kind, known.version, known.date) == (one.kind, one.version, one.date)
}

fn failure(reason: ReadErrorKind, detail: String) -> ReadError {
    ReadError::new(reason, detail)
}

#[cfg(test)]
pub(in crate::ssm) mod tests;

#[cfg(test)]
mod answer_tests;
