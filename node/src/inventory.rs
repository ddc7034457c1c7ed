//! The node's word on what is plugged in, for when the store does not know.
//!
//! It is asked for by what the store says: a pod of this node that an apiserver's list does not hold
//! ([`Sighting`]), or a store that was restored and takes in what nodes have
//! ([`Reconciling`](atoll_model::Reconciling)). Then everything that has a record ([`Attached`]) is
//! told, with the revision that this agent had seen before it looked. Nothing is told that is not
//! whole: a port on the bridge that nobody knows more of would look as if it were not there.
//!
//! It is also told once at the start of an agent and after each registration, which makes up for what
//! an earlier life could not report. The same word is told once, and again when a pod came or went; while it is in conflict with what
//! another node has, it is told again and again, because that may change.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use atoll_api::Client;
use atoll_model::{
    Inventory, LivePod, Node, NodeName, Operation, Outcome, PodKey, Revision, Sandbox, Sighting,
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::attached::{Attached, live_port, told};
use crate::grievance::Grievance;
use crate::metrics::Meter;
use crate::ovs::port::Plugged;
use crate::ovs::{Ovs, port};
use crate::view::View;

/// How long a look waits for Open vSwitch's database.
const OVS: Duration = Duration::from_secs(5);

/// How long until an inventory that was not taken in whole, or not at all, is told again.
const AGAIN: Duration = Duration::from_secs(2);

/// What an inventory was told for; another one needs another reason.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Told {
    asked_at: Revision,
    node_epoch: u64,
    sandboxes: BTreeSet<Sandbox>,
}

/// Whoever answers, and what from.
#[derive(Debug)]
pub struct Teller {
    /// This node.
    pub node: NodeName,
    /// The store.
    pub client: Client,
    /// Open vSwitch.
    pub ovs: Ovs,
    /// What is plugged in.
    pub records: Attached,
    /// Where answers are counted.
    pub meter: Meter,
}

/// Answers until `cancel`.
pub async fn keep(teller: Teller, mut views: watch::Receiver<View>, cancel: CancellationToken) {
    // A store that is away for an hour is no news every two seconds.
    let (mut told, mut grievance) = (None, Grievance::of("inventory", &teller.meter));
    loop {
        let view = views.borrow_and_update().clone();
        let mut pause = None;
        if let Some(question) = question(&view, &teller.node, told.as_ref()) {
            pause = question.is_open.then_some(AGAIN);
            match teller.answer(&question, &view, &mut told).await {
                Ok(()) => grievance.clear(),
                Err(error) => {
                    grievance.tell("the inventory was not told; it is tried again", &error);
                    pause = Some(AGAIN);
                }
            }
        }
        tokio::select! {
            changed = views.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(pause.unwrap_or(Duration::MAX)), if pause.is_some() => {}
            () = cancel.cancelled() => return,
        }
    }
}

/// What the store wants to know.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Question {
    /// Since when.
    asked_at: Revision,
    node_epoch: u64,
    /// The store reconciles, and this node's word is missing or in conflict.
    is_open: bool,
}

fn question(view: &View, name: &NodeName, told: Option<&Told>) -> Option<Question> {
    let node: &Node = view.node(name)?;
    let node_epoch = node.node_epoch;
    if node.fenced || node.chassis.is_none() {
        // Its agent has to register first.
        return None;
    }
    if let Some(reconciling) = view.reconciling() {
        let missing = node.inventory_at.is_none_or(|at| at < reconciling.since);
        if missing || !node.conflicts.is_empty() {
            return Some(Question { asked_at: reconciling.since, node_epoch, is_open: true });
        }
    }
    let open = |it: &&Arc<Sighting>| !it.unplugged && it.node == *name;
    let asked_at = view.sightings().filter(open).map(|sighting| sighting.since).max();
    // Once in each life, asked or not: it makes up for reports that an earlier one lost.
    let is_new = told.is_none_or(|told| told.node_epoch != node_epoch);
    let asked_at = asked_at.or(is_new.then_some(Revision(0)))?;
    Some(Question { asked_at, node_epoch, is_open: false })
}

impl Teller {
    async fn answer(
        &self,
        question: &Question,
        view: &View,
        told: &mut Option<Told>,
    ) -> anyhow::Result<()> {
        let Some(lineage) = view.lineage() else { return Ok(()) };
        let session = self.ovs.session(OVS).await;
        let session = session.context("Open vSwitch's database does not answer")?;
        let on_bridge = port::all_plugged(&session.monitor.replica());
        let pods = whole(self.records.all()?, &on_bridge, view)?;
        let Question { asked_at, node_epoch, is_open } = *question;
        let sandboxes = pods.iter().map(|pod| pod.sandbox.clone()).collect();
        let now = Told { asked_at, node_epoch, sandboxes };
        if !is_open && told.as_ref() == Some(&now) {
            return Ok(());
        }
        let (count, seen) = (pods.len(), lineage.revision);
        let inventory = Inventory { node: self.node.clone(), node_epoch, seen, pods };
        let outcome = self.client.txn(Vec::new(), vec![Operation::Inventory(inventory)]).await?;
        match outcome {
            Outcome::Applied { .. } => {
                tracing::info!(pods = count, %seen, "told the store what is plugged in");
                *told = Some(now);
                Ok(())
            }
            Outcome::Refused { refusal, .. } => Err(refusal.into()),
        }
    }
}

