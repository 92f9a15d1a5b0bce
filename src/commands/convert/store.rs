//! Understands a `SecretStore` or `ClusterSecretStore`: the AWS account that it reads, and the grants that its readers need.
//!
//! Read for this, of external-secrets: `apis/externalsecrets/v1/secretstore_aws_types.go`.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::commands::convert::fields::SpecFields;
use crate::commands::convert::notes::Notes;
use crate::mirror::selection::is_at_or_below;

/// Maximum paths of a grant (the CRD's limit).
const MOST_PATHS: usize = 20;

/// The stores of the input that can be referred to.
pub type Stores = BTreeMap<StoreName, Store>;

/// How an `ExternalSecret` names a store; `namespace` is `None` for a `ClusterSecretStore`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct StoreName {
    pub namespace: Option<String>,
    pub name: String,
}

impl StoreName {
    /// Reads a `secretStoreRef`; `None` if it names none.
    pub fn of_reference(mut reference: SpecFields, namespace: &str, notes: &mut Notes) -> Option<Self> {
        let name = reference.text("name");
        let is_cluster = reference.text("kind").as_deref() == Some("ClusterSecretStore");
        reference.rest(notes);
        Some(Self { namespace: (!is_cluster).then(|| namespace.to_owned()), name: name? })
    }

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

/// What a store reads from.
#[derive(Debug)]
pub enum Store {
    ParameterStore(Box<ParameterStore>),
    /// Something that stays with External Secrets Operator, by its name.
    Other(String),
}

/// A store of AWS Parameter Store.
#[derive(Debug)]
pub struct ParameterStore {
    region: Option<String>,
    role: Option<String>,
    external_id: Option<String>,
    /// Prefix of each key in `data`; `find` does not use it.
    pub prefix: String,
    /// The paths that each namespace needs.
    grants: BTreeMap<String, BTreeSet<String>>,
}

/// Understands the spec of a store. What a store of something else has is of no interest.
pub fn understand(mut spec: SpecFields, notes: &mut Notes) -> Store {
    let mut provider = spec.object("provider");
    let mut aws = provider.object("aws");
    let service = aws.text("service").unwrap_or_default();
    if service != "ParameterStore" {
        let other = provider.names().next().unwrap_or("no provider");
        return Store::Other(match service.as_str() {
            "SecretsManager" => "AWS Secrets Manager".to_owned(),
            "" => other.to_owned(),
            service => format!("AWS {service}"),
        });
    }
    // How often ESO checks the store, how it retries, and which ESO does it: the result does not depend on these.
    for own in ["controller", "refreshInterval", "retrySettings"] {
        spec.take(own);
    }
    if spec.take("conditions").is_some() {
        notes.know("spec.conditions", "the source grants only the namespaces and paths that are used here");
    }
    aws.take("secretsManager");
    let store = ParameterStore {
        region: aws.text("region"),
        role: aws.text("role"),
        external_id: aws.text("externalID"),
        prefix: aws.text("prefix").unwrap_or_default(),
        grants: BTreeMap::new(),
    };
    identity(&mut aws, &store, notes);
    aws.rest(notes);
    provider.rest(notes);
    spec.rest(notes);
    Store::ParameterStore(Box::new(store))
}

/// Notes with which identity ESO reads, and what of it a source does not have.
fn identity(aws: &mut SpecFields, store: &ParameterStore, notes: &mut Notes) {
    if aws.take("auth").is_some_and(|auth| auth.as_object().is_none_or(|auth| !auth.is_empty())) {
        let text = match &store.role {
            Some(role) => format!("the operator reads with its own AWS identity: let that assume {role}"),
            None => "the operator reads with its own AWS identity: give that the permissions on these parameters, or name a role in \
                     spec.roleArn that it may assume"
                .to_owned(),
        };
        notes.know("spec.provider.aws.auth", &text);
    }
    if aws.take("additionalRoles").is_some_and(|roles| roles != json!([])) {
        let why = "roles are not chained: let the operator's identity assume the last one";
        notes.lost("spec.provider.aws.additionalRoles", why);
    }
    aws.only("sessionTagsPolicy", "None", "sessions have no tags", notes);
    for tags in ["sessionTags", "transitiveTagKeys", "customSessionTags"] {
        if aws.take(tags).is_some() {
            notes.lost(&aws.at(tags), "sessions have no tags: a policy must not ask for them");
        }
    }
}

impl ParameterStore {
    /// Whether nothing was granted.
    pub fn is_unused(&self) -> bool {
        self.grants.is_empty()
    }

    /// Grants a path to a namespace, unless a path above it is granted already.
    pub fn grant(&mut self, namespace: &str, path: &str) {
        let paths = self.grants.entry(namespace.to_owned()).or_default();
        if !paths.iter().any(|granted| is_at_or_below(path, granted)) {
            paths.retain(|granted| !is_at_or_below(granted, path));
            paths.insert(path.to_owned());
        }
    }

    /// Returns the `ParameterSource`.
    pub fn source(&self, name: &str) -> Value {
        let grants: Vec<Value> = self
            .grants
            .iter()
            .flat_map(|(namespace, paths)| {
                let paths: Vec<&String> = paths.iter().collect();
                let grant = |paths: &[&String]| json!({"namespaces": [namespace], "paths": paths});
                paths.chunks(MOST_PATHS).map(grant).collect::<Vec<_>>()
            })
            .collect();
        let mut spec = json!({"grants": grants});
        for (field, value) in
            [("region", &self.region), ("roleArn", &self.role), ("externalId", &self.external_id)]
        {
            if let Some(value) = value {
                spec[field] = json!(value);
            }
        }
        json!({
            "apiVersion": "parameter-mirror.dev/v1alpha1", "kind": "ParameterSource", "metadata": {"name": name}, "spec": spec,
        })
    }
}
