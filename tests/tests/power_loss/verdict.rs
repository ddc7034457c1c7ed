//! What the disks say after the power is back, and what the members do.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use atoll_model::{MemberName, Object, Revision, Txn};
use atoll_raft::{InspectedLog, inspect_log};
use atoll_tests::bare::{self, BareMember};
use atoll_tests::wait::wait_until;
use tokio::task::JoinHandle;

use crate::disk::Room;
use crate::load::{Acknowledged, Shared, VERSION};

/// Something that must not be.
#[derive(Debug)]
pub(crate) struct Finding {
    pub(crate) kind: Kind,
    /// Where and what.
    what: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A member's log cannot be read.
    Unreadable,
    /// An acknowledged transaction that fewer disks hold than a quorum.
    NotOnAQuorum,
    /// A member led in a term of which no quorum knows.
    VoteForgotten,
    /// The members do not become a cluster again.
    DoesNotStart,
    /// An acknowledged transaction that the cluster does not know.
    Lost,
    /// Two members hold different things at one revision.
    StatesDiffer,
}

impl Finding {
    pub(crate) fn new(kind: Kind, what: impl Into<String>) -> Self {
        Self { kind, what: what.into() }
    }
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}: {}", self.kind, self.what)
    }
}

/// Notes in which terms members say that they lead.
pub(crate) struct Leaders {
    highest: Arc<AtomicU64>,
    watching: JoinHandle<()>,
}

impl Leaders {
    pub(crate) fn watch(members: &[BareMember]) -> Result<Self> {
        let client = bare::client(members, Duration::from_secs(1))?;
        let highest = Arc::new(AtomicU64::new(0));
        let noted = highest.clone();
        let watching = tokio::spawn(async move {
            loop {
                for (_, answer) in client.statuses().await {
                    if let Ok(answer) = answer
                        && answer.role == "leader"
                    {
                        noted.fetch_max(answer.term, Ordering::Relaxed);
                    }
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
        Ok(Self { highest, watching })
    }

    /// The highest of them; ends the watching.
    pub(crate) async fn highest(self) -> u64 {
        self.watching.abort();
        let _ = self.watching.await;
        self.highest.load(Ordering::Relaxed)
    }
}

/// Is every acknowledged transaction on the disks of a quorum, and every vote that made a leader?
pub(crate) fn of_disks(
    members: &[BareMember],
    room: &Room,
    acknowledged: &[Acknowledged],
    led: u64,
) -> Result<Vec<Finding>> {
    let quorum = members.len() / 2 + 1;
    let (mut logs, mut findings) = (Vec::new(), Vec::new());
    for member in members {
        match inspect_log(&room.seen(member.data_dir()), &MemberName::new(member.name())?) {
            Ok(log) => logs.push(log),
            Err(error) => {
                let error = anyhow::Error::new(error);
                findings.push(Finding::new(Kind::Unreadable, format!("{error:#}")));
            }
        }
    }
    if logs.iter().filter(|log| log.term >= led).count() < quorum {
        let terms: Vec<u64> = logs.iter().map(|log| log.term).collect();
        findings.push(Finding::new(
            Kind::VoteForgotten,
            format!("{led} had a leader; votes: {terms:?}"),
        ));
    }
    let indexed: Vec<_> = logs.iter().map(index).collect();
    for it in acknowledged {
        let holders = indexed.iter().filter(|(purged, entries)| {
            *purged >= Some(it.revision)
                || entries.get(&it.revision).is_some_and(|txn| txn.operations == [it.operation()])
        });
        let holders = holders.count();
        if holders < quorum {
            findings
                .push(Finding::new(Kind::NotOnAQuorum, format!("{it:?} is on {holders} disks")));
        }
    }
    Ok(findings)
}

fn index(log: &InspectedLog) -> (Option<Revision>, BTreeMap<Revision, &Txn>) {
    let entries = log.entries.iter().filter_map(|(at, txn)| Some((*at, txn.as_ref()?)));
    (log.purged, entries.collect())
}

/// Does the cluster know all that was ever acknowledged, and do all members hold the same?
pub(crate) async fn of_states(members: &[BareMember], ledger: &Shared) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    let read = bare::client(members, Duration::from_secs(10))?.read(&[], None).await?;
    let mut found = BTreeMap::new();
    for object in &read.objects {
        if let Object::Namespace(namespace) = object
            && let Some(version) = namespace.labels.get(VERSION)
        {
            found.insert(namespace.name.clone(), version.parse::<u64>()?);
        }
    }
    ledger.with(|it| {
        for (name, &least) in &it.least {
            let version = found.get(name).copied().unwrap_or(0);
            if version < least {
                let text = format!("{name}: {least} was acknowledged, {version} is there");
                findings.push(Finding::new(Kind::Lost, text));
            }
            // Sent once, whatever became of it: a new version must not be taken for it.
            let most = it.most.get(name).copied().unwrap_or(0);
            if version > most {
                findings
                    .push(Finding::new(Kind::Lost, format!("{name}: {version} was never sent")));
            }
        }
    });
    let same = wait_until(Duration::from_secs(20), "all members at one revision", async || {
        let mut states = Vec::new();
        for member in members {
            states.push(member.state().await?);
        }
        let revision = states.first().context("no members")?.0;
        ensure!(states.iter().all(|it| it.0 == revision), "they are at different revisions");
        Ok(states)
    });
    let states = match same.await {
        Ok(states) => states,
        Err(error) => {
            let lines = members.iter().map(|it| format!("; {}: {}", it.name(), it.last_line()));
            let what = format!("{error:#}{}", lines.collect::<String>());
            findings.push(Finding::new(Kind::DoesNotStart, what));
            return Ok(findings);
        }
    };
    let first = &states[0].1;
    for (member, (revision, objects)) in members.iter().zip(&states) {
        if objects != first {
            findings
                .push(Finding::new(Kind::StatesDiffer, format!("{} at {revision}", member.name())));
        }
    }
    Ok(findings)
}
