//! A child process under full control: clean environment, own process group, log in a file, freezable, and gone for
//! certain when its [`Scratch`] folder goes.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::scratch::Scratch;

/// Holds the program back until the watcher knows its process group, so that there is no moment at which a
/// SIGKILL of the test process leaves an orphan. `exec` keeps the process id.
const GATE: &str = r#"read -r go && exec "$@" </dev/null"#;

/// Runs a program as a pod does that gives up all capabilities. Who is not root has none.
const BARE: &str =
    r#"[ "$(id -u)" -ne 0 ] || set -- setpriv --bounding-set=-all --inh-caps=-all "$@"; exec "$@""#;

/// How long a killed process may take to disappear.
const KILLED: Duration = Duration::from_secs(10);

/// Lines of a log that a failure shows.
const LAST_LINES: usize = 25;

/// A running (or ended) child process.
///
/// Holds nothing bound to an async runtime, so one kept in a `static` serves tests with a runtime each.
#[derive(Debug)]
pub struct Process {
    name: String,
    pid: u32,
    log: PathBuf,
    scratch: Arc<Scratch>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    child: Child,
    /// Its group was killed and must not be signalled again: the number may belong to somebody else by now.
    ended: bool,
}

impl Process {
    /// Starts `command` in `scratch`, in a process group of its own.
    ///
    /// Its environment is `PATH`, a `HOME` inside the folder and what the command sets by itself: nothing of the
    /// developer's shell (credentials, proxies, kubeconfig) reaches it. Output goes to `<name>.log` in the folder, and
    /// is appended to when a part is started again under the same name. A program that does not exist shows
    /// as exit code 127, with the reason in the log.
    ///
    /// # Errors
    /// When the log cannot be opened or no process can be started.
    pub fn start(scratch: &Arc<Scratch>, name: &str, command: &Command) -> io::Result<Self> {
        let path = scratch.path().join(format!("{name}.log"));
        let log = OpenOptions::new().create(true).append(true).open(&path)?;
        let mut gate = Command::new("sh");
        gate.args(["-c", GATE, name]).arg(command.get_program()).args(command.get_args());
        gate.current_dir(command.get_current_dir().unwrap_or(scratch.path()));
        clean_environment(&mut gate, scratch.path());
        gate.envs(command.get_envs().filter_map(|(key, value)| Some((key, value?))));
        gate.stdin(Stdio::piped()).stdout(log.try_clone()?).stderr(log).process_group(0);

        let mut child = gate.spawn()?;
        let pid = child.id();
        let opened = scratch.watch(pid).and_then(|()| match child.stdin.take() {
            Some(mut gate) => gate.write_all(b"go\n"),
            None => Err(io::Error::other("no pipe")),
        });
        let state = Mutex::new(State { child, ended: false });
        let process = Self { name: name.to_owned(), pid, log: path, scratch: Arc::clone(scratch), state };
        opened.map(|()| process)
    }

