//! The hash of one mirror as a target.

use std::sync::Arc;

use async_trait::async_trait;
use kube::ResourceExt as _;
use parameter_mirror_format::content::environment::{self, EnvironmentProblem};
use parameter_mirror_format::crypto::keys::KeyRing;
use parameter_mirror_format::hash::{Fence, HashFound, redis_key};
use parameter_mirror_format::verdict::Found;
use parameter_mirror_redis::ConnectionError;

use crate::api::{MirrorRedisStatus, ParameterMirror, ParameterMirrorStatus, RedisEncryption};
use crate::mirror::copies::{self, Action};
use crate::mirror::plan::{Plan, RedisPlan, TargetPlan};
use crate::mirror::schedule;
use crate::mirror::target::{Conflict, Consent, TargetIssue, TargetKind, TargetReason};
use crate::targets::redis::copy::{self, Trace};
use crate::targets::redis::{Check, Guard, HashStore, ScriptOutcome};
use crate::targets::target::{
    Applied, Depth, Identity, Inspection, Kind, ObserveRequest, Outside, Recorded, Services, Target,
    TargetState, WriteContext,
};

/// The Redis of the operator.
pub enum RedisBackend {
    /// There is one; whether it answers is another matter.
    Configured(Arc<dyn HashStore>),
    /// There is none, or its configuration is unusable; says why and what to do.
    NotConfigured(String),
}

/// The hashes of all mirrors.
pub struct RedisKind;

#[async_trait]
impl Kind for RedisKind {
    fn kind(&self) -> TargetKind {
        TargetKind::Redis
    }

    fn create(&self, plan: &TargetPlan) -> Option<Box<dyn Target>> {
        let TargetPlan::Redis(redis) = plan else { return None };
        Some(Box::new(RedisTarget { key: redis.key.clone(), ..RedisTarget::default() }))
    }

    fn recorded(&self, status: &ParameterMirrorStatus) -> Option<Recorded> {
        let MirrorRedisStatus { key, revision, deletion_policy } = status.redis.clone()?;
        Some(Recorded { name: key, revision, deletion_policy })
    }

    fn record(&self, status: &mut ParameterMirrorStatus, recorded: Option<Recorded>) {
        status.redis = recorded.map(|Recorded { name, revision, deletion_policy }| MirrorRedisStatus {
            key: name,
            revision,
            deletion_policy,
        });
    }

    async fn delete(&self, name: &str, mirror: &Identity<'_>, services: &Services<'_>) -> Result<(), String> {
        let RedisBackend::Configured(store) = services.redis else {
            return Err("there is no Redis configured".to_owned());
        };
        let checks = store.check(&[name], copy::OBSERVE).await.map_err(|error| error.to_string())?;
        let Some(Check::Hash { owner: Some(found), fence, .. }) = checks.first() else { return Ok(()) };
        if *found != mirror.owner {
            return Ok(());
        }
        let now = services.clock.now().as_millisecond();
        let guard = Guard { key: name, owner: mirror.owner, fence, mac: None, now, least: now };
        match store.remove(guard, copy::WRITE).await {
            Ok(ScriptOutcome::Done { .. } | ScriptOutcome::Owned { .. } | ScriptOutcome::Gone) => Ok(()),
            Ok(_) => Err("it changed meanwhile".to_owned()),
            Err(error) => Err(error.to_string()),
        }
    }

    /// The hash that the status names, else the one that the spec asks for: it may have been written a moment ago.
    fn held_by_finalizer(&self, mirror: &ParameterMirror, redis_prefix: &str) -> Option<String> {
        let recorded = mirror.status.as_ref().and_then(|status| self.recorded(status));
        let planned = || {
            mirror.spec.redis.as_ref()?;
            Some(redis_key(redis_prefix, &mirror.namespace().unwrap_or_default(), &mirror.name_any()))
        };
        recorded.map(|recorded| recorded.name).or_else(planned)
    }

    fn needs_finalizer(&self) -> bool {
        true
    }

