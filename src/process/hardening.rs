//! What the process gives up at its start.

use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};

/// Disables core dumps and debuggers of the same user, because the memory holds every value. Neither needs a privilege,
/// so a failure is logged and does not end the process.
pub fn keep_memory_private() {
    let no_core = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
    let no_debugger = set_dumpable_behavior(DumpableBehavior::NotDumpable);
    if let Err(error) = no_core.and(no_debugger) {
        tracing::warn!(%error, "core dumps cannot be switched off; they would hold values");
    }
}

/// Prints where a panic occurred and not its text, which can quote the data. For commands that do not log; `run` logs it.
pub fn keep_panics_silent() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map_or_else(String::new, ToString::to_string);
        eprintln!("panic at {place}; this is a fault of parameter-mirror");
    }));
}
