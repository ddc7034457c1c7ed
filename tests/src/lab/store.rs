//! All that the lab says to the store, and asks it, through Atoll's API.
//!
//! The lab acts as an operator does where there is no Kubernetes: it announces nodes, namespaces
//! and pods. Every call is idempotent, so a lost answer is met with the same call again.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use atoll_api::proto::{Kind, StatusResponse};
use atoll_api::{Client, Credentials, Endpoint};
use atoll_model::{
    Allocation, NamespaceName, NodeName, NodeSpec as ModelNodeSpec, Object, ObjectKey, Operation,
    Outcome, PodKey, PodSpec as ModelPodSpec, PortName, Precondition, Refusal, Sandbox, Uid,
};

use super::error::Refused;
use super::pod::Pod;
use super::request;
use crate::wait::wait_until;

/// How long one call may take. A failover is over in a second; this is for a busy machine.
const TIMEOUT: Duration = Duration::from_secs(10);

/// How long one look at a store that is still coming up may take.
const LOOK: Duration = Duration::from_secs(2);

/// What `status` calls a member that has found its cluster.
const PHASE_MEMBER: &str = "member";

/// A client of the store. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Store {
    client: Client,
}

/// A node, as the lab announces it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeSpec {
    /// Its name in the cluster.
    pub name: String,
    /// Stable for the lab's life, also over restarts of the node.
    pub uid: String,
    /// Its addresses on the management network, IPv4 first.
    pub internal_addresses: Vec<IpAddr>,
}

/// A pod, as the lab announces it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodSpec {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its identity.
    pub uid: String,
    /// The node it runs on.
    pub node: String,
    /// Its annotations: what it asks for.
    pub annotations: BTreeMap<String, String>,
    /// Its labels. No rule of the store reads a pod's labels yet, so they go no further.
    pub labels: BTreeMap<String, String>,
}

/// What the store says of a pod.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StoredPod {
    /// Its identity.
    pub uid: String,
    /// Its addresses, IPv4 first.
    pub addresses: Vec<IpAddr>,
    /// The MAC of its interface.
    pub mac: Option<String>,
    /// Why it has no address, if it has none.
    pub waiting: Option<String>,
    /// The sandbox that it is plugged in by.
    pub bound: Option<String>,
}

/// What the store says of a node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StoredNode {
    /// Its addresses on the `join` switch, IPv4 first.
    pub join_addresses: Vec<IpAddr>,
}

/// What the members say of themselves.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StoreStatus {
    /// By name (`m1`): `leader`, `follower`, …, or what a member waits for. Who does not answer
    /// is not in it.
    pub roles: BTreeMap<String, String>,
    /// The raft leader's name, if one answers.
    pub leader: Option<String>,
    /// Whose ovn-central serves, if one was chosen.
    pub central: Option<ActiveCentral>,
}

/// The member whose ovn-central serves the nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActiveCentral {
    /// The member's name: `m1`.
    pub member: String,
    /// The revision at which it was chosen.
    pub since: u64,
    /// `warm`, or another that the members are configured with.
    pub mode: String,
}

impl Store {
    /// A client that finds the leader through any of `endpoints`: `host:port` or `unix:/path`.
    ///
    /// # Errors
    ///
    /// If one of them is no endpoint, or there is none.
    pub fn new(endpoints: &[String], credentials: &Credentials) -> Result<Self> {
        let endpoints = endpoints.iter().map(|it| it.parse()).collect::<Result<Vec<Endpoint>, _>>();
        Ok(Self { client: Client::new(endpoints?, credentials)?.with_timeout(TIMEOUT) })
    }

    /// Waits until the store takes writes and an active central is chosen.
    ///
    /// # Errors
    ///
    /// At the deadline, with the last answer.
    pub async fn wait_ready(&self, deadline: Duration) -> Result<()> {
        let client = self.client.clone().with_timeout(LOOK);
        let kinds = [Kind::Settings, Kind::Central];
        wait_until(deadline, "the store to be ready", async || {
            let objects = client.read(&kinds, None).await?.objects;
            if !objects.iter().any(|object| matches!(object, Object::Settings(_))) {
                bail!("the cluster is not set up");
            }
            let serves =
                |it: &Object| matches!(it, Object::Central(central) if !central.sb.is_empty());
            if !objects.iter().any(serves) {
                bail!("no active central is chosen");
            }
            Ok(())
        })
        .await
    }

    /// Announces a node. Idempotent.
    ///
    /// # Errors
    ///
    /// [`Refused`] by the store, or that it did not answer.
    pub async fn put_node(&self, node: &NodeSpec) -> Result<()> {
        let spec = ModelNodeSpec {
            name: NodeName::new(&node.name)?,
            uid: Uid::new(&node.uid)?,
            addresses: node.internal_addresses.clone(),
            labels: BTreeMap::new(),
        };
        self.do_one(Operation::PutNode(spec)).await?.accepted()
    }

