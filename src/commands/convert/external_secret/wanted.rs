//! The entries of `data` and `dataFrom`: which parameters, under which keys.
//!
//! Read for this, of external-secrets: `apis/externalsecrets/v1/externalsecret_types.go` and the provider
//! `parameterstore.go`. ESO reads an entry of `data` with `GetParameter` as `prefix + key[:version]`. `find` lists
//! below a path, without the prefix; its keys are whole names, rewritten, or with `_` for every character that a Secret
//! key cannot have.

use serde_json::{Value, json};

use crate::api::KeyFormat;
use crate::commands::convert::external_secret::{find, remote_ref};
use crate::commands::convert::fields::SpecFields;
use crate::commands::convert::notes::Notes;
use crate::commands::convert::store::StoreName;
use crate::mirror::secret_keys::Keys;
use crate::mirror::selection::{PathSelection, Selection, normalised};

/// An entry of `data` or `dataFrom` that was not understood yet.
#[derive(Debug)]
pub struct Entry {
    fields: SpecFields,
    /// The store that it names for itself.
    pub store: Option<StoreName>,
    is_generated: bool,
}

impl Entry {
    /// Takes the reference to a store out of an entry.
    pub fn new(mut fields: SpecFields, namespace: &str, notes: &mut Notes) -> Self {
        let mut source = fields.object("sourceRef");
        let is_generated = source.take("generatorRef").is_some();
        let reference = source.present("storeRef");
        source.rest(notes);
        let store = reference.and_then(|reference| StoreName::of_reference(reference, namespace, notes));
        Self { fields, store, is_generated }
    }

    /// Whether it can be read through the store of the whole mirror.
    fn reads_from(&self, whole: &StoreName, is_stated: bool, notes: &mut Notes) -> bool {
        let at = self.fields.at("sourceRef");
        if self.is_generated {
            notes.lost(&at, "a generator: it makes values, and SSM has none to mirror");
            return false;
        }
        match &self.store {
            Some(own) if own != whole => {
                let why = format!(
                    "{}: a mirror reads from one source; make a mirror of its own for it",
                    own.description()
                );
                notes.lost(&at, &why);
                false
            }
            None if !is_stated => {
                notes.lost(&at, "it names no store, and spec.secretStoreRef is missing");
                false
            }
            _ => true,
        }
    }
}

/// The selections collected so far.
#[derive(Debug)]
pub struct Wanted<'store> {
    store: &'store StoreName,
    /// Whether the store is that of the whole; otherwise each entry names it.
    is_stated: bool,
    prefix: &'store str,
    /// Whether ESO tolerates that SSM does not have a parameter.
    optional: bool,
    names: Vec<Named>,
    listed: Vec<String>,
    key_format: Option<KeyFormat>,
}

/// One parameter under a key.
#[derive(Debug)]
struct Named {
    at: String,
    key: String,
    name: String,
}

impl<'store> Wanted<'store> {
    /// Starts without a selection.
    pub fn new(store: &'store StoreName, is_stated: bool, prefix: &'store str, optional: bool) -> Self {
        Self { store, is_stated, prefix, optional, names: Vec::new(), listed: Vec::new(), key_format: None }
    }

    /// Adds an entry of `data`. Of two entries with the same key the last counts, as in ESO.
    pub fn data(&mut self, entry: Entry, notes: &mut Notes) {
        if !entry.reads_from(self.store, self.is_stated, notes) {
            return;
        }
        let Entry { mut fields, .. } = entry;
        let at = fields.path.clone();
        let key = fields.text("secretKey");
        let remote = fields.object("remoteRef");
        fields.rest(notes);
        let Some(key) = key else {
            notes.lost(&format!("{at}.secretKey"), "it names no key");
            return;
        };
        let Some(name) = remote_ref::name(remote, self.prefix, &key, notes) else { return };
        if let Some(other) = self.names.iter().find(|other| other.name == name && other.key != key) {
            let why = format!(
                "{key} and {} are the same parameter {name}, which has one key in a mirror: {key} is left out",
                other.key
            );
            notes.lost(&at, &why);
            return;
        }
        if self.names.iter().any(|other| other.key == key) {
            notes.know(&at, &format!("the key {key} occurs twice; the last one counts, as in ESO"));
            self.names.retain(|other| other.key != key);
        }
        self.names.push(Named { at, key, name });
    }

    /// Adds an entry of `dataFrom`.
    pub fn data_from(&mut self, entry: Entry, notes: &mut Notes) {
        if !entry.reads_from(self.store, self.is_stated, notes) {
            return;
        }
        let Entry { mut fields, .. } = entry;
        let at = fields.path.clone();
        if let Some(mut extract) = fields.present("extract") {
            let name = extract.text("key").unwrap_or_default();
            let selector = extract.text("version").map(|version| format!(":{version}")).unwrap_or_default();
            let why = format!(
                "it makes keys of the members of JSON in the parameter {}{name}{selector}; put each member into a parameter of its own",
                self.prefix
            );
            notes.lost(&format!("{at}.extract"), &why);
            return;
        }
        if !fields.has("find") {
            notes.lost(&at, "it has neither `find` nor `extract`");
            return;
        }
        match find::listing(fields, notes) {
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

    /// Notes each name that a path selects too, under another key: ESO makes both keys, a mirror only that of the name.
    pub fn note_double_keys(&self, notes: &mut Notes) {
        let path = |path: &String| {
            Selection::Path(PathSelection { path: path.clone(), recursive: true, exclude: [].into() })
        };
        let paths: Vec<Selection> = self.listed.iter().map(path).collect();
        for Named { at, key, name } in &self.names {
            let name = normalised(name);
            let keys = Keys::assign([name.as_str()], &paths, self.key_format.unwrap_or_default());
            let Some(Some(made)) = keys.by_name.get(&name) else { continue };
            if made != key {
                let why = format!(
                    "{name} gets the key {made} from dataFrom too. A parameter has one key in a mirror, which is {key}"
                );
                notes.lost(at, &why);
            }
        }
    }

    /// Returns `spec.parameters`.
    pub fn parameters(&self) -> Vec<Value> {
        let listed = self.listed.iter().map(|path| json!({"path": path}));
        let named = self.names.iter().map(|Named { key, name, .. }| {
            let mut one = json!({"name": name, "key": key});
            if self.optional {
                one["optional"] = json!(true);
            }
            one
        });
        listed.chain(named).collect()
    }

    /// Returns `spec.secret.keyFormat`, if a path needs one.
    pub fn key_format(&self) -> Option<KeyFormat> {
        self.key_format
    }

    /// Returns the folder of each name, or the name itself if it has none: less than the store allowed, and enough for
    /// the next parameter that is added beside it.
    pub fn paths(&self) -> Vec<String> {
        let folder = |Named { name, .. }: &Named| {
            let bare = normalised(name.split(':').next().unwrap_or(name));
            match bare.rsplit_once('/') {
                Some((folder, _)) if !folder.is_empty() => folder.to_owned(),
                _ => bare,
            }
        };
        self.listed.iter().cloned().chain(self.names.iter().map(folder)).collect()
    }
}
