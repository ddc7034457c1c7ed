//! `atollctl janitor`: whose lists of pods are believed.

use std::io::Write as _;

use atoll_api::Client;
use atoll_api::proto::Kind;
use atoll_model::{Object, Operation, Sighting, Uid};
use clap::Subcommand;
use serde_json::json;

use crate::Failure;
use crate::arguments::Format;
use crate::change::{carried_out, said};
use crate::output::{document, rows};

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Janitor {
    /// Shows whose lists are believed, and the pods that were absent from one.
    #[command(
        after_help = "Examples:\n  atollctl janitor status\n  atollctl janitor status -o json"
    )]
    Status,
    /// Believes the lists of this apiserver from now on; what was seen before does not count.
    #[command(after_help = "Example:\n  atollctl janitor resume \\\n    \
                            $(kubectl get namespace kube-system -o jsonpath={.metadata.uid})")]
    Resume {
        /// The uid of the apiserver's namespace `kube-system`.
        uid: Uid,
    },
}

pub(crate) async fn run(client: &Client, janitor: &Janitor, format: Format) -> Result<(), Failure> {
    match janitor {
        Janitor::Status => status(client, format).await,
        Janitor::Resume { uid } => {
            let resume = vec![Operation::ResumeJanitor { apiserver: uid.clone() }];
            carried_out(client.txn(Vec::new(), resume).await?)?;
            said("janitor", uid.as_str(), "resumed: its lists are believed", format)
        }
    }
}

async fn status(client: &Client, format: Format) -> Result<(), Failure> {
    let read = client.read(&[Kind::Janitor, Kind::Sighting], None).await?;
    let janitor = read.objects.iter().find_map(|object| match object {
        Object::Janitor(janitor) => Some(janitor),
        _ => None,
    });
    let sightings: Vec<&Sighting> = read
        .objects
        .iter()
        .filter_map(|object| match object {
            Object::Sighting(sighting) => Some(sighting.as_ref()),
            _ => None,
        })
        .collect();
    let stopped = janitor.and_then(|it| it.stopped.as_ref()).map(ToString::to_string);
    if matches!(format, Format::Json | Format::Yaml) {
        let sightings = sightings.iter().map(|it| {
            json!({
                "pod": it.key.to_string(),
                "uid": it.uid.as_str(),
                "node": it.node.as_str(),
                "since": it.since.0,
                "twice": it.twice,
                "unplugged": it.unplugged,
            })
        });
        let value = json!({
            "apiserver": janitor.map(|it| it.apiserver.to_string()),
            "resourceVersion": janitor.map(|it| it.resource_version),
            "stopped": stopped,
            "sightings": sightings.collect::<Vec<_>>(),
        });
        return document(&value, format);
    }
    let said = match (janitor, stopped) {
        (None, _) => "no list of pods has come yet".to_owned(),
        (Some(it), None) => {
            let version = it.resource_version;
            format!("believes apiserver {}, up to resource version {version}", it.apiserver)
        }
        (Some(it), Some(why)) => format!(
            "stopped: {why}, and apiserver {} was believed; make sure which one is right, then \
             `atollctl janitor resume UID`",
            it.apiserver
        ),
    };
    writeln!(std::io::stdout(), "{said}")?;
    if sightings.is_empty() {
        return Ok(());
    }
    let header = ["POD", "NODE", "ABSENT-SINCE", "TWICE", "UNPLUGGED"].map(ToOwned::to_owned);
    let row = |it: &&Sighting| {
        let (pod, node) = (it.key.to_string(), it.node.to_string());
        vec![pod, node, it.since.to_string(), it.twice.to_string(), it.unplugged.to_string()]
    };
    rows(header.to_vec(), sightings.iter().map(row).collect())
}
