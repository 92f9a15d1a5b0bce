//! `convert`: turns objects of External Secrets Operator (AWS Parameter Store) into sources and mirrors that give the same Secrets.
//!
//! It names what it cannot carry over, and never guesses. It reads only the objects: no cluster, no SSM.

mod external_secret;
mod fields;
mod find;
mod print;
mod store;

use std::collections::BTreeMap;
use std::io::Read as _;
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use serde_json::Value;

use crate::cli::ConvertArgs;
use crate::mirror::plan::is_object_name;
use external_secret::Converted;
use fields::{Notes, SpecFields};
use parameter_mirror_format::humanize::printable;
use store::{Store, StoreName};

/// Exit code: something could not be carried over.
const PARTIAL: u8 = 3;

/// Prints YAML on standard output, and notes on standard error.
pub fn convert(args: &ConvertArgs) -> anyhow::Result<ExitCode> {
    let text = if args.file.as_os_str() == "-" {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).context("standard input cannot be read")?;
        text
    } else {
        std::fs::read_to_string(&args.file)
            .with_context(|| format!("{} cannot be read", args.file.display()))?
    };
    let conversion = Conversion::of(&text, &args.namespace)?;
    print!("{}", conversion.yaml()?);
    eprint!("{}", conversion.summary());
    Ok(ExitCode::from(if conversion.is_whole() || args.allow_partial { 0 } else { PARTIAL }))
}

/// The result of a conversion.
#[derive(Debug)]
pub struct Conversion {
    sources: Vec<(Value, Notes)>,
    mirrors: Vec<(ConvertedMirror, Notes)>,
    /// Notes on objects that have no counterpart.
    others: Vec<Notes>,
}

/// A mirror, and the `ExternalSecret` that it was.
#[derive(Debug)]
struct ConvertedMirror {
    namespace: String,
    name: String,
    converted: Option<Converted>,
}

/// An object of the input.
struct Object {
    api_version: String,
    kind: String,
    namespace: Option<String>,
    name: String,
    spec: SpecFields,
}

impl Object {
    /// Refuses names that no API server accepts, because the names of converted objects go into commands.
    fn check(&self) -> anyhow::Result<()> {
        if !self.api_version.starts_with("external-secrets.io/") {
            return Ok(());
        }
        for name in [Some(&self.name), self.namespace.as_ref()].into_iter().flatten() {
            if !is_object_name(name) {
                bail!("`{}` is not a name that Kubernetes takes; nothing is converted", printable(name));
            }
        }
        Ok(())
    }
}

impl Conversion {
    /// Converts all documents of `text`; an object without a namespace is in `namespace`.
    pub fn of(text: &str, namespace: &str) -> anyhow::Result<Self> {
        let documents: Vec<Value> = serde_yaml::from_multiple(text).context("this is not YAML")?;
        let (mut stores, mut wanted, mut others) = (BTreeMap::new(), Vec::new(), Vec::new());
        let found: Vec<Object> = documents.into_iter().flat_map(objects).collect();
        found.iter().try_for_each(Object::check)?;
        if !is_object_name(namespace) {
            bail!("--namespace `{}` is not the name of a namespace", printable(namespace));
        }
        if found.is_empty() {
            bail!("there is no object of Kubernetes in it");
        }
        for object in found {
            let own = object.namespace.clone().unwrap_or_else(|| namespace.to_owned());
            let is_eso = ["external-secrets.io/v1", "external-secrets.io/v1beta1"]
                .contains(&object.api_version.as_str());
            let store_name = |namespace| StoreName { namespace, name: object.name.clone() };
            match object.kind.as_str() {
                "SecretStore" if is_eso => insert(store_name(Some(own)), object.spec, &mut stores),
                "ClusterSecretStore" if is_eso => insert(store_name(None), object.spec, &mut stores),
                "ExternalSecret" if is_eso => wanted.push((own, object.name, object.spec)),
                kind => {
                    let mut notes = Notes::about(format!("{kind} {}", object.name));
                    notes.lost("kind", &no_counterpart(&object.api_version, kind));
                    others.push(notes);
                }
            }
        }
        let mirrors = wanted
            .into_iter()
            .map(|(namespace, name, spec)| mirror(namespace, name, spec, &mut stores))
            .collect();
        let sources = stores
            .into_iter()
            .map(|(name, (store, mut notes))| {
                (store.map_or(Value::Null, |store| store.source(&name.source(), &mut notes)), notes)
            })
            .collect();
        Ok(Self { sources, mirrors, others })
    }

