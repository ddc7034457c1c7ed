//! The floor: the same socket and frames, the same netlink and OVSDB work; no store, no cache, no
//! record, no report, no decision.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use atoll_cni_wire::{Added, CniError, Code};
use atoll_model::{Addresses, PodKey, PortName, Sandbox, Uid};
use atoll_node::cni::{AddRequest, Attachments, CheckRequest, DelRequest, Held, Limits, Server};
use atoll_node::link::{self, PodLink, Route, host_ifname, host_mac};
use atoll_node::ovs::port::{self, PodPort};
use atoll_node::ovs::{Ovs, Session, transact};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

/// How long Open vSwitch may take.
const OVS: Duration = Duration::from_secs(20);

/// What the floor has to know.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Config {
    pub(crate) socket: PathBuf,
    pub(crate) ovs_db: PathBuf,
    /// Whether it waits until the flows are installed, as an ADD does.
    pub(crate) waits: bool,
    /// By container id.
    pub(crate) pods: BTreeMap<String, FloorPod>,
}

/// What the store has decided of a pod.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct FloorPod {
    /// `NAMESPACE/NAME`.
    pub(crate) key: String,
    pub(crate) uid: String,
    pub(crate) mac: String,
    /// With prefixes.
    pub(crate) addresses: Vec<String>,
    pub(crate) gateways: Vec<String>,
    pub(crate) mtu: u32,
}

struct Floor {
    config: Config,
    session: Session,
}

/// Serves until it is killed.
pub(crate) async fn serve(file: &Path) -> Result<()> {
    let config: Config = serde_json::from_str(&std::fs::read_to_string(file)?)?;
    let cancel = CancellationToken::new();
    let session = Ovs::start(&config.ovs_db, cancel.clone()).session(OVS).await?;
    let server = Server::bind(&config.socket, Limits::default()).await?;
    server.serve(Floor { config, session }, cancel).await;
    Ok(())
}

impl Floor {
    fn specs(&self, request: &AddRequest) -> Result<(PodLink, PodPort)> {
        let pod = self.config.pods.get(&request.container_id).context("an unknown pod")?;
        let key = PodKey::parse(&pod.key)?;
        let addresses: Vec<_> =
            pod.addresses.iter().map(|text| text.parse()).collect::<Result<_, _>>()?;
        let via = |text: &String| Ok::<Route, anyhow::Error>(Route::default_via(text.parse()?));
        let ips: Addresses = addresses.iter().map(ipnetwork::IpNetwork::ip).collect();
        let interface = host_ifname(&request.container_id);
        let link = PodLink {
            netns: request.netns.clone(),
            ifname: request.ifname.clone(),
            host_ifname: interface.clone(),
            host_mac: host_mac(&request.container_id),
            mac: pod.mac.parse()?,
            mtu: pod.mtu,
            addresses,
            routes: pod.gateways.iter().map(via).collect::<Result<_>>()?,
            turn_off_tx_checksums: true,
        };
        let port = PodPort {
            interface,
            port: PortName::of_pod(&key),
            key,
            uid: Uid::new(&pod.uid)?,
            netns: request.netns.display().to_string(),
            sandbox: Sandbox::new(&request.container_id)?,
            ifname: request.ifname.clone(),
            attachment: None,
            addresses: ips,
            network: request.network.clone(),
        };
        Ok((link, port))
    }

    async fn attach(&self, request: &AddRequest) -> Result<()> {
        let (link, port) = self.specs(request)?;
        link::attach(&link).await?;
        let plan = port::plug(&port, &self.session.monitor.replica());
        transact(&self.session, &plan).await?;
        if self.config.waits {
            port::wait_installed(&self.session, &port, OVS).await?;
        }
        Ok(())
    }

    async fn detach(&self, request: &DelRequest) -> Result<()> {
        let interface = host_ifname(&request.container_id);
        let plan = port::unplug(&interface, &self.session.monitor.replica());
        transact(&self.session, &plan).await?;
        link::detach(&interface, None).await?;
        Ok(())
    }
}

fn failed(error: anyhow::Error) -> CniError {
    CniError::new(Code::INTERNAL, format!("{error:#}"))
}

impl Attachments for Floor {
    async fn known(&self, _: &AddRequest) -> Result<(), CniError> {
        Ok(())
    }

    async fn add(&self, request: AddRequest) -> Result<Added, CniError> {
        self.attach(&request).await.map_err(failed)?;
        Ok(Added { interfaces: Vec::new(), ips: Vec::new(), routes: Vec::new() })
    }

    async fn del(&self, request: DelRequest) -> Result<(), CniError> {
        self.detach(&request).await.map_err(failed)
    }

    async fn check(&self, _: CheckRequest) -> Result<(), CniError> {
        Ok(())
    }

    async fn held(&self, _: &str) -> Result<Vec<Held>, CniError> {
        Ok(Vec::new())
    }

    async fn status(&self) -> Result<(), CniError> {
        Ok(())
    }
}
