//! Writers at a fixed rate, whether or not earlier writes were answered.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use atoll_api::Client;
use atoll_model::{Labels, NodeName, NodeSpec, Operation, Outcome, Revision, Uid};
use atoll_tests::bare::{self, BareMember};
use tokio::time::MissedTickBehavior;

use crate::readers::node_name;
use crate::verdict::{Concerns, Written};

/// Connections that the writers share.
const CONNECTIONS: usize = 8;

/// Nodes made in one transaction.
const BATCH: usize = 100;

/// What became of the writes.
#[derive(Debug, Default)]
pub(crate) struct Writes {
    pub(crate) written: Vec<Written>,
    /// Refused, or of unknown outcome.
    pub(crate) failed: Vec<String>,
}

/// A node; another version of it concerns only its own agent.
fn put(name: NodeName, version: u64) -> Operation {
    let labels = Labels::from([
        ("kubernetes.io/hostname".to_owned(), name.to_string()),
        ("version".to_owned(), version.to_string()),
    ]);
    let uid = Uid::new(&format!("uid-{name}")).expect("a uid");
    Operation::PutNode(NodeSpec { name, uid, addresses: Vec::new(), labels })
}

async fn write(client: &Client, operations: Vec<Operation>) -> Result<Revision> {
    match client.txn(vec![], operations).await? {
        Outcome::Applied { revision, .. } => Ok(revision),
        Outcome::Refused { refusal, .. } => bail!("refused: {refusal}"),
    }
}

/// Makes the subscribers' nodes.
pub(crate) async fn make_nodes(client: &Client, count: usize) -> Result<Revision> {
    let mut revision = Revision(0);
    for first in (0..count).step_by(BATCH) {
        let nodes = first..count.min(first + BATCH);
        let operations = nodes.map(|node| put(node_name(node), 0)).collect();
        revision = write(client, operations).await.context("cannot make the nodes")?;
    }
    Ok(revision)
}

/// Writes `rate` changes of single nodes per second and one that concerns all (a node that comes
/// has an address that everybody must know), for `time`.
pub(crate) async fn run(
    members: &[BareMember],
    round: u64,
    nodes: usize,
    rate: u64,
    time: Duration,
) -> Result<Writes> {
    let make = |_| bare::client(members, Duration::from_secs(10));
    let clients = (0..CONNECTIONS).map(make).collect::<Result<Vec<Client>>>()?;
    let writes = Arc::new(Mutex::new(Writes::default()));
    let mut tick = tokio::time::interval(Duration::from_secs(1) / u32::try_from(rate)?);
    tick.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let total = rate * time.as_secs();
    let mut under_way = tokio::task::JoinSet::new();
    for number in 0..total {
        tick.tick().await;
        // A stride that is prime to any number of nodes that is no multiple of it.
        let node = usize::try_from(number * 7_919)? % nodes;
        let mut puts =
            vec![(Concerns::Node(node), put(node_name(node), round * total + number + 1))];
        if number % rate == 0 {
            let name = NodeName::new(&format!("late-{round}-{}", number / rate))?;
            puts.push((Concerns::All, put(name, 0)));
        }
        for (concerns, operation) in puts {
            let client = clients[usize::try_from(number)? % CONNECTIONS].clone();
            let writes = writes.clone();
            under_way.spawn(async move {
                let proposed = Instant::now();
                let outcome = write(&client, vec![operation]).await;
                let acknowledged = Instant::now();
                let mut writes = writes.lock().unwrap_or_else(PoisonError::into_inner);
                match outcome {
                    Ok(revision) => {
                        let written = Written { revision, concerns, proposed, acknowledged };
                        writes.written.push(written);
                    }
                    Err(error) => writes.failed.push(format!("{error:#}")),
                }
            });
        }
        while under_way.try_join_next().is_some() {}
    }
    while under_way.join_next().await.is_some() {}
    let mut writes = writes.lock().unwrap_or_else(PoisonError::into_inner);
    Ok(std::mem::take(&mut writes))
}
