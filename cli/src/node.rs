//! `atollctl node`: what an operator vouches for when a node does not speak for itself.

use atoll_api::Client;
use atoll_api::allocations::AllocationQuery;
use atoll_api::proto::Kind as ObjectKind;
use atoll_model::{Node as NodeObject, NodeName, Object, ObjectKey, Operation};
use clap::Subcommand;
use std::sync::Arc;

use crate::Failure;
use crate::arguments::Format;
use crate::change::{carried_out, said};

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Node {
    /// Vouches that a machine is off. Its agent's word does not count until it registers anew.
    ///
    /// What drains there is confirmed, and addresses of pods that are gone become free: if the
    /// machine is not off, two pods may have one address.
    #[command(after_help = "Example:\n  atollctl node fence n1         # what it would mean\n  \
                            atollctl node fence n1 --yes")]
    Fence {
        /// The node.
        node: NodeName,
        /// It is off: I made sure.
        #[arg(long)]
        yes: bool,
    },
    /// Empties a node of what leaves by it: it takes no new pods, and centralized subnets go to another
    /// of their gateway nodes. Pods that run there stay.
    #[command(after_help = "Example:\n  atollctl node drain n1\n  \
                            atollctl ovn rollout --wait 30   # until no node sends to it")]
    Drain {
        /// The node.
        node: NodeName,
    },
    /// Ends a drain: the node takes pods, and may be chosen as a gateway.
    #[command(after_help = "Example:\n  atollctl node undrain n1")]
    Undrain {
        /// The node.
        node: NodeName,
    },
    /// After a restore: goes on without the node's inventory, or without what of it is in conflict.
    #[command(after_help = "Example:\n  atollctl node waive n1")]
    Waive {
        /// The node.
        node: NodeName,
    },
}

pub(crate) async fn run(client: &Client, node: &Node, format: Format) -> Result<(), Failure> {
    match node {
        Node::Fence { node, yes } => fence(client, node, *yes, format).await,
        Node::Drain { node } => drain(client, node, format).await,
        Node::Undrain { node } => {
            known(client, node).await?;
            let undrain = vec![Operation::DrainNode { node: node.clone(), drained: false }];
            carried_out(client.txn(Vec::new(), undrain).await?)?;
            said("Node", node.as_str(), "not drained: it takes pods", format)
        }
        Node::Waive { node } => {
            let reconciling = client.read(&[], Some(&ObjectKey::Reconciling)).await?;
            known(client, node).await?;
            if reconciling.objects.is_empty() {
                let why =
                    format!("no node is waited for; there is nothing to waive of node {node}");
                return Err(Failure::Refused(why));
            }
            let waive = vec![Operation::WaiveNode(node.clone())];
            carried_out(client.txn(Vec::new(), waive).await?)?;
            said("Node", node.as_str(), "waived", format)
        }
    }
}

async fn known(client: &Client, node: &NodeName) -> Result<Arc<NodeObject>, Failure> {
    let read = client.read(&[], Some(&ObjectKey::Node(node.clone()))).await?;
    match read.objects.into_iter().next() {
        Some(Object::Node(node)) => Ok(node),
        _ => Err(Failure::Refused(format!("node {node} does not exist"))),
    }
}

/// Gateways are chosen in the same entry, so what leaves by the node afterwards has no other.
async fn drain(client: &Client, name: &NodeName, format: Format) -> Result<(), Failure> {
    known(client, name).await?;
    let drain = vec![Operation::DrainNode { node: name.clone(), drained: true }];
    carried_out(client.txn(Vec::new(), drain).await?)?;
    let subnets = client.read(&[ObjectKind::Subnet], None).await?.objects;
    let leaves = |object: &Object| match object {
        Object::Subnet(it) if it.active_gateways.contains(name) => Some(it.spec.name.to_string()),
        _ => None,
    };
    let leave: Vec<String> = subnets.iter().filter_map(leaves).collect();
    let what = match leave.is_empty() {
        true => "drained: it takes no new pods, and no centralized subnet leaves by it".to_owned(),
        false => format!(
            "drained: it takes no new pods; these still leave by it, no other of their gateways is \
             ready: {}",
            leave.join(", ")
        ),
    };
    said("Node", name.as_str(), &what, format)
}

/// The very life of the agent that is seen here is fenced: one that registers meanwhile is not hit.
async fn fence(client: &Client, name: &NodeName, yes: bool, format: Format) -> Result<(), Failure> {
    let node = known(client, name).await?;
    let node_epoch = node.node_epoch;
    if !yes {
        let query = AllocationQuery { node: Some(name.clone()), ..AllocationQuery::default() };
        let held = client.allocations(&query).await?.held.len();
        let why = format!(
            "fencing node {name} (life {node_epoch} of its agent) says that the machine is off: \
             nothing is plugged in there any more, what drains is free, and it is no gateway. It \
             has {held} allocations. If it is not off, two pods may get one address. Make sure, \
             then repeat it with --yes"
        );
        return Err(Failure::Usage(anyhow::Error::msg(why)));
    }
    let fence = vec![Operation::FenceNode { node: name.clone(), node_epoch }];
    carried_out(client.txn(Vec::new(), fence).await?)?;
    match known(client, name).await?.fenced {
        true => said("Node", name.as_str(), "fenced, until its agent registers anew", format),
        false => Err(Failure::Refused(format!(
            "node {name} is not fenced: its agent has registered anew meanwhile, so it is not off"
        ))),
    }
}
