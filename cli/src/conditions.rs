//! What the whole cluster waits for: nodes that have to report after a restore, and a janitor that
//! stopped.

use atoll_api::proto::{Kind, StatusResponse};
use atoll_api::{Client, ClientError};
use atoll_model::{Node, Object, Revision};
use serde_json::{Value, json};

/// Nodes that are named in a line.
const NAMED: usize = 5;

/// What somebody has to look after.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Conditions {
    reconciling: Option<Reconciling>,
    janitor_stopped: Option<String>,
}

#[derive(Debug, PartialEq, Eq)]
struct Reconciling {
    since: Revision,
    nodes: usize,
    /// Those that have not told, or not to the end, with what is in conflict.
    missing: Vec<(String, Vec<String>)>,
}

impl Conditions {
    /// Asks the leader; nothing if there is none, or if the caller may not read.
    ///
    /// # Errors
    ///
    /// As [`Client::read`].
    pub(crate) async fn ask(
        client: &Client,
        statuses: impl Iterator<Item = &StatusResponse>,
    ) -> Result<Option<Self>, ClientError> {
        if !statuses.into_iter().any(|status| status.role == "leader") {
            return Ok(None);
        }
        let read = match client.read(&[Kind::Reconciling, Kind::Janitor], None).await {
            Ok(read) => read.objects,
            Err(ClientError::Invalid(_)) => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut conditions = Self::default();
        for object in read {
            match object {
                Object::Janitor(it) => {
                    conditions.janitor_stopped = it.stopped.as_ref().map(ToString::to_string);
                }
                Object::Reconciling(it) => {
                    let nodes = client.read(&[Kind::Node], None).await?.objects;
                    conditions.reconciling = Some(Reconciling::new(it.since, &nodes));
                }
                _ => {}
            }
        }
        Ok(Some(conditions))
    }

    /// A line for each.
    pub(crate) fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        if let Some(it) = &self.reconciling {
            let names: Vec<&str> =
                it.missing.iter().take(NAMED).map(|(name, _)| name.as_str()).collect();
            let more = if it.missing.len() > NAMED { ", …" } else { "" };
            lines.push(format!(
                "reconciling since revision {}: {} of {} nodes have to report ({}{more}); start \
                 their agents, or `atollctl node waive NODE`",
                it.since,
                it.missing.len(),
                it.nodes,
                names.join(", ")
            ));
            let conflicts = it.missing.iter().flat_map(|(name, conflicts)| {
                conflicts.iter().map(move |conflict| format!("conflict on node {name}: {conflict}"))
            });
            lines.extend(conflicts);
        }
        if let Some(why) = &self.janitor_stopped {
            lines.push(format!("the janitor stopped: {why}; see `atollctl janitor status`"));
        }
        lines
    }

    /// As a document.
    pub(crate) fn as_value(&self) -> Value {
        let node = |(name, conflicts): &(String, Vec<String>)| json!({ "name": name, "conflicts": conflicts });
        json!({
            "reconciling": self.reconciling.as_ref().map(|it| json!({
                "since": it.since.0,
                "nodes": it.nodes,
                "missing": it.missing.iter().map(node).collect::<Vec<_>>(),
            })),
            "janitorStopped": self.janitor_stopped,
        })
    }
}

impl Reconciling {
    fn new(since: Revision, objects: &[Object]) -> Self {
        let nodes = objects.iter().filter_map(|object| match object {
            Object::Node(node) => Some(node.as_ref()),
            _ => None,
        });
        let missing = nodes.filter(|node| is_missing(node, since));
        let missing = missing.map(|node| (node.spec.name.to_string(), node.conflicts.clone()));
        Self { since, nodes: objects.len(), missing: missing.collect() }
    }
}

/// As the store counts (`atoll_store`'s index of who has not reported).
fn is_missing(node: &Node, since: Revision) -> bool {
    node.inventory_at.is_none_or(|at| at < since) || !node.conflicts.is_empty()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use atoll_model::{NodeName, NodeSpec, Uid};

    use super::*;

    fn node(name: &str, inventory_at: Option<u64>, conflicts: &[&str]) -> Object {
        Object::Node(Arc::new(Node {
            spec: NodeSpec {
                name: NodeName::new(name).unwrap(),
                uid: Uid::new(name).unwrap(),
                addresses: Vec::new(),
                labels: [].into(),
            },
            chassis: None,
            encap: None,
            node_epoch: 1,
            ready: true,
            fenced: false,
            drained: false,
            inventory_at: inventory_at.map(Revision),
            conflicts: conflicts.iter().map(|&it| it.to_owned()).collect(),
            created: Revision(1),
            changed: Revision(1),
        }))
    }

    #[test]
    fn who_has_to_report_and_what_is_in_conflict_is_said() {
        let nodes = [
            node("n1", None, &[]),
            node("n2", Some(7), &[]),
            node("n3", Some(9), &["both have it"]),
        ];
        let conditions = Conditions {
            reconciling: Some(Reconciling::new(Revision(8), &nodes)),
            janitor_stopped: Some("a list was old".to_owned()),
        };
        let lines = conditions.lines();
        assert!(lines[0].contains("revision 8: 3 of 3 nodes have to report (n1, n2, n3)"));
        assert_eq!(lines[1], "conflict on node n3: both have it");
        assert!(lines[2].contains("the janitor stopped: a list was old"));
        let told = [node("n1", Some(8), &[]), node("n2", None, &[])];
        let told = Reconciling::new(Revision(8), &told);
        assert_eq!((told.nodes, told.missing), (2, vec![("n2".to_owned(), vec![])]));
        assert!(Conditions::default().lines().is_empty());
    }
}
