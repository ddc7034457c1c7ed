//! One round: the agent just started, the agent warm, the floor, each attaching all pods once.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use atoll_cni_wire::Command;
use atoll_tests::kubelet::{Call, Held, held};
use atoll_tests::lab::{FaultTarget, FaultVerb, Lab, Pod, PodName};
use atoll_tests::wait::wait_until;
use atoll_tests::wire::ask_all;

use crate::floor::{Config, FloorPod};
use crate::processes;

/// The lab's own MTU of pods.
const MTU: u32 = 1400;

/// Gateways and prefixes of the subnet that the bench makes.
const V4: (&str, &str) = ("16", "10.1.0.1");
const V6: (&str, &str) = ("64", "fd00:1::1");

const SOON: Duration = Duration::from_secs(60);

/// Before anything is measured: kernel, northd and store are still at work on pods that went.
const REST: Duration = Duration::from_secs(3);

/// Times of many calls.
#[derive(Debug, Default)]
pub(crate) struct Times(Vec<Duration>);

impl Times {
    /// In milliseconds; 0 of none.
    pub(crate) fn percentile(&self, percent: usize) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let place = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
        sorted.get(place).map_or(0.0, |it| it.as_secs_f64() * 1_000.0)
    }
}

/// What all rounds with the same number in flight saw.
#[derive(Debug, Default)]
pub(crate) struct Figures {
    /// Of an agent that has just started.
    pub(crate) cold: Times,
    /// Of one that has attached all pods before.
    pub(crate) warm: Times,
    /// Netlink, OVSDB, and the wait for flows.
    pub(crate) floor: Times,
    /// The same without the wait.
    pub(crate) bare: Times,
}

/// The node that is measured.
pub(crate) struct Node<'a> {
    lab: &'a Lab,
    pods: Vec<Pod>,
    agent: PathBuf,
    empty: Held,
}

impl<'a> Node<'a> {
    pub(crate) async fn new(lab: &'a Lab, pods: Vec<Pod>) -> Result<Self> {
        let agent = lab.node(1)?.dir().join("run/atoll/cni.sock");
        let empty = held(lab, 1).await?;
        let this = Self { lab, pods, agent, empty };
        // The first time everything is made for the first time, in OVN as well.
        this.ready().await?;
        this.all(&this.agent, 8).await?;
        Ok(this)
    }

    /// The agent twice and the floor twice; they share nothing but the node.
    pub(crate) async fn round(&mut self, in_flight: usize, figures: &mut Figures) -> Result<()> {
        self.lab.fault(FaultVerb::Restart, FaultTarget::Agent(1)).await?;
        self.ready().await?;
        figures.cold.0.extend(self.all(&self.agent, in_flight).await?);
        figures.warm.0.extend(self.all(&self.agent, in_flight).await?);
        self.lab.fault(FaultVerb::Kill, FaultTarget::Agent(1)).await?;
        for (waits, times) in [(true, &mut figures.floor), (false, &mut figures.bare)] {
            let socket = self.agent.with_file_name("floor.sock");
            let floor = self.start_floor(waits, &socket).await?;
            // Once to become warm, as the agent is.
            self.all(&socket, in_flight).await?;
            times.0.extend(self.all(&socket, in_flight).await?);
            drop(floor);
        }
        self.lab.fault(FaultVerb::Restart, FaultTarget::Agent(1)).await?;
        self.ready().await
    }

    /// Attaches all pods, and takes them away again: how long each ADD took.
    async fn all(&self, socket: &Path, in_flight: usize) -> Result<Vec<Duration>> {
        tokio::time::sleep(REST).await;
        let (socket, pods) = (socket.to_owned(), self.pods.clone());
        let work = move || {
            let took = ask_all(&socket, &Command::Add, &pods, in_flight)?;
            ask_all(&socket, &Command::Del, &pods, in_flight)?;
            Ok::<_, anyhow::Error>(took)
        };
        let took = tokio::task::spawn_blocking(work).await??;
        wait_until(SOON, "the node to be empty again", || async {
            let now = held(self.lab, 1).await?;
            ensure!(now == self.empty, "{} ports, {} reports", now.ports.len(), now.files.len());
            Ok(())
        })
        .await?;
        Ok(took)
    }

    async fn ready(&self) -> Result<()> {
        wait_until(SOON, "the agent to take pods", || async {
            Call::new("STATUS", None).on(self.lab, 1).await?.done().map(drop)
        })
        .await
    }

    async fn start_floor(&self, waits: bool, socket: &Path) -> Result<tokio::process::Child> {
        let dir = self.lab.node(1)?.dir();
        let mut pods = BTreeMap::new();
        for pod in &self.pods {
            pods.insert(pod.container_id.clone(), self.decided(pod).await?);
        }
        let (socket_there, ovs_db) = ("/run/atoll/floor.sock", "/run/openvswitch/db.sock");
        let config = Config { socket: socket_there.into(), ovs_db: ovs_db.into(), waits, pods };
        let file = dir.join("floor.json");
        std::fs::write(&file, serde_json::to_vec(&config)?)?;
        let mut floor = self.lab.node(1)?.space()?.command(std::env::current_exe()?);
        let floor = floor.arg("floor").arg(&file).spawn().context("the floor")?;
        wait_until(SOON, "the floor to listen", || async {
            std::os::unix::net::UnixStream::connect(socket)?;
            Ok(())
        })
        .await?;
        Ok(floor)
    }

    async fn decided(&self, pod: &Pod) -> Result<FloorPod> {
        let PodName { namespace, name } = &pod.name;
        let stored = self.lab.store()?.get_pod(namespace, name).await?.context("no such pod")?;
        let prefixed = stored.addresses.iter().map(|address| {
            let (prefix, _) = if address.is_ipv4() { V4 } else { V6 };
            format!("{address}/{prefix}")
        });
        Ok(FloorPod {
            key: pod.name.to_string(),
            uid: pod.uid.clone(),
            mac: stored.mac.context("no MAC")?,
            addresses: prefixed.collect(),
            gateways: [V4.1, V6.1].map(ToOwned::to_owned).to_vec(),
            mtu: MTU,
        })
    }

    /// How many programs the agent started while it attached all pods and took them away, but for
    /// those that look at the packet filter, which the time starts.
    pub(crate) async fn started(&self) -> Result<u32> {
        let agent = self.lab.node(1)?.agent().pid().context("there is no agent")?;
        let trace = processes::Trace::start(agent, &self.lab.dir().join("started")).await?;
        self.all(&self.agent, 8).await?;
        trace.stop().await
    }
}