    async fn inspect(
        &self,
        mirror: &ParameterMirror,
        owner: &str,
        outside: &Outside<'_>,
    ) -> Option<Inspection> {
        mirror.spec.redis.as_ref()?;
        let key =
            redis_key(outside.redis_prefix, &mirror.namespace().unwrap_or_default(), &mirror.name_any());
        let name = format!("Redis {key}");
        let observed = match (outside.redis, outside.keys) {
            (Some(store), Some(keys)) => copy::observe(store, &key, owner, keys, None)
                .await
                .map_err(|error| format!("{name} cannot be checked: {error}")),
            _ => Err(format!("{name} was not checked")),
        };
        let is_flawed = observed.as_ref().is_ok_and(|hash| !hash.is_for_readers);
        let flaw = is_flawed.then(|| {
            format!(
                "{name}: somebody else changed the fields that readers verify, so readers refuse the hash. A working operator rewrites \
                 it at its next read"
            )
        });
        let checked_at = observed.as_ref().ok().and_then(|hash| hash.checked_at);
        let found = observed.map(|hash| hash.found);
        Some(Inspection {
            kind: self.kind(),
            name,
            conflict: TargetReason::RedisConflict,
            found,
            flaw,
            checked_at,
        })
    }

    fn delete_by_hand(&self, name: &str) -> String {
        format!("UNLINK '{name}'")
    }
}

/// The hash of one mirror.
#[derive(Default)]
struct RedisTarget {
    key: String,
    state: TargetState,
    /// What was found or written last.
    observed: Option<HashFound>,
    /// What shows a change since the values were evicted.
    evicted: Option<Trace>,
    /// The highest fence that a write may have given the hash, whatever became of that write; 0 if none was tried.
    tried: i64,
}

impl RedisTarget {
    /// Returns the least fence for a write now over a hash with this one, and notes what the write comes to. Redis may lose a write
    /// that a reader has seen, and the clock may be set back: no number is used twice.
    fn least_fence(&mut self, over: &Fence, now: i64) -> i64 {
        let least = now.max(self.tried.saturating_add(1));
        self.tried = least.max(over.number().map_or(least, |fence| fence.saturating_add(1)));
        least
    }

    /// Compares the observed hash with the wanted one and writes what is needed, once.
    async fn write(
        &mut self,
        redis: &RedisPlan,
        write: &WriteContext<'_>,
        (store, keys): (&dyn HashStore, &KeyRing),
        services: &Services<'_>,
    ) -> Result<Applied, ConnectionError> {
        let now = services.clock.now().as_millisecond();
        let conflict = self.conflict(write.plan, services);
        let Some(observed) = self.observed.clone() else { return Ok(Applied::default()) };
        let mode = redis.encryption.max(write.encryption).into();
        let mut action = write.decide(&observed.found, observed.consents, conflict, &self.state);
        if action == Action::Nothing && !copy::is_laid_out_as(&observed, mode) {
            action = Action::Replace;
        }
        let unusable = environment::problem(&write.signed.content.entries);
        if let (Action::Restore(_) | Action::Replace, Some(problem)) = (&action, &unusable)
            && problem.is_of_a_parameter()
        {
            return Ok(self.state.refused(not_usable(write, problem, "The hash is held whole")));
        }
        match (&action, write.heartbeat) {
            (Action::Refused(issue), _) => return Ok(self.state.refused(issue.clone())),
            (Action::Nothing, None) => {
                write.in_order(&mut self.state);
                return Ok(Applied::default());
            }
            (Action::Nothing, Some(_)) | (Action::Restore(_) | Action::Replace, _) => {}
        }
        let guard = Guard {
            key: &redis.key,
            owner: &write.plan.owner,
            fence: &observed.fence,
            mac: copies::verified(Some(&observed.found)).map(|signed| signed.mac.as_str()),
            now,
            least: self.least_fence(&observed.fence, now),
        };
        let outcome = match (&action, write.heartbeat) {
            (Action::Nothing, Some(heartbeat)) => {
                copy::heartbeat(store, guard, heartbeat, keys, &observed).await
            }
            (_, heartbeat) => copy::write(store, guard, write.signed, mode, keys, &observed, heartbeat).await,
        };
        Ok(match outcome? {
            ScriptOutcome::Done { fence, generation } => {
                self.observed = Some(copy::after(&observed, write.signed, mode, fence, generation));
                if action == Action::Nothing {
                    write.in_order(&mut self.state);
                    return Ok(Applied::default());
                }
                write.carried_out(&action, &observed.found, &mut self.state)
            }
            ScriptOutcome::Owned { .. } => {
                self.observed = None;
                self.state.refused(TargetIssue::conflict(conflict))
            }
            ScriptOutcome::Stale | ScriptOutcome::Gone | ScriptOutcome::Torn => {
                self.observed = None;
                self.state.note_conflict()
            }
            ScriptOutcome::NewerLayout | ScriptOutcome::WrongType => {
                self.observed = None;
                Applied::default()
            }
        })
    }

