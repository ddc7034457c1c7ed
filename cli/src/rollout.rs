//! `atollctl ovn rollout`, and `--wait`: on which nodes rules are in force.

use std::io::Write as _;
use std::time::Duration;

use atoll_api::Client;
use atoll_api::proto::{Applied, NodeRollout, RolloutResponse};
use atoll_model::Revision;
use serde_json::{Value, json};

use crate::Failure;
use crate::arguments::{Format, Kind};
use crate::output::{document, rows};

/// Nodes that are named in a line.
const NAMED: usize = 5;

/// Shows where the rules of `revision` are installed, of the newest ones without it; after at most
/// `wait` seconds. It fails if somebody waits and it is not everywhere by then.
pub(crate) async fn run(
    client: &Client,
    revision: Option<u64>,
    wait: Option<u64>,
    format: Format,
) -> Result<(), Failure> {
    let listen = Duration::from_secs(wait.unwrap_or(0));
    let rollout = client.rollout(revision.map(Revision), listen).await?;
    match format {
        Format::Json | Format::Yaml => document(&as_value(&rollout), format)?,
        Format::Name => {
            let mut out = std::io::stdout().lock();
            let mut installed = rollout.nodes.iter().filter(|it| it.installed);
            installed.try_for_each(|it| writeln!(out, "node/{}", it.name))?;
        }
        Format::Table | Format::Wide => table(&rollout)?,
    }
    match wait {
        Some(seconds) => everywhere(&rollout, seconds),
        None => Ok(()),
    }
}

/// Waits until what was changed at `revision` is in force on all nodes, and says so.
pub(crate) async fn wait(
    client: &Client,
    revision: Revision,
    seconds: u64,
    format: Format,
) -> Result<(), Failure> {
    let rollout = client.rollout(Some(revision), Duration::from_secs(seconds)).await?;
    everywhere(&rollout, seconds)?;
    if matches!(format, Format::Table | Format::Wide) {
        writeln!(std::io::stdout(), "{}", summary(&rollout))?;
    }
    Ok(())
}

/// How far the object that was last changed at `revision` is: in the northbound database, and in force
/// on nodes; `None` if nobody says. What limits pods concerns the switch alone.
pub(crate) fn conditions(
    rollout: Option<&RolloutResponse>,
    revision: Revision,
    kind: Kind,
) -> [Value; 2] {
    let condition = |name: &str, holds: Option<bool>, message: String| {
        let status = holds.map_or("Unknown", |holds| if holds { "True" } else { "False" });
        json!({ "type": name, "status": status, "message": message })
    };
    let Some(rollout) = rollout else {
        let unknown = || "no leader says how far it is".to_owned();
        return ["Projected", "Installed"].map(|name| condition(name, None, unknown()));
    };
    let projected = match rollout.projected {
        Some(projected) => format!("the leader's northbound is as of revision {projected}"),
        None => "how far the leader's northbound is, is not known".to_owned(),
    };
    let itself = if kind == Kind::Qos { 0 } else { revision.0 };
    let needed = Applied { flows: revision.0, firewall: itself, connections: itself };
    let has = |node: &&NodeRollout| {
        !node.silent && node.applied.unwrap_or_default().lacks(&needed).is_none()
    };
    let (installed, all) = (rollout.nodes.iter().filter(has).count(), rollout.nodes.len());
    let is_projected = rollout.projected.map(|it| it >= revision.0);
    [
        condition("Projected", is_projected, projected),
        condition("Installed", Some(installed == all), format!("on {installed} of {all} nodes")),
    ]
}

fn summary(rollout: &RolloutResponse) -> String {
    let installed = rollout.nodes.iter().filter(|it| it.installed).count();
    let (all, revision) = (rollout.nodes.len(), rollout.revision);
    format!("rules of revision {revision}: installed on {installed} of {all} nodes")
}

fn everywhere(rollout: &RolloutResponse, seconds: u64) -> Result<(), Failure> {
    let missing: Vec<&NodeRollout> = rollout.nodes.iter().filter(|it| !it.installed).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let named = missing.iter().take(NAMED).map(|it| format!("{}: {}", it.name, it.missing));
    let named = named.collect::<Vec<_>>().join("; ");
    let more = if missing.len() > NAMED { "; …" } else { "" };
    let why = format!("{} after {seconds} s ({named}{more})", summary(rollout));
    Err(Failure::Failed(anyhow::Error::msg(why)))
}

