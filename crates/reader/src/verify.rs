//! `verify`: checks whether you can rely on the mirrors when SSM is down. For drills and CI.

use std::time::Duration;

use jiff::Timestamp;
use parameter_mirror_format::content::entry::ParameterType;
use parameter_mirror_format::humanize::{parameters, printable, span};
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
    /// Whether the check passed.
    pub is_good: bool,
    /// What was found, and what to do.
    pub message: String,
}

impl Check {
    fn good(message: String) -> Self {
        Self { is_good: true, message }
    }

    fn attention(message: String) -> Self {
        Self { is_good: false, message }
    }
}

/// Prints a report, and fails if a check needs attention.
pub async fn verify(mirrors: &Mirrors, max_stale: Duration) -> Result<(), Failure> {
    let mut attention = 0;
    let mut show = |check: Check| {
        println!("{}  {}", if check.is_good { "ok       " } else { "ATTENTION" }, printable(&check.message));
        attention += usize::from(!check.is_good);
    };
    let mut set = Vec::new();
    for name in &mirrors.names {
        match mirrors.read_one(name).await {
            Ok(mirror) => {
                judge(&mirror, Timestamp::now(), max_stale).into_iter().for_each(&mut show);
                set.extend(mirror.copy.entries);
            }
            Err(failure) => show(Check::attention(failure.to_string())),
        }
        show(rights(mirrors, name).await);
    }
    show(match variables(&set) {
        Ok(variables) => Check::good(format!("{} variables for exec and export", variables.len())),
        Err(problem) => Check::attention(problem.to_string()),
    });
    show(eviction(mirrors).await);
    if attention == 0 { Ok(()) } else { Err(Failure::Attention(attention)) }
}

/// Checks a mirror by its own content.
fn judge(mirror: &Mirror, now: Timestamp, max_stale: Duration) -> Vec<Check> {
    let Mirror { name, copy } = mirror;
    let age = mirror.age(now);
    let count = parameters(copy.entries.len());
    let read = format!("{name}: {count}, revision {}, read {} ago", copy.revision, span(age));
    let read = if mirror.is_of_the_future(now) {
        Check::attention(format!(
            "{read}: it says that it was read later than now, so its age is not known. One of the clocks is wrong, or somebody else writes to \
             Redis"
        ))
    } else if age > max_stale {
        Check::attention(format!(
            "{read}: SSM cannot be read, or nobody mirrors it any more (kubectl describe pmirror)"
        ))
    } else {
        Check::good(read)
    };
    let plain = copy.entries.values().filter(|entry| {
        entry.kind == ParameterType::SecureString && copy.encryption.key_for(entry.kind).is_none()
    });
    let plain = plain.count();
    let sealed = copy.entries.values().filter(|entry| copy.encryption.key_for(entry.kind).is_some()).count();
    let encryption = match copy.encryption.key_id() {
        _ if plain > 0 => Check::attention(format!(
            "{name}: {plain} SecureStrings lie in Redis unencrypted (spec.redis.encryption)"
        )),
        Some(key_id) => Check::good(format!(
            "{name}: {sealed} values are encrypted with {key_id}, and the sub-key opens them"
        )),
        None => Check::good(format!("{name}: nothing is encrypted, and there is no SecureString")),
    };
    vec![read, encryption]
}

/// Checks that the reader's user cannot write. The attempt changes nothing, because it deletes a field that
/// does not exist.
async fn rights(mirrors: &Mirrors, name: &MirrorName) -> Check {
    let key = name.redis_key(&mirrors.prefix);
    let attempt = |mut connection: MultiplexedConnection| {
        let command = redis::Cmd::hdel(&key, NOBODYS_FIELD);
        async move { command.query_async::<i64>(&mut connection).await }
    };
    match mirrors.servers.write(&key, mirrors.budget, attempt).await {
        Err(ConnectionError::Forbidden(_) | ConnectionError::ReadOnly) => {
            Check::good(format!("{name}: this user may read, and not write"))
        }
        Ok(_) | Err(ConnectionError::WrongType) => Check::attention(format!(
            "{name}: this user may write: anyone who has this password can change what programs start with (docs/reader.md, \"Rights\")"
        )),
        Err(error) => Check::attention(format!("{name}: whether this user may write is not known: {error}")),
    }
}

async fn eviction(mirrors: &Mirrors) -> Check {
    let Some(key) = mirrors.names.first().map(|name| name.redis_key(&mirrors.prefix)) else {
        return Check::attention("no mirror was named".to_owned());
    };
    let ask = |mut connection: MultiplexedConnection| async move {
        redis::cmd("INFO").arg("memory").query_async::<String>(&mut connection).await
    };
    match mirrors.servers.read(&key, mirrors.budget, ask).await.map(|info| Eviction::from_info(&info)) {
        Ok(spares @ Eviction::SparesOurs) => Check::good(spares.to_string()),
        Ok(takes @ Eviction::TakesAny { .. }) => Check::attention(takes.to_string()),
        Err(ConnectionError::Forbidden(_)) => Check::good(
            "the eviction policy is not visible to this user (INFO); the operator's metrics have it"
                .to_owned(),
        ),
        Err(error) => Check::attention(format!("the eviction policy is not known: {error}")),
    }
}
