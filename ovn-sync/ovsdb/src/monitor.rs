//! Live replicas of tables.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::sync::watch;
use uuid::Uuid;

use crate::condition::Condition;
use crate::error::{CallError, ConnectionLost, Interrupted, MonitorError};
use crate::replica::{Layout, Replica};
use crate::request::{Handle, Waiting};
use crate::schema::DatabaseSchema;

/// Which columns of which rows of a table to monitor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MonitoredTable {
    /// The table.
    pub table: String,
    /// The columns, without `_uuid`, which is every row's key.
    pub columns: Vec<String>,
    /// Rows for which *any* of these holds; if there are none, every row.
    ///
    /// (An [`Operation`](crate::Operation)'s conditions must *all* hold: the server has it so.)
    pub filter: Vec<Condition>,
}

impl MonitoredTable {
    /// The given columns of every row of `table`.
    pub fn new<C: Into<String>>(
        table: impl Into<String>,
        columns: impl IntoIterator<Item = C>,
    ) -> Self {
        let columns = columns.into_iter().map(Into::into).collect();
        Self { table: table.into(), columns, filter: Vec::new() }
    }

    /// Adds rows for which `condition` holds; the first call leaves out all others.
    #[must_use]
    pub fn or_where(mut self, condition: Condition) -> Self {
        self.filter.push(condition);
        self
    }
}

/// A replica that follows the database for as long as the connection lives.
///
/// Clones read the same replica and each notice every change. The server is told to stop after
/// the last clone is dropped. A monitor keeps its connection open, also without a
/// [`Client`](crate::Client).
#[derive(Debug, Clone)]
pub struct Monitor {
    replica: watch::Receiver<Arc<Replica>>,
    handle: Handle,
}

/// Why a wait for a condition ended without it.
#[derive(Debug, Clone, thiserror::Error)]
pub enum WaitError {
    /// The connection was lost; the replica will not change any more.
    #[error("the connection was lost")]
    Lost(#[source] ConnectionLost),
    /// The condition did not hold in time.
    #[error("the condition did not hold within {timeout:?}")]
    TimedOut {
        /// The time given.
        timeout: Duration,
    },
}

impl Monitor {
    /// The tables after the last transaction known. Cheap: nothing is copied.
    ///
    /// After the connection is lost, what was last known. Do not keep it longer than a pass
    /// takes: as long as somebody holds it, the next change copies the tables it touches.
    #[must_use]
    pub fn replica(&self) -> Arc<Replica> {
        self.replica.borrow().clone()
    }

    /// Waits for a change since this last returned; the initial contents are not a change.
    ///
    /// Several transactions may be one change. Cancel safe: a change is not missed if the future
    /// is dropped, so "read [`replica`](Self::replica), wait, repeat" sees the latest state.
    ///
    /// # Errors
    ///
    /// When the connection is lost and every change was told.
    pub async fn changed(&mut self) -> Result<(), ConnectionLost> {
        self.replica.changed().await.map_err(|_| self.handle.lost())
    }

    /// Waits until `condition` holds, and returns the replica for which it does.
    ///
    /// `condition` is asked at once and after each change; a state between two changes that are
    /// told as one is not seen. Leaves what [`changed`](Self::changed) will tell as it is.
    ///
    /// # Errors
    ///
    /// [`WaitError::TimedOut`] after `timeout`, [`WaitError::Lost`] with the connection.
    pub async fn wait_until(
        &self,
        mut condition: impl FnMut(&Replica) -> bool,
        timeout: Duration,
    ) -> Result<Arc<Replica>, WaitError> {
        let mut replica = self.replica.clone();
        let holds = replica.wait_for(|replica| condition(replica));
        match tokio::time::timeout(timeout, holds).await {
            Ok(Ok(replica)) => Ok(replica.clone()),
            Ok(Err(_closed)) => Err(WaitError::Lost(self.handle.lost())),
            Err(_elapsed) => Err(WaitError::TimedOut { timeout }),
        }
    }
}

/// A table as `monitor_cond_since` is asked for it.
#[derive(Serialize)]
struct Request<'a> {
    columns: &'a [String],
    #[serde(rename = "where", skip_serializing_if = "<[_]>::is_empty")]
    filter: &'a [Condition],
}

pub(crate) async fn begin(
    handle: &Handle,
    schema: &DatabaseSchema,
    tables: &[MonitoredTable],
    timeout: Duration,
) -> Result<Monitor, MonitorError> {
    let layout = layout(schema, tables)?;
    let requests: BTreeMap<&str, [Request<'_>; 1]> = tables
        .iter()
        .map(|table| {
            (table.table.as_str(), [Request { columns: &table.columns, filter: &table.filter }])
        })
        .collect();
    let id = handle.next_id();
    // No transaction has the zero id: the server sends everything.
    let params = (&schema.name, id, requests, Uuid::nil());
    let answer = handle
        .call((id, "monitor_cond_since"), &params, timeout, |answer| Waiting::Monitor {
            id,
            layout,
            answer,
        })
        .await;
    match answer {
        Ok(Ok(replica)) => Ok(Monitor { replica, handle: handle.clone() }),
        Ok(Err(refusal)) => Err(CallError::from(refusal).into()),
        Err(none) => Err(CallError::from(none).into()),
    }
}

/// Looks the columns up, so that an older schema is noticed here, by name.
fn layout(schema: &DatabaseSchema, tables: &[MonitoredTable]) -> Result<Layout, MonitorError> {
    let mut layout = Layout::default();
    for MonitoredTable { table, columns, .. } in tables {
        let Some(types) = schema.tables.get(table) else {
            return Err(MonitorError::NoSuchTable { table: table.clone() });
        };
        let typed = columns.iter().map(|column| match types.columns.get(column) {
            Some(r#type) => Ok((column.clone(), r#type.clone())),
            None => {
                Err(MonitorError::NoSuchColumn { table: table.clone(), column: column.clone() })
            }
        });
        layout.add(table.clone(), typed.collect::<Result<_, _>>()?);
    }
    Ok(layout)
}

impl From<crate::request::NoAnswer> for CallError {
    fn from(none: crate::request::NoAnswer) -> Self {
        // Nothing is changed by the calls that use this: sent or not is all the same.
        CallError::Interrupted(none.cause)
    }
}

impl From<crate::message::Refusal> for CallError {
    fn from(refusal: crate::message::Refusal) -> Self {
        CallError::Refused { error: refusal.error, details: refusal.details }
    }
}

impl CallError {
    pub(crate) fn malformed(reason: impl ToString) -> Self {
        CallError::Interrupted(Interrupted::Malformed { reason: reason.to_string() })
    }
}
