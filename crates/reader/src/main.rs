//! The `parameter-mirror-reader` binary: parses the arguments and runs one subcommand.

use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser as _;
use parameter_mirror_format::content::entry::Entry;
use parameter_mirror_reader::cli::{
    Cli, Command, ExecArgs, ExportArgs, FallbackArgs, GetArgs, MirrorArgs, ServeArgs,
};
use parameter_mirror_reader::failure::Failure;
use parameter_mirror_reader::fallback::{self, Chosen};
use parameter_mirror_reader::serve::lambda::{self, Environment};
use parameter_mirror_reader::variables::exec::Program;
use parameter_mirror_reader::variables::export::export;
use parameter_mirror_reader::variables::{variables, watch};
use parameter_mirror_reader::{hardening, serve, settings, verify};
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{SignalKind, signal};

fn main() -> ExitCode {
    hardening::keep_panics_silent();
    hardening::keep_memory_private();
    match dispatch(command()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("parameter-mirror-reader: {failure}");
            failure.code().into()
        }
    }
}

/// Parses the command. Lambda starts an extension without arguments.
fn command() -> Command {
    let arguments: Vec<_> = std::env::args_os().collect();
    if arguments.len() == 1 && std::env::var_os("AWS_LAMBDA_RUNTIME_API").is_some() {
        return Cli::parse_from([&arguments[..], &["lambda-extension".into()]].concat()).command;
    }
    Cli::parse_from(arguments).command
}

fn dispatch(command: Command) -> Result<(), Failure> {
    match command {
        Command::Exec(args) => Err(exec(args)),
        Command::Get(args) => get(args),
        Command::Export(ExportArgs { format, mirrors, order }) => {
            let chosen = chosen(mirrors, order)?;
            let exported = export(&chosen.parameters, format)?;
            warn(&chosen);
            for left_out in exported.left_out {
                eprintln!(
                    "parameter-mirror-reader: WARNING: left out {left_out}. Give it another `key` in the mirror"
                );
            }
            print(exported.text.as_bytes())
        }
        Command::Watch(args) => {
            let program = if args.command.is_empty() { None } else { Some(Program::find(&args.command)?) };
            let mirrors = settings::mirrors(args.mirrors)?;
            runtime(&mut Builder::new_current_thread())?.block_on(watch::watch(
                &mirrors,
                args.refresh,
                args.max_stale,
                program.as_ref(),
            ))
        }
        Command::Verify(args) => runtime(&mut Builder::new_current_thread())?
            .block_on(verify::verify(&settings::mirrors(args.mirrors)?, args.max_stale)),
        Command::Serve(args) => runtime(&mut Builder::new_multi_thread())?.block_on(serve(args)),
        Command::LambdaExtension(args) => {
            let program = std::env::args().next().unwrap_or_default();
            let environment =
                Environment::of(&program, |name| std::env::var(name).ok()).ok_or_else(|| {
                    Failure::Settings(
                        "AWS_LAMBDA_RUNTIME_API is not set: this is not a Lambda function".to_owned(),
                    )
                })?;
            runtime(&mut Builder::new_multi_thread())?.block_on(lambda::run(&environment, args))
        }
    }
}

/// Runs `exec`. Returns only on failure.
fn exec(args: ExecArgs) -> Failure {
    let prepared = Program::find(&args.command).and_then(|program| {
        let chosen = chosen(args.mirrors, args.order)?;
        let variables = variables(&chosen.parameters)?;
        eprintln!("parameter-mirror-reader: {}", chosen.summary());
        Ok((program, variables))
    });
    match prepared {
        Ok((program, variables)) => program.replace_us(&variables, args.keep_existing),
        Err(failure) => failure,
    }
}

#[expect(clippy::disallowed_methods, reason = "`get` prints a value: it is what it is for")]
fn get(args: GetArgs) -> Result<(), Failure> {
    let chosen = chosen(args.mirrors, args.order)?;
    let is_asked =
        |(name, entry): &&(String, Entry)| *name == args.name || entry.key.as_ref() == Some(&args.name);
    let found = chosen.parameters.iter().find(is_asked);
    let (_, entry) = found.ok_or(Failure::NoSuchParameter(args.name.clone()))?;
    warn(&chosen);
    print(entry.value.expose().as_bytes())?;
    if args.no_newline { Ok(()) } else { print(b"\n") }
}

/// Reports on standard error that the parameters are not of the preferred source, or are too old.
fn warn(chosen: &Chosen) {
    if chosen.warning.is_some() {
        eprintln!("parameter-mirror-reader: {}", chosen.summary());
    }
}

/// Reads the parameters. The runtime and its threads are gone when this returns, so that the process can be
/// replaced.
fn chosen(mirrors: MirrorArgs, order: FallbackArgs) -> Result<Chosen, Failure> {
    let mirrors = settings::mirrors(mirrors)?;
    let runtime = runtime(&mut Builder::new_current_thread())?;
    let chosen = runtime.block_on(async { fallback::read(&mirrors, &settings::order(order).await?).await });
    // A read of the settings' files may still hang on a dead disk.
    runtime.shutdown_background();
    chosen
}

async fn serve(args: ServeArgs) -> Result<(), Failure> {
    let listening = serve::listen(args).await?;
    let urls = listening.urls()?.join(" and ");
    let cache = listening.cache();
    tokio::spawn(async move { cache.keep_fresh().await });
    eprintln!("parameter-mirror-reader: listening on {urls}");
    let system = |error: std::io::Error| Failure::System(error.to_string());
    let mut terminate = signal(SignalKind::terminate()).map_err(system)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(system)?;
    let end = async move {
        tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
    };
    listening.serve(end).await;
    Ok(())
}

fn runtime(builder: &mut Builder) -> Result<Runtime, Failure> {
    builder.enable_all().build().map_err(|error| Failure::System(error.to_string()))
}

fn print(bytes: &[u8]) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    let printed = out.write_all(bytes).and_then(|()| out.flush());
    printed.map_err(|error| Failure::System(format!("standard output: {error}")))
}
