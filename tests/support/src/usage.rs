//! The resource usage of a process and of the machine, from /proc.

use std::fs;

/// The kernel's clock ticks per second; 100 on every Linux that Rust supports.
const TICKS: f64 = 100.0;

/// Returns the CPU seconds that a process has used.
///
/// # Panics
/// When it has ended.
#[must_use]
pub fn cpu_seconds(pid: u32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("the process runs");
    let (_, fields) = stat.rsplit_once(") ").expect("a stat line");
    let ticks = |index: usize| {
        fields.split(' ').nth(index).and_then(|field| field.parse::<f64>().ok()).unwrap_or(0.0)
    };
    // User and system time are fields 14 and 15 of the line; two fields precede the parenthesis.
    (ticks(11) + ticks(12)) / TICKS
}

/// Returns the machine's load over the last 1, 5 and 15 minutes, and its number of cores.
#[must_use]
pub fn load() -> String {
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').take(3).collect::<Vec<_>>().join(" ");
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    format!("{load} on {cores} cores")
}

/// Returns the processor's name.
#[must_use]
pub fn processor() -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    name.map_or_else(|| "unknown processor".to_owned(), |(_, name)| name.trim().to_owned())
}

/// Returns one line per thread of a process: name, state, and the system call it waits in. Threads that all
/// wait in a futex (202 on x86-64) while there is work are deadlocked.
#[must_use]
pub fn threads(pid: u32) -> String {
    let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else {
        return "the process has ended".to_owned();
    };
    let describe = |task: std::path::PathBuf| {
        let read = |file: &str| fs::read_to_string(task.join(file)).unwrap_or_default();
        let status = read("status");
        let state = status.lines().find_map(|line| line.strip_prefix("State:\t")).unwrap_or("gone");
        let call = read("syscall");
        let call = call.split(' ').next().unwrap_or_default().trim();
        format!("{}: {state}, system call {call}", read("comm").trim())
    };
    tasks.flatten().map(|task| describe(task.path())).collect::<Vec<_>>().join("\n")
}
