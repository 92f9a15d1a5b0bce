//! A DNS server that knows a single name.

use std::net::Ipv4Addr;

use tokio::net::UdpSocket;
use tokio::task::JoinHandle;

/// The length of a DNS header.
const HEADER: usize = 12;
const TYPE_A: [u8; 2] = [0, 1];
const NO_ERROR: u8 = 0;
const NAME_ERROR: u8 = 3;

/// A server on UDP port 53 of an address, until it is dropped.
#[derive(Debug)]
pub struct Names(JoinHandle<()>);

impl Names {
    /// Serves `name` with `address`, on which it also listens. Other names do not exist.
    pub async fn serve(name: &str, address: Ipv4Addr) -> Self {
        let socket = UdpSocket::bind((address, 53)).await.expect("the port of names is free");
        let name = name.to_owned();
        Self(tokio::spawn(async move {
            let mut buffer = [0; 512];
            while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
                if let Some(answer) = answer(&buffer[..length], &name, address) {
                    // The client may have gone; otherwise it asks again.
                    let _ = socket.send_to(&answer, from).await;
                }
            }
        }))
    }
}

impl Drop for Names {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Builds the answer to a query for one name (RFC 1035, section 4).
fn answer(question: &[u8], known: &str, address: Ipv4Addr) -> Option<Vec<u8>> {
    let (header, mut rest) = question.split_at_checked(HEADER)?;
    let mut labels = Vec::new();
    while let Some((&length @ 1.., after)) = rest.split_first() {
        let (label, after) = after.split_at_checked(length.into())?;
        labels.push(String::from_utf8_lossy(label).into_owned());
        rest = after;
    }
    // The end of the name, its type and its class; what follows (EDNS) is ignored.
    let asked = question.get(..question.len() - rest.len() + 5)?;
    let is_known = labels.join(".").eq_ignore_ascii_case(known);
    let has_address = is_known && rest.get(1..3)? == TYPE_A;
    let code = if is_known { NO_ERROR } else { NAME_ERROR };
    let mut reply = header[..2].to_vec();
    // The header of a response to a recursive query, with one question and the number of answers.
    reply.extend([0x81, 0x80 | code, 0, 1, 0, u8::from(has_address), 0, 0, 0, 0]);
    reply.extend(&asked[HEADER..]);
    if has_address {
        // The name from the question, type A, class IN, a TTL of ten seconds, four bytes.
        reply.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 10, 0, 4]);
        reply.extend(address.octets());
    }
    Some(reply)
}
