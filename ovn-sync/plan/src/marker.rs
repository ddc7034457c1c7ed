//! Whose rows a database holds, and how far they had come: kept in `NB_Global.external_ids`.

use std::collections::BTreeSet;

use atoll_model::lineage::LineageError;
use atoll_model::{ClusterId, Lineage, Revision};

use crate::name::{VENDOR, VENDOR_KEY};
use crate::{Row, Rows, Table};

/// Which cluster a row, or the whole database, belongs to.
pub const CLUSTER_KEY: &str = "atoll/cluster";

/// The ancestors of the cluster, with commas between them: from whom its rows may have come.
pub const ANCESTORS_KEY: &str = "atoll/ancestors";

/// The revision of what was written last. It may be lower than that of the projected state: a
/// revision that changes no row is not written, because `ovn-northd` would recompute everything.
pub const REVISION_KEY: &str = "atoll/revision";

/// The lineage that the database carries; `None` if it carries none that can be read.
#[must_use]
pub fn marker(observed: &Rows) -> Option<Lineage> {
    let global = global(observed)?;
    let ids = global.get("external_ids")?;
    let number = |key| ids.get(key).and_then(|text| text.parse().ok()).unwrap_or(0);
    let ancestors = ids.get(ANCESTORS_KEY).into_iter().flat_map(|text| text.split(','));
    Some(Lineage {
        cluster: ids.get(CLUSTER_KEY)?.parse().ok()?,
        ancestors: ancestors.filter_map(|text| text.parse().ok()).collect(),
        revision: Revision(number(REVISION_KEY)),
    })
}

/// What has to be written there for `lineage`.
pub(crate) fn marks(lineage: &Lineage) -> [(&'static str, String); 3] {
    let ancestors: Vec<String> = lineage.ancestors.iter().map(ToString::to_string).collect();
    [
        (CLUSTER_KEY, lineage.cluster.to_string()),
        (ANCESTORS_KEY, ancestors.join(",")),
        (REVISION_KEY, lineage.revision.to_string()),
    ]
}

/// The one row of `NB_Global`, whoever made it.
pub(crate) fn global(observed: &Rows) -> Option<&Row> {
    let mut rows = observed.iter().filter(|((table, _), _)| *table == Table::NbGlobal);
    rows.next().map(|(_, row)| row)
}

/// Whether the row carries our vendor's mark, of whichever cluster.
pub(crate) fn is_marked(row: &Row) -> bool {
    row.get("external_ids").and_then(|ids| ids.get(VENDOR_KEY)) == Some(VENDOR)
}

/// Which cluster's mark a row carries.
pub(crate) fn cluster_of(row: &Row) -> Option<ClusterId> {
    row.get("external_ids")?.get(CLUSTER_KEY)?.parse().ok()
}

/// Does the database take `lineage`'s state: are all rows with our vendor's mark its own, or those
/// of a cluster that it descends from?
///
/// The rows are asked as well as the marker, so that a database that lost its marker is no prey.
pub(crate) fn check_heritage(observed: &Rows, lineage: &Lineage) -> Result<(), LineageError> {
    if let Some(kept) = marker(observed) {
        kept.accepts(lineage)?;
    }
    let marked = observed.values().filter(|row| is_marked(row));
    let strangers = marked.filter_map(cluster_of).filter(|cluster| *cluster != lineage.cluster);
    for cluster in strangers.collect::<BTreeSet<_>>() {
        let kept = Lineage::new(cluster, Revision(0));
        kept.accepts(lineage)?;
    }
    Ok(())
}
