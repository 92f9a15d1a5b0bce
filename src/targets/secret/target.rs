//! The Secret of one mirror as a target.

use std::time::Duration;

use async_trait::async_trait;
use kube::ResourceExt as _;
use kube::runtime::reflector::ObjectRef;
use parameter_mirror_format::verdict::Found;

use crate::api::{MirrorSecretStatus, ParameterMirror, ParameterMirrorStatus};
use crate::kubernetes::client::ApiError;
use crate::kubernetes::watches::CachedVersion;
use crate::mirror::copies::Action;
use crate::mirror::plan::{Plan, TargetPlan};
use crate::mirror::target::{Conflict, Consent, TargetIssue, TargetKind, TargetReason};
use crate::targets::secret::render::{self, ObservedSecret};
use crate::targets::secret::store::WriteError;
use crate::targets::target::{
    Applied, Depth, Identity, Inspection, Kind, ObserveRequest, Outside, Recorded, Services, Target,
    TargetState, WriteContext,
};

/// How long after our own write the watch may still show the version before it.
const WATCH_LAG: Duration = Duration::from_secs(5);

/// The Secrets of all mirrors.
pub struct SecretKind;

#[async_trait]
impl Kind for SecretKind {
    fn kind(&self) -> TargetKind {
        TargetKind::Secret
    }

    fn create(&self, plan: &TargetPlan) -> Option<Box<dyn Target>> {
        let TargetPlan::Secret(secret) = plan else { return None };
        Some(Box::new(SecretTarget { name: secret.name.clone(), ..SecretTarget::default() }))
    }

    fn recorded(&self, status: &ParameterMirrorStatus) -> Option<Recorded> {
        let MirrorSecretStatus { name, revision, deletion_policy } = status.secret.clone()?;
        Some(Recorded { name, revision, deletion_policy })
    }

    fn record(&self, status: &mut ParameterMirrorStatus, recorded: Option<Recorded>) {
        status.secret = recorded.map(|Recorded { name, revision, deletion_policy }| MirrorSecretStatus {
            name,
            revision,
            deletion_policy,
        });
    }

    async fn delete(&self, name: &str, mirror: &Identity<'_>, services: &Services<'_>) -> Result<(), String> {
        let Identity { namespace, owner } = *mirror;
        let found = services.secrets.get(namespace, name).await.map_err(|problem| problem.to_string())?;
        let observed = render::observe(found, owner, services.keys);
        match (&observed.found, observed.resource_version()) {
            (Some(Found::Ours(_)), Some(version)) => {
                let deleted = services.secrets.delete(namespace, name, version).await;
                deleted.map_err(|problem| problem.to_string())
            }
            (Some(_), _) => Ok(()),
            (None, _) => Err("the operator's keys are lost".to_owned()),
        }
    }

    /// The owner reference deletes it, if anything does.
    fn held_by_finalizer(&self, _: &ParameterMirror, _: &str) -> Option<String> {
        None
    }

    fn needs_finalizer(&self) -> bool {
        false
    }

    async fn inspect(
        &self,
        mirror: &ParameterMirror,
        owner: &str,
        outside: &Outside<'_>,
    ) -> Option<Inspection> {
        let secret = mirror.spec.secret.as_ref()?.name_for(&mirror.name_any()).to_owned();
        let found = outside.secrets.get(&mirror.namespace().unwrap_or_default(), &secret).await;
        let name = format!("Secret {secret}");
        let found = match found.map(|found| render::observe(found, owner, outside.keys).found) {
            Ok(Some(found)) => Ok(found),
            Ok(None) => Err(format!("{name} cannot be checked without the operator's keys")),
            Err(problem) => Err(format!("{name}: {problem}")),
        };
        let conflict = TargetReason::SecretConflict;
        Some(Inspection { kind: self.kind(), name, conflict, found, flaw: None, checked_at: None })
    }

    fn delete_by_hand(&self, name: &str) -> String {
        format!("kubectl delete secret {name}")
    }
}

/// The Secret of one mirror.
#[derive(Default)]
struct SecretTarget {
    name: String,
    state: TargetState,
    /// What was found or written last.
    observed: Option<ObservedSecret>,
    /// How the Secret was when it was evicted.
    evicted: Option<Evicted>,
    existence: Existence,
    /// The version before our own last write, and when that was, if there is a watch, which may lag behind us.
    before_write: Option<(Option<String>, Duration)>,
}

/// What shows a change since the values were evicted.
struct Evicted {
    /// The version of the Secret; `None` if there was none.
    version: Option<String>,
}

/// How it is known whether the Secret of a new mirror exists.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Existence {
    /// It is not known, or no longer believed: the next observation asks.
    #[default]
    Unknown,
    /// The watch shows none. It shows labelled Secrets only, so a create may still meet one.
    Assumed,
    /// The API server was asked, or a create has been tried.
    Asked,
}

