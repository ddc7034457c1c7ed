//! The invariants of a pool, recounted.

use imbl::OrdSet;

use crate::pool::Pool;
use crate::range::AddressRange;
use crate::spans::{Span, Spans};

impl Pool {
    /// Recounts everything. O(n log n), for debug builds, tests and a check on a live cluster.
    ///
    /// # Errors
    ///
    /// The first broken invariant, in words.
    pub fn check(&self) -> Result<(), String> {
        for (name, spans) in [
            ("excluded", &self.excluded),
            ("reserved", &self.reserved),
            ("using", &self.using),
            ("fresh", &self.fresh),
        ] {
            spans.check().map_err(|broken| format!("{name}: {broken}"))?;
        }
        let mut pods: Spans = [self.cidr.assignable().span()].into_iter().collect();
        pods.remove(Span::one(self.gateway));
        let cooling: Spans = self.cooling.keys().map(|&number| Span::one(number)).collect();
        for (name, spans) in
            [("using", &self.using), ("reserved", &self.reserved), ("cooling", &cooling)]
        {
            let stray = spans.minus(&pods);
            self.expect_none(&stray, &format!("{name}, but no pod may have it"))?;
        }
        let both = cooling.minus(&cooling.minus(&self.using));
        self.expect_none(&both, "both in use and cooling")?;
        if let Some((number, cooling)) =
            self.cooling.iter().find(|(_, cooling)| cooling.ends_ms < cooling.released_ms)
        {
            let address = self.family().address(*number);
            return Err(format!("{address} cools backwards: {cooling:?}"));
        }
        self.check_derived(&pods, &cooling)
    }

    /// Makes the derived tables again, in another way than the steps do.
    fn check_derived(&self, pods: &Spans, cooling: &Spans) -> Result<(), String> {
        let open = pods.minus(&self.excluded).minus(&self.reserved);
        let idle = open.minus(&self.using);
        let fresh = idle.minus(cooling);
        self.expect_none(&fresh.minus(&self.fresh), "never used and open, but not fresh")?;
        self.expect_none(&self.fresh.minus(&fresh), "fresh, but used or not open")?;
        let queue: OrdSet<(u64, u128)> = self
            .cooling
            .iter()
            .filter(|&(&number, row)| row.confirmed && open.contains(number))
            .map(|(&number, row)| (row.ends_ms, number))
            .collect();
        if queue != self.queue {
            return Err(format!("queue is {:?}, not {queue:?}", self.queue));
        }
        if idle.count() != self.available {
            return Err(format!("{} available, not {}", self.available, idle.count()));
        }
        Ok(())
    }

    fn expect_none(&self, spans: &Spans, what: &str) -> Result<(), String> {
        match spans.iter().next() {
            None => Ok(()),
            Some(span) => {
                let range = AddressRange::of_numbers(self.family(), span.first, span.last);
                Err(format!("{range} is {what}"))
            }
        }
    }
}
