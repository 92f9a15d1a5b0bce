//! One read: every page of every path and every name, or an error.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use hyper::body::Bytes;
use parameter_mirror_format::content::coverage::normalised;
use serde::de::DeserializeOwned;
use serde_json::{Value as Json, json};

use super::answers::{self, Batch, Named, Page};
use super::error::{SsmError, invalid, refused};
use super::http::Budget;
use super::{Parameter, Shared};

/// The most pages of one listing.
const MAX_PAGES: usize = 1_000;
/// The most names or parameters that SSM handles in one call.
const TEN: usize = 10;

const LIST: &str = "GetParametersByPath";
pub(super) const LOOK_UP: &str = "GetParameters";

/// Parameters by name as selected.
pub(super) type Found = BTreeMap<String, Parameter>;

/// A read in progress, limited by its budget.
pub(super) struct Read<'a> {
    ssm: &'a Shared,
    budget: Budget,
}

/// A selected name.
pub(super) struct Wanted<'a> {
    /// The name as the caller wrote it.
    pub(super) requested: &'a str,
    /// The name beginning with `/`, with its selector.
    name: String,
}

impl Wanted<'_> {
    fn bare(&self) -> &str {
        self.name.split_once(':').map_or(self.name.as_str(), |(bare, _)| bare)
    }

    fn selector(&self) -> Option<&str> {
        self.name.split_once(':').map(|(_, selector)| selector)
    }
}

impl<'a> Read<'a> {
    pub(super) fn new(ssm: &'a Shared, within: Duration) -> Self {
        Self { ssm, budget: Budget::new(within) }
    }

    /// Reads everything, or returns an error.
    pub(super) async fn all(mut self, paths: &[String], names: &[String]) -> Result<Found, SsmError> {
        let mut found = Found::new();
        for path in paths {
            let below = self.list(path).await?;
            if below.is_empty() {
                return Err(SsmError::Empty { path: path.clone() });
            }
            found.extend(below);
        }
        let mut absent = BTreeSet::new();
        for batch in batches(names) {
            self.look_up(&batch, &mut found, &mut absent).await?;
        }
        if !absent.is_empty() {
            return Err(SsmError::NotFound { names: absent.into_iter().collect() });
        }
        self.refuse_ciphertext(names, &found).await?;
        Ok(found)
    }

    /// Reads all pages below a path. Only a missing token ends a listing: SSM may return an empty page and
    /// continue
    /// (<https://docs.aws.amazon.com/systems-manager/latest/APIReference/API_GetParametersByPath.html>).
    async fn list(&mut self, path: &str) -> Result<Found, SsmError> {
        let path = trimmed(path);
        let mut found = Found::new();
        let mut tokens = BTreeSet::new();
        let mut input = json!({ "Path": path, "Recursive": true, "WithDecryption": true, "MaxResults": TEN });
        for _ in 0..MAX_PAGES {
            let page: Page = self.ask(LIST, &input).await?;
            let (members, next) = page.next();
            for Named { name, parameter, .. } in answers::complete(LIST, members)? {
                if !is_below(path, &name) {
                    return Err(invalid(LIST, &format!("it answers {name}, which is not below {path}")));
                }
                if found.insert(name.clone(), parameter).is_some() {
                    return Err(invalid(LIST, &format!("it answers {name} twice")));
                }
            }
            let Some(token) = next else { return Ok(found) };
            if !tokens.insert(token.clone()) {
                return Err(invalid(LIST, &format!("the listing of {path} repeats a page token")));
            }
            input["NextToken"] = token.into();
        }
        Err(invalid(LIST, &format!("the listing of {path} has no end after {MAX_PAGES} pages")))
    }

