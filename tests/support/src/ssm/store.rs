//! The data of Parameter Store: parameters with versions, labels and dates, per account and Region.
//!
//! Pure state with the rules of the service, without HTTP, faults or a clock (dates are passed in).

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::ops::Bound;

/// The number of versions kept per parameter; a further write removes the oldest.
pub const MAX_VERSIONS: usize = 100;
/// The most labels of one version.
pub const MAX_LABELS: usize = 10;
/// The most levels of a name.
pub const MAX_LEVELS: usize = 15;
/// The most bytes of a value in the standard tier.
pub const STANDARD_BYTES: usize = 4096;
/// The most bytes of a value in the advanced tier.
pub const ADVANCED_BYTES: usize = 8192;
/// The most characters of a name, with the ARN prefix.
const MAX_ARN_CHARS: usize = 1011;

/// The type of a parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Plain text.
    String,
    /// Plain text items joined with commas.
    StringList,
    /// Encrypted at rest; decrypted only `WithDecryption`.
    SecureString,
}

impl Kind {
    /// Returns the name in the protocol.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::String => "String",
            Self::StringList => "StringList",
            Self::SecureString => "SecureString",
        }
    }

    /// Parses the name in the protocol.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [Self::String, Self::StringList, Self::SecureString].into_iter().find(|kind| kind.as_str() == text)
    }
}

/// One version of a parameter.
#[derive(Clone, Debug)]
pub struct Version {
    /// Counted from 1; restarts when a parameter is deleted and written again.
    pub number: u64,
    /// The plain value.
    pub value: String,
    /// When it was written, Unix milliseconds.
    pub modified_ms: u64,
    /// The labels of this version.
    pub labels: BTreeSet<String>,
}

/// One parameter with its kept versions, oldest first; never empty.
#[derive(Clone, Debug)]
pub struct Parameter {
    /// The name as written.
    pub name: String,
    /// The type, the same for all versions.
    pub kind: Kind,
    /// `text`, `aws:ec2:image` or `aws:ssm:integration`.
    pub data_type: String,
    versions: VecDeque<Version>,
}

impl Parameter {
    /// Returns the newest version.
    #[must_use]
    pub fn latest(&self) -> &Version {
        self.versions.back().expect("a parameter has a version")
    }

    /// Returns the version that a selector (a number or a label) names, if there is one.
    #[must_use]
    pub fn select(&self, selector: &str) -> Option<&Version> {
        match selector.parse::<u64>() {
            Ok(number) => self.versions.iter().find(|version| version.number == number),
            Err(_) => self.versions.iter().find(|version| version.labels.contains(selector)),
        }
    }
}

/// The error of a request that breaks a rule of the service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SsmRefusal {
    /// The error code in the protocol.
    pub code: &'static str,
    /// The message in the protocol; empty if the service sends none.
    pub message: String,
}

impl SsmRefusal {
    /// Creates an error with a message.
    pub fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    /// Creates a `ValidationException`.
    pub fn validation(message: impl Into<String>) -> Self {
        Self::new("ValidationException", message)
    }

    /// Creates a `ParameterNotFound`, whose real message is empty.
    #[must_use]
    pub fn not_found() -> Self {
        Self::new("ParameterNotFound", "")
    }
}

/// The input of a write.
#[derive(Clone, Debug)]
pub struct Write<'a> {
    /// The name.
    pub name: &'a str,
    /// The decrypted value.
    pub value: &'a str,
    /// The type; optional when an existing parameter is overwritten.
    pub kind: Option<Kind>,
    /// Whether it may replace an existing parameter.
    pub overwrite: bool,
    /// Whether to use the advanced tier: values up to [`ADVANCED_BYTES`].
    pub advanced: bool,
    /// The data type; `text` by default.
    pub data_type: Option<&'a str>,
    /// The date of the new version, Unix milliseconds.
    pub now_ms: u64,
}

/// The parameters of one account in one Region.
#[derive(Clone, Debug, Default)]
pub struct Shelf {
    /// By normalised name: `/X` and `X` are the same parameter.
    parameters: BTreeMap<String, Parameter>,
}

/// Normalises a name as the service does, with its leading slash.
fn normalised(name: &str) -> String {
    if name.starts_with('/') { name.to_owned() } else { format!("/{name}") }
}

