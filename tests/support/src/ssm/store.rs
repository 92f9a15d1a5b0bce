//! What Parameter Store holds: parameters with versions, labels and dates, per account and Region.
//!
//! Pure state with the rules of the service; it knows nothing of HTTP, faults or time (dates come in).

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::ops::Bound;

/// Versions kept per parameter; the oldest goes when one more is written.
pub const MAX_VERSIONS: usize = 100;
/// Labels one version may carry.
pub const MAX_LABELS: usize = 10;
/// Levels a name may have.
pub const MAX_LEVELS: usize = 15;
/// Bytes of a value in the standard tier.
pub const STANDARD_BYTES: usize = 4096;
/// Bytes of a value in the advanced tier.
pub const ADVANCED_BYTES: usize = 8192;
/// Characters of a name, the ARN prefix included.
const MAX_ARN_CHARS: usize = 1011;

/// The type of a parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Plain text.
    String,
    /// Plain text items joined with commas.
    StringList,
    /// Encrypted at rest; plain only `WithDecryption`.
    SecureString,
}

impl Kind {
    /// The name on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::String => "String",
            Self::StringList => "StringList",
            Self::SecureString => "SecureString",
        }
    }

    /// The type with this name on the wire.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [Self::String, Self::StringList, Self::SecureString].into_iter().find(|kind| kind.as_str() == text)
    }
}

/// One version of a parameter.
#[derive(Clone, Debug)]
pub struct Version {
    /// Counts from 1; a parameter that was deleted and written again starts over.
    pub number: u64,
    /// The plain value.
    pub value: String,
    /// When it was written, Unix milliseconds.
    pub modified_ms: u64,
    /// Labels on this version.
    pub labels: BTreeSet<String>,
}

/// One parameter with its kept versions, oldest first; never empty.
#[derive(Clone, Debug)]
pub struct Parameter {
    /// The name as it was written.
    pub name: String,
    /// Type, the same for all versions.
    pub kind: Kind,
    /// `text`, `aws:ec2:image` or `aws:ssm:integration`.
    pub data_type: String,
    versions: VecDeque<Version>,
}

impl Parameter {
    /// The newest version.
    #[must_use]
    pub fn latest(&self) -> &Version {
        self.versions.back().expect("a parameter has a version")
    }

    /// The version a selector (a number or a label) names; none if there is no such version.
    #[must_use]
    pub fn select(&self, selector: &str) -> Option<&Version> {
        match selector.parse::<u64>() {
            Ok(number) => self.versions.iter().find(|version| version.number == number),
            Err(_) => self.versions.iter().find(|version| version.labels.contains(selector)),
        }
    }
}

/// A refusal by a rule of the service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlanError {
    /// The error code on the wire.
    pub code: &'static str,
    /// The message on the wire; empty where the service sends none.
    pub message: String,
}

impl PlanError {
    /// A refusal with a message.
    pub fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    /// `ValidationException`.
    pub fn validation(message: impl Into<String>) -> Self {
        Self::new("ValidationException", message)
    }

    /// `ParameterNotFound`, whose real message is empty.
    #[must_use]
    pub fn not_found() -> Self {
        Self::new("ParameterNotFound", "")
    }
}

/// What a write wants.
#[derive(Clone, Debug)]
pub struct Write<'a> {
    /// Name.
    pub name: &'a str,
    /// Plain value.
    pub value: &'a str,
    /// Type; may be left out when an existing parameter is overwritten.
    pub kind: Option<Kind>,
    /// May it replace an existing parameter?
    pub overwrite: bool,
    /// Advanced tier: values up to [`ADVANCED_BYTES`].
    pub advanced: bool,
    /// Data type; `text` if left out.
    pub data_type: Option<&'a str>,
    /// Date of the new version, Unix milliseconds.
    pub now_ms: u64,
}

/// The parameters of one account in one Region.
#[derive(Clone, Debug, Default)]
pub struct Shelf {
    /// By normalised name: `/X` and `X` are the same parameter.
    parameters: BTreeMap<String, Parameter>,
}

/// A name as the service compares it, with its leading slash.
fn normalised(name: &str) -> String {
    if name.starts_with('/') { name.to_owned() } else { format!("/{name}") }
}

impl Shelf {
    /// The parameter with this name (no selector).
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Parameter> {
        self.parameters.get(&normalised(name))
    }

