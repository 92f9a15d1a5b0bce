//! What every target has in common. The controller knows targets by these two traits only.

use std::time::Duration;

use async_trait::async_trait;
use parameter_mirror_format::content::Signed;
use parameter_mirror_format::crypto::keys::KeyRing;
use parameter_mirror_format::verdict::Found;

use crate::api::{DeletionPolicy, ParameterMirror, ParameterMirrorStatus, RedisEncryption};
use crate::kubernetes::watches::Watches;
use crate::mirror::copies::{self, Action, Freshness};
use crate::mirror::plan::{Plan, TargetPlan};
use crate::mirror::resolve::Desired;
use crate::mirror::schedule::{HealLimiter, MAX_HEALS};
use crate::mirror::target::{Conflict, Consent, TargetIssue, TargetKind, TargetReason};
use crate::targets::redis::{HashStore, Heartbeat, RedisBackend};
use crate::targets::secret::{Owner, SecretStore};
use jiff::Timestamp;
use parameter_mirror_clock::Clock;

/// A kind of target: what is the same for the targets of all mirrors.
#[async_trait]
pub trait Kind: Sync {
    /// Returns which kind this is.
    fn kind(&self) -> TargetKind;

    /// Returns a target that nobody has observed yet; `None` if the plan is for another kind.
    fn create(&self, plan: &TargetPlan) -> Option<Box<dyn Target>>;

    /// Returns the target of this kind that a status names.
    fn recorded(&self, status: &ParameterMirrorStatus) -> Option<Recorded>;

    /// Puts a target of this kind into a status, or takes it out.
    fn record(&self, status: &mut ParameterMirrorStatus, recorded: Option<Recorded>);

    /// Deletes a target of the mirror, in the version that was seen to be the mirror's. One that is gone, or that belongs to somebody
    /// else by now, is no error.
    async fn delete(&self, name: &str, mirror: &Identity<'_>, services: &Services<'_>) -> Result<(), String>;

    /// Returns the target that has to be deleted before the mirror may go, because nothing else deletes it; `None` if there is none.
    fn held_by_finalizer(&self, mirror: &ParameterMirror, redis_prefix: &str) -> Option<String>;

    /// Whether targets of this kind outlive their mirror unless the operator deletes them, so that `Delete` needs a finalizer.
    fn needs_finalizer(&self) -> bool;

    /// Observes the target of a mirror from outside the operator, for `verify`; `None` if the spec has none of this kind.
    async fn inspect(
        &self,
        mirror: &ParameterMirror,
        owner: &str,
        outside: &Outside<'_>,
    ) -> Option<Inspection>;

    /// Returns the command with which a person deletes a target of this kind.
    fn delete_by_hand(&self, name: &str) -> String;
}

/// Who a mirror is.
#[derive(Clone, Copy, Debug)]
pub struct Identity<'a> {
    /// Its namespace.
    pub namespace: &'a str,
    /// `<cluster>/<namespace>/<mirror>`: the owner of its targets.
    pub owner: &'a str,
}

/// A target as a status names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recorded {
    /// Name of the Secret, or key of the hash.
    pub name: String,
    /// Revision of the set that it holds.
    pub revision: String,
    /// What happens when it is no longer wanted.
    pub deletion_policy: DeletionPolicy,
}

/// What somebody outside the operator can reach.
#[derive(Clone, Copy)]
pub struct Outside<'a> {
    /// Secrets of the cluster.
    pub secrets: &'a SecretStore,
    /// The operator's Redis, if it is given.
    pub redis: Option<&'a dyn HashStore>,
    /// First part of every Redis key.
    pub redis_prefix: &'a str,
    /// The operator's keys, if they can be read.
    pub keys: Option<&'a KeyRing>,
}

/// A target as it looks from outside the operator.
#[derive(Clone, Debug)]
pub struct Inspection {
    /// Its kind.
    pub kind: TargetKind,
    /// As messages name it: `Secret checkout`.
    pub name: String,
    /// The reason for a target that belongs to somebody else.
    pub conflict: TargetReason,
    /// What was found, or a sentence about why nothing could be.
    pub found: Result<Found, String>,
    /// What is wrong with a target that holds a verified copy.
    pub flaw: Option<String>,
    /// When SSM last confirmed what the target holds, Unix ms, if the target says so itself.
    pub checked_at: Option<i64>,
}

/// One target of one mirror: what it was seen to hold, and how it comes to hold a set. Its state can be lost; the next observation
/// brings it back.
#[async_trait]
pub trait Target: Send + Sync {
    /// Returns its kind.
    fn kind(&self) -> TargetKind;

