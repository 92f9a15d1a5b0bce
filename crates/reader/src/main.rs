//! The `parameter-mirror-reader` binary: arguments in, one subcommand out.

fn main() {}
