//! The same rows, inserted by a client that does nothing else: what the database alone takes.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use atoll_model::Lineage;
use atoll_ovn_plan::{Brake, Rows, Table, diff, portions};
use atoll_ovn_sync::transaction;
use atoll_ovsdb::{Client, Operation};
use futures::StreamExt as _;

use crate::northbound::{DATABASE, Northbound};

/// Transactions under way.
const UNDER_WAY: usize = 2;

/// Transactions that bring an empty database to `rows`, ready to be sent: in portions of a size that
/// `ovsdb-server` likes best.
pub(crate) fn batches(rows: &Rows, lineage: &Lineage) -> Result<Vec<Vec<Operation>>> {
    let plan = diff(rows, &Rows::new(), lineage, &Brake::default())?;
    let mut operations = plan.operations;
    // A new database has that row.
    operations.retain(|operation| {
        !matches!(operation, atoll_ovn_plan::Operation::Insert { table: Table::NbGlobal, .. })
    });
    Ok(portions(operations).iter().map(|portion| transaction(portion)).collect())
}

/// From the first byte that is sent to the last answer.
pub(crate) async fn insert(nb: &Northbound, batches: &[Vec<Operation>]) -> Result<Duration> {
    let client = nb.connect().await?;
    let begun = Instant::now();
    let sent = futures::stream::iter(batches).map(|batch| send(&client, batch));
    let answers: Vec<Result<()>> = sent.buffered(UNDER_WAY).collect().await;
    let took = begun.elapsed();
    ensure!(answers.len() == batches.len(), "not every transaction was answered");
    answers.into_iter().collect::<Result<()>>().context("a raw insert was refused")?;
    Ok(took)
}

async fn send(client: &Client, batch: &[Operation]) -> Result<()> {
    client.transact(DATABASE, batch).await?;
    Ok(())
}
