//! Where the password comes from.

use std::fmt::Debug;
use std::pin::Pin;
use std::sync::Arc;

use crate::Setting;
use parameter_mirror_format::value::Value;

/// The password of one connection, or in a clause for people why there is none.
pub type PasswordFuture<'a> = Pin<Box<dyn Future<Output = Result<Value, String>> + Send + 'a>>;

/// Makes a password for each connection, where none can be given once and for all: a signed request, for instance.
///
/// It is a seam: what signs with an identity of AWS is no part of this crate, and none of whoever only reads.
pub trait SignIn: Debug + Send + Sync {
    /// A password of this user that is good now. Neither it nor anything it was made of is in the clause that says why there is none.
    fn password<'a>(&'a self, user: &'a str) -> PasswordFuture<'a>;

    /// The server has refused the last one. Returns whose it was, and in a sentence for people what to check.
    fn refused(&self, user: &str) -> String;
}

/// Where the password comes from.
#[derive(Debug, Clone)]
pub enum Password {
    /// It is given.
    Given(Setting),
    /// It is made for each connection.
    Made(Arc<dyn SignIn>),
}
