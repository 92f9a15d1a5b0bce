//! The memory of a process: its usage, and a limit like that of a container.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// Returns the anonymous memory of a process in bytes, now and at its peak. Pages of files, such as its
/// program, do not count.
///
/// # Panics
/// When it has ended.
#[must_use]
pub fn resident(pid: u32) -> [usize; 2] {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("the process runs");
    let kilobytes = |name: &str| -> usize {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let number = line.and_then(|line| line.trim().strip_suffix(" kB"));
        number.and_then(|number| number.trim().parse().ok()).expect("a number of kilobytes")
    };
    let file = kilobytes("RssFile:");
    [kilobytes("VmRSS:"), kilobytes("VmHWM:")].map(|all| all.saturating_sub(file) << 10)
}

/// A memory cgroup with a limit. A process in it that needs more is killed.
#[derive(Debug)]
pub struct MemoryLimit(PathBuf);

impl MemoryLimit {
    /// Creates a cgroup; `None` if this user may not create one.
    #[must_use]
    pub fn new(bytes: usize) -> Option<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name =
            format!("parameter-mirror-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let (v1, v2) = (Path::new("/sys/fs/cgroup/memory"), Path::new("/sys/fs/cgroup"));
        let (parent, limit) = if v1.is_dir() { (v1, "memory.limit_in_bytes") } else { (v2, "memory.max") };
        let group = Self(parent.join(name));
        fs::create_dir(&group.0).ok()?;
        fs::write(group.0.join(limit), bytes.to_string()).ok()?;
        Some(group)
    }

    /// Returns a program in `folder` that runs `program` in this cgroup.
    ///
    /// # Panics
    /// When it cannot be written.
    #[must_use]
    pub fn around(&self, program: &Path, folder: &Path) -> PathBuf {
        use std::os::unix::fs::PermissionsExt as _;
        let path = folder.join("limited");
        let (group, program) = (self.0.display(), program.display());
        let script =
            format!("#!/bin/sh\necho $$ >'{group}/cgroup.procs' || exit 70\nexec '{program}' \"$@\"\n");
        fs::write(&path, script).expect("a file is written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("its mode is set");
        path
    }
}

impl Drop for MemoryLimit {
    fn drop(&mut self) {
        // Fails while a process is in it.
        let _ = fs::remove_dir(&self.0);
    }
}
