//! Judges an object by the rules of its CRD, as the API server does when the object is created: the limits of the schema, and the
//! rules in CEL.
//!
//! The rules are those of [`crate::api::crds()`], so there is no second list of them. `tests/integration/admission.rs` compares
//! the verdicts with those of an API server.

use anyhow::Context as _;
use kube_cel::{CompiledSchema, Validator, apply_defaults, compile_schema};
use serde_json::{Value, json};

use crate::api::crds;
use crate::mirror::plan::is_object_name;

/// The rules of both kinds.
#[derive(Debug)]
pub struct Admission {
    validator: Validator,
    kinds: Vec<Rules>,
}

#[derive(Debug)]
struct Rules {
    kind: String,
    schema: Value,
    compiled: CompiledSchema,
}

impl Admission {
    /// Compiles the rules of both CRDs.
    pub fn new() -> anyhow::Result<Self> {
        let mut kinds = Vec::new();
        for crd in crds() {
            let schema = crd.spec.versions.into_iter().find_map(|version| version.schema);
            let schema =
                schema.and_then(|schema| schema.open_api_v3_schema).context("a CRD has no schema")?;
            let schema = serde_json::to_value(schema).context("a schema is not JSON")?;
            let compiled = compile_schema(&schema);
            kinds.push(Rules { kind: crd.spec.names.kind, schema, compiled });
        }
        Ok(Self { validator: Validator::new(), kinds })
    }

    /// Returns everything for which the API server would refuse to create `object`, each with its field; empty if it would accept
    /// it.
    #[must_use]
    pub fn faults(&self, object: &Value) -> Vec<String> {
        let Some(rules) = self.kinds.iter().find(|rules| object["kind"] == json!(rules.kind)) else {
            return vec![format!("kind: {} is not a kind of parameter-mirror", object["kind"])];
        };
        let mut faults = names(&object["metadata"]);
        let object = apply_defaults(&rules.schema, object);
        limits(&rules.schema, &object, "", &mut faults);
        let mut broken = self.validator.validate_compiled(&rules.compiled, &object, None);
        // The evaluator takes the members of an object in any order.
        broken
            .sort_by(|one, other| (&one.field_path, &one.message).cmp(&(&other.field_path, &other.message)));
        for error in broken {
            if KEY_RULES.iter().all(|(begins, _)| !error.message.starts_with(begins)) {
                faults.push(fault(&error.field_path, found(&object, &error.field_path), &error.message));
            }
        }
        faults.extend(about_keys(&rules.schema, &object));
        faults
    }
}

/// A rule about the keys of a map: how its message begins, and whether a Secret keeps it.
type KeyRule = (&'static str, fn(&Value) -> bool);

/// The evaluator escapes the keys of maps like names of fields: `a.b/c` is `a__dot__b__slash__c` to it. What these rules say about
/// labels and annotations is judged here. `tests/integration/admission.rs` compares that too.
const KEY_RULES: [KeyRule; 4] = [
    ("labels: app.kubernetes.io", |secret| {
        keys(secret, "labels").all(|key| !is_ours(key) && key != "app.kubernetes.io/managed-by")
    }),
    ("labels: a key", |secret| keys(secret, "labels").all(|key| key.chars().count() <= 317)),
    ("annotations: more than", |secret| {
        let all = secret["annotations"].as_object().into_iter().flatten();
        let one = |(key, text): (&String, &Value)| {
            key.chars().count() + text.as_str().map_or(0, |text| text.chars().count())
        };
        all.map(one).sum::<usize>() <= 16_384
    }),
    ("annotations: parameter-mirror.dev", |secret| {
        keys(secret, "annotations").all(|key| !is_ours(key) && !is_of_kubernetes(key))
    }),
];

fn keys<'s>(secret: &'s Value, map: &str) -> impl Iterator<Item = &'s str> {
    secret[map].as_object().into_iter().flatten().map(|(key, _)| key.as_str())
}

fn is_ours(key: &str) -> bool {
    key.starts_with("parameter-mirror.dev/")
}

fn is_of_kubernetes(key: &str) -> bool {
    let of = |domain: &str, owned: &str| domain == owned || domain.ends_with(&format!(".{owned}"));
    key.split_once('/').is_some_and(|(domain, _)| of(domain, "kubernetes.io") || of(domain, "k8s.io"))
}

