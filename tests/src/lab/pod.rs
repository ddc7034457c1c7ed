//! Pods, as kubelet makes them: announced, given a network namespace, plumbed by the CNI plugin.
//!
//! Any number of pods can be made and deleted at once, from any number of programs.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use anyhow::Result;
use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::error::{Refused, Usage};
use super::node::Node;
use super::records::Records;
use super::shell::run;
use super::store::PodSpec;
use super::{Lab, cni, process, request};

/// A pod's namespace and name, written `NS/NAME`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PodName {
    /// Its namespace.
    pub namespace: String,
    /// Its name in that namespace.
    pub name: String,
}

impl fmt::Display for PodName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

impl FromStr for PodName {
    type Err = Usage;

    fn from_str(text: &str) -> Result<Self, Usage> {
        let fits = |part: &str| {
            let allowed =
                |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.';
            !part.is_empty() && !part.starts_with('.') && part.bytes().all(allowed)
        };
        match text.split_once('/') {
            Some((namespace, name)) if fits(namespace) && fits(name) => {
                Ok(Self { namespace: namespace.to_owned(), name: name.to_owned() })
            }
            _ => Err(Usage(format!("'{text}' is not a pod: NAMESPACE/NAME"))),
        }
    }
}

impl TryFrom<String> for PodName {
    type Error = Usage;

    fn try_from(text: String) -> Result<Self, Usage> {
        text.parse()
    }
}

impl From<PodName> for String {
    fn from(name: PodName) -> Self {
        name.to_string()
    }
}

/// What a pod is to be.
#[derive(Debug, Clone)]
pub struct PodOptions {
    /// Its namespace and name.
    pub name: PodName,
    /// Its node, counted from 1.
    pub node: u8,
    /// Its annotations: requests for addresses and the like.
    pub annotations: BTreeMap<String, String>,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its uid; a random one if `None`.
    pub uid: Option<String>,
    /// The interface inside.
    pub ifname: String,
}

impl PodOptions {
    /// A plain pod with `eth0`.
    pub fn new(name: PodName, node: u8) -> Self {
        Self {
            name,
            node,
            annotations: BTreeMap::new(),
            labels: BTreeMap::new(),
            uid: None,
            ifname: "eth0".to_owned(),
        }
    }
}

/// A pod of the lab, as written down.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pod {
    /// Its namespace and name.
    pub name: PodName,
    /// Its node, counted from 1.
    pub node: u8,
    /// Its uid.
    pub uid: String,
    /// Names its network namespace on the node.
    pub container_id: String,
    /// The interface inside.
    pub ifname: String,
    /// What the CNI plugin answered, with prefix lengths.
    pub addresses: Vec<String>,
    /// The MAC of the interface inside.
    pub mac: Option<String>,
    /// How far it came.
    pub phase: PodPhase,
}

impl Pod {
    /// A pod of which nothing is made yet.
    fn new(options: &PodOptions) -> Self {
        Self {
            name: options.name.clone(),
            node: options.node,
            uid: options.uid.clone().unwrap_or_else(|| Uuid::new_v4().to_string()),
            container_id: container_id(),
            ifname: options.ifname.clone(),
            addresses: Vec::new(),
            mac: None,
            phase: PodPhase::Making,
        }
    }
}

/// How far a pod came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PodPhase {
    /// Somebody is at it; or was, and was killed: then it can be deleted.
    Making,
    /// It could not be plumbed. It stays announced, as in Kubernetes, and can be run again or
    /// deleted.
    Failed,
    /// It is plumbed.
    Running,
}

