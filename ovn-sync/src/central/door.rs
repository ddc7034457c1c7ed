//! The northbound's way in from the network.
//!
//! OVN has no roles in that database: whoever `ovsdb-server` lets in may write everything, and so a
//! node's certificate would be worth the whole network. So we listen, see whose certificate it is,
//! and carry the bytes to the server's unix socket.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use nix::sys::socket::{setsockopt, sockopt};
use rustls::ServerConfig;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, sleep, timeout};
use tokio_rustls::TlsAcceptor;

/// For a handshake: two round trips and a signature.
const HANDSHAKE: Duration = Duration::from_secs(5);

/// Guests at once: members, a few programs and people.
const GUESTS_MAX: usize = 256;

/// Pause after the kernel could not give us a connection: no descriptors are left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The same complaint is logged again only after this: whoever is turned away comes back at once.
const REPEAT: Duration = Duration::from_secs(30);

/// Silence after which the kernel asks whether the other end is still there.
const KEEPALIVE_S: u32 = 30;

/// Who is let in: a configuration of rustls, whose verifier decides. Cheap to clone.
///
/// Two are equal if they are the same configuration.
#[derive(Clone)]
pub struct Guard(Arc<ServerConfig>);

impl Guard {
    /// Uses `config`.
    #[must_use]
    pub fn new(config: Arc<ServerConfig>) -> Self {
        Self(config)
    }
}

impl PartialEq for Guard {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Guard {}

impl fmt::Debug for Guard {
    /// Never shows a key.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Guard")
    }
}

/// Open as long as it lives; then nobody listens, and guests are cut off.
#[derive(Debug)]
pub(super) struct Door(JoinHandle<()>);

impl Door {
    /// Listens at `address` and leads whom `guard` lets in to the server at `socket`.
    pub(super) async fn open(
        address: SocketAddr,
        guard: &Guard,
        socket: PathBuf,
    ) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let acceptor = TlsAcceptor::from(guard.0.clone());
        Ok(Self(tokio::spawn(keep(listener, acceptor, socket.into()))))
    }

    /// Returns when nobody listens any more.
    pub(super) async fn close(mut self) {
        self.0.abort();
        // It says that it was aborted.
        let _ = (&mut self.0).await;
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn keep(listener: TcpListener, acceptor: TlsAcceptor, socket: Arc<Path>) {
    let mut guests = JoinSet::new();
    let mut said: Option<(String, Instant)> = None;
    loop {
        tokio::select! {
            accepted = listener.accept(), if guests.len() < GUESTS_MAX => match accepted {
                Ok((stream, from)) => {
                    guests.spawn(lead(stream, from, acceptor.clone(), socket.clone()));
                }
                Err(_) => sleep(ACCEPT_PAUSE).await,
            },
            Some(Ok(Err(why))) = guests.join_next(), if !guests.is_empty() => {
                let is_news = |(text, at): &(String, Instant)| *text != why || at.elapsed() > REPEAT;
                if said.as_ref().is_none_or(is_news) {
                    tracing::warn!(why, "not let into the northbound database");
                    said = Some((why, Instant::now()));
                }
            }
        }
    }
}

/// Leads a guest in until one side ends; says why it was turned away.
async fn lead(
    stream: TcpStream,
    from: SocketAddr,
    acceptor: TlsAcceptor,
    socket: Arc<Path>,
) -> Result<(), String> {
    // Without them, who vanished would be a guest for ever: the server does not ask over its socket.
    let _ = setsockopt(&stream, sockopt::KeepAlive, &true);
    let _ = setsockopt(&stream, sockopt::TcpKeepIdle, &KEEPALIVE_S);
    let _ = stream.set_nodelay(true);
    let shaken = timeout(HANDSHAKE, acceptor.accept(stream)).await;
    let shaken = shaken.map_err(|_elapsed| format!("{}: no handshake in time", from.ip()))?;
    let mut guest = shaken.map_err(|error| format!("{}: {error}", from.ip()))?;
    let server = UnixStream::connect(&*socket).await;
    let mut server = server.map_err(|error| format!("the database does not answer: {error}"))?;
    // However it ends: both sides see it by themselves.
    let _ = copy_bidirectional(&mut guest, &mut server).await;
    Ok(())
}