    /// Takes a node out of the cluster. Idempotent.
    ///
    /// # Errors
    ///
    /// [`Refused`] by the store, or that it did not answer.
    pub async fn delete_node(&self, name: &str) -> Result<()> {
        match self.do_one(Operation::DeleteNode(NodeName::new(name)?)).await? {
            Answer::Refused(Refusal::NodeUnknown(_)) => Ok(()),
            answer => answer.accepted(),
        }
    }

    /// Makes a namespace, or replaces its labels. Idempotent.
    ///
    /// # Errors
    ///
    /// [`Refused`] by the store, or that it did not answer.
    pub async fn put_namespace(&self, name: &str, labels: &BTreeMap<String, String>) -> Result<()> {
        let put = Operation::PutNamespace(NamespaceName::new(name)?, labels.clone());
        self.do_one(put).await?.accepted()
    }

    /// Makes a namespace without labels unless there is one of that name. Idempotent.
    ///
    /// # Errors
    ///
    /// [`Refused`] by the store, or that it did not answer.
    pub async fn ensure_namespace(&self, name: &str) -> Result<()> {
        let name = NamespaceName::new(name)?;
        let key = ObjectKey::Namespace(name.clone());
        // A read costs no entry in the log, and mostly the namespace is there.
        if self.get(key.clone()).await?.is_some() {
            return Ok(());
        }
        let put = Operation::PutNamespace(name, BTreeMap::new());
        match self.txn(vec![Precondition::Absent(key)], vec![put]).await? {
            // Somebody else made it meanwhile.
            Answer::Refused(Refusal::Exists(_)) => Ok(()),
            answer => answer.accepted(),
        }
    }

    /// Announces a pod. Idempotent by uid. That it waits for an address is not a refusal.
    ///
    /// # Errors
    ///
    /// [`Refused`] by the store, or that it did not answer.
    pub async fn put_pod(&self, pod: &PodSpec) -> Result<()> {
        let key = pod_key(&pod.namespace, &pod.name)?;
        let (uid, node) = (Uid::new(&pod.uid)?, NodeName::new(&pod.node)?);
        let (request, traffic) = request::read(&pod.annotations)?;
        let spec = ModelPodSpec { request, traffic, ..ModelPodSpec::new(key, uid, node) };
        self.do_one(Operation::PutPod(spec)).await?.accepted()
    }

    /// Says that a pod has ended. Idempotent: another pod of that name is not touched.
    ///
    /// # Errors
    ///
    /// [`Refused`] by the store, or that it did not answer.
    pub async fn delete_pod(&self, namespace: &str, name: &str, uid: &str) -> Result<()> {
        let delete = Operation::DeletePod(pod_key(namespace, name)?, Uid::new(uid)?);
        match self.do_one(delete).await? {
            Answer::Refused(Refusal::PodUnknown(_) | Refusal::PodReplaced { .. }) => Ok(()),
            answer => answer.accepted(),
        }
    }

    /// Ends a pod that is plugged in as if its node had never said so: nothing names it any more.
    ///
    /// # Errors
    ///
    /// [`Refused`] by the store, or that it did not answer.
    pub async fn lose_pod(&self, pod: &Pod) -> Result<()> {
        let (namespace, name) = (&pod.name.namespace, &pod.name.name);
        let unbind = Operation::Unbind {
            key: pod_key(namespace, name)?,
            uid: Uid::new(&pod.uid)?,
            node: NodeName::new(&format!("n{}", pod.node))?,
            sandbox: Sandbox::new(&pod.container_id)?,
            bound_at: None,
        };
        self.do_one(unbind).await?.accepted()?;
        self.delete_pod(namespace, name, &pod.uid).await
    }

    /// What the store holds of a pod; `None` if nothing.
    ///
    /// # Errors
    ///
    /// If it did not answer.
    pub async fn get_pod(&self, namespace: &str, name: &str) -> Result<Option<StoredPod>> {
        let key = pod_key(namespace, name)?;
        let Some(Object::Pod(pod)) = self.get(ObjectKey::Pod(key.clone())).await? else {
            return Ok(None);
        };
        let allocation = self.allocation(PortName::of_pod(&key)).await?;
        Ok(Some(StoredPod {
            uid: pod.spec.uid.to_string(),
            addresses: allocation.iter().flat_map(|it| it.addresses.iter()).collect(),
            mac: allocation.map(|it| it.mac.to_string()),
            waiting: pod.waiting.as_ref().map(ToString::to_string),
            bound: pod.bound.as_ref().map(|it| it.sandbox.to_string()),
        }))
    }

    /// What the store holds of a node; `None` if nothing.
    ///
    /// # Errors
    ///
    /// If it did not answer.
    pub async fn get_node(&self, name: &str) -> Result<Option<StoredNode>> {
        let name = NodeName::new(name)?;
        if self.get(ObjectKey::Node(name.clone())).await?.is_none() {
            return Ok(None);
        }
        let allocation = self.allocation(PortName::of_node(&name)).await?;
        let join_addresses = allocation.iter().flat_map(|it| it.addresses.iter()).collect();
        Ok(Some(StoredNode { join_addresses }))
    }

