//! Names to look up, ten at a time, and which parameter of an answer belongs to which name.

use std::collections::BTreeSet;

use parameter_mirror_format::content::coverage::normalised;
use parameter_mirror_format::value::Value;

use crate::answer::{Batch, Listed, PAGE};
use crate::error::{SsmError, unusable};

const OPERATION: &str = "GetParameters";

/// A name to look up.
#[derive(Clone, Debug, PartialEq, Eq)]
struct RequestedName {
    /// As its user wrote it.
    requested: String,
    /// The *name as selected*: it begins with `/` and keeps its selector.
    name: String,
}

impl RequestedName {
    fn bare(&self) -> &str {
        self.name.split_once(':').map_or(self.name.as_str(), |(bare, _)| bare)
    }

    fn selector(&self) -> Option<&str> {
        self.name.split_once(':').map(|(_, selector)| selector)
    }
}

/// Names that one request can ask for: at most [`PAGE`], and no parameter twice.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NameBatch(Vec<RequestedName>);

/// The parameters of an answer, by name as selected.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LookedUp {
    /// Those that exist.
    pub found: Vec<(String, Listed)>,
    /// Those that SSM does not have.
    pub absent: Vec<String>,
}

/// Splits names into batches. A batch has no parameter twice, whatever the selectors: SSM refuses that.
#[must_use]
pub fn batches<'n>(names: impl IntoIterator<Item = &'n str>) -> Vec<NameBatch> {
    let mut batches: Vec<NameBatch> = Vec::new();
    let mut seen = BTreeSet::new();
    for requested in names {
        let name = RequestedName { requested: requested.to_owned(), name: normalised(requested) };
        if !seen.insert(name.name.clone()) {
            continue;
        }
        match batches.iter_mut().find(|batch| batch.has_room_for(&name)) {
            Some(batch) => batch.0.push(name),
            None => batches.push(NameBatch(vec![name])),
        }
    }
    batches
}

impl NameBatch {
    fn has_room_for(&self, name: &RequestedName) -> bool {
        self.0.len() < PAGE && self.0.iter().all(|other| other.bare() != name.bare())
    }

    /// Returns the names as their users wrote them, for [`SsmClient::get`](crate::SsmClient::get).
    #[must_use]
    pub fn requested(&self) -> Vec<String> {
        self.0.iter().map(|name| name.requested.clone()).collect()
    }

    /// Returns the names as selected.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|name| name.name.as_str())
    }

    /// Assigns each parameter of an answer to its name. Fails unless the answer says exactly once of each name whether
    /// it exists.
    pub fn assign(&self, answer: Batch) -> Result<LookedUp, SsmError> {
        let mut found: Vec<(String, Listed)> = Vec::with_capacity(answer.parameters.len());
        for one in answer.parameters {
            let bare = normalised(&one.name);
            let Some(asked) = self.0.iter().find(|asked| asked.bare() == bare) else {
                return Err(unusable(OPERATION, &format!("it answers {bare}, which was not asked for")));
            };
            let selector = one.selector.as_deref().map(|selector| selector.trim_start_matches(':'));
            if asked.selector() != selector {
                let what = format!("it does not say which version of {bare} it answers, or another one");
                return Err(unusable(OPERATION, &what));
            }
            if found.iter().any(|(name, _)| *name == asked.name) {
                return Err(unusable(OPERATION, &format!("it answers {} twice", asked.name)));
            }
            found.push((asked.name.clone(), one));
        }
        let mut absent = Vec::new();
        for RequestedName { requested, name } in &self.0 {
            let is_found = found.iter().any(|(found, _)| found == name);
            match (is_found, answer.invalid.contains(requested)) {
                (true, false) => {}
                (false, true) => absent.push(name.clone()),
                (true, true) => {
                    return Err(unusable(OPERATION, &format!("it both answers {name} and calls it invalid")));
                }
                (false, false) => {
                    return Err(unusable(OPERATION, &format!("it says nothing about {name}")));
                }
            }
        }
        Ok(LookedUp { found, absent })
    }
}

