//! Turns facts into findings that concern every mirror. Pure.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use parameter_mirror_format::humanize::span;
use parameter_mirror_redis::ConnectionError;
use parameter_mirror_redis::eviction::Eviction;

use crate::api::BACKED_UP;
use crate::commands::verify::dependents;
use crate::commands::verify::facts::{Facts, Home, Leader, MirrorFacts, RedisFacts, is_operator_alive, ring};

use crate::commands::verify::finding::{Finding, Level, Report};
use crate::commands::verify::judge_mirror;
use crate::kubernetes::client::ApiError;

/// Clocks that are synchronised differ by less.
const CLOCKS_AGREE: SignedDuration = SignedDuration::from_secs(5);
/// AWS refuses requests whose time is further off (AWS General Reference, "Troubleshooting signature errors").
const AWS_REFUSES: SignedDuration = SignedDuration::from_mins(5);

/// Judges all facts.
#[must_use]
pub fn judge(facts: &Facts) -> Report {
    let mut findings = vec![operator(&facts.lease, &facts.home, facts.now), keys(facts)];
    findings.extend(key_backup(facts));
    findings.extend(facts.api_server_ahead.map(|ahead| clock("the API server", ahead)));
    findings.extend(redis(facts));
    if facts.mirrors.is_empty() {
        findings.push(Finding::new(Level::Warn, "mirror", "there is no mirror here: nothing is mirrored"));
    }
    for mirror in &facts.mirrors {
        findings.extend(match mirror {
            MirrorFacts::Absent(name) => {
                let text = "there is no such mirror. Check namespace and name: kubectl get pmirror -A";
                vec![Finding::new(Level::Fail, "mirror", text).about(name)]
            }
            MirrorFacts::Unreadable(name, why) => {
                let text =
                    format!("it cannot be read: {why}. Apply it again with the installed version of the CRD");
                vec![Finding::new(Level::Fail, "mirror", text).about(name)]
            }
            MirrorFacts::There(mirror) => judge_mirror::judge(mirror, facts),
        });
    }
    findings.extend(dependents::judge(&facts.orphans));
    Report { findings }
}

fn operator(lease: &Result<Option<Leader>, ApiError>, home: &Home, now: Timestamp) -> Finding {
    let place = format!("Lease {}/{}", home.namespace, home.lease);
    let dead = "What is served stays, but nothing is read from SSM and nothing is restored: kubectl get pods";
    let (level, text) = match lease {
        Err(problem) => {
            (Level::Warn, format!("{place}: {problem}, so whether an operator works is not known"))
        }
        Ok(None) => (
            Level::Fail,
            format!(
                "no operator has ever led here: there is no {place}. Are --namespace and --lease the operator's? (An operator with \
                 --leader-elect=false has none.)"
            ),
        ),
        Ok(Some(Leader { holder: None, .. })) => (
            Level::Fail,
            format!("no operator works: {place} is held by nobody. {dead} -n {}", home.namespace),
        ),
        Ok(Some(leader @ Leader { holder: Some(holder), renewed, .. })) => {
            let age = renewed.map(|renewed| now.duration_since(renewed).max(SignedDuration::ZERO));
            let age = age.and_then(|age| Duration::try_from(age).ok()).unwrap_or_default();
            if is_operator_alive(&Ok(Some(leader.clone())), now) {
                (
                    Level::Ok,
                    format!("the operator works: {holder} leads, and renewed {place} {} ago", span(age)),
                )
            } else {
                let text = format!(
                    "no operator works: {holder} renewed {place} {} ago, and nobody has taken over. {dead} -n {}",
                    span(age),
                    home.namespace
                );
                (Level::Fail, text)
            }
        }
    };
    Finding::new(level, "operator", text)
}

fn keys(facts: &Facts) -> Finding {
    let place = format!("Secret {}/{}", facts.home.namespace, facts.home.key_secret);
    let (level, text) = match &facts.keys {
        Err(problem) => {
            (Level::Fail, format!("{place} with the operator's keys: {problem}. No copy could be checked"))
        }
        Ok(None) => (
            Level::Fail,
            format!(
                "{place} with the operator's keys is not there. Is --namespace the operator's? If it is lost: restore it from a \
                 backup (docs/operations/keys.md, \"Restore the keys\")"
            ),
        ),
        Ok(Some(Err(error))) => (Level::Fail, format!("{place} cannot be used: {error}")),
        Ok(Some(Ok(ring))) => {
            let ids = ring.key_ids().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            (Level::Ok, format!("{place} holds {ids}; {} signs", ring.active()))
        }
    };
    Finding::new(level, "keys", text)
}