impl Lab {
    /// Announces a pod and plumbs it, as kubelet would on its node.
    ///
    /// If it fails, the sandbox is undone but the pod stays announced: run it again, or delete it.
    /// In a bare lab nobody is told of the pod, and the plugin is whatever stands in its place. With
    /// Kubernetes the pod is there already: who makes it there names its uid, and deletes it there.
    ///
    /// # Errors
    ///
    /// [`Usage`] if an annotation cannot be read; [`Refused`] if a pod of that name runs, or the
    /// store says no; else what the plugin said.
    pub async fn run_pod(&self, options: PodOptions) -> Result<Pod> {
        let node = self.node(options.node)?;
        request::read(&options.annotations)?;
        let mut pod = self.records().reserve(Pod::new(&options), options.uid.as_deref())?;
        if let Err(error) = self.announce(&pod, options.annotations, options.labels).await {
            // Not forgotten, because an answer that did not come may have been a yes.
            self.records().write(&Pod { phase: PodPhase::Failed, ..pod })?;
            return Err(error);
        }
        let Err(error) = plumb(&node, &mut pod).await else {
            pod.phase = PodPhase::Running;
            self.records().write(&pod)?;
            return Ok(pod);
        };
        let undone = unplumb(&node, &pod).await;
        self.records().write(&Pod { phase: PodPhase::Failed, ..pod })?;
        match undone {
            Ok(()) => Err(error),
            Err(undo) => Err(error.context(format!("and it could not be undone: {undo:#}"))),
        }
    }

    /// Unplumbs a pod and tells the store that it has ended.
    ///
    /// If it fails, the pod is still there and can be deleted again.
    ///
    /// # Errors
    ///
    /// [`Refused`] if there is no such pod; else what the plugin or the store said.
    pub async fn delete_pod(&self, name: &PodName) -> Result<Pod> {
        let pod = self.pod(name)?;
        unplumb(&self.node(pod.node)?, &pod).await?;
        if self.announces() {
            self.store()?.delete_pod(&name.namespace, &name.name, &pod.uid).await?;
        }
        self.records().forget(name)?;
        Ok(pod)
    }

    /// A pod that was run and not deleted.
    ///
    /// # Errors
    ///
    /// [`Refused`] if there is none of that name.
    pub fn pod(&self, name: &PodName) -> Result<Pod> {
        let found = self.records().find(name)?;
        found.ok_or_else(|| Refused(format!("no pod {name} in lab '{}'", self.name())).into())
    }

    /// All pods that were run and not deleted, by name.
    ///
    /// # Errors
    ///
    /// If they cannot be read.
    pub fn pods(&self) -> Result<Vec<Pod>> {
        self.records().list()
    }

    /// Whether nobody else tells the store of pods.
    fn announces(&self) -> bool {
        !self.state.bare && !self.state.kubernetes
    }

    fn records(&self) -> Records {
        Records::new(self.state.pods_dir())
    }

    async fn announce(
        &self,
        pod: &Pod,
        annotations: BTreeMap<String, String>,
        labels: BTreeMap<String, String>,
    ) -> Result<()> {
        if !self.announces() {
            return Ok(());
        }
        let PodName { namespace, name } = pod.name.clone();
        let store = self.store()?;
        store.ensure_namespace(&namespace).await?;
        let (uid, node) = (pod.uid.clone(), format!("n{}", pod.node));
        store.put_pod(&PodSpec { namespace, name, uid, node, annotations, labels }).await
    }
}

async fn plumb(node: &Node, pod: &mut Pod) -> Result<()> {
    // What the runtime does before it calls the plugin.
    const SANDBOX: &str = r#"ip netns add "$0"; ip -n "$0" link set lo up"#;
    let mut shell = node.space()?.command("sh");
    run(shell.args(["-ec", SANDBOX, &pod.container_id])).await?;
    let added = cni::add(node, pod).await?;
    (pod.addresses, pod.mac) = (added.addresses, added.mac);
    Ok(())
}

/// In the runtime's order: processes, plugin, network namespace. Idempotent.
async fn unplumb(node: &Node, pod: &Pod) -> Result<()> {
    let network = node.pod_space(&pod.container_id)?.net().to_owned();
    let exists = network.exists();
    if exists {
        for process in process::in_network(&network)? {
            process::send(process.pid, Signal::SIGKILL)?;
        }
    }
    cni::del(node, pod).await?;
    if exists {
        let mut delete = node.space()?.command("ip");
        run(delete.args(["netns", "delete", &pod.container_id])).await?;
    }
    Ok(())
}

/// As containerd's: 64 hexadecimal digits.
fn container_id() -> String {
    format!("{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_id_is_long_enough_for_a_host_interface_name_and_new_each_time() {
        let (one, other) = (container_id(), container_id());
        assert_eq!(one.len(), 64);
        assert_ne!(one[..12], other[..12]);
    }
}
