//! Reads the input: YAML or JSON documents, and what each of their objects is to `convert`.

use anyhow::{anyhow, bail};
use parameter_mirror_format::humanize::printable;
use serde_json::{Map, Value};

use crate::commands::convert::fields::SpecFields;

/// Versions of External Secrets Operator that are read. Their fields are the same.
const READ: [&str; 2] = ["external-secrets.io/v1", "external-secrets.io/v1beta1"];
/// Groups of External Secrets Operator, and of its predecessor.
const GROUPS: [&str; 3] =
    ["external-secrets.io/", "generators.external-secrets.io/", "kubernetes-client.io/"];

/// An object of the input.
#[derive(Debug)]
pub struct Object {
    api_version: String,
    pub kind: String,
    /// The namespace that it names, or the one of `--namespace`.
    pub namespace: String,
    pub name: String,
    pub metadata: SpecFields,
    pub spec: SpecFields,
}

/// What an object is to `convert`.
#[derive(Debug, PartialEq, Eq)]
pub enum Role {
    /// A `SecretStore`.
    Store,
    /// A `ClusterSecretStore`.
    ClusterStore,
    /// An `ExternalSecret`.
    ExternalSecret,
    /// An object of External Secrets Operator that has no counterpart, and why.
    Unsupported(String),
    /// An object of something else, for example a `Deployment`.
    Foreign,
}

impl Object {
    /// Returns what it is to `convert`.
    pub fn role(&self) -> Role {
        let is_read = READ.contains(&self.api_version.as_str());
        match self.kind.as_str() {
            "SecretStore" if is_read => Role::Store,
            "ClusterSecretStore" if is_read => Role::ClusterStore,
            "ExternalSecret" if is_read => Role::ExternalSecret,
            kind if self.is_of_eso() => Role::Unsupported(no_counterpart(&self.api_version, kind)),
            _ => Role::Foreign,
        }
    }

    /// Returns kind, namespace and name, for messages.
    pub fn about(&self) -> String {
        if self.kind.starts_with("Cluster") {
            format!("{} {}", self.kind, self.name)
        } else {
            format!("{} {}/{}", self.kind, self.namespace, self.name)
        }
    }

    fn is_of_eso(&self) -> bool {
        GROUPS.iter().any(|group| self.api_version.starts_with(group))
    }
}

fn no_counterpart(api_version: &str, kind: &str) -> String {
    match kind {
        "PushSecret" | "ClusterPushSecret" => {
            "parameters are read and never written: keep External Secrets Operator for it".to_owned()
        }
        "ClusterExternalSecret" => {
            "a mirror is made per namespace: convert the ExternalSecrets that it has made".to_owned()
        }
        _ if api_version.starts_with("generators.") => {
            "a generator: it makes values, and SSM has none to mirror".to_owned()
        }
        _ if api_version.starts_with("kubernetes-client.io/") => format!(
            "{api_version} is of kubernetes-external-secrets, the predecessor of External Secrets Operator, and is not read: write a \
             mirror for it"
        ),
        _ => format!(
            "{api_version} is not read; v1 and v1beta1 are: kubectl get -o yaml shows the one that is stored"
        ),
    }
}

/// Returns the objects of all documents; an object without a namespace is in `namespace`.
pub fn objects(text: &str, namespace: &str) -> anyhow::Result<Vec<Object>> {
    let documents: Vec<Value> = match serde_yaml::from_multiple(text) {
        Ok(documents) => documents,
        Err(_) if text.contains("{{") => bail!("{UNRENDERED}"),
        Err(error) => {
            let reason = error.to_string();
            return Err(anyhow!("input is not YAML: {}", reason.lines().next().unwrap_or_default()));
        }
    };
    let mut objects = Vec::new();
    for document in documents {
        if let Value::Object(members) = document {
            collect(members, namespace, &mut objects);
        }
    }
    if objects.is_empty() {
        bail!("input contains no Kubernetes objects");
    }
    let is_hole = |text: &str| text.contains("{{");
    let unrendered =
        |object: &&Object| object.is_of_eso() && (is_hole(&object.name) || is_hole(&object.namespace));
    if let Some(object) = objects.iter().find(unrendered) {
        bail!("{UNRENDERED}: there is {}", printable(&object.about()));
    }
    Ok(objects)
}

const UNRENDERED: &str =
    "input is a template of Helm that is not rendered; convert what `helm template` prints";

/// Collects the object of a document, or the items of a list as `kubectl get -o yaml` prints it.
fn collect(document: Map<String, Value>, namespace: &str, objects: &mut Vec<Object>) {
    let mut document = SpecFields::of("", document);
    let Some(kind) = document.text("kind") else { return };
    let api_version = document.text("apiVersion").unwrap_or_default();
    if kind.ends_with("List") && document.has("items") {
        let Some(Value::Array(items)) = document.take("items") else { return };
        for item in items {
            let Value::Object(mut item) = item else { continue };
            // The items of a list of one kind do not repeat it.
            if let Some(of_items) = kind.strip_suffix("List").filter(|kind| !kind.is_empty()) {
                item.entry("kind").or_insert_with(|| of_items.into());
                item.entry("apiVersion").or_insert_with(|| api_version.clone().into());
            }
            collect(item, namespace, objects);
        }
        return;
    }
    let mut metadata = document.object("metadata");
    objects.push(Object {
        api_version,
        kind,
        namespace: metadata.text("namespace").unwrap_or_else(|| namespace.to_owned()),
        name: metadata.text("name").unwrap_or_default(),
        metadata,
        spec: document.object("spec"),
    });
}
