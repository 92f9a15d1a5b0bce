//! Puts the objects of the input together, and decides how much of each is carried over.

use std::collections::BTreeMap;

use anyhow::bail;
use parameter_mirror_format::humanize::printable;
use serde_json::Value;

use crate::api::{ParameterMirror, SecretType};
use crate::commands::admission::Admission;
use crate::commands::convert::external_secret::{Draft, target, understand};
use crate::commands::convert::input::{self, Object, Role};
use crate::commands::convert::notes::Notes;
use crate::commands::convert::store::{self, Store, StoreName, Stores};
use crate::mirror::plan::{Plan, PlanInput};

/// The result of a conversion: everything of the input, and what became of it.
#[derive(Debug, Default)]
pub struct Conversion {
    /// One for each store.
    pub sources: Vec<Converted>,
    /// One for each `ExternalSecret`.
    pub mirrors: Vec<Converted>,
    /// Other objects of External Secrets Operator: they have no counterpart.
    pub unsupported: Vec<Converted>,
    /// How many objects of other kinds there are.
    pub foreign: BTreeMap<String, usize>,
}

/// An object of the input, and what became of it.
#[derive(Debug)]
pub struct Converted {
    pub notes: Notes,
    /// The object to apply, if there is one.
    pub object: Option<Value>,
}

/// How much of an object was carried over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    Complete,
    Partial,
    Nothing,
}

impl Converted {
    /// Returns how much was carried over.
    pub fn extent(&self) -> Extent {
        match &self.object {
            None => Extent::Nothing,
            Some(_) if self.notes.has_lost() => Extent::Partial,
            Some(_) => Extent::Complete,
        }
    }

    /// Withdraws an object with faults, and notes them.
    fn withdraw(&mut self, faults: &[String]) {
        let Some(object) = self.object.take_if(|_| !faults.is_empty()) else { return };
        let of = format!("{} is refused", object["kind"].as_str().unwrap_or_default());
        for fault in faults {
            self.notes.lost(&of, fault);
        }
    }
}

impl Conversion {
    /// Converts all documents of `text`; an object without a namespace is in `namespace`.
    pub fn of(text: &str, namespace: &str) -> anyhow::Result<Self> {
        let judge = Admission::new()?;
        let mut result = Self::default();
        let (mut stores, mut of_stores, mut external) = (Stores::new(), BTreeMap::new(), Vec::new());
        for Distinct { object, twin } in distinct(input::objects(text, namespace)?) {
            let mut notes = Notes::about(object.about());
            match (object.role(), twin) {
                (Role::Unsupported(why), _) => {
                    notes.lost("kind", &why);
                    result.unsupported.push(Converted { notes, object: None });
                }
                (Role::Foreign, _) => *result.foreign.entry(object.kind).or_default() += 1,
                (role, Some(twin)) => {
                    notes.lost("metadata.name", &twin);
                    let list =
                        if role == Role::ExternalSecret { &mut result.mirrors } else { &mut result.sources };
                    list.push(Converted { notes, object: None });
                }
                (Role::ExternalSecret, None) => external.push(object),
                (role, None) => {
                    let namespace = (role == Role::Store).then_some(object.namespace);
                    let name = StoreName { namespace, name: object.name };
                    target::note_tools(&object.metadata, &mut notes);
                    stores.insert(name.clone(), store::understand(object.spec, &mut notes));
                    of_stores.insert(name, notes);
                }
            }
        }
        if result.unsupported.is_empty()
            && result.mirrors.is_empty()
            && external.is_empty()
            && of_stores.is_empty()
        {
            let kinds: Vec<String> = result.foreign.keys().map(|kind| printable(kind)).collect();
            bail!("input contains no objects of External Secrets Operator, only {}", kinds.join(", "));
        }
        let drafts = external.into_iter().map(|object| understand(object, &stores, &judge)).collect();
        result.finish(drafts, stores, of_stores, &judge);
        Ok(result)
    }

