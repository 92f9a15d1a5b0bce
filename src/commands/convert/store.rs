//! Converts a `SecretStore` or `ClusterSecretStore` into a `ParameterSource`.
//!
//! Read for this, of external-secrets: `apis/externalsecrets/v1/secretstore_aws_types.go`.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::commands::convert::fields::{Notes, SpecFields};
use crate::mirror::selection::is_at_or_below;

/// Maximum paths of a grant, and maximum grants of a source (the CRD's limits).
const MOST: usize = 20;

/// How an `ExternalSecret` names a store; `namespace` is `None` for a `ClusterSecretStore`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct StoreName {
    pub namespace: Option<String>,
    pub name: String,
}

impl StoreName {
    /// Returns the name of the source. Sources are cluster-scoped, so it contains the namespace.
    pub fn source(&self) -> String {
        match &self.namespace {
            Some(namespace) => format!("{namespace}-{}", self.name),
            None => self.name.clone(),
        }
    }

    /// Returns kind and name, for messages.
    pub fn description(&self) -> String {
        match &self.namespace {
            Some(namespace) => format!("SecretStore {namespace}/{}", self.name),
            None => format!("ClusterSecretStore {}", self.name),
        }
    }
}

/// A store of AWS Parameter Store.
#[derive(Debug)]
pub struct Store {
    region: String,
    role: Option<String>,
    external_id: Option<String>,
    /// Prefix of each key in `data`; `find` does not use it.
    pub prefix: String,
    /// The paths that each namespace needs.
    grants: BTreeMap<String, BTreeSet<String>>,
}

/// Reads a store from its spec; `None` if it is not an AWS Parameter Store.
pub fn store(mut spec: SpecFields, notes: &mut Notes) -> Option<Store> {
    // How often ESO checks the store, how it retries, and which ESO does it: the result does not depend on these.
    for own in ["controller", "refreshInterval", "retrySettings"] {
        spec.take(own);
    }
    if spec.take("conditions").is_some() {
        notes.know("spec.conditions", "the source grants only the namespaces and paths that are used here");
    }
    let mut provider = spec.object("provider");
    let mut aws = provider.object("aws");
    let service = aws.text("service");
    if service.as_deref() != Some("ParameterStore") {
        notes.lost(
            "spec.provider",
            "only AWS Parameter Store can be mirrored (provider.aws.service: ParameterStore)",
        );
        return None;
    }
    aws.take("secretsManager");
    let region = aws.text("region").unwrap_or_else(|| {
        notes.lost("spec.provider.aws.region", "a source needs a region");
        "us-east-1".to_owned()
    });
    let store = Store {
        region,
        role: aws.text("role"),
        external_id: aws.text("externalID"),
        prefix: aws.text("prefix").unwrap_or_default(),
        grants: BTreeMap::new(),
    };
    if aws.take("auth").is_some_and(|auth| auth.as_object().is_some_and(|auth| !auth.is_empty())) {
        let text = match &store.role {
            Some(role) => format!("the operator reads with its own AWS identity: let that assume {role}"),
            None => "the operator reads with its own AWS identity: give that the rights on these parameters, or name a role in \
                     spec.roleArn that it may assume"
                .to_owned(),
        };
        notes.know("spec.provider.aws.auth", &text);
    }
    if aws
        .take("additionalRoles")
        .is_some_and(|roles| roles.as_array().is_some_and(|roles| !roles.is_empty()))
    {
        let why = "roles are not chained: let the operator's identity assume the last one";
        notes.lost("spec.provider.aws.additionalRoles", why);
    }
    aws.only("sessionTagsPolicy", "None", "sessions have no tags", notes);
    for tags in ["sessionTags", "transitiveTagKeys", "customSessionTags"] {
        if aws.take(tags).is_some() {
            notes.lost(&aws.at(tags), "sessions have no tags: a policy must not ask for them");
        }
    }
    aws.rest(notes);
    provider.rest(notes);
    spec.rest(notes);
    Some(store)
}

impl Store {
    /// Grants a path to a namespace, unless a path above it is granted already.
    pub fn grant(&mut self, namespace: &str, path: &str) {
        let paths = self.grants.entry(namespace.to_owned()).or_default();
        if !paths.iter().any(|granted| is_at_or_below(path, granted)) {
            paths.retain(|granted| !is_at_or_below(granted, path));
            paths.insert(path.to_owned());
        }
    }

    /// Returns the `ParameterSource`.
    pub fn source(&self, name: &str, notes: &mut Notes) -> Value {
        let grants: Vec<Value> = self
            .grants
            .iter()
            .flat_map(|(namespace, paths)| {
                let paths: Vec<&String> = paths.iter().collect();
                let grant = |paths: &[&String]| json!({"namespaces": [namespace], "paths": paths});
                paths.chunks(MOST).map(grant).collect::<Vec<_>>()
            })
            .collect();
        if grants.len() > MOST {
            let why = "a source has at most 20 grants: grant shorter paths, or namespaces by matchLabels";
            notes.lost("spec.grants", why);
        }
        let mut spec = json!({"region": self.region, "grants": grants});
        if let Some(role) = &self.role {
            spec["roleArn"] = json!(role);
        }
        if let Some(id) = &self.external_id {
            spec["externalId"] = json!(id);
        }
        json!({
            "apiVersion": "parameter-mirror.dev/v1alpha1", "kind": "ParameterSource", "metadata": {"name": name}, "spec": spec,
        })
    }
}
