//! What a lab is made of, and how it is.

use std::net::IpAddr;

use anyhow::Result;
use futures::future::join_all;
use serde::Serialize;

use super::Lab;
use super::env::CentralDatabases;
use super::names::{node_address, outside_addresses};
use super::node::Node;
use super::pod::{Pod, PodPhase};
use super::shell::{command, run};
use super::store::{Store, StoreStatus};

/// The whole lab at a glance. What cannot be found out is `null`, never a guess.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// The lab's name.
    pub name: String,
    /// Where its files are.
    pub dir: String,
    /// All members, running or not.
    pub members: Vec<MemberStatus>,
    /// The active central.
    pub central: Option<CentralStatus>,
    /// All nodes, running or not.
    pub nodes: Vec<NodeStatus>,
    /// All pods that were run and not deleted.
    pub pods: Vec<PodStatus>,
    /// The host that is no part of the network.
    pub outside: OutsideStatus,
}

/// One member.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MemberStatus {
    /// Its name: `m1`.
    pub id: String,
    /// `leader`, `follower`, …; `stopped` without a process; `unknown` if the store does not say.
    pub role: String,
    /// As `ATOLL_ENDPOINTS` wants it.
    pub endpoint: String,
    /// Of `atolld`.
    pub pid: Option<i32>,
    /// Its network namespace.
    pub ns: String,
}

/// The ovn-central that serves.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CentralStatus {
    /// Whose it is.
    pub member: String,
    /// The revision at which it was chosen.
    pub since: u64,
    /// `warm`, `cluster` or `external`.
    pub mode: String,
    /// What `ovn-nbctl --db` takes.
    pub nb: String,
    /// What `ovn-sbctl --db` takes.
    pub sb: String,
}

/// One node.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeStatus {
    /// `n1`.
    pub name: String,
    /// Its network namespace.
    pub ns: String,
    /// Its address on the management network.
    pub ip: IpAddr,
    /// Its addresses on the `join` switch.
    pub join: Vec<IpAddr>,
    /// What it calls itself in the southbound database.
    pub system_id: Option<String>,
}

/// One pod.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PodStatus {
    /// `NS/NAME`.
    pub name: String,
    /// Its node: `n1`.
    pub node: String,
    /// Its network namespace, as a path for `nsenter --net=`.
    pub ns: Option<String>,
    /// With prefix lengths.
    pub addresses: Vec<String>,
    /// Of the interface inside.
    pub mac: Option<String>,
    /// Its identity.
    pub uid: String,
}

/// The outside host.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct OutsideStatus {
    /// Its network namespace.
    pub ns: String,
    /// All its addresses.
    pub addresses: Vec<IpAddr>,
}

impl Lab {
    /// Looks at everything. Parts that do not answer are shown as unknown, not waited for.
    ///
    /// # Errors
    ///
    /// Only if what the lab has written down about itself cannot be read.
    pub async fn status(&self) -> Result<Status> {
        let store = self.store().ok();
        let answer = match store {
            Some(store) => store.status().await.ok(),
            None => None,
        };
        // Without a leader every read would be waited for in vain.
        let readable = store.filter(|_| answer.as_ref().is_some_and(|it| it.leader.is_some()));
        let nodes = join_all(self.nodes().map(|node| node_status(node, readable))).await;
        let pods = self.pods()?.into_iter().map(|pod| self.pod_status(pod)).collect();
        Ok(Status {
            name: self.name().to_string(),
            dir: self.dir().display().to_string(),
            members: self.member_statuses(answer.as_ref()),
            central: answer.as_ref().and_then(|answer| self.central_status(answer)),
            nodes,
            pods,
            outside: OutsideStatus {
                ns: self.name().outside(),
                addresses: outside_addresses().to_vec(),
            },
        })
    }

    fn member_statuses(&self, answer: Option<&StoreStatus>) -> Vec<MemberStatus> {
        let status = |member: super::Member| {
            let (id, pid) = (member.name(), member.atolld().pid());
            let role = match (pid, answer.and_then(|answer| answer.roles.get(&id))) {
                (None, _) => "stopped",
                (Some(_), Some(role)) => role,
                (Some(_), None) => "unknown",
            };
            let (endpoint, ns) = (member.endpoint(), member.namespace());
            MemberStatus { role: role.to_owned(), id, endpoint, pid, ns }
        };
        self.members().map(status).collect()
    }

    fn central_status(&self, answer: &StoreStatus) -> Option<CentralStatus> {
        let central = answer.central.clone()?;
        let CentralDatabases { nb, sb } = self.databases_of(&central.member)?;
        Some(CentralStatus {
            member: central.member,
            since: central.since,
            mode: central.mode,
            nb,
            sb,
        })
    }

    fn pod_status(&self, pod: Pod) -> PodStatus {
        let space = self.node(pod.node).and_then(|node| node.pod_space(&pod.container_id));
        let running = pod.phase == PodPhase::Running;
        let ns = space.ok().filter(|_| running).map(|space| space.net().display().to_string());
        PodStatus {
            name: pod.name.to_string(),
            node: format!("n{}", pod.node),
            ns,
            addresses: pod.addresses,
            mac: pod.mac,
            uid: pod.uid,
        }
    }
}

async fn node_status(node: Node, store: Option<&Store>) -> NodeStatus {
    let name = node.name();
    let stored = match store {
        Some(store) => store.get_node(&name).await.ok().flatten(),
        None => None,
    };
    NodeStatus {
        ns: node.namespace(),
        ip: node_address(node.index()).into(),
        join: stored.map(|node| node.join_addresses).unwrap_or_default(),
        system_id: system_id(&node).await,
        name,
    }
}

async fn system_id(node: &Node) -> Option<String> {
    node.ovsdb().pid()?;
    let mut vsctl = command("ovs-vsctl");
    vsctl.args(["--timeout=2", "--if-exists", &format!("--db={}", node.ovs_db())]);
    let answer = run(vsctl.args(["get", "Open_vSwitch", ".", "external_ids:system-id"])).await;
    let id = answer.ok()?.trim().trim_matches('"').to_owned();
    (!id.is_empty()).then_some(id)
}
