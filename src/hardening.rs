//! What the process gives up at its start.

use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};

/// No core dumps, and no debugger of the same user: the memory holds every value. Neither needs a right, so a refusal is said and
/// is no reason not to run.
pub fn keep_memory_private() {
    let no_core = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
    let no_debugger = set_dumpable_behavior(DumpableBehavior::NotDumpable);
    if let Err(error) = no_core.and(no_debugger) {
        tracing::warn!(target: "parameter_mirror", %error, "core dumps cannot be switched off; they would hold values");
    }
}
