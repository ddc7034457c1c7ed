//! How the servers of a cluster reach each other where certificates are shown.
//!
//! OVSDB's raft takes everybody whose certificate is of the authority for a server: a node could join,
//! or write with the voice of one that has. So servers speak through unix sockets only. Each has a
//! name that stands for an address of the network; on its own member the server listens there, behind a
//! [`Door`](super::super::door::Door) at that address, and on the others a [`Passage`] does.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use atoll_ovsdb::Tls;
use tokio::net::{TcpStream, UnixListener, UnixStream};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;

use super::super::door::{Complaints, carry, prepare};

/// What such an address begins with in the words of OVSDB.
const UNIX: &str = "unix:";

/// For a connection to another member, and for a handshake.
const CONNECT: Duration = Duration::from_secs(5);

/// Connections at once; a server makes one, and again when it is lost.
const CALLS_MAX: usize = 64;

/// The name of the socket that stands for `address`, such as `nb-10_0_0_1-6643`. Without dots: OVSDB
/// calls a server by what is before the first one, and they are to be told apart.
pub(super) fn socket_name(database: &str, address: SocketAddr) -> String {
    let host = address.ip().to_string().replace('.', "_");
    format!("{database}-{host}-{}", address.port())
}

/// The same as OVSDB is told.
pub(super) fn remote(database: &str, address: SocketAddr) -> String {
    format!("{UNIX}{}", socket_name(database, address))
}

/// The name, and the address that it stands for, of such a remote.
pub(super) fn parse(remote: &str) -> Option<(&str, SocketAddr)> {
    let name = remote.strip_prefix(UNIX)?;
    let (database_and_host, port) = name.rsplit_once('-')?;
    let (_, host) = database_and_host.split_once('-')?;
    let host: IpAddr = host.replace('_', ".").parse().ok()?;
    Some((name, SocketAddr::new(host, port.parse().ok()?)))
}

/// Stands for another member's server; gone with this.
#[derive(Debug)]
pub(super) struct Passage {
    socket: PathBuf,
    task: JoinHandle<()>,
}

impl Passage {
    /// Leads whoever comes to `socket` to the member at `to`.
    pub(super) fn open(socket: PathBuf, to: SocketAddr, tls: Tls) -> io::Result<Self> {
        match std::fs::remove_file(&socket) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            // What an earlier process left there.
            Ok(()) | Err(_) => {}
        }
        let listener = UnixListener::bind(&socket)?;
        Ok(Self { socket, task: tokio::spawn(keep(listener, to, tls)) })
    }

    /// Whether the socket is still where it was made: the directory may have been lost.
    pub(super) fn is_there(&self) -> bool {
        self.socket.exists()
    }
}

impl Drop for Passage {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn keep(listener: UnixListener, to: SocketAddr, tls: Tls) {
    let mut calls = JoinSet::new();
    let mut complaints = Complaints::default();
    loop {
        tokio::select! {
            accepted = listener.accept(), if calls.len() < CALLS_MAX => match accepted {
                Ok((server, _)) => {
                    calls.spawn(lead(server, to, tls.clone()));
                }
                Err(_) => tokio::time::sleep(CONNECT).await,
            },
            Some(Ok(Err(error))) = calls.join_next(), if !calls.is_empty() => {
                if complaints.is_news(&error.to_string()) {
                    tracing::warn!(%error, %to, "no session with another member's server");
                }
            }
        }
    }
}

/// Leads one connection to the other member until one side ends; an error if there was no session.
async fn lead(server: UnixStream, to: SocketAddr, tls: Tls) -> io::Result<()> {
    let connected = timeout(CONNECT, TcpStream::connect(to)).await;
    // Who is away comes back; the server tries again by itself, and says so.
    let Ok(Ok(stream)) = connected else { return Ok(()) };
    prepare(&stream);
    let session = timeout(CONNECT, tls.handshake(stream)).await.map_err(io::Error::other)??;
    carry(server, session).await;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_socket_says_which_address_it_stands_for() {
        for (address, name) in [
            ("10.0.0.1:6643", "nb-10_0_0_1-6643"),
            ("[fd00::1]:6643", "nb-fd00::1-6643"),
            ("[::1]:6644", "nb-::1-6644"),
        ] {
            let address: SocketAddr = address.parse().unwrap();
            assert_eq!(socket_name("nb", address), name);
            assert_eq!(parse(&remote("nb", address)), Some((name, address)));
        }
        for other in ["tcp:10.0.0.1:6643", "unix:nb.sock", "unix:nb-x-6643", "unix:nb-10_0_0_1"] {
            assert_eq!(parse(other), None, "{other}");
        }
    }
}
