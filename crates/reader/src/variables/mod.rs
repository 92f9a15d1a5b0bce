//! Maps parameters to environment variables, and gives them to programs.

pub mod exec;
pub mod export;
pub mod watch;

use std::collections::BTreeMap;

use parameter_mirror_format::content::entry::Entry;
use parameter_mirror_format::content::environment::{self, EnvironmentProblem};
use parameter_mirror_format::humanize::few;
use parameter_mirror_format::value::Value;

/// Values by the name of their variable.
pub type Variables = BTreeMap<String, Value>;

/// Why a set of parameters cannot become an environment. Messages contain names, never values.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyProblem {
    /// The set cannot become an environment at all.
    #[error(transparent)]
    Unfit(#[from] EnvironmentProblem),
    /// Parameters of different mirrors have the same variable.
    #[error("{0} is the variable of both {1} and {2}. Give one of them another `key` in its mirror")]
    Twice(String, String, String),
    /// Variables with values that the programs of a format would not all read as they are, each with the reason.
    #[error("this format cannot carry {}. Use exec, or --format json or yaml", few(.0))]
    NotForFormat(Vec<String>),
}

/// Returns the variables of parameters, each given under its name in SSM. Of two versions of one parameter, the later one is used.
/// Whether all of it is too large is for the kernel to say, which knows the limit.
pub fn variables(parameters: &[(String, Entry)]) -> Result<Variables, KeyProblem> {
    let problem = environment::problem(parameters.iter().map(|(name, entry)| (name, entry)));
    if let Some(problem) = problem.filter(EnvironmentProblem::is_of_a_parameter) {
        return Err(problem.into());
    }
    let chosen = latest(parameters)?;
    Ok(chosen.into_iter().map(|(key, (_, entry))| (key.to_owned(), entry.value.clone())).collect())
}

/// Returns the variables for a format that is data, and what has no key of its own there: it is left out, and does not stop the rest.
/// What would steer a program does: what is exported often becomes an environment.
pub fn members(parameters: &[(String, Entry)]) -> Result<(Variables, Vec<String>), KeyProblem> {
    let (keyed, keyless): (Vec<_>, Vec<_>) =
        parameters.iter().cloned().partition(|(_, entry)| entry.key.is_some());
    let problem = environment::problem(keyed.iter().map(|(name, entry)| (name, entry)));
    if let Some(problem @ EnvironmentProblem::Steers(_)) = problem {
        return Err(problem.into());
    }
    let chosen = latest(&keyed)?;
    let variables =
        chosen.into_iter().map(|(key, (_, entry))| (key.to_owned(), entry.value.clone())).collect();
    Ok((variables, keyless.into_iter().map(|(name, _)| name).collect()))
}

/// Returns the parameter of each key, with its name.
fn latest(parameters: &[(String, Entry)]) -> Result<BTreeMap<&str, (&str, &Entry)>, KeyProblem> {
    let mut chosen: BTreeMap<&str, (&str, &Entry)> = BTreeMap::new();
    for (name, entry) in parameters {
        let Some(key) = entry.key.as_deref() else { continue };
        match chosen.get(key) {
            Some((other, _)) if *other != name => {
                return Err(KeyProblem::Twice(key.to_owned(), (*other).to_owned(), name.clone()));
            }
            Some((_, other)) if (other.date, other.version) >= (entry.date, entry.version) => {}
            _ => {
                chosen.insert(key, (name, entry));
            }
        }
    }
    Ok(chosen)
}

/// Whether POSIX shells accept this as the name of a variable.
#[must_use]
pub fn is_for_shells(key: &str) -> bool {
    key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
        && !key.starts_with(|c: char| c.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use parameter_mirror_format::content::entry::ParameterType;

    use super::*;

    fn parameter(name: &str, key: Option<&str>, version: i64, value: &str) -> (String, Entry) {
        let key = key.map(str::to_owned);
        let value = Value::from(value);
        (
            name.to_owned(),
            Entry { key, is_key_given: false, kind: ParameterType::String, version, date: version, value },
        )
    }

    #[test]
    fn each_parameter_has_a_variable_of_its_own() {
        let set = [parameter("/a/x", Some("X"), 1, "1"), parameter("/a/y", Some("Y"), 1, "")];
        let variables = variables(&set).unwrap();
        assert_eq!(
            variables.iter().map(|(k, v)| (k.as_str(), v.expose())).collect::<Vec<_>>(),
            [("X", "1"), ("Y", "")]
        );
    }

    #[test]
    fn what_has_no_variable_or_shares_it_is_named() {
        let keyless = [parameter("/a/x-y", None, 1, "1"), parameter("/a/z", Some("Z"), 1, "1")];
        assert_eq!(variables(&keyless), Err(EnvironmentProblem::Keyless(vec!["/a/x-y".to_owned()]).into()));
        let twice = [parameter("/a/x", Some("X"), 1, "1"), parameter("/b/x", Some("X"), 1, "1")];
        let expected = KeyProblem::Twice("X".to_owned(), "/a/x".to_owned(), "/b/x".to_owned());
        assert_eq!(variables(&twice), Err(expected));
        let zero = [parameter("/a/x", Some("X"), 1, "a\0b")];
        assert_eq!(variables(&zero), Err(EnvironmentProblem::Zero(vec!["/a/x".to_owned()]).into()));
    }

    #[test]
    fn what_has_no_key_does_not_stop_what_is_data() {
        let set = [parameter("/a/x-y", None, 1, "1"), parameter("/a/z", Some("Z"), 1, "a\0b")];
        let (kept, left_out) = members(&set).unwrap();
        assert_eq!(kept.keys().collect::<Vec<_>>(), ["Z"]);
        assert_eq!(left_out, ["/a/x-y"]);
        let path = [parameter("/a/path", Some("PATH"), 1, "/opt")];
        assert!(matches!(members(&path), Err(KeyProblem::Unfit(EnvironmentProblem::Steers(_)))));
    }

    #[test]
    fn a_variable_that_steers_programs_is_named_unless_the_mirror_gives_it() {
        let mut set = [parameter("/a/path", Some("PATH"), 1, "/tmp"), parameter("/a/x", Some("X"), 1, "1")];
        let problem = variables(&set).unwrap_err();
        let complaint = "/a/path would be the variable PATH, which steers shells";
        assert_eq!(problem, EnvironmentProblem::Steers(vec![complaint.to_owned()]).into());
        set[0].1.is_key_given = true;
        assert_eq!(variables(&set).unwrap()["PATH"].expose(), "/tmp");
    }

    #[test]
    fn of_one_parameter_in_two_mirrors_the_later_counts() {
        let (old, new) = (parameter("/a/x", Some("X"), 1, "old"), parameter("/a/x", Some("X"), 2, "new"));
        for set in [[old.clone(), new.clone()], [new, old]] {
            assert_eq!(variables(&set).unwrap()["X"].expose(), "new");
        }
    }
}
