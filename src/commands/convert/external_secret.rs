//! Converts an `ExternalSecret` into the spec of a `ParameterMirror`: which parameters become which keys.
//!
//! Read for this, of external-secrets: `apis/externalsecrets/v1/externalsecret_types.go` and the provider
//! `parameterstore.go`. ESO reads an entry of `data` with `GetParameter` as `prefix + key[:version]`. `find` lists
//! below a path, without the prefix; its keys are whole names, rewritten, or with `_` for every character that a Secret
//! key cannot have.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use crate::api::{ParameterMirrorSpec, SecretType};
use crate::commands::convert::fields::{Notes, SpecFields};
use crate::commands::convert::find;
use crate::commands::convert::store::StoreName;
use crate::mirror::plan::{Plan, PlanInput};
use crate::mirror::selection::normalised;

/// The result of converting an `ExternalSecret`.
#[derive(Debug)]
pub struct Converted {
    /// The store it reads from.
    pub store: StoreName,
    /// The Secret it writes.
    pub secret: String,
    /// `spec` of the mirror; `None` if there is nothing to mirror.
    pub spec: Option<Value>,
    /// The paths that the mirror needs grants for.
    pub paths: Vec<String>,
}

/// Returns the store that a `secretStoreRef` names.
pub fn store_of(mut reference: SpecFields, namespace: &str) -> Option<StoreName> {
    let name = reference.text("name")?;
    let is_cluster = reference.text("kind").as_deref() == Some("ClusterSecretStore");
    Some(StoreName { namespace: (!is_cluster).then(|| namespace.to_owned()), name })
}

/// Converts the spec of the `ExternalSecret` `name`; `prefix` returns the prefix of a store.
pub fn convert(
    namespace: &str,
    name: &str,
    mut spec: SpecFields,
    prefix: impl Fn(&StoreName) -> String,
    notes: &mut Notes,
) -> Option<Converted> {
    let Some(store) = store_of(spec.object("secretStoreRef"), namespace) else {
        notes.lost("spec.secretStoreRef", "it names no store for the whole; a mirror reads from one source");
        return None;
    };
    let interval = interval(&mut spec, notes);
    let target = target(spec.object("target"), name, notes);
    let mut wanted = Wanted { optional: target.optional, ..Wanted::default() };
    for item in spec.list("dataFrom") {
        wanted.data_from(item, &store, namespace, notes);
    }
    let prefix = prefix(&store);
    for item in spec.list("data") {
        wanted.data(item, &prefix, &store, namespace, notes);
    }
    spec.rest(notes);
    let parameters = wanted.parameters();
    let paths = wanted.paths();
    let mut secret = target.secret;
    if let Some(format) = wanted.key_format {
        secret["keyFormat"] = json!(format);
    }
    secret["name"] = json!(target.name);
    let spec =
        json!({"sourceRef": {"name": store.source()}, "interval": interval, "parameters": parameters, "secret": secret});
    let spec = if parameters.is_empty() {
        notes.lost("spec", "nothing of it can be mirrored");
        None
    } else {
        check(&spec, name, namespace, notes);
        Some(spec)
    };
    Some(Converted { store, secret: target.name, spec, paths })
}

/// Plans the result as the operator would, and notes why it is refused, if it is.
fn check(spec: &Value, name: &str, namespace: &str, notes: &mut Notes) {
    let around = PlanInput {
        cluster: "",
        namespace,
        namespace_labels: &BTreeMap::new(),
        mirror: name,
        source: None,
        drill_until: None,
        redis_prefix: "",
        key_secret: None,
    };
    let judged = serde_json::from_value::<ParameterMirrorSpec>(spec.clone());
    let refusal = match judged {
        Ok(spec) => Plan::new(&spec, &around).err().map(|refusal| refusal.to_string()),
        Err(error) => Some(error.to_string()),
    };
    if let Some(refusal) = refusal {
        notes.lost("the mirror is not valid", &refusal);
    }
}