/// All that is plugged in: what has a record, and what is on the bridge without one, if the store
/// still knows the rest.
fn whole(
    mut records: Vec<LivePod>,
    on_bridge: &[Plugged],
    view: &View,
) -> anyhow::Result<Vec<LivePod>> {
    for plugged in on_bridge {
        if records.iter().any(|record| record.sandbox.as_str() == plugged.sandbox) {
            continue;
        }
        let Plugged { namespace, name, uid, sandbox, interface, .. } = plugged;
        let known = PodKey::parse(&format!("{namespace}/{name}")).ok();
        let known = known.and_then(|key| view.pod(&key).filter(|pod| pod.spec.uid.as_str() == uid));
        let allocations = known.map(|pod| view.allocations_of(pod)).unwrap_or_default();
        let Some(pod) = known.filter(|_| !allocations.is_empty()) else {
            bail!(
                "pod {namespace}/{name} (uid {uid}) is plugged in with {interface}, and neither \
                 this node nor the store knows what it has; delete the pod, or waive this node"
            );
        };
        records.push(LivePod {
            spec: told(&pod.spec),
            sandbox: Sandbox::new(sandbox)?,
            ports: allocations.iter().map(|it| live_port(it)).collect(),
        });
    }
    Ok(records)
}

#[cfg(test)]
mod tests {
    use atoll_model::{ClusterId, Lineage, Object, Reconciling};

    use super::*;
    use crate::view::samples::{allocation, node, pod};

    fn view(objects: Vec<Object>) -> View {
        View::restored(Lineage::new(ClusterId(1), Revision(9)), objects)
    }

    fn sighting(unplugged: bool, since: u64) -> Object {
        Object::Sighting(Arc::new(Sighting {
            uid: format!("u{since}").parse().unwrap(),
            key: PodKey::parse("a/p").unwrap(),
            node: "n1".parse().unwrap(),
            since: Revision(since),
            since_ms: 0,
            twice: false,
            unplugged,
            changed: Revision(since),
        }))
    }

    fn asked(objects: Vec<Object>) -> Option<(u64, bool)> {
        let sandboxes = BTreeSet::new();
        let told = Told { asked_at: Revision(0), node_epoch: 1, sandboxes };
        let question = question(&view(objects), &"n1".parse().unwrap(), Some(&told))?;
        Some((question.asked_at.0, question.is_open))
    }

    #[test]
    fn each_life_of_an_agent_tells_once_unasked_when_it_is_registered() {
        let ask = |node: Node, told: Option<&Told>| {
            question(&view(vec![Object::Node(Arc::new(node))]), &"n1".parse().unwrap(), told)
        };
        let told = Told { asked_at: Revision(0), node_epoch: 1, sandboxes: BTreeSet::new() };
        assert!(ask(node("n1"), None).is_some_and(|it| !it.is_open));
        assert_eq!(ask(node("n1"), Some(&told)), None);
        assert!(ask(Node { node_epoch: 2, ..node("n1") }, Some(&told)).is_some());
        assert_eq!(ask(Node { chassis: None, ..node("n1") }, None), None);
    }

    #[test]
    fn nothing_is_told_unless_it_is_asked_for() {
        let me = || Object::Node(Arc::new(node("n1")));
        assert_eq!(asked(vec![me()]), None);
        assert_eq!(asked(vec![sighting(false, 4)]), None, "the store does not know this node");
        assert_eq!(asked(vec![me(), sighting(false, 4), sighting(false, 7)]), Some((7, false)));
        assert_eq!(asked(vec![me(), sighting(true, 4)]), None, "that is known");
        let fenced = Node { fenced: true, ..node("n1") };
        assert_eq!(asked(vec![Object::Node(Arc::new(fenced)), sighting(false, 4)]), None);
    }

    #[test]
    fn a_restored_store_asks_until_the_word_is_taken_in() {
        let reconciling = || Object::Reconciling(Arc::new(Reconciling { since: Revision(5) }));
        let ask = |inventory_at: Option<u64>, conflicts: &[&str]| {
            let inventory_at = inventory_at.map(Revision);
            let conflicts = conflicts.iter().map(|text| (*text).to_owned()).collect();
            let node = Node { inventory_at, conflicts, ..node("n1") };
            asked(vec![Object::Node(Arc::new(node)), reconciling()])
        };
        assert_eq!(ask(None, &[]), Some((5, true)));
        assert_eq!(ask(Some(4), &[]), Some((5, true)));
        assert_eq!(ask(Some(6), &["both have it"]), Some((5, true)));
        assert_eq!(ask(Some(6), &[]), None);
    }

    #[test]
    fn what_has_no_record_is_told_as_the_store_knows_it_or_nothing_is_told() {
        let plugged = |uid: &str, sandbox: &str| Plugged {
            interface: "h1".into(),
            uid: uid.into(),
            ..port::samples::plugged(sandbox)
        };
        let record = LivePod {
            spec: pod("a/q", "u2").spec,
            sandbox: "s2".parse().unwrap(),
            ports: Vec::new(),
        };
        let has = allocation("a/p", "u1", 2);
        let known = view(vec![
            Object::Pod(Arc::new(pod("a/p", "u1"))),
            Object::Allocation(Arc::new(has.clone())),
        ]);
        let all = whole(vec![record.clone()], &[plugged("u2", "s2"), plugged("u1", "s1")], &known);
        let all = all.unwrap();
        assert_eq!((all.len(), &all[0]), (2, &record));
        assert_eq!((all[1].sandbox.as_str(), &all[1].ports), ("s1", &vec![live_port(&has)]));
        let error = whole(vec![], &[plugged("u9", "s9")], &known).unwrap_err().to_string();
        assert!(error.contains("pod a/p (uid u9) is plugged in with h1"), "{error}");
    }
}
