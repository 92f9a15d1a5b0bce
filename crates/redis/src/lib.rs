//! The connection to Redis, which operator and reader share: one server or a cluster, TLS, passwords that are made for each
//! connection, and deadlines that hold.
#![cfg_attr(
    test,
    allow(
        clippy::significant_drop_tightening,
        clippy::disallowed_methods,
        reason = "a test may inspect and hold anything"
    )
)]

mod args;
mod connection;
mod error;
pub mod eviction;
mod lifetime;
mod password;
mod servers;
mod settings;
mod stream;

pub use args::RedisArgs;
pub use connection::Connection;
pub use error::ConnectionError;
pub use password::{Password, PasswordFuture, SignIn};
pub use servers::RedisClient;
pub use settings::{RedisSettings, Setting, SettingsError};
