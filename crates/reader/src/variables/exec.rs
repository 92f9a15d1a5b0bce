//! `exec`: runs a program with the parameters as environment variables.
#![expect(clippy::disallowed_methods, reason = "the environment of the program that is started")]

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use parameter_mirror_format::content::environment::{self, EnvironmentProblem};
use rustix::fs::{Access, access};

use crate::failure::Failure;
use crate::variables::Variables;

/// The variables that give access to the mirror. The program does not need them.
const OURS: [&str; 3] =
    ["PARAMETER_MIRROR_REDIS_URL", "PARAMETER_MIRROR_REDIS_PASSWORD", "PARAMETER_MIRROR_SUB_KEYS"];

/// The search path without a `PATH`, as in the C libraries (`confstr(_CS_PATH)`).
const DEFAULT_PATH: &str = "/bin:/usr/bin";

/// The program to start. It is resolved before any parameter is read, so that the program's environment
/// cannot change which program runs.
#[derive(Debug)]
pub struct Program {
    file: PathBuf,
    /// The name as the caller wrote it, which the program sees as its own name.
    name: OsString,
    arguments: Vec<OsString>,
}

impl Program {
    /// Finds a command in this process's own `PATH`.
    pub fn find(command: &[OsString]) -> Result<Self, Failure> {
        let (name, arguments) = command
            .split_first()
            .ok_or_else(|| Failure::Settings("no program was given after --".to_owned()))?;
        let path = std::env::var_os("PATH").unwrap_or_else(|| DEFAULT_PATH.into());
        let file = file_of(name, &path).map_err(|error| Failure::Program { program: name.clone(), error })?;
        Ok(Self { file, name: name.clone(), arguments: arguments.to_vec() })
    }

    /// Returns the name that the caller used.
    #[must_use]
    pub fn name(&self) -> &OsStr {
        &self.name
    }

    /// Replaces this process with the program, so that signals, exit code and process id are the program's
    /// own. Returns only on failure.
    #[must_use]
    pub fn replace_us(&self, variables: &Variables, keep_existing: bool) -> Failure {
        let error = self.prepared(variables, keep_existing).exec();
        if error.kind() == io::ErrorKind::ArgumentListTooLong {
            let bytes = environment::bytes(variables.iter().map(|(key, value)| (key.as_str(), value)));
            return EnvironmentProblem::TooLarge { bytes }.into();
        }
        Failure::Program { program: self.name.clone(), error }
    }

    /// Returns the program with its environment: that of this process without the variables that give access
    /// to the mirror, plus the parameters.
    #[must_use]
    pub fn prepared(&self, variables: &Variables, keep_existing: bool) -> Command {
        let mut prepared = Command::new(&self.file);
        prepared.arg0(&self.name).args(&self.arguments);
        for name in OURS {
            prepared.env_remove(name);
        }
        for (key, value) in variables {
            if !(keep_existing && std::env::var_os(key).is_some()) {
                prepared.env(key, value.expose());
            }
        }
        prepared
    }
}

/// Returns the file of a program, found like execvp(3) finds it. The result always contains a slash, so that
/// it is not searched for again.
fn file_of(name: &OsStr, path: &OsStr) -> io::Result<PathBuf> {
    if name.as_encoded_bytes().contains(&b'/') {
        return Ok(name.into());
    }
    if name.is_empty() {
        return Err(io::ErrorKind::NotFound.into());
    }
    let mut error = io::Error::from(io::ErrorKind::NotFound);
    for folder in std::env::split_paths(path) {
        let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { &folder };
        let file = folder.join(name);
        if !file.exists() {
            continue;
        }
        if file.is_file() && access(&file, Access::EXEC_OK).is_ok() {
            return Ok(file);
        }
        error = io::ErrorKind::PermissionDenied.into();
    }
    Err(error)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use parameter_mirror_test_support::Scratch;

    use super::*;

    #[test]
    fn a_program_is_found_as_the_system_finds_it() {
        let scratch = Scratch::new("path").unwrap();
        let folder = |name: &str| {
            let folder = scratch.path().join(name);
            std::fs::create_dir(&folder).unwrap();
            folder
        };
        let (first, second, third) = (folder("first"), folder("second"), folder("third"));
        std::fs::create_dir(first.join("shop")).unwrap();
        let put = |folder: &Path, mode| {
            let file = folder.join("shop");
            std::fs::write(&file, "#!/bin/sh\n").unwrap();
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
        };
        put(&second, 0o644);
        put(&third, 0o755);
        let found = |folders: &[&Path]| {
            file_of("shop".as_ref(), &std::env::join_paths(folders).unwrap()).map_err(|error| error.kind())
        };
        assert_eq!(found(&[&first, &second, &third]), Ok(third.join("shop")));
        assert_eq!(found(&[&first, &second]), Err(io::ErrorKind::PermissionDenied));
        assert_eq!(found(&[Path::new("/nowhere")]), Err(io::ErrorKind::NotFound));
        // A path is not searched for, and a result is never a bare name.
        assert_eq!(file_of("./shop".as_ref(), "".as_ref()).unwrap(), Path::new("./shop"));
        assert_eq!(
            file_of("Cargo.toml".as_ref(), "".as_ref()).unwrap_err().kind(),
            io::ErrorKind::PermissionDenied
        );
        assert_eq!(file_of("".as_ref(), "/bin".as_ref()).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
