//! `exec`: a program with the parameters as environment variables.

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use crate::failure::Failure;
use crate::variables::Variables;

/// What opens the mirror, which the program has no need for.
const OURS: [&str; 3] =
    ["PARAMETER_MIRROR_REDIS_URL", "PARAMETER_MIRROR_REDIS_PASSWORD", "PARAMETER_MIRROR_SUB_KEYS"];

/// Replaces this process by the program, so that signals, exit code and process id are its own. Returns only if that fails.
#[must_use]
pub fn replace(command: &[OsString], variables: &Variables, keep_existing: bool) -> Failure {
    match prepared(command, variables, keep_existing) {
        Ok(mut program) => {
            let error = program.exec();
            Failure::Program { program: program.get_program().to_owned(), error }
        }
        Err(failure) => failure,
    }
}

/// The program with its environment: this process's, without what opens the mirror, and the variables.
pub fn prepared(
    command: &[OsString],
    variables: &Variables,
    keep_existing: bool,
) -> Result<Command, Failure> {
    let (program, arguments) =
        command.split_first().ok_or_else(|| Failure::Settings("no program was given after --".to_owned()))?;
    let mut prepared = Command::new(program);
    prepared.args(arguments);
    for name in OURS {
        prepared.env_remove(name);
    }
    for (key, value) in variables {
        if !(keep_existing && std::env::var_os(key).is_some()) {
            prepared.env(key, value.expose());
        }
    }
    Ok(prepared)
}
