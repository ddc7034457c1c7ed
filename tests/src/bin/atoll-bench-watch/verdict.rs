//! What subscribers were told against what was acknowledged.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use atoll_model::Revision;
use atoll_tests::report::{Report, Target};

/// Whom a change concerns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Concerns {
    Node(usize),
    All,
}

/// A transaction that was acknowledged.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Written {
    pub(crate) revision: Revision,
    pub(crate) concerns: Concerns,
    pub(crate) proposed: Instant,
    pub(crate) acknowledged: Instant,
}

/// What one subscriber was told.
#[derive(Debug, Clone, Default)]
pub(crate) struct Told {
    /// The subscriber's node.
    pub(crate) node: usize,
    /// It knew everything up to here when it began.
    pub(crate) from: Revision,
    /// Revisions, in the order in which they came.
    pub(crate) changes: Vec<(Revision, Instant)>,
}

/// Changes that did not come as they should.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Wrong {
    pub(crate) lost: usize,
    pub(crate) twice: usize,
    pub(crate) disordered: usize,
    /// Nobody wrote them, or they are another node's.
    pub(crate) foreign: usize,
}

impl Wrong {
    /// Compares one subscriber's changes with those that it should have been told.
    pub(crate) fn take_in(&mut self, told: &Told, expected: impl Iterator<Item = Revision>) {
        let expected: BTreeSet<Revision> = expected.filter(|it| *it > told.from).collect();
        let mut seen = BTreeSet::new();
        let mut last = Revision(0);
        for (revision, _) in &told.changes {
            self.disordered += usize::from(*revision < last);
            self.twice += usize::from(!seen.insert(*revision));
            last = last.max(*revision);
        }
        self.foreign += seen.difference(&expected).count();
        self.lost += expected.difference(&seen).count();
    }
}

/// Times from one moment of a write to its receipts.
#[derive(Debug, Default)]
pub(crate) struct Delays(Vec<Duration>);

impl Delays {
    pub(crate) fn add(&mut self, from: Instant, to: Instant) {
        // A reader may hear of it before the writer does.
        self.0.push(to.saturating_duration_since(from));
    }

    /// The delay, in ms, that `share` per mille of all are not above.
    pub(crate) fn per_mille(&mut self, share: usize) -> f64 {
        self.0.sort_unstable();
        let at = (self.0.len() * share).div_ceil(1000).clamp(1, self.0.len().max(1)) - 1;
        self.0.get(at).map_or(f64::NAN, |it| it.as_secs_f64() * 1000.0)
    }
}

/// What was written, by whom it concerns.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    all: BTreeMap<Revision, Written>,
    of_node: BTreeMap<usize, Vec<Revision>>,
    of_all: Vec<Revision>,
}

impl Ledger {
    pub(crate) fn new(all: Vec<Written>) -> Self {
        let mut ledger = Self::default();
        for it in all {
            match it.concerns {
                Concerns::Node(node) => {
                    ledger.of_node.entry(node).or_default().push(it.revision);
                }
                Concerns::All => ledger.of_all.push(it.revision),
            }
            ledger.all.insert(it.revision, it);
        }
        ledger
    }

    /// What a node's subscriber should be told.
    pub(crate) fn of(&self, node: usize) -> impl Iterator<Item = Revision> + '_ {
        let own = self.of_node.get(&node).into_iter().flatten();
        own.chain(&self.of_all).copied()
    }

    /// All revisions, in order.
    pub(crate) fn revisions(&self) -> Vec<Revision> {
        self.all.keys().copied().collect()
    }

    /// Writes per second, from the first proposal to the last answer.
    #[allow(clippy::cast_precision_loss, reason = "counts here are far below 2^52")]
    pub(crate) fn rate(&self) -> Result<f64> {
        let first = self.all.values().map(|it| it.proposed).min().context("nothing was written")?;
        let last = self.all.values().map(|it| it.acknowledged).max().unwrap_or(first);
        Ok(self.all.len() as f64 / (last - first).as_secs_f64())
    }
}

/// What all subscribers were told.
#[derive(Debug, Default)]
pub(crate) struct Judged {
    wrong: Wrong,
    one: Delays,
    one_proposed: Delays,
    all: Delays,
    all_proposed: Delays,
}

