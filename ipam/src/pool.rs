//! The addresses of one family of one subnet, and which of them is next.

mod check;
mod errors;
mod history;
#[cfg(test)]
mod model_tests;
mod resize;
mod step;
#[cfg(test)]
mod tests;

use std::net::IpAddr;

use imbl::{OrdMap, OrdSet};

use crate::cidr::Cidr;
use crate::family::{Family, number};
use crate::range_set::RangeSet;
use crate::spans::{Span, Spans};

pub use errors::{PoolError, ReleaseError, ResizeError, RestoreError, StaticError};
pub use history::History;

/// How many addresses [`Pool::next`] looks at before it gives up.
///
/// A caller who avoids everything costs some microseconds. Avoiding is for what one transaction has
/// in hand; what is kept for long is reserved ([`Pool::reserve`]) and costs nothing.
pub const CANDIDATES_MAX: usize = 1024;

/// Above how many rested addresses a release forgets the one that rested longest.
///
/// A /64 never runs out of never-used addresses, so without a maximum each pod that ever lived
/// would leave a row behind. As many as a /16 holds: there and in anything smaller nothing is ever
/// forgotten. Only rested addresses that are open to chance count; unconfirmed, excluded and
/// reserved ones are kept until somebody confirms, takes or frees them.
pub const RESTED_MAX: usize = 65_536;

/// The addresses of one family of one subnet.
///
/// An address is *open* (to chance) if it is assignable and neither the gateway, nor excluded, nor
/// reserved. Two pools are equal if they answer alike, now and after the same steps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pool {
    cidr: Cidr,
    gateway: u128,
    excluded: Spans,
    reserved: Spans,
    using: Spans,
    /// Every address that was used, is not now, and is not forgotten.
    cooling: OrdMap<u128, Cooling>,

    // What follows is derived from the above, kept so that no step has to search.
    /// Open and never used (or forgotten).
    fresh: Spans,
    /// Open and confirmed, by the end of the cooling: the order of reuse.
    queue: OrdSet<(u64, u128)>,
    /// How many addresses are open and not in use.
    available: u128,
}

/// The last release of an address that is not in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cooling {
    /// When it was released, in `clock_ms`.
    pub released_ms: u64,
    /// When its cooling ends, in `clock_ms`; if it is not confirmed, when it would have ended had
    /// it been confirmed at its release.
    pub ends_ms: u64,
    /// Whether the last binding is proved unplugged. Without that proof the address is given to
    /// nobody.
    pub confirmed: bool,
}

/// What is known of an assignable address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Slot {
    /// Never used since the pool knows it, or forgotten.
    Unused,
    /// Taken.
    InUse,
    /// Released; rested, if the cooling is confirmed and over.
    Cooling(Cooling),
}

impl Pool {
    /// Makes the pool of a new subnet, nothing in use.
    ///
    /// Of `excluded` only the addresses of the CIDR's family matter; they may lie outside it.
    /// O(k log k) for k excluded ranges, however large the CIDR is.
    ///
    /// # Errors
    ///
    /// [`PoolError`] if the gateway is not an assignable address of the CIDR.
    pub fn new(cidr: Cidr, excluded: &RangeSet, gateway: IpAddr) -> Result<Self, PoolError> {
        let mut pool = Self::closed(cidr, excluded, gateway)?;
        pool.shape().iter().for_each(|span| pool.open(span));
        Ok(pool)
    }

    /// A pool in which nothing is open yet.
    fn closed(cidr: Cidr, excluded: &RangeSet, gateway: IpAddr) -> Result<Self, PoolError> {
        if !cidr.contains(gateway) {
            return Err(PoolError::GatewayOutside { gateway, cidr });
        }
        if !cidr.is_assignable(gateway) {
            return Err(PoolError::GatewayNotAssignable { gateway, cidr });
        }
        Ok(Self {
            cidr,
            gateway: number(gateway),
            excluded: excluded.of(cidr.family()).clone(),
            reserved: Spans::default(),
            using: Spans::default(),
            cooling: OrdMap::new(),
            fresh: Spans::default(),
            queue: OrdSet::new(),
            available: 0,
        })
    }

    /// Chooses an address by chance. Changes nothing: the caller takes it, or does not.
    ///
    /// The lowest never-used address, else the one whose cooling ends first. With one cooldown for
    /// all that is the one that was released (and confirmed) longest ago, of two at the same
    /// millisecond the lower. An address whose cooling is not over is therefore chosen exactly
    /// when nothing else is left, so the choice does not depend on the clock. Never chosen: the
    /// gateway, excluded and reserved addresses, and those whose release is not confirmed.
    ///
    /// `avoid` passes over addresses for this one choice. Of the first [`CANDIDATES_MAX`] in the
    /// order above one is chosen or none: `None` with fewer avoided means that the pool is full.
    /// O(log n), and O(1) for each address that is passed over.
    pub fn next(&self, avoid: impl Fn(IpAddr) -> bool) -> Option<IpAddr> {
        // Most often the first one is taken, and an iterator over everything costs more than that.
        let first = self.fresh.first().map(|span| span.first);
        let first = first.or_else(|| self.queue.get_min().map(|&(_, number)| number))?;
        let first = self.family().address(first);
        if !avoid(first) {
            return Some(first);
        }
        let fresh = self.fresh.iter().flat_map(|span| span.first..=span.last);
        let rested = self.queue.iter().map(|&(_, number)| number);
        fresh
            .chain(rested)
            .take(CANDIDATES_MAX)
            .skip(1)
            .map(|number| self.family().address(number))
            .find(|&address| !avoid(address))
    }

