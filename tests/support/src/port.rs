//! Where parts listen: an address, and TCP ports of it.

use std::hash::{BuildHasher, RandomState};
use std::net::{Ipv4Addr, TcpListener, UdpSocket};

/// Below the range from which Linux takes the ports of outgoing connections (32768 and up): a part that is killed and
/// started again finds its port free.
const RANGE: std::ops::Range<u16> = 15_000..32_000;

/// The address that Redis and both kinds of SSM listen on: 127.0.0.1, or beside a node (hack/node) the one that its pods can reach.
#[must_use]
pub fn address() -> Ipv4Addr {
    let node = std::env::var("PARAMETER_MIRROR_NODE_ADDRESS").ok();
    node.and_then(|address| address.parse().ok()).unwrap_or(Ipv4Addr::LOCALHOST)
}

/// A TCP port that nobody listens on, and that no other test takes while this value lives.
///
/// The part itself must bind it, so the test cannot hold the TCP port. It holds the UDP port of the same number
/// instead, which is of no use to any part: a lock across test processes that no crash leaves locked.
#[derive(Debug)]
pub struct Port {
    number: u16,
    _claim: UdpSocket,
}

impl Port {
    /// Takes a port.
    ///
    /// # Panics
    /// When none of the thousands is free.
    #[must_use]
    pub fn take() -> Self {
        let length = RANGE.end - RANGE.start;
        let first = RandomState::new().hash_one(()) % u64::from(length);
        (0..length)
            .map(|step| {
                RANGE.start + u16::try_from((first + u64::from(step)) % u64::from(length)).unwrap_or(0)
            })
            .find_map(|number| {
                let claim = UdpSocket::bind((Ipv4Addr::LOCALHOST, number)).ok()?;
                TcpListener::bind((Ipv4Addr::LOCALHOST, number)).ok()?;
                Some(Self { number, _claim: claim })
            })
            .expect("a free port")
    }

    /// Its number.
    #[must_use]
    pub fn number(&self) -> u16 {
        self.number
    }
}
