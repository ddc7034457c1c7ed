//! What only a southbound database knows, kept for one that is made anew.
//!
//! northd fills a new southbound from the northbound one, but with other identities of datapaths and
//! bindings, and without nodes: `ovn-controller` would take down its tunnels and remote flows, and
//! make them again. So these rows are remembered while a southbound is complete, also beside the
//! databases on the disk, and put into an empty one before northd starts: northd adopts them, and the
//! nodes find what they had.
//!
//! Nothing here is needed for a right network: northd and the nodes correct what is out of date.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use atoll_ovsdb::{
    CallError, Client, DatabaseSchema, Monitor, MonitorError, MonitoredTable, Operation,
    OperationResult, Replica, Row, TransactError,
};
use tokio::sync::oneshot;
use tokio::time::Instant;
use uuid::Uuid;

use super::server::SOUTHBOUND;

/// Tables and columns, those first that others refer to. What northd computes from the northbound alone
/// is left out where it may be, and so are counters that nodes raise.
const TABLES: [(&str, &[&str]); 7] = [
    ("Encap", &["type", "options", "ip", "chassis_name"]),
    (
        "Chassis",
        &[
            "name",
            "hostname",
            "encaps",
            "vtep_logical_switches",
            "external_ids",
            "other_config",
            "transport_zones",
        ],
    ),
    ("Chassis_Private", &["name", "chassis", "external_ids"]),
    ("Datapath_Binding", &["tunnel_key", "external_ids"]),
    (
        "Port_Binding",
        &[
            "logical_port",
            "type",
            "datapath",
            "tunnel_key",
            "parent_port",
            "tag",
            "options",
            "external_ids",
            "mac",
            "nat_addresses",
            "chassis",
            "encap",
            "requested_chassis",
            "up",
        ],
    ),
    ("MAC_Binding", &["logical_port", "ip", "mac", "timestamp", "datapath"]),
    ("FDB", &["mac", "dp_key", "port_key"]),
];

/// Without this row northd has never been there.
const FIRST: &str = "SB_Global";

/// A southbound without datapaths is one that has lost them.
const HEART: &str = "Datapath_Binding";

/// Between writes of the file: nodes write into the southbound with each pod.
const WRITE_EVERY: Duration = Duration::from_secs(5);

/// For the first contents, and between tries.
const CONTENTS: Duration = Duration::from_secs(60);
const FOLLOW_AGAIN: Duration = Duration::from_secs(10);

/// Table → UUID → row.
type Tables = BTreeMap<String, BTreeMap<Uuid, Row>>;

