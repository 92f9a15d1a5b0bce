//! One read: every page of every path and every name, or an error.

use std::collections::{BTreeMap, BTreeSet};

use parameter_mirror_format::content::coverage::normalised;
use parameter_mirror_format::content::entry::looks_sealed;
use parameter_mirror_ssm::{
    CheckedPage, ListPage, Listed, Listing, SsmClient, SsmError, SsmErrorKind, batches, refuse_ciphertext,
};

use super::{Parameter, SsmReadError};

/// The most pages of one listing.
const MAX_PAGES: usize = 1_000;

/// Parameters by name as selected.
type Found = BTreeMap<String, Parameter>;

/// Reads everything, or returns an error.
pub(super) async fn read(
    client: &SsmClient,
    paths: &[String],
    names: &[String],
) -> Result<Found, SsmReadError> {
    let mut found = Found::new();
    for path in paths {
        let below = list(client, path).await?;
        if below.is_empty() {
            return Err(SsmReadError::Empty { path: path.clone() });
        }
        found.extend(below);
    }
    let mut missing = BTreeSet::new();
    for batch in batches(names.iter().map(String::as_str)) {
        let looked_up = batch.assign(client.get(&batch.requested(), true).await?)?;
        keep(looked_up.found, &mut found)?;
        missing.extend(looked_up.absent);
    }
    if !missing.is_empty() {
        return Err(SsmReadError::NotFound { names: missing.into_iter().collect() });
    }
    check_ciphertext(client, names, &found).await?;
    Ok(found)
}

/// Reads all pages below a path. Only a missing token ends a listing: SSM may return an empty page and continue
/// (<https://docs.aws.amazon.com/systems-manager/latest/APIReference/API_GetParametersByPath.html>).
async fn list(client: &SsmClient, path: &str) -> Result<Found, SsmError> {
    let path = trimmed(path);
    let (mut found, mut listing, mut token) = (Found::new(), Listing::of(path), None);
    for _ in 0..MAX_PAGES {
        let page = ListPage { path, recursive: true, decrypt: true, token: token.as_deref() };
        let CheckedPage { parameters, next } = listing.check(client.list(page).await?)?;
        keep(parameters, &mut found)?;
        if next.is_none() {
            return Ok(found);
        }
        token = next;
    }
    Err(unusable(format!("the listing of {path} has no end after {MAX_PAGES} pages")))
}

fn keep(parameters: Vec<(String, Listed)>, found: &mut Found) -> Result<(), SsmError> {
    for (name, Listed { kind, version, date, value, .. }) in parameters {
        let value = value.ok_or_else(|| unusable(format!("it answers {name} without a value")))?;
        found.insert(name, Parameter { kind, version, date, value });
    }
    Ok(())
}

/// Compares values that look like ciphertext with what SSM returns without decryption: a `SecureString` that SSM returns
/// encrypted all the same must never become a program's password. `names` are the selected names.
async fn check_ciphertext(client: &SsmClient, names: &[String], found: &Found) -> Result<(), SsmError> {
    let as_requested = |name: &'_ String| {
        let selected = names.iter().find(|requested| normalised(requested) == *name);
        selected.unwrap_or(name).clone()
    };
    let suspects = found.iter().filter(|(_, one)| looks_sealed(one.kind, &one.value));
    let suspects: Vec<String> = suspects.map(|(name, _)| as_requested(name)).collect();
    for batch in batches(suspects.iter().map(String::as_str)) {
        let undecrypted = client.get(&batch.requested(), false).await?;
        refuse_ciphertext(&undecrypted, found.values().map(|one| &one.value))?;
    }
    Ok(())
}

fn unusable(detail: String) -> SsmError {
    SsmError { kind: SsmErrorKind::InvalidResponse, detail }
}

/// Trims a `/` at the end of a path, except for the root. An empty path is not the root: SSM refuses it.
fn trimmed(path: &str) -> &str {
    let trimmed = path.trim_end_matches('/');
    if trimmed.is_empty() { path.get(..1).unwrap_or_default() } else { trimmed }
}