impl Shelf {
    /// Returns the parameter with this name (no selector).
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Parameter> {
        self.parameters.get(&normalised(name))
    }

    /// Returns the number of parameters.
    #[must_use]
    pub fn len(&self) -> usize {
        self.parameters.len()
    }

    /// Whether there is no parameter.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.parameters.is_empty()
    }

    /// Returns the parameters below `path` after the name `after`, alphabetically, without the path's own
    /// parameter.
    pub fn below<'a>(
        &'a self,
        path: &str,
        recursive: bool,
        after: Option<&str>,
    ) -> impl Iterator<Item = &'a Parameter> + use<'a> {
        let prefix = if path.ends_with('/') { path.to_owned() } else { format!("{path}/") };
        let start = match after {
            Some(name) => Bound::Excluded(normalised(name)),
            None => Bound::Included(prefix.clone()),
        };
        let end = prefix.clone();
        self.parameters
            .range((start, Bound::Unbounded))
            .take_while(move |(name, _)| name.starts_with(&end))
            .filter(move |(name, _)| recursive || !name[prefix.len()..].contains('/'))
            .map(|(_, parameter)| parameter)
    }

    /// Writes a version and returns its number.
    pub fn put(&mut self, write: &Write<'_>) -> Result<u64, SsmRefusal> {
        check_name(write.name)?;
        check_value(write)?;
        match self.parameters.get_mut(&normalised(write.name)) {
            Some(existing) => existing.overwrite(write),
            None => self.create(write),
        }
    }

    /// Writes a public parameter of AWS, under a name that AWS reserves for itself.
    ///
    /// # Errors
    /// Never, because the type is set.
    pub fn put_public(&mut self, name: &str, value: &str) -> Result<u64, SsmRefusal> {
        self.create(&Write {
            name,
            value,
            kind: Some(Kind::String),
            overwrite: false,
            advanced: false,
            data_type: None,
            now_ms: 1,
        })
    }

    fn create(&mut self, write: &Write<'_>) -> Result<u64, SsmRefusal> {
        let kind = write.kind.ok_or_else(|| {
            SsmRefusal::validation("A parameter type is required when you create a parameter.")
        })?;
        let parameter = Parameter {
            name: write.name.to_owned(),
            kind,
            data_type: write.data_type.unwrap_or("text").to_owned(),
            versions: VecDeque::from([Version::new(1, write)]),
        };
        self.parameters.insert(normalised(write.name), parameter);
        Ok(1)
    }

    /// Restores one parameter, or its absence, from another shelf.
    pub(crate) fn restore(&mut self, name: &str, earlier: Option<&Self>) {
        match earlier.and_then(|earlier| earlier.get(name)) {
            Some(parameter) => drop(self.parameters.insert(normalised(name), parameter.clone())),
            None => drop(self.parameters.remove(&normalised(name))),
        }
    }

    /// Deletes a parameter with all versions; returns `false` if there was none.
    pub fn delete(&mut self, name: &str) -> bool {
        self.parameters.remove(&normalised(name)).is_some()
    }

    /// Moves `labels` to a version (the newest by default); returns the version's number and the invalid
    /// labels.
    pub fn label(
        &mut self,
        name: &str,
        version: Option<u64>,
        labels: &[String],
    ) -> Result<(u64, Vec<String>), SsmRefusal> {
        let parameter = self.parameters.get_mut(&normalised(name)).ok_or_else(SsmRefusal::not_found)?;
        let number = version.unwrap_or_else(|| parameter.latest().number);
        let (legal, illegal): (Vec<_>, Vec<_>) = labels.iter().cloned().partition(|label| is_label(label));
        let target = parameter
            .versions
            .iter()
            .find(|candidate| candidate.number == number)
            .ok_or_else(|| SsmRefusal::new("ParameterVersionNotFound", ""))?;
        if target.labels.union(&legal.iter().cloned().collect()).count() > MAX_LABELS {
            return Err(SsmRefusal::new("ParameterVersionLabelLimitExceeded", ""));
        }
        for candidate in &mut parameter.versions {
            candidate.labels.retain(|label| !legal.contains(label));
            if candidate.number == number {
                candidate.labels.extend(legal.iter().cloned());
            }
        }
        Ok((number, illegal))
    }
}

impl Version {
    fn new(number: u64, write: &Write<'_>) -> Self {
        Self { number, value: write.value.to_owned(), modified_ms: write.now_ms, labels: BTreeSet::new() }
    }
}

