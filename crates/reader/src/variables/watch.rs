//! `watch`: reports each change of the mirrors, or runs a program at each change.

use std::time::Duration;

use futures::future::try_join_all;
use jiff::Timestamp;
use parameter_mirror_format::humanize::{at, parameters};
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::Child;
use tokio::signal::unix::{Signal as Stream, SignalKind, signal};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use crate::age_limit::AgeLimit;
use crate::failure::Failure;
use crate::mirrors::{Mirror, Mirrors};
use crate::variables::exec::Program;
use crate::variables::variables;

/// How long a program may run after it was asked to end. Schedulers usually allow 30 s for a whole container.
const GRACE: Duration = Duration::from_secs(5);

/// Watches until a signal ends it. A failure of the first read or of the first run of the program ends it, too; later failures
/// are reported, and watching continues.
pub async fn watch(
    mirrors: &Mirrors,
    refresh: Duration,
    max_stale: Option<Duration>,
    program: Option<&Program>,
) -> Result<(), Failure> {
    let mut limit = AgeLimit::new(max_stale);
    let mut signals = Signals::listen()?;
    let Some(known) = signals.unless(mirrors.read()).await else { return Ok(()) };
    let mut known = known?;
    if notify(&known, program, &mut signals).await? == Flow::End {
        return Ok(());
    }
    let mut ticks = interval(refresh);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks.tick().await;
    let mut trouble = None;
    loop {
        let poll = async {
            ticks.tick().await;
            let polled = poll(mirrors, &mut known).await;
            for mirror in &mut known {
                limit.check(mirrors, mirror, polled.is_ok()).await;
            }
            polled
        };
        let flow = match signals.unless(poll).await {
            None => return Ok(()),
            Some(Ok(false)) => Ok(Flow::GoOn),
            Some(Ok(true)) => notify(&known, program, &mut signals).await,
            Some(Err(failure)) => {
                let message = failure.to_string();
                // Logged once, not at every refresh.
                if trouble.as_ref() != Some(&message) {
                    eprintln!("parameter-mirror-reader: {message}");
                    trouble = Some(message);
                }
                continue;
            }
        };
        trouble = None;
        match flow {
            Ok(Flow::GoOn) => {}
            Ok(Flow::End) => return Ok(()),
            Err(failure) => eprintln!("parameter-mirror-reader: {failure}"),
        }
    }
}

/// Whether to continue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flow {
    GoOn,
    End,
}

/// Refreshes the mirrors, and returns whether any has changed.
async fn poll(mirrors: &Mirrors, known: &mut [Mirror]) -> Result<bool, Failure> {
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

async fn notify(
    mirrors: &[Mirror],
    program: Option<&Program>,
    signals: &mut Signals,
) -> Result<Flow, Failure> {
    let Some(program) = program else {
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
        return Ok(Flow::GoOn);
    };
    let all: Vec<_> = mirrors.iter().flat_map(|mirror| mirror.copy.entries.clone()).collect();
    let failed = |error| Failure::Program { program: program.name().to_owned(), error };
    let command = program.prepared(&variables(&all)?, false);
    let mut child = tokio::process::Command::from(command).spawn().map_err(failed)?;
    tokio::select! {
        status = child.wait() => match status.map_err(failed)? {
            status if status.success() => Ok(Flow::GoOn),
            status => Err(Failure::System(format!("{}: {status}", program.name().to_string_lossy()))),
        },
        signal = signals.next() => {
            signals.end(&mut child, signal).await.map_err(failed)?;
            Ok(Flow::End)
        }
    }
}

/// The signals that end this process. Process 1 of a container ignores them unless there is a handler.
struct Signals {
    hangup: Stream,
    interrupt: Stream,
    quit: Stream,
    terminate: Stream,
}

impl Signals {
    fn listen() -> Result<Self, Failure> {
        let listen = |kind| signal(kind).map_err(|error| Failure::System(error.to_string()));
        Ok(Self {
            hangup: listen(SignalKind::hangup())?,
            interrupt: listen(SignalKind::interrupt())?,
            quit: listen(SignalKind::quit())?,
            terminate: listen(SignalKind::terminate())?,
        })
    }

    async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.hangup.recv() => Signal::HUP,
            _ = self.interrupt.recv() => Signal::INT,
            _ = self.quit.recv() => Signal::QUIT,
            _ = self.terminate.recv() => Signal::TERM,
        }
    }

    /// Returns the result of `work`, or `None` if a signal comes first.
    async fn unless<T>(&mut self, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! { biased; _ = self.next() => None, done = work => Some(done) }
    }

    /// Forwards this signal and all that follow until the program has ended.
    async fn end(&mut self, child: &mut Child, first: Signal) -> std::io::Result<()> {
        pass_on(child, first);
        let over = Instant::now() + GRACE;
        loop {
            tokio::select! {
                ended = child.wait() => return ended.map(drop),
                signal = self.next() => pass_on(child, signal),
                () = sleep_until(over) => return child.kill().await,
            }
        }
    }
}

/// Forwards a signal, unless the program has ended meanwhile.
fn pass_on(child: &Child, signal: Signal) {
    let pid = child.id().and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw);
    if let Some(pid) = pid {
        let _ = kill_process(pid, signal);
    }
}
