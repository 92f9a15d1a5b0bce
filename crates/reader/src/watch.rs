//! `watch`: tells about each change of the mirrors, or runs a program at each.

use std::ffi::OsString;
use std::time::Duration;

use futures::future::try_join_all;
use jiff::Timestamp;
use parameter_mirror_format::words::{at, parameters};
use tokio::time::{MissedTickBehavior, interval};

use crate::exec::prepared;
use crate::failure::Failure;
use crate::mirrors::{Mirror, Mirrors};
use crate::variables::variables;

/// Looks for ever. Only a first look that fails ends it: what goes wrong later is told, and looked at again.
pub async fn watch(mirrors: &Mirrors, refresh: Duration, command: &[OsString]) -> Result<(), Failure> {
    let mut known = mirrors.read().await?;
    tell(&known, command).await?;
    let mut ticks = interval(refresh);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks.tick().await;
    let mut trouble = None;
    loop {
        ticks.tick().await;
        match look(mirrors, &mut known).await {
            Ok(changed) => {
                trouble = None;
                if changed && let Err(failure) = tell(&known, command).await {
                    eprintln!("parameter-mirror-reader: {failure}");
                }
            }
            Err(failure) => {
                let told = failure.to_string();
                // Once, not at each look.
                if trouble.as_ref() != Some(&told) {
                    eprintln!("parameter-mirror-reader: {told}");
                    trouble = Some(told);
                }
            }
        }
    }
}

/// Brings them up to date, and says whether any has changed.
async fn look(mirrors: &Mirrors, known: &mut [Mirror]) -> Result<bool, Failure> {
    let news = try_join_all(known.iter().map(|mirror| mirrors.news(&mirror.name, Some(mirror)))).await?;
    let mut changed = false;
    for (mirror, fresh) in known.iter_mut().zip(news) {
        if let Some(fresh) = fresh {
            changed = true;
            *mirror = fresh;
        }
    }
    Ok(changed)
}

async fn tell(mirrors: &[Mirror], command: &[OsString]) -> Result<(), Failure> {
    if command.is_empty() {
        let now = Timestamp::now();
        for Mirror { name, copy } in mirrors {
            let read = Timestamp::from_millisecond(copy.read_at).unwrap_or(now);
            println!(
                "{name} revision {}, {}, read {}",
                copy.revision,
                parameters(copy.entries.len()),
                at(read, now)
            );
        }
        return Ok(());
    }
    let all: Vec<_> = mirrors.iter().flat_map(|mirror| mirror.copy.entries.clone()).collect();
    let program = prepared(command, &variables(&all)?, false)?;
    let name = program.get_program().to_owned();
    let status = tokio::process::Command::from(program).status().await;
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(Failure::System(format!("{}: {status}", name.to_string_lossy()))),
        Err(error) => Err(Failure::Program { program: name, error }),
    }
}
