//! The operator itself, with everything around it in memory and the clock under control: hours and days of outages in
//! seconds, every call named, every fault exactly where it is wanted. *Virtual time*, unlike everything else here.
//!
//! | module | what it shows |
//! |---|---|
//! | [`line`] | nothing by itself: what stands between an operator and the world |
//! | [`objects`], [`api_server`] | nothing by itself: Kubernetes in memory |
//! | [`hashes`] | nothing by itself: Redis in memory |
//! | [`parameters`] | nothing by itself: SSM in memory |
//! | [`contract`] | Kubernetes in memory behaves as a real API server |
//! | [`world`] | nothing by itself: all of it together |
//! | [`static_stability`] | what is served while SSM is away for a day, and what that costs |
//! | [`telling`] | what the status tells, how soon, and how quietly |
//! | [`isolation`] | one poisoned mirror among many, and a process that hangs |
//! | [`donors`] | a new mirror in an outage |
//! | [`brown_out`] | some requests fail and some are answered |
//! | [`first_sync`] | what a new mirror costs, and a Secret that no watch shows |
//! | [`outages`] | outages of the public record, by date |
//! | [`lagging`] | a replica of SSM that answers out of the past |
//! | [`copies`] | which copy counts, with restored backups and wrong clocks |
//! | [`memory`] | values that two targets hold and memory does not |
//! | [`watches`] | watches that lag, skip and begin anew |
//! | [`unwatched`] | Secrets that are asked for instead of watched |
//! | [`crash_points`] | the operator dies at any of its calls |
//! | [`chaos`] | everything goes wrong at random, then nothing does |
//! | [`two_leaders`] | an operator is stopped, another one goes on, the first one wakes up |

mod api_server;
mod bounds;
mod brown_out;
mod chaos;
mod contract;
mod copies;
mod crash_points;
mod donors;
mod first_sync;
pub mod hashes;
mod isolation;
mod lagging;
pub mod line;
mod memory;
mod objects;
mod outages;
mod parameters;
mod past;
mod slow_edges;
mod static_stability;
mod telling;
mod two_leaders;
mod unwatched;
mod watches;
pub mod world;
