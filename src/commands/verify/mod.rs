//! `verify`: checks from outside the operator whether mirrors can be relied on when SSM is down, for drills, for
//! pipelines and after an installation. It changes nothing, and prints no value.
//!
//! [`collect()`] asks the API server and Redis, [`judge()`] interprets the answers, and a [`Report`] presents the findings.

mod collect;
mod dependents;
mod dry_read;
mod facts;
mod finding;
mod judge;
mod judge_mirror;

use std::process::ExitCode;

pub use collect::collect;
pub use facts::{Facts, FoundMirror, Home, Leader, MirrorFacts, RedisFacts};
pub use finding::{Finding, Level, Report};
pub use judge::judge;

use crate::cli::{OutputFormat, VerifyArgs};
use crate::kubernetes::client::connect;

/// Prints the report. An error means that nothing could be checked.
pub async fn verify(args: &VerifyArgs) -> anyhow::Result<ExitCode> {
    let report = judge(&collect(args, connect(&(&args.cluster).into()).await?).await?);
    match args.output {
        OutputFormat::Text => print!("{}", report.text()),
        OutputFormat::Json => print!("{}", report.json()?),
    }
    Ok(report.exit_code(args.allow_warnings))
}
