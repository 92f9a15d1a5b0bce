//! Prints the result: YAML with comments, one line for each note, and a summary that accounts for every object of the input.

use std::fmt::Write as _;

use anyhow::Context as _;
use parameter_mirror_format::humanize::printable;
use serde_json::Value;

use crate::commands::convert::conversion::{Conversion, Converted, Extent};

/// Prefix of a note on what is not carried over, to search for.
const LOST: &str = "NOT CARRIED OVER";

impl Conversion {
    /// Returns the sources, then the mirrors, then what has no counterpart, as YAML documents.
    pub fn yaml(&self) -> anyhow::Result<String> {
        let documents: anyhow::Result<Vec<String>> = self.all().map(document).collect();
        Ok(documents?.join("---\n"))
    }

    /// Returns the notes and a summary, for standard error.
    pub fn summary(&self) -> String {
        let mut summary = String::new();
        for converted in self.all() {
            for note in &converted.notes.all {
                let word = if note.is_lost { LOST } else { "note" };
                let about = printable(&converted.notes.about);
                let _ = writeln!(summary, "{word}  {about}: {}", printable(&note.text));
            }
        }
        let _ = writeln!(summary, "{}", self.counts());
        summary
    }

    /// Counts every object of the input.
    fn counts(&self) -> String {
        let mirrors = |extent| self.mirrors.iter().filter(|mirror| mirror.extent() == extent).count();
        let external = counted(self.mirrors.len(), "ExternalSecret");
        let mut clauses = vec![format!("Converted {} of {external} completely", mirrors(Extent::Complete))];
        for (extent, how) in [(Extent::Partial, "partially"), (Extent::Nothing, "not at all")] {
            if mirrors(extent) > 0 {
                clauses.push(format!("{} {how}", mirrors(extent)));
            }
        }
        if let [_, .., last] = clauses.as_mut_slice() {
            let _ = write!(last, " (see {LOST})");
        }
        if !self.sources.is_empty() {
            let printed = self.sources.iter().filter(|source| source.object.is_some()).count();
            clauses.push(format!("{printed} of {} converted", counted(self.sources.len(), "store")));
        }
        if !self.unsupported.is_empty() {
            clauses.push(format!("{} skipped", counted(self.unsupported.len(), "unsupported object")));
        }
        if !self.foreign.is_empty() {
            let kinds: Vec<String> = self.foreign.keys().map(|kind| printable(kind)).collect();
            let objects = counted(self.foreign.values().sum(), "object");
            clauses.push(format!("{objects} of other kinds passed over ({})", kinds.join(", ")));
        }
        clauses.join("; ")
    }
}

fn counted(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

fn document(converted: &Converted) -> anyhow::Result<String> {
    let mut text = comment(&format!("From {}.", converted.notes.about));
    for note in &converted.notes.all {
        let word = if note.is_lost { LOST } else { "Note" };
        text.push_str(&comment(&format!("{word}: {}", note.text)));
    }
    if let Some(object) = &converted.object {
        text.extend(hand_over(object, converted.extent()).iter().map(|line| comment(line)));
        text.push_str(&serde_yaml::to_string(object).context("cannot be written as YAML")?);
    }
    Ok(text)
}

/// Formats a line that stays a comment, whatever `text` holds.
fn comment(text: &str) -> String {
    format!("# {}\n", printable(text))
}

/// Returns the commands that hand over the running Secret (docs/guides/migrate-from-eso.md). The names in them are names of objects: a mirror
/// is printed only if its CRD accepts them.
fn hand_over(object: &Value, extent: Extent) -> Vec<String> {
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str);
    let (Some(namespace), Some(name), Some(secret)) =
        (text("/metadata/namespace"), text("/metadata/name"), text("/spec/secret/name"))
    else {
        return Vec::new();
    };
    if extent != Extent::Complete {
        return vec![format!(
            "Do not let it take over Secret {secret} as it is: a take-over replaces the whole Secret, and this is not the same one."
        )];
    }
    vec![
        "Once it is applied, the running Secret changes hands, without a byte of its data changing:"
            .to_owned(),
        format!(
            "  kubectl patch externalsecret {name} -n {namespace} --type merge -p \
             '{{\"spec\":{{\"target\":{{\"creationPolicy\":\"Orphan\",\"deletionPolicy\":\"Retain\"}}}}}}'"
        ),
        format!("  kubectl delete externalsecret {name} -n {namespace} --cascade=orphan"),
        format!("  kubectl annotate secret {secret} -n {namespace} parameter-mirror.dev/adopt-by={name}"),
    ]
}
