//! Building a lab.

use std::env;
use std::fs;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use futures::future::try_join_all;
use futures::try_join;
use uuid::Uuid;

use super::error::Refused;
use super::names::{LabName, node_address, node_address6};
use super::node::Node;
use super::options::{Options, check_dir};
use super::state::{State, taken};
use super::store::NodeSpec;
use super::{Lab, binaries, down, fabric, kubelet, kubernetes, others_pki, pki, process};

/// How long the members may take from answering to a cluster that takes writes.
const READY_DEADLINE: Duration = Duration::from_secs(20);

/// A name that has been taken and for which nothing has been made yet.
///
/// It is a step of its own so that a program that is interrupted knows whether there is something
/// to take down, and that it is not somebody else's.
#[derive(Debug)]
pub struct Reservation {
    state: State,
    keep: bool,
}

impl Reservation {
    /// Checks that this machine can carry the lab, and takes its name.
    ///
    /// # Errors
    ///
    /// [`Refused`](super::Refused) if the name is taken, [`Usage`](super::Usage) if the options
    /// make no lab; else what the machine lacks. Nothing is left behind.
    pub fn take(options: Options) -> Result<Self> {
        options.check()?;
        binaries::check_machine(options.bare)?;
        if State::find(&options.name)?.is_some() || !process::namespaces(&options.name)?.is_empty()
        {
            return Err(taken(&options.name).into());
        }
        let binaries = binaries::find(options.bare)?;
        if options.kubernetes {
            kubernetes::check(&binaries)?;
        }
        if options.kubelets {
            kubelet::check(&binaries)?;
        }
        if let Some(mode) = options.kube_proxy {
            mode.check()?;
        }
        let id = Uuid::new_v4();
        let (dir, made_dir) = choose_dir(options.dir, &options.name, id)?;
        let state = State {
            name: options.name,
            id,
            dir,
            made_dir,
            members: options.members,
            nodes: options.nodes,
            central: options.central,
            election_timer_ms: options.election_timer_ms,
            kubernetes: options.kubernetes,
            kubelets: options.kubelets,
            webhook: options.webhook,
            kube_proxy: options.kube_proxy,
            bare: options.bare,
            agents_later: options.agents_later,
            tunnel_mbit: options.tunnel_mbit,
            rival_wait_ms: options.rival_wait_ms,
            binaries,
        };
        state.create()?;
        Ok(Self { state, keep: options.keep })
    }

    /// Builds the lab and waits until it can be used. See [`Lab::up`].
    ///
    /// # Errors
    ///
    /// Which part did not come up.
    pub async fn build(self) -> Result<Lab> {
        let lab = Lab::from(self.state);
        let Err(error) = lab.build().await else { return Ok(lab) };
        if self.keep {
            return Err(error.context(format!("left as it is, in {}", lab.dir().display())));
        }
        match down(lab.name()).await {
            Ok(_) => Err(error),
            Err(left) => Err(error.context(format!("and it could not be taken down: {left:#}"))),
        }
    }
}

impl Lab {
    async fn build(&self) -> Result<()> {
        let state = &self.state;
        state.claim_dir()?;
        fs::create_dir(state.pods_dir()).context("cannot make the directory of pods")?;
        if !state.bare {
            pki::set_up(state).await.context("cannot make the certificates")?;
        }
        fabric::build(state).await?;
        if let Some(others) = self.others_central() {
            others_pki::set_up(state).await.context("cannot make the certificates of others")?;
            others.start().await.context("the ovn-central of others does not start")?;
        }
        if let Some(kubernetes) = self.kubernetes() {
            kubernetes.start().await.context("the Kubernetes control plane does not start")?;
        }
        if state.kubelets {
            kubelet::make_image(state).await.context("cannot make the image of pods")?;
        }
        try_join!(self.start_members(), self.start_nodes())?;
        if state.bare {
            return Ok(());
        }
        self.store()?
            .wait_ready(READY_DEADLINE)
            .await
            .context("the members do not become ready")?;
        try_join_all(self.nodes().map(|node| self.join_node(node))).await.map(drop)
    }

    /// All at once: none can be ready before the others answer.
    async fn start_members(&self) -> Result<()> {
        if self.state.bare {
            return Ok(());
        }
        let start = async |member: super::Member| {
            fs::create_dir(member.dir())?;
            let name = member.name();
            member.start().await.with_context(|| format!("member {name} does not start"))
        };
        try_join_all(self.members().map(start)).await.map(drop)
    }

    async fn start_nodes(&self) -> Result<()> {
        let start = async |node: Node| {
            let name = node.name();
            node.start_infrastructure().await.with_context(|| format!("node {name} does not start"))
        };
        try_join_all(self.nodes().map(start)).await.map(drop)
    }

    async fn join_node(&self, node: Node) -> Result<()> {
        if let Some(kubernetes) = self.kubernetes() {
            let name = node.name();
            if node.has_kubelet() {
                let started = node.start_kubelet(&kubernetes).await;
                started.with_context(|| format!("the kubelet of {name}"))?;
            } else {
                kubernetes.put_node(&node).await.with_context(|| format!("cannot make {name}"))?;
            }
            // Its agent waits until the members have heard of it.
            node.start_agent().await.with_context(|| format!("the agent of {name}"))?;
            node.start_kube_proxy().await.with_context(|| format!("on {name}"))?;
            return if node.has_kubelet() { node.wait_ready(&kubernetes).await } else { Ok(()) };
        }
        let (index, name) = (node.index(), node.name());
        let spec = NodeSpec {
            name: name.clone(),
            uid: self.state.node_uid(index).to_string(),
            internal_addresses: vec![node_address(index).into(), node_address6(index).into()],
        };
        self.store()?.put_node(&spec).await.with_context(|| format!("cannot announce {name}"))?;
        if self.state.agents_later {
            return Ok(());
        }
        node.start_agent().await.with_context(|| format!("the agent of {name} does not start"))
    }
}

/// The lab's directory, and whether it is the lab's to remove.
///
/// It is made only after it was written down, so that nothing is forgotten. A directory that is
/// given must be empty, because `down` empties it.
fn choose_dir(given: Option<PathBuf>, name: &LabName, id: Uuid) -> Result<(PathBuf, bool)> {
    let Some(given) = given else {
        let short_id = &id.simple().to_string()[..6];
        let dir = env::temp_dir().join(format!("atoll-{name}-{short_id}"));
        return Ok((check_dir(&dir)?, true));
    };
    let dir = check_dir(&given)?;
    match fs::read_dir(&dir) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok((dir, true)),
        Err(error) => Err(error).with_context(|| format!("cannot use {}", dir.display())),
        Ok(mut entries) => match entries.next() {
            None => Ok((dir, false)),
            Some(_) => Err(Refused(format!("{} is not empty", dir.display())).into()),
        },
    }
}
