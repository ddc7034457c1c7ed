//! `atollctl history`: who held an address, and what became of an object.

use std::io::Write as _;
use std::net::IpAddr;

use atoll_api::{Client, Past};
use atoll_model::{ChangeSet, ObjectKey, Owner, Revision, SubnetName};
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::Failure;
use crate::arguments::Format;
use crate::key::{self, ObjectKind};
use crate::output::{document, rows};
use crate::{describe, moment};

/// What to look back at.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct Question {
    #[command(subcommand)]
    of: Option<Of>,
    /// An object of which kind.
    #[arg(value_enum, required = true)]
    kind: Option<ObjectKind>,
    /// Its name.
    name: Option<String>,
}

#[derive(Debug, Subcommand)]
enum Of {
    /// Who held an address, from when to when.
    #[command(after_help = "Example:\n  atollctl history address blue 10.1.0.5")]
    Address {
        /// The subnet.
        subnet: SubnetName,
        /// The address.
        address: IpAddr,
    },
}

pub(crate) async fn run(
    client: &Client,
    question: &Question,
    format: Format,
) -> Result<(), Failure> {
    match (&question.of, question.kind) {
        (Some(Of::Address { subnet, address }), _) => {
            holders(client, subnet, *address, format).await
        }
        (None, Some(kind)) => changes(client, &kind.key(question.name.as_deref())?, format).await,
        (None, None) => Err(Failure::Usage(anyhow::Error::msg("the history of what?"))),
    }
}

async fn holders(
    client: &Client,
    subnet: &SubnetName,
    address: IpAddr,
    format: Format,
) -> Result<(), Failure> {
    let (holders, floor) = client.ownership(subnet, address).await?;
    describe::note_floor(floor)?;
    if holders.is_empty() {
        let why = format!("nobody is known to have held {address} in subnet {subnet}");
        return Err(Failure::Refused(why));
    }
    match format {
        Format::Json | Format::Yaml => {
            document(&holders.iter().map(holder).collect::<Value>(), format)
        }
        Format::Name => {
            let mut out = std::io::stdout().lock();
            for past in &holders {
                let (kind, name, _) = owner(past);
                writeln!(out, "{kind}/{name}")?;
            }
            Ok(())
        }
        Format::Table | Format::Wide => {
            let header = ["OWNER", "FROM", "FROM-TIME", "UNTIL", "UNTIL-TIME", "UID"];
            let row = |past: &Past| {
                let (kind, name, uid) = owner(past);
                let (until, until_time) = match past.until {
                    Some((revision, time)) => (revision.to_string(), moment::text(time)),
                    None => ("now".to_owned(), "-".to_owned()),
                };
                let (from, from_time) = (past.from.0.to_string(), moment::text(past.from.1));
                vec![format!("{kind}/{name}"), from, from_time, until, until_time, uid]
            };
            rows(header.map(ToOwned::to_owned).to_vec(), holders.iter().map(row).collect())
        }
    }
}

/// Kind, name and uid.
fn owner(past: &Past) -> (&'static str, String, String) {
    match &past.owner {
        Owner::Pod(key, uid) => ("pod", key.to_string(), uid.to_string()),
        Owner::Node(node) => ("node", node.to_string(), "-".to_owned()),
    }
}

fn holder(past: &Past) -> Value {
    let (kind, name, uid) = owner(past);
    let at = |(revision, time): (Revision, Option<u64>)| json!({ "revision": revision.0, "time": time.map(|ms| moment::text(Some(ms))) });
    json!({
        "owner": { "kind": kind, "name": name, "uid": (kind == "pod").then_some(uid) },
        "from": at(past.from),
        "until": past.until.map(at),
    })
}

async fn changes(client: &Client, key: &ObjectKey, format: Format) -> Result<(), Failure> {
    let (sets, floor) = client.changes_of(key).await?;
    describe::note_floor(floor)?;
    if sets.is_empty() {
        let why = match client.read(&[], Some(key)).await?.objects.is_empty() {
            true => "it does not exist",
            false => "it has not changed since",
        };
        let why = format!("no change of {} is known; {why}", key::text(key));
        return Err(Failure::Refused(why));
    }
    match format {
        Format::Json | Format::Yaml => {
            document(&sets.iter().map(describe::set_document).collect::<Value>(), format)
        }
        Format::Name => {
            let mut out = std::io::stdout().lock();
            sets.iter().try_for_each(|set| writeln!(out, "revision/{}", set.revision))?;
            Ok(())
        }
        Format::Table | Format::Wide => {
            let header = ["REVISION", "TIME", "ACTOR", "CHANGE"].map(ToOwned::to_owned);
            rows(header.to_vec(), sets.iter().map(row).collect())
        }
    }
}

fn row(set: &ChangeSet) -> Vec<String> {
    let changes = set.changes.iter().map(describe::line);
    let changes: Vec<_> = changes.collect();
    vec![
        set.revision.to_string(),
        moment::text(Some(set.wall_ms)),
        set.actor.to_string(),
        changes.join("; "),
    ]
}
