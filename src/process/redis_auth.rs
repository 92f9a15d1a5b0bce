//! Signs in to an AWS Redis with the operator's own identity.

use std::sync::Arc;
use std::time::Duration;

use aws_config::Region;
use parameter_mirror_redis::{PasswordFuture, RedisSettings, SettingsError, SignIn};
use tokio::time::Instant;
use tracing_mutex::parkinglot::Mutex;

use crate::cli::RedisIamArgs;
use crate::targets::redis::token::{Cache, NotACache};
use parameter_mirror_clock::Clock;
use parameter_mirror_ssm::credentials::{
    CredentialsCache, CredentialsGeneration, OperatorIdentity, region_of_environment,
};

/// Both services end a connection 12 h after its sign-in. Its successor, which takes a moment, is made in the last hour.
const LIFETIME: Duration = Duration::from_hours(11);
/// Minimum time between two fetches of other credentials after a refusal. A refusal does not say whether the
/// credentials or the policy is the reason: other credentials help after a rotation, but not while a policy is missing.
const ANOTHER_KEY_EACH: Duration = Duration::from_mins(10);

/// Why Redis cannot be used as configured.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    /// A setting is wrong or contradicts another.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The given name is not the name of a cache.
    #[error("--redis-iam-cache: {0}")]
    Cache(#[from] NotACache),
    /// The region of the cache is unknown.
    #[error(
        "the region of the cache is not known: give --redis-iam-region (chart: redis.iam.region), or set AWS_REGION"
    )]
    NoRegion,
}

/// Returns the settings with the requested way to sign in, checked.
pub async fn settled(
    mut settings: RedisSettings,
    iam: &RedisIamArgs,
    base: &OperatorIdentity,
) -> Result<RedisSettings, Unusable> {
    if let Some(name) = &iam.redis_iam_cache {
        let region = match &iam.redis_iam_region {
            Some(region) => Region::new(region.clone()),
            None => region_of_environment().await.ok_or(Unusable::NoRegion)?,
        };
        let cache = Cache::new(iam.redis_iam_service, name, region.to_string())?;
        // Before anything is signed: credentials are fetched while the other dependencies are created.
        let identity = IamAuth::new(cache, base.principal(&region), base.clock().clone());
        settings.sign_in_with(Arc::new(identity), LIFETIME)?;
    }
    settings.check()?;
    Ok(settings)
}

/// Signs in to a cache with an AWS identity.
#[derive(Debug)]
pub struct IamAuth {
    cache: Cache,
    principal: Arc<CredentialsCache>,
    clock: Clock,
    used: Mutex<Used>,
}

#[derive(Debug, Default)]
struct Used {
    /// The generation of the credentials in the latest token.
    generation: CredentialsGeneration,
    /// When other credentials were last requested.
    rejected: Option<Instant>,
}

impl Used {
    /// Returns the generation of credentials to replace, unless others were requested a moment ago.
    fn refuse(&mut self, now: Instant) -> Option<CredentialsGeneration> {
        let is_due = self.rejected.is_none_or(|at| now.duration_since(at) >= ANOTHER_KEY_EACH);
        is_due.then(|| {
            self.rejected = Some(now);
            self.generation
        })
    }
}

impl IamAuth {
    /// Signs in to `cache` with the credentials of `principal`, by this clock.
    #[must_use]
    pub fn new(cache: Cache, principal: Arc<CredentialsCache>, clock: Clock) -> Self {
        Self { cache, principal, clock, used: Mutex::default() }
    }
}

impl SignIn for IamAuth {
    fn password<'a>(&'a self, user: &'a str) -> PasswordFuture<'a> {
        Box::pin(async move {
            let (generation, credentials) =
                self.principal.credentials().await.map_err(|none| none.to_string())?;
            self.used.lock().generation = generation;
            let token = self.cache.token(user, &credentials, self.clock.now().into());
            token.map_err(|unsignable| unsignable.to_string())
        })
    }

    fn refused(&self, user: &str) -> String {
        let refused = self.used.lock().refuse(Instant::now());
        if let Some(generation) = refused {
            self.principal.rejected(generation);
        }
        format!(
            "as user {user} to {cache} with the credentials of {whose}. Check that the IAM policy of that identity allows {action} on the \
             cache and on the user, that the user is the cache's and has authentication mode IAM, and that name and region of the cache \
             and this machine's clock are right",
            cache = self.cache.description(),
            whose = self.principal.whose(),
            action = self.cache.service().action(),
        )
    }
}
