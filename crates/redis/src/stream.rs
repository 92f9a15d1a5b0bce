//! The transport to a server: TCP, with TLS if the URL says so.
//!
//! redis-rs has its own, but it loads every system certificate for each connection, even if other
//! certificates are to be trusted, on the thread that everything else waits for: 35 ms of a start that may
//! take 10 (make bench).

use std::io;
use std::sync::Arc;
use std::time::Duration;

use redis::RedisConnectionInfo;
use redis::io::tcp::socket2::{SockRef, TcpKeepalive};
use rustls::pki_types::ServerName;
use rustls::{CertificateError, ClientConfig, Error as TlsError};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsConnector;

/// The address of a server, and how to log in there.
#[derive(Debug)]
pub(crate) struct Transport {
    pub host: String,
    pub port: u16,
    pub tls: Option<Arc<ClientConfig>>,
    pub login: RedisConnectionInfo,
}

/// A byte stream to and from a server.
pub(crate) trait Bytes: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Bytes for T {}

impl Transport {
    /// `host:port`.
    pub fn address(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    /// Connects to the first address of the host that answers. A server that keeps silent in the TLS handshake has until
    /// `handshake_by`: a Redis without TLS waits for the end of the line.
    pub async fn connect(&self, handshake_by: Instant) -> io::Result<Box<dyn Bytes>> {
        let stream = TcpStream::connect((self.host.as_str(), self.port)).await?;
        prepare(&stream)?;
        let Some(tls) = &self.tls else { return Ok(Box::new(stream)) };
        let name = ServerName::try_from(self.host.clone()).map_err(|_| {
            io::Error::new(io::ErrorKind::InvalidInput, "no certificate can be for this host name")
        })?;
        let handshake = TlsConnector::from(Arc::clone(tls)).connect(name, stream);
        match timeout_at(handshake_by, handshake).await {
            Ok(Ok(stream)) => Ok(Box::new(stream)),
            Ok(Err(error)) => Err(io::Error::new(error.kind(), format!("{error}{}", remedy(&error)))),
            Err(_) => {
                let what = format!("the TLS handshake was not answered in time{WITHOUT_TLS}");
                Err(io::Error::new(io::ErrorKind::TimedOut, what))
            }
        }
    }
}

const WITHOUT_TLS: &str = "; if this port does not speak TLS, write redis:// instead of rediss://";

/// Returns what to do about a failed handshake.
fn remedy(error: &io::Error) -> &'static str {
    match error.get_ref().and_then(|cause| cause.downcast_ref()) {
        Some(TlsError::InvalidCertificate(CertificateError::UnknownIssuer)) => {
            "; give the certificate of its authority (--redis-ca-file)"
        }
        // The server answers something that is no TLS, or ends the connection.
        Some(TlsError::InvalidMessage(_)) | None => WITHOUT_TLS,
        Some(_) => "",
    }
}

/// Disables Nagle's algorithm, so that small writes are sent at once, and enables keep-alives, so that a dead
/// peer is noticed without traffic.
fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let keepalive =
        TcpKeepalive::new().with_time(Duration::from_secs(15)).with_interval(Duration::from_secs(5));
    let socket = SockRef::from(stream);
    socket.set_tcp_keepalive(&keepalive)?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(Duration::from_secs(10)))?;
    Ok(())
}