    /// Judges mirrors and sources, which depend on each other: a source grants what the mirrors that are printed read, and a mirror
    /// is complete only if its source is.
    fn finish(
        &mut self,
        mut drafts: Vec<Draft>,
        mut stores: Stores,
        mut of_stores: BTreeMap<StoreName, Notes>,
        judge: &Admission,
    ) {
        note_shared_secrets(&mut drafts);
        let mut mirrors = Vec::new();
        for Draft { namespace, store, mirror, paths, notes, .. } in drafts {
            let mut converted = Converted { notes, object: mirror };
            let faults =
                converted.object.as_ref().map(|mirror| mirror_faults(mirror, judge)).unwrap_or_default();
            if !faults.is_empty()
                && converted.object.as_ref().is_some_and(|mirror| mirror.to_string().contains("${"))
            {
                let what = "Flux or envsubst fills in what stands in ${...}: convert what they make of it";
                converted.notes.know("variables", what);
            }
            converted.withdraw(&faults);
            let of = store.as_ref().and_then(|store| stores.get_mut(store));
            if let (Some(_), Some(Store::ParameterStore(store))) = (&converted.object, of) {
                for path in &paths {
                    store.grant(&namespace, path);
                }
            }
            mirrors.push((store, converted));
        }
        let readers = |store: &StoreName| mirrors.iter().filter(|(of, _)| of.as_ref() == Some(store)).count();
        let mut sources = BTreeMap::new();
        for (name, store) in stores {
            let notes = of_stores.remove(&name).unwrap_or_default();
            let source = source(&name, &store, readers(&name), notes, judge);
            sources.insert(name, source);
        }
        note_shared_names(&mut sources);
        for (store, mirror) in &mut mirrors {
            let source = store.as_ref().and_then(|store| Some((store, sources.get(store)?)));
            if let Some((store, _)) =
                source.filter(|(_, source)| mirror.object.is_some() && source.notes.has_lost())
            {
                let why = format!("{} is not carried over whole: see there", store.description());
                mirror.notes.lost("spec.secretStoreRef", &why);
            }
        }
        self.sources.extend(sources.into_values());
        self.mirrors.extend(mirrors.into_iter().map(|(_, mirror)| mirror));
    }

    /// Returns everything of External Secrets Operator, in the order in which it is printed.
    pub fn all(&self) -> impl Iterator<Item = &Converted> {
        self.sources.iter().chain(&self.mirrors).chain(&self.unsupported)
    }

    /// Whether everything was carried over.
    pub fn is_whole(&self) -> bool {
        !self.all().any(|converted| converted.notes.has_lost())
    }
}

/// Makes the source of a store that mirrors read from.
fn source(name: &StoreName, store: &Store, readers: usize, mut notes: Notes, judge: &Admission) -> Converted {
    let store = match store {
        Store::ParameterStore(store) => store,
        // Those that read from it say so.
        Store::Other(_) if readers > 0 => return Converted { notes, object: None },
        Store::Other(what) => {
            notes.lost("spec.provider", &format!("it is of {what}: it stays with External Secrets Operator"));
            return Converted { notes, object: None };
        }
    };
    if store.is_unused() {
        notes.know(
            "kind",
            "no mirror here reads from it, so that there is nothing to grant: no source is printed",
        );
        return Converted { notes, object: None };
    }
    let object = store.source(&name.source());
    let faults = judge.faults(&object);
    let mut converted = Converted { notes, object: Some(object) };
    converted.withdraw(&faults);
    converted
}

/// Returns why a mirror would be refused by the API server, or else by the operator.
fn mirror_faults(mirror: &Value, judge: &Admission) -> Vec<String> {
    let faults = judge.faults(mirror);
    if faults.is_empty() { refusal(mirror).into_iter().collect() } else { faults }
}

