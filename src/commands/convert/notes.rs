//! What the user should know about one object of the input.

/// The notes on one object of the input.
#[derive(Debug, Default)]
pub struct Notes {
    /// Kind, namespace and name of the object.
    pub about: String,
    /// The notes, in the order of discovery.
    pub all: Vec<Note>,
}

/// One note for the user.
#[derive(Debug, PartialEq, Eq)]
pub struct Note {
    /// Whether something was lost. Otherwise it was carried over, and the user should know or do something.
    pub is_lost: bool,
    /// What it is about, and what to do.
    pub text: String,
}

impl Notes {
    /// Starts without notes on this object.
    pub fn about(about: String) -> Self {
        Self { about, all: Vec::new() }
    }

    /// Notes that `field` is not carried over.
    pub fn lost(&mut self, field: &str, why: &str) {
        self.all.push(Note { is_lost: true, text: format!("{field}: {why}") });
    }

    /// Notes that `field` is carried over, and what the user should know or do.
    pub fn know(&mut self, field: &str, what: &str) {
        self.all.push(Note { is_lost: false, text: format!("{field}: {what}") });
    }

    /// Whether anything was lost.
    pub fn has_lost(&self) -> bool {
        self.all.iter().any(|note| note.is_lost)
    }
}
