//! `verify`: checks whether you can rely on the mirrors when SSM is down. For drills and CI.

use std::time::Duration;

use jiff::Timestamp;
use parameter_mirror_format::content::entry::ParameterType;
use parameter_mirror_format::content::environment;
use parameter_mirror_format::humanize::{parameters, printable, span};
use parameter_mirror_format::level::Level;
use parameter_mirror_redis::ConnectionError;
use parameter_mirror_redis::eviction::Eviction;
use redis::aio::MultiplexedConnection;

use crate::failure::Failure;
use parameter_mirror_format::hash::mirror_name::MirrorName;

use crate::mirrors::{Mirror, Mirrors};
use crate::variables::variables;

/// A field that does not exist in any hash.
const NOBODYS_FIELD: &str = "@parameter-mirror-reader-verify";

/// One line of the report.
#[derive(Debug, PartialEq, Eq)]
pub struct Check {
    /// The severity.
    pub level: Level,
    /// What was found, and what to do.
    pub message: String,
}

impl Check {
    fn ok(message: String) -> Self {
        Self { level: Level::Ok, message }
    }

    fn warn(message: String) -> Self {
        Self { level: Level::Warn, message }
    }

    fn fail(message: String) -> Self {
        Self { level: Level::Fail, message }
    }
}

/// Prints a report, and fails if a check needs attention.
pub async fn verify(mirrors: &Mirrors, max_stale: Duration) -> Result<(), Failure> {
    let mut levels = Vec::new();
    let mut show = |check: Check| {
        println!("{:<4}  {}", check.level.as_str(), printable(&check.message));
        levels.push(check.level);
    };
    let mut set = Vec::new();
    for name in &mirrors.names {
        match mirrors.read_one(name).await {
            Ok(mirror) => {
                judge(&mirror, Timestamp::now(), max_stale).into_iter().for_each(&mut show);
                set.extend(mirror.copy.entries);
            }
            Err(failure) => show(Check::fail(failure.to_string())),
        }
        show(permissions(mirrors, name).await);
    }
    let too_large = environment::problem(set.iter().map(|(name, entry)| (name, entry)));
    show(match variables(&set) {
        Ok(variables) if too_large.is_none() => {
            Check::ok(format!("{} variables for exec and export", variables.len()))
        }
        Ok(_) => Check::fail(too_large.map_or_else(String::new, |problem| problem.to_string())),
        Err(problem) => Check::fail(problem.to_string()),
    });
    show(eviction(mirrors).await);
    let count = |level: Level| levels.iter().filter(|found| **found == level).count();
    let [ok, warn, fail] = [Level::Ok, Level::Warn, Level::Fail].map(count);
    println!("{ok} ok, {warn} to look at, {fail} failed");
    match levels.into_iter().max() {
        Some(worst @ (Level::Warn | Level::Fail)) => Err(Failure::Findings(worst)),
        _ => Ok(()),
    }
}

/// Checks a mirror by its own content.
fn judge(mirror: &Mirror, now: Timestamp, max_stale: Duration) -> Vec<Check> {
    let Mirror { name, copy } = mirror;
    let age = mirror.age(now);
    let count = parameters(copy.entries.len());
    let read = format!("{name}: {count}, revision {}, read {} ago", copy.revision, span(age));
    let read = if mirror.is_of_the_future(now) {
        Check::warn(format!(
            "{read}: it says that it was read later than now, so its age is not known. One of the clocks is wrong, or somebody else writes to \
             Redis"
        ))
    } else if age > max_stale {
        Check::warn(format!(
            "{read}: SSM cannot be read, or nobody mirrors it any more (kubectl describe pmirror)"
        ))
    } else {
        Check::ok(read)
    };
    let plain = copy.entries.values().filter(|entry| {
        entry.kind == ParameterType::SecureString && copy.encryption.key_for(entry.kind).is_none()
    });
    let plain = plain.count();
    let sealed = copy.entries.values().filter(|entry| copy.encryption.key_for(entry.kind).is_some()).count();
    let encryption = match copy.encryption.key_id() {
        _ if plain > 0 => Check::warn(format!(
            "{name}: {plain} SecureStrings lie in Redis unencrypted (spec.redis.encryption)"
        )),
        Some(key_id) => Check::ok(format!(
            "{name}: {sealed} values are encrypted with {key_id}, and the sub-key opens them"
        )),
        None => Check::ok(format!("{name}: nothing is encrypted, and there is no SecureString")),
    };
    vec![read, encryption]
}

/// Checks that the reader's user cannot write. The attempt changes nothing, because it deletes a field that
/// does not exist.
async fn permissions(mirrors: &Mirrors, name: &MirrorName) -> Check {
    let key = name.redis_key(&mirrors.prefix);
    let attempt = |mut connection: MultiplexedConnection| {
        let command = redis::Cmd::hdel(&key, NOBODYS_FIELD);
        async move { command.query_async::<i64>(&mut connection).await }
    };
    match mirrors.servers.write(&key, mirrors.budget, attempt).await {
        Err(ConnectionError::Forbidden(_) | ConnectionError::ReadOnly) => {
            Check::ok(format!("{name}: this user may read, and not write"))
        }
        Ok(_) | Err(ConnectionError::WrongType) => Check::warn(format!(
            "{name}: this user may write: anyone who has this password can change what programs start with (docs/reference/reader.md, \"Permissions\")"
        )),
        Err(error) => Check::warn(format!("{name}: whether this user may write is not known: {error}")),
    }
}

async fn eviction(mirrors: &Mirrors) -> Check {
    let Some(key) = mirrors.names.first().map(|name| name.redis_key(&mirrors.prefix)) else {
        return Check::warn("no mirror was named".to_owned());
    };
    let ask = |mut connection: MultiplexedConnection| async move {
        redis::cmd("INFO").arg("memory").query_async::<String>(&mut connection).await
    };
    match mirrors.servers.read(&key, mirrors.budget, ask).await.map(|info| Eviction::from_info(&info)) {
        Ok(spares @ Eviction::SparesOurs) => Check::ok(spares.to_string()),
        Ok(takes @ Eviction::TakesAny { .. }) => Check::warn(takes.to_string()),
        Err(ConnectionError::Forbidden(_)) => Check::ok(
            "the eviction policy is not visible to this user (INFO); the operator's metrics have it"
                .to_owned(),
        ),
        Err(error) => Check::warn(format!("the eviction policy is not known: {error}")),
    }
}