    /// Whether everything was carried over.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        !self.notes().any(Notes::has_lost)
    }

    fn notes(&self) -> impl Iterator<Item = &Notes> {
        let sources = self.sources.iter().map(|(_, notes)| notes);
        sources.chain(self.mirrors.iter().map(|(_, notes)| notes)).chain(&self.others)
    }
}

type Stores = BTreeMap<StoreName, (Option<Store>, Notes)>;

fn insert(name: StoreName, spec: SpecFields, stores: &mut Stores) {
    let mut notes = Notes::about(name.description());
    let store = store::store(spec, &mut notes);
    stores.insert(name, (store, notes));
}

fn mirror(
    namespace: String,
    name: String,
    spec: SpecFields,
    stores: &mut Stores,
) -> (ConvertedMirror, Notes) {
    let mut notes = Notes::about(format!("ExternalSecret {namespace}/{name}"));
    let prefix = |store: &StoreName| match stores.get(store) {
        Some((Some(store), _)) => store.prefix.clone(),
        _ => String::new(),
    };
    let mut converted = external_secret::convert(&namespace, &name, spec, prefix, &mut notes);
    if let Some(found) = &mut converted {
        match stores.get_mut(&found.store) {
            Some((Some(store), _)) if found.spec.is_some() => {
                found.paths.iter().for_each(|path| store.grant(&namespace, path));
            }
            Some((Some(_), _)) => {}
            Some((None, _)) => {
                notes.lost(
                    "spec.secretStoreRef",
                    &format!("{} is not of AWS Parameter Store", found.store.description()),
                );
                found.spec = None;
            }
            None => notes.lost(
                "spec.secretStoreRef",
                &format!(
                    "{} is not among these objects: add it, or write the source {} yourself",
                    found.store.description(),
                    found.store.source()
                ),
            ),
        }
    }
    (ConvertedMirror { namespace, name, converted }, notes)
}

/// Returns the objects of a document: the document itself, or the items of a list as `kubectl get -o yaml` prints it.
fn objects(document: Value) -> Vec<Object> {
    let mut object = SpecFields::of("", document);
    let Some(kind) = object.text("kind") else { return Vec::new() };
    if kind == "List" {
        let Some(Value::Array(items)) = object.take("items") else { return Vec::new() };
        return items.into_iter().flat_map(objects).collect();
    }
    let mut metadata = object.object("metadata");
    vec![Object {
        api_version: object.text("apiVersion").unwrap_or_default(),
        kind,
        namespace: metadata.text("namespace"),
        name: metadata.text("name").unwrap_or_default(),
        spec: object.object("spec"),
    }]
}

fn no_counterpart(api_version: &str, kind: &str) -> String {
    match kind {
        "PushSecret" => {
            "parameters are read and never written: keep External Secrets Operator for it".to_owned()
        }
        "ClusterExternalSecret" => {
            "a mirror is made per namespace: convert the ExternalSecrets that it has made".to_owned()
        }
        _ if api_version.starts_with("generators.external-secrets.io/") => {
            "a generator: it makes values, and SSM has none to mirror".to_owned()
        }
        _ if api_version.starts_with("external-secrets.io/") => {
            format!(
                "{api_version} is not read; v1 and v1beta1 are: kubectl get -o yaml shows the one that is stored"
            )
        }
        _ => "not an object of External Secrets Operator".to_owned(),
    }
}