fn interval(spec: &mut SpecFields, notes: &mut Notes) -> String {
    let never = "a mirror is read again and again, on its interval";
    spec.only("refreshPolicy", "Periodic", never, notes);
    let Some(text) = spec.text("refreshInterval") else { return "1h".to_owned() };
    let parsed: Option<Duration> =
        text.parse::<kube::core::Duration>().ok().filter(|parsed| !parsed.is_negative()).map(Into::into);
    match parsed {
        None => {
            notes.lost("spec.refreshInterval", &format!("{text} is not a duration"));
            "1h".to_owned()
        }
        Some(Duration::ZERO) => {
            notes.lost(
                "spec.refreshInterval",
                &format!("{text} means once and never again: {never} (24h at most)"),
            );
            "24h".to_owned()
        }
        Some(short) if short < Duration::from_secs(10) => {
            notes.know("spec.refreshInterval", &format!("{text} is less than the shortest interval, 10s"));
            "10s".to_owned()
        }
        Some(long) if long > Duration::from_hours(24) => {
            notes.know("spec.refreshInterval", &format!("{text} is more than the longest interval, 24h"));
            "24h".to_owned()
        }
        Some(_) => text,
    }
}

struct Target {
    name: String,
    /// `spec.secret` without name and key format.
    secret: Value,
    /// Whether ESO tolerates that SSM does not have a parameter.
    optional: bool,
}

fn target(mut target: SpecFields, name: &str, notes: &mut Notes) -> Target {
    let at = |field: &str| format!("spec.target.{field}");
    let mut secret = json!({});
    match target.text("creationPolicy").as_deref() {
        None | Some("Owner") => notes.know(
            &at("creationPolicy"),
            "ESO deletes the Secret with the ExternalSecret; a mirror keeps it, unless secret.deletionPolicy is Delete",
        ),
        Some("Orphan") => {}
        Some(other) => notes.lost(&at("creationPolicy"), &format!("{other}: a mirror has its Secret for itself")),
    }
    let optional = match target.text("deletionPolicy").as_deref() {
        Some("Delete") => {
            let why = "Delete: a mirror keeps its last set when SSM has none of the parameters any more";
            notes.lost(&at("deletionPolicy"), why);
            true
        }
        Some("Merge") => true,
        _ => false,
    };
    if target.take("immutable") == Some(Value::Bool(true)) {
        notes.lost(&at("immutable"), "an immutable Secret cannot be kept up to date");
    }
    template(target.object("template"), &mut secret, notes);
    let name = target.text("name").unwrap_or_else(|| name.to_owned());
    target.rest(notes);
    Target { name, secret, optional }
}

fn template(mut template: SpecFields, secret: &mut Value, notes: &mut Notes) {
    template.take("engineVersion");
    template.take("mergePolicy");
    for made in ["data", "templateFrom"] {
        if template.take(made).is_some_and(|made| made != json!({}) && made != json!([])) {
            let why = "values are mirrored as SSM has them; put the finished value into SSM, or template where it is used";
            notes.lost(&template.at(made), why);
        }
    }
    if let Some(type_) = template.text("type") {
        match serde_json::from_value::<SecretType>(json!(type_)) {
            Ok(_) => secret["type"] = json!(type_),
            Err(_) => notes.lost(&template.at("type"), &format!("a mirror writes no Secret of type {type_}")),
        }
    }
    let mut metadata = template.object("metadata");
    for kind in ["labels", "annotations"] {
        let (literal, made): (Vec<_>, Vec<_>) =
            metadata.texts(kind).into_iter().partition(|(_, text)| !text.contains("{{"));
        for (name, _) in made {
            notes.lost(&format!("{}.{name}", metadata.at(kind)), "a template");
        }
        if !literal.is_empty() {
            secret[kind] = literal.into_iter().map(|(name, text)| (name, json!(text))).collect();
        }
    }
    metadata.rest(notes);
    template.rest(notes);
}

/// The selections collected so far.
#[derive(Default)]
struct Wanted {
    /// Secret keys, each with the name that it selects. Of two entries with the same key the last counts, as in ESO.
    names: Vec<(String, String)>,
    listed: Vec<String>,
    key_format: Option<&'static str>,
    optional: bool,
}

impl Wanted {
    fn data(
        &mut self,
        mut item: SpecFields,
        prefix: &str,
        store: &StoreName,
        namespace: &str,
        notes: &mut Notes,
    ) {
        let at = item.path.clone();
        let key = item.text("secretKey").unwrap_or_default();
        let mut remote = item.object("remoteRef");
        if !reads_from(&mut item, store, namespace, notes) {
            return;
        }
        item.rest(notes);
        let Some(name) = named(&mut remote, prefix, &key, notes) else { return };
        remote.rest(notes);
        if let Some((other, _)) = self.names.iter().find(|(other, held)| *held == name && *other != key) {
            let why = format!(
                "{key} and {other} are the same parameter {name}, which has one key in a mirror: {key} is left out"
            );
            notes.lost(&at, &why);
            return;
        }
        self.names.retain(|(held, _)| *held != key);
        self.names.push((key, name));
    }

