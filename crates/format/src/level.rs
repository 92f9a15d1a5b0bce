//! The severity of a finding of `verify`, of the operator's command and of the reader's: one set of words and exit codes.

use serde::Serialize;

/// The severity of a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// All is as it should be.
    Ok,
    /// It works, but needs attention.
    Warn,
    /// It does not work.
    Fail,
}

impl Level {
    /// Exit code: something failed.
    pub const FAILED: u8 = 3;
    /// Exit code: nothing failed, but there are warnings.
    pub const WARNED: u8 = 4;

    /// Returns the word at the beginning of a line.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "WARN",
            Self::Fail => "FAIL",
        }
    }

    /// Returns the exit code of a report whose worst finding this is.
    #[must_use]
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Warn => Self::WARNED,
            Self::Fail => Self::FAILED,
        }
    }
}
