//! Short commands: run to the end, with their output.

use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use tokio::io::AsyncWriteExt;

/// The time limit. Every command takes a fraction of it, unless its server is frozen.
const ENDED: Duration = Duration::from_mins(2);

/// How a command ended and what it printed.
#[derive(Debug)]
pub struct Output {
    /// The exit status.
    pub status: ExitStatus,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

/// Runs a command to its end, with `input` on its standard input.
///
/// # Panics
/// When it cannot be started or does not end.
pub(crate) async fn run(command: Command, input: Option<&str>) -> Output {
    let name = format!("{command:?}");
    let mut command = tokio::process::Command::from(command);
    command.stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() });
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{name}: {error}"));
    let stdin = child.stdin.take();
    let feed = async {
        if let (Some(mut stdin), Some(input)) = (stdin, input) {
            // A command that ends early closes its input; its exit status shows why.
            let _ = stdin.write_all(input.as_bytes()).await;
        }
    };
    let both = async { tokio::join!(child.wait_with_output(), feed).0 };
    let ended = tokio::time::timeout(ENDED, both).await;
    let output = ended.unwrap_or_else(|_| panic!("{name} did not end within {ENDED:?}"));
    let output = output.unwrap_or_else(|error| panic!("{name}: {error}"));
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Output { status: output.status, stdout: text(output.stdout), stderr: text(output.stderr) }
}