/// Judges the rules about keys, in the words of the CRD.
fn about_keys(schema: &Value, object: &Value) -> Vec<String> {
    let secret = &object["spec"]["secret"];
    let rules = &schema["properties"]["spec"]["properties"]["secret"]["x-kubernetes-validations"];
    let messages = rules.as_array().into_iter().flatten().filter_map(|rule| rule["message"].as_str());
    let broken = |message: &&str| {
        KEY_RULES.iter().any(|(begins, is_kept)| message.starts_with(begins) && !is_kept(secret))
    };
    messages.filter(broken).map(|message| fault("spec.secret", None, message)).collect()
}

/// Checks the names that become parts of the object's path.
fn names(metadata: &Value) -> Vec<String> {
    let mut faults = Vec::new();
    let name = metadata["name"].as_str().unwrap_or_default();
    if !is_object_name(name) {
        faults.push(fault(
            "metadata.name",
            Some(&metadata["name"]),
            "the name of an object is a lower-case DNS name",
        ));
    }
    let is_namespace = |name: &str| is_object_name(name) && name.len() <= 63 && !name.contains('.');
    if metadata["namespace"].as_str().is_some_and(|namespace| !is_namespace(namespace)) {
        let what = "the name of a namespace is a lower-case DNS label of at most 63 characters";
        faults.push(fault("metadata.namespace", Some(&metadata["namespace"]), what));
    }
    faults
}

/// Checks the limits of a schema, for the keywords that our CRDs use. Types need no check: the objects are our own.
fn limits(schema: &Value, value: &Value, path: &str, faults: &mut Vec<String>) {
    let bound = |keyword: &str| schema[keyword].as_u64().and_then(|bound| usize::try_from(bound).ok());
    let mut within = |count: usize, least: &str, most: &str, of: &str| {
        if let Some(least) = bound(least).filter(|&least| count < least) {
            faults.push(fault(path, None, &format!("must have at least {least} {of}")));
        }
        if let Some(most) = bound(most).filter(|&most| count > most) {
            faults.push(fault(path, None, &format!("must have at most {most} {of}")));
        }
    };
    match value {
        Value::String(text) => within(text.chars().count(), "minLength", "maxLength", "characters"),
        Value::Array(items) => within(items.len(), "minItems", "maxItems", "items"),
        Value::Object(members) => within(members.len(), "minProperties", "maxProperties", "entries"),
        _ => {}
    }
    if let Some(allowed) = schema["enum"].as_array().filter(|allowed| !allowed.contains(value)) {
        let allowed: Vec<String> = allowed.iter().map(Value::to_string).collect();
        faults.push(fault(path, Some(value), &format!("supported values: {}", allowed.join(", "))));
    }
    if let Some(number) = value.as_f64() {
        if schema["minimum"].as_f64().is_some_and(|least| number < least) {
            faults.push(fault(path, Some(value), &format!("must be at least {}", schema["minimum"])));
        }
        if schema["maximum"].as_f64().is_some_and(|most| number > most) {
            faults.push(fault(path, Some(value), &format!("must be at most {}", schema["maximum"])));
        }
    }
    for (index, item) in value.as_array().into_iter().flatten().enumerate() {
        limits(&schema["items"], item, &format!("{path}[{index}]"), faults);
    }
    for field in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        if value.is_object() && value.get(field).is_none() {
            faults.push(fault(&join(path, field), None, "required"));
        }
    }
    for (name, member) in value.as_object().into_iter().flatten() {
        let of_member = schema["properties"].get(name).unwrap_or(&schema["additionalProperties"]);
        limits(of_member, member, &join(path, name), faults);
    }
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

/// Returns the value at a path like `spec.parameters[0].name`.
fn found<'object>(object: &'object Value, path: &str) -> Option<&'object Value> {
    object.pointer(&format!("/{}", path.replace(['.', '['], "/").replace(']', "")))
}

/// Returns a line with the field, its value if that is text, and the rule. Some messages of the CRDs begin with the field.
fn fault(path: &str, value: Option<&Value>, message: &str) -> String {
    match value.and_then(Value::as_str) {
        Some(text) => format!("{path}: \"{}\": {message}", text.escape_debug()),
        None if path.is_empty() || message.starts_with(path) => message.to_owned(),
        None => format!("{path}: {message}"),
    }
}