impl SecretTarget {
    /// Assumes that a new mirror's Secret does not exist while its first read is under way: the watch shows none, and the create that
    /// follows finds out. That is a third of what a new mirror costs the API server. Whatever else comes of the read, and a read that
    /// takes its time, end the assumption: then the Secret is asked for like any other.
    fn assume_missing(&mut self, request: &ObserveRequest<'_>, services: &Services<'_>) {
        match self.existence {
            Existence::Unknown
                if request.depth == Depth::Full
                    && !request.was_written
                    && self.observed.is_none()
                    && services.watches.secret_version(&request.plan.namespace, &self.name)
                        == CachedVersion::Known(None) =>
            {
                self.existence = Existence::Assumed;
                self.observed = Some(ObservedSecret::missing());
            }
            Existence::Assumed if !request.has_answer => drop(self.end_assumption()),
            Existence::Unknown | Existence::Assumed | Existence::Asked => {}
        }
    }

    /// Returns the version of the Secret: as the watch shows it, or as the API server has it if there is no watch.
    async fn version(&self, namespace: &str, services: &Services<'_>) -> Result<Option<String>, ApiError> {
        match services.watches.secret_version(namespace, &self.name) {
            CachedVersion::Known(watched) => Ok(watched),
            CachedVersion::NotWatched => services.secrets.version(namespace, &self.name).await,
        }
    }

    /// Whether the Secret belongs to another mirror of the namespace that exists and still wants it.
    fn is_wanted_by_its_owner(
        &self,
        observed: &ObservedSecret,
        plan: &Plan,
        services: &Services<'_>,
    ) -> bool {
        let same_namespace = plan.owner.strip_suffix(plan.mirror.as_str()).unwrap_or_default();
        let Some(owner) = observed.owning_mirror().and_then(|owner| owner.strip_prefix(same_namespace))
        else {
            return false;
        };
        let Some(mirror) = services.watches.mirror(&ObjectRef::new(owner).within(&plan.namespace)) else {
            return false;
        };
        // A mirror that does not decode may want it.
        mirror.0.as_ref().map_or(true, |mirror| {
            let wanted = mirror.spec.secret.as_ref().map(|secret| secret.name_for(owner));
            mirror.metadata.deletion_timestamp.is_none() && wanted == Some(self.name.as_str())
        })
    }

    /// Whether this version is not that of what was last read or written.
    fn differs_from_observed(&self, version: Option<&str>, now: Duration) -> bool {
        let Some(observed) = self.observed.as_ref().filter(|_| self.existence != Existence::Unknown) else {
            return true;
        };
        let lags = self
            .before_write
            .as_ref()
            .is_some_and(|(before, at)| before.as_deref() == version && now < *at + WATCH_LAG);
        observed.resource_version() != version && !lags
    }
}