    /// Returns the name of the Secret, or the key of the hash.
    fn name(&self) -> &str;

    /// Returns its name in messages: `Secret checkout`, `Redis pm:{shop/checkout}`.
    fn label(&self) -> String {
        format!("{} {}", self.kind(), self.name())
    }

    /// Returns what all targets remember.
    fn state(&self) -> &TargetState;

    /// The same, to change it.
    fn state_mut(&mut self) -> &mut TargetState;

    /// Whether there is anything that could be written to.
    fn is_configured(&self, _services: &Services<'_>) -> bool {
        true
    }

    /// Whether an observation is at hand.
    fn is_observed(&self) -> bool;

    /// Returns what the observation found; `None` without one, or while the operator's keys are lost.
    fn found(&self) -> Option<&Found>;

    /// The same, to make copies share their values.
    fn found_mut(&mut self) -> Option<&mut Found>;

    /// Drops the observation. The next one reads the target back whole.
    fn invalidate(&mut self);

    /// Observes the target, as thoroughly as the request says.
    async fn observe(&mut self, request: &ObserveRequest<'_>, services: &Services<'_>);

    /// Brings the target to the set, against what was observed.
    async fn apply(
        &mut self,
        plan: &TargetPlan,
        write: &WriteContext<'_>,
        services: &Services<'_>,
    ) -> Applied;

    /// Replaces the observation by what it takes to notice a change, to free the values.
    fn evict(&mut self);

    /// Whether nobody has changed the target since it was evicted. False if it was not.
    async fn is_unchanged(&self, namespace: &str, services: &Services<'_>) -> bool;

    /// Judges a target that belongs to somebody else.
    fn conflict(&self, plan: &Plan, services: &Services<'_>) -> Conflict;

    /// Notes what the watch shows of our own last write.
    fn ack_watch(&mut self, _namespace: &str, _services: &Services<'_>) {}

    /// Whether a watch shows the target as it was observed. True where there is no watch.
    fn is_as_watched(&self, _namespace: &str, _services: &Services<'_>) -> bool {
        true
    }

    /// Returns when the target has to be looked at again, whatever happens meanwhile.
    fn next_check(&self) -> Option<Duration> {
        None
    }

    /// Ends an assumption about the target that no read has confirmed. Returns whether there was one.
    fn end_assumption(&mut self) -> bool {
        false
    }

    /// Returns when SSM last confirmed what the target holds, Unix ms, if the target says so itself.
    fn checked_at(&self) -> Option<i64> {
        None
    }

    /// Whether tenants cannot write the target, so that it proves what the operator wrote last.
    fn is_out_of_reach(&self) -> bool {
        false
    }

    /// Returns the encryption of the verified copy that the target holds; `All` where values cannot be read from outside the cluster.
    fn held_encryption(&self) -> RedisEncryption {
        RedisEncryption::All
    }
}

/// What a target remembers besides its observation.
#[derive(Debug, Default)]
pub struct TargetState {
    /// What is wrong with it.
    pub issue: Option<TargetIssue>,
    /// Since when there has been an issue with its reason.
    pub since: Option<(TargetReason, Timestamp)>,
    /// Its heals.
    pub heals: HealLimiter,
    /// How often it was found changed by somebody else.
    pub external_changes: u64,
    /// Who changed it last besides this operator, where Kubernetes recorded a field manager.
    pub other_writer: Option<String>,
}

/// What targets need of the process.
#[derive(Clone, Copy)]
pub struct Services<'a> {
    /// Secrets of the cluster.
    pub secrets: &'a SecretStore,
    /// The operator's Redis.
    pub redis: &'a RedisBackend,
    /// What is watched.
    pub watches: &'a Watches,
    /// Both clocks.
    pub clock: &'a Clock,
    /// The operator's keys; `None` while they are lost.
    pub keys: Option<&'a KeyRing>,
}

/// How thoroughly to observe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// Has anything changed?
    Cheap,
    /// Everything, with values and MACs: a read is about to begin.
    Full,
}

/// An observation that is asked for.
#[derive(Clone, Copy)]
pub struct ObserveRequest<'a> {
    /// The plan of the mirror.
    pub plan: &'a Plan,
    /// How thoroughly.
    pub depth: Depth,
    /// Whether a read has an answer that this reconcile takes.
    pub has_answer: bool,
    /// Whether the status says that the target was written before.
    pub was_written: bool,
}

