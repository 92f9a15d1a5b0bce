//! The operator itself, with everything around it in memory and the clock under control: hours and days of outages in
//! seconds, every call named, every fault exactly where it is wanted. *Virtual time*, unlike everything else here.
//!
//! | module | what it shows |
//! |---|---|
//! | [`line`] | nothing by itself: what stands between an operator and the world |
//! | [`objects`], [`api_server`] | nothing by itself: Kubernetes in memory |
//! | [`hashes`] | nothing by itself: Redis in memory |
//! | [`parameters`] | nothing by itself: SSM in memory |
//! | [`world`] | nothing by itself: all of it together |
//! | [`static_stability`] | what is served while SSM is away for a day, and what that costs |
//! | [`crash_points`] | the operator dies at any of its calls |
//! | [`two_leaders`] | an operator is stopped, another one goes on, the first one wakes up |

mod api_server;
mod crash_points;
pub mod hashes;
pub mod line;
mod objects;
mod parameters;
mod static_stability;
mod two_leaders;
mod world;
