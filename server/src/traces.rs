//! Packets that nodes' switches shall be asked about: orders that wait for an answer.
//!
//! Kept by the leader, in memory, for as long as somebody waits: whoever gives up takes his order
//! away. Agents fetch orders with their signs of life and bring the answers with later ones. An
//! order is named in each answer to its node until it is answered, because answers get lost; and it
//! wakes the node once.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use atoll_api::proto::{SwitchTrace, SwitchTraced, TraceLeg};
use atoll_model::NodeName;
use tokio::sync::{oneshot, watch};

/// Orders of one node: its agent carries out one after another, and its switch is at work
/// meanwhile.
const ORDERS_PER_NODE_MAX: usize = 4;

/// Orders of all nodes: people type them.
const ORDERS_MAX: usize = 64;

/// There are too many orders.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0} traces wait already; try again when they are done")]
pub(crate) struct TooMany(usize);

/// All orders; cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Traces {
    waiting: watch::Sender<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    /// The id of the next order. Begins with the time: an answer to a leader before this one, or to
    /// the same before it was restarted, must not be taken for one to an order of today.
    next: u64,
    orders: BTreeMap<NodeName, Vec<Order>>,
}

#[derive(Debug)]
struct Order {
    order: SwitchTrace,
    answer: oneshot::Sender<TraceLeg>,
    /// Its node was woken for it.
    named: bool,
}

/// An order that was given; dropped, it is taken back.
#[derive(Debug)]
pub(crate) struct Asked {
    traces: Traces,
    node: NodeName,
    id: u64,
    answer: oneshot::Receiver<TraceLeg>,
}

impl Traces {
    pub(crate) fn new() -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let next = u64::try_from(now.as_micros()).unwrap_or_default();
        Self { waiting: watch::Sender::new(Waiting { next, orders: BTreeMap::new() }) }
    }

    /// Gives an order to the agent of `node`; its id is chosen here.
    pub(crate) fn ask(&self, node: &NodeName, order: SwitchTrace) -> Result<Asked, TooMany> {
        let (sender, answer) = oneshot::channel();
        let mut id = Err(TooMany(0));
        self.waiting.send_modify(|waiting| id = waiting.add(node, order, sender));
        Ok(Asked { traces: self.clone(), node: node.clone(), id: id?, answer })
    }

    /// All orders of a node, whether it knows them or not.
    pub(crate) fn of(&self, node: &NodeName) -> Vec<SwitchTrace> {
        let mut all = Vec::new();
        self.waiting.send_if_modified(|waiting| {
            for order in waiting.orders.get_mut(node).into_iter().flatten() {
                order.named = true;
                all.push(order.order.clone());
            }
            false
        });
        all
    }

    /// What a node brings; answers to nobody are passed over.
    pub(crate) fn answered(&self, node: &NodeName, answers: Vec<SwitchTraced>) {
        for SwitchTraced { id, leg } in answers {
            let mut found = None;
            self.waiting.send_if_modified(|waiting| {
                found = waiting.remove(node, id);
                false
            });
            if let Some(order) = found {
                // Whoever has given up does not hear it.
                let _ = order.answer.send(leg.unwrap_or_default());
            }
        }
    }

    /// Waits until there is an order for `node` that it was not told of yet.
    pub(crate) async fn ordered(&self, node: &NodeName) {
        let mut waiting = self.waiting.subscribe();
        let new = |waiting: &Waiting| {
            waiting.orders.get(node).is_some_and(|orders| orders.iter().any(|order| !order.named))
        };
        // The sender is here.
        let _ = waiting.wait_for(new).await;
    }
}

impl Waiting {
    fn add(
        &mut self,
        node: &NodeName,
        order: SwitchTrace,
        answer: oneshot::Sender<TraceLeg>,
    ) -> Result<u64, TooMany> {
        let all = self.orders.values().map(Vec::len).sum::<usize>();
        let own = self.orders.get(node).map_or(0, Vec::len);
        if own >= ORDERS_PER_NODE_MAX || all >= ORDERS_MAX {
            return Err(TooMany(if own >= ORDERS_PER_NODE_MAX { own } else { all }));
        }
        let id = self.next;
        self.next += 1;
        let order = Order { order: SwitchTrace { id, ..order }, answer, named: false };
        self.orders.entry(node.clone()).or_default().push(order);
        Ok(id)
    }

