//! `atollctl watch`: what happens, as it happens.

use std::io::{ErrorKind, Write as _};

use atoll_api::{Client, WatchEvent};
use atoll_model::{Change, ChangeSet, NodeName, Object, ObjectKey, Revision};
use clap::Args;
use serde_json::{Value, json};
use tokio::time::{Instant, timeout_at};

use crate::Failure;
use crate::arguments::Format;
use crate::key::{self, ObjectKind};
use crate::{describe, moment};

/// What to watch.
#[derive(Debug, Args)]
pub(crate) struct Watch {
    /// Only objects of these kinds.
    #[arg(value_enum)]
    kinds: Vec<ObjectKind>,
    /// Only what this node's agent is told.
    #[arg(long)]
    node: Option<NodeName>,
    /// Begin with what came after this revision, instead of the present state.
    #[arg(long, value_name = "REVISION")]
    from: Option<u64>,
}

pub(crate) async fn run(
    client: Client,
    asked: &Watch,
    timeout: std::time::Duration,
    format: Format,
) -> Result<(), Failure> {
    let after = match asked.from {
        Some(revision) => Some(position(&client, revision).await?),
        None => None,
    };
    let client = match &asked.node {
        Some(node) => client.for_node(node.clone()),
        None => client,
    };
    let follow = follow(client, asked, after, Instant::now() + timeout, format);
    let ended = tokio::select! {
        ended = follow => ended,
        interrupted = tokio::signal::ctrl_c() => interrupted.map_err(Failure::from),
    };
    match ended {
        // Whoever read along has seen enough (`atollctl watch | head`).
        Err(Failure::Failed(error)) if is_broken_pipe(&error) => Ok(()),
        ended => ended,
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<std::io::Error>().is_some_and(|it| it.kind() == ErrorKind::BrokenPipe)
}

/// Where to resume: a revision means something in one cluster only.
async fn position(client: &Client, from: u64) -> Result<(String, Revision), Failure> {
    let statuses = client.statuses().await;
    let known = statuses.iter().filter_map(|(_, status)| status.as_ref().ok());
    let newest = known.max_by_key(|status| status.applied);
    let Some((cluster, newest)) = newest.and_then(|it| Some((it.cluster.clone()?, it.applied)))
    else {
        return Err(Failure::Failed(anyhow::Error::msg("no member answers")));
    };
    if from > newest {
        let why = format!("revision {from} is not there yet; the newest is {newest}");
        return Err(Failure::Usage(anyhow::Error::msg(why)));
    }
    // Zero would be "no position": before the first entry nothing was.
    Ok((cluster, Revision(from.max(1))))
}

async fn follow(
    client: Client,
    asked: &Watch,
    after: Option<(String, Revision)>,
    deadline: Instant,
    format: Format,
) -> Result<(), Failure> {
    let resumes = after.is_some();
    let mut watch = client.watch(after);
    let mut last = "no answer".to_owned();
    // Until something came, silence is a failure; after that the watch waits for as long as it takes.
    let mut event = loop {
        match timeout_at(deadline, watch.next()).await {
            Ok(WatchEvent::Interrupted(why)) => last = why,
            Ok(event) => break event,
            Err(_) => return Err(Failure::Failed(anyhow::anyhow!("nothing to watch: {last}"))),
        }
    };
    let mut is_first = !resumes;
    loop {
        match &event {
            WatchEvent::Resync(lineage, objects) => {
                let wanted = objects.iter().filter(|it| wanted(asked, &it.key()));
                let wanted: Vec<&Object> = wanted.collect();
                show_resync(lineage.revision, &wanted, is_first, format)?;
            }
            WatchEvent::Changes(set) => show(asked, set, format)?,
            WatchEvent::Bookmark(_) => {}
            WatchEvent::Interrupted(why) => {
                writeln!(std::io::stderr(), "atollctl: interrupted: {why}; trying again")?;
            }
        }
        is_first &= !matches!(event, WatchEvent::Resync(..));
        event = watch.next().await;
    }
}

fn wanted(asked: &Watch, key: &ObjectKey) -> bool {
    asked.kinds.is_empty() || asked.kinds.contains(&ObjectKind::of(key))
}

/// The state that what follows builds on; it takes the place of everything shown before.
fn show_resync(
    revision: Revision,
    objects: &[&Object],
    is_first: bool,
    format: Format,
) -> Result<(), Failure> {
    let described = |object: &&Object| {
        let key = object.key();
        let kind = ObjectKind::of(&key).word();
        json!({ "kind": kind, "name": key::name(&key), "object": describe::fields(object) })
    };
    match format {
        Format::Json | Format::Yaml => {
            let objects: Value = objects.iter().map(described).collect();
            document(&json!({ "resync": revision.0, "objects": objects }), format)
        }
        _ => {
            let note = match is_first {
                true => "",
                false => "; changes before it are not known any more, look at the state",
            };
            let count = objects.len();
            writeln!(
                std::io::stderr(),
                "atollctl: resync at revision {revision}: {count} objects{note}"
            )?;
            Ok(())
        }
    }
}

fn show(asked: &Watch, set: &ChangeSet, format: Format) -> Result<(), Failure> {
    let changes = set.changes.iter().filter(|change| wanted(asked, &change.key));
    let changes: Vec<Change> = changes.cloned().collect();
    if changes.is_empty() {
        return Ok(());
    }
    let set = ChangeSet { changes, ..set.clone() };
    let mut out = std::io::stdout().lock();
    match format {
        Format::Json | Format::Yaml => {
            drop(out);
            return document(&describe::set_document(&set), format);
        }
        Format::Name => {
            for change in &set.changes {
                let key = &change.key;
                writeln!(out, "{}/{}", ObjectKind::of(key).word(), key::name(key))?;
            }
        }
        Format::Table | Format::Wide => {
            let (time, actor) = (moment::text(Some(set.wall_ms)), &set.actor);
            for change in &set.changes {
                writeln!(out, "{} {time} {actor} {}", set.revision, describe::line(change))?;
            }
        }
    }
    out.flush()?;
    Ok(())
}

/// One line of JSON, or one document of YAML.
fn document(value: &Value, format: Format) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    match format {
        Format::Yaml => {
            let text = serde_yaml_ng::to_string(value).map_err(|it| Failure::Failed(it.into()))?;
            write!(out, "---\n{text}")?;
        }
        _ => writeln!(out, "{value}")?,
    }
    out.flush()?;
    Ok(())
}
