//! `spec.target`: the Secret, with its type, labels and annotations.
//!
//! Read for this, of external-secrets: `pkg/controllers/externalsecret`. Without `template`, ESO copies the labels and annotations of
//! the `ExternalSecret` to the Secret; with one, those of the template and no others. Template data replace what is read, unless
//! `mergePolicy` is `Merge`.

use serde_json::{Map, Value, json};

use crate::commands::admission::Admission;
use crate::commands::convert::fields::SpecFields;
use crate::commands::convert::notes::Notes;

/// Domains of the labels and annotations with which the tool that deploys an `ExternalSecret` marks its own objects. On the Secret they
/// would make the tool believe that it has deployed that too, and remove it.
const OF_TOOLS: [&str; 6] = [
    "argocd.argoproj.io",
    "helm.sh",
    "helm.toolkit.fluxcd.io",
    "kubectl.kubernetes.io",
    "kustomize.toolkit.fluxcd.io",
    "meta.helm.sh",
];

/// The Secret of an `ExternalSecret`.
#[derive(Debug)]
pub struct Target {
    /// `spec.secret` without its key format.
    pub secret: Value,
    /// Whether ESO tolerates that SSM does not have a parameter.
    pub optional: bool,
}

/// Understands what is left of `spec.target` beside its name and its policy, and the metadata of the `ExternalSecret`.
pub fn understand(
    name: &str,
    policy: Option<&str>,
    mut target: SpecFields,
    metadata: SpecFields,
    judge: &Admission,
    notes: &mut Notes,
) -> Target {
    let at = |field: &str| format!("spec.target.{field}");
    match policy {
        None | Some("Owner") => notes.know(
            &at("creationPolicy"),
            "ESO deletes the Secret with the ExternalSecret; a mirror keeps it, unless secret.deletionPolicy is Delete",
        ),
        Some("Orphan") => {}
        Some("None") => notes.lost(&at("creationPolicy"), "None: it writes no Secret, and a mirror is there to write one"),
        Some(other) => notes.lost(&at("creationPolicy"), &format!("{other}: a mirror has its Secret for itself")),
    }
    let optional = match target.text("deletionPolicy").as_deref() {
        Some("Delete") => {
            let why = "Delete: a mirror keeps its last set when SSM has none of the parameters any more";
            notes.lost(&at("deletionPolicy"), why);
            true
        }
        Some("Merge") => true,
        None | Some("Retain") => false,
        Some(other) => {
            notes.lost(&at("deletionPolicy"), &format!("{other}: a policy that convert does not know"));
            false
        }
    };
    if target.take("immutable").is_some_and(|immutable| immutable != json!(false)) {
        notes.lost(&at("immutable"), "an immutable Secret cannot be kept up to date");
    }
    let mut secret = json!({"name": name});
    match target.present("template") {
        Some(template) => self::template(template, &mut secret, judge, notes),
        None => inherit(metadata, &mut secret, judge, notes),
    }
    target.rest(notes);
    Target { secret, optional }
}

/// Takes over the labels and annotations of the `ExternalSecret` itself.
fn inherit(mut metadata: SpecFields, secret: &mut Value, judge: &Admission, notes: &mut Notes) {
    for kind in ["labels", "annotations"] {
        let mut own = metadata.texts(kind, notes);
        own.retain(|(key, _)| !is_of_tools(key) && key != "app.kubernetes.io/managed-by");
        put(secret, kind, &metadata.at(kind), own, judge, notes);
    }
}

fn template(mut template: SpecFields, secret: &mut Value, judge: &Admission, notes: &mut Notes) {
    template.take("engineVersion");
    let effect = match template.text("mergePolicy").as_deref() {
        Some("Merge") => "adds",
        _ => "puts in place of what is read",
    };
    let why =
        "values are mirrored as SSM has them; put the finished value into SSM, or template where it is used";
    let data = template.object("data");
    let keys = data.names().collect::<Vec<_>>().join(", ");
    if !keys.is_empty() {
        notes.lost(&data.path, &format!("it {effect} the keys {keys}; {why}"));
    }
    if template.take("templateFrom").is_some_and(|from| from != json!([])) {
        notes.lost(&template.at("templateFrom"), &format!("it {effect} other keys; {why}"));
    }
    if let Some(type_) = template.text("type") {
        secret["type"] = json!(type_);
    }
    let mut metadata = template.object("metadata");
    for kind in ["labels", "annotations"] {
        let (made, literal): (Vec<_>, Vec<_>) =
            metadata.texts(kind, notes).into_iter().partition(|(_, text)| text.contains("{{"));
        for (key, _) in made {
            notes.lost(&format!("{}.{key}", metadata.at(kind)), "a template");
        }
        put(secret, kind, &metadata.at(kind), literal, judge, notes);
    }
    metadata.rest(notes);
    template.rest(notes);
}

/// Sets the labels or annotations that the CRD accepts; the others are lost, and the rest of the mirror is not.
fn put(
    secret: &mut Value,
    kind: &str,
    at: &str,
    texts: Vec<(String, String)>,
    judge: &Admission,
    notes: &mut Notes,
) {
    let mut accepted = Map::new();
    for (key, text) in texts {
        let only_this = json!({
            "kind": "ParameterMirror", "metadata": {"name": "one"},
            "spec": {"parameters": [{"path": "/"}], "secret": {kind: {&key: text}}},
        });
        let faults = judge.faults(&only_this);
        for fault in &faults {
            notes.lost(&format!("{at}.{key}"), fault);
        }
        if faults.is_empty() {
            accepted.insert(key, json!(text));
        }
    }
    if !accepted.is_empty() {
        secret[kind] = Value::Object(accepted);
    }
}

/// Notes the labels and annotations with which tools steer the object itself: it is deployed in its place, and may need them.
pub fn note_tools(metadata: &SpecFields, notes: &mut Notes) {
    for kind in ["labels", "annotations"] {
        let own: Vec<&str> = metadata.names_in(kind).filter(|key| is_of_tools(key)).collect();
        if !own.is_empty() {
            let what = "of the tool that deploys it; what is printed does not have them. Set them there where they are needed";
            notes.know(&metadata.at(kind), &format!("{}: {what}", own.join(", ")));
        }
    }
}

fn is_of_tools(key: &str) -> bool {
    key.split_once('/').is_some_and(|(domain, _)| OF_TOOLS.contains(&domain))
}