/// How one target may be written.
pub struct WriteContext<'a> {
    /// The plan of the mirror.
    pub plan: &'a Plan,
    /// The mirror, as owner references name it.
    pub owner: &'a Owner,
    /// The set to hold, signed.
    pub signed: &'a Signed,
    /// What it was resolved from.
    pub desired: &'a Desired,
    /// How sure it is that the set is newer than what the target holds.
    pub freshness: Freshness,
    /// The least encryption of values in Redis.
    pub encryption: RedisEncryption,
    /// What a read that has ended says to readers; `None` between reads.
    pub heartbeat: Option<Heartbeat>,
    /// Time since the process started.
    pub now: Duration,
    /// The interval of the mirror.
    pub interval: Duration,
}

/// What came of a write.
#[derive(Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "what came of one write, each independent of the others")]
pub struct Applied {
    /// Whether values were written.
    pub written: bool,
    /// What had happened to the target, if it was restored: `missing`, `edited`, `older`, `relabelled`.
    pub healed: Option<&'static str>,
    /// Whether it belonged to somebody else, who consented.
    pub adopted: bool,
    /// The target changed meanwhile: observe again at once.
    pub observe_again: bool,
    /// The target holds what nobody had seen when SSM was read: read again at once.
    pub read_again: bool,
}

impl WriteContext<'_> {
    /// Returns what to do with a target, with the limit on heals and the consent of a foreign owner applied.
    pub(crate) fn decide(
        &self,
        found: &Found,
        consented: bool,
        conflict: Conflict,
        state: &TargetState,
    ) -> Action {
        match copies::action(found, self.signed, self.freshness, conflict) {
            Action::Refused(TargetIssue { consent: Some(Consent::Possible), .. })
                if consented && self.freshness == Freshness::FreshRead =>
            {
                Action::Replace
            }
            Action::Restore(_) | Action::Replace if !state.heals.allows(self.now, self.interval) => {
                Action::Refused(contested(state.other_writer.as_deref()))
            }
            action => action,
        }
    }

    /// Notes that `action` was carried out on a target that held `found`.
    pub(crate) fn carried_out(&self, action: &Action, found: &Found, state: &mut TargetState) -> Applied {
        // Every heal counts towards the limit, and while a target is contested every write.
        if self.freshness == Freshness::LastKnownGood || state.heals.is_contested(self.now) {
            state.heals.record(self.now);
        }
        self.in_order(state);
        let cause = match action {
            Action::Restore(cause) => Some(*cause),
            Action::Replace => Some("older"),
            Action::Nothing => Some("relabelled"),
            Action::Refused(_) => None,
        };
        let healed = cause.filter(|_| self.freshness == Freshness::LastKnownGood);
        let adopted = matches!(found, Found::NotOurs { .. });
        Applied { written: true, healed, adopted, ..Applied::default() }
    }

    /// Notes that a target is in order. It is still contested for as long as the window lasts.
    pub(crate) fn in_order(&self, state: &mut TargetState) {
        state.issue = state.heals.is_contested(self.now).then(|| contested(state.other_writer.as_deref()));
    }
}

impl TargetState {
    /// Notes that somebody else changed the target between its observation and our write.
    pub(crate) fn note_conflict(&mut self) -> Applied {
        self.external_changes += 1;
        Applied { observe_again: true, ..Applied::default() }
    }

    /// Notes since when there has been the issue; `reported` is since when the status reports one with its reason.
    pub fn date_issue(&mut self, now: Timestamp, reported: impl FnOnce(TargetReason) -> Option<Timestamp>) {
        let known = self.since.take();
        self.since = self.issue.as_ref().map(|issue| {
            let since = known.filter(|(reason, _)| *reason == issue.reason).map(|(_, since)| since);
            (issue.reason, since.or_else(|| reported(issue.reason)).unwrap_or(now))
        });
    }

    /// Notes why a target was not written.
    pub(crate) fn refused(&mut self, issue: TargetIssue) -> Applied {
        self.issue = Some(issue);
        Applied::default()
    }
}

fn contested(other_writer: Option<&str>) -> TargetIssue {
    let last =
        other_writer.map_or_else(String::new, |manager| format!(", last by the field manager {manager}"));
    TargetIssue::new(
        TargetReason::TargetContested,
        format!(
            "somebody else changed it {MAX_HEALS} times in 10 minutes{last}; it is written once per interval, until 10 minutes after \
             the last change. Find the other writer: another operator with the same --cluster-name, a GitOps tool, a person"
        ),
    )
}
