//! The parameter-mirror binary.

fn main() {}
