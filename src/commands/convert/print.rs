//! Prints the result: YAML with comments, and one line for each note.

use std::fmt::Write as _;

use anyhow::Context as _;
use parameter_mirror_format::humanize::printable;
use serde_json::{Value, json};

use crate::commands::convert::{Conversion, ConvertedMirror, Notes};

/// Prefix of a note on what is not carried over, to search for.
const LOST: &str = "NOT CARRIED OVER";

impl Conversion {
    /// Returns the sources, then the mirrors, then what has no counterpart, as YAML documents.
    pub fn yaml(&self) -> anyhow::Result<String> {
        let mut documents = Vec::new();
        for (source, notes) in &self.sources {
            // A source without grants has no use.
            let is_used = source["spec"]["grants"].as_array().is_some_and(|grants| !grants.is_empty());
            documents.push(document(notes, &[], is_used.then_some(source))?);
        }
        for (mirror, notes) in &self.mirrors {
            let spec = mirror.converted.as_ref().and_then(|converted| converted.spec.as_ref());
            let object = spec.map(|spec| {
                json!({
                    "apiVersion": "parameter-mirror.dev/v1alpha1", "kind": "ParameterMirror",
                    "metadata": {"name": mirror.name, "namespace": mirror.namespace}, "spec": spec,
                })
            });
            documents.push(document(notes, &hand_over(mirror, notes), object.as_ref())?);
        }
        for notes in &self.others {
            documents.push(document(notes, &[], None)?);
        }
        Ok(documents.join("---\n"))
    }

    /// Returns the notes and a summary, for standard error.
    #[must_use]
    pub fn summary(&self) -> String {
        let mut summary = String::new();
        for notes in self.notes() {
            for note in &notes.all {
                let word = if note.is_lost { LOST } else { "note" };
                let _ = writeln!(summary, "{word}  {}: {}", printable(&notes.about), printable(&note.text));
            }
        }
        let lost = self.notes().flat_map(|notes| &notes.all).filter(|note| note.is_lost).count();
        let made = self.mirrors.iter().filter(|(mirror, _)| mirror.is_made()).count();
        let _ = writeln!(
            summary,
            "{made} of {} ExternalSecrets are mirrors now; {lost} things could not be carried over",
            self.mirrors.len()
        );
        summary
    }
}

impl ConvertedMirror {
    fn is_made(&self) -> bool {
        self.converted.as_ref().is_some_and(|converted| converted.spec.is_some())
    }
}

fn document(notes: &Notes, more: &[String], object: Option<&Value>) -> anyhow::Result<String> {
    let mut text = comment(&format!("From {}.", notes.about));
    for note in &notes.all {
        let word = if note.is_lost { LOST } else { "Note" };
        text.push_str(&comment(&format!("{word}: {}", note.text)));
    }
    text.extend(more.iter().map(|line| comment(line)));
    if let Some(object) = object {
        text.push_str(&serde_yaml::to_string(object).context("cannot be written as YAML")?);
    }
    Ok(text)
}

/// Formats a line that stays a comment, whatever `text` holds.
fn comment(text: &str) -> String {
    format!("# {}\n", printable(text))
}

/// Returns the commands that hand over the running Secret (docs/migration.md). The names in them are names of objects:
/// the input is refused if one is not, and a Secret name that is not one counts as lost.
fn hand_over(mirror: &ConvertedMirror, notes: &Notes) -> Vec<String> {
    let ConvertedMirror { namespace, name, converted } = mirror;
    let Some(converted) = converted.as_ref().filter(|converted| converted.spec.is_some()) else {
        return Vec::new();
    };
    let secret = &converted.secret;
    if notes.has_lost() {
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
