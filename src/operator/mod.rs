//! The operator: edges, work queues, and what holds them together.
//!
//! [`reconcile`] is one pass over one mirror and reads as the product does. Everything else here serves it.

pub mod admin;
pub mod cleanup;
pub mod context;
pub mod controller;
pub mod donors;
pub mod drill;
pub mod election;
pub mod events;
mod evictions;
mod exposition;
pub mod gauges;
pub mod in_step;
pub mod keys;
pub mod live;
pub mod memory;
pub mod metrics;
mod news;
pub mod observe;
pub mod operate;
mod per_mirror;
pub mod permit;
pub mod publish;
pub mod put_down;
pub mod queue;
pub mod reading;
pub mod reconcile;
pub mod report;
pub mod run;
pub mod said;
mod shares;
pub mod sign_in;
pub mod source_health;
pub mod term;
pub mod undecodable;
mod unpublished;
pub mod values;
pub mod watches;
pub mod while_leading;