    /// How many parameters there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.parameters.len()
    }

    /// Is there nothing?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.parameters.is_empty()
    }

    /// Parameters below `path` after the name `after`, alphabetically, without the path's own parameter.
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
    pub fn put(&mut self, write: &Write<'_>) -> Result<u64, PlanError> {
        check_name(write.name)?;
        check_value(write)?;
        match self.parameters.get_mut(&normalised(write.name)) {
            Some(existing) => existing.overwrite(write),
            None => self.create(write),
        }
    }

    /// What AWS itself publishes, under a name that it lets nobody else take.
    ///
    /// # Errors
    /// Never, as long as the parameter is one of a kind.
    pub fn put_public(&mut self, name: &str, value: &str) -> Result<u64, PlanError> {
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

    fn create(&mut self, write: &Write<'_>) -> Result<u64, PlanError> {
        let kind = write.kind.ok_or_else(|| {
            PlanError::validation("A parameter type is required when you create a parameter.")
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

    /// Makes one parameter what it was on another shelf, or absent.
    pub(crate) fn restore(&mut self, name: &str, earlier: Option<&Self>) {
        match earlier.and_then(|earlier| earlier.get(name)) {
            Some(parameter) => drop(self.parameters.insert(normalised(name), parameter.clone())),
            None => drop(self.parameters.remove(&normalised(name))),
        }
    }

    /// Removes a parameter with all versions; `false` if there was none.
    pub fn delete(&mut self, name: &str) -> bool {
        self.parameters.remove(&normalised(name)).is_some()
    }

    /// Moves `labels` to a version (the newest if none is given); returns the version's number and the
    /// labels that are not legal.
    pub fn label(
        &mut self,
        name: &str,
        version: Option<u64>,
        labels: &[String],
    ) -> Result<(u64, Vec<String>), PlanError> {
        let parameter = self.parameters.get_mut(&normalised(name)).ok_or_else(PlanError::not_found)?;
        let number = version.unwrap_or_else(|| parameter.latest().number);
        let (legal, illegal): (Vec<_>, Vec<_>) = labels.iter().cloned().partition(|label| is_label(label));
        let target = parameter
            .versions
            .iter()
            .find(|candidate| candidate.number == number)
            .ok_or_else(|| PlanError::new("ParameterVersionNotFound", ""))?;
        if target.labels.union(&legal.iter().cloned().collect()).count() > MAX_LABELS {
            return Err(PlanError::new("ParameterVersionLabelLimitExceeded", ""));
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
    fn overwrite(&mut self, write: &Write<'_>) -> Result<u64, PlanError> {
        if !write.overwrite {
            return Err(PlanError::new(
                "ParameterAlreadyExists",
                "The parameter already exists. To overwrite this value, set the overwrite option in the request to true.",
            ));
        }
        if write.kind.is_some_and(|kind| kind != self.kind) {
            return Err(PlanError::new(
                "HierarchyTypeMismatchException",
                "The parameter type cannot be changed.",
            ));
        }
        if self.versions.len() == MAX_VERSIONS {
            let oldest = self.versions.front().expect("a parameter has a version");
            if !oldest.labels.is_empty() {
                return Err(PlanError::new(
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

/// Is this a legal label: 1 to 100 of `[A-Za-z0-9_.-]`, not starting with a digit, `aws` or `ssm`?
fn is_label(label: &str) -> bool {
    let lower = label.to_ascii_lowercase();
    (1..=100).contains(&label.len())
        && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte))
        && !label.starts_with(|first: char| first.is_ascii_digit())
        && !lower.starts_with("aws")
        && !lower.starts_with("ssm")
}

fn check_name(name: &str) -> Result<(), PlanError> {
    let legal = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-/".contains(&byte));
    let path = name.strip_prefix('/').unwrap_or(name);
    let hierarchy_without_slash = name.contains('/') && !name.starts_with('/');
    if !legal || hierarchy_without_slash || path.split('/').any(str::is_empty) {
        return Err(PlanError::validation(
            "Parameter name: can't be prefixed with \"aws\" or \"ssm\" (case-insensitive). If formed as a path, \
             it can consist of sub-paths divided by slash symbol; each sub-path can be formed as a mix of \
             letters, numbers and the following 3 symbols .-_",
        ));
    }
    let lower = path.to_ascii_lowercase();
    if lower.starts_with("aws") || lower.starts_with("ssm") {
        return Err(PlanError::validation(
            "Parameter name: can't be prefixed with \"aws\" or \"ssm\" (case-insensitive).",
        ));
    }
    if path.split('/').count() > MAX_LEVELS {
        return Err(PlanError::new(
            "HierarchyLevelLimitExceededException",
            "A parameter name can have a maximum of 15 levels.",
        ));
    }
    if arn("eu-central-1", "111122223333", name).len() > MAX_ARN_CHARS {
        return Err(PlanError::validation("The parameter name is too long."));
    }
    Ok(())
}

fn check_value(write: &Write<'_>) -> Result<(), PlanError> {
    if write.value.is_empty() {
        return Err(PlanError::validation("Parameter value can't be empty."));
    }
    let limit = if write.advanced { ADVANCED_BYTES } else { STANDARD_BYTES };
    if write.value.len() > limit {
        return Err(PlanError::validation(format!(
            "The parameter value exceeds the maximum limit of {limit} characters.",
        )));
    }
    Ok(())
}

/// The ARN of a parameter.
#[must_use]
pub fn arn(region: &str, account: &str, name: &str) -> String {
    format!("arn:aws:ssm:{region}:{account}:parameter{}", normalised(name))
}

/// Account and Region.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Place {
    /// Twelve digits.
    pub account: String,
    /// For example `us-east-1`.
    pub region: String,
}

/// All accounts and Regions.
#[derive(Clone, Debug, Default)]
pub struct Store {
    shelves: HashMap<Place, Shelf>,
}

impl Store {
    /// The parameters of a place; empty where nothing was ever written.
    #[must_use]
    pub fn shelf(&self, place: &Place) -> Option<&Shelf> {
        self.shelves.get(place)
    }

    /// The same, to change.
    pub fn shelf_mut(&mut self, place: &Place) -> &mut Shelf {
        self.shelves.entry(place.clone()).or_default()
    }
}
