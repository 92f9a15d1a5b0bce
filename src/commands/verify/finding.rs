//! What `verify` says: one line per check, and what it comes to.

use std::fmt::Write as _;
use std::process::ExitCode;

use serde::Serialize;

use parameter_mirror_format::humanize::printable;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// As it should be.
    Ok,
    /// It works, and somebody should look at it.
    Warn,
    /// It does not do what it is there for.
    Fail,
}

impl Level {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "WARN",
            Self::Fail => "FAIL",
        }
    }
}

/// The result of one check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How bad it is.
    pub level: Level,
    /// What was checked, in one word that does not change.
    pub check: &'static str,
    /// The mirror that it is about, `namespace/name`; none if it is about all of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mirror: Option<String>,
    /// What was found, and what to do.
    pub message: String,
}

impl Finding {
    /// Of something that concerns every mirror.
    #[must_use]
    pub fn new(level: Level, check: &'static str, message: impl Into<String>) -> Self {
        Self { level, check, mirror: None, message: message.into() }
    }

    /// The same about one mirror.
    #[must_use]
    pub fn about(self, mirror: &str) -> Self {
        Self { mirror: Some(mirror.to_owned()), ..self }
    }
}

/// Everything that was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// One for each check, in the order they were made.
    pub findings: Vec<Finding>,
}

impl Report {
    /// Exit code: something failed.
    pub const FAILED: u8 = 3;
    /// Exit code: nothing failed, but there are warnings.
    pub const WARNED: u8 = 4;

    /// For people: one line per check, the worst said last.
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

    /// For machines.
    pub fn json(&self) -> serde_json::Result<String> {
        let [ok, warn, fail] = self.counts();
        let summary = serde_json::json!({"findings": self.findings, "ok": ok, "warn": warn, "fail": fail});
        serde_json::to_string_pretty(&summary).map(|json| json + "\n")
    }

    /// 0 if all is well.
    #[must_use]
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self.findings.iter().map(|finding| finding.level).max() {
            Some(Level::Fail) => Self::FAILED,
            Some(Level::Warn) => Self::WARNED,
            Some(Level::Ok) | None => 0,
        })
    }

    fn counts(&self) -> [usize; 3] {
        [Level::Ok, Level::Warn, Level::Fail]
            .map(|level| self.findings.iter().filter(|finding| finding.level == level).count())
    }
}
