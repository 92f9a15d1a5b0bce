//! What the process gives up at its start.

use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};

/// No core dumps, and no debugger of the same user: the memory holds every value. Neither needs a right, so a refusal is said and
/// is no reason not to run.
pub fn keep_memory_private() {
    let no_core = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
    let no_debugger = set_dumpable_behavior(DumpableBehavior::NotDumpable);
    if let Err(error) = no_core.and(no_debugger) {
        tracing::warn!(%error, "core dumps cannot be switched off; they would hold values");
    }
}

/// A panic says where it was, and not what: its text can quote what was worked on. For commands that do not log; `run` says it in
/// its log.
pub fn keep_panics_silent() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map_or_else(String::new, ToString::to_string);
        eprintln!("panic at {place}; this is a fault of parameter-mirror");
    }));
}
