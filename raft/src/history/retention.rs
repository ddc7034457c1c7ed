//! How much history a member keeps.

use std::time::Duration;

use atoll_model::Revision;

/// What sled's file takes for each byte in its rows, once old rows go as new ones come: measured with
/// rows like ours, 3.6 to 4 (128 MiB of rows, 2 GiB written: 490 MiB).
pub(super) const SPREAD: u64 = 4;

/// The oldest part of the history that goes at a time: one of so many.
const PARTS: u64 = 32;

/// How much history a member keeps. The oldest changes go first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// Bytes on the disk, about.
    pub bytes: u64,
    /// How much older than the newest change the oldest one may be, about; without limit if `None`.
    pub age: Option<Duration>,
}

impl Default for Retention {
    /// 2 GiB: some million pods that came and went.
    fn default() -> Self {
        Self { bytes: 2 << 30, age: None }
    }
}

impl Retention {
    /// Are so many bytes in rows too many?
    pub(super) fn is_exceeded_by(&self, bytes: u64) -> bool {
        bytes.saturating_mul(SPREAD) > self.bytes
    }

    /// Is a change of this wall clock time, in ms since 1970, too old, beside the newest one?
    pub(super) fn is_over(&self, wall_ms: u64, newest_ms: u64) -> bool {
        let age = Duration::from_millis(newest_ms.saturating_sub(wall_ms));
        self.age.is_some_and(|limit| age > limit)
    }
}

/// Where the floor would rise to, if the oldest part went; `None` if there is nothing to go.
pub(super) fn next_floor(floor: Revision, through: Revision) -> Option<Revision> {
    let known = through.0.checked_sub(floor.0).filter(|&known| known > 0)?;
    Some(Revision(floor.0 + known.div_ceil(PARTS)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_part_is_a_small_one_and_never_nothing() {
        let next = |floor, through| next_floor(Revision(floor), Revision(through)).map(|it| it.0);
        assert_eq!(next(100, 3300), Some(200));
        assert_eq!(next(100, 101), Some(101));
        assert_eq!(next(100, 100), None);
        assert_eq!(next(100, 50), None);
    }

    #[test]
    fn bytes_count_as_the_disk_has_them_and_age_from_the_newest_change() {
        let retention = Retention { bytes: 4000, age: Some(Duration::from_secs(60)) };
        assert!(!retention.is_exceeded_by(1000) && retention.is_exceeded_by(1001));
        assert!(!retention.is_over(1_000, 61_000) && retention.is_over(1_000, 61_001));
        // A clock that was set back makes nothing old.
        assert!(!retention.is_over(90_000, 1_000));
        assert!(!Retention::default().is_over(0, u64::MAX));
    }
}
