//! A history that another release wrote.

use std::sync::Arc;

use atoll_model::Revision;

use super::rows::Rows;
use super::{Archive, HistoryError, Retention, intervals};
use crate::reserve::Reserve;

/// It is neither read wrongly nor wiped as if it were damaged.
#[tokio::test]
async fn a_history_of_another_release_is_refused_and_stays_as_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let history = directory.path().join("history");
    let rows = Rows::open(&history).unwrap();
    intervals::prepare(&rows, Revision(7)).unwrap();
    rows.note_of_another_release(intervals::FLOOR).unwrap();
    rows.sync().unwrap();
    drop(rows);
    for _ in 0..2 {
        let reserve = Arc::new(Reserve::open(directory.path()).unwrap());
        let opened = Archive::open(&history, Revision(7), Retention::default(), reserve);
        let error = opened.map(drop).unwrap_err();
        assert!(matches!(error, HistoryError::OtherRelease(_)), "{error}");
        let text = error.to_string();
        assert!(text.contains("floor has format 3; this release has format 2"), "{text}");
        assert!(text.contains("start the release that wrote it"), "{text}");
    }
}