/// Plans a mirror as the operator would, and returns why that fails. The operator knows more than the CRD can express, for example
/// that `x` and `/x` are the same parameter.
fn refusal(mirror: &Value) -> Option<String> {
    let mirror: ParameterMirror = match serde_json::from_value(mirror.clone()) {
        Ok(mirror) => mirror,
        Err(error) => return Some(error.to_string()),
    };
    let around = PlanInput {
        cluster: "",
        namespace: mirror.metadata.namespace.as_deref().unwrap_or_default(),
        namespace_labels: &BTreeMap::new(),
        mirror: mirror.metadata.name.as_deref().unwrap_or_default(),
        source: None,
        drill_until: None,
        redis_prefix: "",
        key_secret: None,
    };
    if let Err(refusal) = Plan::new(&mirror.spec, &around) {
        return Some(refusal.to_string());
    }
    let has_paths = mirror.spec.parameters.iter().any(|selection| selection.path.is_some());
    let keys: Vec<&str> =
        mirror.spec.parameters.iter().filter_map(|selection| selection.key.as_deref()).collect();
    let type_ = mirror.spec.secret.as_ref().map_or(SecretType::Opaque, |secret| secret.type_);
    let absent = type_.required_keys().iter().find(|key| !has_paths && !keys.contains(key))?;
    Some(format!(
        "spec.secret.type: a Secret of type {} needs the key {absent}; no parameter has it",
        type_.as_str()
    ))
}

/// Notes each Secret that several write: ESO lets them, and a Secret has one mirror.
fn note_shared_secrets(drafts: &mut [Draft]) {
    let mut writers: BTreeMap<(String, String), Vec<usize>> = BTreeMap::new();
    for (index, draft) in drafts.iter().enumerate() {
        if let Some(secret) = &draft.secret {
            writers.entry((draft.namespace.clone(), secret.clone())).or_default().push(index);
        }
    }
    let abouts: Vec<String> = drafts.iter().map(|draft| draft.notes.about.clone()).collect();
    for ((_, secret), writers) in writers {
        for &index in &writers {
            let Some(draft) = drafts.get_mut(index).filter(|draft| draft.mirror.is_some()) else { continue };
            let others: Vec<&str> = writers
                .iter()
                .filter(|&&other| other != index)
                .filter_map(|&other| abouts.get(other).map(String::as_str))
                .collect();
            if !others.is_empty() {
                let why = format!(
                    "{} writes the Secret {secret} too. A Secret has one mirror: put all parameters into one, or name another Secret",
                    others.join(" and ")
                );
                draft.notes.lost("spec.target.name", &why);
            }
        }
    }
}

/// Withdraws sources of one name: those of `SecretStore a/b-c` and `SecretStore a-b/c`, for example.
fn note_shared_names(sources: &mut BTreeMap<StoreName, Converted>) {
    let mut stores: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, source) in sources.iter() {
        if source.object.is_some() {
            stores.entry(name.source()).or_default().push(name.description());
        }
    }
    for (name, source) in sources.iter_mut() {
        if let Some(several) = stores.get(&name.source()).filter(|several| several.len() > 1) {
            let fault =
                format!("metadata.name: {} would all be the source {}", several.join(" and "), name.source());
            source.withdraw(&[fault]);
        }
    }
}

/// An object of the input, and why it is not converted if another one has its name.
struct Distinct {
    object: Object,
    twin: Option<String>,
}

/// Finds objects of one kind and name. If one of them alone is whole, the others are patches for it; else none is known to be meant.
fn distinct(objects: Vec<Object>) -> Vec<Distinct> {
    let is_whole = |object: &Object| object.spec.has("secretStoreRef") || object.spec.has("provider");
    let mut groups: BTreeMap<String, (usize, usize)> = BTreeMap::new();
    let is_read = |object: &&Object| !matches!(object.role(), Role::Unsupported(_) | Role::Foreign);
    for object in objects.iter().filter(is_read) {
        let (all, whole) = groups.entry(object.about()).or_default();
        *all += 1;
        *whole += usize::from(is_whole(object));
    }
    let twin = |object: &Object| match *groups.get(&object.about())? {
        (0 | 1, _) => None,
        (_, 1) if is_whole(object) => None,
        (all, 1) => Some(format!(
            "one of {all} of this name, and without a store: a patch? Convert what `kustomize build` prints"
        )),
        (all, _) => Some(format!("one of {all} of this name, and it is not known which is meant: leave one")),
    };
    objects.into_iter().map(|object| Distinct { twin: twin(&object), object }).collect()
}
