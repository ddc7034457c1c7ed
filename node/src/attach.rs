//! One pod, from the plugin's call to packets: the order of the steps, and how each is undone.
//!
//! ADD: what the store decided (from the cache) → veth pair → port on the bridge → the flows are
//! in (an event), and nobody else answers for the pod's addresses → the report to the store is on disk.
//! Nothing waits for a member: a node whose store is away still plugs announced pods in. The way back
//! is [`detach`].

use std::sync::Arc;
use std::time::Duration;

use atoll_cni_wire::{Added, CniError, Code};
use atoll_model::{Allocation, Lineage, Pod, PodKey, WaitReason};
use futures::future::{join_all, try_join_all};
use time::OffsetDateTime;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::attached::Attached;
use crate::cni::{AddRequest, Attachments, CheckRequest, DelRequest, Held};
use crate::config::Config;
use crate::link;
use crate::nic::{self, Given, Nic};
use crate::ovs::port::{self, InstallError};
use crate::ovs::{Ovs, Session, transact};
use crate::pause::Pause;
use crate::queue::{Happened, Queue, Report};
use crate::rivals::{self, Ears, Look, Rival};
use crate::step::{Step, reached};
use crate::view::View;
use crate::{check, detach, drain, held, southbound, status};

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
    /// For all interfaces, the first one first.
    given: Vec<Given>,
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
        self.takes(&request.container_id).await?;
        self.decided(request).await.map(drop)
    }

    async fn add(&self, request: AddRequest) -> Result<Added, CniError> {
        self.pause.refuse()?;
        self.takes(&request.container_id).await?;
        let started = Instant::now();
        let decided = self.decided(&request).await?;
        let session = self.ovs.session(OVS).await.map_err(|error| later(error.to_string()))?;
        let before = detach::own(&request.container_id, 0, &session)?;
        if let Some(other) = before.as_ref().filter(|it| it.ifname != request.ifname) {
            return Err(second(&other.ifname, &request.ifname));
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
                if error.code == Code::ADDRESS_IN_USE {
                    self.take_back(&request, &decided).await;
                }
            }
        }
        let added = made?;
        let pod = &decided.pod.spec.key;
        let addresses: Vec<String> =
            decided.given.iter().map(|it| it.allocation.addresses.to_string()).collect();
        let addresses = addresses.join(" ");
        tracing::info!(%pod, %addresses, took = ?started.elapsed(), "pod attached");
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
    /// A node that is drained takes no new pods; what it took before may be asked for again.
    async fn takes(&self, container_id: &str) -> Result<(), CniError> {
        let refused = drain::refuse(&self.views.borrow(), &self.config.node);
        match refused.is_err() && self.attached.find(container_id).await.is_some() {
            true => Ok(()),
            false => refused,
        }
    }

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
        match (given(view, pod), view.lineage()) {
            (Some(given), Some(lineage)) => {
                Ok(Decided { lineage: lineage.clone(), pod: pod.clone(), given })
            }
            _ => not_yet(format!("the addresses of pod {key} have not all arrived on this node")),
        }
    }

    async fn make(
        &self,
        request: &AddRequest,
        decided: &Decided,
        session: &Session,
    ) -> Result<Added, CniError> {
        let nics = nic::nics(&self.config, request, &decided.pod, &decided.given)?;
        for number in 1..nics.len() {
            detach::own(&request.container_id, number, session)?;
        }
        let sandbox = &nics.first().expect("a pod has a first interface").port.sandbox;
        let record = async {
            let Decided { lineage, pod, given } = decided;
            let all: Vec<Arc<Allocation>> = given.iter().map(|it| it.allocation.clone()).collect();
            let recorded = self.attached.add(sandbox, lineage, pod, &all).await;
            reached(Step::Recorded);
            recorded
        };
        let links = join_all(nics.iter().map(|nic| link::attach(&nic.link)));
        let (recorded, attached) = tokio::join!(record, links);
        reached(Step::Linked);
        recorded.map_err(|error| failed("what the pod has cannot be kept on this node", error))?;
        let attached: Vec<link::Attached> = attached
            .into_iter()
            .collect::<Result<_, _>>()
            .map_err(|error| failed("the pod's interface could not be made", error))?;
        // A store that was restored meanwhile was told what is plugged in, and this was not among it.
        let lineage = self.views.borrow().lineage().map(|now| now.cluster);
        if lineage != Some(decided.lineage.cluster) {
            return Err(later("the store was restored meanwhile; what it says now counts"));
        }
        let replica = session.monitor.replica();
        let plan: Vec<_> = nics.iter().flat_map(|nic| port::plug(&nic.port, &replica)).collect();
        let listening = join_all(nics.iter().map(|nic| Ears::open(&nic.link, &nic.gateways)));
        let (plugged, ears) = tokio::join!(transact(session, &plan), listening);
        plugged
            .map_err(|error| failed("the pod's port could not be added to the bridge", error))?;
        reached(Step::Plugged);
        let left = request.deadline.saturating_duration_since(Instant::now() + UNDO);
        let looks = nics.iter().zip(ears).map(|(nic, ears)| {
            let installed = port::wait_installed(session, &nic.port, left);
            Look::until(heard(nic, ears), self.config.rival_wait, installed)
        });
        let looks = try_join_all(looks).await.map_err(|error| self.not_installed(&error))?;
        reached(Step::Installed);
        // First: after the report nothing may fail but by a rival, who is told of too.
        let each = nics.iter().zip(&attached).map(|(nic, it)| nic.added(it.host.mac, it.host.mtu));
        let added = nic::together(each.collect::<Result<_, _>>()?);
        // At the same time: to wait for rivals is to cost nothing.
        let report = self.queue.push(report(Happened::Plugged, request, decided));
        let (reported, rivals) = tokio::join!(report, join_all(looks.into_iter().map(Look::end)));
        reported.map_err(|error| failed("the report to the store cannot be kept", error))?;
        if let Some((nic, rival)) = nics.iter().zip(rivals).find_map(|(nic, it)| Some((nic, it?))) {
            return Err(taken(nic, rival));
        }
        // Nobody waits for it, and nobody answers.
        tokio::spawn(announce(nics));
        reached(Step::Reported);
        Ok(added)
    }

    /// The store may have been told of what is undone now.
    async fn take_back(&self, request: &AddRequest, decided: &Decided) {
        let pushed = self.queue.push(report(Happened::Unplugged, request, decided)).await;
        if let Err(error) = pushed {
            let pod = &decided.pod.spec.key;
            tracing::warn!(%pod, %error, "the report to the store cannot be kept; a DEL tells it");
        }
    }

    fn not_installed(&self, error: &InstallError) -> CniError {
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
}

