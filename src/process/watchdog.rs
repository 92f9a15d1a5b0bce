//! Ends the process when the async runtime has stopped. A deadlock leaves a process that looks alive from outside: it
//! listens, logs nothing, and does nothing. Nothing that runs on the runtime can notice that, so the watchdog is a thread of its own.

use std::fmt::Write as _;
use std::io::Write as _;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

/// How long a part may show no sign of life. Longer than a thread waits for a processor on a machine under load, and
/// not much longer than the lease of the leader, which another operator acquires after 15 s.
pub const BOUND: Duration = Duration::from_secs(15);
/// How often a part beats and the watchdog checks.
const TICK: Duration = Duration::from_secs(1);
/// Deadline of one section of the report. A section that takes longer waits for a lock that is never released.
const SECTION: Duration = Duration::from_millis(500);

/// One part of the report: a title, and a function that returns its text. It may block.
pub type Section = (&'static str, Box<dyn FnOnce() -> String + Send>);

/// Watches the parts of a process. Dropping it ends the watch.
pub struct Watchdog {
    is_over: Arc<AtomicBool>,
}

/// The heartbeat of one part.
#[derive(Clone, Debug)]
pub struct Pulse {
    part: &'static str,
    beats: Arc<AtomicU64>,
}

impl Pulse {
    /// Creates the heartbeat of a part, with the name for the message.
    #[must_use]
    pub fn new(part: &'static str) -> Self {
        Self { part, beats: Arc::default() }
    }

    /// Beats once a second for as long as it is polled and `is_well`. Never ends.
    pub async fn beat(self, is_well: impl Fn() -> bool) {
        loop {
            if is_well() {
                self.beats.fetch_add(1, Ordering::Relaxed);
            }
            tokio::time::sleep(TICK).await;
        }
    }
}

impl Watchdog {
    /// Starts a thread that calls `end` with a message once a heartbeat has been missing for `bound`. `report` returns
    /// the sections of the message.
    ///
    /// Time is counted in ticks of the watchdog itself: a machine that is suspended, or a process that is frozen, stops both.
    ///
    /// # Errors
    /// When the system has no thread left.
    pub fn start(
        bound: Duration,
        pulses: Vec<Pulse>,
        report: impl Fn() -> Vec<Section> + Send + 'static,
        end: impl FnOnce(String) + Send + 'static,
    ) -> std::io::Result<Self> {
        let is_over = Arc::<AtomicBool>::default();
        let over = Arc::clone(&is_over);
        thread::Builder::new().name("watchdog".to_owned()).spawn(move || {
            if let Some(part) = missing(bound, &pulses, &over) {
                end(message(part, bound, report()));
            }
        })?;
        Ok(Self { is_over })
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
    }
}

/// Waits until a heartbeat has been missing for `bound`, and returns its part; `None` when the watch is over.
fn missing(bound: Duration, pulses: &[Pulse], is_over: &AtomicBool) -> Option<&'static str> {
    let mut seen: Vec<(u64, Duration)> = vec![(0, Duration::ZERO); pulses.len()];
    loop {
        thread::sleep(TICK);
        if is_over.load(Ordering::Relaxed) {
            return None;
        }
        for (pulse, (beats, silent_for)) in pulses.iter().zip(&mut seen) {
            let now = pulse.beats.load(Ordering::Relaxed);
            *silent_for = if now == *beats { *silent_for + TICK } else { Duration::ZERO };
            *beats = now;
            if *silent_for >= bound {
                return Some(pulse.part);
            }
        }
    }
}

fn message(part: &str, bound: Duration, sections: Vec<Section>) -> String {
    let mut text = format!(
        "parameter-mirror: {part} made no progress for {} s. This is a bug of the operator, or standard output is blocked. The process \
         ends so that it is restarted; the targets keep what they hold. Report this with what follows; it holds no values.\n",
        bound.as_secs()
    );
    for (title, section) in sections {
        let said = within(SECTION, section)
            .unwrap_or_else(|| "no answer within 500 ms: a lock is not released\n".to_owned());
        let _ = write!(text, "{title}:\n{said}");
    }
    text
}

