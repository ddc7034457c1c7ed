//! Hurting the lab on purpose.

use std::fmt;
use std::str::FromStr;

use anyhow::Result;
use clap::ValueEnum;
use nix::sys::signal::Signal;
use serde::Serialize;

use super::Lab;
use super::error::Usage;
use super::names::Underlay;
use super::place::parse_index;

/// What is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum FaultVerb {
    /// SIGKILL; for a node, its network first.
    Kill,
    /// Freeze: SIGSTOP.
    Stop,
    /// Thaw: SIGCONT.
    Cont,
    /// End it if it runs, and start it.
    Restart,
    /// Kill it and lose its disk. A member stays stopped; a central is started by its supervisor.
    Wipe,
    /// Pull its cables.
    Cut,
    /// Plug its cables.
    Heal,
}

/// Whom it is done to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultTarget {
    /// `atolld` with all its children.
    Member(u8),
    /// Only a member's ovn-central.
    Central(u8),
    /// A node's `atoll-node`.
    Agent(u8),
    /// A node's kubelet, of a lab that has them.
    Kubelet(u8),
    /// A node's `ovs-vswitchd`.
    Ovs(u8),
    /// All of a node's daemons, and its cables.
    Node(u8),
    /// One cable of a node.
    Link(u8, Underlay),
    /// The kube-apiserver of a lab with Kubernetes.
    Apiserver,
}

impl FromStr for FaultTarget {
    type Err = Usage;

    fn from_str(text: &str) -> Result<Self, Usage> {
        let wrong = || {
            Usage(format!(
                "'{text}' is no target: member/I, central/I, agent/N, kubelet/N, ovs/N, \
                 node/N, link/N:mgmt, link/N:tunnel or apiserver"
            ))
        };
        if text == "apiserver" {
            return Ok(Self::Apiserver);
        }
        let (kind, rest) = text.split_once('/').ok_or_else(wrong)?;
        match kind {
            "member" => Ok(Self::Member(parse_index(rest)?)),
            "central" => Ok(Self::Central(parse_index(rest)?)),
            "agent" => Ok(Self::Agent(parse_index(rest)?)),
            "kubelet" => Ok(Self::Kubelet(parse_index(rest)?)),
            "ovs" => Ok(Self::Ovs(parse_index(rest)?)),
            "node" => Ok(Self::Node(parse_index(rest)?)),
            "link" => {
                let (index, network) = rest.split_once(':').ok_or_else(wrong)?;
                Ok(Self::Link(parse_index(index)?, network.parse()?))
            }
            _ => Err(wrong()),
        }
    }
}

impl fmt::Display for FaultTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Member(index) => write!(f, "member/{index}"),
            Self::Central(index) => write!(f, "central/{index}"),
            Self::Agent(index) => write!(f, "agent/{index}"),
            Self::Kubelet(index) => write!(f, "kubelet/{index}"),
            Self::Ovs(index) => write!(f, "ovs/{index}"),
            Self::Node(index) => write!(f, "node/{index}"),
            Self::Link(index, Underlay::Management) => write!(f, "link/{index}:mgmt"),
            Self::Link(index, Underlay::Tunnel) => write!(f, "link/{index}:tunnel"),
            Self::Apiserver => f.write_str("apiserver"),
        }
    }
}

impl fmt::Display for FaultVerb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kill => "kill",
            Self::Stop => "stop",
            Self::Cont => "cont",
            Self::Restart => "restart",
            Self::Wipe => "wipe",
            Self::Cut => "cut",
            Self::Heal => "heal",
        })
    }
}

