//! A whole Atoll network on one machine.
//!
//! ```text
//!  PREFIX-m1 … PREFIX-m3      PREFIX-n1 … PREFIX-nN            PREFIX-outside
//!  atolld, ovn-central        atoll-node, ovn-controller,      a host that is no part of
//!        │ eth0               ovs-vswitchd, ovsdb-server, pods  the network; everybody's
//!        │                          │ eth0     │ eth1           default route  │ eth0
//!  ┌─────┴──────────────────────────┴── brm ───┼───────────────────────────────┴──┐
//!  └─ PREFIX-fab ────────────────────── brt ───┴──────────────────────────────────┘
//! ```
//!
//! A member and the outside host are a network namespace each. A node is a network *and* a mount
//! namespace, with its own `/run`, `/var/lib`, `/var/log`, `/etc/cni` and `/opt/cni`, so that
//! everything on it is at the paths it has on a real node. Its datapath is Open vSwitch's
//! userspace one: no kernel module is needed, and tunnels are real Geneve on `brt`. A pod is what
//! kubelet would make of it: a network namespace on its node, plumbed by the CNI plugin.
//!
//! Invariants:
//!
//! * Two labs never share anything but the kernel. Addresses are the same in each; names are not.
//! * Whatever `up` makes, in whatever half-finished shape, `down` removes, knowing only the name.
//! * Nothing here holds a lock: hundreds of pods may be made at once, from several programs.
//! * A process is only ever signalled after it was seen to live in one of the lab's namespaces or
//!   cgroups.
//!
//! Every process has a certificate of the lab's own authority; nothing speaks plaintext.
//!
//! With `--kubernetes` there is `PREFIX-k8s` as well: a real control plane; with `--kubelets` a real
//! kubelet, containerd and runc on each node, with `--kube-proxy` a real kube-proxy.
//!
//! Deliberately absent: QoS of the underlay, and any knowledge of how Atoll works
//! inside. The lab speaks to it as an operator does ([`store`]) and as kubelet does ([`Lab::run_pod`]).

mod binaries;
mod cgroup;
mod cni;
mod down;
mod env;
mod error;
mod fabric;
mod fault;
mod files;
mod kube_proxy;
mod kubelet;
mod kubernetes;
mod kubernetes_hurt;
mod kubernetes_pki;
mod member;
mod names;
mod node;
mod options;
mod others;
mod others_pki;
mod pki;
mod place;
mod pod;
mod process;
mod records;
mod request;
mod scoped;
mod shell;
mod state;
mod status;
pub mod store;
mod up;

use std::path::Path;
use std::sync::{Arc, OnceLock};

use anyhow::Result;

pub use down::{Removed, down};
pub use env::CentralDatabases;
pub use error::{Refused, Usage};
pub use fault::{FaultTarget, FaultVerb};
pub use kube_proxy::ProxyMode;
pub use kubelet::IMAGE;
pub use kubernetes::Kubernetes;
pub use member::Member;
pub(crate) use member::RaftConfig;
pub use names::{LabName, METRICS_PORT, Underlay};
pub use node::Node;
pub use options::{CentralMode, NODES_MAX, Options};
pub use others::OthersCentral;
pub(crate) use pki::TlsConfig;
pub use pki::{OPERATOR, VIEWER};
pub use place::Place;
pub use pod::{Pod, PodName, PodOptions, PodPhase};
pub use process::{Daemon, Process};
pub use request::interface_in;
pub use scoped::{DownOnDrop, ScopedLab};
pub use shell::{Space, run};
pub use status::Status;
pub use up::Reservation;

use state::State;
use store::Store;

/// A lab that is up. Cheap to clone; dropping it leaves the lab running ([`ScopedLab`] does not).
#[derive(Debug, Clone)]
pub struct Lab {
    state: Arc<State>,
    /// One client for all pods: connections are made once.
    store: Arc<OnceLock<Store>>,
}