    /// Invalidates the observation. The hash is read again before the next write.
    fn lost(&mut self, error: &ConnectionError) {
        self.observed = None;
        self.state.issue = Some(issue(error));
    }
}

#[async_trait]
impl Target for RedisTarget {
    fn kind(&self) -> TargetKind {
        TargetKind::Redis
    }

    fn name(&self) -> &str {
        &self.key
    }

    fn state(&self) -> &TargetState {
        &self.state
    }

    fn state_mut(&mut self) -> &mut TargetState {
        &mut self.state
    }

    fn is_configured(&self, services: &Services<'_>) -> bool {
        matches!(services.redis, RedisBackend::Configured(_))
    }

    fn is_observed(&self) -> bool {
        self.observed.is_some()
    }

    fn found(&self) -> Option<&Found> {
        self.observed.as_ref().map(|observed| &observed.found)
    }

    fn found_mut(&mut self) -> Option<&mut Found> {
        self.observed.as_mut().map(|observed| &mut observed.found)
    }

    fn invalidate(&mut self) {
        self.observed = None;
    }

    /// The owner is an operator of another cluster, whose mirrors cannot be seen from here: it is alive if it has confirmed the hash
    /// lately.
    fn conflict(&self, plan: &Plan, services: &Services<'_>) -> Conflict {
        let checked_at = self.observed.as_ref().and_then(|observed| observed.checked_at);
        let silence = i64::try_from(schedule::stale_after(plan.interval).as_millis()).unwrap_or(i64::MAX);
        let now = services.clock.now().as_millisecond();
        let is_alive = checked_at.is_some_and(|checked_at| now.saturating_sub(checked_at) < silence);
        let consent = match &self.observed {
            Some(observed) if !observed.is_hash => Consent::Impossible,
            _ if is_alive => Consent::OwnerAlive,
            _ => Consent::Possible,
        };
        Conflict { reason: TargetReason::RedisConflict, consent }
    }

    async fn observe(&mut self, request: &ObserveRequest<'_>, services: &Services<'_>) {
        self.evicted = None;
        let store = match services.redis {
            RedisBackend::Configured(store) => store.as_ref(),
            RedisBackend::NotConfigured(why) => {
                self.state.issue = Some(TargetIssue::new(TargetReason::RedisNotConfigured, why.clone()));
                return;
            }
        };
        let Some(keys) = services.keys else { return };
        if request.depth == Depth::Cheap
            && let Some(known) = &self.observed
        {
            let is_usable = known.found == Found::Missing || copies::verified(Some(&known.found)).is_some();
            if request.has_answer && is_usable {
                // The answer leads to a heartbeat or to new content, and the script of either compares what this would compare.
                return;
            }
            match copy::is_unchanged(store, &self.key, &Trace::of(known)).await {
                Ok(true) => return,
                Ok(false) => {}
                Err(error) => return self.lost(&error),
            }
        }
        match copy::observe(store, &self.key, &request.plan.owner, keys, self.observed.as_ref()).await {
            Ok(observed) => {
                let before = self.observed.as_ref();
                let has_changed = before
                    .is_some_and(|before| before.fence != observed.fence || before.found != observed.found);
                self.state.external_changes += u64::from(has_changed);
                self.state.issue = None;
                self.observed = Some(observed);
            }
            Err(error) => self.lost(&error),
        }
    }

