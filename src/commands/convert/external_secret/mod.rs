//! Understands an `ExternalSecret`: the source, the interval, the parameters and the Secret of its mirror.

mod find;
mod remote_ref;
pub mod target;
mod wanted;

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};

use crate::commands::admission::Admission;
use crate::commands::convert::external_secret::wanted::{Entry, Wanted};
use crate::commands::convert::fields::SpecFields;
use crate::commands::convert::input::Object;
use crate::commands::convert::notes::Notes;
use crate::commands::convert::store::{Store, StoreName, Stores};

/// What is known of an `ExternalSecret` before its neighbours are looked at.
#[derive(Debug)]
pub struct Draft {
    pub namespace: String,
    /// The store that it reads from, if there is one for all that it reads.
    pub store: Option<StoreName>,
    /// The Secret that it writes, if it writes one.
    pub secret: Option<String>,
    /// The mirror; none if nothing can be mirrored.
    pub mirror: Option<Value>,
    /// The paths that the mirror needs grants for.
    pub paths: Vec<String>,
    pub notes: Notes,
}

/// Understands an `ExternalSecret`. What is lost is in the notes of the draft.
pub fn understand(object: Object, stores: &Stores, judge: &Admission) -> Draft {
    let mut notes = Notes::about(object.about());
    let Object { namespace, name, metadata, mut spec, .. } = object;
    let mut target = spec.object("target");
    let secret = target.text("name").unwrap_or_else(|| name.clone());
    let policy = target.text("creationPolicy");
    let writes = policy.as_deref() != Some("None");
    let mut entries = |field: &str| {
        let items = spec.list(field).into_iter();
        items.map(|item| Entry::new(item, &namespace, &mut notes)).collect::<Vec<_>>()
    };
    let (listed, named) = (entries("dataFrom"), entries("data"));
    let stated = StoreName::of_reference(spec.object("secretStoreRef"), &namespace, &mut notes);
    let is_stated = stated.is_some();
    let of_entries: BTreeSet<_> =
        listed.iter().chain(&named).filter_map(|entry| entry.store.clone()).collect();
    let store = stated.or_else(|| of_entries.first().filter(|_| of_entries.len() == 1).cloned());
    let prefix = prefix(store.as_ref(), &of_entries, stores, &mut notes);
    let mut draft = Draft {
        namespace,
        store,
        secret: writes.then_some(secret.clone()),
        mirror: None,
        paths: Vec::new(),
        notes,
    };
    let (Some(store), Some(prefix)) = (&draft.store, prefix) else { return draft };

    let notes = &mut draft.notes;
    target::note_tools(&metadata, notes);
    let interval = interval(&mut spec, notes);
    let target = target::understand(&secret, policy.as_deref(), target, metadata, judge, notes);
    let mut wanted = Wanted::new(store, is_stated, &prefix, target.optional);
    for entry in listed {
        wanted.data_from(entry, notes);
    }
    for entry in named {
        wanted.data(entry, notes);
    }
    wanted.note_double_keys(notes);
    spec.rest(notes);
    let parameters = wanted.parameters();
    if parameters.is_empty() {
        notes.lost("spec", "nothing of it can be mirrored");
    } else if writes {
        let mut secret = target.secret;
        if let Some(format) = wanted.key_format() {
            secret["keyFormat"] = json!(format);
        }
        draft.mirror = Some(json!({
            "apiVersion": "parameter-mirror.dev/v1alpha1", "kind": "ParameterMirror",
            "metadata": {"name": name, "namespace": draft.namespace},
            "spec": {"sourceRef": {"name": store.source()}, "interval": interval, "parameters": parameters, "secret": secret},
        }));
        draft.paths = wanted.paths();
    }
    draft
}

/// Returns the prefix of the store's parameters; `None` if nothing can be read through it.
fn prefix(
    store: Option<&StoreName>,
    of_entries: &BTreeSet<StoreName>,
    stores: &Stores,
    notes: &mut Notes,
) -> Option<String> {
    let at = "spec.secretStoreRef";
    let Some(store) = store else {
        let all: Vec<String> = of_entries.iter().map(StoreName::description).collect();
        let why = match all.as_slice() {
            [] => "it names no store; if this is a patch, convert what `kustomize build` prints".to_owned(),
            all => {
                let all = all.join(" and ");
                format!("its entries read from {all}; a mirror reads from one source: make one for each")
            }
        };
        notes.lost(at, &why);
        return None;
    };
    match stores.get(store) {
        Some(Store::ParameterStore(store)) => Some(store.prefix.clone()),
        Some(Store::Other(what)) => {
            let why =
                format!("{} is of {what}: it stays with External Secrets Operator", store.description());
            notes.lost(at, &why);
            None
        }
        None => {
            let why = format!(
                "{} is not among the objects that are read: add it, or write the source {} yourself",
                store.description(),
                store.source()
            );
            notes.lost(at, &why);
            Some(String::new())
        }
    }
}

fn interval(spec: &mut SpecFields, notes: &mut Notes) -> String {
    let never = "a mirror is read again and again, on its interval";
    spec.only("refreshPolicy", "Periodic", never, notes);
    if spec.take("syncWindows").is_some() {
        notes.lost("spec.syncWindows", never);
    }
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
