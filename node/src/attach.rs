//! One pod, from the plugin's call to packets: the order of the steps, and how each is undone.
//!
//! ADD: what the store decided (from the cache) → veth pair → port on the bridge → the flows are
//! in (an event), and nobody else answers for the pod's addresses → the report to the store is on disk.
//! Nothing waits for a member: a node whose store is away still plugs announced pods in. The way back
//! is [`detach`].

use std::sync::Arc;
use std::time::Duration;

use atoll_cni_wire::{Added, Address, CniError, Code, Interface, Prefix, Route as WireRoute};
use atoll_model::{Allocation, Lineage, Pod, PodKey, PortName, Sandbox, Subnet, Uid, WaitReason};
use time::OffsetDateTime;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::attached::Attached;
use crate::cni::{AddRequest, Attachments, CheckRequest, DelRequest, Held};
use crate::config::Config;
use crate::leg::pod_network;
use crate::link::{self, Mac, PodLink, host_ifname, host_mac};
use crate::ovs::port::{self, PodPort};
use crate::ovs::{Ovs, Session, transact};
use crate::pause::Pause;
use crate::queue::{Happened, Queue, Report};
use crate::rivals::{self, Ears, Rival};
use crate::step::{Step, reached};
use crate::view::View;
use crate::{check, detach, held, southbound, status};

/// How long an ADD waits for its pod to be announced: kubelet may be ahead of the store by a watch
/// round trip, and asks again later anyway.
const ANNOUNCED: Duration = Duration::from_secs(10);

/// How long a call waits for Open vSwitch's database.
pub(crate) const OVS: Duration = Duration::from_secs(3);

/// Kept back of the deadline to undo a half-made attachment.
const UNDO: Duration = Duration::from_secs(2);

/// Attaches pods of this node.
#[derive(Debug)]
pub struct Attacher {
    /// The configuration.
    pub config: Arc<Config>,
    /// What the store says.
    pub views: watch::Receiver<View>,
    /// Open vSwitch.
    pub ovs: Ovs,
    /// Reports for the store.
    pub queue: Queue,
    /// What is plugged in.
    pub attached: Attached,
    /// Whether new ports can be installed.
    pub(crate) southbound: southbound::Told,
    /// Whether anything may be changed here.
    pub(crate) pause: Pause,
}

/// What the store decided for a pod.
struct Decided {
    lineage: Lineage,
    pod: Arc<Pod>,
    allocation: Arc<Allocation>,
    /// Those of all interfaces, of which the first is plugged in.
    all: Vec<Arc<Allocation>>,
    subnet: Arc<Subnet>,
}

pub(crate) fn later(message: impl Into<String>) -> CniError {
    CniError::new(Code::TRY_AGAIN_LATER, message)
}

pub(crate) fn failed(what: &str, error: impl Into<anyhow::Error>) -> CniError {
    CniError::new(Code::PLUMBING, what).with_details(format!("{:#}", error.into()))
}

impl Attachments for Attacher {
    async fn known(&self, request: &AddRequest) -> Result<(), CniError> {
        self.pause.refuse()?;
        self.decided(request).await.map(drop)
    }

    async fn add(&self, request: AddRequest) -> Result<Added, CniError> {
        self.pause.refuse()?;
        let started = Instant::now();
        let decided = self.decided(&request).await?;
        let session = self.ovs.session(OVS).await.map_err(|error| later(error.to_string()))?;
        let before = detach::own(&request.container_id, &session)?;
        if let Some(other) = before.as_ref().filter(|it| it.ifname != request.ifname) {
            let why = format!(
                "this sandbox has interface {} already, and a second one ({}) is not supported; \
                 ask for one interface",
                other.ifname, request.ifname
            );
            return Err(CniError::new(Code::NOT_PROVIDED, why));
        }
        reached(Step::Decided);
        let made = self.make(&request, &decided, &session).await;
        if let Err(error) = &made {
            // What an earlier ADD of the same pod made is in use; a failed repetition leaves it.
            let uid = decided.pod.spec.uid.as_str();
            let in_use = before.is_some_and(|it| it.installed && it.uid == uid);
            tracing::warn!(pod = %decided.pod.spec.key, %error, in_use, "ADD failed");
            if !in_use {
                detach::undo(&self.attached, &request.container_id, &session).await;
            }
        }
        let added = made?;
        let (pod, address) = (&decided.pod.spec.key, &decided.allocation.addresses);
        tracing::info!(%pod, %address, took = ?started.elapsed(), "pod attached");
        Ok(added)
    }

    async fn del(&self, request: DelRequest) -> Result<(), CniError> {
        self.pause.refuse()?;
        detach::del(self, &request).await
    }

    async fn check(&self, request: CheckRequest) -> Result<(), CniError> {
        check::check(self, &request).await
    }

    async fn held(&self, network: &str) -> Result<Vec<Held>, CniError> {
        held::held(self, network).await
    }

