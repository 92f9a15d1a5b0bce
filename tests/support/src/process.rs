//! A child process under full control: clean environment, own process group, log in a file, freezable, and
//! certain to end when its [`Scratch`] folder is dropped.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::scratch::Scratch;

/// Delays the program until the watcher knows its process group, so that a SIGKILL of the test process never
/// leaves an orphan. `exec` keeps the process id.
const GATE: &str = r#"read -r go && exec "$@" </dev/null"#;

/// Runs a program without capabilities, like a pod that drops all of them. A user other than root has none.
const BARE: &str =
    r#"[ "$(id -u)" -ne 0 ] || set -- setpriv --bounding-set=-all --inh-caps=-all "$@"; exec "$@""#;

/// The time limit for a killed process to disappear.
const KILLED: Duration = Duration::from_secs(10);

/// The number of log lines shown on failure.
const LAST_LINES: usize = 25;

/// A running or ended child process.
///
/// It holds nothing bound to an async runtime, so one kept in a `static` can serve tests with different
/// runtimes.
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
    /// Its group was killed and must not be signalled again, because the number may be reused.
    ended: bool,
}

impl Process {
    /// Starts `command` in `scratch`, in its own process group.
    ///
    /// Its environment is `PATH`, a `HOME` inside the folder, and the command's own variables: nothing of the
    /// developer's shell (credentials, proxies, kubeconfig) reaches it. Output goes to `<name>.log` in the
    /// folder, and is appended when a part is restarted under the same name. A missing program appears as
    /// exit code 127, with the reason in the log.
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

    /// Returns the process id, which is also the id of its process group.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Returns its resident memory in bytes.
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

    /// Returns its folder, which is its working directory unless the command sets another.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.scratch.path()
    }

    /// Returns the folder with its watcher, to start the next process in it.
    #[must_use]
    pub fn scratch(&self) -> &Arc<Scratch> {
        &self.scratch
    }

    /// Whether another process of the same user can read its memory. Both must run
    /// [without capabilities](without_capabilities), or the check is always true.
    #[must_use]
    pub fn is_open_to_its_user(&self) -> bool {
        let mut look = Command::new("cat");
        look.arg(format!("/proc/{}/environ", self.pid));
        let looked = without_capabilities(&look).stdout(Stdio::null()).stderr(Stdio::null()).status();
        looked.expect("a shell").success()
    }

    /// Returns everything it has printed so far, standard output and standard error together.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read(&self.log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    /// Returns the last lines that it has printed, `LAST_LINES` at most.
    #[must_use]
    pub fn last_lines(&self) -> String {
        let log = self.log();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(LAST_LINES)..].join("\n")
    }

    /// Returns how it ended, or `None` while it runs.
    #[must_use]
    pub fn exited(&self) -> Option<ExitStatus> {
        self.state().child.try_wait().expect("the state of a child process can be asked for")
    }

    /// Kills the whole group with SIGKILL, and returns when the process is gone. Works on frozen and ended
    /// processes.
    pub fn kill(&self) {
        self.end();
    }

    /// Sends SIGTERM to the process alone, as Kubernetes does; returns how it ended.
    ///
    /// # Panics
    /// When it still runs after `deadline`; it is then killed.
    pub async fn terminate(&self, deadline: Duration) -> ExitStatus {
        if self.exited().is_none() {
            signal("TERM", &self.pid.to_string());
        }
        self.wait_exit(deadline).await
    }

    /// Waits until it ends by itself, and returns how it ended.
    ///
    /// # Panics
    /// When it still runs after `deadline`; it is then killed.
    pub async fn wait_exit(&self, deadline: Duration) -> ExitStatus {
        let start = Instant::now();
        loop {
            if let Some(status) = self.exited() {
                // Its own child processes end with it.
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

    /// Freezes the whole group with SIGSTOP: connections stay open, and nobody answers. Returns when all
    /// threads have stopped.
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

    /// Resumes a frozen process.
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

/// Returns the same command without root's capabilities.
#[must_use]
pub fn without_capabilities(command: &Command) -> Command {
    let mut bare = Command::new("sh");
    bare.args(["-c", BARE, "bare"]).arg(command.get_program()).args(command.get_args());
    bare.envs(command.get_envs().filter_map(|(key, value)| Some((key, value?))));
    bare
}

/// Reduces the environment to `PATH`, and a `HOME` in `home`.
pub(crate) fn clean_environment(command: &mut Command, home: &Path) {
    command.env_clear().env("HOME", home);
    if let Some(path) = std::env::var_os("PATH") {
        command.env("PATH", path);
    }
}

/// Sends a signal with the shell's own `kill`: Rust would need unsafe code, and minimal images lack the
/// program. `target` is a process id, or a group id after a minus. A missing target is not an error.
fn signal(name: &str, target: &str) {
    let sent = Command::new("sh")
        .args(["-c", r#"kill -s "$1" -- "$2""#, "kill", name, target])
        .stderr(Stdio::null())
        .status();
    assert!(sent.is_ok(), "no shell to send a signal with");
}

/// Whether every thread of the process is stopped. SIGSTOP arrives a moment after `kill` returns, and a
/// running thread could answer one more request.
fn stands_still(pid: u32) -> bool {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { return true };
    threads.flatten().all(|thread| {
        let stat = fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
        // The state follows the program's name, which is in parentheses and may contain some.
        stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with('T'))
    })
}
