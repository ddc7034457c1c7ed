//! Who held an address: closed intervals from the rows, the open one from the state.

use std::net::IpAddr;
use std::sync::Arc;

use atoll_model::{Allocation, Change, ChangeSet, Object, Revision, SubnetName};
use atoll_store::State;

use super::part::Part;
use super::rows::{Block, Rows};
use super::{HistoryError, Interval};

pub(super) const THROUGH: &str = "through";
pub(super) const FLOOR: &str = "floor";
pub(super) const DROPPED: &str = "dropped";

/// Where the rows begin and end.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Known {
    /// Changes at or below this revision are not known.
    pub(super) floor: Revision,
    /// Nor wanted, at or below this one.
    pub(super) dropped: Revision,
}

/// Writes changes, which are in order, and the intervals that they close. Repeating it changes
/// nothing.
pub(super) fn write(rows: &Rows, sets: &[Arc<ChangeSet>]) -> Result<(), HistoryError> {
    rows.put_changes(sets.iter().map(|set| &**set))?;
    for set in sets {
        for change in &set.changes {
            for (allocation, address) in closed(change) {
                let from = began(rows, allocation, address, set.revision)?;
                let closing = ChangeSet { changes: vec![change.clone()], ..ChangeSet::clone(set) };
                rows.put_interval(&allocation.subnet, address, from, &closing)?;
            }
        }
    }
    Ok(())
}

/// Writes changes that are older than all that are known: what was cut off comes back, newest first.
/// Repeating it changes nothing, also after a power cut in the middle.
pub(super) fn write_older(rows: &Rows, part: &Part) -> Result<(), HistoryError> {
    // An interrupted part may have ended elsewhere; its blocks would lie across these.
    rows.delete_blocks(part.above, part.below)?;
    rows.put_changes(part.sets.iter().rev())?;
    for set in &part.sets {
        for change in &set.changes {
            for (allocation, address) in closed(change) {
                begin_later(rows, &allocation.subnet, address, set.revision)?;
                let from = began(rows, allocation, address, set.revision)?;
                let closing = ChangeSet { changes: vec![change.clone()], ..set.clone() };
                rows.put_interval(&allocation.subnet, address, from, &closing)?;
            }
        }
    }
    Ok(())
}

/// The next holder of an address after `end` did not have it before: an allocation that changed
/// hands is older than that. While the holder before was not known, it seemed to have had it since
/// it was made.
fn begin_later(
    rows: &Rows,
    subnet: &SubnetName,
    address: IpAddr,
    end: Revision,
) -> Result<(), HistoryError> {
    let mut later = rows.intervals(subnet, address).collect::<Result<Vec<_>, _>>()?;
    later.retain(|(_, closing)| closing.revision > end);
    let next = later.iter().map(|(_, closing)| closing.revision).min();
    for (from, closing) in later.into_iter().filter(|(_, it)| Some(it.revision) == next) {
        if from < end {
            // In this order: a power cut may leave both, never none.
            rows.put_interval(subnet, address, end, &closing)?;
            rows.delete_interval(subnet, address, from)?;
        }
    }
    Ok(())
}

/// Brings the rows to where a state at `revision` needs them, before the log is replayed.
///
/// What is above `revision` was never synced: after a power cut sled may have kept some of it and lost
/// what came before, so none of it counts.
pub(super) fn prepare(rows: &Rows, revision: Revision) -> Result<Known, HistoryError> {
    let noted = |name| Ok::<_, HistoryError>(Revision(rows.noted(name)?.unwrap_or_default()));
    let (through, mut floor, dropped) = (noted(THROUGH)?, noted(FLOOR)?, noted(DROPPED)?);
    if through < revision {
        tracing::warn!(
            %through, %revision, directory = %rows.directory().display(),
            "the history ends before the snapshot: changes up to it are not known here until they \
             have come from another member"
        );
        floor = revision;
    }
    let later: Vec<ChangeSet> =
        rows.changes(revision, Revision(u64::MAX)).collect::<Result<_, _>>()?;
    for set in later.iter().rev() {
        for change in &set.changes {
            for (allocation, address) in closed(change) {
                let from = began(rows, allocation, address, set.revision)?;
                rows.delete_interval(&allocation.subnet, address, from)?;
            }
        }
    }
    rows.delete_changes_after(revision)?;
    rows.note(FLOOR, floor.0)?;
    rows.note(THROUGH, revision.0)?;
    Ok(Known { floor, dropped })
}