    async fn status(&self) -> Result<(), CniError> {
        status::status(self).await
    }
}

impl Attacher {
    /// What the store decided, as soon as it has; else why not, in words for `kubectl describe`.
    async fn decided(&self, request: &AddRequest) -> Result<Decided, CniError> {
        let name = format!("{}/{}", request.pod.namespace, request.pod.name);
        let key = PodKey::parse(&name)
            .map_err(|error| CniError::new(Code::INVALID_ENVIRONMENT, error.to_string()))?;
        let deadline = (Instant::now() + ANNOUNCED).min(request.deadline);
        let mut views = self.views.clone();
        loop {
            let why = {
                let view = views.borrow_and_update();
                match self.lookup(&view, &key, request.pod.uid.as_deref()) {
                    Ok(decided) => return Ok(decided),
                    Err(Undecided::Waiting(why)) => return Err(later(why)),
                    Err(Undecided::NotYet(why)) => why,
                }
            };
            if !matches!(tokio::time::timeout_at(deadline, views.changed()).await, Ok(Ok(()))) {
                return Err(later(why));
            }
        }
    }

    fn lookup(&self, view: &View, key: &PodKey, uid: Option<&str>) -> Result<Decided, Undecided> {
        let not_yet = |why: String| Err(Undecided::NotYet(why));
        let Some(pod) = view.pod(key) else {
            let (node, has) = (&self.config.node, view.lineage().is_some());
            let hint = match has {
                true => "it has not been announced to the store as a pod of this node",
                false => "this node has not heard of any store yet: is a member reachable?",
            };
            return not_yet(format!("pod {key} is not known on node {node}: {hint}"));
        };
        if let Some(uid) = uid.filter(|uid| *uid != pod.spec.uid.as_str()) {
            let known = &pod.spec.uid;
            return not_yet(format!("pod {key} has uid {known} in the store, not {uid}"));
        }
        if let Some(reason) = &pod.waiting {
            let why = format!("pod {key} has no address: {reason}");
            return Err(match reason {
                // Over as soon as the nodes have told, which they do by themselves.
                WaitReason::Reconciling => Undecided::NotYet(why),
                _ => Undecided::Waiting(why),
            });
        }
        let allocation = view.allocation_of(pod);
        let subnet = allocation.and_then(|allocation| view.subnet(&allocation.subnet));
        match (allocation, subnet, view.lineage()) {
            (Some(allocation), Some(subnet), Some(lineage)) => Ok(Decided {
                lineage: lineage.clone(),
                pod: pod.clone(),
                allocation: allocation.clone(),
                all: view.allocations_of(pod),
                subnet: subnet.clone(),
            }),
            _ => not_yet(format!("the address of pod {key} has not arrived on this node")),
        }
    }

    async fn make(
        &self,
        request: &AddRequest,
        decided: &Decided,
        session: &Session,
    ) -> Result<Added, CniError> {
        let spec = self.port(request, decided)?;
        let link = self.link(request, decided)?;
        let record = async {
            let Decided { lineage, pod, all, .. } = decided;
            let recorded = self.attached.add(&spec.sandbox, lineage, pod, all).await;
            reached(Step::Recorded);
            recorded
        };
        let (recorded, attached) = tokio::join!(record, link::attach(&link));
        reached(Step::Linked);
        recorded.map_err(|error| failed("what the pod has cannot be kept on this node", error))?;
        let attached =
            attached.map_err(|error| failed("the pod's interface could not be made", error))?;
        // A store that was restored meanwhile was told what is plugged in, and this was not among it.
        let lineage = self.views.borrow().lineage().map(|now| now.cluster);
        if lineage != Some(decided.lineage.cluster) {
            return Err(later("the store was restored meanwhile; what it says now counts"));
        }
        let plan = port::plug(&spec, &session.monitor.replica());
        let (plugged, ears) = tokio::join!(transact(session, &plan), Ears::open(&link));
        plugged
            .map_err(|error| failed("the pod's port could not be added to the bridge", error))?;
        reached(Step::Plugged);
        let left = request.deadline.saturating_duration_since(Instant::now() + UNDO);
        let installed = port::wait_installed(session, &spec, left);
        let rival = match ears {
            Ok(ears) => rivals::look(&ears, installed).await,
            Err(error) => {
                let error = format!("{:#}", anyhow::Error::from(error));
                tracing::warn!(pod = %decided.pod.spec.key, error, "nobody is asked for the pod's addresses");
                installed.await.map(|()| None)
            }
        };
        let rival = rival.map_err(|error| self.not_installed(&error))?;
        reached(Step::Installed);
        if let Some(rival) = rival {
            return Err(taken(decided, rival));
        }
        // First: after the report nothing may fail, or the store knows of a port that is undone.
        let added = added(&link, &attached.host, decided)?;
        let report = Report {
            happened: Happened::Plugged,
            namespace: request.pod.namespace.clone(),
            name: request.pod.name.clone(),
            uid: spec.uid.to_string(),
            sandbox: spec.sandbox.to_string(),
        };
        // At the same time: the disk takes longer.
        let announced = link::announce(&request.netns, &request.ifname);
        let (reported, announced) = tokio::join!(self.queue.push(report), announced);
        reported.map_err(|error| failed("the report to the store cannot be kept", error))?;
        if let Err(error) = announced {
            // Neighbours find out by themselves, some seconds later.
            let error = format!("{:#}", anyhow::Error::from(error));
            tracing::warn!(pod = %decided.pod.spec.key, error, "neighbours were not told of the pod");
        }
        reached(Step::Reported);
        Ok(added)
    }

