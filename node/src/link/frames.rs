//! Frames of one interface, as they are.

use std::io;
use std::net::UdpSocket;
use std::os::fd::AsRawFd;
use std::path::Path;

use nix::ifaddrs::getifaddrs;
use nix::sys::socket::{
    AddressFamily, LinkAddr, SockFlag, SockProtocol, SockType, SockaddrLike as _, bind, socket,
};

use super::{Namespace, NamespaceError};

/// Why the frames of an interface cannot be read and written.
#[derive(Debug, thiserror::Error)]
pub enum FramesError {
    /// The pod's namespace is gone or cannot be worked in.
    #[error("cannot work in the pod's namespace")]
    Namespace(#[from] NamespaceError),
    /// The pod has no such interface.
    #[error("the pod has no interface {ifname}")]
    Absent {
        /// Its name.
        ifname: String,
    },
    /// The kernel refuses the socket.
    #[error("the kernel gives no socket for frames")]
    Socket(#[source] io::Error),
}

/// A socket that sends and receives whole frames on a pod's interface, and does not block. The kernel
/// treats it like a connected one for datagrams.
///
/// To close it may take the kernel some milliseconds: not on a thread that others wait for.
///
/// # Errors
///
/// [`FramesError`].
pub async fn frames(netns: &Path, ifname: &str) -> Result<UdpSocket, FramesError> {
    let ifname = ifname.to_owned();
    Namespace::At(netns.to_owned()).run(async move |_| open(&ifname)).await
}

/// In the namespace of this thread.
fn open(ifname: &str) -> Result<UdpSocket, FramesError> {
    let failed = |errno: nix::errno::Errno| FramesError::Socket(errno.into());
    let interface = address(ifname).map_err(failed)?;
    let interface = interface.ok_or_else(|| FramesError::Absent { ifname: ifname.to_owned() })?;
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let raw = socket(AddressFamily::Packet, SockType::Raw, flags, SockProtocol::EthAll);
    let raw = UdpSocket::from(raw.map_err(failed)?);
    bind(raw.as_raw_fd(), &interface).map_err(failed)?;
    Ok(raw)
}

/// An interface as an address to bind to, which only the kernel's own list gives without `unsafe`.
fn address(ifname: &str) -> nix::Result<Option<LinkAddr>> {
    let all = getifaddrs()?.filter(|it| it.interface_name == ifname);
    let of_link = |it: nix::ifaddrs::InterfaceAddress| {
        let address = it.address.filter(|it| it.family() == Some(AddressFamily::Packet));
        address.and_then(|it| it.as_link_addr().copied())
    };
    Ok(all.filter_map(of_link).next())
}
