//! What the process gives up at its start: it holds values, and what opens them.

use rustix::process::{DumpableBehavior, set_dumpable_behavior};

/// No core dump, and no look into the memory by another process of the same user. It takes no right, so a refusal is said and is no
/// reason not to read.
///
/// The size limit of core dumps stays as it is, because the program that `exec` and `watch` start would inherit it. This state it does
/// not inherit: a program that is executed begins as it always does.
pub fn keep_memory_private() {
    if let Err(error) = set_dumpable_behavior(DumpableBehavior::NotDumpable) {
        eprintln!(
            "parameter-mirror-reader: core dumps cannot be switched off ({error}); they would hold values"
        );
    }
}

/// A panic says where it was, and not what: its text can quote what was worked on.
pub fn keep_panics_silent() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map_or_else(String::new, ToString::to_string);
        eprintln!("parameter-mirror-reader: panic at {place}; this is a fault of the reader");
    }));
}