    fn not_installed(&self, error: &port::InstallError) -> CniError {
        let node = self.views.borrow().node(&self.config.node).cloned();
        let missing = *self.southbound.borrow();
        let hint = match (node, missing) {
            (Some(node), _) if node.chassis.is_none() => {
                "this node is not registered with the store yet: are the members reachable?".into()
            }
            (_, Some(missing)) => missing.describe(OffsetDateTime::now_utc()),
            _ => "the port's chassis may be another one; see `atollctl status`".to_owned(),
        };
        later(format!("{error}; {hint}"))
    }

    fn port(&self, request: &AddRequest, decided: &Decided) -> Result<PodPort, CniError> {
        let sandbox = Sandbox::new(&request.container_id)
            .map_err(|error| CniError::new(Code::INVALID_ENVIRONMENT, error.to_string()))?;
        let Pod { spec, .. } = decided.pod.as_ref();
        let uid: Uid = spec.uid.clone();
        Ok(PodPort {
            interface: host_ifname(&request.container_id),
            port: PortName::of_pod(&spec.key),
            key: spec.key.clone(),
            uid,
            netns: request.netns.display().to_string(),
            sandbox,
            ifname: request.ifname.clone(),
            addresses: decided.allocation.addresses,
            network: request.network.clone(),
        })
    }

    fn link(&self, request: &AddRequest, decided: &Decided) -> Result<PodLink, CniError> {
        let (addresses, routes) = pod_network(decided.allocation.addresses, &decided.subnet)
            .map_err(|error| failed("the pod's addresses are unusable", error))?;
        Ok(PodLink {
            netns: request.netns.clone(),
            ifname: request.ifname.clone(),
            host_ifname: host_ifname(&request.container_id),
            host_mac: host_mac(&request.container_id),
            mac: Mac(decided.allocation.mac.octets()),
            mtu: u32::from(decided.subnet.spec.mtu.unwrap_or(self.config.mtu)),
            addresses,
            routes,
            turn_off_tx_checksums: self.config.is_userspace(),
        })
    }
}

/// Why there is nothing to plug in.
enum Undecided {
    /// It may come any moment.
    NotYet(String),
    /// The store knows the pod and cannot serve it at present.
    Waiting(String),
}

/// Told to people by `kubectl describe`, as often as kubelet tries.
fn taken(decided: &Decided, Rival { address, mac }: Rival) -> CniError {
    let (pod, subnet) = (&decided.pod.spec.key, &decided.subnet.spec.name);
    let why = format!(
        "address {address} of pod {pod} is in use: somebody else in subnet {subnet} answers for it, at \
         {mac}; end that, or exclude the address there and delete the pod, so that it gets another one"
    );
    CniError::new(Code::ADDRESS_IN_USE, why)
}

fn added(link: &PodLink, host: &link::Link, decided: &Decided) -> Result<Added, CniError> {
    let internal = |what: &str| CniError::new(Code::INTERNAL, format!("{what} is unusable"));
    let mut ips = Vec::new();
    for network in &link.addresses {
        let address = Prefix::new(network.ip(), network.prefix());
        let gateway = decided
            .subnet
            .spec
            .nets
            .iter()
            .find(|net| net.cidr.contains(network.ip()))
            .map(|net| net.gateway);
        ips.push(Address { address: address.ok_or_else(|| internal("an address"))?, gateway });
    }
    let mut routes = Vec::new();
    for route in &link.routes {
        let to = Prefix::new(route.destination.network(), route.destination.prefix());
        let destination = to.ok_or_else(|| internal("a route"))?;
        routes.push(WireRoute { destination, gateway: route.gateway });
    }
    let pod = Interface {
        name: link.ifname.clone(),
        mac: link.mac.to_string(),
        mtu: Some(link.mtu),
        sandbox: Some(link.netns.display().to_string()),
    };
    let host = Interface {
        name: host.name.clone(),
        mac: host.mac.map(|mac| mac.to_string()).unwrap_or_default(),
        mtu: Some(host.mtu),
        sandbox: None,
    };
    Ok(Added { interfaces: vec![host, pod], ips, routes })
}