    async fn apply(
        &mut self,
        plan: &TargetPlan,
        write: &WriteContext<'_>,
        services: &Services<'_>,
    ) -> Applied {
        let (TargetPlan::Redis(redis), RedisBackend::Configured(store)) = (plan, services.redis) else {
            return Applied::default();
        };
        let Some(keys) = services.keys else { return Applied::default() };
        let store = store.as_ref();
        let applied = match self.write(redis, write, (store, keys), services).await {
            Err(error) if error.is_of_the_connection() => {
                // Nobody need notice that an idle connection was closed or forgotten on the way. It is not known whether Redis
                // executed the write, so the hash is read back.
                match copy::observe(store, &self.key, &write.plan.owner, keys, None).await {
                    Ok(observed) => {
                        self.observed = Some(observed);
                        self.write(redis, write, (store, keys), services).await
                    }
                    Err(error) => Err(error),
                }
            }
            outcome => outcome,
        };
        let applied = applied.unwrap_or_else(|error| {
            self.lost(&error);
            Applied::default()
        });
        if self.state.issue.is_none()
            && let Some(problem) = environment::problem(&write.signed.content.entries)
        {
            self.state.issue = Some(not_usable(write, &problem, "The hash is up to date"));
        }
        applied
    }

    fn evict(&mut self) {
        self.evicted = self.observed.take().map(|observed| Trace::of(&observed));
    }

    async fn is_unchanged(&self, _: &str, services: &Services<'_>) -> bool {
        let (Some(known), RedisBackend::Configured(store)) = (&self.evicted, services.redis) else {
            return false;
        };
        copy::is_unchanged(store.as_ref(), &self.key, known).await.unwrap_or(false)
    }

    fn checked_at(&self) -> Option<i64> {
        self.observed.as_ref()?.checked_at
    }

    fn is_out_of_reach(&self) -> bool {
        true
    }

    /// One that is lost had an encryption that nobody knows.
    fn held_encryption(&self) -> RedisEncryption {
        let held = self.observed.as_ref().filter(|hash| copies::verified(Some(&hash.found)).is_some());
        held.and_then(|hash| hash.encryption.as_ref())
            .map_or(RedisEncryption::All, |encryption| encryption.mode().into())
    }
}

/// A set that the reader would refuse.
fn not_usable(write: &WriteContext<'_>, problem: &EnvironmentProblem, state: &str) -> TargetIssue {
    let detail = match (problem, write.desired.key_problems.first()) {
        (EnvironmentProblem::Keyless(_), Some(problem)) => {
            format!("{problem}. Give one of them a `key`, or exclude it")
        }
        _ => problem.to_string(),
    };
    let detail = format!("{state}, because no program can be started with the set: {detail}");
    TargetIssue::new(TargetReason::RedisNotUsable, detail)
}

/// A failed call to Redis as an issue of the hash.
fn issue(error: &ConnectionError) -> TargetIssue {
    let (reason, hint) = match error {
        ConnectionError::OutOfMemory => (TargetReason::RedisOutOfMemory, "Raise maxmemory or remove keys."),
        ConnectionError::SignInRefused(_) => {
            (TargetReason::RedisDenied, "It is tried again every few seconds.")
        }
        error if error.is_denied() => (TargetReason::RedisDenied, "Check the ACL user and its password."),
        ConnectionError::WrongType => (TargetReason::RedisConflict, "The key exists and is no hash."),
        ConnectionError::Settings(_) => {
            (TargetReason::RedisNotConfigured, "Correct the operator's Redis configuration.")
        }
        ConnectionError::NothingToSignInWith(_) => (
            TargetReason::RedisUnavailable,
            "Give the operator an AWS identity again; it is filled as soon as there is one.",
        ),
        _ => (TargetReason::RedisUnavailable, "It is filled as soon as it answers."),
    };
    TargetIssue::new(reason, format!("{error}. {hint}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The clock is set back, Redis forgets writes and somebody writes nonsense: what was tried once is never tried again.
    #[test]
    fn no_fence_is_tried_twice() {
        let mut target = RedisTarget::default();
        let mut tried = std::collections::BTreeSet::new();
        for (over, now) in
            [("", 100), ("100", 90), ("100", 90), ("7", 50), ("500", 60), ("500", 61), ("x", 61)]
        {
            let over = Fence::new(over.as_bytes().to_vec());
            let least = target.least_fence(&over, now);
            let written = over.number().map_or(least, |fence| least.max(fence + 1));
            assert!(tried.insert(written), "{written} over {over:?} at {now}");
            assert!(least >= now && written == target.tried);
        }
    }
}
