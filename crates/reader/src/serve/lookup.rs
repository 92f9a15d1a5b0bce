//! Looks up the parameter that answers a request, or why there is no answer. Pure.
//!
//! A name that no mirror covers is never *not found*, because programs take that as "use the default".

use std::collections::BTreeMap;

use parameter_mirror_format::content::coverage::{PathSelection, is_of_aws, normalised};
use parameter_mirror_format::content::entry::{Entry, ParameterType};
use parameter_mirror_format::content::source::StoredSource;

use crate::mirrors::Mirror;

use crate::serve::ssm_api::Reply;

/// A parameter that a mirror holds.
#[derive(Debug, Clone, Copy)]
pub struct Hit<'m> {
    /// The parameter.
    pub entry: &'m Entry,
    /// The source it was read from.
    pub source: &'m StoredSource,
}

/// Why no mirror can answer. SSM could.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotOurs {
    /// No mirror would contain it, even if SSM had it.
    #[error("no mirror here covers {0}")]
    NotCovered(String),
    /// A version or label that is not mirrored with that selector.
    #[error("{0} is not mirrored with this version or label: select it by that name in the mirror")]
    Selector(String),
    /// The request is for ciphertext, and mirrors hold decrypted values.
    #[error("{0} is a SecureString, and only its decrypted value is mirrored: ask WithDecryption")]
    Sealed(String),
    /// A part of SSM that the reader does not offer.
    #[error("{0} is not offered here")]
    Operation(String),
}

impl NotOurs {
    /// Returns the answer when SSM may not be asked: *unavailable* for a name that no mirror covers, because
    /// a mirror may cover it later, and a refusal for everything else.
    #[must_use]
    pub fn reply(&self) -> Reply {
        match self {
            Self::NotCovered(_) => Reply::unavailable(&self.to_string()),
            Self::Selector(_) | Self::Sealed(_) => Reply::invalid(&self.to_string()),
            Self::Operation(_) => Reply::error("AccessDeniedException", &self.to_string()),
        }
    }
}

/// A requested parameter: a name or an ARN, with its selector if there is one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Requested {
    /// The name without selector, as the caller wrote it.
    pub name: String,
    /// The version or label, without the colon.
    pub selector: Option<String>,
    /// Region and account, if the request was an ARN.
    place: Option<(String, String)>,
}

impl Requested {
    /// Parses a name or an ARN.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let (place, name) = match text.strip_prefix("arn:").map(|arn| arn.splitn(5, ':').collect::<Vec<_>>())
        {
            Some(parts) if parts.len() == 5 && parts[1] == "ssm" && parts[4].starts_with("parameter/") => {
                (Some((parts[2].to_owned(), parts[3].to_owned())), &parts[4]["parameter".len()..])
            }
            _ => (None, text),
        };
        match name.split_once(':') {
            Some((name, selector)) => {
                Self { name: name.to_owned(), selector: Some(selector.to_owned()), place }
            }
            None => Self { name: name.to_owned(), selector: None, place },
        }
    }

    fn is_in(&self, source: &StoredSource) -> bool {
        // Public parameters belong to no account, and their ARNs name none.
        let is_public = is_of_aws(&self.name);
        self.place.as_ref().is_none_or(|(region, account)| {
            *region == source.region && (*account == source.account || (is_public && account.is_empty()))
        })
    }
}

/// Finds the parameter with this name; `None` if a mirror covers the name and SSM has no such parameter.
pub fn find<'m>(
    mirrors: &'m [Mirror],
    asked: &Requested,
    decrypts: bool,
) -> Result<Option<Hit<'m>>, NotOurs> {
    let bare = normalised(&asked.name);
    let shown = asked.selector.as_ref().map_or_else(|| bare.clone(), |selector| format!("{bare}:{selector}"));
    let here = || mirrors.iter().map(|mirror| &mirror.copy).filter(|copy| asked.is_in(&copy.source));
    let exact = here().find_map(|copy| Some(Hit { entry: copy.entries.get(&shown)?, source: &copy.source }));
    let hit = exact.or_else(|| {
        // The requested version may be the one that is mirrored.
        let version: i64 = asked.selector.as_ref()?.parse().ok()?;
        here()
            .filter_map(|copy| Some(Hit { entry: copy.entries.get(&bare)?, source: &copy.source }))
            .find(|hit| hit.entry.version == version)
    });
    match hit {
        Some(hit) if hit.entry.kind == ParameterType::SecureString && !decrypts => {
            Err(NotOurs::Sealed(shown))
        }
        Some(hit) => Ok(Some(hit)),
        None if here().any(|copy| copy.source.shows(&shown)) => Ok(None),
        None if asked.selector.is_some() => Err(NotOurs::Selector(shown)),
        None => Err(NotOurs::NotCovered(shown)),
    }
}

/// Returns all parameters below a path, sorted by name.
pub fn below<'m>(
    mirrors: &'m [Mirror],
    path: &str,
    recursive: bool,
    decrypts: bool,
) -> Result<BTreeMap<&'m str, Hit<'m>>, NotOurs> {
    let wanted = match path.trim_end_matches('/') {
        "" => "/".to_owned(),
        path => path.to_owned(),
    };
    let wanted = PathSelection { path: wanted, recursive, exclude: [].into() };
    let mut copies = mirrors.iter().map(|mirror| &mirror.copy);
    let copy = copies
        .find(|copy| copy.source.listings().any(|listing| listing.shows_all_of(&wanted)))
        .ok_or_else(|| NotOurs::NotCovered(format!("everything below {path}")))?;
    let hits = copy.entries.iter().filter(|(name, _)| wanted.relative(name).is_some());
    let hits: BTreeMap<_, _> =
        hits.map(|(name, entry)| (name.as_str(), Hit { entry, source: &copy.source })).collect();
    match hits.iter().find(|(_, hit)| hit.entry.kind == ParameterType::SecureString) {
        Some((name, _)) if !decrypts => Err(NotOurs::Sealed((*name).to_owned())),
        _ => Ok(hits),
    }
}

#[cfg(test)]
mod tests;
