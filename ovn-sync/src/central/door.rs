//! A way in from the network for members and operators.
//!
//! OVN has no roles in the northbound, nor among the servers of a cluster: whoever `ovsdb-server` lets
//! in may write everything, and so a node's certificate would be worth the whole network. So we
//! listen, see whose certificate it is, and carry the bytes to the server's unix socket.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nix::sys::socket::{setsockopt, sockopt};
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, copy, split};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, sleep, timeout};
use tokio_rustls::TlsAcceptor;

/// For a handshake: two round trips and a signature.
const HANDSHAKE: Duration = Duration::from_secs(5);

/// Guests at once: members, a few programs and people.
const GUESTS_MAX: usize = 256;

/// Callers of one address who have not shown a certificate yet, and of all addresses. Whoever has none
/// must not keep out the others, who come from elsewhere.
const STRANGERS_OF_ONE: usize = 8;
const STRANGERS_MAX: usize = 1_024;

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
    let (strangers, room) = (Strangers::default(), Arc::new(Semaphore::new(GUESTS_MAX)));
    let mut callers = JoinSet::new();
    let mut complaints = Complaints::default();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, from)) => {
                    // Whoever is one too many is hung up on.
                    if let Some(stranger) = strangers.enter(from.ip()) {
                        let (acceptor, room) = (acceptor.clone(), room.clone());
                        callers.spawn(lead(stream, stranger, acceptor, room, socket.clone()));
                    }
                }
                Err(_) => sleep(ACCEPT_PAUSE).await,
            },
            Some(Ok(Err(why))) = callers.join_next(), if !callers.is_empty() => {
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
    stranger: Stranger,
    acceptor: TlsAcceptor,
    room: Arc<Semaphore>,
    socket: Arc<Path>,
) -> Result<(), String> {
    prepare(&stream);
    let from = stranger.from;
    let shaken = timeout(HANDSHAKE, acceptor.accept(stream)).await;
    let shaken = shaken.map_err(|_elapsed| format!("{from}: no handshake in time"))?;
    let guest = shaken.map_err(|error| format!("{from}: {error}"))?;
    drop(stranger);
    let _place = room.try_acquire().map_err(|_full| format!("{from}: too many guests"))?;
    let server = UnixStream::connect(&*socket).await;
    let server = server.map_err(|error| format!("the database does not answer: {error}"))?;
    carry(guest, server).await;
    Ok(())
}

/// How many callers of each address have not shown a certificate yet.
#[derive(Debug, Clone, Default)]
struct Strangers(Arc<Mutex<BTreeMap<IpAddr, usize>>>);

/// One of them, until it has or is gone.
#[derive(Debug)]
struct Stranger {
    from: IpAddr,
    all: Strangers,
}

impl Strangers {
    /// `None` if there are too many.
    fn enter(&self, from: IpAddr) -> Option<Stranger> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let own = all.get(&from).copied().unwrap_or(0);
        if own >= STRANGERS_OF_ONE || all.values().sum::<usize>() >= STRANGERS_MAX {
            return None;
        }
        all.insert(from, own + 1);
        Some(Stranger { from, all: self.clone() })
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        let mut all = self.all.0.lock().unwrap_or_else(PoisonError::into_inner);
        match all.get(&self.from).copied() {
            Some(own) if own > 1 => all.insert(self.from, own - 1),
            _ => all.remove(&self.from),
        };
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_does_not_keep_out_others() {
        let address = |last: u8| IpAddr::from([10, 0, 0, last]);
        let strangers = Strangers::default();
        let mut idle: Vec<_> = (0..).map_while(|_| strangers.enter(address(1))).collect();
        assert_eq!(idle.len(), STRANGERS_OF_ONE);
        assert!(strangers.enter(address(2)).is_some());
        idle.pop();
        let again = strangers.enter(address(1));
        assert!(again.is_some() && strangers.enter(address(1)).is_none());
        drop((idle, again));
        assert!(strangers.0.lock().unwrap().is_empty());
    }
}
