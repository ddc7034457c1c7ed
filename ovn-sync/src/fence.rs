//! Who may write into a northbound database that several members can reach.
//!
//! The database itself decides: `NB_Global.external_ids` holds the cluster and the term of the leader
//! that writes, and each of its transactions begins with a `wait` for just that. A leader that was
//! deposed and does not know it yet has what it sends refused as a whole, however late it comes.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use atoll_model::{ClusterId, Lineage};
use atoll_ovsdb::{
    Client, Condition, Datum, Function, Monitor, Mutation, Operation, Replica, Row, TransactError,
    Until,
};

use crate::pass::DATABASE;

const TABLE: &str = "NB_Global";
const COLUMN: &str = "external_ids";

/// Whose leader writes, and in which term: `CLUSTER/TERM`.
pub(crate) const TERM_KEY: &str = "atoll/term";

/// How long a term that was raised may take to arrive in the replica.
const LANDING: Duration = Duration::from_secs(2);

/// Whether, and as whom, a member writes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Duty {
    /// Nobody else writes into this database: nothing is fenced.
    #[default]
    Alone,
    /// Others could as well; this one leads, in this term.
    Lead(u64),
    /// Another one leads, or nobody: nothing is written.
    StandBy,
}

/// Why a leader does not write.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum FenceError {
    #[error("the leader of term {held} writes into this database; this member led in term {own}")]
    Deposed { held: u64, own: u64 },
    #[error("cluster {held}, which ours does not descend from, writes into this database")]
    OtherCluster { held: ClusterId },
    #[error("the database refused a late write: another leader writes, or its mark is lost")]
    Late,
    #[error("this member does not lead")]
    StandBy,
    #[error("the term could not be raised")]
    Raise(#[source] TransactError),
}

/// What a database says of who writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Mark {
    cluster: ClusterId,
    term: u64,
}

impl fmt::Display for Mark {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.cluster, self.term)
    }
}

impl FromStr for Mark {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (cluster, term) = text.split_once('/').ok_or(())?;
        let cluster = cluster.parse().map_err(|_| ())?;
        Ok(Self { cluster, term: term.parse().map_err(|_| ())? })
    }
}

/// A leader's permission to write.
#[derive(Debug, Clone)]
pub(crate) struct Fence {
    own: Mark,
    ancestors: Lineage,
}

impl Fence {
    /// `None` if nothing has to be fenced. Who stands by gets none and may not go on without: leadership
    /// may have ended since somebody looked.
    pub(crate) fn of(duty: Duty, lineage: &Lineage) -> Result<Option<Self>, FenceError> {
        let term = match duty {
            Duty::Alone => return Ok(None),
            Duty::Lead(term) => term,
            Duty::StandBy => return Err(FenceError::StandBy),
        };
        let own = Mark { cluster: lineage.cluster, term };
        Ok(Some(Self { own, ancestors: lineage.clone() }))
    }

    /// What each transaction begins with: whoever writes is still this leader.
    pub(crate) fn guard(&self) -> Operation {
        let mark = Datum::map([(TERM_KEY, self.own.to_string())]);
        Operation::Wait {
            table: TABLE.to_owned(),
            filter: vec![Condition::new(COLUMN, Function::Includes, mark)],
            columns: vec![COLUMN.to_owned()],
            // Other than no row at all: there is one that holds it.
            until: Until::NotEqual,
            rows: Vec::new(),
            timeout: Duration::ZERO,
        }
    }

    /// Whether the database says that this leader is the one that writes.
    pub(crate) fn is_held(&self, replica: &Replica) -> bool {
        self.raising(replica).is_ok_and(|left| left.is_none())
    }

    /// Whether `error` says that the [`guard`](Self::guard) did not hold.
    pub(crate) fn is_late(error: &TransactError) -> bool {
        matches!(error, TransactError::Refused { index: 0, error, .. } if error == "timed out")
    }

    /// Makes this leader the one that writes; says whether it was not before.
    ///
    /// Only if nothing changed beside the mark that was read, so of two that raise one fails.
    pub(crate) async fn raise(
        &self,
        client: &Client,
        monitor: &Monitor,
    ) -> Result<bool, FenceError> {
        let Some(operations) = self.raising(&monitor.replica())? else { return Ok(false) };
        client.transact(DATABASE, &operations).await.map_err(FenceError::Raise)?;
        tracing::info!(term = self.own.term, "this member writes into the northbound database");
        let held = |replica: &Replica| self.is_held(replica);
        // Not landing is no error: the next transaction begins with the guard.
        let _ = monitor.wait_until(held, LANDING).await;
        Ok(true)
    }

