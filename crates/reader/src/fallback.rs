//! Decides between the mirror and SSM (docs/reference/reader.md, "Reading order").

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use parameter_mirror_format::content::coverage::{PathSelection, normalised};
use parameter_mirror_format::content::entry::{Entry, env_var};
use parameter_mirror_format::humanize::{parameters, span};

use crate::cli::Source;
use crate::failure::Failure;
use crate::mirrors::{Mirror, Mirrors};
use crate::ssm::{Parameter, Ssm, SsmReadError};

/// What to read from SSM, if SSM may be asked.
#[derive(Debug)]
pub struct SsmSelection {
    /// The client.
    pub ssm: Ssm,
    /// The paths, each with everything below it.
    pub paths: Vec<String>,
    /// The names, with their selectors.
    pub names: Vec<String>,
}

/// The reading order, and how old a mirror may be.
#[derive(Debug)]
pub struct Fallback {
    /// The preferred source.
    pub source: Source,
    /// A mirror older than this is the last resort.
    pub max_stale: Option<Duration>,
    /// The longest wait for SSM when it is read first.
    pub ssm_budget: Duration,
    /// What to read from SSM.
    pub ssm: Option<SsmSelection>,
}

/// A complete set of parameters, and its source.
#[derive(Debug)]
pub struct Chosen {
    /// The parameters, each under its name as selected. A parameter in two mirrors is contained twice.
    pub parameters: Vec<(String, Entry)>,
    /// The source and its age, for people.
    pub source: String,
    /// What was wrong with the preferred source, or with its age.
    pub warning: Option<String>,
}

impl Chosen {
    /// Returns one line for people.
    #[must_use]
    pub fn summary(&self) -> String {
        match &self.warning {
            Some(warning) => format!("{}. WARNING: {warning}", self.source),
            None => self.source.clone(),
        }
    }
}

/// Reads a complete set from the preferred source, or from the other one.
pub async fn read(mirrors: &Mirrors, order: &Fallback) -> Result<Chosen, Failure> {
    match (order.source, &order.ssm) {
        (Source::SsmFirst, Some(ssm)) => {
            // Both at once: the mirror provides the names of the variables, and is the fallback when the
            // budget ends.
            let (answer, found) = tokio::join!(ask(ssm, order.ssm_budget), mirrors.read());
            match answer {
                Ok(answer) => Ok(from_ssm(answer, ssm, found.as_deref().unwrap_or_default(), None)),
                Err(error) => match found {
                    Ok(found) => {
                        let old = too_old(&found, order.max_stale).map(|failure| failure.to_string());
                        let warning = [Some(error.to_string()), old].into_iter().flatten();
                        Ok(from_mirrors(found, Some(warning.collect::<Vec<_>>().join(". "))))
                    }
                    Err(failure) => Err(Failure::Both { ssm: error, mirror: Box::new(failure) }),
                },
            }
        }
        (Source::SsmFirst, None) => Err(Failure::Settings(
            "--source ssm-first needs --ssm-path or --ssm-name: what SSM is to be asked for".to_owned(),
        )),
        (Source::Mirror, _) => {
            let found = mirrors.read().await?;
            match too_old(&found, order.max_stale) {
                Some(failure) => Err(failure),
                None => Ok(from_mirrors(found, None)),
            }
        }
        (Source::MirrorFirst, ssm) => mirror_first(mirrors, order, ssm.as_ref()).await,
    }
}

async fn mirror_first(
    mirrors: &Mirrors,
    order: &Fallback,
    ssm: Option<&SsmSelection>,
) -> Result<Chosen, Failure> {
    let found = mirrors.read().await;
    let wrong = match &found {
        Ok(found) => too_old(found, order.max_stale).map(|failure| failure.to_string()),
        Err(failure) => Some(failure.to_string()),
    };
    let (Some(problem), Some(ssm)) = (&wrong, ssm) else {
        return found.map(|found| from_mirrors(found, wrong));
    };
    match (ask(ssm, mirrors.budget).await, found) {
        (Ok(answer), found) => Ok(from_ssm(answer, ssm, found.as_deref().unwrap_or_default(), wrong)),
        (Err(error), Ok(found)) => Ok(from_mirrors(found, Some(format!("{problem}. {error}")))),
        (Err(error), Err(failure)) => Err(Failure::Both { ssm: error, mirror: Box::new(failure) }),
    }
}

async fn ask(asked: &SsmSelection, within: Duration) -> Result<BTreeMap<String, Parameter>, SsmReadError> {
    asked.ssm.read(&asked.paths, &asked.names, within).await
}

fn too_old(mirrors: &[Mirror], max_stale: Option<Duration>) -> Option<Failure> {
    let (most, now) = (max_stale?, Timestamp::now());
    let old = mirrors.iter().find(|mirror| mirror.age(now) > most)?;
    Some(Failure::Stale { mirror: old.name.clone(), age: old.age(now), most })
}

fn from_mirrors(mirrors: Vec<Mirror>, warning: Option<String>) -> Chosen {
    let now = Timestamp::now();
    let source = mirrors.iter().map(|mirror| {
        let outage = if mirror.is_degraded() { "; SSM cannot be read just now" } else { "" };
        let count = parameters(mirror.copy.entries.len());
        format!("{count} from the mirror {}, read {} ago{outage}", mirror.name, span(mirror.age(now)))
    });
    let source = source.collect::<Vec<_>>().join(". ");
    let parameters = mirrors.into_iter().flat_map(|mirror| mirror.copy.entries).collect();
    Chosen { parameters, source, warning }
}

/// Combines SSM's answer with the variable names of the mirrors, where they have them. A program must get the
/// same variables from either source.
fn from_ssm(
    answer: BTreeMap<String, Parameter>,
    asked: &SsmSelection,
    mirrors: &[Mirror],
    warning: Option<String>,
) -> Chosen {
    let source = format!("{} from SSM", parameters(answer.len()));
    let parameters = answer.into_iter().map(|(name, Parameter { kind, version, date, value })| {
        let known = mirrors.iter().find_map(|mirror| mirror.copy.entries.get(&name));
        let (key, is_key_given) = known.map_or_else(
            || (Some(key_of(&name, &asked.paths)), false),
            |entry| (entry.key.clone(), entry.is_key_given),
        );
        (name, Entry { key, is_key_given, kind, version, date, value })
    });
    Chosen { parameters: parameters.collect(), source, warning }
}

/// Returns the key that a mirror assigns by default: derived from the part of the name below the longest
/// requested path, else from its last part.
fn key_of(name: &str, paths: &[String]) -> String {
    let bare = name.split_once(':').map_or(name, |(bare, _)| bare);
    let below = |path: &String| {
        let path = normalised(path.trim_end_matches('/'));
        let path = PathSelection { path, recursive: true, exclude: [].into() };
        path.relative(name).map(str::to_owned)
    };
    let shortest = paths.iter().filter_map(below).min_by_key(String::len);
    env_var(&shortest.unwrap_or_else(|| bare.rsplit('/').next().unwrap_or(bare).to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_is_named_after_what_stands_below_the_path() {
        let paths = ["/prod/".to_owned(), "/prod/checkout".to_owned()];
        assert_eq!(key_of("/prod/checkout/db/host-name", &paths), "DB_HOST_NAME");
        assert_eq!(key_of("/prod/shared/stripe.key", &paths), "SHARED_STRIPE_KEY");
        assert_eq!(key_of("/other/stripe:live", &paths), "STRIPE");
        assert_eq!(key_of("/x", &["/".to_owned()]), "X");
    }
}
