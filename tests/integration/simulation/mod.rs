//! The operator itself, with everything around it in memory and the clock under control: hours and days of
//! outages in seconds, every call named, every fault exactly where it is wanted. *Virtual time*, unlike
//! everything else here.
//!
//! | module | what it shows |
//! |---|---|
//! | [`line`] | helper: the line between an operator and the world |
//! | [`objects`], [`api_server`] | helper: Kubernetes in memory |
//! | [`hashes`] | helper: Redis in memory |
//! | [`parameters`] | helper: SSM in memory |
//! | [`world`] | helper: all of it together |
//! | [`static_stability`] | what is served while SSM is down for a day, and what that costs |
//! | [`reporting`] | what the status reports, how soon, and with how few writes |
//! | [`isolation`] | one poisoned mirror among many, and a process that hangs |
//! | [`slow_edges`] | one mirror beside many while an edge is slow |
//! | [`bounds`] | large or numerous input of a tenant |
//! | [`bootstrap`] | a new mirror in an outage |
//! | [`brown_out`] | some requests fail and some are answered |
//! | [`first_sync`] | the API calls for a new mirror, and a Secret that no watch shows |
//! | [`outages`] | outages of the public record, by date |
//! | [`lagging`] | a replica of SSM that answers from the past |
//! | [`copies`] | which copy counts, with restored backups and wrong clocks |
//! | [`pacing`] | how soon a mirror without a set is read again, and what a read that never succeeds costs |
//! | [`past`] | sets that were read from another source or under another grant |
//! | [`eviction`] | values that targets hold and memory does not |
//! | [`watches`] | watches that lag, skip and restart |
//! | [`unwatched`] | Secrets that are read instead of watched |
//! | [`crash_points`] | the operator crashes at any of its calls |
//! | [`chaos`] | everything fails at random, then nothing does |
//! | [`two_leaders`] | an operator is stopped, another one continues, the first one resumes |

mod api_server;
mod bootstrap;
mod bounds;
mod brown_out;
mod chaos;
mod contract;
mod copies;
mod crash_points;
mod eviction;
mod first_sync;
pub mod hashes;
mod isolation;
mod lagging;
pub mod line;
mod objects;
mod outages;
mod pacing;
mod parameters;
mod past;
mod reporting;
mod slow_edges;
mod static_stability;
mod two_leaders;
mod unwatched;
mod watches;
pub mod world;
