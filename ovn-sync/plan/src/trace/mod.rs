//! What becomes of a packet that a pod sends: who drops it, by which rule.
//!
//! * [`course`] says it from the state alone: who the two are, which way it goes, what a private
//!   subnet's border says, by which node and as whom it leaves;
//! * [`Packet::microflow`] puts the same packet to `ovn-trace`, which knows OVN's logical flows;
//! * [`judge`] reads what `ovn-trace` prints, and names a subnet's rule where one decided.
//!
//! One direction only: the first packet of a connection, from the pod. Its answer is another trace.
//!
//! Deliberately absent: what the kernel of a node does (its packet filter, kube-proxy), and users'
//! own rules, which are in OVN's language: only `ovn-trace` says what they match.

mod border;
mod course;
mod ends;
mod logical;
mod microflow;
mod whom;

use std::collections::BTreeSet;
use std::net::IpAddr;

use atoll_model::{Family, MacAddress, NodeName, PodKey, PortName, SubnetName};

pub use course::course;
pub use logical::judge;

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// The pod that sends, by its first interface.
    pub from: PodKey,
    /// To whom.
    pub to: Destination,
    /// What.
    pub load: Load,
    /// Between pods of both families IPv6, and not IPv4.
    pub ipv6: bool,
}

/// To whom a packet is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    /// A pod, at the address of its first interface.
    Pod(PodKey),
    /// Whoever has this address.
    Address(IpAddr),
}

/// What is in a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Load {
    /// An echo request.
    Echo,
    /// The first segment of a connection to a port.
    Tcp(u16),
    /// A datagram to a port.
    Udp(u16),
}

/// A packet as it leaves the pod's interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet {
    /// The sender's logical switch port.
    pub port: PortName,
    /// The sender's subnet, which is its logical switch.
    pub subnet: SubnetName,
    /// The node that the sender is on.
    pub node: NodeName,
    /// Whose frame it is, ...
    pub source_mac: MacAddress,
    /// ... and who takes it: the receiver, if it is in the same subnet, else the router.
    pub target_mac: MacAddress,
    /// The sender's address.
    pub source: IpAddr,
    /// The receiver's, of the same family.
    pub target: IpAddr,
    /// What is in it.
    pub load: Load,
}

/// What one witness says of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It cannot say.
    Unknown,
    /// It gets where it should.
    Passes,
    /// It does not.
    Drops,
    /// Rules that this witness cannot read may decide.
    Depends,
}

/// What one witness says, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leg {
    /// The verdict.
    pub verdict: Verdict,
    /// A sentence for people.
    pub why: String,
    /// The logical flow that decided: the first eight digits of its UUID, which are the cookie of
    /// the switch's flows for it.
    pub flow: Option<String>,
}

impl Leg {
    fn new(verdict: Verdict, why: impl Into<String>) -> Self {
        Self { verdict, why: why.into(), flow: None }
    }
}

/// What the state says of a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Course {
    /// The packet; none if an end has no address, or nobody has the receiver's.
    pub packet: Option<Packet>,
    /// At one of these ports it has to come out.
    pub arrives: BTreeSet<PortName>,
    /// To get there from another node than its own, by a tunnel to one of these.
    pub tunnels: BTreeSet<IpAddr>,
    /// The nodes that take part: its own, and those that it comes to.
    pub nodes: BTreeSet<NodeName>,
    /// The verdict.
    pub leg: Leg,
    /// Everything that was looked at, a sentence each, in the order of the way.
    pub steps: Vec<String>,
}

/// Why nothing can be said.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CourseError {
    /// The store does not know such a pod.
    #[error("pod {0} does not exist, or has no node yet")]
    UnknownPod(PodKey),
    /// The two have no family in common.
    #[error("pod {0} has no {1} address")]
    NoFamily(PodKey, Family),
    /// They are the same.
    #[error("pod {0} has {1} itself: what it sends there does not leave it")]
    Itself(PodKey, IpAddr),
    /// Nobody's own address.
    #[error("{0} is not the address of one host; give one, or a pod as NAMESPACE/NAME")]
    NotOneHost(IpAddr),
}