    fn data_from(&mut self, mut item: SpecFields, store: &StoreName, namespace: &str, notes: &mut Notes) {
        let at = item.path.clone();
        if !reads_from(&mut item, store, namespace, notes) {
            return;
        }
        if item.take("extract").is_some() {
            notes.lost(
                &format!("{at}.extract"),
                "it makes keys of the members of JSON in one parameter; put each member into a parameter of its own",
            );
            return;
        }
        match find::listing(item, notes) {
            Some(listing) if self.key_format.is_some_and(|format| format != listing.key_format) => {
                notes.lost(&at, "another way to make keys than that of the entry before; a mirror has one: make two of it");
            }
            Some(listing) => {
                self.key_format = Some(listing.key_format);
                if !self.listed.contains(&listing.path) {
                    self.listed.push(listing.path);
                }
            }
            None => {}
        }
    }

    fn parameters(&self) -> Vec<Value> {
        let listed = self.listed.iter().map(|path| json!({"path": path}));
        let named = self.names.iter().map(|(key, name)| {
            let mut one = json!({"name": name, "key": key});
            if self.optional {
                one["optional"] = json!(true);
            }
            one
        });
        listed.chain(named).collect()
    }

    /// Returns the folder of each name, or the name itself if it has none: less than the store allowed, and enough for
    /// the next parameter that is added beside it.
    fn paths(&self) -> Vec<String> {
        let folder = |(_, name): &(String, String)| {
            let bare = normalised(name.split(':').next().unwrap_or(name));
            match bare.rsplit_once('/') {
                Some((folder, _)) if !folder.is_empty() => folder.to_owned(),
                _ => bare,
            }
        };
        self.listed.iter().cloned().chain(self.names.iter().map(folder)).collect()
    }
}

/// Whether an entry reads from the store of the whole `ExternalSecret`.
fn reads_from(item: &mut SpecFields, store: &StoreName, namespace: &str, notes: &mut Notes) -> bool {
    let mut source = item.object("sourceRef");
    let at = source.path.clone();
    if source.take("generatorRef").is_some() {
        notes.lost(&at, "a generator: it makes values, and SSM has none to mirror");
        return false;
    }
    let reference = source.take("storeRef").map(|own| SpecFields::of(at.clone(), own));
    let own = reference.and_then(|own| store_of(own, namespace));
    if let Some(own) = own.filter(|own| own != store) {
        notes.lost(
            &at,
            &format!(
                "{}: a mirror reads from one source; make a mirror of its own for it",
                own.description()
            ),
        );
        return false;
    }
    source.rest(notes);
    true
}

/// Returns the name to select; `None` if the mirror would hold another value than ESO.
fn named(remote: &mut SpecFields, prefix: &str, key: &str, notes: &mut Notes) -> Option<String> {
    remote.take("conversionStrategy"); // It applies to generated keys, and this key is explicit.
    let at = remote.path.clone();
    let whole = match remote.text("property") {
        None => true,
        Some(property) => {
            let why = format!(
                "{key} is the member {property} of JSON in a parameter; values are mirrored whole. Put it into a parameter of its own"
            );
            notes.lost(&format!("{at}.property"), &why);
            false
        }
    };
    let decoded = remote.only("decodingStrategy", "None", "values are mirrored as SSM has them", notes);
    let value = remote.only("metadataPolicy", "None", "tags are not mirrored", notes);
    remote.only("nullBytePolicy", "Ignore", "values are mirrored as SSM has them", notes);
    let name = remote.text("key")?;
    let version = remote.text("version");
    if name.starts_with("arn:") {
        let why = "an ARN: write the name, and to read another account set roleArn of a source";
        notes.lost(&format!("{at}.key"), why);
        return None;
    }
    let selector = version.map(|version| format!(":{version}")).unwrap_or_default();
    (whole && decoded && value).then(|| format!("{prefix}{name}{selector}"))
}
