//! The address and the TCP ports that parts listen on.

use std::hash::{BuildHasher, RandomState};
use std::net::{Ipv4Addr, TcpListener, UdpSocket};

/// Below the range of Linux's outgoing connections (32768 and up), so that the port of a killed part is still
/// free when it restarts.
const RANGE: std::ops::Range<u16> = 15_000..32_000;

/// Returns the address that Redis and both kinds of SSM listen on: 127.0.0.1, or, with a node (hack/node),
/// the one that its pods can reach.
#[must_use]
pub fn address() -> Ipv4Addr {
    let node = std::env::var("PARAMETER_MIRROR_NODE_ADDRESS").ok();
    node.and_then(|address| address.parse().ok()).unwrap_or(Ipv4Addr::LOCALHOST)
}

/// A free TCP port, reserved for one test while this value lives.
///
/// The part itself must bind the TCP port, so the test cannot hold it. It holds the UDP port with the same
/// number instead, which no part uses: a lock across test processes that no crash leaves locked.
#[derive(Debug)]
pub struct Port {
    number: u16,
    _claim: UdpSocket,
}

impl Port {
    /// Reserves a port.
    ///
    /// # Panics
    /// When no port in the range is free.
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

    /// Returns its number.
    #[must_use]
    pub fn number(&self) -> u16 {
        self.number
    }
}
