//! The client of SSM: the AWS SDK with a deadline for every call, answers that are checked to be complete, errors that
//! hold no bodies, and credentials that survive an outage of STS.
//!
//! | module | what |
//! |---|---|
//! | `client` | one identity's client |
//! | `answer` | requests, and answers that are checked to be complete |
//! | `listing` | the pages of a listing, checked to belong to it |
//! | `names` | names to look up, ten at a time, and which answer belongs to which |
//! | `intercept` | what is done with an answer before and after the SDK reads it |
//! | `error` | classes of errors, without bodies |
//! | `no_connection` | why there is no connection |
//! | `http` | the HTTP client: proxies and certificates |
//! | `partition` | the partitions of AWS: ARNs and host names |
//! | [`credentials`] | caches of credentials that survive an outage of STS |
#![cfg_attr(
    test,
    allow(
        clippy::significant_drop_tightening,
        clippy::disallowed_methods,
        reason = "a test may inspect and hold anything"
    )
)]

mod answer;
mod client;
pub mod credentials;
mod error;
mod http;
mod intercept;
mod listing;
mod names;
mod no_connection;
mod partition;

pub use aws_config::Region;

pub use answer::{Batch, ListPage, Listed, PAGE, Page};
pub use client::{Deadline, Endpoint, Probed, RawAnswer, SsmClient};
pub use error::{SsmError, SsmErrorKind};
pub use http::{CaBundleError, check_ca_bundle};
pub use listing::{CheckedPage, Listing};
pub use names::{LookedUp, NameBatch, batches, refuse_ciphertext};
pub use partition::Partition;