impl Lab {
    /// Does it, and returns when it is done: what was killed is gone, what was started answers.
    ///
    /// Idempotent, but for `restart`: what is dead can be killed, what is whole can be healed. To
    /// restart a central is to end it: its supervisor starts it again, and nobody else may.
    ///
    /// # Errors
    ///
    /// [`Usage`] if the lab has no such target, or it cannot suffer that; else what went wrong.
    pub async fn fault(&self, verb: FaultVerb, target: FaultTarget) -> Result<()> {
        use FaultTarget::{Agent, Apiserver, Central, Kubelet, Link, Member, Node, Ovs};
        use FaultVerb::{Cont, Cut, Heal, Kill, Restart, Stop, Wipe};
        match (verb, target) {
            (Kill, Member(i)) => self.member(i)?.kill().await,
            (Stop, Member(i)) => self.member(i)?.signal(Signal::SIGSTOP),
            (Cont, Member(i)) => self.member(i)?.signal(Signal::SIGCONT),
            (Restart, Member(i)) => self.member(i)?.restart().await,
            (Wipe, Member(i)) => self.member(i)?.wipe().await,
            (Cut, Member(i)) => self.member(i)?.set_cable(false).await,
            (Heal, Member(i)) => self.member(i)?.set_cable(true).await,

            (Kill, Central(i)) => self.member(i)?.kill_central().await,
            (Stop, Central(i)) => self.member(i)?.signal_central(Signal::SIGSTOP),
            (Cont, Central(i)) => self.member(i)?.signal_central(Signal::SIGCONT),
            (Restart, Central(i)) => self.member(i)?.signal_central(Signal::SIGTERM),
            (Wipe, Central(i)) => self.member(i)?.wipe_central().await,

            (Kill, Agent(i)) => self.node(i)?.agent().kill().await,
            (Stop, Agent(i)) => self.node(i)?.agent().signal(Signal::SIGSTOP),
            (Cont, Agent(i)) => self.node(i)?.agent().signal(Signal::SIGCONT),
            (Restart, Agent(i)) => self.node(i)?.restart_agent().await,

            (Kill, Kubelet(i)) => self.node(i)?.kubelet().kill().await,
            (Stop, Kubelet(i)) => self.node(i)?.kubelet().signal(Signal::SIGSTOP),
            (Cont, Kubelet(i)) => self.node(i)?.kubelet().signal(Signal::SIGCONT),
            (Restart, Kubelet(i)) => self.restart_kubelet(i).await,

            (Kill, Ovs(i)) => self.node(i)?.vswitchd().kill().await,
            (Stop, Ovs(i)) => self.node(i)?.vswitchd().signal(Signal::SIGSTOP),
            (Cont, Ovs(i)) => self.node(i)?.vswitchd().signal(Signal::SIGCONT),
            (Restart, Ovs(i)) => self.node(i)?.restart_vswitchd().await,

            (Kill, Node(i)) => self.node(i)?.kill().await,
            (Stop, Node(i)) => self.node(i)?.signal(Signal::SIGSTOP),
            (Cont, Node(i)) => self.node(i)?.signal(Signal::SIGCONT),
            (Restart, Node(i)) => {
                self.node(i)?.restart(!self.state.bare, self.kubernetes().as_ref()).await
            }
            (Cut, Node(i)) => self.node(i)?.set_cables(false).await,
            (Heal, Node(i)) => self.node(i)?.set_cables(true).await,

            (Cut, Link(i, network)) => self.node(i)?.set_cable(network, false).await,
            (Heal, Link(i, network)) => self.node(i)?.set_cable(network, true).await,

            (Kill, Apiserver) => self.need_kubernetes()?.kill_apiserver().await,
            (Stop, Apiserver) => self.need_kubernetes()?.signal_apiserver(Signal::SIGSTOP),
            (Cont, Apiserver) => self.need_kubernetes()?.signal_apiserver(Signal::SIGCONT),
            (Restart, Apiserver) => {
                let kubernetes = self.need_kubernetes()?;
                kubernetes.kill_apiserver().await?;
                kubernetes.start_apiserver().await
            }

            (Wipe | Cut | Heal, _) | (_, Link(..)) => {
                Err(Usage(format!("cannot {verb} {target}")).into())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_shown_as_they_are_read() {
        for target in [
            "member/1",
            "central/3",
            "agent/2",
            "kubelet/2",
            "ovs/2",
            "node/12",
            "link/1:mgmt",
            "link/1:tunnel",
            "apiserver",
        ] {
            assert_eq!(target.parse::<FaultTarget>().unwrap().to_string(), target);
        }
    }

    #[test]
    fn what_is_no_target_is_refused() {
        for target in ["", "member", "member/", "pod/1", "link/1", "link/1:wifi", "node/1:mgmt"] {
            assert!(target.parse::<FaultTarget>().is_err(), "{target}");
        }
    }
}
