//! Figures of a process and of the machine, from /proc.

use std::fs;

/// The kernel's clock ticks per second; 100 on every Linux that Rust supports.
const TICKS: f64 = 100.0;

/// CPU seconds that a process has used.
pub fn cpu_seconds(pid: u32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("the process runs");
    let (_, fields) = stat.rsplit_once(") ").expect("a stat line");
    let ticks = |index: usize| {
        fields.split(' ').nth(index).and_then(|field| field.parse::<f64>().ok()).unwrap_or(0.0)
    };
    // User and system time are fields 14 and 15 of the line, of which two stand before the parenthesis.
    (ticks(11) + ticks(12)) / TICKS
}

/// The machine's load over the last 1, 5 and 15 minutes, and its cores.
pub fn load() -> String {
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').take(3).collect::<Vec<_>>().join(" ");
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    format!("{load} on {cores} cores")
}

/// Prints one row: the median, the goal, and all figures.
pub fn line(what: &str, figures: &[f64], goal: &str) {
    let all: Vec<_> = figures.iter().map(|figure| format!("{figure:.2}")).collect();
    println!("{what:<70}{:>10.2}{goal:>10}   {}", median(figures), all.join(" "));
}

/// The middle one.
pub fn median(figures: &[f64]) -> f64 {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}