fn table(rollout: &RolloutResponse) -> Result<(), Failure> {
    let titles =
        ["NODE", "INSTALLED", "FLOWS", "FIREWALL", "CONNECTIONS", "HEARD", "MISSING", "NO GATEWAY"];
    let row = |node: &NodeRollout| {
        let of = |what: fn(&Applied) -> u64| {
            node.applied.as_ref().map_or("-".to_owned(), |it| what(it).to_string())
        };
        vec![
            node.name.clone(),
            node.installed.to_string(),
            of(|it| it.flows),
            of(|it| it.firewall),
            of(|it| it.connections),
            node.heard_ms.map_or("-".to_owned(), |it| format!("{} ms ago", it)),
            node.missing.clone(),
            node.lost.clone(),
        ]
    };
    rows(titles.map(ToOwned::to_owned).to_vec(), rollout.nodes.iter().map(row).collect())?;
    let mut out = std::io::stdout().lock();
    for node in rollout.nodes.iter().filter(|node| !node.paused.is_empty()) {
        let NodeRollout { name, paused, .. } = node;
        writeln!(out, "{name}: paused since {paused}; `atoll-node resume` there ends it")?;
    }
    for node in rollout.nodes.iter().filter(|node| !node.drained.is_empty()) {
        writeln!(out, "{}: drained: {}", node.name, node.drained)?;
    }
    for node in rollout.nodes.iter().filter(|node| !node.braked.is_empty()) {
        writeln!(out, "{}: {}", node.name, node.braked)?;
    }
    writeln!(out, "{}", summary(rollout))?;
    Ok(())
}

fn as_value(rollout: &RolloutResponse) -> Value {
    let node = |node: &NodeRollout| {
        let applied = node.applied.unwrap_or_default();
        json!({
            "name": node.name,
            "installed": node.installed,
            "missing": (!node.installed).then_some(&node.missing),
            "silent": node.silent,
            "pausedSince": (!node.paused.is_empty()).then_some(&node.paused),
            "drained": (!node.drained.is_empty()).then_some(&node.drained),
            "braked": (!node.braked.is_empty()).then_some(&node.braked),
            "noGateway": (!node.lost.is_empty()).then_some(&node.lost),
            "heardMs": node.heard_ms,
            "flows": applied.flows,
            "firewall": applied.firewall,
            "connections": applied.connections,
        })
    };
    json!({
        "revision": rollout.revision,
        "projected": rollout.projected,
        "nodes": rollout.nodes.iter().map(node).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str, missing: &str) -> NodeRollout {
        let (name, missing) = (name.to_owned(), missing.to_owned());
        let installed = missing.is_empty();
        NodeRollout { name, installed, missing, ..NodeRollout::default() }
    }

    fn installed(rollout: &RolloutResponse, revision: u64, kind: Kind) -> Value {
        let [_, installed] = conditions(Some(rollout), Revision(revision), kind);
        json!([installed["status"], installed["message"]])
    }

    #[test]
    fn an_object_is_installed_where_what_concerns_it_is() {
        let applied = |flows, firewall| Applied { flows, firewall, connections: flows };
        let mut nodes = vec![node("n1", ""), node("n2", "behind"), node("n3", "silent")];
        for (node, applied) in nodes.iter_mut().zip([applied(9, 9), applied(9, 4), applied(9, 9)]) {
            node.applied = Some(applied);
        }
        nodes[2].silent = true;
        let mut rollout = RolloutResponse { revision: 9, nodes, projected: Some(8) };
        assert_eq!(installed(&rollout, 5, Kind::Subnets), json!(["False", "on 1 of 3 nodes"]));
        assert_eq!(installed(&rollout, 5, Kind::Qos), json!(["False", "on 2 of 3 nodes"]));
        rollout.nodes.pop();
        assert_eq!(installed(&rollout, 4, Kind::Subnets), json!(["True", "on 2 of 2 nodes"]));
        let projected = |revision| {
            conditions(Some(&rollout), Revision(revision), Kind::Subnets)[0]["status"].clone()
        };
        assert_eq!((projected(8), projected(9)), (json!("True"), json!("False")));
        let unknown = conditions(None, Revision(8), Kind::Subnets);
        assert!(unknown.iter().all(|it| it["status"] == "Unknown"));
    }

    #[test]
    fn who_waits_is_told_who_is_behind_and_why() {
        let nodes = vec![node("n1", ""), node("n2", "its packet filter is as of revision 4")];
        let mut rollout = RolloutResponse { revision: 9, nodes, projected: None };
        let Err(Failure::Failed(error)) = everywhere(&rollout, 10) else { panic!("all have it?") };
        assert_eq!(
            error.to_string(),
            "rules of revision 9: installed on 1 of 2 nodes after 10 s (n2: its packet filter is as of \
             revision 4)"
        );
        rollout.nodes.pop();
        assert!(everywhere(&rollout, 10).is_ok());
    }
}
