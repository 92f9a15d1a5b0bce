//! Validates the selections of a spec, one by one and as a whole.

use std::collections::BTreeSet;

use crate::api::SelectionSpec;
use crate::mirror::plan::error::{PlanError, invalid};
use crate::mirror::selection::{NameSelection, PathSelection, Selection, is_at_or_below};

/// Maximum characters of a spec's paths, names, keys and excludes in all.
const MOST_CHARACTERS: usize = 16_384;
/// Maximum excludes of a spec in all.
const MOST_EXCLUDES: usize = 200;

/// Validates all selections of a spec.
pub(super) fn selections(specs: &[SelectionSpec]) -> Result<Vec<Selection>, PlanError> {
    if specs.is_empty() || specs.len() > 100 {
        return Err(invalid("spec.parameters must have between 1 and 100 selections"));
    }
    bound(specs)?;
    let mut seen = BTreeSet::new();
    let mut selections = Vec::with_capacity(specs.len());
    for (index, spec) in specs.iter().enumerate() {
        let selection =
            selection(spec).map_err(|problem| invalid(format!("spec.parameters[{index}]: {problem}")))?;
        let same = match &selection {
            Selection::Path(path) => path.path.clone(),
            Selection::Name(name) => format!("name {}", name.name()),
        };
        if !seen.insert(same) {
            return Err(invalid(format!(
                "spec.parameters[{index}]: {selection} is selected twice, so its keys are ambiguous; remove one of the two"
            )));
        }
        selections.push(selection);
    }
    Ok(selections)
}

/// Bounds the size of a spec: it is held in memory twice, as the object and as the plan, for each of thousands of mirrors.
fn bound(specs: &[SelectionSpec]) -> Result<(), PlanError> {
    let excludes = || specs.iter().flat_map(|spec| spec.exclude.iter().flatten());
    let others = specs.iter().flat_map(|spec| [&spec.path, &spec.name, &spec.key]).flatten();
    let characters: usize = others.chain(excludes()).map(String::len).sum();
    if characters > MOST_CHARACTERS {
        return Err(invalid(
            "spec.parameters: paths, names, keys and excludes have more than 16,384 characters in all; split them over several mirrors",
        ));
    }
    if excludes().count() > MOST_EXCLUDES {
        return Err(invalid(
            "spec.parameters: more than 200 excludes in all; split the selections over several mirrors",
        ));
    }
    Ok(())
}

fn selection(spec: &SelectionSpec) -> Result<Selection, String> {
    match (&spec.path, &spec.name) {
        (Some(path), None) if spec.key.is_none() => path_selection(path, spec),
        (None, Some(name)) if spec.recursive.is_none() && spec.exclude.is_none() => {
            name_selection(name, spec)
        }
        (Some(_), None) => Err("`key` goes with `name` only".to_owned()),
        (None, Some(_)) => Err("`recursive` and `exclude` go with `path` only".to_owned()),
        _ => Err("a selection has either `path` or `name`: split it into two entries".to_owned()),
    }
}

fn path_selection(path: &str, spec: &SelectionSpec) -> Result<Selection, String> {
    refuse_arn(path)?;
    let path = trimmed(path);
    if path != "/" {
        let below = path.strip_prefix('/').ok_or_else(|| format!("path {path:?} must start with /"))?;
        legal_segments(below)?;
    }
    refuse_reference(path)?;
    let mut exclude = BTreeSet::new();
    for out in spec.exclude.iter().flatten() {
        let out = out.trim_matches('/');
        legal_segments(out).map_err(|problem| format!("exclude: {problem}"))?;
        exclude.insert(out.to_owned());
    }
    Ok(Selection::Path(PathSelection {
        path: path.to_owned(),
        recursive: spec.recursive.unwrap_or(true),
        exclude,
    }))
}

fn name_selection(name: &str, spec: &SelectionSpec) -> Result<Selection, String> {
    refuse_arn(name)?;
    let (bare, selector) =
        name.split_once(':').map_or((name, None), |(bare, selector)| (bare, Some(selector)));
    legal_segments(bare.strip_prefix('/').unwrap_or(bare))?;
    refuse_reference(bare)?;
    if !bare.starts_with('/') && bare.contains('/') {
        return Err(format!("name {name:?}: a name with a slash begins with one"));
    }
    if selector.is_some_and(|selector| !is_selector(selector)) {
        return Err(format!("name {name:?}: what follows the colon is a version (a number) or a label"));
    }
    if spec.key.as_deref().is_some_and(|key| !crate::mirror::secret_keys::is_legal(key)) {
        return Err("key: a Secret key has only letters, digits, - _ . and does not start with ..".to_owned());
    }
    Ok(Selection::Name(NameSelection {
        requested: name.to_owned(),
        key: spec.key.clone(),
        optional: spec.optional.unwrap_or(false),
    }))
}

/// Returns the paths that may be empty, as [`selections`] has them.
pub(super) fn optional_paths(specs: &[SelectionSpec]) -> BTreeSet<String> {
    let optional = specs.iter().filter(|spec| spec.optional == Some(true));
    optional.filter_map(|spec| spec.path.as_deref()).map(|path| trimmed(path).to_owned()).collect()
}

/// A trailing slash means the same path, as in a grant.
fn trimmed(path: &str) -> &str {
    match path.strip_suffix('/') {
        Some("") | None => path,
        Some(trimmed) => trimmed,
    }
}

/// SSM answers a name below this path with a secret of Secrets Manager, without version and date, and lists none of them.
fn refuse_reference(name: &str) -> Result<(), String> {
    let name = name.trim_start_matches('/').to_ascii_lowercase();
    if is_at_or_below(&name, "aws/reference/secretsmanager") {
        return Err("references to Secrets Manager are not supported: they have no version, and Secrets Manager has its own outages. \
                    Copy the secret into a parameter, or mirror it with a tool for Secrets Manager"
            .to_owned());
    }
    Ok(())
}

/// SSM's rules for selectors (API reference, `LabelParameterVersion`): a version, or a label of at most 100 of these characters that
/// does not begin with a digit.
fn is_selector(selector: &str) -> bool {
    let is_version = selector.chars().all(|c| c.is_ascii_digit()) && selector.len() <= 19;
    let is_label = selector.chars().all(is_name_char) && selector.len() <= 100;
    let begins_with_digit = selector.starts_with(|c: char| c.is_ascii_digit());
    !selector.is_empty() && (is_version || (is_label && !begins_with_digit))
}

fn refuse_arn(text: &str) -> Result<(), String> {
    if text.starts_with("arn:") {
        return Err(
            "ARNs are not accepted: write the name itself; to read another account set roleArn on the \
                    ParameterSource"
                .to_owned(),
        );
    }
    Ok(())
}

const fn is_name_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-')
}

/// SSM's rules for names (API reference, `PutParameter`): these characters, at most 15 levels, at most 1,011 characters.
fn legal_segments(relative: &str) -> Result<(), String> {
    let legal = |segment: &str| {
        !segment.is_empty() && segment != "." && segment != ".." && segment.chars().all(is_name_char)
    };
    if !relative.split('/').all(legal) {
        return Err(format!(
            "{relative:?} has a segment that is empty, . or .., or a character other than letters, digits, _ . -"
        ));
    }
    if relative.len() > 1_011 || relative.split('/').count() > 15 {
        return Err(format!("{relative:?} is longer than SSM allows (1,011 characters, 15 levels)"));
    }
    Ok(())
}