/// Refuses a set that holds ciphertext where a value was to be: `undecrypted` is SSM's answer, without decryption, for the
/// parameters whose values look like ciphertext.
pub fn refuse_ciphertext<'v>(
    undecrypted: &Batch,
    mut values: impl Iterator<Item = &'v Value> + Clone,
) -> Result<(), SsmError> {
    let is_held = |one: &&Listed| values.any(|value| Some(value) == one.ciphertext.as_ref());
    match undecrypted.parameters.iter().find(is_held) {
        Some(one) => {
            let what =
                format!("it answers {} encrypted, although it was to decrypt it", normalised(&one.name));
            Err(unusable("WithDecryption", &what))
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::answer::of_name;

    fn one(name: &str, selector: Option<&str>) -> Listed {
        Listed { selector: selector.map(str::to_owned), ..of_name(name) }
    }

    fn answer(found: &[(&str, Option<&str>)], invalid: &[&str]) -> Batch {
        Batch {
            parameters: found.iter().map(|(name, selector)| one(name, *selector)).collect(),
            invalid: invalid.iter().map(|&name| name.to_owned()).collect(),
        }
    }

    #[test]
    fn a_batch_has_ten_names_and_no_parameter_twice() {
        let many: Vec<String> = (0..25).map(|number| format!("/n/{number}")).collect();
        let lengths: Vec<usize> =
            batches(many.iter().map(String::as_str)).iter().map(|b| b.0.len()).collect();
        assert_eq!(lengths, [10, 10, 5]);
        let same = batches(["/x", "x", "/x:1", "x:live", "/y", "/x:1"]);
        let requested: Vec<_> = same.iter().map(NameBatch::requested).collect();
        assert_eq!(requested, [vec!["/x", "/y"], vec!["/x:1"], vec!["x:live"]]);
    }

    #[test]
    fn each_answer_belongs_to_the_name_that_asked_for_it() {
        let [batch] = &batches(["x", "/y:live", "gone"])[..] else { panic!("one batch") };
        let assigned = batch.assign(answer(&[("/y", Some(":live")), ("x", None)], &["gone"])).unwrap();
        let names: Vec<_> = assigned.found.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!((names, assigned.absent), (vec!["/y:live", "/x"], vec!["/gone".to_owned()]));
    }

    #[rstest]
    #[case::not_asked_for(&[("/x", None), ("/z", None)], &[], "answers /z, which was not asked for")]
    #[case::another_version(&[("/x", Some(":2"))], &[], "does not say which version of /x")]
    #[case::twice(&[("/x", None), ("x", None)], &[], "answers /x twice")]
    #[case::both(&[("/x", None)], &["/x"], "both answers /x and calls it invalid")]
    #[case::neither(&[], &["/y"], "says nothing about /x")]
    fn an_answer_that_does_not_fit_is_none(
        #[case] found: &[(&str, Option<&str>)],
        #[case] invalid: &[&str],
        #[case] expected: &str,
    ) {
        let [batch] = &batches(["/x"])[..] else { panic!("one batch") };
        let error = batch.assign(answer(found, invalid)).unwrap_err();
        assert!(error.detail.contains(expected), "{error}");
    }

    #[test]
    fn ciphertext_is_refused_and_not_shown() {
        let sealed = Listed { value: None, ciphertext: Some(Value::from("AQICAHx")), ..one("/s", None) };
        let answer = Batch { parameters: vec![sealed], invalid: vec![] };
        let (own, other) = (Value::from("AQICAHx"), Value::from("AQICAHy"));
        assert!(refuse_ciphertext(&answer, [&other].into_iter()).is_ok());
        let error = refuse_ciphertext(&answer, [&other, &own].into_iter()).unwrap_err();
        assert!(error.detail.contains("/s encrypted") && !error.detail.contains("AQICAH"), "{error}");
    }
}
