//! Whether somebody else answers for a pod's addresses.
//!
//! The store gives an address to one pod only, and OVN lets a pod speak with its own only. Others can
//! be in a subnet all the same: a port that an operator made by hand and that may speak with any
//! address, or a machine behind one. Two that answer for an address take each other's packets, so an
//! ADD asks before it says that the pod has it: an ARP probe (RFC 5227), and a solicitation as for
//! duplicate address detection (RFC 4862), from the pod's interface.
//!
//! It has to cost next to nothing. While the ADD waits until its flows are in, it asks again and
//! again, and with each question for the subnet's gateway too, which OVN answers on this node, and
//! without the router hearing of it: what comes back says that questions get out, and how long a word
//! takes on a node that is as busy as it is now ([`Patience`]).
//!
//! Who can be asked nothing, or is not heard, has no rival: a probe that fails never keeps a pod from
//! its network.

mod frame;
mod patience;

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use futures::FutureExt as _;
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
    /// Of IPv4 if the pod has that: for IPv6 `ovn-controller` answers, which takes longer.
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
    /// On the interface of a pod, which is there, in a subnet with these gateways.
    ///
    /// # Errors
    ///
    /// [`ListenError`].
    pub(crate) async fn open(link: &PodLink, gateways: &[IpAddr]) -> Result<Self, ListenError> {
        let socket = UdpSocket::from_std(link::frames(&link.netns, &link.ifname).await?)?;
        let own = link.mac;
        let addresses: Vec<IpAddr> = link.addresses.iter().map(|it| it.ip()).collect();
        let gateway = gateways.iter().copied().min();
        // The gateway last: its answer says that the others were sent.
        let probes = addresses.iter().map(|address| frame::probe(own, *address));
        let questions = probes.chain(gateway.map(|it| frame::question(own, it))).collect();
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

    /// Among what was said and not heard yet.
    fn rival_at_last(&self) -> Option<Rival> {
        let mut said = std::iter::from_fn(|| self.heard().now_or_never());
        said.find_map(|claim| self.rival(claim))
    }

    fn rival(&self, claim: Claim) -> Option<Rival> {
        let Claim { address, mac } = claim;
        (mac != self.own && self.addresses.contains(&address)).then_some(Rival { address, mac })
    }
}

/// A look for rivals that has begun.
#[derive(Debug)]
pub(crate) struct Look {
    /// None if nobody can be asked.
    ears: Option<Ears>,
    patience: Patience,
    found: Option<Rival>,
}

impl Look {
    /// Looks until the flows are in, or a rival was heard and the flows are in.
    ///
    /// # Errors
    ///
    /// That of `installed`.
    pub(crate) async fn until<E>(
        ears: Option<Ears>,
        least: Duration,
        installed: impl Future<Output = Result<(), E>>,
    ) -> Result<Self, E> {
        let patience = Patience::new(Instant::now(), least);
        let mut look = Self { ears, patience, found: None };
        let mut installed = std::pin::pin!(installed);
        loop {
            tokio::select! {
                // What was said is heard, however late it is.
                biased;
                () = look.step() => {}
                done = &mut installed => {
                    done?;
                    look.ears.iter().for_each(Ears::ask);
                    look.patience.installed(Instant::now());
                    return Ok(look);
                }
            }
        }
    }

    /// Whoever has one of the pod's addresses, if he says so in time.
    pub(crate) async fn end(mut self) -> Option<Rival> {
        while self.ears.is_some() && self.found.is_none() && !self.patience.is_over(Instant::now())
        {
            self.step().await;
        }
        tracing::trace!(patience = ?self.patience, found = ?self.found, "looked for rivals");
        self.found.or_else(|| self.ears.as_ref().and_then(Ears::rival_at_last))
    }

    /// Until something happens, or it has to be asked again; for ever if nothing is to be found out. Cancel
    /// safe.
    async fn step(&mut self) {
        let (Some(ears), None) = (&self.ears, &self.found) else {
            return std::future::pending().await;
        };
        tokio::select! {
            biased;
            claim = ears.heard() => {
                self.found = ears.rival(claim);
                let is_gateway = Some(claim.address) == ears.gateway;
                if is_gateway && self.patience.answered(Instant::now()) {
                    ears.ask();
                }
            }
            () = sleep_until(self.patience.next()) => {
                if self.patience.is_due(Instant::now()) {
                    ears.ask();
                }
            }
        }
    }
}