/// Why the rows are not kept, or not put back.
#[derive(Debug, thiserror::Error)]
pub(super) enum RuntimeError {
    #[error("the southbound does not tell its schema")]
    Schema(#[from] CallError),
    #[error("the southbound cannot be observed")]
    Monitor(#[from] MonitorError),
    #[error("what the nodes had cannot be put into the new southbound; they will set up anew")]
    Seed(#[from] TransactError),
    #[error("cannot write {}", path.display())]
    Write {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

#[derive(Debug)]
pub(super) struct Runtime {
    file: PathBuf,
    rows: Tables,
    monitor: Option<Monitor>,
    /// A monitor on its way: a large southbound that all nodes have just come to takes its time, and
    /// the supervisor has other things to do.
    coming: Option<oneshot::Receiver<Result<Monitor, RuntimeError>>>,
    follow_after: Instant,
    /// Something was written since they were taken in.
    is_behind: bool,
    write_after: Instant,
}

impl Runtime {
    /// What an earlier process kept in `file`.
    pub(super) fn open(file: PathBuf) -> Self {
        let rows = read(&file).unwrap_or_else(|error| {
            tracing::warn!(path = %file.display(), %error, "what nodes had is not known any more");
            Tables::new()
        });
        let now = Instant::now();
        Self {
            file,
            rows,
            monitor: None,
            coming: None,
            follow_after: now,
            is_behind: false,
            write_after: now,
        }
    }

    /// Follows a southbound that is complete. Idempotent.
    pub(super) fn follow(&mut self, southbound: &Client) -> Result<(), RuntimeError> {
        self.welcome()?;
        let is_due = self.monitor.is_none() && self.coming.is_none();
        if is_due && Instant::now() >= self.follow_after {
            self.follow_after = Instant::now() + FOLLOW_AGAIN;
            let southbound = southbound.with_call_timeout(CONTENTS);
            let (mut sender, coming) = oneshot::channel();
            tokio::spawn(async move {
                tokio::select! {
                    came = monitor(&southbound) => {
                        // Nobody may want it any more.
                        let _ = sender.send(came);
                    }
                    () = sender.closed() => {}
                }
            });
            self.coming = Some(coming);
        }
        Ok(())
    }

    /// Takes the monitor if it has come.
    fn welcome(&mut self) -> Result<(), RuntimeError> {
        let Some(coming) = &mut self.coming else { return Ok(()) };
        let came = match coming.try_recv() {
            Err(oneshot::error::TryRecvError::Empty) => return Ok(()),
            came => came,
        };
        self.coming = None;
        // A sender that is gone has panicked, which is told by itself.
        let Ok(came) = came else { return Ok(()) };
        (self.monitor, self.is_behind) = (Some(came?), true);
        Ok(())
    }

    /// The southbound that was followed is gone, or is about to become another.
    pub(super) fn leave(&mut self) {
        // An error says that there is nothing to take in.
        let _ = self.welcome();
        self.take_in();
        (self.monitor, self.coming) = (None, None);
        self.follow_after = Instant::now();
    }

    /// Writes what has changed, once in a while.
    pub(super) async fn keep(&mut self) -> Result<(), RuntimeError> {
        if Instant::now() < self.write_after {
            return Ok(());
        }
        self.write_after = Instant::now() + WRITE_EVERY;
        let Some(monitor) = &mut self.monitor else { return Ok(()) };
        // Lost with the connection or not: only news are work.
        self.is_behind |= tokio::time::timeout(Duration::ZERO, monitor.changed()).await.is_ok();
        if !std::mem::take(&mut self.is_behind) || !self.take_in() {
            return Ok(());
        }
        let (path, rows) = (self.file.clone(), self.rows.clone());
        // Tens of megabytes in a large network.
        let written = tokio::task::spawn_blocking(move || write(&path, &rows)).await;
        let written = written.map_err(io::Error::other).flatten();
        written.map_err(|source| RuntimeError::Write { path: self.file.clone(), source })
    }

    /// Puts the rows into a southbound that northd has never met. Its identities are as they were.
    pub(super) async fn seed(&mut self, southbound: &Client) -> Result<(), RuntimeError> {
        let first = Operation::select(FIRST, Vec::new(), ["_uuid"]);
        let found = southbound.transact(SOUTHBOUND.database, &[first]).await?;
        let is_new = matches!(&found[..], [OperationResult::Rows(rows)] if rows.is_empty());
        let inserts = inserts(&self.rows);
        if !is_new || inserts.is_empty() {
            return Ok(());
        }
        tracing::info!(rows = inserts.len(), "a new southbound gets what nodes had");
        let done = southbound.transact(SOUTHBOUND.database, &inserts).await;
        if let Err(TransactError::Refused { .. }) = &done {
            // Nor would it be taken the next time.
            self.rows.clear();
        }
        done?;
        Ok(())
    }

    /// Reads the replica; false if there is nothing new, or nothing whole.
    fn take_in(&mut self) -> bool {
        let Some(monitor) = &self.monitor else { return false };
        let rows = rows(&monitor.replica());
        let is_news = rows.contains_key(HEART) && rows != self.rows;
        if is_news {
            self.rows = rows;
        }
        is_news
    }
}

async fn monitor(southbound: &Client) -> Result<Monitor, RuntimeError> {
    let schema = southbound.get_schema(SOUTHBOUND.database).await?;
    Ok(southbound.monitor(SOUTHBOUND.database, &monitored(&schema)).await?)
}

fn monitored(schema: &DatabaseSchema) -> Vec<MonitoredTable> {
    let table = |(name, columns): (&str, &[&str])| {
        let known = &schema.tables.get(name)?.columns;
        let columns = columns.iter().copied().filter(|column| known.contains_key(*column));
        Some(MonitoredTable::new(name, columns))
    };
    TABLES.into_iter().filter_map(table).collect()
}

fn rows(replica: &Replica) -> Tables {
    let table = |(name, _): (&str, _)| {
        let rows: BTreeMap<Uuid, Row> =
            replica.rows(name).map(|(uuid, row)| (uuid, row.clone())).collect();
        (!rows.is_empty()).then(|| (name.to_owned(), rows))
    };
    TABLES.into_iter().filter_map(table).collect()
}

fn inserts(rows: &Tables) -> Vec<Operation> {
    let tables = TABLES.iter().filter_map(|(name, _)| Some((*name, rows.get(*name)?)));
    let insert = |(name, rows): (&'static str, &BTreeMap<Uuid, Row>)| {
        let inserts = rows.iter().map(|(uuid, row)| Operation::insert_as(name, *uuid, row.clone()));
        inserts.collect::<Vec<_>>()
    };
    tables.flat_map(insert).collect()
}

fn read(file: &Path) -> io::Result<Tables> {
    match std::fs::read(file) {
        Ok(bytes) => Ok(serde_json::from_slice(&bytes)?),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Tables::new()),
        Err(error) => Err(error),
    }
}

fn write(file: &Path, rows: &Tables) -> io::Result<()> {
    let mut next = file.to_path_buf().into_os_string();
    next.push(".next");
    std::fs::write(&next, serde_json::to_vec(rows)?)?;
    std::fs::rename(next, file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back_and_damage_is_no_reason_to_stop() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("southbound.json");
        assert_eq!(read(&file).unwrap(), Tables::new());
        let row = Row::from([("tunnel_key".to_owned(), 7_i64.into())]);
        let rows = Tables::from([(HEART.to_owned(), [(Uuid::from_u128(1), row.clone())].into())]);
        write(&file, &rows).unwrap();
        let runtime = Runtime::open(file.clone());
        assert_eq!(runtime.rows, rows);
        assert_eq!(inserts(&rows), [Operation::insert_as(HEART, Uuid::from_u128(1), row)]);
        std::fs::write(&file, "{\"Encap\":").unwrap();
        assert_eq!(Runtime::open(file).rows, Tables::new());
    }
}
