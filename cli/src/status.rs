//! `atollctl status`.

use std::io::Write as _;

use atoll_api::proto::{CentralProcesses, ClusterServer, Projection, StatusResponse};
use atoll_api::{Client, Endpoint};
use serde_json::{Value, json};

use crate::Failure;
use crate::arguments::Format;
use crate::conditions::Conditions;
use crate::output::{document, rows};

pub(crate) async fn run(client: &Client, format: Format) -> Result<(), Failure> {
    let statuses = client.statuses().await;
    let known = || statuses.iter().filter_map(|(_, status)| status.as_ref().ok());
    let any = known().next().is_some();
    // What they wait for is worth less than what they are: without it the rest is still shown.
    let conditions = match Conditions::ask(client, known()).await {
        Ok(conditions) => conditions,
        Err(error) => {
            writeln!(
                std::io::stderr(),
                "atollctl: what the store waits for is not known: {error}"
            )?;
            None
        }
    };
    match format {
        Format::Json | Format::Yaml => {
            let mut value = as_value(&statuses);
            value["conditions"] = conditions.as_ref().map(Conditions::as_value).into();
            document(&value, format)?;
        }
        Format::Name => {
            let mut out = std::io::stdout().lock();
            for (_, status) in &statuses {
                if let Ok(status) = status {
                    writeln!(out, "member/{}", status.name)?;
                }
            }
        }
        Format::Table | Format::Wide => {
            table(&statuses, format == Format::Wide)?;
            let mut out = std::io::stdout().lock();
            let lines = conditions.iter().flat_map(Conditions::lines);
            lines.into_iter().try_for_each(|line| writeln!(out, "{line}"))?;
        }
    }
    match any {
        true => Ok(()),
        false => Err(Failure::Failed(anyhow::Error::msg("no member answers"))),
    }
}

type Asked = (Endpoint, Result<StatusResponse, String>);

fn table(statuses: &[Asked], wide: bool) -> Result<(), Failure> {
    let mut header =
        vec!["MEMBER", "PHASE", "ROLE", "TERM", "REVISION", "NB", "CENTRAL", "ENDPOINT"];
    if wide {
        header.push("ID");
    }
    let row = |(endpoint, status): &Asked| {
        let mut row = match status {
            Ok(status) => vec![
                status.name.clone(),
                status.phase.clone(),
                status.role.clone(),
                status.term.to_string(),
                status.revision.to_string(),
                projected(status),
                central(status),
                endpoint.to_string(),
            ],
            Err(_) => {
                let mut row = vec!["-".to_owned(); 7];
                row[1] = "unreachable".to_owned();
                row.push(endpoint.to_string());
                row
            }
        };
        if wide {
            row.push(status.as_ref().map_or("-".to_owned(), |it| format!("{:016x}", it.id)));
        }
        row
    };
    rows(header.into_iter().map(ToOwned::to_owned).collect(), statuses.iter().map(row).collect())?;
    let mut out = std::io::stdout().lock();
    for (endpoint, status) in statuses {
        match status {
            Ok(status) if !status.why.is_empty() => {
                writeln!(out, "{}: {}", status.name, status.why)?;
            }
            Ok(status) => {
                for error in [
                    status.projection.as_ref().map(|it| &it.error),
                    status.processes.as_ref().map(|it| &it.error),
                ] {
                    if let Some(error) = error.filter(|error| !error.is_empty()) {
                        writeln!(out, "{}: {error}", status.name)?;
                    }
                }
            }
            Err(why) => writeln!(out, "{endpoint}: {why}")?,
        }
    }
    Ok(())
}

/// The revision that the member's NB is equal to.
pub(crate) fn projected(status: &StatusResponse) -> String {
    let projection = status.projection.as_ref().filter(|it| !it.stands_by);
    projection.map_or("-".to_owned(), |it| it.revision.to_string())
}

/// What the member's ovn-central is doing, in one word.
pub(crate) fn central(status: &StatusResponse) -> String {
    let Some(it) = &status.processes else { return "-".to_owned() };
    let word = match it {
        it if it.mode == "cluster" => return in_cluster(it),
        it if it.mode == "external" && it.healthy => "external",
        it if it.mode == "external" => "unreachable",
        it if !it.healthy => "broken",
        it if it.active && it.serving => "serving",
        it if it.active => "starting",
        it if it.copying => "copy",
        _ => "standby",
    };
    word.to_owned()
}

/// What the member's servers are in their clusters.
fn in_cluster(it: &CentralProcesses) -> String {
    let server = |name: &str, server: Option<&ClusterServer>| {
        let word = match server {
            Some(it) if !it.connected => "down",
            Some(it) if it.leads => "leads",
            Some(_) => "follows",
            None => "none",
        };
        format!("{name} {word}")
    };
    format!("{}, {}", server("nb", it.nb_server.as_ref()), server("sb", it.sb_server.as_ref()))
}

fn server_value(it: &ClusterServer) -> Value {
    json!({
        "address": it.address,
        "server": it.sid,
        "cluster": it.cluster,
        "leads": it.leads,
        "connected": it.connected,
        "servers": it.servers,
    })
}

pub(crate) fn projection_value(it: &Projection) -> Value {
    json!({
        "revision": it.revision,
        "passes": it.passes,
        "transactions": it.transactions,
        "sent": it.sent,
        "micros": it.micros,
        "conflicts": it.conflicts,
        "paused": it.paused,
        "stopped": it.stopped,
        "standsBy": it.stands_by,
        "error": it.error,
    })
}

pub(crate) fn central_value(it: &CentralProcesses) -> Value {
    json!({
        "mode": it.mode,
        "active": it.active,
        "serving": it.serving,
        "copying": it.copying,
        "nb": it.nb,
        "sb": it.sb,
        "northd": it.northd,
        "healthy": it.healthy,
        "error": it.error,
        "nbServer": it.nb_server.as_ref().map(server_value),
        "sbServer": it.sb_server.as_ref().map(server_value),
        "foreign": { "rows": it.foreign_rows, "equal": it.foreign_equal, "error": it.foreign_error },
    })
}

fn as_value(statuses: &[Asked]) -> Value {
    let members = statuses.iter().map(|(endpoint, status)| match status {
        Ok(status) => json!({
            "endpoint": endpoint.to_string(),
            "id": format!("{:016x}", status.id),
            "name": status.name,
            "phase": status.phase,
            "why": status.why,
            "cluster": status.cluster,
            "role": status.role,
            "term": status.term,
            "leader": status.leader.map(|leader| format!("{leader:016x}")),
            "revision": status.revision,
            "applied": status.applied,
            "lastLog": status.last_log,
            "version": status.version,
            "members": status.members.iter().map(|member| json!({
                "id": format!("{:016x}", member.id),
                "name": member.name,
                "address": member.address,
                "voter": member.voter,
                "heardMs": member.heard_ms,
            })).collect::<Vec<_>>(),
            "projection": status.projection.as_ref().map(projection_value),
            "central": status.processes.as_ref().map(central_value),
        }),
        Err(why) => json!({ "endpoint": endpoint.to_string(), "unreachable": why }),
    });
    let newest = statuses
        .iter()
        .filter_map(|(_, status)| status.as_ref().ok())
        .max_by_key(|status| (status.term, status.revision));
    let central = newest.and_then(|status| status.central.as_ref()).map(|central| {
        json!({
            "member": central.name,
            "since": central.since,
            "nb": central.nb,
            "sb": central.sb,
        })
    });
    json!({
        "cluster": newest.and_then(|status| status.cluster.clone()),
        "members": members.collect::<Vec<_>>(),
        "central": central,
    })
}
