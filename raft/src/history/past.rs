//! The objects as they were: today's state, with every change since then taken back.

use std::collections::BTreeMap;

use atoll_model::{Object, ObjectKey, Revision};
use atoll_store::State;

use super::rows::Rows;
use super::{HistoryError, Progress};

/// A moment that somebody asks about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// After this revision.
    Revision(Revision),
    /// After the last revision that carries this wall clock time, ms since 1970, or an earlier one.
    WallMs(u64),
}

/// Why nothing can be said about a moment.
#[derive(Debug, Clone, thiserror::Error)]
pub enum PastError {
    /// It is over for longer than this member knows.
    #[error(
        "this member's history begins after revision {floor}{}; what was before is not known here",
        oldest.map(|at| format!(" (its first change: {at})")).unwrap_or_default()
    )]
    TooEarly {
        /// Changes at or below it are not known.
        floor: Revision,
        /// The first revision that is known, if there is one.
        oldest: Option<Revision>,
    },
    /// It has not come yet.
    #[error("revision {asked} is not there yet; the newest is {newest}")]
    NotYet {
        /// What was asked for.
        asked: Revision,
        /// The last entry applied.
        newest: Revision,
    },
    /// The history cannot be read.
    #[error(transparent)]
    History(#[from] HistoryError),
}

/// The objects as they were at a moment.
#[derive(Debug, Clone)]
pub struct Past {
    state: State,
    /// What has changed since, as it was; `None` did not exist.
    undone: BTreeMap<ObjectKey, Option<Object>>,
    /// The last change that is included.
    pub revision: Revision,
    /// When that was, ms since 1970, if it is known.
    pub wall_ms: Option<u64>,
}

impl Past {
    /// The present.
    #[must_use]
    pub fn now(state: State) -> Self {
        let revision = state.revision();
        Self { state, undone: BTreeMap::new(), revision, wall_ms: None }
    }

    /// One object.
    #[must_use]
    pub fn get(&self, key: &ObjectKey) -> Option<Object> {
        match self.undone.get(key) {
            Some(before) => before.clone(),
            None => self.state.get(key),
        }
    }

    /// All objects among `present`, which are some of the present ones, as they were; and those
    /// that have since gone, of every kind.
    pub fn of<'a>(
        &'a self,
        present: impl Iterator<Item = Object> + 'a,
    ) -> impl Iterator<Item = Object> + 'a {
        let unchanged = present.filter(|object| !self.undone.contains_key(&object.key()));
        unchanged.chain(self.undone.values().flatten().cloned())
    }

    /// The present, from which this looks back.
    #[must_use]
    pub fn present(&self) -> &State {
        &self.state
    }
}

/// Takes back what came after `moment`. O(changes since).
pub(super) fn look_back(
    rows: &Rows,
    progress: &Progress,
    state: State,
    moment: Moment,
) -> Result<Past, PastError> {
    if let Moment::Revision(asked) = moment
        && asked > state.applied()
    {
        return Err(PastError::NotYet { asked, newest: state.applied() });
    }
    let is_past = |revision: Revision, wall_ms: u64| match moment {
        Moment::Revision(asked) => revision <= asked,
        Moment::WallMs(asked) => wall_ms <= asked,
    };
    let mut undone = BTreeMap::new();
    let (mut found, mut oldest) = (None, None);
    for set in rows.changes_back(state.revision()) {
        let set = set?;
        // Older rows may be there, beyond a gap.
        if set.revision <= progress.floor() {
            break;
        }
        if is_past(set.revision, set.wall_ms) {
            found = Some((set.revision, Some(set.wall_ms)));
            break;
        }
        oldest = Some(set.revision);
        undone.extend(set.changes.into_iter().map(|change| (change.key, change.before)));
    }
    // Looked at after reading: rows may have gone while we read.
    let floor = progress.floor();
    let (revision, wall_ms) = match (found, moment) {
        (Some(found), _) => found,
        (None, Moment::Revision(asked)) if asked >= floor => (floor, None),
        _ => return Err(PastError::TooEarly { floor, oldest }),
    };
    Ok(Past { state, undone, revision, wall_ms })
}
