//! What the supervisor asks of, and says to, the northbound database.

use atoll_ovn_plan::CLUSTER_KEY;
use atoll_ovsdb::{Client, Datum, Mutation, Operation, OperationResult, TransactError};

use crate::pass::DATABASE;

const TABLE: &str = "NB_Global";

/// Whether the projection has written everything: its marker comes in the same transaction.
pub(super) async fn is_projected(nb: &Client) -> Result<bool, TransactError> {
    let marker = read(nb, &[], "external_ids").await?;
    Ok(marker.is_some_and(|ids| ids.get(CLUSTER_KEY).is_some()))
}

/// Raises `nb_cfg` and returns it: northd copies it to `sb_cfg` once the southbound database holds
/// everything that the northbound one holds now. `None` if there is no row to raise it in.
pub(super) async fn raise(nb: &Client) -> Result<Option<i64>, TransactError> {
    let raise = Operation::mutate(TABLE, Vec::new(), vec![Mutation::add("nb_cfg", 1_i64)]);
    Ok(read(nb, &[raise], "nb_cfg").await?.and_then(|raised| raised.as_i64()))
}

/// What northd has copied last.
pub(super) async fn reached(nb: &Client) -> Result<Option<i64>, TransactError> {
    Ok(read(nb, &[], "sb_cfg").await?.and_then(|reached| reached.as_i64()))
}

/// Carries out `first` and then reads a column of the one row.
async fn read(
    nb: &Client,
    first: &[Operation],
    column: &str,
) -> Result<Option<Datum>, TransactError> {
    let mut operations = first.to_vec();
    operations.push(Operation::select(TABLE, Vec::new(), [column]));
    let results = nb.transact(DATABASE, &operations).await?;
    let Some(OperationResult::Rows(rows)) = results.into_iter().last() else { return Ok(None) };
    Ok(rows.into_iter().next().and_then(|mut row| row.remove(column)))
}