impl Parameter {
    fn overwrite(&mut self, write: &Write<'_>) -> Result<u64, SsmRefusal> {
        if !write.overwrite {
            return Err(SsmRefusal::new(
                "ParameterAlreadyExists",
                "The parameter already exists. To overwrite this value, set the overwrite option in the request to true.",
            ));
        }
        if write.kind.is_some_and(|kind| kind != self.kind) {
            return Err(SsmRefusal::new(
                "HierarchyTypeMismatchException",
                "The parameter type cannot be changed.",
            ));
        }
        if self.versions.len() == MAX_VERSIONS {
            let oldest = self.versions.front().expect("a parameter has a version");
            if !oldest.labels.is_empty() {
                return Err(SsmRefusal::new(
                    "ParameterMaxVersionLimitExceeded",
                    "The oldest version has a label and cannot be deleted.",
                ));
            }
            self.versions.pop_front();
        }
        let number = self.versions.back().map_or(1, |latest| latest.number + 1);
        self.versions.push_back(Version::new(number, write));
        Ok(number)
    }
}

/// Whether this is a valid label: 1 to 100 of `[A-Za-z0-9_.-]`, not starting with a digit, `aws` or `ssm`.
fn is_label(label: &str) -> bool {
    let lower = label.to_ascii_lowercase();
    (1..=100).contains(&label.len())
        && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte))
        && !label.starts_with(|first: char| first.is_ascii_digit())
        && !lower.starts_with("aws")
        && !lower.starts_with("ssm")
}

fn check_name(name: &str) -> Result<(), SsmRefusal> {
    let legal = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-/".contains(&byte));
    let path = name.strip_prefix('/').unwrap_or(name);
    let hierarchy_without_slash = name.contains('/') && !name.starts_with('/');
    if !legal || hierarchy_without_slash || path.split('/').any(str::is_empty) {
        return Err(SsmRefusal::validation(
            "Parameter name: can't be prefixed with \"aws\" or \"ssm\" (case-insensitive). If formed as a path, \
             it can consist of sub-paths divided by slash symbol; each sub-path can be formed as a mix of \
             letters, numbers and the following 3 symbols .-_",
        ));
    }
    let lower = path.to_ascii_lowercase();
    if lower.starts_with("aws") || lower.starts_with("ssm") {
        return Err(SsmRefusal::validation(
            "Parameter name: can't be prefixed with \"aws\" or \"ssm\" (case-insensitive).",
        ));
    }
    if path.split('/').count() > MAX_LEVELS {
        return Err(SsmRefusal::new(
            "HierarchyLevelLimitExceededException",
            "A parameter name can have a maximum of 15 levels.",
        ));
    }
    if arn("eu-central-1", "111122223333", name).len() > MAX_ARN_CHARS {
        return Err(SsmRefusal::validation("The parameter name is too long."));
    }
    Ok(())
}

fn check_value(write: &Write<'_>) -> Result<(), SsmRefusal> {
    if write.value.is_empty() {
        return Err(SsmRefusal::validation("Parameter value can't be empty."));
    }
    let limit = if write.advanced { ADVANCED_BYTES } else { STANDARD_BYTES };
    if write.value.len() > limit {
        return Err(SsmRefusal::validation(format!(
            "The parameter value exceeds the maximum limit of {limit} characters.",
        )));
    }
    Ok(())
}

/// Returns the ARN of a parameter.
#[must_use]
pub fn arn(region: &str, account: &str, name: &str) -> String {
    format!("arn:aws:ssm:{region}:{account}:parameter{}", normalised(name))
}

/// An account and a Region.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Place {
    /// Twelve digits.
    pub account: String,
    /// For example `us-east-1`.
    pub region: String,
}

/// The parameters of all accounts and Regions.
#[derive(Clone, Debug, Default)]
pub struct Store {
    shelves: HashMap<Place, Shelf>,
}

impl Store {
    /// Returns the parameters of a place; `None` if nothing was ever written there.
    #[must_use]
    pub fn shelf(&self, place: &Place) -> Option<&Shelf> {
        self.shelves.get(place)
    }

    /// Returns the parameters of a place, to change them.
    pub fn shelf_mut(&mut self, place: &Place) -> &mut Shelf {
        self.shelves.entry(place.clone()).or_default()
    }
}
