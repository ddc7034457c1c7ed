//! How many rows a large cluster has.

use anyhow::Result;
use atoll_tests::report::{Report, Target};

use crate::feed::{Feed, SUBNETS};

const NODES: usize = 1_000;

/// Without pods, which have a row each, and without rates.
pub(crate) fn count(report: &mut Report) -> Result<()> {
    let rows = Feed::with_nodes(NODES, SUBNETS)?.rows()?.len();
    let case = format!("rows of {NODES} nodes and {SUBNETS} dual-stack subnets, without pods");
    #[allow(clippy::cast_precision_loss, reason = "some thousand rows")]
    report.claim(&case, "rows", rows as f64, Target::AtMost(7_000.0));
    Ok(())
}
