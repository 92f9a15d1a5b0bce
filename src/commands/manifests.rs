//! The subcommands that only print YAML on standard output, ready for `kubectl apply -f -`.

use anyhow::{Context as _, bail};
use clap::CommandFactory as _;
use serde::Serialize;

use crate::api::{GrantSpec, ParameterSource, ParameterSourceSpec, crds};
use crate::cli::{Cli, CompletionArgs, KeygenArgs, SourceArgs};
use crate::commands::admission::Admission;
use crate::controller::signing_keys;

/// Returns both custom resource definitions as YAML.
pub fn crd() -> anyhow::Result<String> {
    let documents: Vec<String> = crds().iter().map(yaml).collect::<anyhow::Result<_>>()?;
    Ok(documents.join("---\n"))
}

/// Returns a `ParameterSource` as YAML.
pub fn source(args: SourceArgs) -> anyhow::Result<String> {
    let grants = args
        .grants
        .into_iter()
        .map(|(namespace, paths)| GrantSpec { namespaces: vec![namespace], paths, ..GrantSpec::default() })
        .collect();
    let spec = ParameterSourceSpec {
        region: args.region,
        role_arn: args.role_arn,
        external_id: args.external_id,
        grants,
        ..ParameterSourceSpec::default()
    };
    let source = ParameterSource::new(&args.name, spec);
    accepted(&source)?;
    yaml(&source)
}

/// Fails with the words of the CRD if the API server would refuse the object.
pub(super) fn accepted(object: &impl Serialize) -> anyhow::Result<()> {
    let faults = Admission::new()?.faults(&serde_json::to_value(object)?);
    if faults.is_empty() { Ok(()) } else { bail!("the API server would refuse this: {}", faults.join("; ")) }
}

/// Returns a new key Secret as YAML. Printing its values is the purpose of this command.
pub fn keygen(args: &KeygenArgs) -> anyhow::Result<String> {
    eprintln!(
        "warning: this replaces all keys. Readers of encrypted values need new sub-keys, and every target is written again after the next \
         good read of SSM: never apply it in an outage of SSM"
    );
    let secret =
        signing_keys::manifest(&args.namespace, &args.name).context("no randomness to make a key from")?;
    yaml(&secret)
}

/// Returns a completion script.
#[must_use]
pub fn completion(args: &CompletionArgs) -> String {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "parameter-mirror", &mut script);
    String::from_utf8_lossy(&script).into_owned()
}

fn yaml(object: &impl Serialize) -> anyhow::Result<String> {
    serde_yaml::to_string(object).context("cannot be written as YAML")
}