    /// Reads a batch of names; each answer must match exactly one of them.
    async fn look_up(
        &mut self,
        batch: &[Wanted<'_>],
        found: &mut Found,
        absent: &mut BTreeSet<String>,
    ) -> Result<(), SsmError> {
        let requested: Vec<&str> = batch.iter().map(|wanted| wanted.requested).collect();
        let input = json!({ "Names": requested, "WithDecryption": true });
        let Batch { parameters, invalid_parameters } = self.ask(LOOK_UP, &input).await?;
        let mut answered = BTreeSet::new();
        for Named { name, selector, parameter } in answers::complete(LOOK_UP, parameters)? {
            // A batch never contains a name twice.
            let Some(wanted) = batch.iter().find(|wanted| wanted.bare() == name) else {
                return Err(invalid(LOOK_UP, &format!("it answers {name}, which was not asked for")));
            };
            if wanted.selector() != selector.as_deref() {
                let what = format!("it does not say which version of {name} it answers, or another one");
                return Err(invalid(LOOK_UP, &what));
            }
            if !answered.insert(&wanted.name) {
                return Err(invalid(LOOK_UP, &format!("it answers {name} twice")));
            }
            found.insert(wanted.name.clone(), parameter);
        }
        for wanted in batch {
            let is_absent = invalid_parameters.iter().any(|name| name == wanted.requested);
            match (answered.contains(&wanted.name), is_absent) {
                (true, false) => {}
                (false, true) => drop(absent.insert(wanted.name.clone())),
                (true, true) => {
                    let what = format!("it both answers {} and calls it invalid", wanted.name);
                    return Err(invalid(LOOK_UP, &what));
                }
                (false, false) => {
                    return Err(invalid(LOOK_UP, &format!("it says nothing about {}", wanted.name)));
                }
            }
        }
        Ok(())
    }

    /// Calls one operation. Retries once if that may help and half of the time is left.
    pub(super) async fn ask<T: DeserializeOwned>(
        &mut self,
        operation: &str,
        input: &Json,
    ) -> Result<T, SsmError> {
        let target = format!("AmazonSSM.{operation}");
        let body = Bytes::from(input.to_string());
        loop {
            match self.once(operation, &target, body.clone()).await {
                Err(error) if error.is_passing() && self.budget.retry().await => {}
                outcome => return outcome,
            }
        }
    }

    async fn once<T: DeserializeOwned>(
        &mut self,
        operation: &str,
        target: &str,
        body: Bytes,
    ) -> Result<T, SsmError> {
        let answer = self.ssm.exchange(target, body, &mut self.budget).await?;
        if answer.status.is_success() {
            answers::read(operation, &answer.body)
        } else {
            Err(refused(operation, &answer))
        }
    }
}

/// Splits names into batches of ten, without the same parameter twice in one batch: SSM refuses that,
/// whatever the selectors.
pub(super) fn batches(names: &[String]) -> Vec<Vec<Wanted<'_>>> {
    let mut batches: Vec<Vec<Wanted<'_>>> = Vec::new();
    let mut seen = BTreeSet::new();
    for requested in names {
        let wanted = Wanted { requested, name: normalised(requested) };
        if !seen.insert(wanted.name.clone()) {
            continue;
        }
        let fits = |batch: &&mut Vec<Wanted<'_>>| {
            batch.len() < TEN && batch.iter().all(|other| other.bare() != wanted.bare())
        };
        match batches.iter_mut().find(fits) {
            Some(batch) => batch.push(wanted),
            None => batches.push(vec![wanted]),
        }
    }
    batches
}

/// Trims a `/` at the end of a path, except for the root. An empty path is not the root: SSM refuses it.
fn trimmed(path: &str) -> &str {
    let trimmed = path.trim_end_matches('/');
    if trimmed.is_empty() { path.get(..1).unwrap_or_default() } else { trimmed }
}

fn is_below(path: &str, name: &str) -> bool {
    let root = path.trim_end_matches('/');
    name.strip_prefix(root).and_then(|rest| rest.strip_prefix('/')).is_some_and(|below| !below.is_empty())
}

#[cfg(test)]
mod tests;
