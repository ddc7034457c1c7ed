//! Another CIDR, other exclusions or another gateway for a pool that is in use.

use std::net::IpAddr;

use crate::cidr::Cidr;
use crate::pool::{Cooling, Pool, ResizeError};
use crate::range_set::RangeSet;
use crate::spans::{Span, Spans};

impl Pool {
    /// The pool with another CIDR, other exclusions or another gateway; this one is unchanged.
    ///
    /// What is in use stays in use, what cools cools on, what is reserved stays reserved; only
    /// confirmed rows and reservations of addresses that are cut off are dropped. Excluding an
    /// address that is in use changes nothing for its owner.
    ///
    /// O(k log n), k = excluded ranges before and after, and whatever lies in the addresses that
    /// come or go; the rest of the pool is shared with this one.
    ///
    /// # Errors
    ///
    /// [`ResizeError`], naming the address that is in the way.
    pub fn resize(
        &self,
        cidr: Cidr,
        excluded: &RangeSet,
        gateway: IpAddr,
    ) -> Result<Self, ResizeError> {
        let family = self.family();
        if cidr.family() != family {
            return Err(ResizeError::OtherFamily { family, cidr });
        }
        // The new pool's own rules for a gateway, and its shape.
        let empty = Self::closed(cidr, excluded, gateway)?;
        let lost = empty.lost(self.cidr);
        self.check_lost(&lost, cidr, gateway)?;

        let (before, after) = (self.shape(), empty.shape());
        let mut pool = self.clone();
        for span in before.minus(&after).iter() {
            pool.unless_reserved(span).iter().for_each(|span| pool.close(span));
        }
        for &span in &lost {
            pool.reserved.remove(span);
            let rows: Vec<u128> =
                pool.cooling.range(span.first..=span.last).map(|(&number, _)| number).collect();
            for number in rows {
                pool.cooling.remove(&number);
            }
        }
        pool.cidr = empty.cidr;
        pool.gateway = empty.gateway;
        pool.excluded = empty.excluded;
        for span in after.minus(&before).iter() {
            pool.unless_reserved(span).iter().for_each(|span| pool.open(span));
        }
        Ok(pool)
    }

    /// The rows of released addresses that [`Pool::resize`] with this CIDR and gateway drops.
    /// O(log n) for each.
    #[must_use]
    pub fn cooling_lost(&self, cidr: Cidr, gateway: IpAddr) -> Vec<(IpAddr, Cooling)> {
        let Ok(empty) = Self::closed(cidr, &RangeSet::new(), gateway) else { return Vec::new() };
        let family = self.family();
        let lost = empty.lost(self.cidr).into_iter();
        lost.flat_map(|span| self.cooling.range(span.first..=span.last))
            .map(|(&number, &row)| (family.address(number), row))
            .collect()
    }

    /// Refuses if an address of `lost` has or may have an owner.
    fn check_lost(&self, lost: &[Span], cidr: Cidr, gateway: IpAddr) -> Result<(), ResizeError> {
        let family = self.family();
        let used = lost.iter().flat_map(|&span| self.using.within(span)).next();
        if let Some(address) = used.map(|used| family.address(used.first)) {
            return Err(if address == gateway {
                ResizeError::GatewayInUse { address }
            } else {
                ResizeError::CutsOff { address, cidr }
            });
        }
        let plugged = |&(_, cooling): &(&u128, &Cooling)| !cooling.confirmed;
        let mut rows = lost.iter().flat_map(|span| self.cooling.range(span.first..=span.last));
        if let Some((&number, _)) = rows.find(plugged) {
            return Err(ResizeError::StillPlugged { address: family.address(number) });
        }
        Ok(())
    }

    /// What a pod may have in `before` and not in this pool, ascending: what lies below and above,
    /// and the gateway.
    fn lost(&self, before: Cidr) -> Vec<Span> {
        let mut lost: Spans = [before.assignable().span()].into_iter().collect();
        lost.remove(self.cidr.assignable().span());
        lost.insert(Span::one(self.gateway));
        lost.iter().collect()
    }

    fn unless_reserved(&self, span: Span) -> Spans {
        let mut rest: Spans = [span].into_iter().collect();
        self.reserved.within(span).for_each(|span| rest.remove(span));
        rest
    }
}
