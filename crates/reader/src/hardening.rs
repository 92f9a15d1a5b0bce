//! What the process gives up at its start, because it holds values and the keys to decrypt them.

use rustix::process::{DumpableBehavior, set_dumpable_behavior};

/// Disables core dumps, and access to the memory by other processes of the same user. This needs no
/// permission; if it is refused, the reader reports it and continues.
///
/// The size limit of core dumps stays unchanged, because the program that `exec` and `watch` start would
/// inherit it. It does not inherit this state: execve(2) resets it.
pub fn keep_memory_private() {
    if let Err(error) = set_dumpable_behavior(DumpableBehavior::NotDumpable) {
        eprintln!(
            "parameter-mirror-reader: core dumps cannot be switched off ({error}); they would hold values"
        );
    }
}

/// Makes a panic report only its position. Its text could quote the data it occurred on.
pub fn keep_panics_silent() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map_or_else(String::new, ToString::to_string);
        eprintln!("parameter-mirror-reader: panic at {place}; this is a fault of the reader");
    }));
}
