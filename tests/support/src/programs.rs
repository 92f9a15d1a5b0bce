//! The installed programs of the parts.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// Returns the folder with all programs, as `hack/parts` reports it. `PARAMETER_MIRROR_PARTS` overrides it.
///
/// # Panics
/// When a program is missing; the message names the command that installs it.
pub fn folder() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        if let Some(folder) = std::env::var_os("PARAMETER_MIRROR_PARTS") {
            return PathBuf::from(folder);
        }
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let output = Command::new(root.join("hack/parts")).arg("path").output().expect("hack/parts runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        PathBuf::from(String::from_utf8_lossy(&output.stdout).trim_end())
    })
}

/// Returns the path of one program, for example `redis-cli`.
#[must_use]
pub fn path(name: &str) -> PathBuf {
    folder().join(name)
}
