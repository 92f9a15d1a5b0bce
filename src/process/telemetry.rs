//! Log lines: text for people, JSON for machines.

use tracing_subscriber::EnvFilter;

use crate::cli::LogFormat;

/// Starts logging to standard output. Crates that can log request or response bodies stay silent whatever `filter`
/// says, because an answer of SSM holds secrets.
pub fn start(format: LogFormat, filter: &str) -> anyhow::Result<()> {
    let silenced = [
        "aws_smithy",
        "aws_sdk",
        "aws_sigv4",
        "aws_config",
        "aws_runtime",
        "hyper",
        "h2",
        "kube",
        "rustls",
        "tower",
    ];
    let mut directives = EnvFilter::try_new(filter)?;
    for target in silenced {
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
