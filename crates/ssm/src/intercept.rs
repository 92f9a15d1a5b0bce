//! What is done with an answer before and after the SDK reads it.

use std::error::Error;
use std::sync::{Arc, OnceLock};

use aws_sdk_ssm::config::interceptors::{
    AfterDeserializationInterceptorContextRef, BeforeDeserializationInterceptorContextMut,
    BeforeTransmitInterceptorContextRef,
};
use aws_sdk_ssm::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_ssm::error::BoxError;
use aws_smithy_types::body::SdkBody;
use http_body_util::{LengthLimitError, Limited};
use tracing_mutex::parkinglot::Mutex;

use crate::client::RawAnswer;
use crate::error::causes;

/// The largest answer, bytes. Ten values of 8 KiB are far below it, even with every character escaped. The SDK would hold
/// an answer of any size in memory.
pub(crate) const MAX_ANSWER: usize = 8 * 1024 * 1024;

/// Ends an answer that is too large.
#[derive(Debug)]
pub(crate) struct LimitAnswer;

impl Intercept for LimitAnswer {
    fn name(&self) -> &'static str {
        "LimitAnswer"
    }

    fn modify_before_deserialization(
        &self,
        context: &mut BeforeDeserializationInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let body = context.response_mut().body_mut();
        let unlimited = std::mem::replace(body, SdkBody::taken());
        *body = SdkBody::from_body_1_x(Limited::new(unlimited, MAX_ANSWER));
        Ok(())
    }
}

/// Whether a call failed because of [`LimitAnswer`].
pub(crate) fn is_too_large(error: &(dyn Error + 'static)) -> bool {
    causes(error).any(<dyn Error>::is::<LengthLimitError>)
}

/// Keeps the host that requests go to, which is the same for all of a client. Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct KeepHost(Arc<OnceLock<String>>);

impl KeepHost {
    /// Returns the host with its port, if it has one; before the first request a word in its place.
    pub(crate) fn get(&self) -> String {
        self.0.get().cloned().unwrap_or_else(|| "SSM".to_owned())
    }
}

impl Intercept for KeepHost {
    fn name(&self) -> &'static str {
        "KeepHost"
    }

    fn read_before_transmit(
        &self,
        context: &BeforeTransmitInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        self.0.get_or_init(|| authority(context.request().uri()).to_owned());
        Ok(())
    }
}

/// Returns the host of a URL, with its port and without a user, who may have a password.
fn authority(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split(['/', '?', '#']).next().unwrap_or(rest);
    authority.rsplit_once('@').map_or(authority, |(_, host)| host)
}

/// Keeps the answer as it was received. Clones share it.
#[derive(Clone, Default)]
pub(crate) struct KeepAnswer(Arc<Mutex<Option<RawAnswer>>>);

impl KeepAnswer {
    /// Returns the answer, if there was one.
    pub(crate) fn take(&self) -> Option<RawAnswer> {
        self.0.lock().take()
    }
}

impl Intercept for KeepAnswer {
    fn name(&self) -> &'static str {
        "KeepAnswer"
    }

    fn read_after_deserialization(
        &self,
        context: &AfterDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let response = context.response();
        let received = response
            .body()
            .bytes()
            .map(|body| RawAnswer { status: response.status().as_u16(), body: body.to_vec() });
        *self.0.lock() = received;
        Ok(())
    }
}

impl std::fmt::Debug for KeepAnswer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeepAnswer").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_url_the_host_is_shown_and_no_password() {
        for (url, host) in [
            ("https://ssm.us-east-1.amazonaws.com/", "ssm.us-east-1.amazonaws.com"),
            ("http://[::1]:4566", "[::1]:4566"),
            ("http://me:hunter2@localhost:4566/x@y", "localhost:4566"),
        ] {
            assert_eq!(authority(url), host);
        }
    }
}