impl Judged {
    /// What one subscriber was told; timed if it was there all the time.
    pub(crate) fn take_in(&mut self, told: &Told, ledger: &Ledger, timed: bool) {
        self.wrong.take_in(told, ledger.of(told.node));
        for (revision, at) in told.changes.iter().filter(|_| timed) {
            let Some(written) = ledger.all.get(revision) else { continue };
            let (since, since_proposed) = match written.concerns {
                Concerns::Node(_) => (&mut self.one, &mut self.one_proposed),
                Concerns::All => (&mut self.all, &mut self.all_proposed),
            };
            since.add(written.acknowledged, *at);
            since_proposed.add(written.proposed, *at);
        }
    }

    #[allow(clippy::cast_precision_loss, reason = "counts here are far below 2^52")]
    pub(crate) fn say(&mut self, report: &mut Report, words: &str) -> Result<()> {
        ensure!(!self.one.0.is_empty() && !self.all.0.is_empty(), "nothing was told");
        let wrong = &self.wrong;
        for (what, number) in [
            ("lost", wrong.lost),
            ("told twice", wrong.twice),
            ("told in another order", wrong.disordered),
            ("told to somebody else", wrong.foreign),
        ] {
            let case = format!("{what}{words}");
            report.claim(&case, "changes", number as f64, Target::Exactly(0.0));
        }
        let case = |what: &str| format!("{what}{words}");
        let p99 = Target::AtMost(50.0);
        let one = "one node's change, from";
        report.note(&case(&format!("{one} acknowledged, p50")), "ms", self.one.per_mille(500));
        report.claim(
            &case(&format!("{one} acknowledged, p99")),
            "ms",
            self.one.per_mille(990),
            p99,
        );
        // With the write itself in it: the quorum's disks, and the writers' own waiting.
        let proposed = &mut self.one_proposed;
        report.note(&case(&format!("{one} proposed, p50")), "ms", proposed.per_mille(500));
        report.note(&case(&format!("{one} proposed, p99")), "ms", proposed.per_mille(990));
        let all = "everybody's change, from";
        let proposed = &mut self.all_proposed;
        report.note(&case(&format!("{all} proposed, p50")), "ms", proposed.per_mille(500));
        let last = proposed.per_mille(1000);
        let within = Target::AtMost(2_000.0);
        report.claim(&case(&format!("{all} proposed, the last reader")), "ms", last, within);
        let last = self.all.per_mille(1000);
        report.note(&case(&format!("{all} acknowledged, the last reader")), "ms", last);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(revisions: &[u64]) -> Told {
        let now = Instant::now();
        let changes = revisions.iter().map(|&it| (Revision(it), now)).collect();
        Told { node: 1, from: Revision(10), changes }
    }

    fn wrong(told: &Told) -> Wrong {
        let now = Instant::now();
        let written = |revision, concerns| Written {
            revision: Revision(revision),
            concerns,
            proposed: now,
            acknowledged: now,
        };
        let node = Concerns::Node;
        let ledger = Ledger::new(vec![
            written(9, node(1)),
            written(11, node(1)),
            written(12, node(2)),
            written(13, Concerns::All),
            written(14, node(1)),
        ]);
        let mut wrong = Wrong::default();
        wrong.take_in(told, ledger.of(1));
        wrong
    }

    #[test]
    fn each_way_of_being_told_wrongly_is_seen() {
        assert_eq!(wrong(&told(&[11, 13, 14])), Wrong::default());
        assert_eq!(wrong(&told(&[11, 14])), Wrong { lost: 1, ..Wrong::default() });
        assert_eq!(wrong(&told(&[11, 13, 13, 14])), Wrong { twice: 1, ..Wrong::default() });
        assert_eq!(wrong(&told(&[13, 11, 14])), Wrong { disordered: 1, ..Wrong::default() });
        assert_eq!(wrong(&told(&[11, 12, 13, 14])), Wrong { foreign: 1, ..Wrong::default() });
    }

    #[test]
    fn a_share_of_the_delays_is_not_above_the_answer() {
        let mut delays = Delays::default();
        let begun = Instant::now();
        (1..=100).for_each(|ms| delays.add(begun, begun + Duration::from_millis(ms)));
        assert!((delays.per_mille(990) - 99.0).abs() < 1e-9);
        assert!((delays.per_mille(1000) - 100.0).abs() < 1e-9);
        assert!((delays.per_mille(0) - 1.0).abs() < 1e-9);
    }
}
