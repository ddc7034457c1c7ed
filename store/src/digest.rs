//! One number for the whole state, to notice that two members differ.
//!
//! The digest is a sum (modulo 2^128) of the hashes of all rows: objects, released addresses and
//! remembered outcomes. A sum can be kept up while rows come and go, at the cost of the changes
//! alone, and does not depend on the order in which they came. The counters and the clock are
//! hashed in when the digest is asked for. Derived tables are not in it: they follow from the rows.

use atoll_model::{Change, Object, SubnetName};

use crate::feed::{Feed, Scope};
use crate::rows;
use crate::state::State;

impl State {
    /// A 128-bit hash of everything that [`State::apply`] reads. O(1).
    ///
    /// Equal states have equal digests, on every machine and release of the same rules; states
    /// that differ have different ones, but for chance. It says nothing about *what* differs.
    #[must_use]
    pub fn digest(&self) -> u128 {
        let mut feed = Feed::new(rows::SCALARS, Scope::Row);
        feed.revision(self.applied);
        feed.revision(self.revision);
        feed.number(self.clock_ms);
        feed.number(self.next_datapath_key.into());
        feed.revision(self.outcomes.forgotten_to());
        feed.each(self.ancestors.iter(), |feed, cluster| feed.wide(cluster.0));
        let rows = self.rows.wrapping_add(self.outcomes.rows());
        rows.wrapping_add(feed.finish())
    }

    /// The sum of all rows apart from the outcomes, from nothing. O(n).
    pub(crate) fn recount_rows(&self) -> u128 {
        let objects = self.objects().map(|object| row(&object));
        let cooling = self.pools.iter().map(|(name, pools)| pools.recount_rows(name));
        objects.chain(cooling).fold(0, u128::wrapping_add)
    }

    /// The sums are what a recount gives.
    pub(crate) fn check_digest(&self) -> Result<(), String> {
        for (name, pools) in &self.pools {
            if pools.rows() != pools.recount_rows(name) {
                return Err(format!("the digest of subnet {name} differs from a recount"));
            }
        }
        if self.rows != self.recount_rows() {
            return Err("the digest differs from a recount".into());
        }
        self.outcomes.check_digest()
    }

    /// Keeps the sum when objects change.
    pub(crate) fn digest_changes(&mut self, changes: &[Change]) {
        for Change { before, after, .. } in changes {
            let gone = before.as_ref().map_or(0, row);
            let come = after.as_ref().map_or(0, row);
            self.rows = self.rows.wrapping_sub(gone).wrapping_add(come);
        }
    }

    /// Keeps the sum when the tables of a subnet, whose sum was `before`, have changed.
    pub(crate) fn digest_pools(&mut self, subnet: &SubnetName, before: u128) {
        let after = self.pools.get(subnet).map_or(0, |pools| pools.rows());
        self.rows = self.rows.wrapping_sub(before).wrapping_add(after);
    }
}

fn row(object: &Object) -> u128 {
    rows::object(object, Scope::Row)
}

#[cfg(test)]
#[path = "digest_tests.rs"]
mod tests;
