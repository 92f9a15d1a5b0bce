//! Faults of the connection: each looks to a caller as on a real network, and is distinct from the others.

use std::io::ErrorKind;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::super::{Fault, Ssm, When};
use super::{exchange, small};

/// How long to wait for answers that are not expected to arrive completely; what does arrive has this long on
/// a busy machine.
const IMPATIENCE: Duration = Duration::from_secs(1);

/// What a caller received for one listing, and how the connection ended.
#[derive(Debug)]
struct Arrived {
    head: String,
    body: Vec<u8>,
    end: Option<ErrorKind>,
}

impl Arrived {
    /// Returns the length in the head; `None` if no head arrived.
    fn announced(&self) -> Option<usize> {
        let line = self.head.lines().find_map(|line| line.strip_prefix("content-length: "))?;
        line.parse().ok()
    }

    fn nothing(&self) -> bool {
        self.head.is_empty() && self.body.is_empty()
    }

    fn half(&self) -> bool {
        self.announced().is_some_and(|length| self.body.len() == length / 2)
    }

    fn whole(&self) -> bool {
        self.announced() == Some(self.body.len()) && serde_json::from_slice::<Value>(&self.body).is_ok()
    }

    /// Whether the connection stayed open until the caller gave up.
    fn hung(&self) -> bool {
        matches!(self.end, Some(ErrorKind::WouldBlock | ErrorKind::TimedOut))
    }
}

fn listing(ssm: &Ssm, patience: Duration) -> Arrived {
    let body = json!({ "Path": "/a" }).to_string();
    let scope = "test/20260101/us-east-1/ssm";
    let (received, end) =
        exchange(ssm, "AmazonSSM.GetParametersByPath", scope, &body, patience).expect("a connection");
    let at = received.windows(4).position(|window| window == b"\r\n\r\n").map_or(0, |at| at + 4);
    let head = String::from_utf8_lossy(&received[..at]).into_owned();
    Arrived { head, body: received[at..].to_vec(), end: end.err().map(|error| error.kind()) }
}

/// Returns the same under a fault.
fn under(fault: Fault, patience: Duration) -> Arrived {
    let ssm = small();
    let id = ssm.fail(When::any(), fault);
    let arrived = listing(&ssm, patience);
    assert_eq!(ssm.hits(id), 1);
    arrived
}

#[test]
fn a_silent_service_sends_nothing_and_keeps_the_connection() {
    let arrived = under(Fault::Silent, IMPATIENCE);
    assert!(arrived.nothing() && arrived.hung(), "{arrived:?}");
}

#[test]
fn a_reset_comes_in_place_of_the_answer() {
    let arrived = under(Fault::Reset, super::PATIENCE);
    assert!(arrived.nothing() && arrived.end == Some(ErrorKind::ConnectionReset), "{arrived:?}");
}

#[test]
fn a_stalled_body_stops_half_way_on_an_open_connection() {
    let arrived = under(Fault::StallBody, IMPATIENCE);
    assert!(arrived.half() && arrived.hung(), "{arrived:?}");
}

#[test]
fn a_truncated_body_stops_half_way_with_the_connection() {
    let arrived = under(Fault::Truncated, super::PATIENCE);
    assert!(arrived.half() && !arrived.hung(), "{arrived:?}");
}

#[test]
fn a_slow_answer_is_whole_and_late() {
    let began = Instant::now();
    let arrived = under(Fault::Slow(Duration::from_millis(50)), super::PATIENCE);
    assert!(arrived.whole() && began.elapsed() >= Duration::from_millis(50), "{arrived:?}");
}

#[test]
fn a_slow_body_is_whole_and_takes_the_time_its_speed_says() {
    let began = Instant::now();
    let arrived = under(Fault::SlowBody { bytes_per_second: 1_000 }, super::PATIENCE);
    let chunks = arrived.body.len().div_ceil(100);
    let least = Duration::from_millis(100) * u32::try_from(chunks).expect("a short body");
    assert!(arrived.whole() && chunks > 1 && began.elapsed() >= least, "{arrived:?}");
}

#[test]
fn a_frozen_service_answers_nobody_until_it_thaws() {
    let ssm = small();
    ssm.freeze();
    assert!(listing(&ssm, IMPATIENCE).hung());
    ssm.thaw();
    assert!(listing(&ssm, super::PATIENCE).whole());
}
