//! Whether a set can become the environment of a program. The operator, the reader and both `verify` commands use this one rule, so
//! that nothing is published as good that the reader refuses.

use crate::content::entry::Entry;
use crate::content::steering;
use crate::humanize::few;
use crate::value::Value;

/// Bytes of variables that a program can be started with: the kernel allows a quarter of the stack limit, 2 MiB by default, for
/// arguments and environment (execve(2), "Limits on size of arguments and environment"). 128 KiB are left for what the program has
/// besides.
pub const MOST_BYTES: usize = (2 << 20) - (128 << 10);
/// What the kernel adds to each variable: a pointer, and the zero byte at the end.
const PER_VARIABLE: usize = size_of::<usize>() + 1;

/// Why a set cannot become an environment. Messages contain names, never values.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EnvironmentProblem {
    /// Parameters without a key: the key would be illegal, or another parameter has it.
    #[error("{} cannot be a variable: the name is illegal, or two parameters have it. Give each a `key` in the mirror", few(.0))]
    Keyless(Vec<String>),
    /// Names that steer programs. If they were accepted, the author of a parameter could choose what runs.
    #[error("{}. If that is meant, give it this `key` in the mirror by name, else another one", few(.0))]
    Steers(Vec<String>),
    /// Values that cannot be stored in a variable.
    #[error("the value of {} contains a zero byte, which no variable can hold. Exclude it from the mirror", few(.0))]
    Zero(Vec<String>),
    /// The variables take more bytes than the kernel allows.
    #[error(
        "its variables take {bytes} bytes, more than the {MOST_BYTES} that a program can be started with. Split the mirror"
    )]
    TooLarge {
        /// Bytes of all variables.
        bytes: usize,
    },
}

impl EnvironmentProblem {
    /// Whether a parameter has to change before any part of the set can be passed to a program. A set that is only too large has a use
    /// for programs that ask for single parameters.
    #[must_use]
    pub const fn is_of_a_parameter(&self) -> bool {
        !matches!(self, Self::TooLarge { .. })
    }
}

/// Returns why parameters, each given with its name in SSM, cannot become an environment, if they cannot.
pub fn problem<'e>(
    entries: impl IntoIterator<Item = (&'e String, &'e Entry)> + Clone,
) -> Option<EnvironmentProblem> {
    let names = |is_unfit: fn(&Entry) -> bool| -> Vec<String> {
        let unfit = entries.clone().into_iter().filter(|(_, entry)| is_unfit(entry));
        unfit.map(|(name, _)| name.clone()).collect()
    };
    let keyless = names(|entry| entry.key.is_none());
    if !keyless.is_empty() {
        return Some(EnvironmentProblem::Keyless(keyless));
    }
    let steering: Vec<_> =
        entries.clone().into_iter().filter_map(|(name, entry)| steering::objection(name, entry)).collect();
    if !steering.is_empty() {
        return Some(EnvironmentProblem::Steers(steering));
    }
    let zero = names(has_zero);
    if !zero.is_empty() {
        return Some(EnvironmentProblem::Zero(zero));
    }
    let variables =
        entries.into_iter().map(|(_, entry)| (entry.key.as_deref().unwrap_or_default(), &entry.value));
    let bytes = bytes(variables);
    (bytes > MOST_BYTES).then_some(EnvironmentProblem::TooLarge { bytes })
}

#[expect(clippy::disallowed_methods, reason = "judges what becomes an environment")]
fn has_zero(entry: &Entry) -> bool {
    entry.value.expose().contains('\0')
}

/// Returns how many bytes variables take in the environment of a program.
pub fn bytes<'e>(variables: impl IntoIterator<Item = (&'e str, &'e Value)>) -> usize {
    let one = |(key, value): (&str, &Value)| key.len() + "=".len() + value.len() + PER_VARIABLE;
    variables.into_iter().map(one).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::content::entry::{Entries, ParameterType};

    fn entry(key: Option<&str>, value: &str) -> Entry {
        Entry {
            key: key.map(str::to_owned),
            is_key_given: false,
            kind: ParameterType::String,
            version: 1,
            date: 1,
            value: Value::new(value.to_owned()),
        }
    }

    fn judged(entries: &[(&str, Option<&str>, &str)]) -> Option<EnvironmentProblem> {
        let entries = entries.iter().map(|(name, key, value)| ((*name).to_owned(), entry(*key, value)));
        problem(&entries.collect::<Entries>())
    }

    #[test]
    fn what_no_program_can_be_started_with_is_named() {
        assert_eq!(judged(&[("/a/x", Some("X"), "1"), ("/a/2fa", Some("2FA"), "")]), None);
        let keyless = judged(&[("/a/x-y", None, "1"), ("/a/x.y", None, "1"), ("/a/z", Some("Z"), "1")]);
        assert_eq!(
            keyless,
            Some(EnvironmentProblem::Keyless(vec!["/a/x-y".to_owned(), "/a/x.y".to_owned()]))
        );
        let steers = judged(&[("/a/path", Some("PATH"), "/tmp")]).unwrap();
        assert!(steers.to_string().starts_with("/a/path would be the variable PATH"), "{steers}");
        let zero = judged(&[("/a/x", Some("X"), "a\0b")]);
        assert_eq!(zero, Some(EnvironmentProblem::Zero(vec!["/a/x".to_owned()])));
    }

    /// 600 parameters of 4 KB: `exec` of them fails with "Argument list too long".
    #[test]
    fn a_set_beyond_the_limit_of_the_kernel_is_too_large() {
        let value = Value::new("x".repeat(4_096));
        let set = |count: usize| -> Entries {
            (0..count)
                .map(|n| {
                    (
                        format!("/a/{n:04}"),
                        Entry { value: value.clone(), ..entry(Some(&format!("V{n:04}")), "") },
                    )
                })
                .collect()
        };
        assert_eq!(problem(&set(400)), None);
        let large = problem(&set(600)).unwrap();
        assert_eq!(large, EnvironmentProblem::TooLarge { bytes: 600 * (5 + 1 + 4_096 + 9) });
        assert!(!large.is_of_a_parameter());
    }
}