/// What the store gave to all interfaces of a pod, the first one first; none until all of it is here.
pub(crate) fn given(view: &View, pod: &Pod) -> Option<Vec<Given>> {
    let all = view.allocations_of(pod).into_iter();
    let given = all.map(|allocation| {
        let subnet = view.subnet(&allocation.subnet)?.clone();
        Some(Given { allocation, subnet })
    });
    let given: Vec<Given> = given.collect::<Option<_>>()?;
    (given.len() == 1 + pod.spec.request.interfaces.len()).then_some(given)
}

fn report(happened: Happened, request: &AddRequest, decided: &Decided) -> Report {
    Report {
        happened,
        namespace: request.pod.namespace.clone(),
        name: request.pod.name.clone(),
        uid: decided.pod.spec.uid.to_string(),
        sandbox: request.container_id.clone(),
    }
}

/// None if nobody can be asked, which keeps no pod from its network.
fn heard(nic: &Nic, ears: Result<Ears, rivals::ListenError>) -> Option<Ears> {
    let told = ears.map_err(|error| {
        let (pod, error) = (&nic.port.key, format!("{:#}", anyhow::Error::from(error)));
        tracing::warn!(%pod, error, "nobody is asked for the pod's addresses");
    });
    told.ok()
}

/// Neighbours who are not told find out by themselves, some seconds later.
async fn announce(nics: Vec<Nic>) {
    for Nic { link, port, .. } in nics {
        if let Err(error) = link::announce(&link.netns, &link.ifname).await {
            let (pod, error) = (port.key, format!("{:#}", anyhow::Error::from(error)));
            tracing::warn!(%pod, error, "neighbours were not told of the pod");
        }
    }
}

/// A runtime, or a plugin that calls others, asks once more for a sandbox.
fn second(has: &str, asked: &str) -> CniError {
    let why = format!(
        "this sandbox was added with interface {has}, and all that the pod has in this network came \
         with it; a second one ({asked}) is not added. Further interfaces are asked for by the pod's \
         own annotations, and this network belongs once into the runtime's list"
    );
    CniError::new(Code::NOT_PROVIDED, why)
}

/// Why there is nothing to plug in.
enum Undecided {
    /// It may come any moment.
    NotYet(String),
    /// The store knows the pod and cannot serve it at present.
    Waiting(String),
}

/// Told to people by `kubectl describe`, as often as kubelet tries.
fn taken(nic: &Nic, Rival { address, mac }: Rival) -> CniError {
    let (pod, subnet) = (&nic.port.key, nic.subnet());
    let why = format!(
        "address {address} of pod {pod} is in use: somebody else in subnet {subnet} answers for it, at \
         {mac}; end that, or exclude the address there and delete the pod, so that it gets another one"
    );
    CniError::new(Code::ADDRESS_IN_USE, why)
}
