//! Log lines: text for people, JSON for machines.

use tracing_subscriber::EnvFilter;

use crate::cli::LogFormat;

/// Crates that log what requests and answers hold, secrets and credentials among it. They are silent whatever the filter says.
const SECRETIVE: [&str; 8] = [
    "aws_smithy_runtime",
    "aws_smithy_http",
    "aws_sdk",
    "aws_sigv4",
    "aws_runtime",
    "aws_config",
    "h2",
    "hyper::proto",
];
/// Crates that log of connections only. They are silent unless the filter names them.
const QUIET: [&str; 6] = ["aws_smithy", "hyper", "hyper_util", "kube", "rustls", "tower"];

/// Starts logging to standard output. `kube=debug` or `rustls=debug` in the filter shows what the connections do.
pub fn start(format: LogFormat, filter: &str) -> anyhow::Result<()> {
    let mut directives = EnvFilter::try_new(filter)?;
    let asked = |target: &str| filter.split(',').any(|directive| directive.trim_start().starts_with(target));
    let quiet = QUIET.into_iter().filter(|target| !asked(target));
    for target in SECRETIVE.into_iter().chain(quiet) {
        directives = directives.add_directive(format!("{target}=off").parse()?);
    }
    let lines = tracing_subscriber::fmt().with_env_filter(directives);
    match format {
        LogFormat::Text => lines.with_ansi(false).with_target(false).init(),
        LogFormat::Json => lines.json().flatten_event(true).with_span_list(false).with_target(false).init(),
    }
    std::panic::set_hook(Box::new(|panic| {
        // The location and not the text: the text of a panic can quote the data.
        let place = panic.location().map_or_else(String::new, ToString::to_string);
        tracing::error!(place, "panic; this is a fault of the operator");
    }));
    Ok(())
}