#[async_trait]
impl Target for SecretTarget {
    fn kind(&self) -> TargetKind {
        TargetKind::Secret
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn state(&self) -> &TargetState {
        &self.state
    }

    fn state_mut(&mut self) -> &mut TargetState {
        &mut self.state
    }

    fn is_observed(&self) -> bool {
        self.observed.is_some()
    }

    fn found(&self) -> Option<&Found> {
        self.observed.as_ref()?.found.as_ref()
    }

    fn found_mut(&mut self) -> Option<&mut Found> {
        self.observed.as_mut()?.found.as_mut()
    }

    fn invalidate(&mut self) {
        self.observed = None;
    }

    fn conflict(&self, plan: &Plan, services: &Services<'_>) -> Conflict {
        let observed = self.observed.as_ref();
        let consent = match observed {
            Some(observed) if self.is_wanted_by_its_owner(observed, plan, services) => Consent::OwnerAlive,
            Some(observed) if !observed.can_be_handed_over() => Consent::Impossible,
            _ => Consent::Possible,
        };
        Conflict { reason: TargetReason::SecretConflict, consent }
    }

    async fn observe(&mut self, request: &ObserveRequest<'_>, services: &Services<'_>) {
        self.evicted = None;
        self.assume_missing(request, services);
        let namespace = &request.plan.namespace;
        // Without an observation it is read whole in any case.
        let version =
            if self.observed.is_some() { self.version(namespace, services).await } else { Ok(None) };
        match version {
            Ok(version) if !self.differs_from_observed(version.as_deref(), services.clock.uptime()) => return,
            Ok(_) => {}
            Err(problem) => {
                // It may change unseen: a read under way does not know what it meets.
                self.state.external_changes += 1;
                self.observed = None;
                self.state.issue = Some(issue("read", &problem, None));
                return;
            }
        }
        match services.secrets.get(namespace, &self.name).await {
            Ok(object) => {
                self.existence = Existence::Asked;
                let observed = render::observe(object, &request.plan.owner, services.keys);
                let has_changed = self
                    .observed
                    .as_ref()
                    .is_some_and(|before| before.resource_version() != observed.resource_version());
                self.state.external_changes += u64::from(has_changed);
                self.before_write = None;
                self.state.issue = None;
                self.observed = Some(observed);
            }
            Err(problem) => self.state.issue = Some(issue("read", &problem, None)),
        }
    }

    async fn apply(
        &mut self,
        plan: &TargetPlan,
        write: &WriteContext<'_>,
        services: &Services<'_>,
    ) -> Applied {
        let TargetPlan::Secret(secret) = plan else { return Applied::default() };
        let Some(observed) = self.observed.clone() else { return Applied::default() };
        let Some(found) = &observed.found else { return Applied::default() };
        let consented = observed.consents_to(&write.plan.mirror);
        let conflict = self.conflict(write.plan, services);
        self.state.other_writer.clone_from(&observed.other_writer);
        let action = write.decide(found, consented, conflict, &self.state);
        if let Action::Refused(issue) = action {
            return self.state.refused(issue);
        }
        if action == Action::Nothing && render::is_in_sync(secret, write.owner, &observed) {
            write.in_order(&mut self.state);
            return Applied::default();
        }
        let parts = match render::fits(secret, write.signed, &write.desired.key_problems, &observed) {
            Ok(parts) => parts,
            Err(issue) => return self.state.refused(issue),
        };
        let namespace = &write.plan.namespace;
        let object = render::render(secret, namespace, write.owner, parts, &observed);
        let was_assumed = self.existence == Existence::Assumed;
        self.existence = Existence::Asked;
        match services.secrets.write(namespace, &object).await {
            Ok(answer) => {
                let before = observed.resource_version().map(str::to_owned);
                self.before_write = services.watches.shows_secrets().then_some((before, write.now));
                self.observed = Some(ObservedSecret::written(write.signed.clone(), answer));
                write.carried_out(&action, found, &mut self.state)
            }
            Err(WriteError { error: ApiError::Conflict, .. }) => {
                self.observed = None;
                // If there is one that nobody had seen when SSM was read, what may replace it has to be read after it is seen.
                Applied { read_again: was_assumed, ..self.state.note_conflict() }
            }
            Err(WriteError { error, said }) => {
                // A timeout leaves the outcome unknown: it is read back.
                self.observed = None;
                self.state.refused(issue("written", &error, said.as_deref()))
            }
        }
    }

    fn evict(&mut self) {
        let observed = self.observed.take();
        self.evicted =
            observed.map(|observed| Evicted { version: observed.resource_version().map(str::to_owned) });
    }

    async fn is_unchanged(&self, namespace: &str, services: &Services<'_>) -> bool {
        let Some(known) = &self.evicted else { return false };
        self.version(namespace, services).await.is_ok_and(|version| version == known.version)
    }

    fn ack_watch(&mut self, namespace: &str, services: &Services<'_>) {
        let CachedVersion::Known(watched) = services.watches.secret_version(namespace, &self.name) else {
            return;
        };
        let known = self.observed.as_ref().map(ObservedSecret::resource_version);
        if known.is_some_and(|known| known == watched.as_deref()) {
            self.before_write = None;
        }
    }

    fn is_as_watched(&self, namespace: &str, services: &Services<'_>) -> bool {
        match (services.watches.secret_version(namespace, &self.name), &self.evicted) {
            (CachedVersion::Known(watched), Some(known)) => watched == known.version,
            (CachedVersion::Known(watched), None) => {
                !self.differs_from_observed(watched.as_deref(), services.clock.uptime())
            }
            // It is asked for at the next check, which is never far.
            (CachedVersion::NotWatched, evicted) => evicted.is_some() || self.observed.is_some(),
        }
    }

    /// A Secret that is deleted right after it was written looks like a watch that lags.
    fn next_check(&self) -> Option<Duration> {
        self.before_write.as_ref().map(|(_, at)| *at + WATCH_LAG)
    }

    fn end_assumption(&mut self) -> bool {
        let was_assumed = self.existence == Existence::Assumed;
        if was_assumed {
            self.existence = Existence::Unknown;
        }
        was_assumed
    }
}

/// A failed call to the API server as an issue of the Secret, with the API server's own words if there are any.
fn issue(verb: &str, problem: &ApiError, said: Option<&str>) -> TargetIssue {
    let why = match (said, problem) {
        (Some(said), _) => format!(": {said}"),
        (None, ApiError::Refused { code: 403, .. }) => {
            ". Check the namespace's resource quota and the operator's role binding".to_owned()
        }
        (None, _) => String::new(),
    };
    TargetIssue::new(TargetReason::SecretWriteFailed, format!("it cannot be {verb}: {problem}{why}"))
}
