//! What somebody outside sees of the network: frames, as they come in on the outside host.

use std::collections::BTreeMap;
use std::net::IpAddr;

use anyhow::{Context as _, Result};

use crate::lab::{Lab, Space, run};
use crate::talk::Talker;

/// The outside host's own addresses that are on no network of a node.
pub const FAR_AWAY: [&str; 2] = ["203.0.113.1", "fd99::1"];

/// Addresses of a node that may be designated for those who leave by it.
pub const DESIGNATED: [&str; 2] = ["172.31.0.150", "fd31::150"];

/// Gives a node the addresses [`DESIGNATED`].
///
/// # Errors
///
/// `ip`'s.
pub async fn designate(node: &Space) -> Result<()> {
    for (address, length) in DESIGNATED.iter().zip(["24", "64"]) {
        let address = format!("{address}/{length}");
        let mut add = node.command("ip");
        add.args(["address", "add", &address, "dev", "eth0", "nodad"]);
        // Or the kernel would take it for the node's own, which it is not.
        run(add.args(["preferred_lft", "0"])).await?;
    }
    Ok(())
}

/// Frames that come in on the outside host, since its start; ends with its value.
#[derive(Debug)]
pub struct Capture {
    talker: Talker,
    /// Nodes by the MAC of their interface there.
    nodes: BTreeMap<String, u8>,
}

/// One frame from a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Milliseconds since 1970.
    pub at: u128,
    /// Who sent it.
    pub node: u8,
    /// Its source.
    pub from: IpAddr,
    /// And the port; 0 without one.
    pub from_port: u16,
    /// The port that it is for; 0 without one.
    pub port: u16,
    /// It ends a TCP connection.
    pub is_reset: bool,
}

impl Capture {
    /// Begins.
    ///
    /// # Errors
    ///
    /// It cannot be started.
    pub async fn start(lab: &Lab) -> Result<Self> {
        let mut nodes = BTreeMap::new();
        for node in lab.nodes() {
            let mut show = node.space()?.command("ip");
            let said = run(show.args(["-o", "link", "show", "eth0"])).await?;
            let mac = said.split("link/ether ").nth(1).and_then(|rest| rest.split(' ').next());
            nodes.insert(mac.context("eth0 has no address")?.to_owned(), node.index());
        }
        let talker = Talker::start_in(&lab.outside(), &["capture"])?;
        Ok(Self { talker, nodes })
    }

    /// All frames of nodes so far.
    ///
    /// # Errors
    ///
    /// What was captured cannot be read.
    pub fn frames(&self) -> Result<Vec<Frame>> {
        let said = self.talker.said()?;
        Ok(said.lines().filter_map(|line| self.frame(line)).collect())
    }

    fn frame(&self, line: &str) -> Option<Frame> {
        let words: Vec<&str> = line.split(' ').collect();
        let [at, mac, from, from_port, _, port, kind] = words[..] else { return None };
        Some(Frame {
            at: at.parse().ok()?,
            node: *self.nodes.get(mac)?,
            from: from.parse().ok()?,
            from_port: from_port.parse().ok()?,
            port: port.parse().ok()?,
            is_reset: kind == "reset",
        })
    }
}
