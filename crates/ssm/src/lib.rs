//! The client of SSM: the AWS SDK with a deadline for every call, answers that are checked to be complete, errors that
//! hold no bodies, and credentials that survive an outage of STS.
//!
//! | module | what |
//! |---|---|
//! | `client` | one identity's client |
//! | `answer` | requests, and answers that are checked to be complete |
//! | `error` | classes of errors, without bodies |
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

pub use answer::{Batch, ListPage, Listed, PAGE, Page};
pub use client::{Probed, SsmClient};
pub use error::{SsmError, SsmErrorKind};
