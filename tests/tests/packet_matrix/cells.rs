//! The cells of the matrix: who asks whom in which way, what should come of it, and what did.

use crate::expected::{Expected, Way};

/// Where who is asked is: as seen by who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Where {
    Here,
    Elsewhere,
}

/// A column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Column {
    pub(crate) place: Where,
    /// Of each pair of addresses the one to use.
    pub(crate) family: usize,
    pub(crate) way: Way,
    pub(crate) protocol: &'static str,
}

/// One cell.
#[derive(Debug)]
pub(crate) struct Cell {
    /// The kind of the pair, in words.
    pub(crate) row: String,
    pub(crate) column: Column,
    /// As `atoll-talk ask` takes it.
    pub(crate) target: String,
    pub(crate) expected: Expected,
    /// The address that has to be seen, if an answer is expected.
    pub(crate) seen_as: Option<String>,
    pub(crate) observed: Observed,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Observed {
    /// Nothing.
    Silence,
    /// It arrived, but no answer came back.
    Heard,
    /// An answer, and the address that was seen, if that is told.
    Answer(String),
}

impl Column {
    /// All of them, as the table shows them.
    pub(crate) fn all() -> Vec<Self> {
        let mut all = Vec::new();
        for place in [Where::Here, Where::Elsewhere] {
            for family in [0, 1] {
                for way in Way::ALL {
                    let protocols = ["tcp", "udp", "icmp"].into_iter();
                    // Services know no echo requests.
                    let protocols = protocols.filter(|it| way == Way::Direct || *it != "icmp");
                    all.extend(protocols.map(|protocol| Self { place, family, way, protocol }));
                }
            }
        }
        all
    }
}

impl Cell {
    /// It is as it should be.
    pub(crate) fn is_right(&self) -> bool {
        match (self.expected, &self.observed) {
            (Expected::Silence, observed) => *observed == Observed::Silence,
            // Whom an echo request comes from is not told.
            (_, Observed::Answer(_)) if self.column.protocol == "icmp" => true,
            (_, Observed::Answer(seen)) => self.seen_as.as_ref() == Some(seen),
            _ => false,
        }
    }
}
