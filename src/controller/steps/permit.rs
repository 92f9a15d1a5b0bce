//! Between resolve and publish: decides what may be written of the resolved set, by where the set was read.

use parameter_mirror_format::content::source::StoredSource;

use crate::api::{ParameterMirrorStatus, RedisEncryption};
use crate::controller::context::Context;
use crate::controller::state::target_state::Targets;
use crate::mirror::copies;
use crate::mirror::plan::permission::{Existing, Permission};
use crate::mirror::plan::{Plan, SourcePlan};
use crate::mirror::resolve::Resolution;
use crate::mirror::target::{TargetIssue, TargetReason};

/// What may be written to each target.
pub struct WritePermit {
    /// Whether the Secret may be written, or why not.
    pub secret: Result<(), TargetIssue>,
    /// The least encryption of the hash, or why the hash may not be written.
    pub redis: Result<RedisEncryption, TargetIssue>,
}

/// Judges the set that the targets are to hold. `previous` names the targets that were written before.
#[must_use]
pub fn permit(
    plan: &Plan,
    resolution: &Resolution,
    previous: &ParameterMirrorStatus,
    targets: &Targets,
    ctx: &Context,
) -> WritePermit {
    let Some(stored) =
        resolution.desired().and_then(|desired| StoredSource::decode(&desired.set.content().source).ok())
    else {
        return WritePermit { secret: Ok(()), redis: Ok(RedisEncryption::None) };
    };
    match permission(plan, &stored, ctx) {
        Permission::Granted { encryption } => WritePermit { secret: Ok(()), redis: Ok(encryption) },
        Permission::SourceMissing => while_missing(plan, previous, targets),
        Permission::NotGranted => {
            let issue = not_granted(plan, &stored);
            WritePermit { secret: Err(issue.clone()), redis: Err(issue) }
        }
    }
}

/// Judges by the mirror's own source, which is nearly always enough, and by the other sources only if it is not.
fn permission(plan: &Plan, stored: &StoredSource, ctx: &Context) -> Permission {
    let existing = |(name, source): (String, SourcePlan)| {
        let account = ctx.ssm.account_of(&source).key.known().map(str::to_owned);
        Existing { name, plan: source, account }
    };
    if let Some(source) = &plan.source {
        let own = existing((plan.source_name.clone(), source.clone()));
        let permission = plan.permission(stored, std::slice::from_ref(&own));
        if matches!(permission, Permission::Granted { .. }) {
            return permission;
        }
    }
    let all: Vec<_> = ctx.watches.sources_for(&plan.namespace).into_iter().map(existing).collect();
    plan.permission(stored, &all)
}

/// Permits the targets that were written before and no other ones. A value that is encrypted is never written in clear.
fn while_missing(plan: &Plan, previous: &ParameterMirrorStatus, targets: &Targets) -> WritePermit {
    let new = || {
        TargetIssue::new(
            TargetReason::SourceNotFound,
            format!(
                "ParameterSource {} does not exist, so nobody says whether its values are still granted: no new target gets \
                 them. Create it, or name another one in spec.source",
                plan.source_name
            ),
        )
    };
    let wrote_secret = previous.secret.as_ref().map(|secret| &secret.name);
    let wrote_hash = previous.redis.as_ref().map(|redis| &redis.key);
    let secret = targets.secret.observed.as_ref().and_then(|secret| secret.found.as_ref());
    let held = targets.redis.observed.as_ref().filter(|hash| copies::verified(Some(&hash.found)).is_some());
    let had_secret = copies::verified(secret).is_some()
        || plan.secret.as_ref().is_some_and(|desired| wrote_secret == Some(&desired.name));
    let had_hash =
        held.is_some() || plan.redis.as_ref().is_some_and(|desired| wrote_hash == Some(&desired.key));
    // The encryption of a hash that is lost is unknown, so all values are encrypted.
    let encryption = held
        .and_then(|hash| hash.encryption.as_ref())
        .map_or(RedisEncryption::All, |encryption| encryption.mode().into());
    WritePermit {
        secret: if had_secret { Ok(()) } else { Err(new()) },
        redis: if had_hash { Ok(encryption) } else { Err(new()) },
    }
}

fn not_granted(plan: &Plan, stored: &StoredSource) -> TargetIssue {
    TargetIssue::new(
        TargetReason::NotGranted,
        format!(
            "the values at hand were read in {} through ParameterSource {}, and no ParameterSource that exists grants them to \
             namespace {}: they are not written. Ask for a grant, or wait for a read of what spec.source grants",
            stored.region, stored.name, plan.namespace
        ),
    )
}
