//! Integration tests against real parts.
mod redis_store;