    /// What raises the term; nothing if the database holds it.
    fn raising(&self, replica: &Replica) -> Result<Option<Vec<Operation>>, FenceError> {
        let found = replica.rows(TABLE).next();
        let ids = found.and_then(|(_, row)| row.get(COLUMN)).cloned();
        let ids = ids.unwrap_or_else(Datum::empty_map);
        let held = ids.get(TERM_KEY).and_then(|text| text.parse().ok());
        if !self.has_to_raise(held)? {
            return Ok(None);
        }
        let pair = || Datum::map([(TERM_KEY, self.own.to_string())]);
        let row = |ids: Datum| Row::from([(COLUMN.to_owned(), ids)]);
        let unchanged = Operation::Wait {
            table: TABLE.to_owned(),
            filter: Vec::new(),
            columns: vec![COLUMN.to_owned()],
            until: Until::Equal,
            rows: found.map(|_| row(ids)).into_iter().collect(),
            timeout: Duration::ZERO,
        };
        let raise = match found {
            None => Operation::insert(TABLE, row(pair())),
            Some(_) => {
                let key = Datum::set([TERM_KEY]);
                let mutations =
                    vec![Mutation::delete(COLUMN, key), Mutation::insert(COLUMN, pair())];
                Operation::mutate(TABLE, Vec::new(), mutations)
            }
        };
        Ok(Some(vec![unchanged, raise]))
    }

    /// Pure: may this leader take over from the one that is held, and does it have to?
    fn has_to_raise(&self, held: Option<Mark>) -> Result<bool, FenceError> {
        let Some(held) = held else { return Ok(true) };
        if held.cluster != self.own.cluster {
            // Terms of other clusters say nothing: what descends from one takes its place.
            return match self.ancestors.ancestors.contains(&held.cluster) {
                true => Ok(true),
                false => Err(FenceError::OtherCluster { held: held.cluster }),
            };
        }
        match held.term.cmp(&self.own.term) {
            std::cmp::Ordering::Less => Ok(true),
            std::cmp::Ordering::Equal => Ok(false),
            std::cmp::Ordering::Greater => {
                Err(FenceError::Deposed { held: held.term, own: self.own.term })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use atoll_model::Revision;

    fn leader(term: u64, ancestors: &[u128]) -> Fence {
        let mut lineage = Lineage::new(ClusterId(7), Revision(1));
        lineage.ancestors = ancestors.iter().map(|id| ClusterId(*id)).collect();
        Fence::of(Duty::Lead(term), &lineage).unwrap().unwrap()
    }

    #[test]
    fn a_leader_takes_over_from_lower_terms_and_from_nobody() {
        let held = |cluster, term| Some(Mark { cluster: ClusterId(cluster), term });
        let leader = leader(5, &[3]);
        assert!(leader.has_to_raise(None).unwrap());
        assert!(leader.has_to_raise(held(7, 4)).unwrap());
        assert!(!leader.has_to_raise(held(7, 5)).unwrap());
        let deposed = leader.has_to_raise(held(7, 6));
        assert!(matches!(deposed, Err(FenceError::Deposed { held: 6, own: 5 })));
        // Terms of a cluster that was lost may have been higher.
        assert!(leader.has_to_raise(held(3, 99)).unwrap());
        let stranger = leader.has_to_raise(held(4, 1));
        assert!(matches!(stranger, Err(FenceError::OtherCluster { .. })));
    }

    #[test]
    fn marks_are_read_as_they_are_written() {
        let mark = Mark { cluster: ClusterId(0xa7011), term: 12 };
        assert_eq!(mark.to_string().parse(), Ok(mark));
        for text in ["", "7", "x/7", "7/x"] {
            assert_eq!(text.parse::<Mark>(), Err(()), "{text}");
        }
    }

    #[test]
    fn who_writes_alone_has_no_fence_and_who_stands_by_does_not_write() {
        let lineage = Lineage::new(ClusterId(7), Revision(1));
        assert!(Fence::of(Duty::Alone, &lineage).unwrap().is_none());
        assert!(matches!(Fence::of(Duty::StandBy, &lineage), Err(FenceError::StandBy)));
    }
}
