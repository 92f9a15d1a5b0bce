//! A temporary folder that is always removed.
//!
//! Parts under test are killed, tests panic, the tests themselves get a SIGKILL, and parts kept in a `static`
//! are never dropped. The test process can therefore not be relied on to clean up. A small shell, the
//! watcher, reads a pipe whose other end only the test process holds. When that end closes, for whatever
//! reason, the watcher kills every registered process group and removes the folder.

use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Prints the folder it made, then reads `+group` and `-group` lines until the pipe closes.
///
/// It ignores the signals with which a terminal or a test runner stops a run, because its work starts then. A
/// process that is being killed may still create a file, hence the repeated removal.
const WATCHER: &str = r#"
trap '' HUP INT TERM PIPE
dir=$(mktemp -d "${TMPDIR:-/tmp}/parameter-mirror-$1-XXXXXX") || exit 1
printf '%s\n' "$dir"
exec >/dev/null 2>&1
groups=' '
while read -r line; do
  group=${line#?}
  case $line in
    +*) groups="$groups$group " ;;
    -*) groups="${groups%% $group *} ${groups#* $group }" ;;
  esac
done
for group in $groups; do kill -s KILL -- "-$group"; done
for attempt in 1 2 3 4 5 6 7 8 9 10; do
  rm -rf -- "$dir" && exit 0
  sleep 0.1
done
exit 1
"#;

/// A temporary folder, and the processes that must not outlive it.
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
    watcher: Mutex<Watcher>,
}

#[derive(Debug)]
struct Watcher {
    shell: Child,
    /// `None` once dropped: closing it triggers the cleanup.
    pipe: Option<ChildStdin>,
}

impl Scratch {
    /// Creates a folder below `TMPDIR`, whose name starts with `parameter-mirror-` and `name`.
    ///
    /// # Errors
    /// When no shell can be started or the folder cannot be created.
    pub fn new(name: &str) -> io::Result<Self> {
        let mut shell = Command::new("sh")
            .args(["-c", WATCHER, "watcher", name])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // A runner that kills the test's process group must not kill the watcher with it.
            .process_group(0)
            .spawn()?;
        let pipe = shell.stdin.take();
        let mut line = String::new();
        if let Some(output) = shell.stdout.take() {
            BufReader::new(output).read_line(&mut line)?;
        }
        if line.is_empty() {
            return Err(io::Error::other("no temporary folder could be made"));
        }
        Ok(Self { path: PathBuf::from(line.trim_end()), watcher: Mutex::new(Watcher { shell, pipe }) })
    }

    /// Returns the folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Registers a process group, which is killed when the folder is removed.
    pub(crate) fn watch(&self, group: u32) -> io::Result<()> {
        self.write_line(&format!("+{group}\n"))
    }

    /// Unregisters a process group that has ended; its number may be reused.
    pub(crate) fn forget(&self, group: u32) -> io::Result<()> {
        self.write_line(&format!("-{group}\n"))
    }

    fn write_line(&self, line: &str) -> io::Result<()> {
        match self.locked().pipe.as_mut() {
            Some(pipe) => pipe.write_all(line.as_bytes()),
            None => Err(io::Error::other("the folder is gone")),
        }
    }

    fn locked(&self) -> MutexGuard<'_, Watcher> {
        self.watcher.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Scratch {
    /// Returns when the processes are killed and the folder is removed.
    fn drop(&mut self) {
        let mut watcher = self.locked();
        watcher.pipe = None;
        if let Err(error) = watcher.shell.wait() {
            eprintln!("{} may be left behind: {error}", self.path.display());
        }
    }
}
