//! The report of `verify`: one line per check, and the exit code.

use std::fmt::Write as _;
use std::process::ExitCode;

use serde::Serialize;

use parameter_mirror_format::humanize::printable;
pub use parameter_mirror_format::level::Level;

/// The result of one check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The severity.
    pub level: Level,
    /// What was checked, as one word that never changes.
    pub check: &'static str,
    /// The mirror it concerns, `namespace/name`; `None` if it concerns all of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mirror: Option<String>,
    /// What was found, and what to do.
    pub message: String,
}

impl Finding {
    /// A finding that concerns every mirror.
    #[must_use]
    pub fn new(level: Level, check: &'static str, message: impl Into<String>) -> Self {
        Self { level, check, mirror: None, message: message.into() }
    }

    /// The same finding, about one mirror.
    #[must_use]
    pub fn about(self, mirror: &str) -> Self {
        Self { mirror: Some(mirror.to_owned()), ..self }
    }
}

/// All findings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// One finding for each check, in the order of the checks.
    pub findings: Vec<Finding>,
}

impl Report {
    /// Formats the report for people: one line per check, then the counts, failures last.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        for Finding { level, mirror, message, .. } in &self.findings {
            let about = mirror.as_deref().map(|mirror| format!("{mirror}: ")).unwrap_or_default();
            let line = printable(&format!("{about}{message}"));
            let _ = writeln!(text, "{:<4}  {line}", level.as_str());
        }
        let [ok, warn, fail] = self.counts();
        let _ = writeln!(text, "{ok} ok, {warn} to look at, {fail} failed");
        text
    }

    /// Formats the report as JSON.
    pub fn json(&self) -> serde_json::Result<String> {
        let [ok, warn, fail] = self.counts();
        let summary = serde_json::json!({"findings": self.findings, "ok": ok, "warn": warn, "fail": fail});
        serde_json::to_string_pretty(&summary).map(|json| json + "\n")
    }

    /// Returns 0 if every check is ok, or has a warning at most and these are allowed.
    #[must_use]
    pub fn exit_code(&self, allow_warnings: bool) -> ExitCode {
        let worst = self.findings.iter().map(|finding| finding.level).max().unwrap_or(Level::Ok);
        ExitCode::from(if worst == Level::Warn && allow_warnings { 0 } else { worst.exit_code() })
    }

    fn counts(&self) -> [usize; 3] {
        [Level::Ok, Level::Warn, Level::Fail]
            .map(|level| self.findings.iter().filter(|finding| finding.level == level).count())
    }
}
