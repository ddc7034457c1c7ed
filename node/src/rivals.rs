//! Whether somebody else answers for a pod's addresses.
//!
//! The store gives an address to one pod only, and OVN lets a pod speak with its own only. Others can
//! be in a subnet all the same: a port that an operator made by hand and that may speak with any
//! address, or a machine behind one. Two that answer for an address take each other's packets, so an
//! ADD asks before it says that the pod has it: an ARP probe (RFC 5227), and a solicitation as for
//! duplicate address detection (RFC 4862), from the pod's interface.
//!
//! It has to cost next to nothing. While the ADD waits until its flows are in, it asks again and
//! again, and with each question for the subnet's gateway too, which OVN answers on this node: what
//! comes back says that questions get out, and how long a word takes on a node that is as busy as it
//! is now ([`Patience`]).
//!
//! Who can be asked nothing, or is not heard, has no rival: a probe that fails never keeps a pod from
//! its network.

mod frame;
mod patience;

use std::io;
use std::net::IpAddr;

use tokio::net::UdpSocket;
use tokio::time::{Instant, sleep_until};

use crate::link::{self, FramesError, Mac, PodLink};
use frame::Claim;
use patience::Patience;

/// Room for an answer of either family.
const ROOM: usize = 128;

/// Somebody else who answers for an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rival {
    /// The address.
    pub(crate) address: IpAddr,
    /// Where it is answered from.
    pub(crate) mac: Mac,
}

/// Why nobody can be asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ListenError {
    #[error(transparent)]
    Frames(#[from] FramesError),
    #[error("the socket for frames is of no use")]
    Socket(#[from] io::Error),
}

/// A pod's interface, to ask on and to listen.
#[derive(Debug)]
pub(crate) struct Ears {
    /// None only while being dropped.
    socket: Option<UdpSocket>,
    own: Mac,
    addresses: Vec<IpAddr>,
    /// Of IPv4 only: those of IPv6 are answered by `ovn-controller`, not by the switch.
    gateway: Option<IpAddr>,
    questions: Vec<Vec<u8>>,
}

impl Drop for Ears {
    /// The kernel takes its time for it.
    fn drop(&mut self) {
        let Some(socket) = self.socket.take() else { return };
        match (tokio::runtime::Handle::try_current(), socket.into_std()) {
            (Ok(runtime), Ok(socket)) => drop(runtime.spawn_blocking(move || drop(socket))),
            (_, socket) => drop(socket),
        }
    }
}

impl Ears {
    /// On the interface of a pod, which is there.
    ///
    /// # Errors
    ///
    /// [`ListenError`].
    pub(crate) async fn open(link: &PodLink) -> Result<Self, ListenError> {
        let socket = UdpSocket::from_std(link::frames(&link.netns, &link.ifname).await?)?;
        let own = link.mac;
        let addresses: Vec<IpAddr> = link.addresses.iter().map(|it| it.ip()).collect();
        let has_v4 = addresses.iter().any(IpAddr::is_ipv4);
        let mut gateways = link.routes.iter().filter_map(|route| route.gateway);
        let gateway = gateways.find(|it| it.is_ipv4() && has_v4);
        // The gateway last: its answer says that the others were sent.
        let asked = addresses.iter().copied().chain(gateway);
        let questions = asked.map(|address| frame::probe(own, address)).collect();
        Ok(Self { socket: Some(socket), own, addresses, gateway, questions })
    }

    /// Asks once. What cannot be sent now is one without an answer.
    fn ask(&self) {
        for question in &self.questions {
            let _ = self.socket.as_ref().map(|socket| socket.try_send(question));
        }
    }

    /// What somebody says next; never, if nobody can be heard any more. Cancel safe.
    async fn heard(&self) -> Claim {
        let mut frame = [0; ROOM];
        let Some(socket) = &self.socket else { return std::future::pending().await };
        loop {
            match socket.recv(&mut frame).await {
                Ok(length) => {
                    if let Some(claim) = frame::claim(&frame[..length]) {
                        return claim;
                    }
                }
                Err(error) => {
                    tracing::debug!(%error, "a pod's neighbours are not heard any more");
                    return std::future::pending().await;
                }
            }
        }
    }

    fn rival(&self, claim: Claim) -> Option<Rival> {
        let Claim { address, mac } = claim;
        (mac != self.own && self.addresses.contains(&address)).then_some(Rival { address, mac })
    }
}

/// Waits until the flows are in, and until whoever has one of the pod's addresses would have said so.
///
/// # Errors
///
/// That of `installed`.
pub(crate) async fn look<E>(
    ears: &Ears,
    installed: impl Future<Output = Result<(), E>>,
) -> Result<Option<Rival>, E> {
    let mut installed = std::pin::pin!(installed);
    let begun = Instant::now();
    let mut patience = Patience::new(begun);
    while let Some(next) = patience.next(Instant::now()) {
        tokio::select! {
            done = &mut installed, if !patience.is_installed() => {
                done?;
                ears.ask();
                patience.installed(Instant::now());
            }
            claim = ears.heard() => match ears.rival(claim) {
                Some(rival) => {
                    tracing::debug!(?rival, took = ?begun.elapsed(), ?patience, "a rival");
                    return Ok(Some(rival));
                }
                None if Some(claim.address) == ears.gateway => {
                    if patience.answered(Instant::now()) {
                        ears.ask();
                    }
                }
                None => {}
            },
            () = sleep_until(next) => {
                if patience.is_due(Instant::now()) {
                    ears.ask();
                }
            }
        }
    }
    tracing::trace!(took = ?begun.elapsed(), ?patience, "no rival");
    Ok(None)
}