    /// Says whether `address` can be taken by name.
    ///
    /// Excluded addresses can: that is how a range is kept for them. So can reserved ones; whose
    /// reservation it is, the caller judges. The cooldown does not matter, only the proof that
    /// nobody is plugged in with the address any more. Nothing changes. O(log n).
    ///
    /// # Errors
    ///
    /// [`StaticError`], a refusal each. `InUse` and `StillPlugged` pass with time.
    pub fn check_static(&self, address: IpAddr) -> Result<(), StaticError> {
        self.check_named(address).map(|_| ())
    }

    /// [`Pool::check_static`], for a caller who goes on with what was found.
    fn check_named(&self, address: IpAddr) -> Result<Slot, StaticError> {
        let cidr = self.cidr;
        if !cidr.contains(address) {
            return Err(StaticError::Outside { address, cidr });
        }
        if address == self.gateway() {
            return Err(StaticError::Gateway { address });
        }
        match self.slot(address) {
            None => Err(StaticError::NotAssignable { address, cidr }),
            Some(Slot::InUse) => Err(StaticError::InUse { address }),
            Some(Slot::Cooling(Cooling { confirmed: false, released_ms, .. })) => {
                Err(StaticError::StillPlugged { address, released_ms })
            }
            Some(free @ (Slot::Unused | Slot::Cooling(_))) => Ok(free),
        }
    }

    /// What is known of `address`; nothing if no interface of this subnet may have it, the gateway
    /// among those. O(log n).
    #[must_use]
    pub fn slot(&self, address: IpAddr) -> Option<Slot> {
        let number = self.pod_number(address)?;
        Some(if self.using.contains(number) {
            Slot::InUse
        } else if let Some(&cooling) = self.cooling.get(&number) {
            Slot::Cooling(cooling)
        } else {
            Slot::Unused
        })
    }

    /// Every released address that is not taken again and not forgotten, ascending. O(n) for all n.
    pub fn cooling(&self) -> impl Iterator<Item = (IpAddr, Cooling)> + '_ {
        let family = self.family();
        self.cooling.iter().map(move |(&number, &cooling)| (family.address(number), cooling))
    }

    /// The range.
    #[must_use]
    pub fn cidr(&self) -> Cidr {
        self.cidr
    }

    /// The router's address.
    #[must_use]
    pub fn gateway(&self) -> IpAddr {
        self.family().address(self.gateway)
    }

    /// The family of all addresses.
    #[must_use]
    pub fn family(&self) -> Family {
        self.cidr.family()
    }

    /// What is excluded, as it was given, of this family, also outside the CIDR. O(1).
    #[must_use]
    pub fn excluded(&self) -> RangeSet {
        RangeSet::from_spans(self.family(), self.excluded.clone())
    }

    /// What is reserved, in use or not. O(1).
    #[must_use]
    pub fn reserved(&self) -> RangeSet {
        RangeSet::from_spans(self.family(), self.reserved.clone())
    }

    /// How many addresses are in use, excluded and reserved ones among them. O(1).
    #[must_use]
    pub fn using(&self) -> u128 {
        self.using.count()
    }

    /// The addresses that are in use: as many as [`Pool::using`] says. O(1).
    #[must_use]
    pub fn using_ranges(&self) -> RangeSet {
        RangeSet::from_spans(self.family(), self.using.clone())
    }

    /// How many addresses are left for chance. O(1).
    ///
    /// Assignable, less the gateway, less what is excluded, reserved or in use. Cooling addresses
    /// count, also unconfirmed ones: they come back without anybody giving something up. An
    /// excluded address in use is subtracted once.
    #[must_use]
    pub fn available(&self) -> u128 {
        self.available
    }

    /// The addresses that are left for chance: as many as [`Pool::available`] says.
    ///
    /// O(k log n), k = ranges that are excluded, reserved or in use.
    #[must_use]
    pub fn available_ranges(&self) -> RangeSet {
        let open = self.shape().minus(&self.reserved);
        RangeSet::from_spans(self.family(), open.minus(&self.using))
    }

    /// The number of an address that an interface other than the router's may have.
    fn pod_number(&self, address: IpAddr) -> Option<u128> {
        let number = number(address);
        (self.cidr.is_assignable(address) && number != self.gateway).then_some(number)
    }

    /// What would be open if nothing were reserved. O(k log n), k = excluded ranges.
    fn shape(&self) -> Spans {
        let assignable = self.cidr.assignable().span();
        let mut shape: Spans = [assignable].into_iter().collect();
        shape.remove(Span::one(self.gateway));
        self.excluded.within(assignable).for_each(|span| shape.remove(span));
        shape
    }

    /// Whether chance may choose `number`, one of [`Pool::pod_number`], when it is not in use.
    fn is_open(&self, number: u128) -> bool {
        !self.excluded.contains(number) && !self.reserved.contains(number)
    }
}
