//! The operator's keys, the sub-keys of readers, and the encryption of single values.

pub mod envelope;
pub mod keys;
pub mod subkey;