/// Whether the backup that an administrator recorded holds the key that signs. Lost keys cannot be made again.
fn key_backup(facts: &Facts) -> Option<Finding> {
    let active = ring(facts)?.active().to_string();
    let Home { namespace, key_secret, .. } = &facts.home;
    let record = format!(
        "Keep one outside of the cluster, then record it: kubectl annotate secret {key_secret} --namespace {namespace} --overwrite \
         {BACKED_UP}={active}"
    );
    let (level, text) = match &facts.backed_up {
        Some(key) if *key == active => {
            (Level::Ok, format!("a backup of the keys is recorded, and {active} is in it"))
        }
        Some(key) => {
            (Level::Warn, format!("the recorded backup of the keys was made when {key} signed. {record}"))
        }
        None => (Level::Warn, format!("no backup of the keys is recorded. {record}")),
    };
    Some(Finding::new(level, "key-backup", text))
}

fn clock(whose: &str, ahead: SignedDuration) -> Finding {
    let off = ahead.abs();
    let direction = if ahead.is_negative() { "behind" } else { "ahead of" };
    let level = match off {
        _ if off <= CLOCKS_AGREE => Level::Ok,
        _ if off <= AWS_REFUSES => Level::Warn,
        _ => Level::Fail,
    };
    let text = if level == Level::Ok {
        format!("the clocks of this machine and {whose} agree")
    } else {
        let off = span(Duration::try_from(off).unwrap_or_default());
        format!(
            "the clock of {whose} is {off} {direction} this machine's. One of them is wrong: check its NTP. AWS refuses requests \
             that are off by more than 5 min, and of two copies the later counts"
        )
    };
    Finding::new(level, "clock", text)
}

fn redis(facts: &Facts) -> Vec<Finding> {
    let wanted = facts
        .mirrors
        .iter()
        .any(|mirror| matches!(mirror, MirrorFacts::There(mirror) if mirror.object.spec.redis.is_some()));
    match &facts.redis {
        RedisFacts::NotConfigured if wanted => vec![Finding::new(
            Level::Warn,
            "redis-connection",
            "Redis was not checked although mirrors use it: pass the operator's --redis-url-file, or run this in its pod",
        )],
        RedisFacts::NotConfigured => Vec::new(),
        RedisFacts::Unusable(why) => {
            vec![Finding::new(
                Level::Fail,
                "redis-connection",
                format!("Redis cannot be used as configured: {why}"),
            )]
        }
        // A Redis that does not answer reveals nothing else.
        RedisFacts::Asked { permissions: Err(error), .. } if !error.is_denied() => {
            let text =
                format!("{error}. Secrets are served all the same; Redis is filled as soon as it answers");
            vec![Finding::new(Level::Fail, "redis-connection", text)]
        }
        RedisFacts::Asked { permissions, eviction, ahead } => {
            let mut findings = vec![permissions_of(permissions), eviction_of(eviction)];
            findings.push(match ahead {
                Ok(ahead) => clock("Redis", *ahead),
                Err(error) => hidden("clock", "the clock of Redis", "TIME", error),
            });
            findings
        }
    }
}

fn permissions_of(permissions: &Result<(), ConnectionError>) -> Finding {
    match permissions {
        Ok(()) => Finding::new(
            Level::Ok,
            "redis-permissions",
            "Redis answers, and this user may do all that the operator does",
        ),
        Err(error) => Finding::new(
            Level::Fail,
            "redis-permissions",
            format!(
                "{error}. Mirrors cannot be written; the permissions that are needed are in docs/guides/redis.md, \"Permissions\""
            ),
        ),
    }
}

fn eviction_of(eviction: &Result<Eviction, ConnectionError>) -> Finding {
    match eviction {
        Ok(spares @ Eviction::SparesOurs) => Finding::new(Level::Ok, "redis-eviction", spares.to_string()),
        Ok(takes @ Eviction::TakesAny { .. }) => {
            Finding::new(Level::Warn, "redis-eviction", takes.to_string())
        }
        Err(error) => hidden("redis-eviction", "the eviction policy", "INFO", error),
    }
}

/// A check that this user's permissions rule out is ok: the operator does not need it either.
fn hidden(check: &'static str, what: &str, command: &str, error: &ConnectionError) -> Finding {
    if error.is_denied() {
        Finding::new(Level::Ok, check, format!("{what} is not visible to this user ({command})"))
    } else {
        Finding::new(Level::Warn, check, format!("{what} is not known: {error}"))
    }
}

#[cfg(test)]
mod tests;
