//! The origin of the password.

use std::fmt::Debug;
use std::pin::Pin;
use std::sync::Arc;

use crate::Setting;
use parameter_mirror_format::value::Value;

/// The password of one connection, or a clause for people that says why there is none.
pub type PasswordFuture<'a> = Pin<Box<dyn Future<Output = Result<Value, String>> + Send + 'a>>;

/// Makes a password for each connection, where no fixed one exists: a signed request, for instance.
///
/// This is a seam: signing with an AWS identity is not part of this crate, and programs that only read do not
/// need it.
pub trait SignIn: Debug + Send + Sync {
    /// Returns a password of this user that is valid now. The error clause contains neither the password nor
    /// anything it was made of.
    fn password<'a>(&'a self, user: &'a str) -> PasswordFuture<'a>;

    /// Reports that the server refused the last password. Returns a sentence for people: whose it was, and
    /// what to check.
    fn refused(&self, user: &str) -> String;
}

/// The origin of the password.
#[derive(Debug, Clone)]
pub enum Password {
    /// A fixed password.
    Given(Setting),
    /// A password made for each connection.
    Made(Arc<dyn SignIn>),
}
