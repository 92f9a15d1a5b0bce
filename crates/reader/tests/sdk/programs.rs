//! Runs one program to its end.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parameter_mirror_test_support::{Process, Scratch};

/// The time limit of a program. A JVM starts in a second; a dozen at once on two cores take longer.
const ENDED: Duration = Duration::from_mins(2);

pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Returns one of the programs that `hack/sdks` has built.
pub fn program(name: &str) -> Command {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| {
        let output = Command::new(root().join("hack/sdks")).arg("path").output().expect("hack/sdks runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        PathBuf::from(String::from_utf8_lossy(&output.stdout).trim_end())
    });
    Command::new(folder.join(name))
}

/// Runs a program in a clean environment, and returns what it printed, as `Err` if it failed.
pub async fn run(command: &Command) -> Result<String, String> {
    let scratch = Arc::new(Scratch::new("sdk").unwrap());
    let process = Process::start(&scratch, "program", command).unwrap();
    let status = process.wait_exit(ENDED).await;
    if status.success() { Ok(process.log()) } else { Err(process.log()) }
}
