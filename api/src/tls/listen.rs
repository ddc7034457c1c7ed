//! The answering side: a stream of connections whose callers are known.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::Connected;

use super::{Credentials, Duplex, NameError, Tls, complaint, remedy, verify};
use crate::client::Endpoint;
use crate::identity::Caller;

/// How long a caller may take for its handshake: two round trips and a signature.
const HANDSHAKE: Duration = Duration::from_secs(5);

/// Handshakes under way at once: each holds a socket and some 30 KiB.
const HANDSHAKES_MAX: usize = 256;

/// Connections that are ready and wait for the server.
const READY_MAX: usize = 16;

/// Pause after the kernel could not give us a connection: no descriptors are left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The same complaint is logged again only after this: whoever is turned away comes back at once.
const REPEAT: Duration = Duration::from_secs(30);

/// A socket that listens.
#[derive(Debug)]
pub enum Listener {
    /// TCP.
    Tcp(TcpListener),
    /// A unix socket. Its callers show certificates too: one rule for every way in.
    Unix(UnixListener),
}

impl Listener {
    /// Listens on a TCP address. Must be called within a tokio runtime.
    ///
    /// # Errors
    ///
    /// The kernel's.
    pub fn tcp(address: SocketAddr) -> io::Result<Self> {
        let listener = std::net::TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        TcpListener::from_std(listener).map(Self::Tcp)
    }

    /// Listens on a unix socket. Must be called within a tokio runtime.
    ///
    /// # Errors
    ///
    /// The kernel's, also if something is at `path` already.
    pub fn unix(path: &Path) -> io::Result<Self> {
        UnixListener::bind(path).map(Self::Unix)
    }

    /// Where it listens.
    ///
    /// # Errors
    ///
    /// The kernel's.
    pub fn endpoint(&self) -> io::Result<Endpoint> {
        Ok(match self {
            Self::Tcp(listener) => Endpoint::Tcp(listener.local_addr()?.to_string()),
            Self::Unix(listener) => {
                let path = listener.local_addr()?.as_pathname().map(Path::to_path_buf);
                Endpoint::Unix(path.unwrap_or_default())
            }
        })
    }

    /// The next connection, and where it is from, for messages.
    async fn accept(&self) -> io::Result<(Box<dyn Duplex>, String)> {
        match self {
            Self::Tcp(listener) => {
                let (stream, from) = listener.accept().await?;
                stream.set_nodelay(true)?;
                Ok((Box::new(stream), from.ip().to_string()))
            }
            Self::Unix(listener) => {
                let (stream, _) = listener.accept().await?;
                Ok((Box::new(stream), "the unix socket".to_owned()))
            }
        }
    }
}

impl Credentials {
    /// Takes connections, as [`tonic::transport::Server::serve_with_incoming`] wants them; each
    /// request's extensions hold its [`Caller`].
    ///
    /// Whoever shows no good certificate is turned away during the handshake; the reason is
    /// logged. Handshakes do not wait for each other. Listening ends when the stream is dropped.
    /// Must be called within a tokio runtime.
    ///
    /// # Errors
    ///
    /// [`super::NotLoopback`] with [`Credentials::insecure_dev`].
    pub fn listen(&self, listener: Listener) -> io::Result<ReceiverStream<io::Result<Connection>>> {
        self.check(&listener.endpoint()?).map_err(io::Error::other)?;
        let (ready, connections) = mpsc::channel(READY_MAX);
        tokio::spawn(accept(self.clone(), listener, ready));
        Ok(ReceiverStream::new(connections))
    }
}

async fn accept(
    credentials: Credentials,
    listener: Listener,
    ready: mpsc::Sender<io::Result<Connection>>,
) {
    let room = Arc::new(Semaphore::new(HANDSHAKES_MAX));
    let complaints = Arc::new(Complaints::default());
    loop {
        let permit = room.clone().acquire_owned().await.expect("it is never closed");
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = ready.closed() => return,
        };
        let (stream, from) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                complaints.say("the kernel", &error.to_string());
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Some(tls) = credentials.tls.clone() else {
            let connection = Connection { stream, caller: Caller::Unverified };
            let _ = ready.send(Ok(connection)).await;
            continue;
        };
        let (ready, complaints) = (ready.clone(), complaints.clone());
        tokio::spawn(async move {
            let shaken = tokio::time::timeout(HANDSHAKE, tls.meet(stream)).await;
            drop(permit);
            match shaken.unwrap_or_else(|_| Err(format!("no handshake within {HANDSHAKE:?}"))) {
                // An error here is the listener's end.
                Ok(connection) => _ = ready.send(Ok(connection)).await,
                Err(why) => complaints.say(&from, &why),
            }
        });
    }
}

impl Tls {
    async fn meet(&self, stream: Box<dyn Duplex>) -> Result<Connection, String> {
        let acceptor = TlsAcceptor::from(self.server.clone());
        let stream = acceptor.accept(stream).await.map_err(|error| self.why(&error))?;
        let shown = stream.get_ref().1.peer_certificates();
        let leaf = shown.and_then(|chain| chain.first());
        let identity = leaf.ok_or(NameError::Nobody).and_then(verify::identity_of);
        let caller = Caller::Verified(identity.map_err(|error| error.to_string())?);
        Ok(Connection { stream: Box::new(stream), caller })
    }

    /// A failed handshake, for people.
    fn why(&self, error: &io::Error) -> String {
        use rustls::Error as E;
        match error.get_ref().and_then(|inner| inner.downcast_ref::<E>()) {
            Some(E::InvalidCertificate(theirs)) => {
                let what = complaint(theirs, &self.files.ca);
                format!("its certificate is not taken: {what}; {}", remedy(theirs))
            }
            Some(E::NoCertificatesPresented) => {
                "it shows no certificate; issue one: atolld pki issue".to_owned()
            }
            Some(E::InvalidMessage(_)) => {
                "it does not speak TLS; start it with its certificate instead of --insecure-dev"
                    .to_owned()
            }
            Some(E::AlertReceived(alert)) => {
                format!("it does not take our certificate ({alert:?}): has it our authority?")
            }
            _ => format!("no TLS session: {error}"),
        }
    }
}

/// What was complained of last: whoever knocks again and again does not fill the log.
#[derive(Default)]
struct Complaints {
    last: Mutex<Option<(String, Instant)>>,
}

impl Complaints {
    fn say(&self, from: &str, why: &str) {
        let text = format!("{from}: {why}");
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.as_ref().is_some_and(|(said, at)| *said == text && at.elapsed() < REPEAT) {
            return;
        }
        tracing::warn!(from, why, "a connection is turned away");
        *last = Some((text, Instant::now()));
    }
}

/// A connection whose caller is known.
pub struct Connection {
    stream: Box<dyn Duplex>,
    caller: Caller,
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Connection").field(&self.caller).finish()
    }
}

impl Connected for Connection {
    type ConnectInfo = Caller;

    fn connect_info(&self) -> Caller {
        self.caller.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
