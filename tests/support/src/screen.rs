//! What the audience sees: numbered steps, each with what was checked and how long it took.

use std::time::Instant;

/// Where the time of a line stands.
const WIDTH: usize = 88;

/// Prints as the story goes on.
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
    /// A new step begins.
    pub fn begin(&mut self, title: &str) {
        self.step += 1;
        println!("{:>2}  {title}", self.step);
        self.since = Instant::now();
    }

    /// Something was seen to be so. The time is the one since the step, or the last check of it, began.
    pub fn checked(&mut self, what: &str) {
        self.checks += 1;
        println!("      {what:<WIDTH$}{:>6.1} s", self.since.elapsed().as_secs_f64());
        self.since = Instant::now();
    }

    /// Number of the step that was begun last.
    #[must_use]
    pub fn step(&self) -> u32 {
        self.step
    }

    /// How many checks have passed.
    #[must_use]
    pub fn checks(&self) -> u32 {
        self.checks
    }
}
