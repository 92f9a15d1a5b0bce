//! parameter-mirror.
