//! TLS in front of a server that speaks none, with a certificate of an authority that nobody trusts.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use crate::authority;
use crate::scratch::Scratch;

/// A port of 127.0.0.1 that leads to a server through TLS. Dropping it closes its connections.
#[derive(Debug)]
pub struct TlsFront {
    address: SocketAddr,
    ca: PathBuf,
    _accepting: JoinSet<()>,
    _scratch: Scratch,
}

impl TlsFront {
    /// Starts in front of `server`, with a certificate for 127.0.0.1.
    ///
    /// # Panics
    /// When it cannot start.
    pub async fn start(server: SocketAddr) -> Self {
        let scratch = Scratch::new("tls").expect("a temporary folder");
        let ca = authority::found(scratch.path()).await;
        let certificate = authority::certify(scratch.path(), "front", "IP:127.0.0.1").await;
        let acceptor = TlsAcceptor::from(Arc::new(authority::server(&certificate)));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let address = listener.local_addr().expect("its address");
        let mut accepting = JoinSet::new();
        accepting.spawn(accept(listener, acceptor, server));
        Self { address, ca, _accepting: accepting, _scratch: scratch }
    }

    /// Returns its URL.
    #[must_use]
    pub fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    /// Returns the address it listens on.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the certificate (PEM) of its authority.
    #[must_use]
    pub fn ca(&self) -> &Path {
        &self.ca
    }
}

async fn accept(listener: TcpListener, acceptor: TlsAcceptor, server: SocketAddr) {
    let mut connections = JoinSet::new();
    loop {
        let Ok((client, _)) = listener.accept().await else { return };
        let acceptor = acceptor.clone();
        connections.spawn(async move {
            // A client that does not trust the certificate ends the handshake.
            let Ok(mut client) = acceptor.accept(client).await else { return };
            let Ok(mut server) = TcpStream::connect(server).await else { return };
            let _ = copy_bidirectional(&mut client, &mut server).await;
        });
        while connections.try_join_next().is_some() {}
    }
}