/// Deletes a block, all of which is at or below `floor`, and the intervals that end in it.
pub(super) fn delete(rows: &Rows, floor: Revision, block: &Block) -> Result<(), HistoryError> {
    let (last, sets) = block;
    for change in sets.iter().flat_map(|set| &set.changes) {
        for (allocation, address) in closed(change) {
            for interval in rows.intervals(&allocation.subnet, address) {
                let (from, closing) = interval?;
                if closing.revision > floor {
                    break;
                }
                rows.delete_interval(&allocation.subnet, address, from)?;
            }
        }
    }
    rows.delete_block(*last)
}

/// The addresses that a change takes from their holder.
fn closed(change: &Change) -> impl Iterator<Item = (&Allocation, IpAddr)> {
    let before = match &change.before {
        Some(Object::Allocation(before)) => Some(before.as_ref()),
        _ => None,
    };
    let after = match &change.after {
        Some(Object::Allocation(after)) => Some(after.as_ref()),
        _ => None,
    };
    let still_held = move |before: &Allocation, address: IpAddr| {
        after.is_some_and(|after| {
            after.owner == before.owner
                && after.subnet == before.subnet
                && after.addresses.iter().any(|other| other == address)
        })
    };
    before.into_iter().flat_map(move |before| {
        let addresses = before.addresses.iter();
        addresses.filter(move |&a| !still_held(before, a)).map(move |address| (before, address))
    })
}

/// When `allocation` got `address`, as seen from `before`: when it was made, or when the
/// address's holder before it lost it, if that was later (an allocation that changed hands).
fn began(
    rows: &Rows,
    allocation: &Allocation,
    address: IpAddr,
    before: Revision,
) -> Result<Revision, HistoryError> {
    // From the newest on: an address may have had thousands of holders.
    for interval in rows.intervals(&allocation.subnet, address).rev() {
        let (_, closing) = interval?;
        if closing.revision < before {
            return Ok(allocation.created.max(closing.revision));
        }
    }
    Ok(allocation.created)
}

/// Who held `address`, as of `state`.
pub(super) fn ownership(
    rows: &Rows,
    state: &State,
    subnet: &SubnetName,
    address: IpAddr,
) -> Result<Vec<Interval>, HistoryError> {
    let now = state.revision();
    let wall = |revision| Ok::<_, HistoryError>(rows.changes_of(revision)?.map(|s| s.wall_ms));
    let mut found = Vec::new();
    for interval in rows.intervals(subnet, address) {
        let (from, closing) = interval?;
        if closing.revision > now {
            continue;
        }
        let Some(Object::Allocation(held)) =
            closing.changes.first().and_then(|change| change.before.clone())
        else {
            continue;
        };
        found.push(Interval {
            from,
            from_wall_ms: wall(from)?,
            until: Some(closing.revision),
            until_wall_ms: Some(closing.wall_ms),
            owner: held.owner.clone(),
            port: held.port.clone(),
            mac: held.mac,
        });
    }
    if let Some(held) = state.allocation_at(subnet, address) {
        let last = found.last().and_then(|interval| interval.until).unwrap_or_default();
        let from = held.created.max(last);
        found.push(Interval {
            from,
            from_wall_ms: wall(from)?,
            until: None,
            until_wall_ms: None,
            owner: held.owner.clone(),
            port: held.port.clone(),
            mac: held.mac,
        });
    }
    Ok(found)
}
