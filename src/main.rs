//! The `parameter-mirror` binary: parses the arguments and runs one subcommand.

use std::process::ExitCode;

use clap::Parser as _;
use parameter_mirror::cli::{Cli, Command, RunArgs};
use parameter_mirror::commands::{convert, iam, manifests, sub_keys, verify};
use parameter_mirror::process::{hardening, run, telemetry};
use parameter_mirror_format::humanize::printable;

/// The operator allocates all the time and runs for months: jemalloc is faster, and does not fragment. `.cargo/config.toml` holds its settings.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    hardening::keep_panics_silent();
    match dispatch(Cli::parse().command) {
        Ok(code) => code,
        Err(error) => {
            let error = format!("{error:#}");
            eprintln!("error: {}", error.lines().map(printable).collect::<Vec<_>>().join("\n"));
            ExitCode::FAILURE
        }
    }
}

/// Runs the operator in one thread. Several mostly hand work to each other, which costs a quarter of the CPU time (ADR 0018).
/// `TOKIO_WORKER_THREADS` sets another number.
fn run_operator(args: RunArgs) -> anyhow::Result<()> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.enable_all();
    if std::env::var_os("TOKIO_WORKER_THREADS").is_none() {
        builder.worker_threads(1);
    }
    // What `block_on` itself runs has a thread of its own.
    let running = async { tokio::spawn(run::run(args)).await };
    match builder.build()?.block_on(running) {
        Ok(outcome) => outcome,
        Err(ended) => match ended.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(cancelled) => Err(cancelled.into()),
        },
    }
}

fn dispatch(command: Command) -> anyhow::Result<ExitCode> {
    let text = match command {
        Command::Run(args) => {
            telemetry::start(args.log_format, &args.log)?;
            hardening::keep_memory_private();
            return run_operator(*args).map(|()| ExitCode::SUCCESS);
        }
        Command::Crd => manifests::crd()?,
        Command::Source(args) => manifests::source(args)?,
        Command::Keygen(args) => manifests::keygen(&args)?,
        Command::Iam(args) => {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(iam::iam(&args))?
        }
        Command::Key(args) => {
            hardening::keep_memory_private();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(sub_keys::sub_keys(&args))?
        }
        Command::Verify(args) => {
            hardening::keep_memory_private();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            return runtime.block_on(verify::verify(&args));
        }
        Command::Completion(args) => manifests::completion(&args),
        Command::Convert(args) => return convert::convert(&args),
    };
    print!("{text}");
    Ok(ExitCode::SUCCESS)
}
