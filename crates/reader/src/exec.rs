//! `exec`: a program with the parameters as environment variables.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::{Access, access};

use crate::failure::Failure;
use crate::variables::Variables;

/// What opens the mirror, which the program has no need for.
const OURS: [&str; 3] =
    ["PARAMETER_MIRROR_REDIS_URL", "PARAMETER_MIRROR_REDIS_PASSWORD", "PARAMETER_MIRROR_SUB_KEYS"];

/// Where programs are without a `PATH`, as in the C libraries (`confstr(_CS_PATH)`).
const DEFAULT_PATH: &str = "/bin:/usr/bin";

/// The program to start, found before any parameter is known: the environment that it gets has no say in which program it is.
#[derive(Debug)]
pub struct Program {
    file: PathBuf,
    /// As the caller wrote it: what the program finds as its own name.
    name: OsString,
    arguments: Vec<OsString>,
}

impl Program {
    /// Looks a command up in this process's own `PATH`.
    pub fn find(command: &[OsString]) -> Result<Self, Failure> {
        let (name, arguments) = command
            .split_first()
            .ok_or_else(|| Failure::Settings("no program was given after --".to_owned()))?;
        let path = std::env::var_os("PATH").unwrap_or_else(|| DEFAULT_PATH.into());
        let file = file_of(name, &path).map_err(|error| Failure::Program { program: name.clone(), error })?;
        Ok(Self { file, name: name.clone(), arguments: arguments.to_vec() })
    }

    /// What the caller called it.
    #[must_use]
    pub fn name(&self) -> &OsStr {
        &self.name
    }

    /// Replaces this process by the program, so that signals, exit code and process id are its own. Returns only if that fails.
    #[must_use]
    pub fn replace_us(&self, variables: &Variables, keep_existing: bool) -> Failure {
        let error = self.prepared(variables, keep_existing).exec();
        Failure::Program { program: self.name.clone(), error }
    }

    /// The program with its environment: this process's, without what opens the mirror, and the variables.
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

/// The file of a program, as execvp(3) looks for it. It always has a slash in it, so that nothing looks for it once more.
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
        // A path is no name, and no answer is a bare name.
        assert_eq!(file_of("./shop".as_ref(), "".as_ref()).unwrap(), Path::new("./shop"));
        assert_eq!(
            file_of("Cargo.toml".as_ref(), "".as_ref()).unwrap_err().kind(),
            io::ErrorKind::PermissionDenied
        );
        assert_eq!(file_of("".as_ref(), "/bin".as_ref()).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
