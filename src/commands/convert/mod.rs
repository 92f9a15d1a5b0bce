//! `convert`: turns objects of External Secrets Operator (AWS Parameter Store) into sources and mirrors that give the same Secrets.
//!
//! It names what it cannot carry over, and never guesses. It reads only the objects: no cluster, no SSM.
//!
//! Three steps: [`input`] parses the documents, [`conversion`] understands them (a store by [`store`], an `ExternalSecret` by
//! [`external_secret`] with the modules below it) and decides what is lost, and [`mod@print`] renders the result.

mod conversion;
mod external_secret;
mod fields;
mod input;
mod notes;
mod print;
mod store;

#[cfg(test)]
mod tests;

use std::io::Read as _;
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use parameter_mirror_format::humanize::printable;

use crate::cli::ConvertArgs;
use crate::mirror::plan::is_object_name;
use conversion::Conversion;

/// Exit code: something could not be carried over.
const PARTIAL: u8 = 3;

/// Prints YAML on standard output, and notes on standard error.
pub fn convert(args: &ConvertArgs) -> anyhow::Result<ExitCode> {
    if !is_object_name(&args.namespace) {
        bail!("--namespace `{}` is not the name of a namespace", printable(&args.namespace));
    }
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
