//! The steps of an address: taken, released, confirmed, reserved.

use std::net::IpAddr;

use crate::family::number;
use crate::pool::{Cooling, Pool, RESTED_MAX, ReleaseError, Slot, StaticError};
use crate::spans::Span;

impl Pool {
    /// Takes `address`, chosen by [`Pool::next`] or asked for by name. O(log n).
    ///
    /// # Errors
    ///
    /// As [`Pool::check_static`]; never for what [`Pool::next`] just chose.
    pub fn take(&mut self, address: IpAddr) -> Result<(), StaticError> {
        let slot = self.check_named(address)?;
        let number = number(address);
        let open = self.is_open(number);
        if let Slot::Cooling(Cooling { ends_ms, .. }) = slot {
            self.cooling.remove(&number);
            if open {
                self.queue.remove(&(ends_ms, number));
            }
        } else if open {
            self.fresh.remove(Span::one(number));
        }
        self.using.insert(Span::one(number));
        self.available -= u128::from(open);
        Ok(())
    }

    /// Gives `address` back; from now on it cools for `cooldown_ms`. O(log n).
    ///
    /// `confirmed` says that its binding is proved unplugged; without, [`Pool::confirm`] must
    /// follow. If too many addresses have rested ([`RESTED_MAX`]) one of them is forgotten, which
    /// means that it counts as never used, and its row returned, for a caller who keeps his own.
    ///
    /// # Errors
    ///
    /// [`ReleaseError::NotInUse`]: also when it was released before. The first release stands.
    pub fn release(
        &mut self,
        address: IpAddr,
        clock_ms: u64,
        confirmed: bool,
        cooldown_ms: u64,
    ) -> Result<Option<(IpAddr, Cooling)>, ReleaseError> {
        let Some(number) = self.pod_number(address).filter(|&number| self.using.contains(number))
        else {
            return Err(ReleaseError::NotInUse { address });
        };
        let forgotten = self.forget_rested(clock_ms);
        let ends_ms = clock_ms.saturating_add(cooldown_ms);
        let open = self.is_open(number);
        self.using.remove(Span::one(number));
        self.cooling.insert(number, Cooling { released_ms: clock_ms, ends_ms, confirmed });
        if confirmed && open {
            self.queue.insert((ends_ms, number));
        }
        self.available += u128::from(open);
        Ok(forgotten)
    }

    /// Notes the proof that the last binding of `address` is unplugged. O(log n).
    ///
    /// The cooldown starts here: until now somebody may have answered for the address. Says
    /// whether that was news; an address in use, one never used and one confirmed before stay as
    /// they are, so a repeated proof does no harm.
    pub fn confirm(&mut self, address: IpAddr, clock_ms: u64) -> bool {
        let Some(number) = self.pod_number(address) else { return false };
        let open = self.is_open(number);
        let Some(cooling) = self.cooling.get_mut(&number).filter(|cooling| !cooling.confirmed)
        else {
            return false;
        };
        let cooldown_ms = cooling.ends_ms - cooling.released_ms;
        cooling.confirmed = true;
        cooling.ends_ms = clock_ms.max(cooling.released_ms).saturating_add(cooldown_ms);
        if open {
            self.queue.insert((cooling.ends_ms, number));
        }
        true
    }

    /// Keeps `address` from chance until [`Pool::unreserve`]. O(log n).
    ///
    /// It may be in use, and it can be taken by name. For what is kept for a named owner; an
    /// address has one reservation or none. Says whether that was news. An address that no pod
    /// may have cannot be reserved.
    pub fn reserve(&mut self, address: IpAddr) -> bool {
        let Some(number) = self.pod_number(address).filter(|&n| !self.reserved.contains(n)) else {
            return false;
        };
        if self.is_open(number) {
            self.close(Span::one(number));
        }
        self.reserved.insert(Span::one(number));
        true
    }

    /// Ends the reservation of `address`, and says whether there was one. O(log n).
    ///
    /// If it is free, chance may choose it as if it had never been reserved.
    pub fn unreserve(&mut self, address: IpAddr) -> bool {
        let Some(number) = self.pod_number(address).filter(|&n| self.reserved.contains(n)) else {
            return false;
        };
        self.reserved.remove(Span::one(number));
        if self.is_open(number) {
            self.open(Span::one(number));
        }
        true
    }

    /// Gives the addresses of `span` to chance; none of them was open before.
    ///
    /// O(log n) for each range or row that lies in it.
    pub(super) fn open(&mut self, span: Span) {
        self.available += span.count();
        self.fresh.insert(span);
        for used in self.using.within(span) {
            self.available -= used.count();
            self.fresh.remove(used);
        }
        for (&number, cooling) in self.cooling.range(span.first..=span.last) {
            self.fresh.remove(Span::one(number));
            if cooling.confirmed {
                self.queue.insert((cooling.ends_ms, number));
            }
        }
    }

    /// Takes the addresses of `span` from chance; all of them were open before.
    ///
    /// O(log n) for each range or row that lies in it.
    pub(super) fn close(&mut self, span: Span) {
        let used: u128 = self.using.within(span).map(Span::count).sum();
        self.available -= span.count() - used;
        self.fresh.remove(span);
        for (&number, cooling) in self.cooling.range(span.first..=span.last) {
            self.queue.remove(&(cooling.ends_ms, number));
        }
    }

    /// Forgets the address that rested longest, if there are too many.
    ///
    /// One for each release is enough: a row comes to the queue by a release.
    fn forget_rested(&mut self, clock_ms: u64) -> Option<(IpAddr, Cooling)> {
        let &(ends_ms, number) = self.queue.get_min()?;
        if self.queue.len() < RESTED_MAX || ends_ms > clock_ms {
            return None;
        }
        self.queue.remove(&(ends_ms, number));
        let row = self.cooling.remove(&number)?;
        self.fresh.insert(Span::one(number));
        Some((self.family().address(number), row))
    }
}
