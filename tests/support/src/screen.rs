//! Output for an audience: numbered steps, each with its checks and how long they took.

use std::time::Instant;

/// The column of the time in a line.
const WIDTH: usize = 88;

/// Prints the progress of a story.
#[derive(Debug)]
pub struct Screen {
    step: u32,
    checks: u32,
    since: Instant,
}

impl Default for Screen {
    fn default() -> Self {
        Self { step: 0, checks: 0, since: Instant::now() }
    }
}

impl Screen {
    /// Starts a new step.
    pub fn begin(&mut self, title: &str) {
        self.step += 1;
        println!("{:>2}  {title}", self.step);
        self.since = Instant::now();
    }

    /// Reports a successful check, with the time since the step or its last check.
    pub fn checked(&mut self, what: &str) {
        self.checks += 1;
        println!("      {what:<WIDTH$}{:>6.1} s", self.since.elapsed().as_secs_f64());
        self.since = Instant::now();
    }

    /// Returns the number of the current step.
    #[must_use]
    pub fn step(&self) -> u32 {
        self.step
    }

    /// Returns the number of checks that have passed.
    #[must_use]
    pub fn checks(&self) -> u32 {
        self.checks
    }
}
