//! A way in from the network for members and operators.
//!
//! OVN has no roles in the northbound, nor among the servers of a cluster: whoever `ovsdb-server` lets
//! in may write everything, and so a node's certificate would be worth the whole network. So we
//! listen, see whose certificate it is, and carry the bytes to the server's unix socket.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use nix::sys::socket::{setsockopt, sockopt};
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, copy, split};
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
    let mut complaints = Complaints::default();
    loop {
        tokio::select! {
            accepted = listener.accept(), if guests.len() < GUESTS_MAX => match accepted {
                Ok((stream, from)) => {
                    guests.spawn(lead(stream, from, acceptor.clone(), socket.clone()));
                }
                Err(_) => sleep(ACCEPT_PAUSE).await,
            },
            Some(Ok(Err(why))) = guests.join_next(), if !guests.is_empty() => {
                if complaints.is_news(&why) {
                    tracing::warn!(why, socket = %socket.display(), "not let into the database");
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
    prepare(&stream);
    let shaken = timeout(HANDSHAKE, acceptor.accept(stream)).await;
    let shaken = shaken.map_err(|_elapsed| format!("{}: no handshake in time", from.ip()))?;
    let guest = shaken.map_err(|error| format!("{}: {error}", from.ip()))?;
    let server = UnixStream::connect(&*socket).await;
    let server = server.map_err(|error| format!("the database does not answer: {error}"))?;
    carry(guest, server).await;
    Ok(())
}

/// For connections that may be silent for long. Without the kernel's questions, who vanished would be
/// there for ever: the server does not ask over its socket.
pub(super) fn prepare(stream: &TcpStream) {
    let _ = setsockopt(stream, sockopt::KeepAlive, &true);
    let _ = setsockopt(stream, sockopt::TcpKeepIdle, &KEEPALIVE_S);
    let _ = stream.set_nodelay(true);
}

/// Carries bytes both ways until one side ends. Nobody here goes on with half a connection.
pub(super) async fn carry(one: impl AsyncRead + AsyncWrite, other: impl AsyncRead + AsyncWrite) {
    let ((mut from_one, mut to_one), (mut from_other, mut to_other)) = (split(one), split(other));
    tokio::select! {
        _ = copy(&mut from_one, &mut to_other) => {}
        _ = copy(&mut from_other, &mut to_one) => {}
    }
    // However it ends: both sides see it by themselves, and with TLS are told.
    let told = async { tokio::join!(to_one.shutdown(), to_other.shutdown()) };
    let _ = timeout(HANDSHAKE, told).await;
}

/// Which complaints are worth a line of the log.
#[derive(Debug, Default)]
pub(super) struct Complaints(Option<(String, Instant)>);

impl Complaints {
    pub(super) fn is_news(&mut self, why: &str) -> bool {
        let is_news = |(text, at): &(String, Instant)| *text != why || at.elapsed() > REPEAT;
        let is_news = self.0.as_ref().is_none_or(is_news);
        if is_news {
            self.0 = Some((why.to_owned(), Instant::now()));
        }
        is_news
    }
}