    /// How many pods are gone whose unplugging no node has confirmed yet.
    ///
    /// # Errors
    ///
    /// If it did not answer.
    pub async fn drainings(&self) -> Result<u64> {
        let read = self.client.read(&[Kind::Draining], None).await?;
        Ok(u64::try_from(read.objects.len())?)
    }

    /// Who leads, and whose ovn-central serves.
    ///
    /// # Errors
    ///
    /// If no member answered.
    pub async fn status(&self) -> Result<StoreStatus> {
        let answers = self.client.statuses().await;
        let failures: Vec<String> = answers
            .iter()
            .filter_map(|(endpoint, answer)| {
                answer.as_ref().err().map(|why| format!("{endpoint}: {why}"))
            })
            .collect();
        let members: Vec<_> = answers.into_iter().filter_map(|(_, answer)| answer.ok()).collect();
        if members.is_empty() {
            bail!("no member answers: {}", failures.join("; "));
        }
        Ok(summarise(&members))
    }

    async fn allocation(&self, port: PortName) -> Result<Option<Allocation>> {
        match self.get(ObjectKey::Allocation(port)).await? {
            Some(Object::Allocation(allocation)) => Ok(Some((*allocation).clone())),
            _ => Ok(None),
        }
    }

    async fn get(&self, key: ObjectKey) -> Result<Option<Object>> {
        let read = self.client.read(&[], Some(&key)).await;
        let objects = read.with_context(|| format!("cannot read {key}"))?.objects;
        Ok(objects.into_iter().find(|object| object.key() == key))
    }

    async fn do_one(&self, operation: Operation) -> Result<Answer> {
        self.txn(Vec::new(), vec![operation]).await
    }

    async fn txn(
        &self,
        preconditions: Vec<Precondition>,
        operations: Vec<Operation>,
    ) -> Result<Answer> {
        Ok(match self.client.txn(preconditions, operations).await? {
            Outcome::Applied { .. } => Answer::Done,
            Outcome::Refused { refusal, .. } => Answer::Refused(refusal),
        })
    }
}

/// A definite answer to a transaction.
enum Answer {
    Done,
    Refused(Refusal),
}

impl Answer {
    /// Makes an error of a refusal.
    fn accepted(self) -> Result<()> {
        match self {
            Self::Done => Ok(()),
            Self::Refused(refusal) => Err(Refused(refusal.to_string()).into()),
        }
    }
}

fn pod_key(namespace: &str, name: &str) -> Result<PodKey> {
    Ok(PodKey::new(NamespaceName::new(namespace)?, name)?)
}

/// Members may be behind: of two that name a leader the later term counts, of two that name a
/// central the later choice.
fn summarise(members: &[StatusResponse]) -> StoreStatus {
    let role = |member: &StatusResponse| {
        let in_cluster = member.phase == PHASE_MEMBER;
        if in_cluster { member.role.clone() } else { member.phase.clone() }
    };
    let leads = |member: &&StatusResponse| member.leader == Some(member.id);
    let leader = members.iter().filter(leads).max_by_key(|member| member.term);
    let chosen = members.iter().filter_map(|member| member.central.as_ref());
    let mut modes = members.iter().filter_map(|member| member.processes.as_ref());
    let central = chosen.max_by_key(|central| central.since).map(|central| ActiveCentral {
        member: central.name.clone(),
        since: central.since,
        mode: modes.next().map_or_else(String::new, |it| it.mode.clone()),
    });
    StoreStatus {
        roles: members.iter().map(|member| (member.name.clone(), role(member))).collect(),
        leader: leader.map(|member| member.name.clone()),
        central,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use atoll_api::proto::Central;

    fn member(id: u64, term: u64, leader: u64, since: u64) -> StatusResponse {
        let central = Central { name: format!("m{since}"), since, ..Central::default() };
        StatusResponse {
            id,
            name: format!("m{id}"),
            phase: PHASE_MEMBER.to_owned(),
            role: if id == leader { "leader" } else { "follower" }.to_owned(),
            term,
            leader: Some(leader),
            central: Some(central),
            ..StatusResponse::default()
        }
    }

    /// A leader that was paused still calls itself one until it hears of the next.
    #[test]
    fn a_deposed_leader_and_an_old_choice_of_central_do_not_count() {
        let mut joining = member(3, 0, 0, 0);
        (joining.phase, joining.central) = ("waiting".to_owned(), None);
        let status = summarise(&[member(1, 4, 1, 2), member(2, 5, 2, 3), joining]);
        assert_eq!(status.leader.as_deref(), Some("m2"));
        assert_eq!(status.central.unwrap().member, "m3");
        assert_eq!(status.roles["m3"], "waiting");
    }

    #[tokio::test]
    async fn a_store_that_is_not_there_is_named_with_its_endpoint() {
        let store =
            Store::new(&["unix:/nowhere/api.sock".to_owned()], &Credentials::insecure_dev())
                .unwrap();
        let error = store.status().await.unwrap_err();
        assert!(error.to_string().contains("/nowhere/api.sock"), "{error:#}");
        let error = store.wait_ready(Duration::ZERO).await.unwrap_err();
        assert!(error.to_string().contains("for the store to be ready"), "{error:#}");
    }
}