    /// The process id, which is the id of its process group too.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Its resident memory in bytes.
    ///
    /// # Panics
    /// When it has ended.
    #[must_use]
    pub fn resident_bytes(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid)).expect("the process runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a resident size");
        let kibibytes = line.split_whitespace().next().and_then(|number| number.parse::<u64>().ok());
        kibibytes.expect("a number") * 1024
    }

    /// The folder it lives in, also its working directory unless the command set another.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.scratch.path()
    }

    /// The folder with its watcher, to start the next process in.
    #[must_use]
    pub fn scratch(&self) -> &Arc<Scratch> {
        &self.scratch
    }

    /// Whether another process of its user may look into its memory; both [without capabilities](without_capabilities), or nothing
    /// would be closed.
    #[must_use]
    pub fn is_open_to_its_user(&self) -> bool {
        let mut look = Command::new("cat");
        look.arg(format!("/proc/{}/environ", self.pid));
        let looked = without_capabilities(&look).stdout(Stdio::null()).stderr(Stdio::null()).status();
        looked.expect("a shell").success()
    }

    /// Everything it has printed so far, standard output and standard error together.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read(&self.log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    /// The last lines that it has printed, as many as a person reads.
    #[must_use]
    pub fn last_lines(&self) -> String {
        let log = self.log();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(LAST_LINES)..].join("\n")
    }

    /// How it ended, or `None` while it runs.
    #[must_use]
    pub fn exited(&self) -> Option<ExitStatus> {
        self.state().child.try_wait().expect("the state of a child process can be asked for")
    }

    /// SIGKILL to the whole group; returns when the process is gone. Works on a frozen process and on an ended one.
    pub fn kill(&self) {
        self.end();
    }

    /// SIGTERM to the process alone, as Kubernetes does it; returns how it ended.
    ///
    /// # Panics
    /// When it still runs after `deadline`; it is then killed.
    pub async fn terminate(&self, deadline: Duration) -> ExitStatus {
        if self.exited().is_none() {
            signal("TERM", &self.pid.to_string());
        }
        self.wait_exit(deadline).await
    }

    /// Waits until it ends by itself and returns how.
    ///
    /// # Panics
    /// When it still runs after `deadline`; it is then killed.
    pub async fn wait_exit(&self, deadline: Duration) -> ExitStatus {
        let start = Instant::now();
        loop {
            if let Some(status) = self.exited() {
                // What it started itself goes with it.
                self.end();
                return status;
            }
            if start.elapsed() > deadline {
                self.end();
                panic!(
                    "{} did not end within {deadline:?}; the end of its log:\n{}",
                    self.name,
                    self.last_lines()
                );
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// SIGSTOP to the whole group: connections stay open and nobody answers. Returns when all threads stand still.
    ///
    /// # Panics
    /// When the process does not run, or does not stop within seconds.
    pub fn freeze(&self) {
        assert!(self.exited().is_none(), "{} does not run; its log:\n{}", self.name, self.log());
        signal("STOP", &format!("-{}", self.pid));
        let start = Instant::now();
        while !stands_still(self.pid) {
            assert!(start.elapsed() < KILLED, "{} did not stop", self.name);
            std::thread::yield_now();
        }
    }

    /// Lets a frozen process go on.
    pub fn thaw(&self) {
        signal("CONT", &format!("-{}", self.pid));
    }

    fn end(&self) {
        let mut state = self.state();
        if state.ended {
            return;
        }
        signal("KILL", &format!("-{}", self.pid));
        match state.child.wait().and_then(|_| self.scratch.forget(self.pid)) {
            Ok(()) => state.ended = true,
            Err(error) => eprintln!("{} may still run: {error}", self.name),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.end();
    }
}

/// The same command without the capabilities that root has.
#[must_use]
pub fn without_capabilities(command: &Command) -> Command {
    let mut bare = Command::new("sh");
    bare.args(["-c", BARE, "bare"]).arg(command.get_program()).args(command.get_args());
    bare.envs(command.get_envs().filter_map(|(key, value)| Some((key, value?))));
    bare
}

/// Leaves `PATH`, and a `HOME` in `home`.
pub(crate) fn clean_environment(command: &mut Command, home: &Path) {
    command.env_clear().env("HOME", home);
    if let Some(path) = std::env::var_os("PATH") {
        command.env("PATH", path);
    }
}

/// Sends a signal through the shell's own `kill`: sending one from Rust would take unsafe code, and minimal images
/// lack the program. `target` is a process id, or a group id after a minus. A target that is gone is no error.
fn signal(name: &str, target: &str) {
    let sent = Command::new("sh")
        .args(["-c", r#"kill -s "$1" -- "$2""#, "kill", name, target])
        .stderr(Stdio::null())
        .status();
    assert!(sent.is_ok(), "no shell to send a signal with");
}

/// Whether every thread of the process is stopped. SIGSTOP is delivered a moment after `kill` returns, and a thread
/// that still runs could answer one more request.
fn stands_still(pid: u32) -> bool {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { return true };
    threads.flatten().all(|thread| {
        let stat = fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
        // The state follows the program's name, which is in parentheses and may itself hold some.
        stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with('T'))
    })
}