/// Returns the text of `section`, if it comes in time.
fn within(time: Duration, section: Box<dyn FnOnce() -> String + Send>) -> Option<String> {
    let (answer, said) = mpsc::channel();
    let asked = thread::Builder::new().spawn(move || {
        let _ = answer.send(section());
    });
    asked.ok().and_then(|_| said.recv_timeout(time).ok())
}

/// Returns what each thread of this process does, according to the kernel.
#[must_use]
pub fn threads() -> String {
    let mut text = String::new();
    for task in std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten() {
        let read = |file: &str| std::fs::read_to_string(task.path().join(file)).unwrap_or_default();
        let stat = read("stat");
        let state = stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next()).unwrap_or('?');
        let _ = writeln!(
            text,
            "  {} {} {state} {}",
            task.file_name().to_string_lossy(),
            read("comm").trim(),
            read("wchan")
        );
    }
    text
}

/// Prints the message and aborts the process. Standard error may be blocked too, so the wait for it is short.
pub fn abort(message: String) {
    let (printed, done) = mpsc::channel();
    let printing = thread::Builder::new().spawn(move || {
        let _ = std::io::stderr().write_all(message.as_bytes());
        let _ = printed.send(());
    });
    if printing.is_ok() {
        let _ = done.recv_timeout(SECTION);
    }
    std::process::abort();
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Duration = Duration::from_secs(2);

    fn watch(pulses: Vec<Pulse>, report: fn() -> Vec<Section>) -> (Watchdog, mpsc::Receiver<String>) {
        let (ended, message) = mpsc::channel();
        let watchdog = Watchdog::start(SHORT, pulses, report, move |text| ended.send(text).unwrap());
        (watchdog.unwrap(), message)
    }

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_time().build().unwrap()
    }

    #[test]
    fn a_runtime_whose_workers_all_wait_for_a_lock_ends_the_process() {
        let runtime = runtime();
        let pulse = Pulse::new("the async runtime");
        let (_watchdog, message) =
            watch(vec![pulse.clone()], || vec![("threads", Box::new(threads)), ("stuck", Box::new(park))]);
        runtime.spawn(pulse.beat(|| true));
        for _ in 0..2 {
            runtime.spawn(async { park() });
        }
        let text = message.recv_timeout(Duration::from_secs(20)).unwrap();
        assert!(text.contains("the async runtime made no progress for 2 s"), "{text}");
        assert!(text.contains("tokio-rt-worker S futex") || text.contains("tokio-rt-worker S"), "{text}");
        assert!(text.contains("stuck:\nno answer within 500 ms"), "{text}");
        runtime.shutdown_background();
    }

    #[test]
    fn a_part_that_says_that_it_is_not_well_ends_the_process() {
        let runtime = runtime();
        let (well, stalled) = (Pulse::new("the async runtime"), Pulse::new("the work queue"));
        let (_watchdog, message) = watch(vec![well.clone(), stalled.clone()], Vec::new);
        runtime.spawn(well.beat(|| true));
        runtime.spawn(stalled.beat(|| false));
        let text = message.recv_timeout(Duration::from_secs(20)).unwrap();
        assert!(text.starts_with("parameter-mirror: the work queue made no progress"), "{text}");
    }

    #[test]
    fn a_runtime_that_works_and_one_that_is_gone_end_nothing() {
        let runtime = runtime();
        let pulse = Pulse::new("the async runtime");
        let (watchdog, message) = watch(vec![pulse.clone()], Vec::new);
        runtime.spawn(pulse.beat(|| true));
        assert!(message.recv_timeout(SHORT * 2).is_err(), "it beats");
        drop(watchdog);
        drop(runtime);
        // The thread ends without ending the process.
        assert_eq!(message.recv_timeout(SHORT * 2), Err(mpsc::RecvTimeoutError::Disconnected));
    }

    /// Waits for ever, as for a lock that nobody releases.
    fn park() -> String {
        loop {
            thread::park();
        }
    }
}
