//! `atollctl node`: what an operator vouches for when a node does not speak for itself.

use atoll_api::Client;
use atoll_api::allocations::AllocationQuery;
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
