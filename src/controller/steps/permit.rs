//! Between resolve and publish: decides what may be written of the resolved set, by where the set was read.

use parameter_mirror_format::content::source::StoredSource;

use crate::api::{ParameterMirrorStatus, RedisEncryption};
use crate::controller::context::Context;
use crate::controller::state::target_state::Targets;
use crate::mirror::copies;
use crate::mirror::plan::permission::{Existing, Permission};
use crate::mirror::plan::{Plan, SourcePlan};
use crate::mirror::resolve::Resolution;
use crate::mirror::target::{TargetIssue, TargetKind, TargetReason};
use crate::targets::recorded;
use crate::targets::target::Target;

/// What may be written to each target: the least encryption of values in Redis, or why nothing may be written.
pub struct WritePermit(Vec<(TargetKind, Result<RedisEncryption, TargetIssue>)>);

impl WritePermit {
    fn all(targets: &Targets, permit: &Result<RedisEncryption, TargetIssue>) -> Self {
        Self(targets.iter().map(|target| (target.kind(), permit.clone())).collect())
    }

    /// Returns what may be written to the target of this kind.
    pub fn of(&self, kind: TargetKind) -> Result<RedisEncryption, TargetIssue> {
        let found = self.0.iter().find(|(permitted, _)| *permitted == kind);
        found.map_or(Ok(RedisEncryption::None), |(_, permit)| permit.clone())
    }
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
        return WritePermit::all(targets, &Ok(RedisEncryption::None));
    };
    match permission(plan, &stored, ctx) {
        Permission::Granted { encryption } => WritePermit::all(targets, &Ok(encryption)),
        Permission::SourceMissing => while_missing(plan, previous, targets),
        Permission::NotGranted => WritePermit::all(targets, &Err(not_granted(plan, &stored))),
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
                 them. Create it, or name another one in spec.sourceRef",
                plan.source_name
            ),
        )
    };
    let permit = |target: &(dyn Target + 'static)| {
        let was_written =
            recorded(target.kind(), previous).is_some_and(|recorded| recorded.name == target.name());
        let is_known = was_written || copies::verified(target.found()).is_some();
        (target.kind(), if is_known { Ok(target.held_encryption()) } else { Err(new()) })
    };
    WritePermit(targets.iter().map(permit).collect())
}

fn not_granted(plan: &Plan, stored: &StoredSource) -> TargetIssue {
    TargetIssue::new(
        TargetReason::NotGranted,
        format!(
            "the values at hand were read in {} through ParameterSource {}, and no ParameterSource that exists grants them to \
             namespace {}: they are not written. Ask for a grant, or wait for a read of what spec.sourceRef grants",
            stored.region, stored.name, plan.namespace
        ),
    )
}