impl Lab {
    /// Builds a lab and waits until it can be used.
    ///
    /// If it fails, everything it made is removed again, unless `options.keep`. A dropped future
    /// removes nothing; a program that may be interrupted uses [`Reservation`] and [`down`].
    ///
    /// # Errors
    ///
    /// [`Refused`] if the name is taken; else why the machine cannot carry a lab, or which part
    /// did not come up in time.
    pub async fn up(options: Options) -> Result<Self> {
        Reservation::take(options)?.build().await
    }

    /// Finds a lab that `up` made, maybe in another program.
    ///
    /// # Errors
    ///
    /// [`Refused`] if there is none of that name.
    pub fn open(name: &LabName) -> Result<Self> {
        State::open(name).map(Self::from)
    }

    /// Takes the lab down: see [`down`].
    ///
    /// # Errors
    ///
    /// What could not be removed.
    pub async fn down(&self) -> Result<Removed> {
        down(&self.state.name).await
    }

    /// The lab's name, which all its namespaces begin with.
    pub fn name(&self) -> &LabName {
        &self.state.name
    }

    /// Where its files are.
    pub fn dir(&self) -> &Path {
        &self.state.dir
    }

    /// Whose ovn-central it has.
    pub fn central_mode(&self) -> CentralMode {
        self.state.central
    }

    /// Member `index`, counted from 1.
    ///
    /// # Errors
    ///
    /// [`Usage`] if the lab has no such member.
    pub fn member(&self, index: u8) -> Result<Member> {
        if index == 0 || index > self.state.members {
            let count = self.state.members;
            return Err(Usage(format!("no member {index}: the lab has {count}")).into());
        }
        Ok(Member::new(&self.state, index))
    }

    /// Node `index`, counted from 1.
    ///
    /// # Errors
    ///
    /// [`Usage`] if the lab has no such node.
    pub fn node(&self, index: u8) -> Result<Node> {
        if index == 0 || index > self.state.nodes {
            let count = self.state.nodes;
            return Err(Usage(format!("no node {index}: the lab has {count}")).into());
        }
        Ok(Node::new(&self.state, index))
    }

    /// The ovn-central that is not the members', if the lab has one.
    pub fn others_central(&self) -> Option<OthersCentral> {
        let is_theirs = self.state.central == CentralMode::External && !self.state.bare;
        is_theirs.then(|| OthersCentral::new(&self.state))
    }

    /// All members.
    pub fn members(&self) -> impl Iterator<Item = Member> + use<'_> {
        (1..=self.state.members).map(|index| Member::new(&self.state, index))
    }

    /// All nodes.
    pub fn nodes(&self) -> impl Iterator<Item = Node> + use<'_> {
        (1..=self.state.nodes).map(|index| Node::new(&self.state, index))
    }

    /// The outside host.
    pub fn outside(&self) -> Space {
        Space::of_namespace(&self.state.name.outside())
    }

    /// The store, as the operator's client sees it. Must be called within a tokio runtime, the
    /// same one for all clones of a lab.
    ///
    /// # Errors
    ///
    /// If the lab is bare.
    pub fn store(&self) -> Result<&Store> {
        if let Some(store) = self.store.get() {
            return Ok(store);
        }
        if self.state.bare {
            return Err(Refused(format!("lab '{}' is bare: it has no store", self.name())).into());
        }
        let endpoints: Vec<_> = self.members().map(|member| member.endpoint()).collect();
        let store = Store::new(&endpoints, &self.credentials()?)?;
        Ok(self.store.get_or_init(|| store))
    }

    /// Every process that lives in one of the lab's namespaces, its pods' included.
    ///
    /// # Errors
    ///
    /// If `/proc` cannot be listed.
    pub fn processes(&self) -> Result<Vec<Process>> {
        process::living_in(&self.state.name)
    }
}

impl From<State> for Lab {
    fn from(state: State) -> Self {
        Self { state: Arc::new(state), store: Arc::default() }
    }
}