    fn remove(&mut self, node: &NodeName, id: u64) -> Option<Order> {
        let orders = self.orders.get_mut(node)?;
        let at = orders.iter().position(|order| order.order.id == id)?;
        let order = orders.remove(at);
        if orders.is_empty() {
            self.orders.remove(node);
        }
        Some(order)
    }
}

impl Asked {
    /// What the node says. Cancel safe; for ever, if it says nothing.
    pub(crate) async fn answer(&mut self) -> TraceLeg {
        match (&mut self.answer).await {
            Ok(leg) => leg,
            // Only an answer takes the order away while somebody waits.
            Err(_dropped) => std::future::pending().await,
        }
    }

    /// Whether the node's agent has fetched the order.
    pub(crate) fn is_known(&self) -> bool {
        let waiting = self.traces.waiting.borrow();
        let orders = waiting.orders.get(&self.node).into_iter().flatten();
        orders.into_iter().any(|order| order.order.id == self.id && order.named)
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        self.traces.waiting.send_if_modified(|waiting| {
            waiting.remove(&self.node, self.id);
            false
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::poll;
    use std::pin::pin;

    fn node(name: &str) -> NodeName {
        name.parse().unwrap()
    }

    fn ids(traces: &Traces, name: &str) -> Vec<u64> {
        traces.of(&node(name)).iter().map(|order| order.id).collect()
    }

    fn traced(id: u64, why: &str) -> Vec<SwitchTraced> {
        let leg = Some(TraceLeg { why: why.to_owned(), ..TraceLeg::default() });
        vec![SwitchTraced { id, leg }]
    }

    #[tokio::test]
    async fn an_order_wakes_its_node_once_and_is_named_until_it_is_answered() {
        let traces = Traces::new();
        let (one, other) = (node("n1"), node("n2"));
        assert!(poll!(pin!(traces.ordered(&one))).is_pending());
        let mut asked = traces.ask(&one, SwitchTrace::default()).unwrap();
        traces.ordered(&one).await;
        assert!(poll!(pin!(traces.ordered(&other))).is_pending(), "another node's");
        assert!(!asked.is_known());
        let id = ids(&traces, "n1")[0];
        assert!(asked.is_known());
        assert!(poll!(pin!(traces.ordered(&one))).is_pending(), "it knows");
        assert_eq!(ids(&traces, "n1"), [id], "the answer that named it may have been lost");

        traces.answered(&other, traced(id, "a stranger's"));
        traces.answered(&one, traced(id + 9, "of another time"));
        assert!(poll!(pin!(asked.answer())).is_pending());
        traces.answered(&one, traced(id, "its own"));
        assert_eq!(asked.answer().await.why, "its own");
        assert!(ids(&traces, "n1").is_empty(), "answered");
        // Brought twice, because the agent does not know that it was taken.
        traces.answered(&one, traced(id, "again"));
    }

    #[tokio::test]
    async fn whoever_gives_up_leaves_nothing_behind_and_there_are_never_too_many() {
        let traces = Traces::new();
        let ask = |name: &str| traces.ask(&node(name), SwitchTrace::default());
        let first = ask("n1").unwrap();
        drop(first);
        assert!(ids(&traces, "n1").is_empty());

        let own: Vec<_> = (0..ORDERS_PER_NODE_MAX).map(|_| ask("n1").unwrap()).collect();
        assert_eq!(ask("n1").unwrap_err(), TooMany(ORDERS_PER_NODE_MAX));
        let nodes = 2..=ORDERS_MAX / ORDERS_PER_NODE_MAX;
        let names: Vec<String> = nodes.map(|number| format!("n{number}")).collect();
        let all = names.iter().flat_map(|name| [name; ORDERS_PER_NODE_MAX]);
        let all: Vec<_> = all.map(|name| ask(name).unwrap()).collect();
        assert_eq!(ask("n99").unwrap_err(), TooMany(ORDERS_MAX));
        drop(all);
        assert!(ask("n99").is_ok());
        let distinct: std::collections::BTreeSet<u64> = ids(&traces, "n1").into_iter().collect();
        assert_eq!(distinct.len(), own.len());
    }
}
