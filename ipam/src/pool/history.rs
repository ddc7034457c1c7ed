//! A pool as plain rows, for a snapshot.

use std::net::IpAddr;

use crate::cidr::Cidr;
use crate::pool::{Cooling, Pool, RestoreError};
use crate::range_set::RangeSet;

/// What happened in a pool, as far as it matters for what happens next.
///
/// With CIDR, exclusions and gateway it is the whole pool: one that is restored from it is equal,
/// and so goes on to choose the same addresses.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct History {
    /// Addresses in use.
    pub using: RangeSet,
    /// Reserved addresses, in use or not.
    pub reserved: RangeSet,
    /// Released addresses, ascending.
    pub cooling: Vec<(IpAddr, Cooling)>,
}

impl Pool {
    /// The pool's history. O(n) for n released addresses.
    #[must_use]
    pub fn history(&self) -> History {
        History {
            using: self.using_ranges(),
            reserved: self.reserved(),
            cooling: self.cooling().collect(),
        }
    }

    /// Makes the pool that has this history. O(n log n).
    ///
    /// # Errors
    ///
    /// [`RestoreError`] if no pool of this CIDR and gateway has such a history.
    pub fn restore(
        cidr: Cidr,
        excluded: &RangeSet,
        gateway: IpAddr,
        history: &History,
    ) -> Result<Self, RestoreError> {
        let mut pool = Self::closed(cidr, excluded, gateway)?;
        for range in history.using.iter().chain(history.reserved.iter()) {
            let ends = [range.first(), range.last()];
            let gateway = range.contains(gateway).then_some(gateway);
            let bad = ends.into_iter().find(|&end| !cidr.is_assignable(end)).or(gateway);
            if let Some(address) = bad {
                return Err(RestoreError::NotAssignable { address, cidr });
            }
        }
        pool.using = history.using.of(cidr.family()).clone();
        pool.reserved = history.reserved.of(cidr.family()).clone();
        for &(address, cooling) in &history.cooling {
            let row =
                pool.pod_number(address).ok_or(RestoreError::NotAssignable { address, cidr })?;
            if cooling.ends_ms < cooling.released_ms {
                return Err(RestoreError::CoolsBackwards { address });
            }
            if pool.using.contains(row) || pool.cooling.insert(row, cooling).is_some() {
                return Err(RestoreError::Twice { address });
            }
        }
        let open = pool.shape().minus(&pool.reserved);
        open.iter().for_each(|span| pool.open(span));
        Ok(pool)
    }
}
