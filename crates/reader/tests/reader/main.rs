//! The reader as a process, on mirrors that the operator's own code has written into a real Redis.

mod bad_input;
mod commands;
mod lambda;
mod order;
mod recipes;
mod serve;
mod size;
mod torn;
mod verify;
mod world;
